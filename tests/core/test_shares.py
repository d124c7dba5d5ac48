from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.core import shares

names = st.lists(st.text("abc/0123", min_size=1), min_size=1, max_size=40, unique=True)


@given(names, st.integers(1, 64))
def test_every_shard_has_exactly_one_owner(members: list[str], shard_count: int) -> None:
    owned = [shard for name in members for shard in shares.share(name, members, shard_count)]
    assert sorted(owned) == list(range(shard_count))


@given(names, st.integers(1, 64))
def test_shares_differ_by_at_most_one_shard(members: list[str], shard_count: int) -> None:
    sizes = [len(shares.share(name, members, shard_count)) for name in members]
    assert max(sizes) - min(sizes) <= 1


@given(names, st.integers(1, 64))
def test_the_order_of_the_list_does_not_matter(members: list[str], shard_count: int) -> None:
    turned = members[::-1]
    assert shares.share(members[0], members, shard_count) == shares.share(
        members[0], turned, shard_count
    )


def test_who_is_not_a_member_owns_nothing() -> None:
    assert shares.share("d", ["a", "b"], 16) == []
