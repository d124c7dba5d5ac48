"""Entries 51 to 54: muted threads. An op whose notifications are all muted is kept without them."""

from __future__ import annotations

from tests.scenarios.dsl import (
    ALICE,
    BOB,
    CAROL,
    C,
    D,
    Scenario,
    T,
    U,
    commit,
    mentions,
    mute,
    quoting,
    ref,
    reply,
    scenario,
    unmute,
)
from tests.scenarios.rows import counts, flags, item, notified, people, uris

A, B, R1 = (each / "post/1" for each in (ALICE, BOB, CAROL))
LIKE, REPOST = ALICE / "like/1", ALICE / "repost/1"
VIA = CAROL / "repost/1"
MUTED = (mute(BOB, B), commit(BOB, C("post/1")))
ANSWERED = notified(BOB, CAROL, "reply", R1, B)

MUTES: list[Scenario] = [
    scenario(
        "s51-like-in-a-muted-thread",
        "kept and counted, and nobody hears of it",
        *MUTED,
        commit(ALICE, C("like/1", subject=ref(B))),
        like=uris(LIKE), record=uris(B, LIKE), post_agg=[counts(B, likes=1)], notification=[],
    ),
    scenario(
        "s51-repost-in-a-muted-thread",
        "kept, counted and in the feed",
        *MUTED,
        commit(ALICE, C("repost/1", subject=ref(B))),
        repost=uris(REPOST), record=uris(B, REPOST), post_agg=[counts(B, reposts=1)],
        feed_item=[item(B), item(REPOST, B)], notification=[],
    ),
    scenario(
        "s51-reply-in-a-muted-thread",
        "kept and counted",
        *MUTED,
        commit(ALICE, C("post/1", reply=reply(B))),
        post=[flags(B), flags(A)], record=uris(B, A), post_agg=[counts(B, replies=1)],
        profile_agg=[people(BOB, posts=1), people(ALICE, posts=1)], notification=[],
    ),
    scenario(
        "s51-quote-of-a-muted-thread",
        "kept and counted",
        *MUTED,
        commit(ALICE, C("post/1", embed=quoting(B))),
        quote=uris(A), post_agg=[counts(B, quotes=1)], notification=[],
    ),
    scenario(
        "s51-like-of-a-reply-in-a-muted-thread",
        "the mute is of the whole thread",
        commit(BOB, C("post/1")),
        mute(CAROL, B),
        commit(CAROL, C("post/1", reply=reply(B))),
        commit(ALICE, C("like/1", subject=ref(R1))),
        like=uris(LIKE), notification=[ANSWERED],
    ),
    scenario(
        "s51-like-via-another",
        "who showed it is not muted: the subject is a repost",
        *MUTED,
        commit(CAROL, C("repost/1", subject=ref(B))),
        mute(CAROL, B),
        commit(ALICE, C("like/1", subject=ref(B), via=ref(VIA))),
        like=uris(LIKE), notification=[notified(CAROL, ALICE, "like-via-repost", LIKE, VIA)],
    ),
    scenario(
        "s51-reply-with-a-second-ancestor",
        "the other one hears of it",
        commit(BOB, C("post/1")),
        commit(CAROL, C("post/1", reply=reply(B))),
        mute(BOB, B),
        commit(ALICE, C("post/1", reply=reply(R1, B))),
        notification=[ANSWERED, notified(CAROL, ALICE, "reply", A, R1)],
    ),
    scenario(
        "s51-mention-in-a-muted-thread",
        "a mention is never muted",
        *MUTED,
        commit(ALICE, C("post/1", reply=reply(B), facets=mentions(BOB))),
        notification=[notified(BOB, ALICE, "mention", A)],
    ),
    scenario(
        "s51-follow-of-one-who-mutes",
        "has no subject",
        *MUTED,
        commit(ALICE, C("follow/1", subject=BOB)),
        notification=[notified(BOB, ALICE, "follow", ALICE / "follow/1")],
    ),
    scenario(
        "s51-mute-of-another-root",
        "a reply's own uri is no root",
        commit(BOB, C("post/1")),
        commit(CAROL, C("post/1", reply=reply(B))),
        mute(CAROL, R1),
        commit(ALICE, C("like/1", subject=ref(R1))),
        notification=[ANSWERED, notified(CAROL, ALICE, "like", LIKE, R1)],
    ),
    scenario(
        "s52-update-of-a-reply-in-a-muted-thread",
        "the new version is kept; the old one's notification goes",
        commit(BOB, C("post/1")),
        commit(ALICE, C("post/1", text="old", reply=reply(B))),
        mute(BOB, B),
        commit(ALICE, U("post/1", text="new", reply=reply(B))),
        post=[
            {"uri": B, "text": "", "indexedAt": T(1)}, {"uri": A, "text": "new", "indexedAt": T(3)},
        ],
        post_agg=[counts(B, replies=1)], notification=[],
    ),
    scenario(
        "s52-update-of-a-like-never-seen",
        "as a create",
        *MUTED,
        commit(ALICE, U("like/1", subject=ref(B))),
        like=uris(LIKE), post_agg=[counts(B, likes=1)], notification=[],
    ),
    scenario(
        "s53-like-before-the-post-of-a-muted-thread",
        "without a post there is no thread to mute",
        mute(BOB, B),
        commit(ALICE, C("like/1", subject=ref(B))),
        commit(BOB, C("post/1")),
        commit(CAROL, C("like/1", subject=ref(B))),
        like=uris(LIKE, CAROL / "like/1"), post_agg=[counts(B, likes=2)],
        notification=[notified(BOB, ALICE, "like", LIKE, B)],
    ),
    scenario(
        "s53-like-after-the-post-of-a-muted-thread-is-gone",
        "the same",
        *MUTED,
        commit(BOB, D("post/1")),
        commit(ALICE, C("like/1", subject=ref(B))),
        notification=[notified(BOB, ALICE, "like", LIKE, B)],
    ),
    scenario(
        "s54-unmuted",
        "told of again from then on",
        *MUTED,
        commit(ALICE, C("like/1", subject=ref(B))),
        unmute(BOB, B),
        commit(CAROL, C("like/1", subject=ref(B))),
        notification=[notified(BOB, CAROL, "like", CAROL / "like/1", B)],
        post_agg=[counts(B, likes=2)],
    ),
    scenario(
        "s54-muted-between",
        "from then on nobody is told; what was told stays",
        commit(BOB, C("post/1")),
        commit(ALICE, C("like/1", subject=ref(B))),
        mute(BOB, B),
        commit(CAROL, C("like/1", subject=ref(B))),
        notification=[notified(BOB, ALICE, "like", LIKE, B)],
        post_agg=[counts(B, likes=2)],
    ),
]  # fmt: skip
