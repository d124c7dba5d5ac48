"""Every process says in Redis that it lives and what it is doing, each second and at each change.

Told, not trusted: nothing but ``headrace status`` reads it. A process that cannot
reach Redis simply falls silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping

import orjson
import redis.asyncio
import redis.exceptions

INTERVAL_SECONDS = 1.0

LOOK_SECONDS = 0.1
"""How soon another state is told."""

FAREWELL_SECONDS = 1.0
"""How long the last beat may take."""

EXPIRE_SECONDS = 10
"""A process that is silent for this long is gone from the report."""


@contextlib.asynccontextmanager
async def kept(
    url: str, key: str, facts: Mapping[str, object], report: Callable[[], Mapping[str, object]]
) -> AsyncIterator[None]:
    """Beat during the body; the last beat, which removes the key, has ``FAREWELL_SECONDS``."""
    over = asyncio.Event()
    beating = asyncio.ensure_future(beat(url, key, facts, report, over))
    try:
        yield
    finally:
        over.set()
        await asyncio.wait([beating], timeout=FAREWELL_SECONDS)
        beating.cancel()


async def beat(
    url: str,
    key: str,
    facts: Mapping[str, object],
    report: Callable[[], Mapping[str, object]],
    over: asyncio.Event,
) -> None:
    """Write the heartbeat of this process until `over`, then remove it.

    An event, for a cancellation may get lost: the client swallows one that comes while it connects.

    Args:
        url: of Redis.
        key: of the heartbeat.
        facts: what does not change.
        report: what does; asked often, for a beat comes early when its ``state`` is another.
        over: ends it.
    """
    client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=2.0, socket_timeout=2.0)
    started = time.time()
    try:
        while not over.is_set():
            now = report()
            state = now.get("state")  # As told: the role may alter its report while it is written.
            said = {
                "state": "running",
                **now,
                **facts,
                "pid": os.getpid(),
                "started_at": started,
                "at": time.time(),
            }
            # The role itself says what is wrong with Redis.
            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                await client.set(key, orjson.dumps(said), ex=EXPIRE_SECONDS)
            due = time.monotonic() + INTERVAL_SECONDS
            while not over.is_set() and time.monotonic() < due and report().get("state") == state:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await over.wait()
    finally:
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            async with asyncio.timeout(0.5):
                await client.delete(key)
        await client.aclose()
