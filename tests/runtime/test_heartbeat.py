from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest
import redis.asyncio

from engine.core.streams import Keys
from engine.runtime import heartbeat
from engine.runtime.plan import ProcessSpec


@pytest.mark.parametrize("turns", range(12))
async def test_beat_ends_soon_whenever_it_is_over(
    redis_url: str, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 600.0)
    over = asyncio.Event()
    beat = asyncio.create_task(heartbeat.beat(redis_url, "h:key", {}, dict, over))
    for _ in range(turns):
        await asyncio.sleep(0)
    over.set()
    async with asyncio.timeout(20):
        await beat
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.get("h:key") is None


async def test_another_state_is_told_before_the_next_second(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The role alters the very report that is being written: what was told is what counts.
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 600.0)
    state = {"state": "starting"}
    async with (
        heartbeat.kept(redis_url, "h:key", {}, lambda: state),
        redis.asyncio.Redis.from_url(redis_url) as client,
        asyncio.timeout(20),
    ):
        for word in ("starting", "running"):
            state["state"] = word
            while (text := await client.get("h:key")) is None or (
                orjson.loads(text)["state"] != word
            ):
                await asyncio.sleep(0.01)


async def test_processes_of_two_hosts_are_heard_both(redis_url: str) -> None:
    keys = Keys("h:")
    specs = [ProcessSpec("indexer", 0, None, host) for host in ("a", "b")]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_url))
        for spec in specs:
            key, facts = keys.process(spec.shared_name), {"host": spec.host}
            beating = heartbeat.kept(redis_url, key, facts, lambda: {"state": "tested"})
            await stack.enter_async_context(beating)
        async with asyncio.timeout(10):
            for spec in specs:
                while (text := await client.get(keys.process(f"indexer/0@{spec.host}"))) is None:
                    await asyncio.sleep(0.01)
                assert orjson.loads(text)["host"] == spec.host
