"""Expected rows, each with the columns that tell it from others."""

from __future__ import annotations

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
