"""What a relay's frames say, read without the engine: chains that break, and who wrote what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import libipld

from engine.simulate.network import Frames

CARRIED = ("app.bsky.", "chat.bsky.", "com.germnetwork.declaration")
"""Collections that the default filter lets through, by their beginnings."""


@dataclass
class Walk:
    """What follows from those frames of a log that a relay sends."""

    marks: dict[str, str] = field(default_factory=dict)  # DID -> why it must be fetched again
    arrived: dict[str, list[str | None]] = field(default_factory=dict)  # uri -> CIDs; None: delete
    touched: set[str] = field(default_factory=set)  # uris of ops that were dropped
    lost: dict[str, set[str]] = field(default_factory=dict)  # DID -> kinds of frames dropped
    stale: set[str] = field(default_factory=set)  # DIDs whose last commit or sync was dropped
    heard: set[str] = field(default_factory=set)  # DIDs of which any event arrived


def walk(frames: Frames, *, drop_every: int = 0) -> Walk:
    """Read a log of which each so many-th frame is not sent."""
    found = Walk()
    revs: dict[str, str] = {}
    for place in range(len(frames)):
        header, body = libipld.decode_dag_cbor_multi(frames[place])
        kind, did = header["t"], body.get("repo") or body["did"]
        if drop_every and (place + 1) % drop_every == 0:
            found.lost.setdefault(did, set()).add(kind)
            found.touched |= {uri for uri, _ in ops(body)}
            if kind in ("#commit", "#sync"):
                found.stale.add(did)
            continue
        found.heard.add(did)
        if kind in ("#commit", "#sync") and (why := follow(kind, body, revs.get(did))) != "stale":
            revs[did] = body["rev"]
            found.stale.discard(did)
            if why:
                found.marks.setdefault(did, why)
            for uri, cid in ops(body):
                found.arrived.setdefault(uri, []).append(cid)
    return found


def follow(kind: str, body: dict[str, Any], known: str | None) -> str:
    """Why a commit or sync does not continue what is known of its DID; empty if it does."""
    if kind == "#sync":
        return "stale" if known and body["rev"] < known else "sync" * (body["rev"] != known)
    if known and body["rev"] <= known:
        return "stale"
    if body["since"] != known:
        return "since_mismatch" if known else "history_unknown"
    blocks = libipld.decode_car(body["blocks"])[1]
    carried = [op for op in body["ops"] if op["path"].startswith(CARRIED) and op["cid"]]
    return "record_missing" * any(op["cid"] not in blocks for op in carried)


def ops(body: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """(uri, CID) of each op of a commit; a deletion has none."""
    for op in body.get("ops", ()):
        cid = libipld.encode_cid(op["cid"]) if op["cid"] else None
        yield f"at://{body['repo']}/{op['path']}", cid
