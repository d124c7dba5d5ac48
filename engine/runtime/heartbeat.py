"""Every process says once a second in Redis that it lives, and what it is doing.

Told, not trusted: nothing but ``headrace status`` reads it. A process that cannot
reach Redis simply falls silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

import orjson
import redis.asyncio
import redis.exceptions

if TYPE_CHECKING:
    from engine.core.streams import Keys
    from engine.runtime.plan import ProcessSpec
    from engine.runtime.worker import Role

INTERVAL_SECONDS = 1.0
EXPIRE_SECONDS = 10
"""A process that is silent for this long is gone from the report."""


async def beat(url: str, keys: Keys, spec: ProcessSpec, role: Role) -> None:
    """Write the heartbeat of this process until cancelled, then remove it."""
    client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=2.0, socket_timeout=2.0)
    key = keys.process(spec.name)
    started = time.time()
    try:
        while True:
            said = {
                "state": "running",
                **role.report(),
                "role": spec.role,
                "slot": spec.slot,
                "of": spec.of,
                "core": spec.core,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started_at": started,
                "at": time.time(),
            }
            # The role itself says what is wrong with Redis.
            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                await client.set(key, orjson.dumps(said), ex=EXPIRE_SECONDS)
            await asyncio.sleep(INTERVAL_SECONDS)
    finally:
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            async with asyncio.timeout(0.5):
                await client.delete(key)
        await client.aclose()
