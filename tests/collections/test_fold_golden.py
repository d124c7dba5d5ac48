"""The fold over whole recorded networks, against the tables of the reference."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest

from engine import lexicons
from engine.collections import to_plan
from engine.core import codec
from tests.collections.memory import Memory, index
from tests.model import golden as recorded
from tests.model.events import Account

NOW = 1_795_300_000.0  # shortly after the recordings
SHARDS = 4
ALLOW = ["app.bsky.*", "chat.bsky.*", "com.germnetwork.declaration"]

Entries = list[tuple[int, bytes]]

pytestmark = pytest.mark.golden


def frames_of(golden: Path) -> list[bytes]:
    data, at, frames = (golden / "frames.bin").read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        frames.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return frames


@pytest.fixture(scope="module", params=["golden", "golden-gates"])
def golden(request: pytest.FixtureRequest, shared: Path) -> Path:
    return shared / str(request.param)


@pytest.fixture(scope="module")
def entries(golden: Path) -> Entries:
    batch = codec.decode_frames(
        frames_of(golden), relay="relay.test", generation=1, shards=SHARDS, allow=ALLOW
    )
    assert batch.entries_count > 500
    return batch.entries()


@pytest.fixture(scope="module")
def plan() -> codec.Plan:
    return codec.Plan(to_plan().encode(), lexicons.documents())


def by_shard(entries: Entries) -> list[tuple[int, list[bytes]]]:
    found: dict[int, list[bytes]] = {}
    for shard, entry in entries:
        found.setdefault(shard, []).append(entry)
    return list(found.items())


def check(memory: Memory, golden: Path) -> None:
    """Every row of every table is the reference's."""
    memory.resolve(recorded.resolver(golden))
    tables = memory.dump(NOW)
    deleted = {
        event.did
        for event in recorded.events_of(golden)
        if isinstance(event, Account) and event.status == "deleted"
    }
    assert deleted
    # What tells a deleted account is not removed yet.
    tables["notification"] = [
        row for row in tables["notification"] if not deleted & {row["did"], row["author"]}
    ]
    assert recorded.differences(golden, tables) == {}
    counts = json.loads((golden / "counts.json").read_text())
    assert {table: len(rows) for table, rows in tables.items() if rows} == counts
    assert sum(counts.values()) > 10_000


@pytest.mark.parametrize("trusting", [True, False])
def test_one_batch_of_everything_makes_the_reference_tables(
    trusting: bool, golden: Path, entries: Entries, plan: codec.Plan
) -> None:
    memory = Memory(to_plan())
    index(plan, memory, by_shard(entries), now=NOW, trusting=trusting)
    check(memory, golden)
    rejected = json.loads((golden / "rejected.json").read_text())
    assert len(memory.dead) >= sum(rejected.values()) > 50
    assert memory.counts["applied"] > 3_000
    assert memory.counts["duplicate"] == 0
    assert memory.distrusted == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_batches_cut_anywhere_make_the_same_tables(
    seed: int, golden: Path, entries: Entries, plan: codec.Plan
) -> None:
    rng = random.Random(seed)
    memory = Memory(to_plan())
    resolver = recorded.resolver(golden)
    at = batches = 0
    while at < len(entries):
        size = rng.choice([1, 2, 5, 50, 150])
        # A redelivered tail is skipped, whatever it is.
        given = entries[max(0, at - rng.choice([0, 0, 7])) : at + size]
        index(plan, memory, by_shard(given), now=NOW, trusting=rng.random() < 0.5)
        if rng.random() < 0.5:
            memory.resolve(resolver)
        at, batches = at + size, batches + 1
    assert batches > 10
    assert memory.counts["duplicate"] > 0
    check(memory, golden)


@pytest.mark.parametrize("trusting", [True, False])
def test_one_entry_a_batch_makes_the_same_tables(
    trusting: bool, golden: Path, entries: Entries, plan: codec.Plan
) -> None:
    memory = Memory(to_plan())
    for shard, entry in entries:
        index(plan, memory, [(shard, [entry])], now=NOW, trusting=trusting)
    check(memory, golden)


def test_a_log_delivered_twice_makes_the_same_tables(
    golden: Path, entries: Entries, plan: codec.Plan
) -> None:
    """By another relay, so that no seq tells what is held."""
    memory = Memory(to_plan())
    index(plan, memory, by_shard(entries), now=NOW)
    again = codec.decode_frames(
        frames_of(golden), relay="other.test", generation=1, shards=SHARDS, allow=ALLOW
    ).entries()
    before, applied = memory.counts["duplicate"], memory.counts["applied"]
    index(plan, memory, by_shard(again), now=NOW)
    assert before == 0
    assert memory.counts["duplicate"] > 4_000
    assert memory.counts["applied"] - applied < 50  # accounts, whose time may be tied
    check(memory, golden)
