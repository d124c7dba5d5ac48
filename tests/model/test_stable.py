"""Which rows are stable, and that they are: the model against itself in other orders."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.model import late
from tests.model.events import Account, Event
from tests.model.golden import Network
from tests.model.logs import (
    ALICE,
    BOB,
    CAROL,
    LIKE,
    REPOST,
    applied,
    drop,
    follow,
    post,
    postgate,
    put,
    subject,
    threadgate,
    time,
    uri,
)  # fmt: skip
from tests.model.stable import Stability, differing, mixed

ROOT, REPLY, DEEPER = uri(ALICE, "root"), uri(BOB, "reply"), uri(CAROL, "deeper")
SHARES = {"golden": 0.95, "golden-gates": 0.92}


@pytest.fixture(scope="module", params=SHARES)
def network(request: pytest.FixtureRequest, shared: Path) -> Network:
    return Network(shared / str(request.param))


def test_nearly_all_rows_are_stable(network: Network) -> None:
    stable, every = Counter[str](), Counter[str]()
    for table, rows in network.rows.items():
        every[table] = len(rows)
        stable[table] = sum(network.stability.is_stable(table, row) for row in rows)
    print({table: (stable[table], every[table]) for table in every if every != stable})
    assert stable.total() / every.total() > SHARES[network.name]
    assert all(stable[table] > 0.65 * every[table] for table in every if every[table])
    assert stable.total() < every.total()


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))]
)
def test_stable_rows_are_the_same_in_every_order(seed: int, network: Network) -> None:
    rows = network.become(mixed(network.events, random.Random(seed)))
    wrong, unstable = differing(network.stability, network.rows, rows)
    print("unstable rows that differ:", unstable.total(), dict(unstable))
    assert wrong == []
    assert unstable.total() > 50  # the order was another one


def test_without_the_rule_of_late_referents_they_are_not(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(shared / "golden-gates")
    monkeypatch.setattr(late, "is_late", lambda *_: False)
    rows = network.become(mixed(network.events, random.Random(0)))
    wrong, _ = differing(network.stability, network.rows, rows)
    assert len(wrong) > 150


def unstable(events: list[Event]) -> set[tuple[str, str]]:
    """(table, uri) of the rows of an input that are not stable."""
    stability = Stability(events)
    return {
        (table, row.get("uri") or row["recordUri"])
        for table, rows in applied(events).tables().items()
        for row in rows
        if not stability.is_stable(table, row)
    }


THREAD = [
    put(ALICE, "root", post(), 1),
    put(BOB, "reply", post(ROOT), 3),
    put(CAROL, "deeper", post(REPLY, ROOT), 5),
]
BELOW = {(table, of) for table in ("post", "notification") for of in (REPLY, DEEPER)} | {
    ("post_agg", ROOT),
    ("post_agg", REPLY),
}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param([], set(), id="nothing happens"),
        pytest.param([put(ALICE, "root", threadgate(ROOT, []), 2)], set(), id="a gate before"),
        pytest.param(
            [put(ALICE, "root", threadgate(ROOT, []), 4)],
            {("post", REPLY), ("notification", REPLY), ("post_agg", ROOT)},
            id="a gate between",
        ),
        pytest.param([drop(ALICE, "root", 9)], BELOW, id="the root goes"),
        pytest.param(
            [put(BOB, "reply", post(ROOT), 9, "update")],
            {("post", DEEPER), ("notification", DEEPER)},
            id="a reply changes",
        ),
        pytest.param(
            [
                put(ALICE, "root", threadgate(ROOT, ["followerRule"]), 2),
                put(BOB, "f", follow(ALICE), 9),
            ],
            {("post", REPLY), ("post_agg", ROOT)},
            id="a follow that a gate names",
        ),
        pytest.param(
            [
                put(ALICE, "root", threadgate(ROOT, ["followerRule"]), 2),
                put(BOB, "f", follow(CAROL), 9),
            ],
            set(),
            id="a follow that no gate names",
        ),
        pytest.param([put(CAROL, "l", subject(LIKE, ROOT), 0)], set(), id="a like too early"),
    ],
)
def test_replies_hang_on_what_they_are_judged_by(
    more: list[Event], expected: set[tuple[str, str]]
) -> None:
    events = sorted([*THREAD, *more], key=lambda event: event.seq)
    assert unstable(events) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param([], set(), id="nothing happens"),
        pytest.param([put(ALICE, "root", postgate(ROOT), 2)], set(), id="a gate before"),
        pytest.param(
            [put(ALICE, "root", postgate(ROOT), 9)],
            {("post", REPLY), ("notification", REPLY)},
            id="a gate after",
        ),
        pytest.param(
            [put(ALICE, "root", post(), 9, "update")],
            {("post_agg", ROOT)},
            id="the quoted post changes",
        ),
    ],
)
def test_quotes_hang_on_what_they_are_judged_by(
    more: list[Event], expected: set[tuple[str, str]]
) -> None:
    events: list[Event] = [put(ALICE, "root", post(), 1), put(BOB, "reply", post(quote=ROOT), 3)]
    assert unstable(sorted([*events, *more], key=lambda event: event.seq)) == expected


def test_a_feed_item_hangs_on_the_post_behind_it() -> None:
    events: list[Event] = [
        put(ALICE, "root", post(), 1),
        put(BOB, "r", subject(REPOST, ROOT), 3),
        put(ALICE, "own", subject(REPOST, ROOT), 4),
        put(ALICE, "root", post(text="new"), 2, "update"),
    ]
    events.sort(key=lambda event: event.seq)
    assert unstable(events) == {("feed_item", uri(BOB, "r", REPOST))}


def test_a_deleted_account_makes_what_others_hang_on_it_unstable() -> None:
    gone = Account(ALICE, 9, time(9), active=False, status="deleted")
    found = unstable([*THREAD, gone, put(BOB, "r", subject(REPOST, ROOT), 10)])
    assert found >= {("post", REPLY), ("feed_item", uri(BOB, "r", REPOST))}
    assert ("record", REPLY) not in found
