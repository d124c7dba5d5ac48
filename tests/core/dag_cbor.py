"""DAG-CBOR written by hand, so that tests can write what an honest encoder would not."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Link:
    """A CID link, by the CID's bytes."""

    cid: bytes

    @classmethod
    def parse(cls, text: str) -> Link:
        digits = text.removeprefix("b").upper()
        return cls(base64.b32decode(digits + "=" * (-len(digits) % 8)))


@dataclass(frozen=True)
class Raw:
    """One item that is encoded already."""

    item: bytes


def encode(value: Any) -> bytes:
    match value:
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case float():
            return b"\xfb" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return _head(3, len(text)) + text
        case bytes():
            return _head(2, len(value)) + value
        case Link(cid):
            return b"\xd8\x2a" + encode(b"\0" + cid)
        case Raw(item):
            return item
        case list():
            return _head(4, len(value)) + b"".join(map(encode, value))
        case dict():
            entries = (encode(key) + encode(item) for key, item in value.items())
            return _head(5, len(value)) + b"".join(entries)
    raise TypeError(type(value))


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for code, form in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if number < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | code]) + struct.pack(form, number)
    raise ValueError(number)
