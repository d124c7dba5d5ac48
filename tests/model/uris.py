"""Taking at-uris apart as the reference does."""

from __future__ import annotations

import re

from tests.model.store import Rejected

POST = "app.bsky.feed.post"
THREADGATE = "app.bsky.feed.threadgate"
POSTGATE = "app.bsky.feed.postgate"

_URI = re.compile(
    r"at://(did:[a-z0-9:%-]+|[a-z0-9][a-z0-9.:-]*)(/[^?#\s]*)?(\?[^#\s]+)?(#\S+)?",
    re.IGNORECASE | re.ASCII,
)


def _parts(uri: str) -> tuple[str, list[str]]:
    match = _URI.fullmatch(uri)
    if match is None:
        raise Rejected("uri that cannot be taken apart")
    return match[1], [*(match[2] or "").split("/")[1:], "", ""]


def host(uri: str) -> str:
    """The authority: a DID, or a handle where the writer put one."""
    return _parts(uri)[0]


def collection(uri: str) -> str:
    return _parts(uri)[1][0]


def rkey(uri: str) -> str:
    return _parts(uri)[1][1]


def threadgate_of(root: str) -> str:
    """Where the gate of a thread is; a root that is no post is its own gate."""
    return root.replace(f"/{POST}/", f"/{THREADGATE}/", 1) if collection(root) == POST else root


def postgate_of(post: str) -> str:
    return post.replace(f"/{POST}/", f"/{POSTGATE}/", 1)
