"""Owners beside one another, at random: stable rows are those of the log in its own order."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.collections import commits, together
from tests.model import events
from tests.model.generate import DIDS, WEIGHTS, Log, read
from tests.model.model import Model
from tests.model.stable import Stability, differing

ELSEWHERE = {"actor"}
"""Handles are looked up by another role."""

THREADS = {
    "app.bsky.feed.post": 20, "app.bsky.feed.threadgate": 4, "app.bsky.feed.postgate": 3,
    "app.bsky.feed.like": 1, "app.bsky.feed.repost": 2, "app.bsky.graph.follow": 1,
}  # fmt: skip
"""Mostly what others are judged by."""


def run(seed: int, count: int, owners: int) -> Counter[str]:
    rng = Random(seed)
    weights = THREADS if seed % 4 else WEIGHTS
    made = Log(rng, calm=True, chained=seed % 3 > 0, honest=True, faults=0, weights=weights)
    log = made.entries(count)
    order = read(log)
    model = Model(now=commits.NOW)
    for event in order:
        model.apply(event)
    wanted = {name: rows for name, rows in model.tables().items() if name not in ELSEWHERE}

    def owner(entry: bytes) -> int:
        event = events.read_entry(entry)
        assert event is not None
        return DIDS.index(event.did) % owners

    database = together.write(log, owners, rng, owner)
    wrong, unstable = differing(Stability(order), wanted, database.memory.dump(commits.NOW))
    assert wrong == [], (seed, count, owners)
    quotes = Counter(row["subjectCid"] for row in database.memory.tables["quote"].rows.values())
    assert +database.memory.quote_count == quotes
    return database.seen + Counter(unstable=unstable.total())


def test_no_stable_row_differs() -> None:
    seen = Counter[str]()
    for seed in range(16):
        seen += run(seed, 80, 2 + seed % 4)
    expected = {"waited": 10, "noted": 300, "settled": 100, "changed": 5}
    assert {word: seen[word] for word, least in expected.items() if seen[word] < least} == {}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 700, 100))
def test_no_stable_row_differs_in_many_runs(first: int) -> None:
    for seed in range(first, first + 100):
        run(seed, 60 if seed % 10 else 300, 2 + seed % 4)
