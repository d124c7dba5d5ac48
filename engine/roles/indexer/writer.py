"""Turn one batch of entries into committed rows: one transaction, exactly once.

Order inside the transaction: the shard locks; the rows that must be known and the
fold (Rust), if nobody did that before (``looker``); deletes, COPY of new rows, updates
and our own tables, numbers, the positions. Either all of it is there afterwards or nothing is, so a
crash anywhere costs only the work of the batch.

A row that Postgres refuses costs only its op: the ops of all refused rows are
found (``refusals``) and voided, and the same decoded batch is folded again.
Where that does not help the batch is cut in two.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from engine import errors, failpoints
from engine.adapters import postgres
from engine.core import codec, streams
from engine.roles.indexer import copies, snapshots
from engine.roles.indexer import position as positions
from engine.roles.indexer.looker import learn
from engine.roles.indexer.refusals import BAD_DATA, Refused, find
from engine.roles.indexer.stages import Stage, Stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.collections.statements import Statements
    from engine.roles.indexer.lease import Lease
    from engine.roles.indexer.position import Position
    from engine.roles.indexer.reader import ShardEntries

logger = logging.getLogger(__name__)

MAX_REFUSALS = 3
"""Times that Postgres may refuse one batch before the batch is cut in two."""

AGGREGATES = frozenset({"add_post_counts", "set_quote_counts", "add_profile_counts"})
"""Statements that are timed by themselves: rows that many repositories' ops add to."""

MAX_REPLAYS = 10
"""Deadlocks and serialization failures in a row before the error is passed on."""


class Stale(Exception):
    """Another owner judged a post of ours after we looked at it; nothing was written."""


_CONFLICTS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    Stale,
    snapshots.Outdated,
)


@dataclass
class Committed:
    """What one commit did, by shard and in sum."""

    ops: int = 0
    entries: int = 0
    rows: int = 0
    filtered: int = 0
    refused: int = 0
    replayed: int = 0
    as_prepared: bool = True
    """What was prepared was written as it was."""
    weights: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Shard -> events and bytes of the committed entries."""


@dataclass(frozen=True)
class Decoded:
    """A batch that is ready to be written, and what must wait for the next one."""

    parts: list[ShardEntries]
    rest: list[ShardEntries]
    batch: codec.Batch | codec.Fetched


@dataclass
class Writer:
    """Writes one source's batches of one owner. Positions are moved in place after each commit."""

    conn: asyncpg.Connection
    lease: Lease
    plan: codec.Plan
    statements: Statements
    sql: dict[str, str]
    source: str
    positions: dict[int, Position]
    clock: Callable[[], float]
    """Unix seconds; judges revs from the future."""
    stages: Stages

    async def decode(self, parts: list[ShardEntries]) -> Decoded:
        """Read, validate and order the entries of a batch; needs no store.

        May run while an earlier batch is being written. What that batch holds is
        then not known yet: an event that a relay repeats across the two is
        recognised by its rev or time when it is folded.

        Raises:
            UnknownEnvelope: an entry is of a newer version.
        """
        shards = [
            (part.shard, self.positions[part.shard].held(), part.entries, part.is_cut)
            for part in parts
        ]
        read = self.plan.decode if self.source == streams.LIVE else self.plan.decode_fetched
        with self.stages(Stage.DECODE):
            try:
                batch: codec.Batch | codec.Fetched = await asyncio.to_thread(
                    read, shards, now=self.clock()
                )
            except codec.UnknownEnvelopeError as error:
                raise errors.UnknownEnvelope(f"{error}: upgrade this indexer") from error
        taken, rest = [], []
        for part, (_, entries, _, _) in zip(parts, batch.weights(), strict=True):
            first, second = part.cut(entries)
            taken += [first] if first.entries else []
            rest += [second] if second.entries else []
        return Decoded(taken, rest, batch)

    async def write(self, decoded: Decoded, prepared: codec.Changes | None = None) -> Committed:
        """Commit every entry that was taken; on return the rows and positions are committed.

        ``prepared`` are the batch's changes, if somebody folded it already; without them, and
        wherever Postgres does not take them as they are, the rows that matter are looked up and
        the batch is folded inside the transaction.

        Committed means visible and crash-safe as a whole; flushed to disk a
        moment later (``trim`` waits for that before an entry leaves Redis).

        Raises:
            LeaseLost: nothing was written, another process owns a shard.
            StreamsTorn: nothing was written, the streams were made anew.
            StoreError: Postgres failed; nothing was written.
        """
        done = Committed()
        await self._write(decoded, prepared, done)
        return done

    async def _write(
        self, decoded: Decoded, prepared: codec.Changes | None, done: Committed
    ) -> None:
        voided: dict[int, str] = {}
        refusals = replays = 0
        trusting = True
        while True:
            try:
                await self._commit(decoded, prepared, voided, done, trusting=trusting)
                return
            except Refused as refusal:
                prepared = None
                done.as_prepared = False
                if refusal.exists and trusting:
                    # Somebody creates what he has already; or we forgot something.
                    logger.warning("a new row exists, looking everything up: %s", refusal.message)
                    done.replayed += 1
                    trusting = False
                    continue
                fresh = {op: why for op, why in refusal.ops.items() if op not in voided}
                done.refused += max(1, len(fresh))
                logger.warning("Postgres refused rows of %d ops: %s", len(fresh), refusal.message)
                refusals += 1
                earlier = _earlier_half(decoded)
                if fresh and (refusals <= MAX_REFUSALS or earlier is None):
                    voided |= fresh
                elif earlier is not None:
                    first = await self.decode(earlier)
                    await self._write(first, None, done)
                    taken = {part.shard: len(part.entries) for part in first.parts}
                    rest = [part.cut(taken.get(part.shard, 0))[1] for part in decoded.parts]
                    rest = [whole(part) for part in rest if part.entries]
                    await self._write(await self.decode(rest), None, done)
                    return
                elif len(voided) < decoded.batch.ops:
                    # One entry, and no row to blame: give up its ops, keep the process.
                    voided = dict.fromkeys(range(decoded.batch.ops), refusal.message)
                else:
                    raise errors.StoreError(
                        f"Postgres refuses an entry without ops: {refusal.message}"
                    ) from refusal
            except _CONFLICTS as conflict:
                prepared = None
                done.as_prepared = False
                done.replayed += 1
                replays += 1
                if replays > MAX_REPLAYS:
                    raise errors.StoreError(f"{replays} conflicts in a row") from conflict

    async def _commit(
        self,
        decoded: Decoded,
        prepared: codec.Changes | None,
        voided: dict[int, str],
        done: Committed,
        *,
        trusting: bool,
    ) -> None:
        moved = {part.shard: self.positions[part.shard].copy() for part in decoded.parts}
        async with postgres.translated_errors(self.conn):
            try:
                async with self.conn.transaction():
                    rows, filtered = await self._work(
                        decoded, prepared, voided, moved, trusting=trusting
                    )
                    ended = time.perf_counter()
            except Refused as refusal:
                if refusal.changes is not None and not (refusal.exists and trusting):
                    refusal.ops = await find(self.conn, self.statements, refusal.changes)
                raise
            self.stages.add(Stage.COMMIT, ended)
        failpoints.passing("after_commit")
        self.positions.update(moved)
        done.ops += decoded.batch.ops
        done.entries += decoded.batch.entries
        done.rows += rows
        done.filtered += filtered
        for shard, _, events, size in decoded.batch.weights():
            before = done.weights.get(shard, (0, 0))
            done.weights[shard] = (before[0] + events, before[1] + size)

    async def _work(
        self,
        decoded: Decoded,
        prepared: codec.Changes | None,
        voided: dict[int, str],
        moved: dict[int, Position],
        *,
        trusting: bool,
    ) -> tuple[int, int]:
        """Everything between BEGIN and COMMIT; rows copied, ops filtered. Advances ``moved``."""
        with self.stages(Stage.LOCK):
            await self.lease.lock()
        failpoints.passing("after_lock")
        changes = prepared or await self._fold(decoded.batch, voided, trusting=trusting)
        gone: Counter[str] = Counter()
        fetches = dict(changes.fetches())
        with self.stages(Stage.DELETE):
            for name, parameters in changes.checks():
                if await self.conn.fetch(self.statements.writes[name], *parameters):
                    raise Stale
            for name, parameters in changes.deletes():
                for row in await self._execute(name, parameters):  # quotes
                    gone[row["cid"]] += row["quotes"]
        failpoints.passing("before_copy")
        with self.stages(Stage.COPY):
            rows = await self._copy(changes)
        for name, parameters in changes.statements():
            kind = Stage.AGGREGATES if name in AGGREGATES else Stage.STATEMENTS
            with self.stages(kind):
                if name == snapshots.UPSERT:
                    await snapshots.upsert(self.conn, self.statements, parameters, fetches)
                    continue
                if name == "set_quote_counts":
                    # Not where they were deleted: the counts of others' posts would stay locked
                    # while this copies.
                    counts = (gone.keys(), map(str, gone.values()))
                    parameters = [*parameters, *map(postgres.array_literal, counts)]
                await self._execute(name, parameters)
        for part in decoded.parts:
            moved[part.shard].advance(part.last_id, len(part.entries))
        filtered = 0
        for shard, relay, seq, outcomes in changes.tally():
            moved[shard].record(relay, seq, outcomes)
            filtered += outcomes.get("filtered", 0)
        failpoints.passing("before_positions")
        with self.stages(Stage.POSITIONS):
            await positions.store(self.conn, self.sql, self.source, list(moved.values()))
        failpoints.passing("before_commit")
        return rows, filtered

    async def _fold(
        self, batch: codec.Batch | codec.Fetched, voided: dict[int, str], *, trusting: bool
    ) -> codec.Changes:
        """What the batch changes, by what the transaction sees."""
        with self.stages(Stage.KNOWN_ROWS):
            if isinstance(batch, codec.Fetched):
                batch = await snapshots.resolve(self.conn, self.statements.lookups, batch)
            known = batch.known(trusting=trusting, together=self.lease.together)
            await learn(self.conn, self.statements.lookups, known)
        with self.stages(Stage.FOLD):
            return await asyncio.to_thread(batch.fold, known, list(voided.items()))

    async def _copy(self, changes: codec.Changes) -> int:
        rows = 0
        for table, payload, count in changes.copies():
            try:
                await copies.write(self.conn, self.statements, table, payload)
            except BAD_DATA as refusal:
                exists = isinstance(refusal, asyncpg.UniqueViolationError)
                raise Refused(f"{table}: {refusal}", changes, exists=exists) from refusal
            rows += count
        return rows

    async def _execute(self, name: str, parameters: list[str]) -> list[asyncpg.Record]:
        """What it answers: deletes of quotes, how many went by CID; others nothing."""
        try:
            rows = await self.conn.fetch(self.statements.writes[name], *parameters)
        except BAD_DATA as refusal:
            raise Refused(f"{name}: {refusal}") from refusal
        failpoints.passing("between_statements")
        return rows


def _earlier_half(decoded: Decoded) -> list[ShardEntries] | None:
    """The same batch cut so that about half of it can be taken, the earlier; None for one entry."""
    parts = decoded.parts
    longest = max(parts, key=lambda part: len(part.entries))
    if len(longest.entries) > 1:
        half = longest.cut(len(longest.entries) // 2)[0]
        return [half if part is longest else whole(part) for part in parts]
    if len(parts) == 1:
        return None
    if isinstance(decoded.batch, codec.Fetched):  # those of two shards have no order
        return parts[: len(parts) // 2]
    return [dataclasses.replace(part, is_cut=True) for part in parts]


def whole(part: ShardEntries) -> ShardEntries:
    """The same entries where nothing need be waited for."""
    return dataclasses.replace(part, is_cut=False)
