"""Verdicts on replies and quotes, as of now."""

from __future__ import annotations

import json
from typing import Any

from tests.model import uris
from tests.model.store import Row, Tables

MENTION = "app.bsky.richtext.facet#mention"
DISABLED = "app.bsky.feed.postgate#disableRule"


def record(tables: Tables, uri: str) -> dict[str, Any] | None:
    row = tables.get("record", uri)
    return None if row is None else json.loads(row["json"])


def mentions(post: dict[str, Any]) -> list[str]:
    """DIDs that a post's facets mention, in order."""
    return [
        feature["did"]
        for facet in post.get("facets") or ()
        for feature in facet.get("features") or ()
        if feature.get("$type") == MENTION
    ]


def invalid_reply_root(tables: Tables, root: str, parent: str) -> bool:
    """Whether a reply to ``parent`` does not belong to the thread of ``root``."""
    held = record(tables, parent)
    if held is None:
        return True
    post = tables.get("post", parent)
    if post is not None and post["invalidReplyRoot"]:
        return True
    reply = held.get("reply")
    if parent == root:
        return bool(reply)
    return not isinstance(reply, dict) or reply["root"]["uri"] != root


def violates_thread_gate(tables: Tables, replier: str, root: str) -> bool:
    owner = uris.host(root)
    gate = record(tables, uris.threadgate_of(root))
    if owner == replier or gate is None or gate.get("allow") is None:
        return False
    for rule in gate["allow"]:
        match rule["$type"].removeprefix(f"{uris.THREADGATE}#"):
            case "mentionRule":
                allowed = replier in mentions(record(tables, root) or {})
            case "followerRule":
                allowed = bool(tables.where("follow", creator=replier, subjectDid=owner))
            case "followingRule":
                allowed = bool(tables.where("follow", creator=owner, subjectDid=replier))
            case "listRule":
                found = tables.where("list_item", listUri=rule["list"], subjectDid=replier)
                allowed = bool(found)
            case _:
                allowed = False
        if allowed:
            return False
    return True


def violates_embedding_rules(tables: Tables, quoter: str, quoted: str) -> bool:
    gate = record(tables, uris.postgate_of(quoted))
    if gate is None or uris.host(quoted) == quoter:
        return False
    return any(rule.get("$type") == DISABLED for rule in gate.get("embeddingRules") or ())


def hidden_replies(tables: Tables, post: Row) -> list[str]:
    """What the owner of the post's thread has hidden."""
    gate = record(tables, uris.threadgate_of(post["replyRoot"] or post["uri"]))
    return list((gate or {}).get("hiddenReplies") or ())
