"""What is posted, liked, reposted and served as a feed."""

from __future__ import annotations

from engine.collections.declare import (
    CREATED_AT,
    INDEXED_AT,
    Belongs,
    Collection,
    Column,
    Count,
    Embed,
    Notice,
    Notices,
    Role,
    Skip,
    Source,
    Table,
    blob,
    flag,
    plain,
    plain_json,
    record_key,
    text,
    texts,
)
from engine.core.wire import Reason


def _embed(kind: str, table: str, *columns: str, key: tuple[str, ...] = ()) -> Embed:
    """A side table of a post: its own uri, then what ``native/src/post.rs`` yields in order."""
    names = ("postUri", *columns)
    return Embed(
        kind,
        Table(table, tuple(Column(name, Source.EMBED) for name in names), ("postUri", *key)),
    )


POST = Collection(
    "app.bsky.feed.post",
    Table(
        "post",
        (
            *record_key(),
            text("text"),
            text("replyRoot", "reply.root.uri"),
            text("replyRootCid", "reply.root.cid"),
            text("replyParent", "reply.parent.uri"),
            text("replyParentCid", "reply.parent.cid"),
            texts("langs"),
            texts("tags"),
            CREATED_AT,
            INDEXED_AT,
            flag("invalidReplyRoot"),
            flag("violatesThreadGate"),
            flag("violatesEmbeddingRules"),
            flag("hasThreadGate"),
            flag("hasPostGate"),
        ),
    ),
    role=Role.POST,
    uris=("reply.root.uri",),
    embeds=(
        _embed("images", "post_embed_image", "position", "imageCid", "alt", key=("position",)),
        _embed(
            "gallery", "post_embed_gallery_image", "position", "imageCid", "alt", key=("position",)
        ),
        _embed("external", "post_embed_external", "uri", "title", "description", "thumbCid"),
        _embed("record", "post_embed_record", "embedUri", "embedCid", key=("embedUri",)),
        _embed("video", "post_embed_video", "videoCid", "alt"),
    ),
)

_SUBJECT = (
    text("subject", "subject.uri"),
    text("subjectCid", "subject.cid"),
    text("via", "via.uri"),
    text("viaCid", "via.cid"),
)

LIKE = plain(
    "app.bsky.feed.like",
    "like",
    *_SUBJECT,
    unique=("subject", "creator"),
    insert_uris=("subject.uri", "via.uri"),
    counts=(Count("post_agg", "likeCount", "subject"),),
    notices=Notices(
        (
            Notice("like", "subject.uri", own=Skip.ALL),
            Notice("like-via-repost", "via.uri", own=Skip.THIS),
        )
    ),
)

REPOST = plain(
    "app.bsky.feed.repost",
    "repost",
    *_SUBJECT,
    unique=("creator", "subject"),
    insert_uris=("subject.uri", "via.uri"),
    counts=(Count("post_agg", "repostCount", "subject"),),
    notices=Notices(
        (
            Notice("repost", "subject.uri", own=Skip.ALL),
            Notice("repost-via-repost", "via.uri", own=Skip.THIS),
        )
    ),
    role=Role.REPOST,
)

GENERATOR = plain(
    "app.bsky.feed.generator",
    "feed_generator",
    text("feedDid", "did"),
    text("displayName"),
    text("description"),
    plain_json("descriptionFacets"),
    blob("avatarCid", "avatar"),
)

_OWN_POST = Belongs("post", Reason.GATE_MISMATCH, same_rkey=True)

THREADGATE = plain(
    "app.bsky.feed.threadgate",
    "thread_gate",
    text("postUri", "post"),
    unique=("postUri",),
    belongs=_OWN_POST,
    role=Role.THREADGATE,
)

POSTGATE = plain(
    "app.bsky.feed.postgate",
    "post_gate",
    text("postUri", "post"),
    unique=("postUri",),
    belongs=_OWN_POST,
    role=Role.POSTGATE,
)

FEED = (POST, LIKE, REPOST, GENERATOR, THREADGATE, POSTGATE)
