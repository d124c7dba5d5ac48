"""Entries 55 to 58, 61, 62 and 64: identities, accounts, revs, damaged commits, repetitions."""

from __future__ import annotations

from typing import Any

from tests.native import frames
from tests.scenarios.dsl import (
    ALICE,
    BOB,
    CREATED,
    C,
    D,
    Op,
    R,
    Record,
    Scenario,
    T,
    U,
    account,
    again,
    commit,
    commit_cid,
    identity,
    op_cid,
    ref,
    resolve,
    scenario,
    sync,
)
from tests.scenarios.rows import counts, item, loser, notified, people, uris

B = BOB / "post/1"
NAME, OTHER = ALICE.handle, BOB.handle
DAY_1 = "2026-11-19T12:00:00.000Z"
POSTED = C("post/1")
NOTHING: dict[str, list[Record]] = {"record": [], "actor": [], "actor_sync": []}


def known(handle: str | None, at: str, did: str = ALICE) -> Record:
    """A row of ``actor``."""
    return {"did": did, "handle": handle, "indexedAt": at}


def synced(event: int, did: str = ALICE) -> Record:
    """A row of ``actor_sync``: the event's commit."""
    return {"did": did, "commitCid": commit_cid(event), "repoRev": R(event)}


def damaged(name: str, why: str, lost: Any, *ops: Op, **body: Any) -> Scenario:
    """A commit of which nothing is applied, before one that is."""
    return scenario(
        f"s61-{name}", why,
        commit(ALICE, *ops, **body),
        commit(BOB, C("post/1")),
        record=uris(B), actor=[known(None, T(2), BOB)], actor_sync=[synced(2, BOB)], lost=lost,
    )  # fmt: skip


MANY = [
    # 50 ops on ten posts: an even one ends at its third version, an odd one at its fourth.
    op
    for n in range(10)
    for op in (
        C(f"post/{n}", text="1"), U(f"post/{n}", text="2"),
        D(f"post/{n}") if n % 2 else U(f"post/{n}", text="3"),
        C(f"post/{n}", text="4"), C(f"post/{n}", text="5"),
    )
]  # fmt: skip
LIKES = [
    commit(ALICE, C("like/1", subject=ref(B))),
    commit(ALICE, C("like/2", subject=ref(B))),
    commit(ALICE, D("like/1")),
]

IDENTITY: list[Scenario] = [
    scenario(
        "s55-first-event",
        "an actor from then on, with a handle once it was looked up",
        commit(ALICE, POSTED),
        resolve({ALICE: NAME}),
        actor=[known(NAME, T(1))],
    ),
    scenario(
        "s55-not-looked-up-yet",
        "the row is there before its handle",
        commit(ALICE, POSTED),
        actor=[known(None, T(1))],
    ),
    *(
        scenario(
            f"s55-second-event-{name}", why,
            commit(ALICE, POSTED, at=DAY_1),
            resolve({ALICE: first}, {NAME: ALICE} if handle else {}),
            commit(ALICE, C("post/2"), at=at),
            resolve({ALICE: OTHER}),
            actor=[known(OTHER, at) if asked else known(handle, DAY_1)],
        )
        for name, why, first, handle, at, asked in [
            ("before-a-day", "not looked up", NAME, NAME, "2026-11-20T11:59:59.999Z", False),
            ("at-a-day", "not yet", NAME, NAME, "2026-11-20T12:00:00.000Z", False),
            ("after-a-day", "looked up again", NAME, NAME, "2026-11-20T12:00:00.001Z", True),
            ("at-an-hour-without-handle", "not yet", NAME, None, "2026-11-19T13:00:00.000Z", False),
            ("after-an-hour-without-handle", "looked up again", NAME, None,
             "2026-11-19T13:00:00.001Z", True),
            ("that-is-older", "not looked up", NAME, NAME, "2026-11-17T12:00:00.000Z", False),
        ]
    ),
    scenario(
        "s55-second-event-before-the-look-up",
        "the last event that asked gives the time",
        commit(ALICE, POSTED, at=DAY_1),
        commit(ALICE, C("post/2"), at="2026-11-19T18:00:00.000Z"),
        commit(ALICE, C("post/3"), at="2026-11-20T18:00:00.000Z"),
        resolve({ALICE: NAME}),
        actor=[known(NAME, "2026-11-20T18:00:00.000Z")],
    ),
    scenario(
        "s56-identity-that-is-older",
        "its time all the same",
        commit(ALICE, POSTED),
        resolve({ALICE: NAME}),
        identity(ALICE, at=DAY_1),
        resolve({ALICE: OTHER}),
        actor=[known(OTHER, DAY_1)],
    ),
    scenario(
        "s56-identity-older-than-the-last",
        "was applied already",
        identity(ALICE),
        resolve({ALICE: NAME}),
        identity(ALICE, at=DAY_1),
        resolve({ALICE: OTHER}),
        actor=[known(NAME, T(1))],
    ),
    scenario(
        "s56-look-up-fails",
        "nothing changes, the row is kept; it stays due, and the next one fills it in",
        identity(ALICE),
        resolve({ALICE: None}),
        commit(BOB, POSTED),
        resolve({BOB: None, ALICE: NAME}),
        actor=[known(NAME, T(1)), known(None, T(2), BOB)],
    ),
    scenario(
        "s56-look-up-fails-later",
        "what was known stays",
        identity(ALICE),
        resolve({ALICE: NAME}),
        identity(ALICE),
        resolve({ALICE: None}),
        actor=[known(NAME, T(1))],
    ),
    scenario(
        "s56-handle-does-not-point-back",
        "no handle; the time is the event's",
        identity(ALICE),
        resolve({ALICE: NAME}),
        identity(ALICE),
        resolve({ALICE: NAME}, {NAME: BOB}),
        actor=[known(None, T(2))],
    ),
    scenario(
        "s56-mixed-case-handle",
        "in lower case",
        identity(ALICE),
        resolve({ALICE: NAME.replace("alice", "Alice")}, {NAME: ALICE}),
        actor=[known(NAME, T(1))],
    ),
    scenario(
        "s57-handle-taken-over",
        "the last to have it keeps it, the other's time stays",
        identity(ALICE),
        identity(BOB),
        resolve({ALICE: NAME}),
        resolve({BOB: NAME}),
        actor=[known(None, T(1)), known(NAME, T(2), BOB)],
    ),
    scenario(
        "s57-handles-swapped",
        "both end with the other's",
        identity(ALICE),
        identity(BOB),
        resolve({ALICE: NAME, BOB: OTHER}),
        identity(ALICE),
        identity(BOB),
        resolve({ALICE: OTHER, BOB: NAME}),
        actor=[known(OTHER, T(3)), known(NAME, T(4), BOB)],
    ),
    *(
        scenario(
            f"s58-account-{name}", why, *steps, lost=lost,
            actor=[{"did": ALICE, "indexedAt": T(1), "upstreamStatus": status}],
        )
        for name, why, status, steps, lost in [
            ("before-the-first-commit", "kept until there is more", "deactivated",
             [account(ALICE, status="deactivated"), commit(ALICE, POSTED)], []),
            *((f"{word}", "as its host says", word,
               [commit(ALICE, POSTED), account(ALICE, status=word)], [])
              for word in ("takendown", "suspended", "deactivated")),
            ("active-again", "NULL", None,
             [commit(ALICE, POSTED), account(ALICE, status="suspended"),
              account(ALICE, active=True)], []),
            ("last-wins", "the last one", "takendown",
             [commit(ALICE, POSTED), account(ALICE, status="suspended"),
              account(ALICE, active=True), account(ALICE, status="takendown")], []),
            *((f"{word}-{active}", "ignored", "suspended",
               [commit(ALICE, POSTED), account(ALICE, status="suspended"),
                account(ALICE, status=word, active=active)], [])
              for word in ("throttled", "desynchronized") for active in (True, False)),
            ("inactive-without-status", "rejected", "suspended",
             [commit(ALICE, POSTED), account(ALICE, status="suspended"), account(ALICE)],
             [(None, "bad_status")]),
            ("older-than-the-last", "was applied already", "suspended",
             [commit(ALICE, POSTED), account(ALICE, status="suspended"),
              account(ALICE, active=True, at=DAY_1)], []),
        ]
    ),
    scenario(
        "s61-rev-goes-backwards",
        "a commit that is not newer was applied already",
        commit(ALICE, POSTED, rev=R(5)),
        commit(ALICE, C("post/2"), U("post/1", text="new"), rev=R(3)),
        commit(ALICE, C("post/3"), rev=R(5)),
        record=[{"uri": ALICE / "post/1", "cid": op_cid(1)}],
        actor_sync=[{"did": ALICE, "commitCid": commit_cid(1), "repoRev": R(5)}],
    ),
    scenario(
        "s61-sync",
        "the commit moves, the records stay",
        commit(ALICE, POSTED),
        sync(ALICE),
        record=uris(ALICE / "post/1"), actor_sync=[synced(2)], actor=[known(None, T(1))],
    ),
    scenario(
        "s61-sync-as-first-event",
        "makes an actor",
        sync(ALICE),
        record=[], actor_sync=[synced(1)], actor=[known(None, T(1))],
    ),
    scenario(
        "s61-sync-with-a-bad-car",
        "nothing moves",
        commit(ALICE, POSTED),
        sync(ALICE, blocks=b"\0"),
        record=uris(ALICE / "post/1"), actor_sync=[synced(1)], lost=[(None, "bad_car")],
    ),
    damaged("no-ops", "no event", []),
    damaged("only-a-missing-block", "no event", [("post/1", "missing_block")],
            Op("create", POSTED.path, POSTED.record, carried=False)),
    damaged("only-an-unknown-action", "no event", [("post/1", "unknown_action")],
            Op("replace", POSTED.path, POSTED.record)),
    damaged("bad-block-hash", "none of it can be believed", [(None, "bad_block_hash")], POSTED,
            blocks=frames.car([frames.cid_of(b"a")], [(frames.cid_of(b"a"), b"b")])),
    damaged("no-car", "nothing to read", [(None, "bad_car")], POSTED, blocks=b""),
    damaged("bad-rev", "not to be ordered", [(None, "bad_field")], POSTED, rev="yesterday"),
    damaged("rev-in-the-future", "would silence what comes", [(None, "rev_in_future")], POSTED,
            rev="3zzzzzzzzzz2a"),
    damaged("bad-time", "not to be dated", [(None, "bad_field")], POSTED, time="yesterday"),
    damaged("too-many-ops", "the protocol's limit", [(None, "too_many_ops")],
            *(D(f"post/{n}") for n in range(201))),
    scenario(
        "s61-two-hundred-ops",
        "the most there may be",
        commit(ALICE, *(C(f"post/{n}") for n in range(200))),
        record=uris(*(ALICE / f"post/{n}" for n in range(200))),
        profile_agg=[people(ALICE, posts=200)],
    ),
    scenario(
        "s61-ops-that-cannot-be-read",
        "cost themselves: a missing block, an unknown action, bad CBOR; deletes are done",
        commit(ALICE, C("post/old"), C("like/1", subject=ref(B))),
        commit(
            ALICE, C("post/1"), Op("create", "app.bsky.feed.post/2", {"a": 1}, False),
            Op("replace", "app.bsky.feed.post/3", {"a": 3}), C("post/4", b"\xa1\x61a\xff"),
            D("post/old"), D("like/1"), C("post/5"),
        ),
        record=uris(ALICE / "post/1", ALICE / "post/5"), like=[], actor_sync=[synced(2)],
        lost=[("post/2", "missing_block"), ("post/3", "unknown_action"), ("post/4", "bad_cbor")],
    ),
    scenario(
        "s61-too-big-with-all-blocks",
        "the mark alone means nothing",
        commit(ALICE, POSTED, tooBig=True),
        record=uris(ALICE / "post/1"), actor_sync=[synced(1)],
    ),
    scenario(
        "s61-too-big-without-ops",
        "its ops are missing, and that is said",
        commit(ALICE, POSTED),
        commit(ALICE, tooBig=True),
        record=uris(ALICE / "post/1"), lost=[("", "too_big")],
    ),
    scenario(
        "s62-many-ops-on-few-records",
        "one after another, poison in the middle",
        commit(ALICE, *MANY[:23], C("post/3", text="\0"), U("post/4", text=1), *MANY[23:]),
        post=[{"uri": ALICE / f"post/{n}", "text": "4" if n % 2 else "3"} for n in range(10)],
        record=uris(*(ALICE / f"post/{n}" for n in range(10))),
        feed_item=[item(ALICE / f"post/{n}") for n in range(10)],
        profile_agg=[people(ALICE, posts=10)],
        lost=[("post/3", "nul_in_text"), ("post/4", "invalid_record")],
    ),
    scenario(
        "s64-everything-again",
        "a second delivery changes nothing: neither updates nor deletes nor promotions",
        *LIKES,
        commit(ALICE, C("verification/1", subject=BOB, handle=OTHER, displayName="")),
        commit(ALICE, U("verification/1", subject=BOB, handle=OTHER, displayName="B")),
        commit(BOB, C("post/1", text="1"), U("post/1", text="2")),
        account(ALICE, status="suspended"),
        account(ALICE, active=True),
        again(1, 8),
        like=uris(ALICE / "like/2"), duplicate_record=[loser(ALICE / "like/2", ALICE / "like/1")],
        verification=[{"uri": ALICE / "verification/1", "displayName": "B", "indexedAt": T(5)}],
        post=[{"uri": B, "text": "2", "createdAt": CREATED}],
        post_agg=[counts(B, likes=1)], profile_agg=[people(BOB, posts=1)],
        notification=[
            notified(BOB, ALICE, "like", ALICE / "like/1", B),
            notified(BOB, ALICE, "verified", ALICE / "verification/1"),
            notified(BOB, ALICE, "unverified", ALICE / "verification/1", at="*"),
        ],
        actor=[
            {"did": ALICE, "indexedAt": T(1), "upstreamStatus": None},
            {"did": BOB, "indexedAt": T(6), "upstreamStatus": None},
        ],
        actor_sync=[synced(5), synced(6, BOB)],
    ),
]  # fmt: skip
