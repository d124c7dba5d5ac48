"""What a backfiller appends: in order, with its queue entry, never beyond the marks, never lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from engine.adapters import embedded
from engine.adapters.resp import RespConnection
from engine.core import codec, streams, wire
from engine.errors import StoreUnavailable, StreamsTorn
from engine.roles.backfiller import append as module
from engine.roles.backfiller.append import Appender, Done, Marks
from engine.roles.backfiller.slices import Cut, append_export
from tests.fix_ingest import until

pytestmark = pytest.mark.services

KEYS = streams.Keys("t:")
MARK = b"deployment:1"
SHARDS = 4
DIDS = [f"did:plc:{number:024}" for number in range(40)]
QUEUE = ("t:queue", "group")


class Store:
    """A Redis with the streams of an epoch, looked at over a client of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Any: the client types each reply as everything that any protocol could answer.
        self.client: Any = redis.asyncio.Redis.from_url(url)

    async def make(self) -> None:
        await self.client.set(KEYS.epoch, MARK)
        for shard in range(SHARDS):
            name = KEYS.stream(streams.BACKFILL, shard)
            await self.client.xgroup_create(name, "x", "$", mkstream=True)
            await self.client.hset(KEYS.events(streams.BACKFILL), str(shard), "0")
            await self.client.hset(KEYS.bytes(streams.BACKFILL), str(shard), "0")

    @contextlib.asynccontextmanager
    async def appender(self, marks: Marks) -> AsyncIterator[Appender]:
        connection = await RespConnection.open(self.url)
        appender = Appender(connection, KEYS, MARK, SHARDS, marks)
        try:
            yield appender
        finally:
            await appender.close()
            connection.close()

    async def entries(self, shard: int) -> list[bytes]:
        items = await self.client.xrange(KEYS.stream(streams.BACKFILL, shard))
        return [fields[b"event"] for _, fields in items]

    async def of(self, did: str) -> list[bytes]:
        return await self.entries(streams.shard_of(did, SHARDS))

    async def counted(self) -> tuple[int, int]:
        """Events and bytes as the counters have them."""
        events = await self.client.hvals(KEYS.events(streams.BACKFILL))
        size = await self.client.hvals(KEYS.bytes(streams.BACKFILL))
        return sum(map(int, events)), sum(map(int, size))

    async def drain(self) -> int:
        """As indexers do that took everything; how many events that was."""
        async with self.client.pipeline(transaction=True) as pipe:
            pipe.hvals(KEYS.events(streams.BACKFILL))
            for shard in range(SHARDS):
                pipe.xtrim(KEYS.stream(streams.BACKFILL, shard), maxlen=0)
                pipe.hset(KEYS.events(streams.BACKFILL), str(shard), "0")
                pipe.hset(KEYS.bytes(streams.BACKFILL), str(shard), "0")
            events, *_ = await pipe.execute()
        return sum(map(int, events))


ROOMY = Marks(events=1_000_000, bytes=1 << 30)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    store = Store(redis_url)
    await store.make()
    try:
        yield store
    finally:
        await store.client.aclose()


async def test_entries_of_a_did_are_in_order_and_counted(store: Store) -> None:
    async def fetch(appender: Appender, did: str) -> None:
        for number in range(5):
            await appender.append(did, [(3, f"{did} {number}".encode())])
        await appender.append(did, [(3, f"{did} 5".encode()), (1, f"{did} 6".encode())])

    async with store.appender(ROOMY) as appender:
        await asyncio.gather(*(fetch(appender, did) for did in DIDS))
    found = [await store.entries(shard) for shard in range(SHARDS)]
    for did in DIDS:
        own = [entry for entry in found[streams.shard_of(did, SHARDS)] if did.encode() in entry]
        assert own == [f"{did} {number}".encode() for number in range(7)]
    size = sum(len(entry) for entries in found for entry in entries)
    assert await store.counted() == (len(DIDS) * 19, size)
    assert (appender.events, appender.bytes) == (len(DIDS) * 19, size)


async def test_the_closing_entry_finishes_the_queue_entry(store: Store) -> None:
    key, group = QUEUE
    await store.client.xgroup_create(key, group, "0", mkstream=True)
    kept, finished = [await store.client.xadd(key, {"repo": "x"}) for _ in range(2)]
    await store.client.xreadgroup(group, "me", {key: ">"})
    async with store.appender(ROOMY) as appender:
        await appender.append(DIDS[0], [(1, b"slice"), (1, b"closing")], Done(*QUEUE, finished))
    assert await store.of(DIDS[0]) == [b"slice", b"closing"]
    assert [entry_id for entry_id, _ in await store.client.xrange(key)] == [kept]
    assert (await store.client.xpending(key, group))["pending"] == 1


async def test_full_streams_make_everybody_wait_and_nothing_is_lost(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    caplog.set_level(logging.INFO, module.__name__)
    most, taken = 0, 0
    async with store.appender(Marks(events=30, bytes=1 << 30)) as appender:
        tasks = [
            asyncio.create_task(appender.append(did, [(10, did.encode() + bytes([number]))]))
            for did in DIDS
            for number in range(3)
        ]
        while not all(task.done() for task in tasks):
            await until(lambda: appender.is_full or all(task.done() for task in tasks))
            events = await store.drain()
            most = max(most, events)
            taken += events // 10
        for task in tasks:
            task.result()
    events, _ = await store.counted()
    assert taken + events // 10 == len(tasks)
    # No more than the mark, although 120 wanted to append at once.
    assert most == 30
    assert appender.waits >= 20
    entering = [record for record in caplog.messages if "backpressure begins" in record]
    leaving = [record for record in caplog.messages if "backpressure ends" in record]
    assert len(entering) == len(leaving) == appender.waits


async def test_the_mark_in_bytes_holds_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    async with store.appender(Marks(events=1000, bytes=1000)) as appender:
        await appender.append(DIDS[0], [(1, b"x" * 2000)])
        second = asyncio.create_task(appender.append(DIDS[0], [(1, b"second")]))
        await until(lambda: appender.is_full)
        assert not second.done()
        await store.drain()
        await second
    assert await store.of(DIDS[0]) == [b"second"]


async def test_who_is_cancelled_while_waiting_appends_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    async with store.appender(Marks(events=1, bytes=1000)) as appender:
        await appender.append(DIDS[0], [(1, b"first")])
        waiting = asyncio.create_task(appender.append(DIDS[0], [(1, b"second")]))
        await until(lambda: appender.is_full)
        waiting.cancel()
        await store.drain()
        await appender.append(DIDS[0], [(1, b"third")])
    assert waiting.cancelled()
    assert await store.of(DIDS[0]) == [b"third"]


async def test_another_epoch_ends_the_appender(store: Store) -> None:
    async with store.appender(ROOMY) as appender:
        await appender.append(DIDS[0], [(1, b"first")])
        await store.client.set(KEYS.epoch, b"deployment:2")
        tasks = [appender.append(did, [(1, b"late")]) for did in DIDS]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, StreamsTorn) for result in results)
        assert len(set(map(id, results))) == len(DIDS)
    for shard in range(SHARDS):
        assert b"late" not in await store.entries(shard)


async def test_streams_of_another_epoch_are_not_appended_to(store: Store) -> None:
    await store.client.delete(KEYS.epoch)
    async with store.appender(ROOMY) as appender:
        with pytest.raises(StreamsTorn):
            await appender.append(DIDS[0], [(1, b"first")])
    assert await store.counted() == (0, 0)


async def test_a_stream_that_is_gone_is_not_begun_anew(store: Store) -> None:
    name = KEYS.stream(streams.BACKFILL, streams.shard_of(DIDS[0], SHARDS))
    async with store.appender(ROOMY) as appender:
        await appender.append(DIDS[0], [(1, b"first")])
        await store.client.delete(name)
        with pytest.raises(StreamsTorn):
            await appender.append(DIDS[0], [(1, b"second")])
    assert not await store.client.exists(name)


async def test_redis_at_its_memory_limit_is_waited_for(
    own_valkey: embedded.Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    store = Store(own_valkey.url)
    await store.make()
    async with store.appender(ROOMY) as appender:
        await appender.append(DIDS[0], [(1, b"first")])
        await store.client.config_set("maxmemory", "1kb")
        tasks = [asyncio.create_task(appender.append(did, [(1, b"later")])) for did in DIDS]
        await until(lambda: appender.is_full)
        assert not any(task.done() for task in tasks)
        await store.client.config_set("maxmemory", "0")
        await asyncio.gather(*tasks)
    found = [entry for shard in range(SHARDS) for entry in await store.entries(shard)]
    assert sorted(found) == [b"first"] + [b"later"] * len(DIDS)
    assert not appender.is_full
    await store.client.aclose()


async def test_a_redis_that_goes_away_fails_everybody_at_once(own_valkey: embedded.Valkey) -> None:
    store = Store(own_valkey.url)
    await store.make()
    async with store.appender(Marks(events=1, bytes=1000)) as appender:
        await appender.append(DIDS[0], [(1, b"first")])
        tasks = [asyncio.create_task(appender.append(did, [(1, b"later")])) for did in DIDS]
        await until(lambda: appender.is_full)
        own_valkey.kill()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    await store.client.aclose()


async def test_an_export_arrives_whole(store: Store, shared: Path) -> None:
    path = max((shared / "golden/cars").glob("*.car"), key=lambda path: path.stat().st_size)
    from_bytes = codec.read_repo(path.read_bytes())
    from_file = codec.read_repo(path)
    for export in (from_bytes, from_file):
        assert isinstance(export, codec.Export), export
        await store.drain()
        async with store.appender(ROOMY) as appender:
            cut = Cut(collections=("app.bsky.feed.*",), notify=False)
            carried = await append_export(appender, export, 9, cut)
        entries = [wire.decode(entry) for entry in await store.of(export.did)]
        closing = entries.pop()
        slices = [entry for entry in entries if isinstance(entry, wire.Slice)]
        assert len(slices) == len(entries) == carried.slices
        assert isinstance(closing, wire.Closing)
        assert (closing.records, closing.data, closing.fetch_id) == (len(export), export.data, 9)
        held = [(each.path, each.cid, each.record) for part in slices for each in part.records]
        leaves = export.leaves()
        assert held == [leaf for leaf in leaves if leaf[0].startswith("app.bsky.feed.")]
        assert sum(part.filtered for part in slices) == len(leaves) - len(held) > 0
        assert (carried.records, carried.filtered, carried.rejected) == (
            len(held),
            len(leaves) - len(held),
            0,
        )
        events, size = await store.counted()
        assert (events, size) == (sum(map(wire.weight, entries)) + 1, carried.bytes)
