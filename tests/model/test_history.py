"""What only history tells: of hand-made logs, and of the recorded ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.collections.commits import tid
from tests.model.events import Account, Commit, Event
from tests.model.exported import Dates, Exported, events_of, exports
from tests.model.golden import Network, resolver
from tests.model.history import Compared, History, compare
from tests.model.logs import (
    ALICE,
    BOB,
    CAROL,
    DAN,
    LIKE,
    REPOST,
    THREADGATE,
    applied,
    drop,
    follow,
    post,
    put,
    subject,
    threadgate,
    time,
    uri,
)  # fmt: skip
from tests.model.model import Model

BOUND = {"golden": 0.85, "golden-gates": 0.78}
"""At least so many of all rows have no reason to differ; of the rest most do not either."""

AT = {tid(at): at for at in range(1000, 7000, 1000)}
"""Record keys, and the instant of the commit that creates each."""
ROOT, REPLY, REPOSTED, LIKED, AGAIN, _ = AT
POST = uri(ALICE, ROOT)


def exported(log: Sequence[Event], *, without: str = "") -> list[Exported]:
    """What each repository holds in the end."""
    held: dict[str, dict[str, tuple[str, bytes]]] = {}
    heads: dict[str, tuple[str, str]] = {}
    for event in log:
        if not isinstance(event, Commit) or event.did == without:
            continue
        heads[event.did] = (event.rev, event.cid)
        for op in event.ops:
            paths = held.setdefault(event.did, {})
            paths.pop(op.path, None)
            if op.cid is not None and op.block is not None:
                paths[op.path] = (op.cid, op.block)
    return [
        Exported(did, rev, cid, [(path, *held[did][path]) for path in sorted(held[did])])
        for did, (rev, cid) in heads.items()
    ]


def compared(log: Sequence[Event], *, without: str = "") -> Compared:
    repositories = exported(log, without=without)
    fetched = events_of(repositories)
    return compare(
        History(log, fetched), Dates(repositories), applied(log).tables(), applied(fetched).tables()
    )


def created(did: str, rkey: str, record: dict[str, object]) -> Commit:
    return put(did, rkey, record, AT[rkey])


def test_what_was_created_once_and_in_order_may_not_differ() -> None:
    log = [
        created(ALICE, ROOT, post()),
        created(BOB, REPLY, post(POST)),
        created(CAROL, REPOSTED, subject(REPOST, POST)),
        created(DAN, LIKED, subject(LIKE, POST)),
        created(DAN, AGAIN, follow(ALICE)),
    ]
    found = compared(log)
    assert found.reasons.total() == 0
    assert found.unexplained == []
    tables = applied(log).tables()
    assert found.bound.total() == sum(map(len, tables.values())) > 20


POSTED = created(ALICE, ROOT, post())
REPOSTING = created(CAROL, REPOSTED, subject(REPOST, POST))
LATE = 50_000
CASES: dict[str, tuple[list[Event], set[tuple[str, str]]]] = {
    "a feed item and a number that an update took away": (
        [POSTED, REPOSTING, put(ALICE, ROOT, post(text="new"), LATE, "update")],
        {("feed_item", "subject")},
    ),
    "an update before the repost takes nothing away": (
        [POSTED, put(ALICE, ROOT, post(text="new"), 1500, "update"), REPOSTING],
        set(),
    ),
    "the gate that a reply was judged by is gone": (
        [
            POSTED,
            put(ALICE, ROOT, threadgate(POST, allow=[]), 1500),
            created(BOB, REPLY, post(POST)),
            drop(ALICE, ROOT, LATE, THREADGATE),
        ],
        {("post", "judge"), ("post_agg", "judge"), ("notification", "judge")},
    ),
    "a like that was there and left a number of nothing": (
        [POSTED, created(DAN, LIKED, subject(LIKE, POST)), drop(DAN, LIKED, LATE, LIKE)],
        {("post_agg", "changed")},
    ),
    "who was first is gone": (
        [
            POSTED,
            created(DAN, LIKED, subject(LIKE, POST)),
            created(DAN, AGAIN, subject(LIKE, POST)),
            drop(DAN, LIKED, LATE, LIKE),
        ],
        # The duplicate that took its place is still among the duplicates, the first one's
        # notification still there.
        {("duplicate_record", "rival"), ("notification", "changed"), ("notification", "rival")},
    ),
    "the tombstone of a reply in an own thread": (
        [POSTED, created(ALICE, REPLY, post(POST)), drop(ALICE, REPLY, LATE)],
        {("op_thread_reply", "changed"), ("post_agg", "changed")},
    ),
    "what a deleted account had been told": (
        [
            POSTED,
            created(BOB, AGAIN, follow(CAROL)),
            Account(CAROL, LATE, time(LATE), active=False, status="deleted"),
        ],
        {("notification", "deleted")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_history_left_is_named(case: str) -> None:
    log, named = CASES[case]
    found = compared(log)
    assert found.unexplained == []
    assert {(table, reason) for table, reason in found.reasons if table != "actor"} >= named
    assert bool(found.reasons) == bool(named)


def test_of_a_repository_that_nobody_gives_out_all_rows_are_missing() -> None:
    found = compared([POSTED, created(BOB, REPLY, post(POST))], without=ALICE)
    assert found.unexplained == []
    assert {reason for _, reason in found.reasons} == {"unfetched"}
    assert {"record", "post", "feed_item", "notification"} <= {table for table, _ in found.reasons}


def test_a_row_without_history_that_differs_is_found() -> None:
    log = [POSTED, created(BOB, REPLY, post(POST)), created(DAN, AGAIN, follow(ALICE))]
    repositories = exported(log)
    fetched = applied(events_of(repositories)).tables()
    history, dates = History(log, events_of(repositories)), Dates(repositories)
    for table in ("follow", "post", "notification", "post_agg", "profile_agg", "feed_item"):
        changed = fetched | {table: fetched[table][1:]}
        found = compare(history, dates, applied(log).tables(), changed)
        assert [each[:2] for each in found.unexplained][:1] == [("missing", table)], table


@pytest.mark.golden
@pytest.mark.parametrize("name", BOUND)
def test_whatever_differs_from_a_recorded_log_has_a_reason(shared: Path, name: str) -> None:
    network = Network(shared / name)
    repositories = exports(network.path)
    fetched = events_of(repositories)
    model = Model(resolve=resolver(network.path))
    for event in fetched:
        model.apply(event)
    history = History(network.events, fetched)
    found = compare(history, Dates(repositories), network.rows, model.tables())
    assert found.unexplained == []
    rows = sum(map(len, network.rows.values()))
    print(f"{found.bound.total()} of {rows} rows are bound", dict(found.reasons))
    assert found.bound.total() > BOUND[name] * rows
