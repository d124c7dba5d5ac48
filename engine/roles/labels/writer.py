"""From the stream of labels to rows: the one writer of the table ``label``.

Entries are read as a log from the committed position, become the last label of each key, and
are written by one statement in the transaction that moves the position and the labelers' seqs.
What a labeler says again after a rewind is told by its seq. Where several streams speak of one
source (a labeler that moved or counts anew, labels imported before us), ``contested`` decides.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from engine import errors, failpoints, log
from engine.adapters import postgres, resp
from engine.core import codec, streams
from engine.roles.indexer import reader as readers
from engine.roles.indexer import trim
from engine.roles.labels import contested
from engine.roles.labels.stream import SHARD, Labeler, Owned, positions

logger = logging.getLogger(__name__)

BLOCK_MS = 250
UPKEEP_SECONDS = 0.25
BATCH_ENTRIES = 20_000
RETENTION_SECONDS, RETENTION_BYTES = 1.0, 16 << 20

LETTER_BYTES = 16 << 10
"""Dead letters of a host hold so many bytes each at most, on average."""


@dataclass
class Counters:
    """What the process wrote since it started."""

    batches: int = 0
    entries: int = 0
    written: int = 0  # labels whose transaction is committed, whatever became of them
    rows: int = 0
    duplicates: int = 0
    older: int = 0  # than what another stream of the same labeler said
    dead_letters: int = 0  # kept
    letters_left_out: int = 0  # for there were enough of their host
    trimmed: int = 0


@dataclass
class _Done:
    """A transaction that is committed."""

    moved: dict[str, Labeler]
    older: int  # labels that lost against another stream of their source
    left_out: int  # dead letters that were not kept


@dataclass
class Writer:
    """Writes labels over a connection of its own, under the token of its claim."""

    db: asyncpg.Connection[Any]
    redis: resp.RespConnection  # for reading: it blocks
    admin: resp.RespConnection
    keys: streams.LabelKeys
    owned: Owned
    sql: dict[str, str]
    counters: Counters
    batch_bytes: int
    dead_letters: int  # of one host, at most
    held: dict[str, Labeler] = field(default_factory=dict)
    sources: contested.Sources = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is read yet."""
        self.sources = contested.Sources(self.db, self.sql)
        self._trimmer = trim.Trimmer(self.keys, streams.LABELS, RETENTION_SECONDS, RETENTION_BYTES)
        self._upkept_at = 0.0
        self._told: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Write until ``stop``; the batch in hand is finished first.

        Raises:
            StreamsTorn: the stream must be made anew; nothing is lost.
            LeaseLost: another process owns it.
            UnknownEnvelope: a newer producer writes to it.
            StoreError: a store failed.
        """
        async with postgres.translated_errors():
            self.held = await positions(self.db, self.sql)
            await self.sources.load()
        await self._adopt_leftovers()
        reader = readers.Reader(
            self.redis,
            self.keys,
            streams.LABELS,
            self.owned.epoch.mark,
            batch_bytes=self.batch_bytes,
            batch_size=BATCH_ENTRIES,
        )
        while not stop.is_set():
            parts = await reader.read({SHARD: self.owned.position.entry_id}, BLOCK_MS)
            for part in parts:
                failpoints.passing("after_read")
                await self._write(part)
            await self._upkeep()

    async def _write(self, part: readers.ShardEntries) -> None:
        try:
            rows = await asyncio.to_thread(self._gather, part.entries)
        except codec.UnknownEnvelopeError as error:
            raise errors.UnknownEnvelope(f"stream {streams.LABELS}: {error}") from error
        missing = [row for row in rows.streams if f"{row[0]}/{row[1]}" not in self.held]
        if missing:  # a labeler that was begun after we were
            async with postgres.translated_errors():
                self.held = await positions(self.db, self.sql)
            rows = await asyncio.to_thread(self._gather, part.entries)
        while True:
            try:
                done = await self._commit(part, rows)
                break
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                await self.sources.load()
        position = self.owned.position
        position.advance(part.last_id, len(part.entries))
        self.held |= done.moved
        self._trimmer.committed(
            SHARD, position.entry_id, rows.events, part.size_bytes, time.monotonic()
        )
        counters = self.counters
        counters.batches += 1
        counters.entries += len(part.entries)
        counters.written += rows.labels
        counters.rows += len(rows) - done.older
        counters.older += done.older
        counters.duplicates += sum(row[3].get("duplicate", 0) for row in rows.streams)
        counters.dead_letters += len(rows.letters) - done.left_out
        counters.letters_left_out += done.left_out

    def _gather(self, entries: list[bytes]) -> codec.LabelRows:
        return codec.gather_labels(
            entries, {name: labeler.seq for name, labeler in self.held.items()}
        )

    async def _commit(self, part: readers.ShardEntries, rows: codec.LabelRows) -> _Done:
        """One transaction."""
        sql, position = self.sql, self.owned.position
        async with postgres.translated_errors(), self.db.transaction():
            if await self.db.fetchrow(sql["label_fence"], self.owned.token) is None:
                raise errors.LeaseLost("another process writes the labels")
            failpoints.passing("after_lock")
            ids = [self.held[f"{host}/{generation}"].id for host, generation, *_ in rows.streams]
            several = await self.sources.meet({(src, ids[place]) for src, place in rows.sources})
            if len(rows):
                await self.db.execute(sql["label_upsert"], *rows.columns(sorted(several)))
            older = await self.sources.settle(rows.rows(several), ids) if several else {}
            left_out = await self._keep_letters(rows) if rows.letters else {}
            moved = self._moved(rows, older, left_out)
            await self.db.execute(
                sql["label_position_move"],
                [labeler.id for labeler in moved.values()],
                [labeler.seq for labeler in moved.values()],
                [json.dumps(labeler.outcomes) for labeler in moved.values()],
                [labeler.unverified for labeler in moved.values()],
                [labeler.letters_left_out for labeler in moved.values()],
            )
            entries = position.entries + len(part.entries)
            await self.db.execute(sql["label_stream_move"], part.last_id, entries)
            failpoints.passing("before_commit")
        failpoints.passing("after_commit")
        return _Done(moved, sum(older.values()), sum(left_out.values()))

    async def _keep_letters(self, rows: codec.LabelRows) -> dict[int, int]:
        """Write dead letters, the first of each host; how many of each stream (by place) are not.

        Whoever publishes labels could fill the database with bad ones.
        """
        hosts = [host for host, *_ in rows.streams]
        found = await self.db.fetch(self.sql["label_letters"], hosts, self.dead_letters)
        room = dict.fromkeys(hosts, (self.dead_letters, self.dead_letters * LETTER_BYTES))
        for row in found:
            letters, size = room[row["host"]]
            room[row["host"]] = (letters - row["letters"], size - row["bytes"])
        kept = []
        left_out: Counter[int] = Counter()
        for number, (place, size) in enumerate(rows.letters):
            letters, left = room[hosts[place]]
            if letters > 0 and left >= size:
                room[hosts[place]] = (letters - 1, left - size)
                kept.append(number)
            else:
                left_out[place] += 1
        if kept:
            await self.db.execute(self.sql["insert_dead_letters"], *rows.letter_columns(kept))
        for host in {hosts[place] for place in left_out} - self._told:
            self._told.add(host)
            logger.warning(
                "a labeler has as many dead letters as are kept; further ones are only counted %s",
                log.fields(labeler=host, kept=self.dead_letters),
            )
        return left_out

    def _moved(
        self, rows: codec.LabelRows, older: dict[int, int], left_out: dict[int, int]
    ) -> dict[str, Labeler]:
        """The labelers of a batch, as they are when it is committed."""
        found = {}
        for place, (host, generation, seq, outcomes, unverified) in enumerate(rows.streams):
            before = self.held[f"{host}/{generation}"]
            after = dict(before.outcomes)
            late = older.get(place, 0)
            added = {
                **outcomes,
                "applied": outcomes.get("applied", 0) - late,
                "no_effect:older": late,
            }
            for outcome, labels in added.items():
                if labels:
                    after[outcome] = after.get(outcome, 0) + labels
            found[before.name] = Labeler(
                before.id,
                host,
                generation,
                seq or before.seq,
                after,
                before.unverified + unverified,
                before.letters_left_out + left_out.get(place, 0),
            )
        return found

    async def _adopt_leftovers(self) -> None:
        """Take over what the former owner committed but did not trim."""
        position = self.owned.position
        if not position.entries:
            return
        events, size = await trim.committed_leftovers(
            self.admin,
            self.keys.stream(streams.LABELS, SHARD),
            position.entry_id,
            weigh=lambda entry: codec.gather_labels([entry], {}).events,
        )
        if events:
            self._trimmer.committed(SHARD, position.entry_id, events, size, time.monotonic())

    async def _upkeep(self) -> None:
        """Check the stream and trim it, in its time."""
        now = time.monotonic()
        if now - self._upkept_at < UPKEEP_SECONDS:
            return
        self._upkept_at = now
        held = {SHARD: self.owned.position}
        mark, facts, _ = await readers.inspect(self.admin, self.keys, streams.LABELS, [SHARD], [])
        if mark != self.owned.epoch.mark:
            raise errors.StreamsTorn("the stream of labels is no longer ours")
        if readers.torn_shards(held, facts, self.owned.position.epoch):
            await report_torn(self.db, self.sql, self.owned.token)
            raise errors.StreamsTorn("the stream of labels lost entries")
        async with postgres.translated_errors():
            wal = await self.db.fetchrow(self.sql["wal_lsn"])
        if wal is None:
            raise errors.InvariantError("a query without FROM returned no row")
        self._trimmer.observe(trim.parse_lsn(wal["flushed"]), trim.parse_lsn(wal["inserted"]))
        self.counters.trimmed += await self._trimmer.trim(self.admin, self.owned.epoch.mark, now)


async def report_torn(db: asyncpg.Connection[Any], sql: dict[str, str], token: int) -> None:
    """Have the next session make the stream anew."""
    async with postgres.translated_errors():
        await db.execute(sql["label_stream_torn"], token)
