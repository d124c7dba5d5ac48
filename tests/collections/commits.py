"""Stream entries written by hand: commits of records given as dictionaries."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import libipld

from engine.core import wire

TIME = "2026-11-21T18:00:00.000Z"
NOW = 1_795_300_000.0
_DIGITS = "234567abcdefghijklmnopqrstuvwxyz"


def tid(number: int) -> str:
    """The n-th TID of a time before ``NOW``."""
    value = (1_795_000_000_000_000 + number) << 10
    return "".join(_DIGITS[value >> 5 * place & 31] for place in range(12, -1, -1))


def cid_of(block: bytes) -> bytes:
    """Binary CID of a DAG-CBOR block."""
    return b"\x01\x71\x12\x20" + hashlib.sha256(block).digest()


def cid_text(cid: bytes) -> str:
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def op(sign: str, path: str, record: dict[str, Any] | bytes | None = None) -> wire.Op:
    """``+`` creates, ``~`` updates, ``-`` deletes."""
    if record is None:
        return wire.Op(wire.Action.DELETE, path, None, None, None)
    block = record if isinstance(record, bytes) else libipld.encode_dag_cbor(record)
    action = wire.Action.CREATE if sign == "+" else wire.Action.UPDATE
    return wire.Op(action, path, cid_of(block), None, block)


def commit(did: str, seq: int, ops: list[wire.Op], **fields: Any) -> bytes:
    """One commit; its rev and time follow its seq unless given."""
    values: dict[str, Any] = {
        "relay": "relay.test",
        "generation": 1,
        "seq": seq,
        "did": did,
        "time": f"2026-11-21T18:00:00.{seq % 1000:03d}Z",
        "rev": tid(seq),
        "since": None,
        "commit": cid_of(b"commit"),
        "data": None,
        "prev_data": None,
        "part": 0,
        "parts": 1,
        "filtered": 0,
        "ops": ops,
        "rejected": [],
        "blocks": [],
    }
    return wire.encode(wire.Commit(**(values | fields)))
