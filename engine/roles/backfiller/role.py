"""The backfiller role: sessions of fetching, and what is told of them.

Any number of processes share the queue; each is a consumer under its own name. What a process
has learnt of hosts (their pace, who is down) outlives its sessions; everything else is read
anew from the stores.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from engine.core import hosts as scheduling
from engine.core import streams
from engine.errors import StreamsTorn
from engine.roles.backfiller import directory as directories
from engine.roles.backfiller import opening
from engine.roles.backfiller.append import Appender
from engine.roles.backfiller.job import Counters, Job
from engine.roles.backfiller.ledger import End
from engine.roles.backfiller.queue import Queue
from engine.roles.backfiller.session import Session
from engine.roles.keep_trying import KeepTrying

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.settings import Settings

logger = logging.getLogger(__name__)


class BackfillerRole(KeepTrying):
    """Fetches what is queued until it is stopped. What is then in hand stays queued."""

    LINE, PROGRESS = "repositories", "read"

    def __init__(self, name: str, settings: Settings) -> None:
        """Work under a name that no other process of the deployment has."""
        super().__init__()
        self._name = name
        self._settings = settings
        self._keys = streams.Keys(settings.redis_key_prefix)
        self._counters = Counters()
        self._lookups = directories.Counters()
        ours = settings.backfiller
        limits = scheduling.Limits(
            concurrency_first=min(4.0, ours.host_concurrency),
            concurrency_max=float(ours.host_concurrency),
            park_first_seconds=ours.host_park_seconds,
        )
        self._hosts: scheduling.Hosts[Job] = scheduling.Hosts(limits)
        self._owed: dict[int, End] = {}
        self._working: Session | None = None
        self._appender: Appender | None = None
        self._lost: bytes | None = None  # the mark of streams that lost entries under us

    async def _session(self, stop: asyncio.Event) -> None:
        settings, ours = self._settings, self._settings.backfiller
        async with AsyncExitStack() as stack:
            stack.callback(self._forget)
            opened = await opening.open_attempts(
                stack, settings, self._name, self._counters, self._lookups, self._lost
            )
            self._lost = None
            self._appender = opened.appender
            reading = await opening.connection(stack, settings)
            session = Session(
                queue=Queue(opened.commands, reading, self._keys.queue, self._name),
                hosts=self._hosts,
                attempts=opened.attempts,
                settings=ours,
                counters=self._counters,
                owed=self._owed,
            )
            self._working = session
            self._state = "running"
            logger.info("ready")
            try:
                await session.run(stop)
            except StreamsTorn:
                self._lost = opened.epoch.mark
                raise

    def report(self) -> dict[str, object]:
        """What the heartbeat tells: state, what is in hand, counters since the start."""
        session, appender = self._working, self._appender
        counters = dataclasses.asdict(self._counters)
        counters["outcomes"] = {str(name): n for name, n in self._counters.outcomes.items()}
        return {
            "state": self._state,
            "in_hand": len(session.jobs) if session else 0,
            "in_flight": session.running if session else 0,
            "waiting": self._hosts.waiting,
            "backpressure": {
                "now": bool(appender and appender.is_full),
                "times": appender.waits if appender else 0,
                "seconds": appender.waited_seconds if appender else 0.0,
            },
            "counters": counters,
            "lookups": dataclasses.asdict(self._lookups),
        }

    def _forget(self) -> None:
        """Work of a session goes with it; it is still in the queue."""
        self._hosts.abandon()
        self._working = self._appender = None

    def _counts(self) -> Mapping[str, int]:
        counters, of = self._counters, self._counters.outcomes
        fine = of["ok"] + of["empty"]
        return {
            "read": counters.read,
            "fetched": fine,
            "failed": of.total() - fine,
            "put_off": counters.put_off,
            "dead": counters.dead,
            "records": counters.records,
            "filtered": counters.filtered,
            "bytes": counters.bytes,
        }

    def _places(self) -> Mapping[str, object]:
        session = self._working
        return {
            "in_flight": session.running if session else 0,
            "waiting": self._hosts.waiting,
            "parked_hosts": len(self._hosts.parked(asyncio.get_running_loop().time())),
        }
