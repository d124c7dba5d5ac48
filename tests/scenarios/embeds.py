"""Entries 25 to 29: embeds, quotes, and what deletes and updates of posts take with them."""

from __future__ import annotations

from typing import Any

from tests.scenarios.dsl import (
    ALICE,
    BOB,
    CAROL,
    DAN,
    ERIN,
    C,
    D,
    Record,
    Scenario,
    T,
    U,
    blob,
    blob_cid,
    cid,
    commit,
    mentions,
    op_cid,
    quoting,
    ref,
    reply,
    scenario,
)
from tests.scenarios.rows import counts, flags, item, notified, people, uris

A, B, R1, R2, R3 = (each / "post/1" for each in (ALICE, BOB, CAROL, DAN, ERIN))
RATIO = {"width": 1, "height": 1}


def image(name: str, **fields: Any) -> Record:
    return {"image": blob(name), "alt": name, **fields}


def images(*names: str) -> Record:
    return {"$type": "app.bsky.embed.images", "images": [image(name) for name in names]}


def gallery(*items: Record) -> Record:
    return {"$type": "app.bsky.embed.gallery", "items": list(items)}


def shown(name: str) -> Record:
    return image(name, **{"$type": "app.bsky.embed.gallery#image"}, aspectRatio=RATIO)


def external(**fields: Any) -> Record:
    page = {"uri": "https://a.test/", "title": "t", "description": "d"} | fields
    return {"$type": "app.bsky.embed.external", "external": page}


def video(**fields: Any) -> Record:
    return {"$type": "app.bsky.embed.video", "video": blob("film", "video/mp4")} | fields


def both(media: Record) -> Record:
    """A quote of B and something else."""
    kind = {"$type": "app.bsky.embed.recordWithMedia"}
    return kind | {"record": {"record": ref(B)}, "media": media}


def quoted(uri: str, subject: str, named: str = "x") -> Record:
    """A row of ``quote``."""
    return {"uri": uri, "subject": subject, "subjectCid": cid(named)}


def embedded(uri: str, subject: str, named: str = "x") -> Record:
    """A row of ``post_embed_record``."""
    return {"postUri": uri, "embedUri": subject, "embedCid": cid(named)}


def rows_of(*names: str) -> list[Record]:
    return [
        {"postUri": A, "position": str(place), "imageCid": blob_cid(name), "alt": name}
        for place, name in enumerate(names)
        if name
    ]


PAGE = {"postUri": A, "uri": "https://a.test/", "title": "t", "description": "d"}
THUMB = {"thumbCid": blob_cid("thumb")}
FILM = {"postUri": A, "videoCid": blob_cid("film")}
QUOTE_OF_B: dict[str, list[Record]] = {
    "quote": [quoted(A, B)], "post_embed_record": [embedded(A, B)],
    "post_agg": [counts(B, quotes=1)], "notification": [notified(BOB, ALICE, "quote", A, B)],
}  # fmt: skip
NO_EMBEDS: dict[str, list[Record]] = {
    "post_embed_image": [], "post_embed_gallery_image": [], "post_embed_external": [],
    "post_embed_video": [], "post_embed_record": [],
}  # fmt: skip

FULL = (
    # A post with everything that hangs on it: the first seven events.
    commit(BOB, C("post/1", text="old", facets=mentions(ERIN))),
    commit(BOB, C("threadgate/1", post=B), C("postgate/1", post=B)),
    commit(ALICE, C("like/1", subject=ref(B))),
    commit(CAROL, C("repost/1", subject=ref(B))),
    commit(DAN, C("post/1", reply=reply(B))),
    commit(ERIN, C("post/1", embed=quoting(B))),
)
HEARD = [
    notified(BOB, ALICE, "like", ALICE / "like/1", B),
    notified(BOB, CAROL, "repost", CAROL / "repost/1", B),
    notified(BOB, DAN, "reply", R2, B),
    notified(BOB, ERIN, "quote", R3, B),
]
COUNTED = [counts(B, likes=1, reposts=1, replies=1, quotes=1)]

EMBEDS: list[Scenario] = [
    *(
        scenario(
            f"s25-embed-{name}", why, commit(ALICE, C("post/1", embed=embed)),
            post=uris(A), feed_item=[item(A)], **(NO_EMBEDS | rows),
        )
        for name, why, embed, rows in [
            ("one-image", "positions are text", images("a"), {"post_embed_image": rows_of("a")}),
            ("four-images", "in order", images("a", "b", "c", "d"),
             {"post_embed_image": rows_of("a", "b", "c", "d")}),
            ("no-image", "the post is kept", images(), {}),
            ("gallery", "unknown items leave their position free",
             gallery(shown("a"), {"$type": "com.example.item"}, shown("c")),
             {"post_embed_gallery_image": rows_of("a", "", "c")}),
            ("empty-gallery", "no rows", gallery(), {}),
            ("external", "no thumb", external(),
             {"post_embed_external": [PAGE | {"thumbCid": None}]}),
            ("thumb", "its CID", external(thumb=blob("thumb")),
             {"post_embed_external": [PAGE | THUMB]}),
            ("video", "no alt", video(), {"post_embed_video": [FILM | {"alt": None}]}),
            ("video-with-alt", "its alt", video(alt="words"),
             {"post_embed_video": [FILM | {"alt": "words"}]}),
            ("unknown", "ignored", {"$type": "com.example.embed", "images": 1}, {}),
            ("both-images", "quote and images", both(images("a")),
             QUOTE_OF_B | {"post_embed_image": rows_of("a")}),
            ("both-no-image", "quote", both(images()), QUOTE_OF_B),
            ("both-gallery", "quote and gallery", both(gallery(shown("a"))),
             QUOTE_OF_B | {"post_embed_gallery_image": rows_of("a")}),
            ("both-external", "quote and page", both(external(thumb=blob("thumb"))),
             QUOTE_OF_B | {"post_embed_external": [PAGE | THUMB]}),
            ("both-video", "quote and film", both(video(alt="words")),
             QUOTE_OF_B | {"post_embed_video": [FILM | {"alt": "words"}]}),
            ("both-unknown", "the quote alone", both({"$type": "com.example.embed"}), QUOTE_OF_B),
            ("both-record", "a second record; one post has one quote row",
             both(quoting(R1, "y")),
             QUOTE_OF_B | {
                 "post_embed_record": [embedded(A, B), embedded(A, R1, "y")],
                 "post_agg": [counts(B, quotes=1), counts(R1, quotes=0)],
                 "notification": [
                     notified(BOB, ALICE, "quote", A, B), notified(CAROL, ALICE, "quote", A, R1),
                 ],
             }),
        ]
    ),
    scenario(
        "s26-quote",
        "row, count and notification",
        commit(BOB, C("post/1")),
        commit(ALICE, C("post/1", embed=quoting(B))),
        **QUOTE_OF_B,
        post=[{"uri": uri, "violatesEmbeddingRules": None} for uri in (A, B)],
    ),
    scenario(
        "s26-quotes-by-the-right-and-by-a-wrong-cid",
        "the count is of what was named last, right or not",
        commit(BOB, C("post/1")),
        commit(ALICE, C("post/1", embed=quoting(B))),
        commit(CAROL, C("post/1", embed=quoting(B) | {"record": {"uri": B, "cid": op_cid(1)}})),
        commit(DAN, C("post/1", embed=quoting(B))),
        post_agg=[counts(B, quotes=2)],
        quote=[
            {"uri": A, "subjectCid": cid()}, {"uri": R1, "subjectCid": op_cid(1)},
            {"uri": R2, "subjectCid": cid()},
        ],
    ),
    scenario(
        "s26-quote-of-unknown-post",
        "as if it were there",
        commit(ALICE, C("post/1", embed=quoting(B))),
        **QUOTE_OF_B,
    ),
    scenario(
        "s26-quote-of-own-post",
        "counted, and nobody hears of it",
        commit(ALICE, C("post/1"), C("post/2", embed=quoting(A))),
        quote=[quoted(ALICE / "post/2", A)],
        post_agg=[counts(A, quotes=1)],
        notification=[],
    ),
    scenario(
        "s26-quote-of-a-list",
        "an embed of something else is no quote",
        commit(ALICE, C("post/1", embed=quoting(BOB / "list/1"))),
        post_embed_record=[embedded(A, BOB / "list/1")],
        quote=[], post_agg=[], notification=[],
    ),
    scenario(
        "s26-two-quotes-with-different-cids",
        "the count is of the CID that was quoted last",
        commit(BOB, C("post/1")),
        commit(ALICE, C("post/1", embed=quoting(B, "one"))),
        commit(CAROL, C("post/1", embed=quoting(B, "two"))),
        quote=[quoted(A, B, "one"), quoted(R1, B, "two")],
        post_agg=[counts(B, quotes=1)],
    ),
    scenario(
        "s26-two-posts-of-one-cid",
        "quotes of both count for the second",
        commit(ALICE, C("post/1", embed=quoting(B, "same"))),
        commit(DAN, C("post/1", embed=quoting(R1, "same"))),
        quote=[quoted(A, B, "same"), quoted(R2, R1, "same")],
        post_agg=[counts(B, quotes=1), counts(R1, quotes=2)],
    ),
    *(
        scenario(
            f"s27-quoted-post-{name}",
            "the quote's row goes, its count and its embed stay",
            commit(BOB, C("post/1")),
            commit(ALICE, C("post/1", embed=quoting(B))),
            commit(BOB, op),
            quote=[], post_embed_record=[embedded(A, B)], post_agg=[counts(B, quotes=1)],
            notification=[notified(BOB, ALICE, "quote", A, B)],
        )
        for name, op in [("deleted", D("post/1")), ("updated", U("post/1", text="new"))]
    ),
    *(
        scenario(
            f"s27-quoted-post-{name}-then-the-quote-deleted",
            "now it is counted again",
            commit(BOB, C("post/1")),
            commit(ALICE, C("post/1", embed=quoting(B))),
            commit(BOB, op),
            commit(ALICE, D("post/1")),
            quote=[], post_embed_record=[], post_agg=[counts(B)], notification=[],
        )
        for name, op in [("deleted", D("post/1")), ("updated", U("post/1", text="new"))]
    ),
    scenario(
        "s27-quote-deleted",
        "one of two goes",
        commit(ALICE, C("post/1", embed=quoting(B))),
        commit(CAROL, C("post/1", embed=quoting(B))),
        commit(ALICE, D("post/1")),
        quote=[quoted(R1, B)], post_agg=[counts(B, quotes=1)],
        notification=[notified(BOB, CAROL, "quote", R1, B)],
    ),
    scenario(
        "s28-delete-of-a-full-post",
        "others' feed items and quotes go with it, what they said of it stays",
        *FULL,
        commit(BOB, D("post/1")),
        post=[flags(R2), flags(R3)],
        like=uris(ALICE / "like/1"), repost=uris(CAROL / "repost/1"),
        feed_item=[item(R2), item(R3)],
        quote=[], post_embed_record=[embedded(R3, B)],
        thread_gate=uris(BOB / "threadgate/1"), post_gate=uris(BOB / "postgate/1"),
        post_agg=COUNTED, notification=HEARD,
        profile_agg=[people(BOB), people(DAN, posts=1), people(ERIN, posts=1)],
    ),
    scenario(
        "s28-delete-of-a-post-never-seen",
        "what hangs on it goes all the same",
        commit(CAROL, C("repost/1", subject=ref(B))),
        commit(ERIN, C("post/1", embed=quoting(B))),
        commit(BOB, D("post/1")),
        repost=uris(CAROL / "repost/1"), feed_item=[item(R3)],
        quote=[], post_embed_record=[embedded(R3, B)],
        post_agg=[counts(B, reposts=1, quotes=1)],
        profile_agg=[people(ERIN, posts=1)],
        notification=[
            notified(BOB, CAROL, "repost", CAROL / "repost/1", B),
            notified(BOB, ERIN, "quote", R3, B),
        ],
    ),
    scenario(
        "s28-update-of-a-post-never-seen",
        "what hangs on it goes, the post comes",
        commit(CAROL, C("repost/1", subject=ref(B))),
        commit(ERIN, C("post/1", embed=quoting(B))),
        commit(BOB, U("post/1", text="new")),
        post=[{"uri": R3, "text": ""}, {"uri": B, "text": "new"}],
        repost=uris(CAROL / "repost/1"), feed_item=[item(R3), item(B)],
        quote=[], post_agg=[counts(B, reposts=1, quotes=1)],
        profile_agg=[people(ERIN, posts=1), people(BOB, posts=1)],
    ),
    scenario(
        "s28-repost-after-an-update-of-a-post-never-seen",
        "what comes afterwards stays",
        commit(BOB, U("post/1", text="new")),
        commit(CAROL, C("repost/1", subject=ref(B))),
        feed_item=[item(B), item(CAROL / "repost/1", B)],
    ),
    scenario(
        "s29-update-of-a-full-post",
        "as a delete, then the post anew: without its gates' flags, and telling again",
        *FULL,
        commit(BOB, U("post/1", text="new", facets=mentions(ERIN))),
        post=[
            {"uri": uri, "text": text, "indexedAt": at, "hasThreadGate": None, "hasPostGate": None}
            for uri, text, at in [(B, "new", T(7)), (R2, "", T(5)), (R3, "", T(6))]
        ],
        feed_item=[item(B), item(R2), item(R3)],
        like=uris(ALICE / "like/1"), repost=uris(CAROL / "repost/1"),
        quote=[], post_embed_record=[embedded(R3, B)],
        post_agg=COUNTED, notification=[*HEARD, notified(ERIN, BOB, "mention", B)],
        profile_agg=[people(BOB, posts=1), people(DAN, posts=1), people(ERIN, posts=1)],
    ),
    scenario(
        "s29-update-of-parent-root-and-embed",
        "the old version's rows, counts and notifications go, the new one's come",
        commit(BOB, C("post/1")),
        commit(CAROL, C("post/1")),
        commit(ALICE, C("post/1", reply=reply(B), embed=external())),
        commit(ALICE, U("post/1", reply=reply(R1), embed=quoting(R2))),
        post=[flags(B), flags(R1), flags(A)],
        post_agg=[counts(B), counts(R1, replies=1), counts(R2, quotes=1)],
        quote=[quoted(A, R2)],
        notification=[
            notified(DAN, ALICE, "quote", A, R2), notified(CAROL, ALICE, "reply", A, R1),
        ],
        **(NO_EMBEDS | {"post_embed_record": [embedded(A, R2)]}),
    ),
    scenario(
        "s29-update-judges-again",
        "flags are as of the update",
        commit(ALICE, C("post/1", reply=reply(B))),
        commit(BOB, C("post/1")),
        commit(ALICE, U("post/1", reply=reply(B))),
        post=[flags(A), flags(B)],
        notification=[notified(BOB, ALICE, "reply", A, B)],
        post_agg=[counts(B, replies=1)],
    ),
    scenario(
        "s29-updated-twice",
        "the last version's rows; a quote that is gone counts no more",
        commit(ALICE, C("post/1", embed=quoting(B, "one"))),
        commit(ALICE, U("post/1", embed=quoting(R1, "two")), U("post/1", text="plain")),
        post=[{"uri": A, "text": "plain", "indexedAt": T(2)}],
        feed_item=[item(A)], quote=[], post_agg=[counts(B), counts(R1)], notification=[],
        profile_agg=[people(ALICE, posts=1)],
        **NO_EMBEDS,
    ),
]  # fmt: skip
