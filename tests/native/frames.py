"""Frames from the recorded networks, and frames made by hand with an independent codec."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import libipld

from engine.core import codec, wire

ALLOW = ["app.bsky.*", "chat.bsky.*", "com.germnetwork.declaration"]
DID = "did:plc:ragtjsm2j2vknwkz3zp4oxrd"
REV = "3mabcabcabc2a"
TIME = "2026-11-21T18:31:36.418Z"
RELAY = "relay.example"


def recorded(shared: Path, network: str = "golden") -> list[bytes]:
    """Every websocket message of a recorded network."""
    data = (shared / network / "frames.bin").read_bytes()
    frames = []
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        frames.append(data[offset + 4 : offset + 4 + length])
        offset += 4 + length
    return frames


def decode(frames: list[bytes], allow: Sequence[str] = ALLOW) -> codec.FrameBatch:
    return codec.decode_frames(frames, relay=RELAY, generation=1, shards=16, allow=list(allow))


def entries(batch: codec.FrameBatch) -> list[wire.Entry]:
    return [wire.decode(entry) for _, entry in batch.entries()]


def only_entry(frame: bytes, allow: Sequence[str] = ALLOW) -> wire.Entry:
    (entry,) = entries(decode([frame], allow))
    return entry


def cid_of(block: bytes, codec_code: int = 0x71) -> bytes:
    return bytes((1, codec_code, 0x12, 32)) + hashlib.sha256(block).digest()


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def section(data: bytes) -> bytes:
    return varint(len(data)) + data


def car(roots: Sequence[bytes], blocks: Sequence[tuple[bytes, bytes]]) -> bytes:
    header = libipld.encode_dag_cbor({"version": 1, "roots": list(roots)})
    return section(header) + b"".join(section(cid + block) for cid, block in blocks)


def frame(kind: str, body: Mapping[str, Any]) -> bytes:
    """One message frame; CIDs in the body are bytes."""
    header = libipld.encode_dag_cbor({"op": 1, "t": kind})
    return header + libipld.encode_dag_cbor(dict(body))


def record_block(text: str = "hello") -> tuple[bytes, bytes]:
    record = {"$type": "app.bsky.feed.post", "text": text, "createdAt": TIME}
    block = libipld.encode_dag_cbor(record)
    return cid_of(block), block


def commit_body(**changes: Any) -> dict[str, Any]:
    """A valid commit of one post; a change to ``...`` removes the field."""
    cid, block = record_block()
    data = cid_of(b"the root of the tree")
    commit = libipld.encode_dag_cbor(
        {"did": DID, "rev": REV, "data": data, "prev": None, "version": 3, "sig": b"\0" * 64}
    )
    root = cid_of(commit)
    body: dict[str, Any] = {
        "seq": 7,
        "repo": DID,
        "commit": root,
        "rev": REV,
        "since": "3mabcabcabc22",
        "prevData": cid_of(b"the tree before"),
        "time": TIME,
        "blocks": car([root], [(root, commit), (cid, block)]),
        "ops": [{"action": "create", "path": "app.bsky.feed.post/3mabcabcabc2a", "cid": cid}],
    }
    body.update(changes)
    return {key: value for key, value in body.items() if value is not ...}


def commit_frame(**changes: Any) -> bytes:
    return frame("#commit", commit_body(**changes))
