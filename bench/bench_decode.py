"""Frames to stream entries: the extension against libipld and Python doing the same.

Method. Input: every frame of a recorded network, in memory, several times over. Work, on
one core, on both sides: header and body, CAR sections, each block hashed against its
CID, collection filter, records cut out, shard, encoded entry. Before anything is timed
both must have produced the same bytes. The Python side is written for speed, not for
safety: it checks no format, no limit and no duplicate key. The best of the rounds counts, since
noise only ever adds. Build the extension with ``--release``.

    python -m pytest bench/bench_decode.py

prints the table of pytest-benchmark and one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import libipld
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from engine.core import codec, streams, wire
from tests.native import frames as made

SHARED = Path(__file__).resolve().parents[2] / "shared"
SHARDS = 16
CARRIED = ("app.bsky.", "chat.bsky.", "com.germnetwork.declaration/")
ACTIONS = {"create": wire.Action.CREATE, "update": wire.Action.UPDATE, "delete": wire.Action.DELETE}

results: dict[str, float] = {}


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    """The recorded network's websocket messages."""
    if not SHARED.is_dir():
        pytest.skip("the recorded networks are not here: ../shared is absent")
    return made.recorded(SHARED)


def read_blocks(car: bytes) -> dict[bytes, bytes]:
    """Sections of a CAR by CID, each hashed; the header is only passed over."""
    blocks = {}
    offset = 0
    header = True
    while offset < len(car):
        length = shift = 0
        while (byte := car[offset]) > 0x7F:
            length |= (byte & 0x7F) << shift
            shift += 7
            offset += 1
        length |= byte << shift
        offset += 1
        if not header:
            cid = car[offset : offset + 36]
            block = car[offset + 36 : offset + length]
            if hashlib.sha256(block).digest() != cid[4:]:
                raise ValueError("hash")
            blocks[cid] = block
        header = False
        offset += length
    return blocks


def read_commit(body: dict[str, Any]) -> wire.Commit:
    """One commit message as an entry, its records cut out of the CAR."""
    blocks = read_blocks(body["blocks"])
    ops = []
    filtered = 0
    for op in body["ops"]:
        if not op["path"].startswith(CARRIED):
            filtered += 1
            continue
        cid = op["cid"]
        record = blocks[cid] if cid is not None else None
        ops.append(wire.Op(ACTIONS[op["action"]], op["path"], cid, op.get("prev"), record))
    return wire.Commit(
        made.RELAY,
        1,
        body["seq"],
        body["repo"],
        body["time"],
        body["rev"],
        body["since"],
        body["commit"],
        libipld.decode_dag_cbor(blocks[body["commit"]])["data"],
        body.get("prevData"),
        0,
        1,
        filtered,
        ops,
        [],
        [],
    )


def read_frame(frame: bytes) -> wire.Entry:
    """One websocket message as an entry."""
    header, body = libipld.decode_dag_cbor_multi(frame)
    kind = header["t"]
    if kind == "#commit":
        return read_commit(body)
    origin = (made.RELAY, 1, body["seq"], body["did"], body["time"])
    if kind == "#sync":
        (root,) = libipld.decode_car(body["blocks"])[0]["roots"]
        read_blocks(body["blocks"])
        return wire.Sync(*origin, body["rev"], root, [])
    if kind == "#identity":
        return wire.Identity(*origin, body.get("handle"))
    return wire.Account(*origin, body["active"], body.get("status"))


def decode_in_python(frames: list[bytes]) -> list[tuple[int, bytes]]:
    """Shards and encoded entries, by libipld, hashlib and msgspec."""
    entries = map(read_frame, frames)
    return [(streams.shard_of(entry.did or "", SHARDS), wire.encode(entry)) for entry in entries]


def decode_in_native(frames: list[bytes]) -> codec.FrameBatch:
    """The same by the extension; the entries stay in its one buffer."""
    return codec.decode_frames(
        frames, relay=made.RELAY, generation=1, shards=SHARDS, allow=made.ALLOW
    )


def frames_per_second(benchmark: BenchmarkFixture, frames: list[bytes]) -> float:
    """Of the best round; 0 when benchmarks are disabled."""
    if benchmark.stats is None:
        return 0.0
    return float(len(frames) / benchmark.stats.stats.min)


def test_both_produce_the_same_entries(frames: list[bytes]) -> None:
    """Nothing is timed that is not the same work."""
    assert decode_in_native(frames).entries() == decode_in_python(frames)


@pytest.mark.benchmark(group="decode", min_rounds=5, warmup=True)
def test_python(benchmark: BenchmarkFixture, frames: list[bytes]) -> None:
    """The independent side."""
    benchmark(decode_in_python, frames)
    results["python_frames_per_second"] = frames_per_second(benchmark, frames)


@pytest.mark.benchmark(group="decode", min_rounds=20, warmup=True)
def test_native(
    benchmark: BenchmarkFixture, frames: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """The extension, and the report."""
    benchmark(decode_in_native, frames)
    native = frames_per_second(benchmark, frames)
    python = results.get("python_frames_per_second")
    report = {
        "benchmark": "decode",
        "frames": len(frames),
        "frame_bytes_mean": round(sum(map(len, frames)) / len(frames)),
        "native_frames_per_second": round(native),
        "python_frames_per_second": round(python) if python else None,
        "ratio": round(native / python, 2) if python else None,
    }
    with capsys.disabled():
        print("\n" + json.dumps(report))
