"""Readers of PGCOPY and of array literals that share nothing with the code that writes them."""

from __future__ import annotations

import json
import struct
from typing import Any

from engine.collections.declare import Type

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def read_copy(data: bytes, types: list[str]) -> list[list[Any]]:
    """The rows of a binary COPY; jsonb decoded, arrays as lists."""
    assert data.startswith(_HEADER)
    rows: list[list[Any]] = []
    at = len(_HEADER)
    while True:
        (fields,) = struct.unpack_from(">h", data, at)
        at += 2
        if fields == -1:
            assert at == len(data)
            return rows
        assert fields == len(types)
        row: list[Any] = []
        for kind in types:
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            if length == -1:
                row.append(None)
                continue
            row.append(_read_field(data[at : at + length], kind))
            at += length
        rows.append(row)


def _read_field(field: bytes, kind: str) -> Any:
    if kind == Type.JSONB:
        assert field[0] == 1
        return json.loads(field[1:])
    if kind == Type.BOOLEAN:
        assert field in (b"\0", b"\1")
        return field == b"\1"
    if kind not in (Type.TEXTS, Type.VARCHARS):
        return field.decode()
    dimensions, has_null, oid = struct.unpack_from(">iiI", field)
    assert (dimensions, has_null, oid) == (1, 0, 1043 if kind == Type.VARCHARS else 25)
    count, first = struct.unpack_from(">ii", field, 12)
    assert first == 1
    items, at = [], 20
    for _ in range(count):
        (length,) = struct.unpack_from(">i", field, at)
        items.append(field[at + 4 : at + 4 + length].decode())
        at += 4 + length
    assert at == len(field)
    return items


def read_array(literal: str) -> list[str | None]:
    """The elements of a one-dimensional array literal."""
    assert literal[0] == "{"
    assert literal[-1] == "}"
    items: list[str | None] = []
    at = 1
    while at < len(literal) - 1:
        if literal[at] == ",":
            at += 1
        elif literal.startswith("NULL", at):
            items.append(None)
            at += 4
        else:
            assert literal[at] == '"'
            at += 1
            item = []
            while literal[at] != '"':
                at += literal[at] == "\\"
                item.append(literal[at])
                at += 1
            items.append("".join(item))
            at += 1
    return items
