"""The status, read from a real Redis and a real Postgres."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import orjson
import pytest
import redis.asyncio

from engine.adapters import embedded
from engine.core.streams import LIVE, Keys
from engine.ops import status
from engine.ops.status_reader import StatusReader
from engine.settings import IngesterSettings, Settings

HOST = "relay.example"
KEYS = Keys("p*:")  # a prefix that a careless SCAN would take for a pattern


@pytest.fixture
def settings(database: str, redis_url: str) -> Settings:
    return Settings(
        database_url=database,
        redis_url=redis_url,
        redis_key_prefix=KEYS.prefix,
        ingester=IngesterSettings(relay_hosts=(f"wss://{HOST}",)),
    )


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[StatusReader]:
    made = StatusReader(settings)
    yield made
    await made.close()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database, server_settings={"search_path": "headrace"})
    yield made
    await made.close()


async def fill(client: redis.asyncio.Redis, conn: asyncpg.Connection) -> list[str]:
    """A relay at seq 30, three entries in shard 0, the first committed; the entries' ids."""
    await conn.execute("UPDATE deployment SET epoch = 'e1'")
    await conn.execute("INSERT INTO relay (host, first_seq) VALUES ($1, 5)", HOST)
    await client.set(KEYS.epoch, "some-id:e1")
    for shard in range(16):
        await client.xgroup_create(KEYS.stream(LIVE, shard), "g", mkstream=True)
    ids = []
    for _ in range(3):
        # Entries are no text: a reader that decodes them would fail.
        entry_id = await client.xadd(KEYS.stream(LIVE, 0), {"event": b"\xff\x00" * 10})
        assert isinstance(entry_id, bytes)
        ids.append(entry_id.decode())
    await client.set(KEYS.cursor(LIVE, HOST), 30)
    await client.hset(KEYS.events(LIVE), mapping={"0": 7})
    await client.hset(KEYS.bytes(LIVE), mapping={"0": 60})
    await conn.execute(
        "UPDATE position SET epoch = 'e1', entry_id = $1, entries = 1, relays = $2 WHERE shard = 0",
        ids[0],
        orjson.dumps({f"{HOST}/1": {"seq": 11, "applied": 3}}).decode(),
    )
    await conn.execute("UPDATE shard SET owner = 'indexer/0' WHERE shard = 0")
    return ids


async def test_collect_of_a_new_deployment_is_empty_and_without_errors(
    reader: StatusReader,
) -> None:
    found = await reader.collect()
    assert found.errors == []
    relay = found.relays[HOST]
    assert (relay.received_seq, relay.indexed_seq, relay.generation) == (None, None, None)
    assert found.streams[LIVE].entries == 0
    assert found.processes == {}


async def test_collect_tells_received_and_indexed(
    reader: StatusReader, client: redis.asyncio.Redis, conn: asyncpg.Connection
) -> None:
    ids = await fill(client, conn)
    found = await reader.collect()
    assert found.errors == []
    relay = found.relays[HOST]
    assert (relay.received_seq, relay.indexed_seq, relay.generation) == (30, 11, 1)
    assert relay.lag_seconds is not None
    assert 0 <= relay.lag_seconds < 30
    stream = found.streams[LIVE]
    assert (stream.events, stream.bytes, stream.entries) == (7, 60, 3)
    shard = stream.shards["0"]
    assert (shard.committed_id, shard.last_id, shard.owner) == (ids[0], ids[2], "indexer/0")
    assert shard.waiting
    assert shard.lag_entries == 2
    assert shard.lag_seconds == relay.lag_seconds
    assert shard.progress_seconds is not None
    assert 0 <= shard.progress_seconds < 3600
    quiet = stream.shards["1"]
    assert (quiet.lag_entries, quiet.lag_seconds) == (0, 0.0)
    await conn.execute("UPDATE position SET entry_id = $1 WHERE shard = 0", ids[2])
    assert (await reader.collect()).relays[HOST].indexed_seq == 30


async def test_collect_with_other_settings_still_tells_the_deployments_relays(
    settings: Settings, client: redis.asyncio.Redis, conn: asyncpg.Connection
) -> None:
    await fill(client, conn)
    reader = StatusReader(msgspec.structs.replace(settings, ingester=IngesterSettings()))
    found = await reader.collect()
    await reader.close()
    assert list(found.relays) == [HOST]
    assert found.relays[HOST].received_seq == 30


async def test_collect_after_flushall_reports_what_postgres_holds(
    reader: StatusReader, client: redis.asyncio.Redis, conn: asyncpg.Connection
) -> None:
    await fill(client, conn)
    await client.flushdb()
    found = await reader.collect()
    assert found.errors == []
    assert (found.relays[HOST].received_seq, found.relays[HOST].indexed_seq) == (None, 5)
    assert not status.caught_up(found, [HOST])


async def test_collect_counts_identities_deletions_letters_gaps_and_resyncs(
    reader: StatusReader, client: redis.asyncio.Redis, conn: asyncpg.Connection
) -> None:
    await fill(client, conn)
    await conn.execute(
        """INSERT INTO identity_due (did, seq, time, forced, attempts, next_attempt_at) VALUES
           ('a', 1, 't', false, 0, now() + interval '1 hour'),
           ('b', 1, 't', false, 1, now() - interval '1 hour'),
           ('c', 1, 't', false, 1, now() + interval '1 hour')"""
    )
    await conn.execute(
        """INSERT INTO deletion
           (did, shard, relay, generation, seq, time, attempts, next_attempt_at, confirmed_at)
           VALUES
           ('a', 0, 'r', 1, 1, 't', 0, now(), NULL),
           ('b', 0, 'r', 1, 1, 't', 3, now() + interval '1 hour', NULL),
           ('c', 0, 'r', 1, 1, 't', 3, now() + interval '1 hour', now())"""
    )
    await conn.execute(
        """INSERT INTO dead_letter (source, shard, relay, generation, reason, error)
           SELECT 'firehose_live', 0, 'r', 1, reason, '' FROM
           unnest(ARRAY['bad_cbor', 'bad_cbor', 'too_big']) reason"""
    )
    await conn.execute(
        "INSERT INTO relay_gap (host, generation, after_seq, before_seq, reason) "
        "VALUES ($1, 1, 3, 9, 'outdated')",
        HOST,
    )
    await conn.execute("INSERT INTO repo (did, resync) VALUES ('a', 'gap'), ('b', NULL)")
    found = await reader.collect()
    assert (found.identity.due, found.identity.later) == (2, 1)
    assert (found.deletions.due, found.deletions.later) == (2, 1)
    assert found.dead_letters == {"bad_cbor": 2, "too_big": 1}
    gap = found.relays[HOST].gaps[0]
    assert (gap.after_seq, gap.before_seq, gap.reason) == (3, 9, "outdated")
    assert found.resync == 1


async def test_collect_lists_processes_of_this_prefix_only(
    reader: StatusReader, client: redis.asyncio.Redis
) -> None:
    said = {"role": "firehose", "pid": 7, "state": "running", "at": time.time() - 2}
    said["relays"] = {HOST: {"connected": True, "notices": {"info:OutdatedCursor": 1}}}
    await client.set(KEYS.process("firehose"), orjson.dumps(said))
    await client.set(Keys("pX:").process("other"), orjson.dumps(said))
    found = await reader.collect()
    assert list(found.processes) == ["firehose"]
    assert found.processes["firehose"]["pid"] == 7
    age = found.processes["firehose"]["age"]
    assert isinstance(age, float)
    assert 2 <= age < 10
    assert found.relays[HOST].connected is True
    assert found.relays[HOST].notices == {"info:OutdatedCursor": 1}


async def test_collect_without_a_store_names_it_and_keeps_the_rest(
    settings: Settings, client: redis.asyncio.Redis, conn: asyncpg.Connection
) -> None:
    await fill(client, conn)
    for change, lost in (
        ({"redis_url": "unix:///nowhere/v.sock"}, "Redis: "),
        ({"database_url": "postgresql://postgres@/x?host=/nowhere"}, "Postgres: "),
    ):
        other = StatusReader(msgspec.structs.replace(settings, **change))
        found = await other.collect()
        await other.close()
        assert len(found.errors) == 1
        assert found.errors[0].startswith(lost)
        seqs = (found.relays[HOST].received_seq, found.relays[HOST].indexed_seq)
        assert seqs == ((None, 5) if lost == "Redis: " else (30, None))
        assert not status.caught_up(found, [HOST])


async def test_collect_goes_on_after_a_store_came_back(
    settings: Settings, own_valkey: embedded.Valkey
) -> None:
    reader = StatusReader(msgspec.structs.replace(settings, redis_url=own_valkey.url))
    assert (await reader.collect()).errors == []
    own_valkey.kill()
    assert len((await reader.collect()).errors) == 1
    own_valkey.start()
    assert (await reader.collect()).errors == []
    await reader.close()


async def test_collect_without_our_tables_says_so(settings: Settings, empty_database: str) -> None:
    reader = StatusReader(msgspec.structs.replace(settings, database_url=empty_database))
    found = await reader.collect()
    await reader.close()
    assert 'relation "headrace.' in found.errors[0]
