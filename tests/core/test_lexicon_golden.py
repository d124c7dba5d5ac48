"""The verdicts on every record of the recorded networks are the reference's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libipld
import pytest

from engine import lexicons
from engine.core import codec

pytestmark = pytest.mark.golden

UNVALIDATED = "chat.bsky.actor.declaration"
WORDS = {
    'Expected array value type (got "en") at $.langs': 'expected a list at $.langs (got "en")',
    'Missing required key "createdAt" at $': 'missing required key "createdAt" at $',
    'Invalid datetime (got "yesterday") at $.createdAt': (
        'invalid datetime at $.createdAt (got "yesterday")'
    ),
    'Invalid DID (got "not-a-did") at $.subject': 'invalid did at $.subject (got "not-a-did")',
    'Invalid CID string (got "bafyreib") at $.subject.cid': (
        'invalid cid at $.subject.cid (got "bafyreib")'
    ),
    'Expected object value type (got "not an object") at $.subject': (
        'expected a map at $.subject (got "not an object")'
    ),
    "string too big (maximum 3000, got 4000) at $.text": (
        "expected at most 3000 bytes at $.text (got 4000)"
    ),
}
"""The reference's words for a failure, and ours."""


def frames(path: Path) -> Iterator[bytes]:
    recorded = path.read_bytes()
    at = 0
    while at < len(recorded):
        length = int.from_bytes(recorded[at : at + 4], "big")
        yield recorded[at + 4 : at + 4 + length]
        at += 4 + length


def varint(encoded: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = encoded[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def blocks(car: bytes) -> dict[bytes, bytes]:
    """The blocks of a CAR whose CIDs all have 36 bytes."""
    length, at = varint(car, 0)
    at += length
    found = {}
    while at < len(car):
        length, at = varint(car, at)
        found[car[at : at + 36]] = car[at + 36 : at + length]
        at += length
    return found


def written_records(path: Path) -> Iterator[tuple[str, bytes]]:
    """Collection and bytes of every record created or updated."""
    for frame in frames(path):
        header, message = libipld.decode_dag_cbor_multi(frame)
        if header.get("t") != "#commit":
            continue
        held = blocks(message["blocks"])
        ops: list[dict[str, Any]] = message["ops"]
        for op in ops:
            if op["action"] != "delete":
                yield op["path"].split("/")[0], held[op["cid"]]


@pytest.mark.parametrize(("network", "least"), [("golden", 7_500), ("golden-gates", 3_000)])
def test_the_reference_refused_the_same_records(shared: Path, network: str, least: int) -> None:
    catalog = codec.Lexicons(lexicons.documents())
    known = set(catalog.record_types) - {UNVALIDATED}
    refused: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    for collection, record in written_records(shared / network / "frames.bin"):
        if collection in known:
            reason = catalog.validate(collection, record)
            if reason is None:
                accepted[collection] += 1
            else:
                refused[reason] += 1
    reported = json.loads((shared / network / "rejected.json").read_bytes())
    prefix = "LexValidationError: "
    expected = {
        WORDS[error.removeprefix(prefix)]: count
        for error, count in reported.items()
        if error.startswith(prefix)
    }
    assert refused == expected
    assert accepted.total() >= least
    assert len(accepted) >= 17
