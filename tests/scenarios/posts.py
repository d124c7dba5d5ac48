"""Entries 16 to 24, 30 and 31: posts, replies, mentions, threads."""

from __future__ import annotations

import itertools

from tests.scenarios.dsl import (
    ALICE,
    BOB,
    CAROL,
    CREATED,
    DAN,
    ERIN,
    FRANK,
    GRACE,
    MARK,
    Actor,
    C,
    D,
    Scenario,
    T,
    U,
    commit,
    mentions,
    quoting,
    reply,
    scenario,
)
from tests.scenarios.rows import counts, flags, item, notified, people

A, B, R1, R2, R3 = (each / "post/1" for each in (ALICE, BOB, CAROL, DAN, ERIN))
ROOT = B
CHAIN = (ALICE, BOB, CAROL, DAN, ERIN, FRANK, GRACE)
INVALID = {"root": True, "gate": False}


def answered(did: str, record: str, subject: str) -> dict[str, object]:
    """``did`` hears of ``record``, which is below ``subject``."""
    author = record.removeprefix("at://").partition("/")[0]
    return notified(did, author, "reply", record, subject)


POSTS: list[Scenario] = [
    scenario(
        "s16-plain-post",
        "every flag is NULL, nobody hears of it, no counts but the author's",
        commit(ALICE, C("post/1", text="hello", langs=["en"], tags=["t", "u"])),
        post=[{
            "uri": A, "creator": ALICE, "text": "hello", "langs": '["en"]', "tags": '["t", "u"]',
            "replyRoot": None, "replyParent": None, "createdAt": CREATED, "indexedAt": T(1),
            "sortAt": CREATED, "invalidReplyRoot": None, "violatesThreadGate": None,
            "violatesEmbeddingRules": None, "hasThreadGate": None, "hasPostGate": None,
        }],
        feed_item=[item(A)],
        profile_agg=[people(ALICE, posts=1)],
        post_agg=[], notification=[], op_thread_reply=[], quote=[],
    ),
    scenario(
        "s16-empty-text-and-lists",
        "empty lists are NULL",
        commit(ALICE, C("post/1", text="", langs=[], tags=[])),
        post=[{"uri": A, "text": "", "langs": None, "tags": None}],
    ),
    scenario(
        "s17-reply-to-existing-root",
        "the parent's author hears of it",
        commit(BOB, C("post/1")),
        commit(ALICE, C("post/1", reply=reply(ROOT))),
        post=[flags(ROOT), flags(A)],
        post_agg=[counts(ROOT, replies=1)],
        profile_agg=[people(BOB, posts=1), people(ALICE, posts=1)],
        notification=[answered(BOB, A, ROOT)],
        feed_item=[item(ROOT), item(A)],
        op_thread_reply=[],
    ),
    scenario(
        "s17-reply-to-reply",
        "parent and root hear of it, each once",
        commit(BOB, C("post/1")),
        commit(CAROL, C("post/1", reply=reply(ROOT))),
        commit(ALICE, C("post/1", reply=reply(R1, ROOT))),
        post=[flags(ROOT), flags(R1), flags(A)],
        post_agg=[counts(ROOT, replies=1), counts(R1, replies=1)],
        notification=[answered(BOB, R1, ROOT), answered(CAROL, A, R1), answered(BOB, A, ROOT)],
    ),
    scenario(
        "s17-reply-to-wrong-root",
        "invalid, and counted and told of all the same",
        commit(BOB, C("post/1")),
        commit(DAN, C("post/1")),
        commit(CAROL, C("post/1", reply=reply(ROOT))),
        commit(ALICE, C("post/1", reply=reply(R1, R2))),
        post=[flags(ROOT), flags(R2), flags(R1), flags(A, **INVALID)],
        post_agg=[counts(ROOT, replies=1), counts(R1, replies=1)],
        notification=[answered(BOB, R1, ROOT), answered(CAROL, A, R1), answered(BOB, A, ROOT)],
    ),
    scenario(
        "s17-reply-as-root",
        "a root must not be a reply itself",
        commit(BOB, C("post/1")),
        commit(CAROL, C("post/1", reply=reply(ROOT))),
        commit(ALICE, C("post/1", reply=reply(R1))),
        post=[flags(ROOT), flags(R1), flags(A, **INVALID)],
    ),
    scenario(
        "s17-parent-without-reply-is-not-the-root",
        "a parent that is no reply must be the root",
        commit(BOB, C("post/1")),
        commit(CAROL, C("post/1")),
        commit(ALICE, C("post/1", reply=reply(ROOT, R1))),
        post=[flags(ROOT), flags(R1), flags(A, **INVALID)],
        notification=[answered(BOB, A, ROOT)],
    ),
    scenario(
        "s17-parent-is-no-post",
        "as root it will do; under another root it will not",
        commit(BOB, C("list/1", name="l", purpose="app.bsky.graph.defs#curatelist")),
        commit(ALICE, C("post/1", reply=reply(BOB / "list/1"))),
        commit(CAROL, C("post/1", reply=reply(BOB / "list/1", ROOT))),
        post=[flags(A), flags(R1, **INVALID)],
        post_agg=[counts(BOB / "list/1", replies=2)],
        notification=[],
    ),
    scenario(
        "s17-unknown-parent",
        "missing for ever: invalid, counted, nobody hears of it",
        commit(ALICE, C("post/1", reply=reply(ROOT))),
        post=[flags(A, **INVALID)],
        post_agg=[counts(ROOT, replies=1)],
        notification=[],
    ),
    scenario(
        "s18-late-parent",
        "a parent that comes late is found by its reply, once",
        commit(ALICE, C("post/1", reply=reply(ROOT)), was=2),
        commit(BOB, C("post/1"), was=1),
        post=[flags(A), flags(ROOT)],
        post_agg=[counts(ROOT, replies=1)],
        notification=[answered(BOB, A, ROOT)],
    ),
    scenario(
        "s18-late-parent-of-a-mention",
        "who was told already is not told again",
        commit(ALICE, C("post/1", reply=reply(ROOT), facets=mentions(BOB)), was=2),
        commit(BOB, C("post/1"), was=1),
        post=[flags(A), flags(ROOT)],
        notification=[notified(BOB, ALICE, "mention", A)],
    ),
    *(
        scenario(
            f"s18-chain-{name}",
            "a thread that comes in another order ends as in the right one",
            *(
                commit(who, C("post/1", **({"reply": body} if body else {})), was=was)
                for who, body, was in [
                    {
                        "a": (BOB, None, 1),
                        "b": (CAROL, reply(ROOT), 2),
                        "c": (ALICE, reply(R1, ROOT), 3),
                    }[letter]
                    for letter in name
                ]
            ),
            post=[flags(ROOT), flags(R1), flags(A)],
            post_agg=[counts(ROOT, replies=1), counts(R1, replies=1)],
            notification=[answered(BOB, R1, ROOT), answered(CAROL, A, R1), answered(BOB, A, ROOT)],
        )
        for name in ("abc", "acb", "cba", "bac", "bca", "cab")
    ),
    scenario(
        "s19-chain-of-seven",
        "four ancestors hear of a reply, the fifth does not",
        commit(ALICE, C("post/1")),
        *(
            commit(who, C("post/1", reply=reply(parent / "post/1", A)))
            for parent, who in itertools.pairwise(CHAIN)
        ),
        post=[flags(who / "post/1") for who in CHAIN],
        post_agg=[counts(who / "post/1", replies=1) for who in CHAIN[:-1]],
        notification=[
            answered(CHAIN[above], CHAIN[place] / "post/1", CHAIN[above] / "post/1")
            for place in range(7)
            for above in range(max(0, place - 4), place)
        ],
    ),
    scenario(
        "s20-reply-to-itself",
        "its own record is there already, and is a reply: no root",
        commit(ALICE, C("post/1", reply=reply(A))),
        post=[flags(A, **INVALID)],
        post_agg=[counts(A, replies=1)],
        op_thread_reply=[{"rootUri": A, "parentUri": A, "uri": A, "deleted": False}],
        notification=[],
    ),
    scenario(
        "s20-cycle",
        "two replies to one another end",
        commit(ALICE, C("post/1", reply=reply(ROOT))),
        commit(BOB, C("post/1", reply=reply(A))),
        post=[flags(A, **INVALID), flags(ROOT, **INVALID)],
        post_agg=[counts(ROOT, replies=1), counts(A, replies=1)],
    ),
    scenario(
        "s21-invalid-root-is-inherited",
        "what replies to an invalid reply is invalid, three levels down",
        commit(BOB, C("post/1")),
        commit(CAROL, C("post/1", reply=reply(ROOT, FRANK / "post/1"))),
        commit(DAN, C("post/1", reply=reply(R1, ROOT))),
        commit(ERIN, C("post/1", reply=reply(R2, ROOT))),
        commit(ALICE, C("post/1", reply=reply(R3, ROOT))),
        post=[flags(ROOT), *(flags(uri, **INVALID) for uri in (R1, R2, R3, A))],
    ),
    scenario(
        "s22-parent-deleted-before-the-reply",
        "it is missing",
        commit(BOB, C("post/1"), D("post/1")),
        commit(ALICE, C("post/1", reply=reply(ROOT))),
        post=[flags(A, **INVALID)],
        post_agg=[counts(ROOT, replies=1)],
        profile_agg=[people(BOB), people(ALICE, posts=1)],
        notification=[],
    ),
    scenario(
        "s22-parent-deleted-after-the-reply",
        "what was judged stays",
        commit(BOB, C("post/1")),
        commit(ALICE, C("post/1", reply=reply(ROOT))),
        commit(BOB, D("post/1")),
        post=[flags(A)],
        post_agg=[counts(ROOT, replies=1)],
        notification=[answered(BOB, A, ROOT)],
    ),
    scenario(
        "s23-mentions",
        "oneself never, others once, a mention before a quote and a reply",
        commit(BOB, C("post/1")),
        commit(CAROL, C("post/1")),
        commit(ALICE, C(
            "post/1", facets=mentions(ALICE, BOB, BOB, CAROL, DAN), reply=reply(ROOT),
            embed=quoting(R1),
        )),
        notification=[notified(did, ALICE, "mention", A) for did in (BOB, CAROL, DAN)],
    ),
    scenario(
        "s23-quote-of-an-ancestor",
        "a quote before a reply",
        commit(BOB, C("post/1")),
        commit(ALICE, C("post/1", reply=reply(ROOT), embed=quoting(ROOT))),
        notification=[notified(BOB, ALICE, "quote", A, ROOT)],
        post_agg=[counts(ROOT, replies=1, quotes=1)],
    ),
    scenario(
        "s24-six-hundred-mentions",
        "more than one statement of the reference holds",
        commit(ALICE, C("post/1", facets=mentions(*(f"did:plc:m{n}{MARK}" for n in range(600))))),
        notification=[
            notified(Actor(f"did:plc:m{n}{MARK}"), ALICE, "mention", A) for n in range(600)
        ],
    ),
    *(
        scenario(
            f"s30-own-thread-{name}",
            why,
            commit(ALICE, C("post/1"), C("post/other")),
            commit(ALICE, *ops),
            op_thread_reply=[
                {"rootUri": ALICE / f"post/{root}", "parentUri": parent, "uri": ALICE / "post/2",
                 "deleted": gone}
                for root, parent, gone in rows
            ],
        )
        for name, why, ops, rows in [
            ("reply", "a row, alive", [C("post/2", reply=reply(A))], [("1", A, False)]),
            ("deleted", "a tombstone", [C("post/2", reply=reply(A)), D("post/2")],
             [("1", A, True)]),
            ("updated", "a tombstone, though the post is there",
             [C("post/2", reply=reply(A)), U("post/2", reply=reply(A))], [("1", A, True)]),
            ("created-again", "a tombstone is not revived",
             [C("post/2", reply=reply(A)), D("post/2"), C("post/2", reply=reply(A))],
             [("1", A, True)]),
            ("moved", "a tombstone there, a row here",
             [C("post/2", reply=reply(A)), U("post/2", reply=reply(ALICE / "post/other"))],
             [("1", A, True), ("other", ALICE / "post/other", False)]),
            ("of-another", "only one's own thread", [C("post/2", reply=reply(ROOT))], []),
            ("by-handle", "a handle is not the DID",
             [C("post/2", reply=reply(A, f"at://{ALICE.handle}/app.bsky.feed.post/1"))], []),
            ("orphan", "the root need not exist",
             [C("post/2", reply=reply(ALICE / "post/none"))],
             [("none", ALICE / "post/none", False)]),
        ]
    ),
    scenario(
        "s30-own-thread-below-a-foreign-reply",
        "the root's host counts, not the parent's; commit by commit too",
        commit(ALICE, C("post/1")),
        commit(BOB, C("post/1", reply=reply(A))),
        commit(ALICE, C("post/2", reply=reply(ROOT, A))),
        commit(ALICE, D("post/2")),
        op_thread_reply=[
            {"rootUri": A, "parentUri": ROOT, "uri": ALICE / "post/2", "deleted": True}
        ],
    ),
    scenario(
        "s31-hidden-reply",
        "who stands above a hidden reply hears nothing from below it",
        commit(BOB, C("post/1"), C("threadgate/1", post=ROOT, hiddenReplies=[R1])),
        commit(CAROL, C("post/1", reply=reply(ROOT))),
        commit(DAN, C("post/1", reply=reply(R1, ROOT))),
        commit(ERIN, C("post/1", reply=reply(R2, ROOT))),
        notification=[
            answered(BOB, R1, ROOT), answered(CAROL, R2, R1), answered(DAN, R3, R2),
            answered(CAROL, R3, R1),
        ],
    ),
    scenario(
        "s31-hidden-reply-out-of-order",
        "the same when a reply between comes late",
        commit(BOB, C("post/1"), C("threadgate/1", post=ROOT, hiddenReplies=[R1])),
        commit(CAROL, C("post/1", reply=reply(ROOT))),
        commit(ERIN, C("post/1", reply=reply(R2, ROOT)), was=4),
        commit(DAN, C("post/1", reply=reply(R1, ROOT)), was=3),
        post=[flags(uri) for uri in (ROOT, R1, R2, R3)],
        notification=[
            answered(BOB, R1, ROOT), answered(CAROL, R2, R1), answered(DAN, R3, R2),
            answered(CAROL, R3, R1),
        ],
    ),
    scenario(
        "s31-own-reply-below-a-hidden-one-out-of-order",
        "nobody hears of himself",
        commit(BOB, C("post/1"), C("threadgate/1", post=ROOT, hiddenReplies=[R1])),
        commit(CAROL, C("post/1", reply=reply(ROOT))),
        commit(BOB, C("post/2", reply=reply(R2, ROOT)), was=4),
        commit(DAN, C("post/1", reply=reply(R1, ROOT)), was=3),
        notification=[
            answered(BOB, R1, ROOT), answered(CAROL, R2, R1), answered(DAN, BOB / "post/2", R2),
            answered(CAROL, BOB / "post/2", R1),
        ],
    ),
]  # fmt: skip
