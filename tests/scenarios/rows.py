"""Expected rows, each with the columns that tell it from others; and the comparison."""

from __future__ import annotations

import json
from collections import Counter

from tests.scenarios.dsl import CREATED, Record


def notified(
    did: str, author: str, reason: str, record: str, subject: str | None = None, at: str = CREATED
) -> Record:
    """A row of ``notification``."""
    return {
        "did": did, "author": author, "reason": reason, "recordUri": record,
        "reasonSubject": subject, "sortAt": at,
    }  # fmt: skip


def counts(
    uri: str, *, likes: int = 0, replies: int = 0, reposts: int = 0, quotes: int = 0
) -> Record:
    """A row of ``post_agg``."""
    return {
        "uri": uri, "likeCount": likes, "replyCount": replies,
        "repostCount": reposts, "quoteCount": quotes,
    }  # fmt: skip


def people(did: str, *, followers: int = 0, follows: int = 0, posts: int = 0) -> Record:
    """A row of ``profile_agg``."""
    return {"did": did, "followersCount": followers, "followsCount": follows, "postsCount": posts}


def item(uri: str, post: str | None = None, at: str = CREATED) -> Record:
    """A row of ``feed_item``; with ``post`` it is a repost of that."""
    who = uri.removeprefix("at://").partition("/")[0]
    kind = "repost" if post else "post"
    return {
        "uri": uri, "type": kind, "postUri": post or uri, "originatorDid": who, "sortAt": at,
    }  # fmt: skip


def flags(uri: str, root: bool | None = None, gate: bool | None = None) -> Record:
    """A row of ``post``: is the root invalid, is the thread's gate violated."""
    return {"uri": uri, "invalidReplyRoot": root, "violatesThreadGate": gate}


def uris(*found: str) -> list[Record]:
    """Rows of which only the uri matters."""
    return [{"uri": uri} for uri in found]


def loser(uri: str, winner: str) -> Record:
    """A row of ``duplicate_record``."""
    return {"uri": uri, "duplicateOf": winner}


def differences(what: str, expected: list[Record], got: list[Record]) -> list[str]:
    """Which rows are missing and which too many, by the columns that are expected.

    Two values are the wall clock's: of a tombstone's time it counts whether it has one, and
    when a verification was found to be gone does not count.
    """
    names = list(expected[0]) if expected else []
    assert all(list(row) == names for row in expected), f"columns of {what} vary"
    seen = [_without_clock(row) for row in got]
    want = Counter(map(repr, expected))
    have = Counter(repr({name: row[name] for name in names} if names else row) for row in seen)
    return [f"{what}: missing {row}" for row in sorted((want - have).elements())] + [
        f"{what}: extra {row}" for row in sorted((have - want).elements())
    ]


def _without_clock(row: Record) -> Record:
    shown = {name: json.dumps(v) if isinstance(v, list) else v for name, v in row.items()}
    if "deletedAt" in shown:
        shown["deleted"] = shown.pop("deletedAt") is not None
    if shown.get("reason") == "unverified":
        shown["sortAt"] = "*"
    return shown
