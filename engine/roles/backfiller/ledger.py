"""What Postgres is told of fetches: begun, ended, given up.

Every caller has one repository; the statements take all that wait at a moment, in DID order and
without waiting for rows that others hold, so that neither deadlocks nor a busy indexer stand in
the way. Connections are a fixed number: one to begin, one to end (and one to look up homes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from engine import sql
from engine.adapters import postgres
from engine.core import streams
from engine.core.outcomes import Outcome
from engine.roles.backfiller.batches import Batches

if TYPE_CHECKING:
    import asyncpg

CONNECTIONS = 3
"""Of one backfiller process to Postgres."""


class Begun(msgspec.Struct, frozen=True):
    """A fetch that Postgres knows of: it may be asked for now."""

    fetch_id: int
    fetch_rev: str | None  # what is indexed already: an older snapshot is stale
    active: bool | None  # as the last #account said


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt ended, or that it was put off."""

    did: str
    fetch_id: int | None = None  # None: it was not asked for
    outcome: Outcome | None = None  # None: put off
    error: str = ""
    host: str | None = None
    fetched: bool = False  # its closing entry is appended
    records: int | None = None
    data: str | None = None
    wait_seconds: float | None = None  # until the next attempt; None: there is none
    counts: bool = False  # as a failed attempt
    exact: bool = False  # else wait_seconds of one that counts is a part, 0.5 to 1, of its backoff
    last: bool = False  # there is no further attempt, however many were made


@dataclass(frozen=True)
class Retries:
    """How often what fails is tried, and how long after one another."""

    attempts: int
    first_seconds: float
    longest_seconds: float


@dataclass
class Ledger:
    """The rows of ``headrace.repo`` as a backfiller writes them."""

    begins: asyncpg.Connection[Any]
    ends: asyncpg.Connection[Any]
    state_schema: str
    retries: Retries
    shard_count: int
    _sql: dict[str, str] = field(init=False)
    _begins_free: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ends_free: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._sql = sql.load("backfiller", state=self.state_schema)
        self.beginning: Batches[str, Begun] = Batches(self._begin)
        self.ending: Batches[End, bool] = Batches(self._end)

    async def begin(self, did: str) -> Begun:
        """Announce a fetch; on return it is committed."""
        return await self.beginning.submit(did)

    async def end(self, end: End) -> bool:
        """Write how an attempt ended; on return it is committed.

        Returns:
            Whether it became a dead letter: there will be no further attempt by itself.
        """
        return await self.ending.submit(end)

    async def end_all(self) -> None:
        """Store what waits, after whoever stored it was cancelled; committed on return.

        Raises:
            StoreError: Postgres failed.
        """
        async with postgres.translated_errors():
            if self.ends.is_in_transaction():  # cancelled while it began: nobody else ends it
                await self.ends.execute("ROLLBACK")
        await self.ending.flush()

    async def _begin(self, dids: Sequence[str]) -> list[Begun | None]:
        wanted = sorted(set(dids))
        async with self._begins_free, postgres.translated_errors():
            rows = await self.begins.fetch(self._sql["fetch_begin"], wanted)
            if len(rows) < len(wanted):
                await self._make_known(self.begins, set(wanted) - {row["did"] for row in rows})
        begun = {
            row["did"]: Begun(row["fetch_id"], row["fetch_rev"], row["active"]) for row in rows
        }
        # A DID that was asked for twice at once gets two fetches, one after the other.
        return [begun.pop(did, None) for did in dids]

    async def _end(self, ends: Sequence[End]) -> list[bool | None]:
        first: dict[str, End] = {}
        for end in ends:
            first.setdefault(end.did, end)
        some = list(first.values())
        parameters: list[object] = [
            [end.did for end in some],
            [end.fetch_id for end in some],
            [end.outcome for end in some],
            [postgres.storable(end.error) for end in some],
            [end.fetched for end in some],
            [end.records for end in some],
            [end.data for end in some],
            [end.host for end in some],
            [end.wait_seconds for end in some],
            [end.counts for end in some],
            [end.exact for end in some],
            [end.last for end in some],
            self.retries.attempts,
            self.retries.first_seconds,
            self.retries.longest_seconds,
        ]
        async with self._ends_free, postgres.translated_errors(), self.ends.transaction():
            # Entries leave the queue because of it: it must not be lost with the server.
            await self.ends.execute("SET LOCAL synchronous_commit = on")
            rows = await self.ends.fetch(self._sql["fetch_end"], *parameters)
            if len(rows) < len(first):
                await self._make_known(self.ends, set(first) - {row["did"] for row in rows})
            vain = [end.did for end in some if end.fetch_id is not None and not end.fetched]
            if vain:
                await self.ends.execute(self._sql["fetch_untouched"], vain)
            dead = await self._letters(first, rows)
        done = {row["did"] for row in rows}
        results: list[bool | None] = []
        for end in ends:
            is_mine = first.get(end.did) is end and end.did in done
            results.append(end.did in dead if is_mine else None)
        return results

    async def _make_known(self, conn: asyncpg.Connection[Any], dids: set[str]) -> None:
        """Rows for those of them that have none; the others are only locked."""
        absent = await conn.fetch(self._sql["fetch_absent"], sorted(dids))
        if absent:
            await conn.execute(self._sql["fetch_known"], [row["did"] for row in absent])

    async def _letters(self, ends: dict[str, End], rows: Sequence[asyncpg.Record]) -> set[str]:
        """Dead letters for those whose attempts are used up; the DIDs."""
        attempted = [row["did"] for row in rows if ends[row["did"]].outcome is not None]
        if attempted:
            await self.ends.execute(self._sql["letters_remove"], attempted)
        dead = [
            row
            for row in rows
            if row["attempts"] is not None and row["is_last"] and ends[row["did"]].counts
        ]
        if dead:
            ended = [ends[row["did"]] for row in dead]
            await self.ends.execute(
                self._sql["letters_add"],
                [streams.shard_of(end.did, self.shard_count) for end in ended],
                [end.host or "" for end in ended],
                [end.did for end in ended],
                [end.outcome for end in ended],
                [postgres.storable(end.error) for end in ended],
                [None for _ in ended],
                [row["attempts"] for row in dead],
                [row["first_seen_at"] for row in dead],
            )
        return {row["did"] for row in dead}

    async def refuse(self, raw: bytes, error: str) -> None:
        """Keep an entry of the queue that names no repository; on return it is committed."""
        async with self._ends_free, postgres.translated_errors():
            await self.ends.execute(
                self._sql["letters_add"],
                [0],
                [""],
                [None],
                ["bad_entry"],
                [postgres.storable(error)],
                [raw[:65536]],
                [None],
                [None],
            )

    async def park(self, host: str, seconds: float, why: str) -> None:
        """Tell every process that a host does not answer."""
        async with self._begins_free, postgres.translated_errors():
            await self.begins.execute(
                self._sql["host_parked"], host, seconds, postgres.storable(why)
            )

    async def parked(self) -> list[tuple[str, float]]:
        """Hosts that somebody found down, with the seconds left."""
        async with self._begins_free, postgres.translated_errors():
            rows = await self.begins.fetch(self._sql["hosts_parked"])
        return [(row["origin"], row["seconds"]) for row in rows]
