from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from engine.core.streams import Keys
from engine.runtime import heartbeat
from engine.runtime.plan import ProcessSpec


class Quiet:
    async def run(self, stop: asyncio.Event) -> None:
        raise NotImplementedError

    def report(self) -> dict[str, object]:
        return {}


@pytest.mark.parametrize("turns", range(12))
async def test_beat_ends_soon_whenever_it_is_over(redis_url: str, turns: int) -> None:
    spec, over = ProcessSpec("firehose", 0, 1, None), asyncio.Event()
    beat = asyncio.create_task(heartbeat.beat(redis_url, Keys("h:"), spec, Quiet(), over))
    for _ in range(turns):
        await asyncio.sleep(0)
    over.set()
    async with asyncio.timeout(0.9):
        await beat
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.get("h:headrace:process:firehose") is None
