"""The row of a collection's own table, from a valid record."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from engine.core import codec
from tests.model import uris
from tests.model.store import NOW, Row, sort_at


@dataclass(frozen=True)
class Written:
    """A record as an op brings it, or as the record table holds it."""

    uri: str
    cid: str
    time: str  # T
    record: dict[str, Any]
    json: str

    @property
    def did(self) -> str:
        return uris.host(self.uri)

    @property
    def rkey(self) -> str:
        return uris.rkey(self.uri)


def created_at(written: Written) -> str:
    normal = codec.normalize_datetime(written.record["createdAt"])
    assert normal is not None, "validated before"
    return normal


def blob(value: dict[str, Any] | None) -> str | None:
    return value["ref"]["$link"] if value else None


def plain_json(value: Any) -> str | None:
    """What JSON.stringify makes of a decoded value: links and bytes look otherwise there."""
    if value is None:
        return None
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    match value:
        case {"$link": str(cid)} if len(value) == 1:
            return {"/": cid}
        case {"$bytes": str(text)} if len(value) == 1:
            data = base64.b64decode(text + "=" * (-len(text) % 4))
            return {str(place): byte for place, byte in enumerate(data)}
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
    return value


def _ref(record: dict[str, Any], name: str, part: str) -> Any:
    return (record.get(name) or {}).get(part)


def _columns(table: str, written: Written) -> Row:
    record = written.record
    match table:
        case "like" | "repost":
            return {
                "subject": record["subject"]["uri"],
                "subjectCid": record["subject"]["cid"],
                "via": _ref(record, "via", "uri"),
                "viaCid": _ref(record, "via", "cid"),
            }
        case "follow" | "actor_block":
            return {"subjectDid": record["subject"]}
        case "list_block":
            return {"subjectUri": record["subject"]}
        case "list_item":
            return {"subjectDid": record["subject"], "listUri": record["list"]}
        case "list":
            return {
                "name": record["name"],
                "purpose": record["purpose"],
                "description": record.get("description"),
                "descriptionFacets": plain_json(record.get("descriptionFacets")),
                "avatarCid": blob(record.get("avatar")),
            }
        case "feed_generator":
            return {
                "feedDid": record["did"],
                "displayName": record.get("displayName"),
                "description": record.get("description"),
                "descriptionFacets": plain_json(record.get("descriptionFacets")),
                "avatarCid": blob(record.get("avatar")),
            }
        case "starter_pack":
            return {"name": record["name"]}
        case "labeler":
            return {}
        case "thread_gate" | "post_gate":
            return {"postUri": record["post"]}
        case "verification":
            return {
                "rkey": written.rkey,
                "subject": record["subject"],
                "handle": record["handle"],
                "displayName": record["displayName"],
            }
        case "post":
            reply = record.get("reply") or {}
            return {
                "text": record["text"],
                "replyRoot": _ref(reply, "root", "uri"),
                "replyRootCid": _ref(reply, "root", "cid"),
                "replyParent": _ref(reply, "parent", "uri"),
                "replyParentCid": _ref(reply, "parent", "cid"),
                "langs": record.get("langs") or None,
                "tags": record.get("tags") or None,
                "invalidReplyRoot": None,
                "violatesThreadGate": None,
                "violatesEmbeddingRules": None,
                "hasThreadGate": None,
                "hasPostGate": None,
            }
    raise AssertionError(table)


def row_of(table: str, written: Written) -> Row:
    """All columns, generated ones included."""
    row = {
        "uri": written.uri,
        "cid": written.cid,
        "creator": written.did,
        "indexedAt": written.time,
    }
    record = written.record
    if table == "profile":
        return row | {
            "displayName": record.get("displayName"),
            "description": record.get("description"),
            "avatarCid": blob(record.get("avatar")),
            "bannerCid": blob(record.get("banner")),
            "joinedViaStarterPackUri": _ref(record, "joinedViaStarterPack", "uri"),
            "createdAt": record.get("createdAt", NOW),
            "pinnedPost": None,
            "pinnedPostCid": None,
        }
    row |= {"createdAt": created_at(written), **_columns(table, written)}
    if table in ("thread_gate", "post_gate"):
        return row
    return row | {"sortedAt" if table == "verification" else "sortAt": sort_at(row)}
