"""Entries 47 to 50 and 65: profiles, packs, verifications, labelers, declarations, labels."""

from __future__ import annotations

from typing import Any

from tests.scenarios.dsl import (
    ALICE,
    BOB,
    CREATED,
    C,
    D,
    Record,
    Scenario,
    Sql,
    T,
    U,
    blob,
    blob_cid,
    commit,
    op_cid,
    ref,
    scenario,
)
from tests.scenarios.rows import notified, uris
from tests.scenarios.samples import DECLARATIONS, SAMPLES

ME = ALICE / "profile/self"
PACK = BOB / "starterpack/1"
V1, V2 = (ALICE / f"verification/{n}" for n in "12")
BADGE = {"subject": BOB, "handle": BOB.handle, "displayName": "Bob"}
CHAT = ALICE / "chat/self"


def joined(*events: int, did: str = BOB, pack: str = PACK) -> list[Record]:
    """Who made the pack hears of ALICE's profile, at the time of these events."""
    return [notified(did, ALICE, "starterpack-joined", ME, pack, at=T(event)) for event in events]


def verified(uri: str) -> Record:
    return notified(BOB, ALICE, "verified", uri)


def unverified(uri: str) -> Record:
    return notified(BOB, ALICE, "unverified", uri, at="*")


def thing(name: str, rkey: str, table: str, old: Any, new: Any, column: str) -> list[Scenario]:
    """Create, update and delete of what has one plain row."""
    uri = ALICE / f"{name}/{rkey}"
    create = commit(ALICE, C(f"{name}/{rkey}", **old))
    update = commit(ALICE, U(f"{name}/{rkey}", **new))

    def row(event: int, value: Any) -> list[Record]:
        return [{"uri": uri, "cid": op_cid(event), "indexedAt": T(event), column: value}]

    more: dict[str, list[Record]] = {"notification": [], "post_agg": [], "profile_agg": []}
    return [
        scenario(f"s48-{name}-created", "one row", create,
                 **{table: row(1, old.get(column, CREATED))}, **more),
        scenario(f"s48-{name}-updated", "the row is replaced", create, update,
                 **{table: row(2, new.get(column, CREATED))}, **more),
        scenario(f"s48-{name}-deleted", "nothing stays", create, update,
                 commit(ALICE, D(f"{name}/{rkey}")), **{table: []}, record=[], **more),
    ]  # fmt: skip


PROFILES: list[Scenario] = [
    scenario(
        "s47-profile",
        "its date verbatim, empty text kept, CIDs of pictures",
        commit(ALICE, C(
            "profile/self", displayName="", description="d", avatar=blob("a"), banner=blob("b"),
            createdAt="2024-02-30T00:00:00+01:00",
        )),
        profile=[{
            "uri": ME, "creator": ALICE, "displayName": "", "description": "d",
            "avatarCid": blob_cid("a"), "bannerCid": blob_cid("b"), "indexedAt": T(1),
            "createdAt": "2024-02-30T00:00:00+01:00", "joinedViaStarterPackUri": None,
            "pinnedPost": None, "pinnedPostCid": None,
        }],
        notification=[], profile_agg=[],
    ),
    scenario(
        "s47-profile-without-a-date",
        "the clock's time",
        commit(ALICE, C("profile/self", createdAt=...)),
        profile=[{"uri": ME, "displayName": None, "createdAt": "2026-11-21T22:26:40.000Z"}],
    ),
    scenario(
        "s47-joined-through-a-pack",
        "who made the pack hears of it, at the event's time",
        commit(ALICE, C("profile/self", joinedViaStarterPack=ref(PACK))),
        profile=[{"uri": ME, "joinedViaStarterPackUri": PACK}],
        notification=joined(1),
    ),
    scenario(
        "s47-joined-through-an-own-pack",
        "even oneself",
        commit(ALICE, C("profile/self", joinedViaStarterPack=ref(ALICE / "starterpack/1"))),
        notification=joined(1, did=ALICE, pack=ALICE / "starterpack/1"),
    ),
    scenario(
        "s47-pack-added-by-an-update",
        "an update tells nobody",
        commit(ALICE, C("profile/self")),
        commit(ALICE, U("profile/self", joinedViaStarterPack=ref(PACK))),
        profile=[{"uri": ME, "joinedViaStarterPackUri": PACK}],
        notification=[],
    ),
    scenario(
        "s47-pack-removed-by-an-update",
        "what was told stays",
        commit(ALICE, C("profile/self", joinedViaStarterPack=ref(PACK))),
        commit(ALICE, U("profile/self")),
        profile=[{"uri": ME, "joinedViaStarterPackUri": None}],
        notification=joined(1),
    ),
    scenario(
        "s47-deleted-and-created",
        "told of twice",
        commit(ALICE, C("profile/self", joinedViaStarterPack=ref(PACK)), D("profile/self")),
        commit(ALICE, C("profile/self", joinedViaStarterPack=ref(PACK))),
        profile=[{"uri": ME, "indexedAt": T(2)}],
        notification=joined(1, 2),
    ),
    scenario(
        "s47-update-before-create",
        "the update counts as the create, the create as nothing",
        commit(ALICE, U("profile/self", joinedViaStarterPack=ref(PACK))),
        commit(ALICE, C("profile/self", displayName="late", joinedViaStarterPack=ref(PACK))),
        profile=[{"uri": ME, "displayName": None, "indexedAt": T(1)}],
        notification=joined(1),
    ),
    *thing("starterpack", "1", "starter_pack", {"name": "old", "list": ALICE / "list/1"},
           {"name": "new", "list": ALICE / "list/1"}, "name"),
    *thing("generator", "1", "feed_generator", {"did": "did:web:a.test", "displayName": "old"},
           {"did": "did:web:a.test", "displayName": "new"}, "displayName"),
    *thing("labeler", "self", "labeler", {"policies": {"labelValues": []}},
           {"policies": {"labelValues": ["porn"]}}, "createdAt"),
    scenario(
        "s49-verification",
        "a row, and its subject hears of it",
        commit(ALICE, C("verification/1", **BADGE)),
        verification=[{
            "uri": V1, "rkey": "1", "creator": ALICE, "subject": BOB, "handle": BOB.handle,
            "displayName": "Bob", "createdAt": CREATED, "indexedAt": T(1), "sortedAt": CREATED,
        }],
        notification=[verified(V1)],
    ),
    scenario(
        "s49-verification-updated",
        "told of as taken away, and not as given anew",
        commit(ALICE, C("verification/1", **BADGE)),
        commit(ALICE, U("verification/1", **(BADGE | {"displayName": "Robert"}))),
        verification=[{"uri": V1, "displayName": "Robert", "indexedAt": T(2)}],
        notification=[verified(V1), unverified(V1)],
    ),
    scenario(
        "s49-verification-deleted",
        "both stay told",
        commit(ALICE, C("verification/1", **BADGE)),
        commit(ALICE, D("verification/1")),
        verification=[], notification=[verified(V1), unverified(V1)],
    ),
    scenario(
        "s49-verification-promoted",
        "the second takes over, and nobody hears of that",
        commit(ALICE, C("verification/1", **BADGE)),
        commit(ALICE, C("verification/2", **BADGE)),
        commit(ALICE, D("verification/1")),
        verification=[{"uri": V2, "rkey": "2", "indexedAt": T(2)}],
        notification=[verified(V1), unverified(V1)],
    ),
    scenario(
        "s50-chat-declaration-of-anything",
        "its content is not judged",
        commit(ALICE, C("chat/self", **{"$type": 1, "allowIncoming": [5], "createdAt": ...})),
        record=[{"uri": CHAT, "json": '{"$type":1,"allowIncoming":[5]}'}],
    ),
    *(
        scenario(
            f"s50-{name}-{word}", why,
            *(commit(ALICE, op(f"{name}/self", **(fields | {"n": n})))
              for n, op in enumerate(ops, 1)),
            record=[{"uri": ALICE / f"{name}/self", "cid": op_cid(stays), "indexedAt": T(stays)}],
        )
        for name, fields in [(name, SAMPLES[name][2]) for name in DECLARATIONS]
        for word, why, ops, stays in [
            ("update-before-create", "the update is nothing, the create is all", (U, C), 2),
            ("create-and-update", "the update replaces", (C, U), 2),
            ("create-twice", "the first stays", (C, C), 1),
        ]
    ),
    scenario(
        "s50-update-with-another-rkey",
        "only at ``self`` is an update of nothing nothing",
        commit(ALICE, U("chat/other", allowIncoming="none")),
        record=uris(ALICE / "chat/other"),
    ),
    scenario(
        "s50-germ-bytes",
        "bytes as base64 without padding",
        commit(ALICE, C("germ/self", version="1.0.0", currentKey=b"\xff", createdAt=...)),
        record=[{
            "uri": ALICE / "germ/self",
            "json": '{"$type":"com.germnetwork.declaration","version":"1.0.0",'
            '"currentKey":{"$bytes":"/w"}}',
        }],
    ),
    scenario(
        "s65-labels",
        "what a record says of itself is no label",
        Sql(
            "INSERT INTO label (src, uri, cid, val, neg, cts)"
            " VALUES ($1, $2, '', 'old', false, $3)",
            (BOB, ALICE / "post/1", CREATED),
        ),
        commit(ALICE, C("post/1", labels={
            "$type": "com.atproto.label.defs#selfLabels", "values": [{"val": "new"}],
        })),
        commit(ALICE, U("post/1"), D("post/1")),
        label=[{"src": BOB, "uri": ALICE / "post/1", "cid": "", "val": "old", "neg": False}],
    ),
]  # fmt: skip
