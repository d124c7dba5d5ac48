"""One ownership of shards: read, write, trim, until told to stop or something breaks.

A session believes nothing from an earlier one. It starts from the positions in
Postgres, and the end of any part of it ends it whole; the role then starts a
new one. That is the entire recovery logic.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine import errors, failpoints
from engine.adapters import postgres
from engine.core import streams
from engine.roles.indexer import epoch as epochs
from engine.roles.indexer import lease as leases
from engine.roles.indexer import position as positions
from engine.roles.indexer import reader as readers
from engine.roles.indexer import trim
from engine.roles.indexer.stages import Stage, Stages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from engine.adapters import resp
    from engine.core import codec
    from engine.roles.indexer.deletion import Deleter
    from engine.roles.indexer.looker import Looker
    from engine.roles.indexer.settler import Settler
    from engine.roles.indexer.turns import Turns
    from engine.roles.indexer.writer import Committed, Decoded, Writer

logger = logging.getLogger(__name__)

BLOCK_MS = 250
"""How long an idle read waits: bounds how late upkeep and a stop are noticed."""

UPKEEP_SECONDS = 0.25
"""Least time between two rounds of trimming while busy."""

QUIET_SECONDS = 1.0
"""How often the seq of quiet shards is written, so that a rewind need not go far back."""


@dataclass
class Counters:
    """What the process did since it started; for the heartbeat and the log."""

    batches: int = 0
    entries: int = 0
    ops: int = 0
    rows: int = 0
    filtered: int = 0  # ops that the ingester left out
    refused: int = 0
    replayed: int = 0
    trimmed: int = 0
    deleted: int = 0  # accounts
    settled: int = 0  # posts and gates that another owner may have missed


@dataclass
class Lane:
    """What an owner keeps of one source of its shards."""

    writer: Writer
    trimmer: trim.Trimmer
    read_to: dict[int, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Whose streams these are."""
        return self.writer.source

    @property
    def positions(self) -> dict[int, positions.Position]:
        """How far each shard is committed; moved in place."""
        return self.writer.positions


@dataclass(frozen=True)
class Reading:
    """A batch that was read, and of which source."""

    lane: Lane
    decoded: Decoded


@dataclass(frozen=True)
class Writing:
    """A batch that is being written, and the changes that were prepared for it."""

    lane: Lane
    task: asyncio.Task[Committed]
    changes: codec.Changes | None


@dataclass
class Session:
    """The work on owned shards whose epoch was checked.

    One batch is read and decoded, one prepared and one written at a time, each by itself; between
    two writes the connection is free for upkeep.
    """

    conn: asyncpg.Connection
    admin: resp.RespConnection
    turns: Turns
    looker: Looker
    lanes: dict[str, Lane]  # by source
    deleter: Deleter
    settler: Settler
    keys: streams.Keys
    epoch_mark: bytes
    counters: Counters
    stages: Stages
    _renewed_at: float = 0.0
    _upkept_at: float = 0.0
    _quiet_at: float = 0.0

    @property
    def lease(self) -> leases.Lease:
        """The shards that are owned."""
        return self.lanes[streams.LIVE].writer.lease

    @property
    def sql(self) -> dict[str, str]:
        """Statements about shards and positions, by name."""
        return self.lanes[streams.LIVE].writer.sql

    async def run(self, stop: asyncio.Event, share: Callable[[], Awaitable[list[int]]]) -> None:
        """Work until ``stop``, or until ``share`` is no longer what we own.

        The batch in hand is finished first.

        Raises:
            StreamsTorn: the streams must be made anew; nothing is lost.
            LeaseLost: another process owns a shard.
            StoreError: Redis or Postgres failed.
        """
        await self.deleter.finish()
        await self._adopt_leftovers()
        async with postgres.translated_errors():
            await self.settler.say()
        for lane in self.lanes.values():
            lane.read_to = {s: p.entry_id for s, p in lane.positions.items()}
        stopping = asyncio.create_task(stop.wait())
        reading = self._start_read()
        writing: Writing | None = None
        try:
            while not stop.is_set():
                waited: set[asyncio.Task[Any]] = {reading, stopping}
                if writing is not None:
                    waited.add(writing.task)
                with self.stages(Stage.WAIT):
                    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                read = None
                if reading.done() and not stop.is_set():
                    read = self._take(reading.result())
                    reading = self._start_read()
                prepared = None
                since = self.settler.looked
                if read is not None:
                    failpoints.passing("after_read")
                    if writing is not None and writing.changes is not None:
                        prepared = await self.looker.prepare(read.decoded.batch, writing.changes)
                elif writing is not None and not writing.task.done():
                    continue
                if writing is not None and not await self._finish(writing):
                    prepared = None
                writing = None
                if read is not None and prepared is None:
                    # It had to wait; the batch behind it need not, if this one is prepared.
                    prepared = await self.looker.prepare(read.decoded.batch, None)
                with self.stages(Stage.UPKEEP):
                    has_changed = await self._upkeep(since if prepared is not None else None)
                    if await share() != self.lease.shards:
                        return
                if read is not None and prepared is not None and has_changed:
                    # Not inside its transaction, which would keep what it locks while it copies.
                    prepared = await self.looker.prepare(read.decoded.batch, None)
                if read is not None:
                    write = asyncio.create_task(read.lane.writer.write(read.decoded, prepared))
                    writing = Writing(read.lane, write, prepared)
            if writing is not None:
                await self._finish(writing)
        finally:
            for task in (reading, stopping, *([writing.task] if writing else [])):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, errors.HeadraceError):
                    await task

    def _start_read(self) -> asyncio.Task[Reading | None]:
        """Read and decode a batch while one is written and one prepared: three in memory."""
        after = {source: lane.read_to for source, lane in self.lanes.items()}

        async def read() -> Reading | None:
            source, parts = await self.turns.read(after, BLOCK_MS)
            lane = self.lanes[source]
            return Reading(lane, await lane.writer.decode(parts)) if parts else None

        return asyncio.create_task(read())

    def _take(self, read: Reading | None) -> Reading | None:
        """What was read is ours; the next read begins behind it."""
        if read is not None:
            for part in read.decoded.parts:
                read.lane.read_to[part.shard] = part.last_id
            self.turns.keep(read.lane.source, read.decoded.rest)
        return read

    async def _finish(self, writing: Writing) -> bool:
        """Wait until a batch is committed; whether its changes are what was prepared."""
        done = await writing.task
        now = time.monotonic()
        lane = writing.lane
        for shard, (events, size) in done.weights.items():
            entry_id = lane.positions[shard].entry_id
            lane.trimmer.committed(shard, entry_id, events, size, now)
        self.counters.batches += 1
        self.counters.entries += done.entries
        self.counters.ops += done.ops
        self.counters.rows += done.rows
        self.counters.filtered += done.filtered
        self.counters.refused += done.refused
        self.counters.replayed += done.replayed
        return done.as_prepared

    async def _adopt_leftovers(self) -> None:
        """Take over what the former owner committed but did not trim."""
        for lane in self.lanes.values():
            for shard, position in lane.positions.items():
                if position.entry_id == positions.START:
                    continue
                events, size = await trim.committed_leftovers(
                    self.admin, self.keys.stream(lane.source, shard), position.entry_id
                )
                if events:
                    now = time.monotonic()
                    lane.trimmer.committed(shard, position.entry_id, events, size, now)

    async def _renew(self) -> None:
        """Keep the lease, if it is time."""
        now = time.monotonic()
        if now - self._renewed_at >= leases.RENEW_SECONDS:
            async with postgres.translated_errors():
                await self.lease.renew()
            self._renewed_at = now

    async def _upkeep(self, since: str | None) -> bool:
        """Renew, settle, check the streams, write quiet seqs, trim, delete: each in its time.

        Whether something was settled or deleted: what was looked up before may be no more. That was
        not before ``since``, a place in the log; None if nothing was looked up.
        """
        await self._renew()
        has_settled = await self.settler.work(since, self._renew)
        self.counters.settled += has_settled
        now = time.monotonic()
        if now - self._upkept_at < UPKEEP_SECONDS:
            return has_settled > 0
        self._upkept_at = now
        async with postgres.translated_errors():
            rows = await self.conn.fetch(self.sql["relay_generations"])
        relays = {row["host"]: row["generation"] for row in rows}
        for lane in self.lanes.values():
            mark, facts, cursors = await readers.inspect(
                self.admin, self.keys, lane.source, self.lease.shards, list(relays)
            )
            await epochs.check_streams(
                self.conn, self.sql, lane.positions, self.epoch_mark, mark, facts
            )
            if lane.source == streams.LIVE and now - self._quiet_at >= QUIET_SECONDS:
                self._quiet_at = now
                await self._advance_quiet(relays, facts, cursors)
        async with postgres.translated_errors():
            wal = await self.conn.fetchrow(self.sql["wal_lsn"])
        if wal is None:
            raise errors.InvariantError("a query without FROM returned no row")
        flushed, inserted = trim.parse_lsn(wal["flushed"]), trim.parse_lsn(wal["inserted"])
        for lane in self.lanes.values():
            lane.trimmer.observe(flushed, inserted)
            self.counters.trimmed += await lane.trimmer.trim(self.admin, self.epoch_mark, now)
        has_deleted = await self.deleter.work(self._renew)
        self.counters.deleted += has_deleted
        return has_settled + has_deleted > 0

    async def _advance_quiet(
        self,
        relays: dict[str, int],
        facts: dict[int, readers.StreamFacts | None],
        cursors: dict[str, int],
    ) -> None:
        """Let shards without anything to do hold every seq that the relays' cursors passed."""
        live = self.lanes[streams.LIVE]
        moved = {}
        for shard, held in live.positions.items():
            fact = facts[shard]
            if fact is None or not readers.is_quiet(held, fact):
                continue
            position = held.copy()
            for host, cursor in cursors.items():
                position.record(f"{host}/{relays[host]}", cursor, {})
            if position != held:
                moved[shard] = position
        if not moved:
            return
        async with postgres.translated_errors(), self.conn.transaction():
            await self.lease.lock()
            await positions.store(self.conn, self.sql, live.source, list(moved.values()))
        live.positions.update(moved)
