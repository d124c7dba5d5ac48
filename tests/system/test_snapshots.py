"""A deployment that reads live events and fetched repositories at once, killed in between."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import redis.asyncio

from engine import failpoints, simulate
from engine.adapters import postgres
from engine.core import streams, wire
from engine.settings import Settings
from tests.snapshots.judge import judge_of
from tests.snapshots.test_golden import ask, exports, snapshot
from tests.system import golden
from tests.system.deployment import cut, deployed, settle

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

NETWORK = "golden-gates"
SHARDS = 16
KEYS = streams.Keys()
ENVIRONMENT = {
    "ROLES": "firehose,indexer,identity",  # a lister would queue again what nobody queued
    "INGESTER_BATCH_SIZE": "32",
    "INDEXER_BATCH_SIZE": "64",
    "INDEXER_BACKFILL_SHARE": "0.1",
    "INDEXER_RETENTION_SECONDS": "0",
}
POINTS = [
    pytest.param(point, marks=() if point == "before_commit" else pytest.mark.slow)
    for point in ("after_read", "inside_copy", "before_commit", "after_commit", "after_trim")
]


async def append(client: redis.asyncio.Redis, did: str, entry: bytes) -> None:
    """As a backfiller does: the entry and the counters of its stream."""
    shard = streams.shard_of(did, SHARDS)
    async with client.pipeline(transaction=True) as pipe:
        pipe.xadd(KEYS.stream(streams.BACKFILL, shard), {"event": entry}, nomkstream=True)
        events = wire.weight(wire.decode(entry))
        pipe.hincrby(KEYS.events(streams.BACKFILL), str(shard), events)
        pipe.hincrby(KEYS.bytes(streams.BACKFILL), str(shard), len(entry))
        await pipe.execute()


@pytest.mark.parametrize("point", POINTS)
async def test_fetched_while_live_and_killed_in_between(
    shared: Path, tmp_path: Path, database: str, redis_url: str, point: str
) -> None:
    rng = random.Random(point)
    network = simulate.load(shared / NETWORK)
    half, rest = cut(network)
    recorded = list(exports(shared / NETWORK))
    rng.shuffle(recorded)
    armed = {failpoints.VARIABLE: f"indexer:{point}:3:kill"}
    client = redis.asyncio.Redis.from_url(redis_url)
    with deployed(
        half, tmp_path / "up.log", database, redis_url, indexers=2, extra=ENVIRONMENT | armed
    ) as (run, relay):
        run.until_says("ready, owning shards")
        conn = await postgres.connect(Settings(database_url=database), "test/control")
        try:
            for export in recorded:
                for entry in snapshot(export, await ask(conn, export.did), rng):
                    await append(client, export.did, entry)
                for frame in rest[:60]:
                    relay.publish(frame)
                del rest[:60]
            for frame in rest:
                relay.publish(frame)
            run.until_says(f"failpoint {point} reached")
            settle(run, network.frames.last_seq)
            assert await conn.fetchval("SELECT count(*) FROM headrace.repo WHERE fetch_id > 0") == 0
            judge = judge_of(shared / NETWORK)
            found = judge.judge(await golden.rows(database))
            assert found.wrong == [], str(found)
            assert found.bound > 10_000
            assert await conn.fetchval("SELECT count(*) FROM headrace.stale") == 0
            lengths = [
                await client.hvals(counter(streams.BACKFILL))
                for counter in (KEYS.events, KEYS.bytes)
            ]
            kept = [KEYS.stream(streams.BACKFILL, shard) for shard in range(SHARDS)]
            assert sum([await client.xlen(name) for name in kept]) == 0
            assert {int(value) for values in lengths for value in values} == {0}
        finally:
            await conn.close()
            await client.aclose()
