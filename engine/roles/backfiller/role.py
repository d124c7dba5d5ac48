"""The backfiller role: sessions of fetching, and what is told of them.

Any number of processes share the queue; each is a consumer under its own name. What a process
has learnt of hosts (their pace, who is down) outlives its sessions; everything else is read
anew from the stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import sql
from engine.adapters import http, postgres, resp
from engine.adapters.identity import DidResolver
from engine.adapters.spool import Spool
from engine.core import hosts as scheduling
from engine.core import streams
from engine.errors import StreamsTorn
from engine.roles.backfiller import directory as directories
from engine.roles.backfiller.append import Appender, Marks
from engine.roles.backfiller.attempt import Attempts
from engine.roles.backfiller.job import Counters, Job
from engine.roles.backfiller.ledger import End, Ledger, Retries
from engine.roles.backfiller.queue import Queue
from engine.roles.backfiller.session import Session
from engine.roles.backfiller.slices import Cut
from engine.roles.firehose import epoch as epochs
from engine.roles.keep_trying import KeepTrying

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from engine.settings import Settings

logger = logging.getLogger(__name__)

SPOOL_BYTES = 16 << 20
"""A larger repository goes to a file."""

CONNECT_SHARE = 2
"""Connections to hosts kept open, per repository fetched at a time."""


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
            begins = await postgres.connect(settings, f"{self._name} begins")
            stack.callback(begins.terminate)
            ends = await postgres.connect(settings, f"{self._name} ends")
            stack.callback(ends.terminate)
            commands, reading, appending = [
                stack.enter_context(
                    contextlib.closing(await resp.RespConnection.open(settings.redis_url or ""))
                )
                for _ in range(3)
            ]
            epoch = await self._epoch(begins, commands)
            appender = Appender(
                appending,
                self._keys,
                epoch.mark,
                epoch.shard_count,
                Marks(ours.firehose_stream_high_water_mark, ours.high_water_bytes),
            )
            stack.push_async_callback(appender.close)
            self._appender = appender
            fetcher = await stack.enter_async_context(
                http.open_fetcher(
                    allow_private=settings.network.allow_private,
                    connections=ours.concurrency * CONNECT_SHARE + 64,
                    connections_per_host=ours.host_concurrency + 8,
                )
            )
            spool = Spool(self._spool_folder(), body_bytes=SPOOL_BYTES, all_bytes=ours.memory_bytes)
            stack.callback(spool.close)
            resolver = DidResolver(
                fetcher,
                settings.plc_url,
                settings.identity.timeout_seconds,
                mirrors=settings.plc_mirrors,
            )
            retries = Retries(
                ours.max_retries,
                ours.retry_initial_backoff_ms / 1000,
                ours.retry_max_backoff_ms / 1000,
            )
            session = Session(
                queue=Queue(commands, reading, self._keys.queue, self._name),
                hosts=self._hosts,
                attempts=Attempts(
                    fetcher=fetcher,
                    spool=spool,
                    directory=directories.Directory(commands, self._keys, resolver, self._lookups),
                    ledger=Ledger(
                        begins, ends, settings.database_state_schema, retries, epoch.shard_count
                    ),
                    appender=appender,
                    settings=ours,
                    counters=self._counters,
                    queue_key=self._keys.queue,
                    cut=Cut(settings.filter_collections, ours.notify),
                ),
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
                self._lost = epoch.mark
                raise

    async def _epoch(
        self, conn: asyncpg.Connection[Any], redis: resp.RespConnection
    ) -> epochs.Epoch:
        """The streams to append to. Without an ingester it is us who make them."""
        statements = sql.load("firehose", state=self._settings.database_state_schema)
        stores = epochs.Stores(conn, redis, self._keys, statements)
        found = await epochs.ensure(stores, lost=self._lost)
        self._lost = None
        return found

    def _spool_folder(self) -> Path:
        ours = self._settings.backfiller
        folder = Path(ours.spool_dir or Path(self._settings.data_dir) / "spool")
        return folder / re.sub(r"[^\w.-]", "_", self._name)

    def report(self) -> dict[str, object]:
        """What the heartbeat tells: state, what is in hand, counters since the start."""
        session, appender = self._working, self._appender
        counters = dataclasses.asdict(self._counters)
        counters["outcomes"] = dict(self._counters.outcomes)
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
