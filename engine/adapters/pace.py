"""Turns at a directory of DIDs: whoever asks it takes one first.

The directory sees an address and not our processes, so the limit is the deployment's: the next
free turn stands in Redis, by Redis' clock, one key a directory (``SharedPace``). A process books
one turn at a time and asks when it has come, so processes that have much to ask take turns about.
A pause takes from everybody the turns that lie in it. A command without a Redis keeps the pace by
itself (``OwnPace``).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from engine.adapters import resp
from engine.core.pacing import PAUSE_SECONDS_MAX, Turns
from engine.core.streams import Keys
from engine.errors import StoreUnavailable

if TYPE_CHECKING:
    from engine.settings import Settings

_KNOWN = """#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step, longest = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call('HMGET', KEYS[1], 'free', 'paused')
local free, paused = tonumber(known[1]) or 0, tonumber(known[2]) or 0
if free > now + longest then free, paused = 0, 0 end
local function keep(name, at)
    redis.call('HSET', KEYS[1], name, string.format('%.0f', at))
    redis.call('PEXPIRE', KEYS[1], math.ceil(longest / 1000) + 1)
end
"""
"""What both scripts begin with; times are microseconds. A Redis that is full gives turns all the
same. A turn further away than ``longest`` was booked before the clock was set back."""

_TAKE = (
    _KNOWN
    + """
local turn = tonumber(ARGV[3])
if turn < paused or turn < now - step - 1000000 or turn > now + longest then
    turn = math.max(free, paused, now)
    keep('free', turn + step)
end
return {turn, turn - now}
"""
)
"""Books a turn, unless the one that is booked (third argument, else 0) is good still. Who comes
more than a second late has lost it: what was frozen does not ask together with others."""

_PAUSE = (
    _KNOWN
    + """
keep('paused', math.max(paused, now + tonumber(ARGV[3])))
keep('free', math.max(free, paused, now + tonumber(ARGV[3])))
return 0
"""
)

PROCESSES = 1000
"""So many may have a turn booked; only for telling a far turn from a clock that was set back."""


class Pace(Protocol):
    """Who may ask a directory when."""

    async def take(self, url: str) -> float:
        """Take a turn at a directory: 0.0; or how many seconds to wait before trying again.

        Raises:
            StoreError: Redis failed; there is no turn.
        """

    async def pause(self, url: str, seconds: float) -> None:
        """No turn at it before so many seconds have passed, five minutes at most.

        Raises:
            StoreError: Redis failed.
        """

    def close(self) -> None:
        """No more turns."""


class OwnPace:
    """Turns of one process that knows of no other."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._turns: dict[str, Turns] = {}

    async def take(self, url: str) -> float:
        """As `Pace` says."""
        turns, now = self._of(url), self._clock()
        wait = turns.wait_seconds(now)
        if not wait:
            turns.take(now)
        return wait

    async def pause(self, url: str, seconds: float) -> None:
        """As `Pace` says."""
        self._of(url).pause(self._clock(), seconds)

    def close(self) -> None:
        """Nothing to do."""

    def _of(self, url: str) -> Turns:
        return self._turns.setdefault(url, Turns(self._per_second))


class SharedPace:
    """Turns of all processes of a deployment; one connection, opened when it is needed."""

    def __init__(self, redis_url: str, keys: Keys, per_second: float) -> None:
        self._url = redis_url
        self._keys = keys
        self._step = math.ceil(1_000_000 / per_second)
        self._longest = int(PAUSE_SECONDS_MAX * 1_000_000) + PROCESSES * self._step
        self._booked: dict[str, int] = {}  # whoever waited for it may have been cancelled
        self._conn: resp.RespConnection | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False

    async def take(self, url: str) -> float:
        """As `Pace` says."""
        turn, wait = await self._ask(_TAKE, url, self._booked.pop(url, 0))
        if wait <= 0:
            return 0.0
        self._booked[url] = turn
        return float(wait) / 1_000_000

    async def pause(self, url: str, seconds: float) -> None:
        """As `Pace` says."""
        seconds = min(seconds, PAUSE_SECONDS_MAX)
        await self._ask(_PAUSE, url, math.ceil(seconds * 1_000_000))

    def close(self) -> None:
        """Drop the connection; whoever waits for a turn gets `StoreUnavailable`."""
        self._is_closed = True
        if self._conn is not None:
            self._conn.close()

    async def _ask(self, script: str, url: str, argument: int) -> Any:
        async with self._opening:
            if self._conn is None or not self._conn.is_open:
                if not self._is_closed:
                    self._conn = await resp.RespConnection.open(self._url)
                if self._is_closed:
                    self.close()
                    raise StoreUnavailable("turns at the directory: closed")
            conn = self._conn
        assert conn is not None
        key = self._keys.directory(url)
        return await conn.command("EVAL", script, 1, key, self._step, self._longest, argument)


def of(settings: Settings) -> Pace:
    """The deployment's pace, or our own where no Redis is named."""
    per_second = settings.plc_requests_per_second
    if settings.redis_url is None:
        return OwnPace(per_second)
    return SharedPace(settings.redis_url, Keys(settings.redis_key_prefix), per_second)
