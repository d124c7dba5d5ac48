"""The stream entry's two halves: what one side writes, the other reads and writes alike.

Golden bytes are under ``tests/golden/entries``: ``python-*`` as ``engine.core.wire`` writes
them, ``native-*`` as the extension does. ``UPDATE_GOLDEN=1`` writes them anew; a changed
file is a changed contract.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from engine.core import codec, streams, wire
from tests.native import frames as made
from tests.native.frames import DID, REV, TIME

GOLDEN = Path(__file__).parents[1] / "golden" / "entries"
CID = made.cid_of(b"cid")

WRITTEN_BY_PYTHON: dict[str, wire.Entry] = {
    "commit": wire.Commit(
        made.RELAY,
        3,
        1 << 40,
        DID,
        TIME,
        REV,
        "3mabcabcabc22",
        CID,
        CID,
        CID,
        0,
        1,
        2,
        [
            wire.Op(wire.Action.CREATE, "a.b.c/é", CID, None, b"\xa0"),
            wire.Op(wire.Action.UPDATE, "a.b.c/2", CID, CID, bytes(70_000)),
            wire.Op(wire.Action.DELETE, "a.b.c/3", None, CID, None),
        ],
        [wire.RejectedOp(code, "x" * code * 20, None) for code in range(len(wire.Reason))],
        [wire.Block(CID, b"block")],
    ),
    "commit-bare": wire.Commit(
        "r", 1, 0, DID, TIME, REV, None, CID, None, None, 0, 1, 0, [], [], []
    ),
    "sync": wire.Sync(made.RELAY, 200, 70_000, DID, TIME, "rev", CID, [wire.Block(CID, b"")]),
    "identity": wire.Identity(made.RELAY, 1, 127, DID, TIME, None),
    "account": wire.Account(made.RELAY, 1, 128, DID, TIME, False, "takendown"),
    "rejected-frame": wire.RejectedFrame(made.RELAY, 1, None, None, 20, "d" * 300, 5, b"\xff"),
    "slice": wire.Slice(
        DID,
        1 << 33,
        REV,
        None,
        "a.b.c/é",
        ["a.b.*", "a.b.c"],
        3,
        True,
        [wire.SliceRecord("a.b.c/2", CID, bytes(70_000)), wire.SliceRecord("a.b.c/é", CID, b"")],
        [wire.RejectedOp(3, "a.b.c/1", CID)],
    ),
    "slice-empty": wire.Slice(DID, 1, REV, None, None, [], 0, False, [], []),
    "closing": wire.Closing(DID, 128, REV, CID, CID, 70_000),
}

WRITTEN_BY_NATIVE: dict[str, bytes] = {
    "commit": made.commit_frame(),
    "commit-rejected-op": made.commit_frame(
        ops=[{"action": "create", "path": "app.bsky.feed.post/1", "cid": CID}]
    ),
    "sync": made.frame(
        "#sync",
        {"seq": 65_536, "did": DID, "time": TIME, "rev": REV, "blocks": made.car([CID], [])},
    ),
    "identity": made.frame(
        "#identity", {"seq": 255, "did": DID, "time": TIME, "handle": "alice.example.com"}
    ),
    "account": made.frame("#account", {"seq": 256, "did": DID, "time": TIME, "active": True}),
    "rejected-frame": made.commit_frame(rev="x"),
}


def golden(name: str, produced: bytes) -> bytes:
    """The stored bytes, replaced first if that was asked for."""
    path = GOLDEN / f"{name}.bin"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(produced)
    return path.read_bytes()


@pytest.mark.parametrize("name", WRITTEN_BY_PYTHON)
def test_entries_written_by_python_are_read_by_native(name: str) -> None:
    entry = WRITTEN_BY_PYTHON[name]
    stored = golden(f"python-{name}", wire.encode(entry))
    assert wire.encode(entry) == stored
    assert wire.decode(stored) == entry
    assert codec.recode_entry(stored) == stored


@pytest.mark.parametrize("name", WRITTEN_BY_NATIVE)
def test_entries_written_by_native_are_read_by_python(name: str) -> None:
    ((_, produced),) = made.decode([WRITTEN_BY_NATIVE[name]]).entries()
    stored = golden(f"native-{name}", produced)
    assert produced == stored
    assert wire.encode(wire.decode(stored)) == stored


def test_weights_are_what_is_carried_but_never_nothing() -> None:
    weights = {name: wire.weight(entry) for name, entry in WRITTEN_BY_PYTHON.items()}
    assert (weights["commit"], weights["slice"]) == (3, 2)
    assert {weights[name] for name in weights.keys() - {"commit", "slice"}} == {1}


def test_reasons_and_version_are_mirrored() -> None:
    assert [reason.value for reason in wire.Reason] == list(codec.REASONS)
    assert wire.VERSION == codec.ENTRY_VERSION


def test_unknown_versions_are_named() -> None:
    entry = wire.encode(WRITTEN_BY_PYTHON["identity"])
    with pytest.raises(ValueError, match="entry version 9, this build reads 1"):
        codec.recode_entry(b"\x09" + entry[1:])
    for bad in (b"", b"\x01", b"\x01\xc0", entry[:-1], entry + b"\xc0"):
        with pytest.raises(ValueError, match="not an entry"):
            codec.recode_entry(bad)


def test_damaged_entries_never_raise_anything_else() -> None:
    rng = random.Random(5)
    refused = 0
    for entry in WRITTEN_BY_PYTHON.values():
        data = wire.encode(entry)
        for _ in range(500):
            mutant = bytearray(data)
            mutant[rng.randrange(min(len(mutant), 400))] = rng.randrange(256)
            try:
                codec.recode_entry(bytes(mutant))
            except ValueError:
                refused += 1
    assert 700 < refused < 4500


def test_shards_are_mirrored() -> None:
    rng = random.Random(11)
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    for _ in range(2000):
        did = "did:plc:" + "".join(rng.choices(letters, k=24))
        count = rng.choice((1, 2, 3, 16, 64, 1000))
        assert codec.shard_of(did, count) == streams.shard_of(did, count)
