"""Which processes of a plan are at work, as their heartbeats have it; told in the log and status.

A process is ready when it says so in its heartbeat, under the pid that we started: what its
predecessor said last stays in Redis for some seconds and is not its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import redis.asyncio
import redis.exceptions

from engine import log
from engine.core.streams import Keys
from engine.runtime import heartbeat
from engine.runtime.plan import ProcessSpec
from engine.settings import Settings

logger = logging.getLogger(__name__)

READY = {"running", "backpressure"}
"""States of a process that does its job, or would if there were room for more."""

POLL_SECONDS = 0.2

REPORT_SECONDS = 30.0
"""How often a process is named that is still not ready."""

Line = tuple[int, str]
"""Level and text of a line for the log."""


class Readiness:
    """Judges heartbeats; knows no clock and no Redis."""

    def __init__(self, specs: Sequence[ProcessSpec]) -> None:
        self._specs = specs
        self._since: dict[str, tuple[int, float]] = {}  # pid, and when it was first seen
        self._told: dict[str, int] = {}  # pid that was called ready
        self._warned: dict[str, float] = {}
        self._all_told = False
        self._states: dict[str, str] = {spec.name: "silent" for spec in specs}

    def observe(
        self, said: Mapping[str, Mapping[str, Any]], pids: Mapping[str, int], now: float
    ) -> Iterator[Line]:
        """What there is to say after one look.

        Args:
            said: heartbeats by shared name.
            pids: the processes that run, by name.
            now: seconds of a clock that only goes on.
        """
        for spec in self._specs:
            pid = pids.get(spec.name)
            heard = said.get(spec.shared_name, {})
            ours = pid is not None and (heard.get("pid"), heard.get("host")) == (pid, spec.host)
            self._states[spec.name] = str(heard.get("state")) if ours else "silent"
            if pid is not None:
                yield from self._of_process(spec.name, pid, now)
        ready = [name for name, pid in self._told.items() if pids.get(name) == pid]
        if len(ready) < len(self._specs):
            self._all_told = False
        elif not self._all_told:
            self._all_told = True
            yield logging.INFO, f"all processes are ready {log.fields(processes=len(ready))}"

    def _of_process(self, name: str, pid: int, now: float) -> Iterator[Line]:
        if self._since.get(name, (0, 0.0))[0] != pid:
            self._since[name] = pid, now
            self._warned[name] = now
        seconds = now - self._since[name][1]
        state = self._states[name]
        if self._told.get(name) == pid:
            return
        if state in READY:
            self._told[name] = pid
            yield logging.INFO, f"ready {log.fields(process=name, pid=pid, seconds=seconds)}"
        elif now - self._warned[name] >= REPORT_SECONDS:
            self._warned[name] = now
            found = log.fields(process=name, pid=pid, state=state, seconds=seconds)
            yield logging.WARNING, f"not ready yet {found}"

    def report(self) -> dict[str, object]:
        """For the supervisor's own heartbeat: who is not ready now, and in which state."""
        late = {name: state for name, state in self._states.items() if state not in READY}
        return {"state": "not all ready" if late else "running", "not_ready": late}


async def herald(
    settings: Settings,
    specs: Sequence[ProcessSpec],
    pids: Callable[[], Mapping[str, int]],
    host: str,
    over: asyncio.Event,
) -> None:
    """Look, tell the log and beat for the supervisor, until ``over``.

    Args:
        settings: with both URLs.
        specs: the plan.
        pids: tells which processes run now, by name.
        host: this machine's name.
        over: ends it. An event, for a cancellation may get lost while the client connects.
    """
    keys, url = Keys(settings.redis_key_prefix), settings.redis_url or ""
    names = [spec.shared_name for spec in specs]
    readiness = Readiness(specs)
    loop = asyncio.get_running_loop()
    client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=2.0, socket_timeout=2.0)
    # There may be several on a host, for different roles.
    key = keys.process(f"up/{os.getpid()}@{host}")
    facts = {"role": "up", "host": host}
    try:
        async with heartbeat.kept(url, key, facts, readiness.report):
            while not over.is_set():
                # The processes say themselves what is wrong with Redis.
                with contextlib.suppress(redis.exceptions.RedisError, OSError):
                    texts = await client.mget([keys.process(name) for name in names])
                    said = zip(names, texts, strict=True)
                    heard = {name: orjson.loads(text) for name, text in said if text}
                    if not over.is_set():
                        for level, line in readiness.observe(heard, pids(), loop.time()):
                            logger.log(level, "%s", line)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await over.wait()
    finally:
        await client.aclose()
