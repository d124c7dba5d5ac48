"""Random logs, cut anywhere: after every batch the fold's tables are the slow model's."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.collections import commits
from tests.collections.machine import Machine
from tests.model.generate import MUTES, Log, logs

MANY_MUTES = (*MUTES, *((f"did:plc:nobody{n}", f"at://did:plc:b/a.b.c/{n}") for n in range(1_000)))
"""So many that the fold asks for those that matter."""

FLAGS = (
    "invalidReplyRoot", "violatesThreadGate", "violatesEmbeddingRules", "hasThreadGate",
    "hasPostGate",
)  # fmt: skip

switches = st.fixed_dictionaries(
    {name: st.booleans() for name in ("calm", "chained", "honest")},
)
machines = st.builds(
    Machine,
    st.randoms(use_true_random=False),
    mutes=st.sampled_from([(), MUTES, MANY_MUTES]),
    trusting=st.booleans(),
    refusing=st.sampled_from([0.0, 0.05]),
    shards=st.integers(1, 3),
)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(switches.flatmap(lambda chosen: logs(max_entries=40, **chosen)), machines)
def test_the_fold_makes_the_model_s_tables(log: list[bytes], machine: Machine) -> None:
    machine.run(log)


def long_run(seed: int, count: int) -> Machine:
    """Every switch in turn; the seed decides all."""
    rng = Random(seed)
    log = Log(rng, calm=seed % 4 == 0, chained=seed % 3 > 0, honest=seed % 3 == 2)
    machine = Machine(
        rng,
        mutes=(MUTES, (), MANY_MUTES)[seed % 3],
        trusting=seed % 5 > 0,
        refusing=0.03 if seed % 7 == 0 else 0.0,
        shards=1 + seed % 3,
    )
    machine.run(log.entries(count))
    return machine


def met(machines: list[Machine]) -> Counter[str]:
    """What the runs met, by all that the fold has a rule for."""
    seen = Counter[str]()
    for machine in machines:
        seen += machine.seen + machine.memory.counts
        seen["distrusted"] += machine.memory.distrusted
        for name, table in machine.memory.tables.items():
            seen[name] += len(table.rows)
        seen += Counter(
            row["reason"] for row in machine.memory.tables["notification"].rows.values()
        )
        posts = machine.memory.tables["post"].rows.values()
        seen += Counter(name for post in posts for name in FLAGS if post[name])
        seen += machine.memory.answers.asked
    return seen


def test_runs_meet_what_there_are_rules_for() -> None:
    seen = met([long_run(seed, 70) for seed in range(9)])
    expected = """
        batches refused distrusted applied duplicate rejected:key_occupied rejected:bad_uri
        no_effect:never_created no_effect:exists invalidReplyRoot violatesThreadGate hasThreadGate
        hasPostGate violatesEmbeddingRules like like-via-repost repost repost-via-repost follow
        mention quote reply verified unverified starterpack-joined duplicate_record feed_item
        op_thread_reply post_embed_gallery_image lookup_candidates lookup_mutes lookup_quoted
        lookup_list_item_key lookup_follow_key lookup_post_tree lookup_own_posts
    """.split()
    assert {name: seen[name] for name in expected if not seen[name]} == {}
    assert seen["left for later"] > 20
    assert seen["applied"] > 500


def test_a_create_that_the_protocol_proves_is_not_looked_up() -> None:
    asked = {}
    for trusting in (True, False):
        log = Log(Random(3), chained=True, honest=True, faults=0).entries(60)
        machine = Machine(Random(3), trusting=trusting)
        machine.run(log)
        assert machine.memory.distrusted == 0
        asked[trusting] = machine.memory.answers.asked["lookup_record"]
    assert 0 < asked[True] < asked[False] * 0.8


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 300, 50))
def test_many_runs_end_as_the_model_says(first: int) -> None:
    for seed in range(first, first + 50):
        long_run(seed, 60 if seed % 10 else 300)


A, B = (f"did:plc:{letter * 24}" for letter in "ab")


def ref(to: str) -> dict[str, str]:
    return {"uri": to, "cid": commits.cid_text(commits.cid_of(to.encode()))}


def about(nsid: str, to: str) -> dict[str, Any]:
    return {"$type": nsid, "subject": ref(to), "createdAt": commits.TIME}


def batches(*entries: bytes) -> Machine:
    """Each entry in a batch of its own, and all in one."""
    whole = Machine(Random(1))
    whole.give([list(entries)])
    single = Machine(Random(1))
    single.give([[entry] for entry in entries])
    return single


REPOST = "app.bsky.feed.repost"


def test_a_loser_that_was_created_again_with_a_row_takes_no_place() -> None:
    """Its record still says what it lost with; its row says something else."""
    first, other = (f"at://{B}/app.bsky.feed.post/{rkey}" for rkey in "12")
    changes: list[tuple[str, str, str | None]] = [
        ("+", "1", first), ("+", "2", first), ("+", "2", other), ("-", "1", None),
    ]  # fmt: skip
    entries = [
        commits.commit(
            A, n, [commits.op(sign, f"{REPOST}/{rkey}", about(REPOST, to) if to else None)]
        )
        for n, (sign, rkey, to) in enumerate(changes, 1)
    ]
    machine = batches(*entries)
    (row,) = machine.memory.tables["repost"].rows.values()
    assert (row["uri"], row["subject"]) == (f"at://{A}/{REPOST}/2", other)


POST = "app.bsky.feed.post"


def post(embed: dict[str, Any] | None = None) -> dict[str, Any]:
    found = {"$type": POST, "text": "text", "createdAt": commits.TIME}
    return found | ({"embed": embed} if embed else {})


def quoting(first: str, second: str) -> dict[str, Any]:
    """Two records in one post: one of them in the place of media."""
    records = [{"$type": "app.bsky.embed.record", "record": ref(to)} for to in (first, second)]
    kind = "app.bsky.embed.recordWithMedia"
    return post({"$type": kind, "record": records[0], "media": records[1]})


@pytest.mark.parametrize("guarded", ["1", "2"])
def test_the_verdict_on_the_last_quote_decides_who_is_told_of_both(guarded: str) -> None:
    rules = [{"$type": "app.bsky.feed.postgate#disableRule"}]
    uris = [f"at://{B}/{POST}/{rkey}" for rkey in "12"]
    gate = {"$type": "app.bsky.feed.postgate", "post": uris[int(guarded) - 1],
            "embeddingRules": rules, "createdAt": commits.TIME}  # fmt: skip
    machine = batches(
        commits.commit(B, 1, [commits.op("+", f"app.bsky.feed.postgate/{guarded}", gate)]),
        commits.commit(A, 2, [commits.op("+", f"{POST}/q", quoting(*uris))]),
    )
    told = [row["reason"] for row in machine.memory.tables["notification"].rows.values()]
    assert told == (["quote"] if guarded == "1" else [])
    (row,) = machine.memory.tables["post"].rows.values()
    assert row["violatesEmbeddingRules"] is True


def test_what_is_quoted_first_decides_whether_a_quote_goes() -> None:
    generator, quoted = f"at://{B}/app.bsky.feed.generator/1", f"at://{B}/{POST}/1"
    for pair, left in [((generator, quoted), 1), ((quoted, generator), 0)]:
        machine = batches(
            commits.commit(A, 1, [commits.op("+", f"{POST}/q", quoting(*pair))]),
            commits.commit(A, 2, [commits.op("-", f"{POST}/q")]),
        )
        assert len(machine.memory.tables["quote"].rows) == left


def test_a_subject_that_is_a_bare_did_is_told_as_it_was_written() -> None:
    like = "app.bsky.feed.like"
    entry = commits.commit(A, 1, [commits.op("+", f"{like}/1", about(like, f"at://{B}"))])
    (row,) = batches(entry).memory.tables["notification"].rows.values()
    assert row["reasonSubject"] == f"at://{B}"
