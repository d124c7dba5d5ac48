"""Entries 32 to 37: who may reply, who may quote, and when that is judged."""

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
    U,
    again,
    commit,
    mentions,
    quoting,
    ref,
    reply,
    scenario,
)
from tests.scenarios.embeds import both, images, quoted
from tests.scenarios.rows import counts, flags, item, notified, uris

A, B, R1 = (each / "post/1" for each in (ALICE, BOB, CAROL))
LIST = BOB / "list/1"
MENTION, FOLLOWER, FOLLOWING, LISTED = (
    {"$type": f"app.bsky.feed.threadgate#{name}Rule"}
    for name in ("mention", "follower", "following", "list")
)
LISTED |= {"list": LIST}
UNKNOWN = {"$type": "com.example.rule"}
DISABLED = {"$type": "app.bsky.feed.postgate#disableRule"}
VIOLATES = {"root": False, "gate": True}
ANSWER = C("post/1", reply=reply(B))
HEARD = [notified(BOB, ALICE, "reply", A, B)]


def gate(*rules: Record, **fields: Any) -> Record:
    return {"post": B, "allow": list(rules)} | fields


def postgate(*rules: Record) -> Record:
    return {"post": B, "embeddingRules": list(rules)}


FOLLOWS_OWNER = commit(ALICE, C("follow/1", subject=BOB))
OWNER_FOLLOWS = commit(BOB, C("follow/1", subject=ALICE))
ON_LIST = commit(BOB, C("listitem/1", subject=ALICE, list=LIST))
OTHERS = (
    # None of which is about ALICE and BOB in the right way.
    commit(
        CAROL, C("follow/1", subject=BOB), C("listitem/1", subject=ALICE, list=CAROL / "list/1")
    ),
    commit(BOB, C("follow/9", subject=CAROL), C("listitem/9", subject=CAROL, list=LIST)),
)


def allowed(name: str, why: str, yes: bool, rules: Any, *before: Any) -> Scenario:
    """ALICE answers BOB's gated post after ``before``: may she?"""
    fields = {"post": B} if rules is None else gate(*rules)
    return scenario(
        f"s32-{name}",
        why,
        commit(BOB, C("post/1", facets=mentions(CAROL)), C("threadgate/1", **fields)),
        *OTHERS,
        *before,
        commit(ALICE, ANSWER),
        post=[flags(B), flags(A) if yes else flags(A, **VIOLATES)],
        post_agg=[counts(B, replies=1 if yes else 0)],
    )


BETWEEN: list[tuple[str, Record, Actor, str, Record]] = [
    ("follow", FOLLOWER, ALICE, "follow/1", {"subject": BOB}),
    ("listitem", LISTED, BOB, "listitem/1", {"subject": ALICE, "list": LIST}),
]  # fmt: skip

GATES: list[Scenario] = [
    allowed("allow-unset", "everybody may", True, None),
    allowed("allow-empty", "nobody may", False, []),
    allowed("follower-rule", "who follows the owner may", True, [FOLLOWER], FOLLOWS_OWNER),
    allowed("follower-rule-not", "who is followed may not", False, [FOLLOWER], OWNER_FOLLOWS),
    allowed("following-rule", "whom the owner follows may", True, [FOLLOWING], OWNER_FOLLOWS),
    allowed("following-rule-not", "a follower may not", False, [FOLLOWING], FOLLOWS_OWNER),
    allowed("list-rule", "who is on the list may", True, [LISTED], ON_LIST),
    allowed("list-rule-not", "others may not", False, [LISTED]),
    allowed("mention-rule-not", "who is not mentioned may not", False, [MENTION], FOLLOWS_OWNER),
    allowed("all-rules", "any of them will do", True,
            [MENTION, FOLLOWER, FOLLOWING, LISTED], ON_LIST),
    allowed("all-rules-not", "none of them holds", False, [MENTION, FOLLOWER, FOLLOWING, LISTED]),
    allowed("unknown-rule", "what is not known allows nothing", False, [UNKNOWN],
            FOLLOWS_OWNER, OWNER_FOLLOWS, ON_LIST),
    allowed("unfollowed-before", "as of the reply", False, [FOLLOWER], FOLLOWS_OWNER,
            commit(ALICE, D("follow/1"))),
    allowed("unlisted-before", "as of the reply", False, [LISTED], ON_LIST,
            commit(BOB, D("listitem/1"))),
    scenario(
        "s32-mention-rule",
        "who is mentioned in the root may; the replies between do not count",
        commit(BOB, C("post/1", facets=mentions(ALICE)), C("threadgate/1", **gate(MENTION))),
        commit(ALICE, ANSWER),
        post=[flags(B), flags(A)],
        notification=[notified(ALICE, BOB, "mention", B), *HEARD],
    ),
    scenario(
        "s32-mention-rule-without-root",
        "a root that is missing mentions nobody; without its record the reply is invalid too",
        commit(BOB, C("post/1", facets=mentions(ALICE)), C("threadgate/1", **gate(MENTION))),
        commit(BOB, D("post/1")),
        commit(ALICE, ANSWER),
        post=[flags(A, root=True, gate=True)],
        post_agg=[counts(B)],
    ),
    scenario(
        "s32-owner",
        "the owner may always",
        commit(BOB, C("post/1"), C("threadgate/1", **gate())),
        commit(BOB, C("post/2", reply=reply(B))),
        post=[flags(B), flags(BOB / "post/2")],
        post_agg=[counts(B, replies=1)],
    ),
    scenario(
        "s32-reply-to-a-reply",
        "the root's gate judges the whole thread",
        commit(BOB, C("post/1"), C("threadgate/1", **gate(FOLLOWING))),
        commit(BOB, C("follow/1", subject=CAROL)),
        commit(CAROL, C("post/1", reply=reply(B))),
        commit(ALICE, C("post/1", reply=reply(R1, B))),
        post=[flags(B), flags(R1), flags(A, **VIOLATES)],
        post_agg=[counts(B, replies=1), counts(R1)],
        notification=[
            notified(CAROL, BOB, "follow", BOB / "follow/1"),
            notified(BOB, CAROL, "reply", R1, B),
        ],
    ),
    scenario(
        "s33-gate-after-the-reply",
        "no effect on what was said before",
        commit(BOB, C("post/1")),
        commit(ALICE, ANSWER),
        commit(BOB, C("threadgate/1", **gate())),
        post=[
            {"uri": B, "violatesThreadGate": None, "hasThreadGate": True},
            {"uri": A, "violatesThreadGate": None, "hasThreadGate": None},
        ],
        post_agg=[counts(B, replies=1)], notification=HEARD,
    ),
    scenario(
        "s33-late-gate",
        "a gate that comes too late judges what it would have judged",
        commit(BOB, C("post/1")),
        commit(ALICE, ANSWER, was=3),
        commit(BOB, C("threadgate/1", **gate()), was=2),
        post=[flags(B), flags(A, **VIOLATES)],
        post_agg=[counts(B)],
    ),
    scenario(
        "s33-gate-updated-between-replies",
        "each reply sees the gate of its time",
        commit(BOB, C("post/1"), C("threadgate/1", **gate())),
        commit(ALICE, ANSWER),
        commit(BOB, U("threadgate/1", post=B)),
        commit(CAROL, C("post/1", reply=reply(B))),
        post=[flags(B), flags(A, **VIOLATES), flags(R1)],
        post_agg=[counts(B, replies=1)],
        notification=[notified(BOB, CAROL, "reply", R1, B)],
    ),
    scenario(
        "s33-gate-deleted-between-replies",
        "without a gate everybody may",
        commit(BOB, C("post/1"), C("threadgate/1", **gate())),
        commit(ALICE, ANSWER),
        commit(BOB, D("threadgate/1")),
        commit(CAROL, C("post/1", reply=reply(B))),
        post=[flags(B), flags(A, **VIOLATES), flags(R1)],
    ),
    *(
        scenario(
            f"s33-{name}-between-replies",
            "each reply sees the state of its time",
            commit(BOB, C("post/1"), C("threadgate/1", **gate(rule))),
            commit(ALICE, C("post/0", reply=reply(B))),
            commit(who, C(path, **fields)),
            commit(ALICE, ANSWER),
            commit(who, D(path)),
            commit(ALICE, C("post/2", reply=reply(B))),
            post=[
                flags(B), flags(ALICE / "post/0", **VIOLATES), flags(A),
                flags(ALICE / "post/2", **VIOLATES),
            ],
            post_agg=[counts(B, replies=1)],
        )
        for name, rule, who, path, fields in BETWEEN
    ),
    *(
        scenario(
            f"s34-{name}", why, *(commit(BOB, *ops) for ops in commits), *more,
            post=[{"uri": B, "hasThreadGate": flag, "hasPostGate": flag}],
        )
        for name, why, flag, commits, more in [
            ("gates-before-the-post", "the post does not see them", None,
             [[C("threadgate/1", post=B), C("postgate/1", post=B)], [C("post/1")]], []),
            ("gates-created-again-after-the-post", "a create that changes nothing else sets flags",
             True,
             [[C("threadgate/1", post=B), C("postgate/1", post=B)], [C("post/1")],
              [C("threadgate/1", post=B), C("postgate/1", post=B)]], []),
            ("gates-delivered-again", "a second delivery is nothing", None,
             [[C("threadgate/1", post=B), C("postgate/1", post=B)], [C("post/1")]], [again(1)]),
            ("gates-after-the-post", "they flag it", True,
             [[C("post/1")], [C("threadgate/1", post=B), C("postgate/1", post=B)]], []),
            ("gates-deleted", "never NULL again", False,
             [[C("post/1"), C("threadgate/1", post=B), C("postgate/1", post=B)],
              [D("threadgate/1"), D("postgate/1")]], []),
            ("gates-updated", "an update flags it", True,
             [[C("threadgate/1", post=B), C("postgate/1", post=B)], [C("post/1")],
              [U("threadgate/1", post=B), U("postgate/1", post=B)]], []),
            ("post-updated-after-its-gates", "flags are lost", None,
             [[C("post/1"), C("threadgate/1", post=B), C("postgate/1", post=B)],
              [U("post/1", text="new")]], []),
            ("unknown-gates-deleted", "nothing was there", None,
             [[C("post/1"), D("threadgate/1"), D("postgate/1")]], []),
        ]
    ),
    scenario(
        "s35-gates-that-belong-elsewhere",
        "another rkey or host costs the op; the collection of the post is not looked at",
        commit(
            BOB, C("threadgate/2", post=B), C("postgate/2", post=B),
            C("threadgate/1", post=A), C("postgate/1", post=A),
            C("threadgate/3", post=BOB / "like/3"),
        ),
        thread_gate=uris(BOB / "threadgate/3"), post_gate=[], record=uris(BOB / "threadgate/3"),
        lost=[
            (f"{name}/{n}", "gate_mismatch") for name in ("threadgate", "postgate") for n in "12"
        ],
    ),
    *(
        scenario(
            f"s36-{name}", why, commit(BOB, C("post/1")), *steps,
            post=[{"uri": B, "violatesEmbeddingRules": None},
                  {"uri": uri, "violatesEmbeddingRules": flag}],
            quote=[quoted(uri, B)],
            post_agg=[counts(B, quotes=1)],
            notification=[notified(BOB, ALICE, "quote", uri, B)] if heard else [],
        )
        for name, why, uri, flag, heard, steps in [
            ("postgate-before-the-quote", "flagged, counted, and not told of", A, True, False,
             [commit(BOB, C("postgate/1", **postgate(DISABLED))),
              commit(ALICE, C("post/1", embed=quoting(B)))]),
            ("postgate-after-the-quote", "no effect", A, None, True,
             [commit(ALICE, C("post/1", embed=quoting(B))),
              commit(BOB, C("postgate/1", **postgate(DISABLED)))]),
            ("own-quote", "the owner may", BOB / "post/2", None, False,
             [commit(BOB, C("postgate/1", **postgate(DISABLED))),
              commit(BOB, C("post/2", embed=quoting(B)))]),
            ("quote-with-media", "the same", A, True, False,
             [commit(BOB, C("postgate/1", **postgate(UNKNOWN, DISABLED))),
              commit(ALICE, C("post/1", embed=both(images("a"))))]),
            ("unknown-rule", "forbids nothing", A, None, True,
             [commit(BOB, C("postgate/1", **postgate(UNKNOWN))),
              commit(ALICE, C("post/1", embed=quoting(B)))]),
            ("no-rules", "forbid nothing", A, None, True,
             [commit(BOB, C("postgate/1", post=B)),
              commit(ALICE, C("post/1", embed=quoting(B)))]),
            ("postgate-deleted", "forbids nothing", A, None, True,
             [commit(BOB, C("postgate/1", **postgate(DISABLED)), D("postgate/1")),
              commit(ALICE, C("post/1", embed=quoting(B)))]),
        ]
    ),
    scenario(
        "s36-late-postgate",
        "a gate that comes too late judges what it would have judged",
        commit(BOB, C("post/1")),
        commit(ALICE, C("post/1", embed=quoting(B)), was=3),
        commit(BOB, C("postgate/1", **postgate(DISABLED)), was=2),
        post=[
            {"uri": B, "violatesEmbeddingRules": None}, {"uri": A, "violatesEmbeddingRules": True},
        ],
    ),
    scenario(
        "s37-violating-reply-with-mention-and-quote",
        "mention and quote are told of, the reply is not, nor is it counted",
        commit(BOB, C("post/1"), C("threadgate/1", **gate())),
        commit(ALICE, C("post/1", reply=reply(B), facets=mentions(CAROL), embed=quoting(R1))),
        post=[flags(B), flags(A, **VIOLATES)],
        post_agg=[counts(B), counts(R1, quotes=1)],
        notification=[
            notified(CAROL, ALICE, "mention", A),
        ],
        feed_item=[item(B), item(A)],
    ),
    scenario(
        "s37-violating-reply-that-quotes-its-parent",
        "as a quote the author hears of it",
        commit(BOB, C("post/1"), C("threadgate/1", **gate())),
        commit(ALICE, C("post/1", reply=reply(B), embed=quoting(B))),
        post=[flags(B), flags(A, **VIOLATES)],
        post_agg=[counts(B, quotes=1)],
        notification=[notified(BOB, ALICE, "quote", A, B)],
    ),
    scenario(
        "s37-violating-reply-liked",
        "a like of it is like any other",
        commit(BOB, C("post/1"), C("threadgate/1", **gate())),
        commit(ALICE, ANSWER),
        commit(CAROL, C("like/1", subject=ref(A))),
        post_agg=[counts(B), counts(A, likes=1)],
        notification=[notified(ALICE, CAROL, "like", CAROL / "like/1", A)],
    ),
]  # fmt: skip
