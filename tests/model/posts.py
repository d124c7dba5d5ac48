"""Posts: the one collection whose record becomes rows of many tables."""

from __future__ import annotations

import json
from typing import Any

from engine.core import codec
from tests.model import aggregates, gates, uris
from tests.model.notifications import notification
from tests.model.rows import Written, blob, row_of
from tests.model.store import NOW, Rejected, Row, Tables

DEPTH = 5
"""Ancestors from this height on are not told of a reply."""

_IMAGES = "app.bsky.embed.images"
_GALLERY = "app.bsky.embed.gallery"
_EXTERNAL = "app.bsky.embed.external"
_RECORD = "app.bsky.embed.record"
_WITH_MEDIA = "app.bsky.embed.recordWithMedia"
_VIDEO = "app.bsky.embed.video"
_SIDES = (
    "post_embed_image", "post_embed_gallery_image", "post_embed_external",
    "post_embed_record", "post_embed_video",
)  # fmt: skip


def insert(tables: Tables, written: Written) -> Row | None:
    """The post's rows, with its verdicts as of now; None if the post is there already."""
    post = row_of("post", written)
    inserted = tables.insert("post", post)
    item = {
        "uri": post["uri"],
        "cid": post["cid"],
        "type": "post",
        "postUri": post["uri"],
        "originatorDid": post["creator"],
        "sortAt": post["sortAt"],
    }
    tables.insert("feed_item", item)
    if not inserted:
        return None
    if written.record.get("reply"):
        _insert_reply(tables, post)
    for embed in _separate(written.record.get("embed")):
        _insert_embed(tables, post, embed)
    return tables.get("post", post["uri"])


def _insert_reply(tables: Tables, post: Row) -> None:
    root, parent = post["replyRoot"], post["replyParent"]
    judge(tables, post, reply=True, gate=True)
    if parent and uris.host(root) == post["creator"]:
        row = {"rootUri": root, "parentUri": parent, "uri": post["uri"], "deletedAt": None}
        tables.insert("op_thread_reply", row)


def judge(tables: Tables, post: Row, *, reply: bool, gate: bool) -> Row:
    """Pass these verdicts on a reply anew; both columns are NULL unless one is true."""
    root = post["replyRoot"]
    invalid, violates = post["invalidReplyRoot"], post["violatesThreadGate"]
    if reply:
        invalid = gates.invalid_reply_root(tables, root, post["replyParent"])
    if gate:
        violates = gates.violates_thread_gate(tables, post["creator"], root)
    flags = (bool(invalid), bool(violates)) if invalid or violates else (None, None)
    return tables.update("post", post, invalidReplyRoot=flags[0], violatesThreadGate=flags[1])


def _separate(embed: dict[str, Any] | None) -> list[dict[str, Any]]:
    if embed is None:
        return []
    if embed["$type"] == _WITH_MEDIA:
        return [{"$type": _RECORD, **embed["record"]}, embed["media"]]
    return [embed]


def _insert_embed(tables: Tables, post: Row, embed: dict[str, Any]) -> None:
    uri = post["uri"]
    match embed["$type"]:
        case kind if kind in (_IMAGES, _GALLERY):
            table = "post_embed_image" if kind == _IMAGES else "post_embed_gallery_image"
            for position, image in enumerate(embed["images" if kind == _IMAGES else "items"]):
                if kind == _GALLERY and image["$type"] != f"{_GALLERY}#image":
                    continue
                row = {"postUri": uri, "position": str(position), "alt": image["alt"]}
                tables.insert(table, row | {"imageCid": blob(image["image"])})
        case kind if kind == _EXTERNAL:
            external = embed["external"]
            row = {name: external[name] for name in ("uri", "title", "description")}
            row |= {"postUri": uri, "thumbCid": blob(external.get("thumb"))}
            tables.insert("post_embed_external", row)
        case kind if kind == _VIDEO:
            row = {"postUri": uri, "videoCid": blob(embed["video"]), "alt": embed.get("alt")}
            tables.insert("post_embed_video", row)
        case kind if kind == _RECORD and _is_record_embed(embed):
            _insert_quote(tables, post, embed["record"]["uri"], embed["record"]["cid"])


def _is_record_embed(embed: dict[str, Any]) -> bool:
    """Media of an unknown type may be anything; here it is checked after all."""
    reference = embed.get("record")
    return (
        isinstance(reference, dict)
        and reference.get("$type", "com.atproto.repo.strongRef") == "com.atproto.repo.strongRef"
        and isinstance(reference.get("uri"), str)
        and isinstance(reference.get("cid"), str)
        and codec.check_syntax("at-uri", reference["uri"])
        and codec.check_syntax("cid", reference["cid"])
    )


def _insert_quote(tables: Tables, post: Row, uri: str, cid: str) -> None:
    is_post = uris.collection(uri) == uris.POST
    if not tables.insert(
        "post_embed_record", {"postUri": post["uri"], "embedUri": uri, "embedCid": cid}
    ):
        raise Rejected("a post embeds a record twice")
    if not is_post:
        return
    quote = {name: post[name] for name in ("uri", "cid", "createdAt", "indexedAt", "sortAt")}
    tables.insert("quote", quote | {"subject": uri, "subjectCid": cid})
    aggregates.quotes(tables, uri, cid)
    judge_quote(tables, post["uri"])


def judge_quote(tables: Tables, uri: str) -> Row:
    """Whether a post quotes what must not be quoted: true or NULL."""
    post = tables.get("post", uri)
    assert post is not None
    violates = any(
        gates.violates_embedding_rules(tables, post["creator"], quoted)
        for quoted in quotes(tables, uri)
    )
    return tables.update("post", post, violatesEmbeddingRules=violates or None)


def quotes(tables: Tables, uri: str) -> list[str]:
    """The posts that a post embeds."""
    embeds = tables.where("post_embed_record", postUri=uri)
    return [
        row["embedUri"] for row in embeds if uris.collection(row["embedUri"]) == uris.POST
    ]  # fmt: skip


def delete(tables: Tables, uri: str) -> Row | None:
    """Remove a post, others' feed items and quotes of it, whether it is there or not."""
    deleted = tables.delete_where("post", uri=uri)
    tables.delete_where("feed_item", postUri=uri)
    for row in tables.where("op_thread_reply", uri=uri):
        tables.update("op_thread_reply", row, deletedAt=NOW)
    tables.delete_where("quote", subject=uri)
    embedded = tables.where("post_embed_record", postUri=uri)
    for table in _SIDES:
        tables.delete_where(table, postUri=uri)
    if embedded and uris.collection(embedded[0]["embedUri"]) == uris.POST:
        tables.delete_where("quote", uri=uri)
        aggregates.quotes(tables, embedded[0]["embedUri"], embedded[0]["embedCid"])
    return deleted[0] if deleted else None


def ancestors(tables: Tables, post: Row) -> list[tuple[int, str]]:
    """(height, uri) of the parents that exist, nearest first, without the post itself."""
    found: list[tuple[int, str]] = []
    at: Row | None = post
    while at is not None and at["replyParent"] and len(found) < DEPTH:
        at = tables.get("post", at["replyParent"])
        if at is not None:
            found.append((len(found) + 1, at["uri"]))
    return found


def descendants(tables: Tables, uri: str) -> list[tuple[int, Row]]:
    """(depth, post) of the replies that exist, nearest first."""
    found: list[tuple[int, Row]] = []
    level = [uri]
    for depth in range(1, DEPTH + 1):
        rows = [row for parent in level for row in tables.where("post", replyParent=parent)]
        found += [(depth, row) for row in rows]
        level = [row["uri"] for row in rows]
    return found


class _Told:
    """Notifications of one insert: no recipient twice."""

    def __init__(self, post: Row) -> None:
        self.rows: list[Row] = []
        self._seen = {post["creator"]}

    def tell(self, did: str, reason: str, about: Row, subject: str | None = None) -> None:
        if did not in self._seen:
            self._seen.add(did)
            self.rows.append(notification(did, reason, about, subject))


def notifications(tables: Tables, post: Row) -> list[Row]:
    """Whom the post itself tells, as of now."""
    return _own(tables, post).rows


def notifications_of_insert(tables: Tables, post: Row, late: set[str]) -> list[Row]:
    """Those, and what replies that were here before now tell ancestors above.

    ``late`` are replies that will be judged again for themselves.
    """
    told = _own(tables, post)
    if post["violatesThreadGate"]:
        return told.rows
    for depth, reply in descendants(tables, post["uri"]):
        if reply["uri"] in late:
            continue
        for height, uri in [(0, post["uri"]), *ancestors(tables, post)]:
            if depth + height < DEPTH:
                told.tell(uris.host(uri), "reply", reply, uri)
    return told.rows


def _own(tables: Tables, post: Row) -> _Told:
    told = _Told(post)
    held = tables.get("record", post["uri"])
    for did in gates.mentions(json.loads(held["json"])) if held else []:
        told.tell(did, "mention", post)
    quoted = quotes(tables, post["uri"])
    # The verdict on the last one decides for all, whatever the row says.
    if quoted and not gates.violates_embedding_rules(tables, post["creator"], quoted[-1]):
        for uri in quoted:
            told.tell(uris.host(uri), "quote", post, uri)
    if post["violatesThreadGate"]:
        return told
    hidden = gates.hidden_replies(tables, post)
    for height, uri in ancestors(tables, post):
        if uri == post["uri"] or height >= DEPTH:
            continue
        told.tell(uris.host(uri), "reply", post, uri)
        if uri in hidden:
            break
    return told
