"""CAR files and recorded frames taken apart, independently of the extension."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libipld

CID_BYTES = 36


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


@dataclass
class Car:
    roots: list[bytes]
    blocks: list[tuple[bytes, bytes]]
    ends: list[int]
    """Where the header and each block end."""

    @property
    def by_cid(self) -> dict[bytes, bytes]:
        return dict(self.blocks)


def parse(data: bytes) -> Car:
    """Split a CAR whose CIDs all have 36 bytes."""
    length, at = read_varint(data, 0)
    header: Any = libipld.decode_dag_cbor(data[at : at + length])
    at += length
    blocks, ends = [], [at]
    while at < len(data):
        length, at = read_varint(data, at)
        section = data[at : at + length]
        at += length
        blocks.append((section[:CID_BYTES], section[CID_BYTES:]))
        ends.append(at)
    return Car(header["roots"], blocks, ends)


def write(root: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A CAR of these blocks, in this order."""
    header = libipld.encode_dag_cbor({"roots": [root], "version": 1})
    sections = [header, *(cid + block for cid, block in blocks)]
    return b"".join(varint(len(section)) + section for section in sections)


def varint(number: int) -> bytes:
    """A length as it stands before a section."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def cid_of(block: bytes) -> bytes:
    """The CID of a DAG-CBOR block."""
    return b"\x01\x71\x12\x20" + hashlib.sha256(block).digest()


def signed_part(commit: bytes) -> bytes:
    """What the signature of a commit block signs."""
    fields: Any = libipld.decode_dag_cbor(commit)
    return libipld.encode_dag_cbor({key: fields[key] for key in fields if key != "sig"})


def frames(recording: Path) -> Iterator[dict[str, Any]]:
    """The body of every message of a recorded network."""
    data, at = (recording / "frames.bin").read_bytes(), 0
    while at < len(data):
        length, at = int.from_bytes(data[at : at + 4], "big"), at + 4
        _, body = libipld.decode_dag_cbor_multi(data[at : at + length])
        at += length
        yield body
