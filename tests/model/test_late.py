"""The rule of late referents, and that order does not matter where it says so."""

from __future__ import annotations

import itertools

import pytest

from tests.model.events import Event
from tests.model.logs import (
    ALICE,
    BOB,
    CAROL,
    DAN,
    applied,
    follow,
    post,
    postgate,
    put,
    row,
    threadgate,
    told,
    uri,
)  # fmt: skip
from tests.model.model import Model

ROOT, REPLY, DEEPER = uri(ALICE, "root"), uri(BOB, "reply"), uri(CAROL, "deeper")
FLAGS = ("invalidReplyRoot", "violatesThreadGate", "violatesEmbeddingRules")


def flags(model: Model, of: str) -> tuple[bool | None, ...]:
    post = row(model, "post", of)
    return tuple(post[name] for name in FLAGS)


def comparable(model: Model) -> dict[str, list[str]]:
    return {name: sorted(map(repr, rows)) for name, rows in model.tables().items()}


AUTHORS = [f"did:plc:{letter * 24}" for letter in "abcdefg"]


def thread(length: int) -> list[Event]:
    """Each author replies to the one before; the posts are named by their height."""
    uris = [uri(did, str(n)) for n, did in enumerate(AUTHORS)]
    above = [post(), *(post(parent, uris[0]) for parent in uris)]
    return [put(AUTHORS[n], str(n), above[n], n) for n in range(length)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_thread_ends_the_same_in_whatever_order_its_authors_come(order: tuple[int, ...]) -> None:
    events = thread(4)
    assert comparable(applied(events[n] for n in order)) == comparable(applied(events))


def test_the_gate_of_a_thread_may_come_last() -> None:
    hidden = threadgate(ROOT, ["mentionRule"], hidden=[REPLY])
    events = [
        put(ALICE, "root", post(mention=[CAROL, BOB]), 1),
        put(ALICE, "root", hidden, 2),
        put(BOB, "reply", post(ROOT), 3),
        put(CAROL, "deeper", post(REPLY, ROOT), 4),
        put(DAN, "refused", post(REPLY, ROOT), 5),
    ]
    in_order = applied(events)
    assert in_order.judged_again == 0
    assert flags(in_order, uri(DAN, "refused")) == (False, True, None)
    assert told(in_order, DEEPER) == {(BOB, "reply", REPLY)}
    assert row(in_order, "post_agg", REPLY)["replyCount"] == 1
    for order in itertools.permutations(range(5)):
        if order.index(0) < order.index(1):  # one repository stays in order
            assert comparable(applied(events[n] for n in order)) == comparable(in_order)


def test_the_gate_of_a_quoted_post_may_come_last() -> None:
    events = [
        put(ALICE, "root", post(), 1),
        put(ALICE, "root", postgate(ROOT), 2),
        put(BOB, "reply", post(quote=ROOT), 3),
    ]
    in_order = applied(events)
    late = applied([events[0], events[2], events[1]])
    assert flags(late, REPLY) == (None, None, True)
    assert told(late, REPLY) == set()
    assert comparable(late) == comparable(in_order)
    assert late.judged_again == 1


def test_what_is_not_older_is_not_late() -> None:
    for at in (5, 6):
        events = [put(BOB, "reply", post(ROOT), 5), put(ALICE, "root", post(), at)]
        model = applied(events)
        assert flags(model, REPLY) == (True, False, None)
        assert told(model, REPLY) == set()
        assert model.judged_again == 0


def test_a_gate_made_after_the_replies_leaves_them_alone() -> None:
    model = applied([
        put(ALICE, "root", post(), 1),
        put(BOB, "reply", post(ROOT), 2),
        put(ALICE, "root", threadgate(ROOT, []), 3),
    ])  # fmt: skip
    assert flags(model, REPLY) == (None, None, None)
    assert row(model, "post", ROOT)["hasThreadGate"] is True


def test_a_gate_that_came_while_a_reply_hung_on_nothing_is_not_forgotten() -> None:
    events = [
        put(ALICE, "root", post(), 1),
        put(ALICE, "root", threadgate(ROOT, []), 2),
        put(BOB, "reply", post(ROOT), 3),
        put(CAROL, "deeper", post(REPLY, ROOT), 5),
        put(DAN, "last", post(DEEPER, ROOT), 6),
    ]
    late = applied(events[n] for n in (4, 3, 0, 1, 2))
    assert flags(late, DEEPER) == (False, True, None)
    assert told(late, uri(DAN, "last")) == set()
    assert comparable(late) == comparable(applied(events))


def test_updates_follows_and_deletes_reopen_nothing() -> None:
    events = [
        put(BOB, "reply", post(ROOT), 5),
        put(ALICE, "root", post(), 6),  # not late
        put(ALICE, "root", post(text="changed"), 7, "update"),
        put(ALICE, "f", follow(BOB), 1_000),
    ]
    model = applied(events)
    assert model.judged_again == 0
    assert flags(model, REPLY) == (True, False, None)


def test_an_update_of_what_was_never_seen_can_be_late() -> None:
    model = applied([
        put(BOB, "reply", post(ROOT), 5),
        put(ALICE, "root", post(), 4, "update"),
    ])  # fmt: skip
    assert flags(model, REPLY) == (None, None, None)
    assert told(model, REPLY) == {(ALICE, "reply", ROOT)}


def test_late_notifications_are_muted_like_others() -> None:
    events = [put(BOB, "reply", post(ROOT), 5), put(ALICE, "root", post(), 4)]
    assert told(applied(events, mutes=[(ALICE, ROOT)]), REPLY) == set()


@pytest.mark.parametrize("last", range(7))
def test_whichever_of_a_long_thread_comes_last_nobody_hears_more_or_less(last: int) -> None:
    events = thread(7)
    late = applied([*events[:last], *events[last + 1 :], events[last]])
    assert comparable(late) == comparable(applied(events))
    deep = {did for did, *_ in told(late, uri(AUTHORS[6], "6"))}
    assert deep == set(AUTHORS[2:6])  # the fifth ancestor hears of nothing
