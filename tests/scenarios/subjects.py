"""Entries 38 to 46: what has a subject, and who comes second."""

from __future__ import annotations

from typing import Any

from tests.scenarios.dsl import (
    ALICE,
    BOB,
    CAROL,
    Actor,
    C,
    D,
    Record,
    Scenario,
    T,
    U,
    blob_cid,
    blob_link,
    commit,
    op_cid,
    quoting,
    ref,
    reply,
    scenario,
)
from tests.scenarios.rows import counts, item, loser, notified, people, uris

B, R1 = (each / "post/1" for each in (BOB, CAROL))
LIST = ALICE / "list/1"
VIA = CAROL / "repost/1"


def told(kind: str, *rkeys: str, subject: str | None = B) -> list[Record]:
    """BOB hears of what ALICE did."""
    return [notified(BOB, ALICE, kind, ALICE / f"{kind}/{rkey}", subject) for rkey in rkeys]


def _at_subject(kind: str) -> list[Scenario]:
    """Entry 38 for likes and for reposts."""
    mine, count = ALICE / f"{kind}/1", f"{kind}s"

    def made(name: str, why: str, to: str, heard: list[Record], **via: Any) -> Scenario:
        return scenario(
            f"s38-{kind}-{name}",
            why,
            commit(BOB, C("post/1")),
            commit(ALICE, C("post/1"), C(f"{kind}/1", subject=ref(to), **via)),
            post_agg=[counts(to, **{count: 1})],
            notification=heard,
            feed_item=[
                item(B),
                item(ALICE / "post/1"),
                *([item(mine, to)] if kind == "repost" else []),
            ],
            **{kind: [{"uri": mine, "creator": ALICE, "subject": to}]},
        )

    def direct(to: str, did: str = BOB) -> Record:
        return notified(did, ALICE, kind, mine, to)

    def by_way(did: str, via: str) -> Record:
        return notified(did, ALICE, f"{kind}-via-repost", mine, via)

    unknown, feed = BOB / "post/none", BOB / "generator/1"
    own_way, same_way = ALICE / "repost/1", BOB / "repost/1"
    by_handle = f"at://{BOB.handle}/app.bsky.feed.post/1"
    return [
        made("post", "row, count and notification", B, [direct(B)]),
        made("unknown-post", "as if it were there", unknown, [direct(unknown)]),
        made("generator", "counted like a post", feed, [direct(feed)]),
        made("bare-did", "counted like a post", f"at://{BOB}", [direct(f"at://{BOB}")]),
        made("by-handle", "the handle is the recipient", by_handle,
             [direct(by_handle, BOB.handle)]),
        made("own-post", "nobody hears of it", ALICE / "post/1", []),
        made("own-post-via-other", "not even who showed it", ALICE / "post/1", [], via=ref(VIA)),
        made("via-other", "both hear of it", B, [direct(B), by_way(CAROL, VIA)], via=ref(VIA)),
        made("via-own", "not oneself", B, [direct(B)], via=ref(own_way)),
        made("via-same", "twice", B, [direct(B), by_way(BOB, same_way)], via=ref(same_way)),
    ]  # fmt: skip


KEYED: dict[str, tuple[str, Record]] = {
    # short name: its table, fields of records that all have one key
    "like": ("like", {"subject": ref(B)}),
    "repost": ("repost", {"subject": ref(B)}),
    "follow": ("follow", {"subject": BOB}),
    "block": ("actor_block", {"subject": BOB}),
    "listblock": ("list_block", {"subject": BOB / "list/1"}),
    "listitem": ("list_item", {"subject": BOB, "list": LIST}),
    "verification": ("verification", {"subject": BOB, "handle": BOB.handle, "displayName": "B"}),
}

SECONDS: list[tuple[str, str, str, str, list[tuple[str, str]], str, str, str]] = [
    # name, ops; then rkeys: with rows, with records, duplicates; created and told of, of
    # them those that nobody hears of any more, and those that were taken away
    ("second", "+1 +2", "1", "12", [("2", "1")], "1", "", ""),
    ("winner-deleted", "+1 +2 -1", "2", "2", [("2", "1")], "1", "", "1"),
    ("loser-deleted", "+1 +2 -2", "1", "1", [], "1", "", ""),
    ("promoted-deleted", "+1 +2 +3 -1 -2", "", "3", [("3", "1")], "1", "", "12"),
    ("fourth", "+1 +2 +3 -1 -2 +4", "4", "34", [("3", "1")], "14", "", "12"),
    ("both-deleted", "+1 +2 -2 -1", "", "", [], "1", "1", "1"),
    ("winner-deleted-first", "+1 -1 +2", "2", "2", [], "12", "1", "1"),
]


def _seconds(kind: str) -> list[Scenario]:
    """Entries 39 and 40: several records of one key; only one of them has a row."""
    table, fields = KEYED[kind]
    found = []

    def at(rkey: str) -> str:
        return ALICE / f"{kind}/{rkey}"

    for name, ops, rows, records, losers, told_of, hushed, taken in SECONDS:
        more: dict[str, list[Record]] = {"notification": [], "post_agg": [], "profile_agg": []}
        still = [rkey for rkey in told_of if rkey not in hushed]
        if kind in ("like", "repost"):
            more["notification"] = told(kind, *still)
            more["post_agg"] = [counts(B, **{f"{kind}s": len(rows)})]
        if kind == "repost":
            more["feed_item"] = [item(at(rkey), B) for rkey in records]
        if kind == "follow":
            more["notification"] = told(kind, *still, subject=None)
            more["profile_agg"] = [
                people(BOB, followers=len(rows)),
                people(ALICE, follows=len(rows)),
            ]
        if kind == "verification":
            # What was told stays, and a deletion is told of as well.
            more["notification"] = [
                notified(BOB, ALICE, "verified", at(rkey)) for rkey in told_of
            ] + [notified(BOB, ALICE, "unverified", at(rkey), at="*") for rkey in taken]
        found.append(scenario(
            f"s{39 if kind == 'like' else 40}-{kind}-{name}",
            "the first has the row, the next in time takes over, once",
            *(
                commit(ALICE, (C(f"{kind}/{op[1]}", **fields) if op[0] == "+" else
                               D(f"{kind}/{op[1]}")))
                for op in ops.split()
            ),
            record=uris(*map(at, records)),
            duplicate_record=[loser(at(first), at(second)) for first, second in losers],
            **{table: uris(*map(at, rows))},
            **more,
        ))  # fmt: skip
    return found


def like(sign: str, rkey: str, to: str = B) -> Any:
    """A commit of one like: ``+`` creates, ``~`` updates, ``-`` deletes."""
    path = f"like/{rkey}"
    if sign == "-":
        return commit(ALICE, D(path))
    return commit(ALICE, (C if sign == "+" else U)(path, subject=ref(to)))


L1, L2, L3 = (ALICE / f"like/{n}" for n in "123")


def liked(*rows: tuple[str, str]) -> list[Record]:
    return [{"uri": uri, "subject": subject} for uri, subject in rows]


def heard(author: Actor, uri: str, of: str) -> Record:
    """The author of ``of`` hears of ALICE's like."""
    return notified(author, ALICE, "like", uri, of)


SUBJECTS: list[Scenario] = [
    *_at_subject("like"),
    *_at_subject("repost"),
    *(each for kind in KEYED for each in _seconds(kind)),
    scenario(
        "s41-winner-moves-to-an-occupied-key",
        "the update is lost, the record stays as it was",
        like("+", "1"), like("+", "2", R1), like("~", "1", R1),
        like=liked((L1, B), (L2, R1)), duplicate_record=[],
        record=[{"uri": L1, "cid": op_cid(1)}, {"uri": L2, "cid": op_cid(2)}],
        post_agg=[counts(B, likes=1), counts(R1, likes=1)],
        lost=[("like/1", "key_occupied")],
    ),
    scenario(
        "s41-winner-moves-to-a-free-key",
        "nobody is promoted, nobody is told",
        like("+", "1"), like("+", "2"), like("~", "1", R1),
        like=liked((L1, R1)), duplicate_record=[loser(L2, L1)],
        record=[{"uri": L1, "cid": op_cid(3)}, {"uri": L2, "cid": op_cid(2)}],
        post_agg=[counts(B), counts(R1, likes=1)], notification=[heard(BOB, L1, B)],
    ),
    scenario(
        "s41-loser-moves-to-a-free-key",
        "it has a row of its own, and is told of as new",
        like("+", "1"), like("+", "2"), like("~", "2", R1),
        like=liked((L1, B), (L2, R1)), duplicate_record=[],
        post_agg=[counts(B, likes=1), counts(R1, likes=1)],
        notification=[heard(BOB, L1, B), heard(CAROL, L2, R1)],
    ),
    scenario(
        "s41-loser-stays",
        "its duplicate has the new time",
        like("+", "1"), like("+", "2"), like("~", "2"),
        like=liked((L1, B)),
        duplicate_record=[loser(L2, L1) | {"cid": op_cid(3), "indexedAt": T(3)}],
        record=[{"uri": L1, "indexedAt": T(1)}, {"uri": L2, "indexedAt": T(3)}],
        post_agg=[counts(B, likes=1)], notification=[heard(BOB, L1, B)],
    ),
    scenario(
        "s41-promoted-winner-updated",
        "its stale duplicate points to itself",
        like("+", "1"), like("+", "2"), like("-", "1"), like("~", "2"),
        like=[{"uri": L2, "indexedAt": T(4)}],
        duplicate_record=[loser(L2, L2)], post_agg=[counts(B, likes=1)],
        notification=[heard(BOB, L1, B)],
    ),
    scenario(
        "s41-promoted-winner-updated-and-deleted",
        "it goes, and nobody takes its place",
        like("+", "1"), like("+", "2"), like("+", "3"), like("-", "1"), like("~", "2"),
        like("-", "2"),
        like=[], duplicate_record=[loser(L3, L1)], record=uris(L3), post_agg=[counts(B)],
    ),
    scenario(
        "s42-deleted-winner-comes-again",
        "it is a duplicate of the one that took its place",
        like("+", "1"), like("+", "2"), like("-", "1"), like("+", "1"),
        like=liked((L2, B)), duplicate_record=[loser(L2, L1), loser(L1, L2)],
        record=uris(L1, L2), post_agg=[counts(B, likes=1)],
    ),
    scenario(
        "s42-winner-created-again-with-another-subject",
        "nothing changes while that subject is free",
        like("+", "1"), like("+", "1", R1),
        like=liked((L1, B)), duplicate_record=[], record=[{"uri": L1, "cid": op_cid(1)}],
        post_agg=[counts(B, likes=1)],
    ),
    scenario(
        "s42-winner-created-again-with-an-occupied-subject",
        "it is noted as a duplicate there, though its record never was",
        like("+", "1"), like("+", "2", R1), like("+", "1", R1),
        like=liked((L1, B), (L2, R1)), duplicate_record=[loser(L1, L2)],
        record=[{"uri": L1, "cid": op_cid(1)}, {"uri": L2, "cid": op_cid(2)}],
    ),
    scenario(
        "s43-duplicate-with-a-row-is-not-promoted",
        "it has its own row; the notification of the deleted goes",
        like("+", "1"), like("+", "2", R1), like("+", "1", R1), like("-", "2"),
        like=liked((L1, B)), duplicate_record=[loser(L1, L2)], record=uris(L1),
        notification=[heard(BOB, L1, B)],
        post_agg=[counts(B, likes=1), counts(R1)],
    ),
    scenario(
        "s43-duplicate-moved-before-its-winner-goes",
        "it waits for the other winner now",
        like("+", "1"), like("+", "2"), like("+", "3", R1), like("~", "2", R1), like("-", "1"),
        like("-", "3"),
        like=liked((L2, R1)), duplicate_record=[loser(L2, L3)], record=uris(L2),
        post_agg=[counts(B), counts(R1, likes=1)], notification=[heard(CAROL, L3, R1)],
    ),
    scenario(
        "s44-like-created-and-deleted",
        "a row of zeros stays",
        commit(ALICE, C("like/1", subject=ref(B)), D("like/1")),
        like=[], record=[], notification=[], duplicate_record=[], post_agg=[counts(B)],
    ),
    scenario(
        "s44-everything-created-and-deleted",
        "all keys that were touched have rows",
        commit(ALICE, C("repost/1", subject=ref(B)), D("repost/1")),
        commit(ALICE, C("follow/1", subject=CAROL), D("follow/1")),
        commit(ALICE, C("post/1", reply=reply(R1), embed=quoting(BOB / "post/2")), D("post/1")),
        record=[], notification=[], feed_item=[], quote=[],
        post_agg=[counts(B), counts(R1), counts(BOB / "post/2")],
        profile_agg=[people(ALICE), people(CAROL)],
    ),
    scenario(
        "s45-self-follow",
        "one does hear of it",
        commit(ALICE, C("follow/1", subject=ALICE)),
        notification=[notified(ALICE, ALICE, "follow", ALICE / "follow/1")],
        profile_agg=[people(ALICE, followers=1, follows=1)],
    ),
    scenario(
        "s45-follow-of-one-who-blocks",
        "blocks change nothing here",
        commit(BOB, C("block/1", subject=ALICE)),
        commit(ALICE, C("follow/1", subject=BOB)),
        follow=uris(ALICE / "follow/1"), actor_block=uris(BOB / "block/1"),
        notification=told("follow", "1", subject=None),
        profile_agg=[people(BOB, followers=1), people(ALICE, follows=1)],
    ),
    scenario(
        "s45-follow-moved",
        "counts move, nobody is told",
        commit(ALICE, C("follow/1", subject=BOB)),
        commit(ALICE, U("follow/1", subject=CAROL)),
        follow=[{"uri": ALICE / "follow/1", "subjectDid": CAROL, "indexedAt": T(2)}],
        notification=told("follow", "1", subject=None),
        profile_agg=[people(BOB), people(CAROL, followers=1), people(ALICE, follows=1)],
    ),
    scenario(
        "s46-item-of-a-foreign-list",
        "lost",
        commit(ALICE, C("listitem/1", subject=CAROL, list=BOB / "list/1")),
        list_item=[], record=[], lost=[("listitem/1", "creator_mismatch")],
    ),
    scenario(
        "s46-list-deleted",
        "its items stay",
        commit(ALICE, C("list/1", name="l", purpose="app.bsky.graph.defs#curatelist")),
        commit(ALICE, C("listitem/1", subject=CAROL, list=LIST), D("list/1")),
        list=[], list_item=[{"uri": ALICE / "listitem/1", "listUri": LIST, "subjectDid": CAROL}],
    ),
    *(
        scenario(
            f"s46-facets-{name}", "as JSON.stringify prints them, which is not the record's form",
            commit(ALICE, C("list/1", name="l", purpose="app.bsky.graph.defs#curatelist",
                            descriptionFacets=facets)),
            list=[{"uri": LIST, "descriptionFacets": printed}],
        )
        for name, facets, printed in [
            ("empty", [], "[]"),
            ("with-links-and-bytes",
             [{"index": {"byteStart": 0, "byteEnd": 1}, "features": [],
               "extra": blob_link("l"), "raw": b"\x01\x02"}],
             '[{"raw":{"0":1,"1":2},"extra":{"/":"' + blob_cid("l") + '"},'
             '"index":{"byteEnd":1,"byteStart":0},"features":[]}]'),
        ]
    ),
]  # fmt: skip
