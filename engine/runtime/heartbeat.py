"""Every process says once a second in Redis that it lives, and what it is doing.

Told, not trusted: nothing but ``headrace status`` reads it. A process that cannot
reach Redis simply falls silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

import orjson
import redis.asyncio
import redis.exceptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.core.streams import Keys
    from engine.runtime.plan import ProcessSpec

INTERVAL_SECONDS = 1.0
EXPIRE_SECONDS = 10
"""A process that is silent for this long is gone from the report."""


async def beat(
    url: str,
    keys: Keys,
    spec: ProcessSpec,
    report: Callable[[], Mapping[str, object]],
    over: asyncio.Event,
) -> None:
    """Write the heartbeat of this process until `over`, then remove it.

    An event, for a cancellation may get lost: the client swallows one that comes while it connects.
    """
    client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=2.0, socket_timeout=2.0)
    key = keys.process(spec.shared_name)
    started = time.time()
    try:
        while not over.is_set():
            said = {
                "state": "running",
                **report(),
                "role": spec.role,
                "slot": spec.slot,
                "core": spec.core,
                "pid": os.getpid(),
                "host": spec.host,
                "started_at": started,
                "at": time.time(),
            }
            # The role itself says what is wrong with Redis.
            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                await client.set(key, orjson.dumps(said), ex=EXPIRE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await over.wait()
    finally:
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            async with asyncio.timeout(0.5):
                await client.delete(key)
        await client.aclose()
