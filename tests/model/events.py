"""What the model is fed: events, read from frames or from stream entries."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libipld

from engine.core import wire

_ACTIONS = ("create", "update", "delete")  # in the order of wire.Action


@dataclass(frozen=True)
class Op:
    """One change: ``block`` is None for a delete, and where the frame lacks it."""

    action: str  # create, update, delete
    path: str
    cid: str | None = None
    block: bytes | None = None


@dataclass(frozen=True)
class Event:
    """What every event has."""

    did: str
    seq: int
    time: str  # T


@dataclass(frozen=True)
class Commit(Event):
    rev: str
    cid: str
    ops: list[Op] = field(default_factory=list)


@dataclass(frozen=True)
class Sync(Event):
    rev: str
    cid: str


@dataclass(frozen=True)
class Identity(Event):
    pass


@dataclass(frozen=True)
class Account(Event):
    active: bool
    status: str | None


def cid_text(cid: bytes) -> str:
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def frames(path: Path) -> Iterator[bytes]:
    """The messages of a recording: four bytes of length before each."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def read_frame(frame: bytes) -> Event | None:
    """One message; None for those that are no event."""
    header: Any
    body: Any
    header, body = libipld.decode_dag_cbor_multi(frame)
    base = {"seq": body["seq"], "time": body["time"]}
    match header.get("t"):
        case "#commit":
            _, blocks = libipld.decode_car(body["blocks"])
            raw = raw_blocks(body["blocks"]) if blocks else {}
            ops = [
                Op(
                    op["action"],
                    op["path"],
                    op["cid"] and cid_text(op["cid"]),
                    raw.get(op["cid"]) if op["action"] != "delete" else None,
                )
                for op in body["ops"]
            ]
            cid = cid_text(body["commit"])
            return Commit(did=body["repo"], rev=body["rev"], cid=cid, ops=ops, **base)
        case "#sync":
            head, _ = libipld.decode_car(body["blocks"])
            cid = cid_text(head["roots"][0])
            return Sync(did=body["did"], rev=body["rev"], cid=cid, **base)
        case "#identity":
            return Identity(did=body["did"], **base)
        case "#account":
            return Account(
                did=body["did"], active=body["active"], status=body.get("status"), **base
            )
    return None


def read_entry(entry: bytes) -> Event | None:
    """One stream entry, as the indexer is fed."""
    read = wire.decode(entry)
    match read:
        case wire.Commit():
            ops = [
                Op(_ACTIONS[op.action], op.path, cid_text(op.cid) if op.cid else None, op.record)
                for op in read.ops
            ]
            return Commit(
                read.did, read.seq, read.time, rev=read.rev, cid=cid_text(read.commit), ops=ops
            )
        case wire.Sync():
            return Sync(read.did, read.seq, read.time, rev=read.rev, cid=cid_text(read.commit))
        case wire.Identity():
            return Identity(read.did, read.seq, read.time)
        case wire.Account():
            return Account(read.did, read.seq, read.time, active=read.active, status=read.status)
    return None


def raw_blocks(car: bytes) -> dict[bytes, bytes]:
    """CID -> bytes: a CAR is (length, CID, block) again and again after its header."""
    blocks: dict[bytes, bytes] = {}
    length, at = _varint(car, 0)
    at += length
    while at < len(car):
        length, at = _varint(car, at)
        blocks[car[at : at + 36]] = car[at + 36 : at + length]
        at += length
    return blocks


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
