"""Entries 59 and 60: accounts that are deleted.

Nothing of theirs stays, and no count is stale. What others said of them stays theirs.
"""

from __future__ import annotations

from tests.scenarios.dsl import (
    ALICE,
    BOB,
    CAROL,
    C,
    D,
    Gone,
    Record,
    Scenario,
    T,
    account,
    commit,
    mentions,
    op_cid,
    quoting,
    ref,
    reply,
    scenario,
)
from tests.scenarios.rows import counts, flags, item, loser, notified, people, uris
from tests.scenarios.samples import SAMPLES

A, B, R1 = (each / "post/1" for each in (ALICE, BOB, CAROL))
TABLES = sorted({table for table, _, _ in SAMPLES.values() if table})
DELETED = account(ALICE, status="deleted")
GONE = (DELETED, Gone(ALICE))
FULL = (
    # ALICE does everything there is to do.
    commit(BOB, C("post/1"), C("post/2")),
    commit(ALICE, *(
        C(f"{name}/{rkey}", **({"embed": quoting(B), "reply": reply(B)} | fields
                               if name == "post" else fields))
        for name, (_, rkey, fields) in SAMPLES.items()
    )),
    commit(ALICE, C("like/2", subject=ref(B)), C("repost/2", subject=ref(B))),
    commit(ALICE, C("post/2"), C("post/3", reply=reply(ALICE / "post/2"))),
)  # fmt: skip
MARKED = f"@{ALICE}"


def none_of_hers(*tables: str) -> dict[str, list[Record]]:
    """No row of these tables speaks of ALICE."""
    return {f"{table}{MARKED}": [] for table in tables}


ACCOUNTS: list[Scenario] = [
    scenario(
        "s59-deleted-and-hosted",
        "until its host confirms it nothing happens",
        commit(ALICE, C("post/1")),
        DELETED,
        record=uris(A), post=uris(A), feed_item=[item(A)], profile_agg=[people(ALICE, posts=1)],
        actor=[{"did": ALICE, "indexedAt": T(1), "upstreamStatus": None}],
    ),
    scenario(
        "s59-deleted-with-everything",
        "no row of hers stays, and others' counts are theirs alone",
        *FULL,
        *GONE,
        **none_of_hers(
            *TABLES, "record", "actor", "actor_sync", "feed_item", "quote", "op_thread_reply",
            "duplicate_record", "notification", "post_embed_record",
        ),
        record=uris(B, BOB / "post/2"), post=[flags(B), flags(BOB / "post/2")],
        **{
            f"post_agg@{B}": [counts(B)],
            f"profile_agg@{BOB}": [people(BOB, posts=2)],
        },
    ),
    scenario(
        "s59-what-others-said-of-a-deleted-account",
        "their records stay; notifications to and from her go",
        commit(ALICE, C("post/1", facets=mentions(BOB))),
        commit(BOB, C("like/1", subject=ref(A)), C("follow/1", subject=ALICE)),
        commit(BOB, C("post/1", reply=reply(A), facets=mentions(CAROL))),
        *GONE,
        like=[{"uri": BOB / "like/1", "subject": A}],
        follow=[{"uri": BOB / "follow/1", "subjectDid": ALICE}],
        post=[flags(B)],
        notification=[notified(CAROL, BOB, "mention", B)],
        **{f"profile_agg@{BOB}": [people(BOB, follows=1, posts=1)]},
    ),
    scenario(
        "s59-deleted-before-any-record",
        "there is nothing to delete",
        DELETED,
        Gone(ALICE),
        actor=[], record=[],
    ),
    scenario(
        "s59-created-again",
        "the same uris, as if they had never been: no leftover wins",
        *FULL,
        *GONE,
        account(ALICE, active=True),
        commit(
            ALICE, C("starterpack/1", name="new", list=ALICE / "list/1"), C("post/1", text="new"),
            C("verification/1", subject=BOB, handle=BOB.handle, displayName="new"),
        ),
        record=uris(
            B, BOB / "post/2", ALICE / "starterpack/1", A, ALICE / "verification/1",
        ),
        starter_pack=[{"uri": ALICE / "starterpack/1", "name": "new"}],
        verification=[{"uri": ALICE / "verification/1", "displayName": "new"}],
        feed_item=[
            {"uri": B, "cid": op_cid(1)}, {"uri": BOB / "post/2", "cid": op_cid(1, 1)},
            {"uri": A, "cid": op_cid(7, 1)},
        ],
        op_thread_reply=[],
        **{f"profile_agg@{ALICE}": [people(ALICE, posts=1)]},
        notification=[
            notified(BOB, ALICE, "verified", ALICE / "verification/1"),
        ],
    ),
    scenario(
        "s59-next-touch-of-counts",
        "right before it, right after it",
        commit(BOB, C("post/1")),
        commit(ALICE, C("like/1", subject=ref(B)), C("follow/1", subject=BOB)),
        *GONE,
        commit(CAROL, C("like/1", subject=ref(B)), C("follow/1", subject=BOB)),
        **{
            f"post_agg@{B}": [counts(B, likes=1)],
            f"profile_agg@{BOB}": [people(BOB, followers=1, posts=1)],
        },
        like=uris(CAROL / "like/1"),
    ),
    scenario(
        "s59-chain-of-duplicates",
        "with its records a DID's duplicates go",
        commit(ALICE, C("like/1", subject=ref(B))),
        commit(ALICE, C("like/2", subject=ref(B))),
        commit(ALICE, C("like/3", subject=ref(B))),
        commit(ALICE, D("like/1")),
        commit(BOB, C("like/1", subject=ref(R1))),
        commit(BOB, C("like/2", subject=ref(R1))),
        *GONE,
        like=uris(BOB / "like/1"), duplicate_record=[loser(BOB / "like/2", BOB / "like/1")],
        post_agg=[counts(B), counts(R1, likes=1)],
        notification=[notified(CAROL, BOB, "like", BOB / "like/1", R1)],
    ),
    scenario(
        "s60-deletion-between-related-events",
        "what was before is gone, what comes after is new",
        commit(BOB, C("post/1")),
        commit(ALICE, C("post/1", reply=reply(B)), C("like/1", subject=ref(B))),
        *GONE,
        commit(CAROL, C("post/1", reply=reply(A, B)), C("like/1", subject=ref(B))),
        account(ALICE, active=True),
        commit(ALICE, C("like/1", subject=ref(B))),
        post=[flags(B), flags(R1, root=True, gate=False)],
        like=[
            {"uri": CAROL / "like/1", "indexedAt": T(4)},
            {"uri": ALICE / "like/1", "indexedAt": T(6)},
        ],
        **{f"post_agg@{B}": [counts(B, likes=2)]},
        notification=[
            notified(BOB, CAROL, "like", CAROL / "like/1", B),
            notified(BOB, ALICE, "like", ALICE / "like/1", B),
        ],
    ),
]  # fmt: skip
