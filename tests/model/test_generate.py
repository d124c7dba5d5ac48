"""Random logs: that they hold enough, and what is true of every one."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.collections import commits
from tests.model.events import Event
from tests.model.generate import MUTES, Log, logs, read
from tests.model.model import Model
from tests.model.stable import Stability, differing, mixed

relaxed = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def became(events: list[Event], mutes: tuple[tuple[str, str], ...] = ()) -> Model:
    model = Model(mutes, now=commits.NOW)
    for event in events:
        model.apply(event)
    return model


def test_logs_hold_what_they_should() -> None:
    rows, outcomes, reasons = Counter[str](), Counter[str](), Counter[str]()
    for seed in range(8):
        log = Log(random.Random(seed), calm=bool(seed % 2), deletions=True)
        model = became(read(log.entries(150)), MUTES)
        tables = model.tables()
        rows.update({table: len(found) for table, found in tables.items()})
        reasons.update(row["reason"] for row in tables["notification"])
        outcomes.update({word.split(" (")[0]: n for word, n in model.outcomes.items()})
        assert model.judged_again == 0
    assert min(rows.values()) >= 3, rows
    assert len(reasons) == 11, reasons
    assert min(reasons.values()) >= 3, reasons
    assert len(outcomes) > 15, outcomes
    assert outcomes["applied"] > 1_500
    assert outcomes["duplicate"] > 0


def test_the_same_seed_makes_the_same_log() -> None:
    first, second = (Log(random.Random(7), jitter=500).entries(50) for _ in range(2))
    assert first == second


@relaxed
@given(logs(jitter=2_000, deletions=True))
def test_counts_are_never_stale(log: list[bytes]) -> None:
    tables = became(read(log), MUTES).tables()
    likes = Counter(row["subject"] for row in tables["like"])
    reposts = Counter(row["subject"] for row in tables["repost"])
    replies = Counter(row["replyParent"] for row in tables["post"] if not row["violatesThreadGate"])
    for row in tables["post_agg"]:
        uri = row["uri"]
        counts = (row["likeCount"], row["repostCount"], row["replyCount"])
        assert counts == (likes[uri], reposts[uri], replies[uri])
    followers = Counter(row["subjectDid"] for row in tables["follow"])
    followed = Counter(row["creator"] for row in tables["follow"])
    posts = Counter(row["creator"] for row in tables["post"])
    for row in tables["profile_agg"]:
        did = row["did"]
        counts = (row["followersCount"], row["followsCount"], row["postsCount"])
        assert counts == (followers[did], followed[did], posts[did])


@relaxed
@given(logs(jitter=2_000))
def test_a_log_delivered_twice_changes_nothing(log: list[bytes]) -> None:
    events = read(log)
    model = became(events)
    once = model.tables()
    commits_only = [event for event in events if hasattr(event, "ops")]
    for event in commits_only:
        model.apply(event)
    assert model.tables() == once


@relaxed
@given(logs(calm=True, deletions=True), st.randoms(use_true_random=False), st.booleans())
def test_stable_rows_of_any_log_are_the_same_in_every_order(
    log: list[bytes], rng: random.Random, muted: bool
) -> None:
    mutes = MUTES if muted else ()
    events = read(log)
    wanted, got = (became(each, mutes).tables() for each in (events, mixed(events, rng)))
    wrong, _ = differing(Stability(events, mutes), wanted, got)
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_stable_rows_of_long_logs_are_the_same_in_every_order(seed: int) -> None:
    rng = random.Random(seed)
    events = read(Log(rng, calm=seed % 4 > 0, deletions=seed % 3 == 0).entries(150))
    mutes = MUTES if seed % 2 else ()
    wanted, got = (became(each, mutes).tables() for each in (events, mixed(events, rng)))
    wrong, _ = differing(Stability(events, mutes), wanted, got)
    assert wrong == []
