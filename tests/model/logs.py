"""Hand-made events: ``at`` is the instant of an event, in milliseconds, and orders revs too.

The order of application is the caller's: give a later ``at`` to what comes first, and the other
is late.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import libipld

from tests.collections.commits import cid_of, cid_text, tid
from tests.model.events import Commit, Event, Op
from tests.model.model import Model
from tests.model.store import Row

Record = dict[str, Any]

ALICE, BOB, CAROL, DAN = (f"did:plc:{letter * 24}" for letter in "abcd")
POST = "app.bsky.feed.post"
THREADGATE = "app.bsky.feed.threadgate"
POSTGATE = "app.bsky.feed.postgate"
LIKE = "app.bsky.feed.like"
REPOST = "app.bsky.feed.repost"
FOLLOW = "app.bsky.graph.follow"

CREATED = {"createdAt": "2026-11-21T17:00:00.000Z"}
_START = datetime(2026, 11, 21, 18, tzinfo=UTC)
_CID = cid_text(cid_of(b"whatever"))


def time(at: int) -> str:
    """T of the instant ``at``."""
    text = (_START + timedelta(milliseconds=at)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def uri(did: str, rkey: str, nsid: str = POST) -> str:
    return f"at://{did}/{nsid}/{rkey}"


def ref(to: str, cid: str = _CID) -> Record:
    return {"uri": to, "cid": cid}


def post(
    parent: str | None = None,
    root: str | None = None,
    *,
    quote: str | None = None,
    mention: Sequence[str] = (),
    text: str = "text",
) -> Record:
    """A post; with a parent a reply, whose root is the parent unless given."""
    found: Record = {"$type": POST, "text": text, **CREATED}
    if parent:
        found["reply"] = {"parent": ref(parent), "root": ref(root or parent)}
    if quote:
        found["embed"] = {"$type": "app.bsky.embed.record", "record": ref(quote)}
    if mention:
        features = [{"$type": "app.bsky.richtext.facet#mention", "did": did} for did in mention]
        index = {"byteStart": 0, "byteEnd": 1}
        found["facets"] = [{"index": index, "features": features}]
    return found


def threadgate(
    of: str, allow: Iterable[str | Record] | None = None, hidden: Sequence[str] = ()
) -> Record:
    """A gate; rules by the last word of their type, or whole."""
    found: Record = {"$type": THREADGATE, "post": of, "hiddenReplies": list(hidden), **CREATED}
    if allow is not None:
        found["allow"] = [
            {"$type": f"{THREADGATE}#{rule}"} if isinstance(rule, str) else rule for rule in allow
        ]
    return found


def postgate(of: str) -> Record:
    rules = [{"$type": f"{POSTGATE}#disableRule"}]
    return {"$type": POSTGATE, "post": of, "embeddingRules": rules, **CREATED}


def subject(nsid: str, to: str, via: str | None = None) -> Record:
    found: Record = {"$type": nsid, "subject": ref(to), **CREATED}
    return found | ({"via": ref(via)} if via else {})


def follow(did: str) -> Record:
    return {"$type": FOLLOW, "subject": did, **CREATED}


def put(did: str, rkey: str, record: Record, at: int, action: str = "create") -> Commit:
    """A commit of one op, of the record's own collection."""
    block = libipld.encode_dag_cbor(record)
    op = Op(action, f"{record['$type']}/{rkey}", cid_text(cid_of(block)), block)
    return commit(did, [op], at)


def drop(did: str, rkey: str, at: int, nsid: str = POST) -> Commit:
    return commit(did, [Op("delete", f"{nsid}/{rkey}")], at)


def commit(did: str, ops: list[Op], at: int) -> Commit:
    return Commit(did, at, time(at), rev=tid(at), cid=_CID, ops=ops)


def applied(events: Iterable[Event], mutes: Iterable[tuple[str, str]] = ()) -> Model:
    model = Model(mutes)
    for event in events:
        model.apply(event)
    return model


def row(model: Model, table: str, key: str, column: str = "uri") -> Row:
    """The one row with this key."""
    (found,) = [row for row in model.tables()[table] if row[column] == key]
    return found


def told(model: Model, record: str) -> set[tuple[str, str, str | None]]:
    """(recipient, reason, subject) of what a record told; each once."""
    rows = [row for row in model.tables()["notification"] if row["recordUri"] == record]
    found = {(row["did"], row["reason"], row["reasonSubject"]) for row in rows}
    assert len(found) == len(rows)
    return found
