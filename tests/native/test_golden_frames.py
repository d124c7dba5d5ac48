"""Recorded networks and real commits through the frame reader; then the same, damaged."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import libipld
import pytest

from engine.core import wire
from tests.native import frames as made

CARRIED = ("app.bsky.", "chat.bsky.", "com.germnetwork.declaration/")

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("network", ["golden", "golden-gates"])
def test_every_recorded_frame_is_accepted(shared: Path, network: str) -> None:
    frames = made.recorded(shared, network)
    batch = made.decode(frames)
    assert batch.rejected == []
    assert batch.notices == []
    assert batch.entries_count == batch.counts["frames"] == len(frames)
    assert batch.counts["rejected"] == 0


def test_recorded_network_has_the_numbers_of_its_description(shared: Path) -> None:
    meta = json.loads((shared / "golden" / "meta.json").read_text())
    batch = made.decode(made.recorded(shared))
    counts = batch.counts
    assert counts["frames"] == meta["frames"]
    assert batch.last_seq == meta["lastSeq"]
    changes = counts["create"] + counts["update"] + counts["delete"] + counts["filtered"]
    commits = [entry for entry in made.entries(batch) if isinstance(entry, wire.Commit)]
    # The workload's own counts miss what the server did by itself and include refused calls.
    assert (changes, len(commits)) == (9036, 1985)
    assert abs(changes - meta["ops"]) < 300
    assert batch.ops == changes + counts["identity"] + counts["account"] + counts["sync"]


def test_recorded_commits_equal_what_an_independent_reader_finds(shared: Path) -> None:
    frames = made.recorded(shared)
    checked = 0
    for frame, entry in zip(frames, made.entries(made.decode(frames)), strict=True):
        header, body = libipld.decode_dag_cbor_multi(frame)
        if header["t"] != "#commit":
            continue
        assert isinstance(entry, wire.Commit)
        assert (entry.seq, entry.did, entry.time) == (body["seq"], body["repo"], body["time"])
        assert (entry.rev, entry.since) == (body["rev"], body["since"])
        assert (entry.commit, entry.prev_data) == (body["commit"], body.get("prevData"))
        _, blocks = libipld.decode_car(body["blocks"])
        assert entry.data == blocks[body["commit"]]["data"]
        carried = [op for op in body["ops"] if op["path"].startswith(CARRIED)]
        assert len(carried) == len(entry.ops)
        assert entry.filtered == len(body["ops"]) - len(carried)
        for theirs, ours in zip(carried, entry.ops, strict=True):
            assert wire.Action(ours.action).name.lower() == theirs["action"]
            assert (ours.path, ours.prev) == (theirs["path"], theirs.get("prev"))
            assert ours.cid == theirs["cid"]
            if ours.cid is not None and ours.record is not None:
                assert made.cid_of(ours.record) == ours.cid
                assert libipld.decode_dag_cbor(ours.record) == blocks[ours.cid]
                checked += 1
    assert checked > 7000


def plain(value: Any) -> Any:
    """The JSON form of a message as libipld's encoder wants it."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$link"}:
            return libipld.decode_multibase(value["$link"])[1]
        if value.keys() == {"$bytes"}:
            return base64.b64decode(value["$bytes"] + "==")
        return {key: plain(item) for key, item in value.items()}
    return value


def test_real_commits_are_read(shared: Path) -> None:
    paths = sorted((shared / "interop" / "firehose").glob("*.json"))
    assert len(paths) == 4
    for path in paths:
        message = json.loads(path.read_text())
        entry = made.only_entry(made.frame("#commit", plain(message)), ["*"])
        assert isinstance(entry, wire.Commit), entry
        assert (entry.seq, entry.did) == (message["seq"], message["repo"])
        assert [op.path for op in entry.ops] == [op["path"] for op in message["ops"]]
        assert entry.rejected == []
        for op, theirs in zip(entry.ops, message["ops"], strict=True):
            if theirs["action"] != "delete":
                assert op.record is not None
                assert op.cid == plain(theirs["cid"])
                assert made.cid_of(op.record) == op.cid


def mutate(frame: bytes, other: bytes, rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(("flip", "byte", "truncate", "splice", "insert", "drop"))
    at = rng.randrange(len(frame))
    mutant = bytearray(frame)
    if kind == "flip":
        mutant[at] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        mutant[at] = rng.randrange(256)
    elif kind == "truncate":
        del mutant[at:]
    elif kind == "splice":
        mutant[at:] = other[rng.randrange(len(other)) :]
    elif kind == "insert":
        mutant[at:at] = rng.randbytes(rng.randint(1, 8))
    else:
        del mutant[at : at + rng.randint(1, 8)]
    return kind, bytes(mutant)


def test_damaged_frames_are_accepted_or_rejected_and_never_raise(shared: Path) -> None:
    rng = random.Random(20261121)
    frames = made.recorded(shared)
    mutants = []
    kinds: Counter[str] = Counter()
    for _ in range(12_000):
        kind, mutant = mutate(rng.choice(frames), rng.choice(frames), rng)
        kinds[kind] += 1
        mutants.append(mutant)
    # Half of them damaged where it matters most: before the blocks.
    for _ in range(12_000):
        frame = rng.choice(frames)
        head = bytearray(frame)
        head[rng.randrange(min(len(head), 200))] = rng.randrange(256)
        mutants.append(bytes(head))
    batch = made.decode(mutants)
    assert batch.counts["frames"] == len(mutants) == 24_000
    assert batch.entries_count + len(batch.notices) == len(mutants)
    reasons = Counter(reason for _, reason, _ in batch.rejected)
    accepted = batch.entries_count - len(batch.rejected)
    assert min(kinds.values()) > 1500, kinds
    assert accepted > 1000
    assert len(batch.rejected) > 10_000
    for reason in ("bad_header", "bad_body", "bad_field", "bad_car", "bad_block_hash"):
        assert reasons[reason] > 50, reasons
    for entry in made.entries(batch):
        if isinstance(entry, wire.RejectedFrame):
            assert entry.ops >= 1
            assert len(entry.raw) <= wire.RAW_LIMIT_BYTES


def contents(car: bytes) -> list[tuple[int, int]]:
    """Where each block's content starts and ends in a CAR of 36-byte CIDs."""
    found = []
    offset = 0
    while offset < len(car):
        length = shift = 0
        while True:
            byte = car[offset]
            offset += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append((offset + 36, offset + length))
        offset += length
    return found[1:]


def test_any_damaged_block_rejects_its_frame(shared: Path) -> None:
    rng = random.Random(3)
    damaged = []
    for frame in made.recorded(shared)[::3]:
        _, body = libipld.decode_dag_cbor_multi(frame)
        car = body.get("blocks", b"")
        start = frame.find(car)
        for first, end in contents(car):
            mutant = bytearray(frame)
            mutant[start + rng.randrange(first, end)] ^= 1 << rng.randrange(8)
            damaged.append(bytes(mutant))
    batch = made.decode(damaged)
    assert len(damaged) > 3000
    assert [reason for _, reason, _ in batch.rejected] == ["bad_block_hash"] * len(damaged)
