"""Full streams or a full Redis make the relay wait; nothing is dropped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from engine.adapters import embedded
from engine.core import streams
from engine.runtime.worker import ROLE_STOP_SECONDS
from tests import fix_relay
from tests.fix_ingest import KEYS, Ingest, until
from tests.fix_relay import Relay

pytestmark = pytest.mark.services


FAT_FRAMES = 10_000
"""100 MB: more than the mark, our buffer and the kernel's (up to 37 MB of a connection) take."""


def fat(relay: Relay, count: int) -> None:
    """Frames of 10 kB: unreadable ones, hence dead letters, with their bytes."""
    relay.scripts.append(fix_relay.first(*([b"x" * 10_000] * count)))


async def settled(relay: Relay) -> int:
    """Frames sent, once no more are."""
    before = -1
    while before != relay.sent:
        before = relay.sent
        await asyncio.sleep(0.4)
    return before


async def test_high_water_mark_stops_the_relay_and_loses_nothing(
    ingest: Ingest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("engine.roles.firehose.role.SOCKET_BUFFER_BYTES", 1 << 20)
    ingest.variables["INGESTER_HIGH_WATER_MARK"] = "2000"
    ingest.variables["INGESTER_BATCH_SIZE"] = "200"
    fat(ingest.relay, FAT_FRAMES)
    async with ingest.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: role.report()["state"] == "backpressure")
        held = await settled(ingest.relay)
        assert held < FAT_FRAMES, "the relay was not made to wait"
        assert 2000 <= counters.ops <= 2400
        total = 0
        while total < FAT_FRAMES:
            total += await ingest.trim_all()
            await asyncio.sleep(0.05)
        assert total == counters.ops == FAT_FRAMES
        await until(lambda: role.report()["state"] == "running")
        assert ingest.relay.cursors == [0]
        assert counters.backpressure >= 1
        assert counters.backpressure_seconds > 0
    begins = [r for r in caplog.records if r.getMessage().startswith("backpressure begins")]
    ends = [r for r in caplog.records if r.getMessage().startswith("backpressure ends")]
    assert len(begins) == len(ends) == counters.backpressure


async def test_byte_budget_is_the_second_limit(ingest: Ingest) -> None:
    ingest.variables["INGESTER_HIGH_WATER_BYTES"] = str(1 << 20)
    ingest.variables["INGESTER_BATCH_SIZE"] = "10"
    fat(ingest.relay, 400)
    async with ingest.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: role.report()["state"] == "backpressure")
        assert 100 <= counters.ops <= 130
        await ingest.trim_all()
        await until(lambda: counters.ops >= 200)
        assert counters.ops < 260


async def test_stop_is_quick_while_waiting(ingest: Ingest) -> None:
    ingest.variables["INGESTER_HIGH_WATER_MARK"] = "10"
    ingest.relay.fill(5000)
    async with ingest.running() as role:
        await until(lambda: role.report()["state"] == "backpressure")
        loop = asyncio.get_running_loop()
        started = loop.time()
    assert loop.time() - started < ROLE_STOP_SECONDS


async def test_flushall_is_noticed_while_waiting(ingest: Ingest) -> None:
    ingest.variables["INGESTER_HIGH_WATER_MARK"] = "10"
    ingest.relay.fill(500)
    async with ingest.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: role.report()["state"] == "backpressure")
        async with ingest.redis() as client:
            await client.flushdb()
        await until(lambda: counters.reconnects["epoch"] == 1)


@pytest.fixture
async def small(database: str, own_valkey: embedded.Valkey) -> AsyncIterator[Ingest]:
    """An ingest whose Redis has a memory limit of the test's choice."""
    async with fix_relay.running(Relay()) as relay:
        yield Ingest(database, own_valkey.url, [relay], {"INGESTER_BATCH_SIZE": "100"})


async def test_redis_at_its_memory_limit_is_backpressure(small: Ingest) -> None:
    small.relay.fill(20_000)
    async with small.redis() as client:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used + (2 << 20))
        async with small.running() as role:
            (counters,) = role._counters.values()
            await until(lambda: role.report()["state"] == "backpressure")
            appended = counters.ops
            assert 0 < appended < 20_000
            await asyncio.sleep(1.2)
            assert counters.ops <= appended + 1000
            assert counters.backpressure == 1
            assert sum(counters.reconnects.values()) == 0
            await client.config_set("maxmemory", 0)
            await small.reached(20_000)
        await small.assert_exactly_the_log()


async def test_streams_can_be_made_anew_in_a_full_redis(small: Ingest) -> None:
    small.relay.fill(20_000)
    async with small.redis() as client:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used + (1 << 20))
        async with small.running() as role:
            await until(lambda: role.report()["state"] == "backpressure")
        assert await client.get(KEYS.epoch)
        await client.delete(KEYS.stream(streams.LIVE, streams.shard_of(fix_relay.did(1), 16)))
        async with small.running() as role:
            (counters,) = role._counters.values()
            await until(lambda: len(small.relay.cursors) == 2)
            await until(lambda: counters.ops > 100)
    assert small.relay.cursors[1] == 0
