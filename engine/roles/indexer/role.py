"""The indexer role: own shards, and keep owning them through every failure.

The role opens the stores, wins the lease, agrees with Redis on the epoch and
runs a session. Whatever ends the session, the next one starts from Postgres:
there is no repair path beside the start path.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from engine import errors
from engine.adapters import postgres, resp
from engine.core import streams
from engine.roles.indexer import epoch as epochs
from engine.roles.indexer import lease as leases
from engine.roles.indexer import members, tables
from engine.roles.indexer import position as positions
from engine.roles.indexer import session as sessions
from engine.roles.indexer.deletion import Deleter
from engine.roles.indexer.looker import Looker
from engine.roles.indexer.reader import Reader
from engine.roles.indexer.settler import Settler
from engine.roles.indexer.stages import Stages
from engine.roles.indexer.trim import Trimmer
from engine.roles.indexer.turns import Turns
from engine.roles.indexer.writer import Writer
from engine.roles.keep_trying import KeepTrying, pause

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import asyncpg

    from engine.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

EPOCH_POLL_SECONDS = 0.2

MIN_COUNTS = {streams.LIVE: 16, streams.BACKFILL: 1}
"""Entries that a batch takes of each stream whatever their size: a slice is a batch by itself."""

TORN_REPORT_SECONDS = 10.0
"""How often it is said that there are no streams yet."""


class IndexerRole(KeepTrying):
    """Owns its share of the shards, as many indexers as there are, and writes their rows.

    At the stop the batch in hand is committed first.
    """

    LINE, PROGRESS = "indexed", "ops"

    def __init__(self, name: str, settings: Settings) -> None:
        """Work under a name that no other indexer of the deployment has.

        Both stores' URLs must be set.
        """
        super().__init__()
        self._name = name
        self._members = members.Membership(name)
        self._settings = settings
        self._keys = streams.Keys(settings.redis_key_prefix)
        self._counters = sessions.Counters()
        self._stages = Stages()
        self._owned: list[int] = []
        self._positions: dict[int, positions.Position] = {}  # of the session, moved in place

    async def _session(self, stop: asyncio.Event) -> None:
        """One ownership, from connecting to releasing."""
        settings = self._settings
        async with AsyncExitStack() as stack:
            stack.callback(self._forget)
            conn = await postgres.connect(settings, self._name)
            stack.push_async_callback(_close, conn)
            looking = await postgres.connect(settings, f"{self._name} looking")
            stack.push_async_callback(_close, looking)
            admin = await resp.RespConnection.open(settings.redis_url or "")
            stack.callback(admin.close)
            reading = await resp.RespConnection.open(settings.redis_url or "")
            stack.callback(reading.close)
            self._state = "claiming"
            logger.info("claiming shards")
            async with postgres.translated_errors():
                built = await tables.load(conn, settings)
                await tables.count_quotes(conn, settings)
                share = partial(self._members.share, conn, built.sql)
                claiming = leases.claim(conn, built.sql, self._name, share)
                lease = await _unless_stopped(claiming, stop)
            if lease is None:
                await self._end(leases.Lease(conn, built.sql, {}), stop)
                return
            async with postgres.translated_errors():
                held = {
                    source: await positions.load(conn, built.sql, source, lease.shards)
                    for source in streams.SOURCES
                }
            mark = await self._agree(stop, lease, admin, held)
            if mark is None:
                await self._end(lease, stop)
                return
            epoch = mark.decode().rpartition(":")[2]
            readers = {
                source: Reader(
                    reading,
                    self._keys,
                    source,
                    mark,
                    batch_bytes=settings.indexer.batch_bytes,
                    batch_size=settings.indexer.batch_size,
                    min_count=MIN_COUNTS[source],
                )
                for source in held
            }
            lanes = {
                source: sessions.Lane(
                    Writer(
                        conn=conn,
                        lease=lease,
                        plan=built.plan,
                        statements=built.statements,
                        sql=built.sql,
                        source=source,
                        positions={s: p.in_epoch(epoch) for s, p in of_source.items()},
                        clock=time.time,
                        stages=self._stages,
                    ),
                    Trimmer(
                        self._keys,
                        source,
                        settings.indexer.retention_seconds,
                        settings.indexer.retention_bytes,
                    ),
                )
                for source, of_source in held.items()
            }
            session = sessions.Session(
                conn=conn,
                admin=admin,
                turns=Turns(
                    readers[streams.LIVE],
                    readers[streams.BACKFILL],
                    settings.indexer.backfill_share,
                ),
                looker=Looker(looking, built.statements, self._stages, lease.together),
                lanes=lanes,
                deleter=Deleter(
                    conn=conn,
                    lease=lease,
                    statements=built.statements,
                    sql=built.deletions,
                    removals=built.removals,
                    source=streams.LIVE,
                ),
                settler=Settler(
                    conn=conn,
                    lease=lease,
                    plan=built.plan,
                    statements=built.statements,
                    sql=built.settling,
                    clock=time.time,
                ),
                keys=self._keys,
                epoch_mark=mark,
                counters=self._counters,
                stages=self._stages,
            )
            owned = ",".join(map(str, lease.shards)) or "none"
            logger.info("ready, owning shards %s", owned)
            self._state, self._owned = "running", lease.shards
            self._positions = lanes[streams.LIVE].positions
            await session.run(stop, share)
            self._state = "stopping" if stop.is_set() else "sharing anew"
            await self._end(lease, stop)

    async def _agree(
        self,
        stop: asyncio.Event,
        lease: leases.Lease,
        admin: resp.RespConnection,
        held: dict[str, dict[int, positions.Position]],
    ) -> bytes | None:
        """Wait until Redis holds whole streams of the epoch in Postgres; None when stopped."""
        told = float("-inf")
        while not stop.is_set():
            try:
                return await epochs.current_epoch(lease.conn, lease.sql, admin, self._keys, held)
            except errors.StreamsTorn as reason:
                self._state = "waiting for streams"
                now = time.monotonic()
                if now - told >= TORN_REPORT_SECONDS:
                    told = now
                    logger.info("waiting for the firehose ingester to make the streams: %s", reason)
                    async with postgres.translated_errors():
                        await lease.renew()
                await pause(stop, EPOCH_POLL_SECONDS)
        return None

    async def _end(self, lease: leases.Lease, stop: asyncio.Event) -> None:
        """Give the shards back; and our place, if we stop. A lost connection does it by itself."""
        self._forget()
        with contextlib.suppress(errors.StoreError):
            async with postgres.translated_errors():
                await lease.give_back(lease.shards)
            if stop.is_set():
                await self._members.leave(lease.conn, lease.sql)

    def report(self) -> dict[str, object]:
        """What the heartbeat tells: state, owned shards, counters since the start."""
        return {
            "state": self._state,
            "shards": self._owned,
            "counters": dataclasses.asdict(self._counters),
            "seconds": self._stages.report(),
        }

    def _forget(self) -> None:
        self._owned = []
        self._positions = {}

    def _counts(self) -> dict[str, int]:
        counters = self._counters
        return {
            "read": counters.entries,
            "ops": counters.ops,
            "written": counters.rows,
            "filtered": counters.filtered,
            "refused": counters.refused,
            "trimmed": counters.trimmed,
            "deleted": counters.deleted,
            "settled": counters.settled,
        }

    def _places(self) -> dict[str, object]:
        held = positions.lowest_held(self._positions)
        return {"position": ",".join(f"{relay}:{seq}" for relay, seq in held.items())}


async def _unless_stopped(work: Coroutine[None, None, T], stop: asyncio.Event) -> T | None:
    """The result of ``work``, or None when ``stop`` came first (``work`` is cancelled)."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for pending in (task, stopping):
            pending.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)


async def _close(conn: asyncpg.Connection) -> None:
    with contextlib.suppress(Exception):
        await conn.close(timeout=2)
