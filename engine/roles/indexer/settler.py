"""Look once more at what several owners may have missed of one another.

Two owners that write a reply and its post, or its gate, at the same moment do not see each other's
rows. One of them notes it, in the transaction of its rows (``native/src/fold/unsettled.rs``).
A note is settled when every other owner has said that whatever it has not committed was looked up
after the note could be seen: from then on either of the two saw the other, or both are seen here.
What has come by then is judged as if it were late just now; what has not will find what named it.

An owner says so on its shard rows, at every turn. Times are places in the database's log, which,
other than a clock, never goes back. For one whose backend is gone nobody waits; one that is frozen
is waited for until its shards are taken over. An owner of all shards notes nothing and waits for
nobody.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from engine import errors
from engine.adapters import postgres
from engine.roles.indexer import copies
from engine.roles.indexer.looker import learn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.collections.statements import Statements
    from engine.core import codec
    from engine.roles.indexer.lease import Lease

PERIOD_SECONDS = 0.25
"""Between two turns: how stale what we say may be, and how soon what is noted is looked at."""

BUSY_SECONDS = 2.0
"""Between two looks at what is noted while batches are prepared: each makes one look-up in vain."""

PAGE = 5_000
"""Notes read at a time."""

STEP = 200
"""Posts and gates settled in one transaction."""

MAX_REPLAYS = 10
"""Deadlocks in a row before the error is passed on."""

_CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


@dataclass
class Settler:
    """Settles for the owner of some shards, on its connection, between two batches."""

    conn: asyncpg.Connection
    lease: Lease
    plan: codec.Plan
    statements: Statements
    sql: dict[str, str]
    """Of ``settling.sql``."""
    clock: Callable[[], float]
    """Unix seconds; what is settled is judged by its own times."""
    looked: str | None = None
    """Where the log was, not later than anything that is looked up from now on."""
    _waiting: list[asyncpg.Record] = field(default_factory=list)
    _is_done: bool = False
    _worked_at: float = float("-inf")
    _settled_at: float = float("-inf")

    async def work(
        self,
        since: str | None = None,
        renew: Callable[[], Awaitable[None]] | None = None,
    ) -> int:
        """A turn, if it is time: say how far we are, settle what is ripe; how much was.

        Args:
            since: ``looked`` as it was before the look-ups of the batch that is prepared; None
                if none is.
            renew: called between steps; keeps the lease if that is due.

        Raises:
            LeaseLost, StoreError: the notes stay for the next owner.
        """
        now = time.monotonic()
        if self._is_done or now - self._worked_at < PERIOD_SECONDS:
            return 0
        self._worked_at = now
        async with postgres.translated_errors():
            await self.say(since)
            if since is not None and now - self._settled_at < BUSY_SECONDS:
                return 0
            if not self._waiting:
                self._waiting = await self.conn.fetch(
                    self.sql["settling_read"], self.lease.shards, PAGE
                )
                # Alone, an owner only settles what was noted while it was not.
                self._is_done = not self._waiting and not self.lease.together
            if not self._waiting or not await self._is_ripe():
                return 0
            waiting, self._waiting = self._waiting, []
            self._settled_at = now
            return await self._settle(waiting, renew)

    async def say(self, since: str | None = None) -> None:
        """Tell the others since when what we have not committed was looked up (None: nothing is).

        Driver errors pass through.
        """
        tokens = self.lease.tokens
        self.looked = await self.conn.fetchval(
            self.sql["settling_look"], list(tokens), list(tokens.values()), since
        )

    async def _is_ripe(self) -> bool:
        """Whether nobody can commit any more who did not see what waits."""
        seen_at = self._waiting[0]["seen_at"]
        return bool(
            await self.conn.fetchval(self.sql["settling_is_over"], self.lease.shards, seen_at)
        )

    async def _settle(
        self, waiting: list[asyncpg.Record], renew: Callable[[], Awaitable[None]] | None
    ) -> int:
        ids: dict[str, list[int]] = {}
        for row in waiting:
            ids.setdefault(row["uri"], []).append(row["id"])
        uris = [row["uri"] for row in waiting]
        invalid = [row["invalid"] for row in waiting]
        come = await self.conn.fetch(self.sql["settling_come"], uris, invalid)
        found = [(row["uri"], row["time"]) for row in come]
        for first in range(0, len(found), STEP):
            step = found[first : first + STEP]
            await self._replayed(step, [each for uri, _ in step for each in ids.pop(uri)])
            if renew is not None:
                await renew()
        rest = [each for of in ids.values() for each in of]
        if rest:
            await self.conn.execute(self.sql["settling_done"], rest)
        return len(found)

    async def _replayed(self, step: list[tuple[str, str]], ids: list[int]) -> None:
        conflicts = 0
        while True:
            try:
                async with self.conn.transaction():
                    await self.lease.lock()
                    await self._write(step)
                    await self.conn.execute(self.sql["settling_done"], ids)
            except _CONFLICTS as conflict:
                conflicts += 1
                if conflicts > MAX_REPLAYS:
                    raise errors.StoreError(f"{conflicts} conflicts in a row") from conflict
            else:
                return

    async def _write(self, step: list[tuple[str, str]]) -> None:
        batch = self.plan.decode([], now=self.clock())
        known = batch.known(trusting=True, together=True, settling=step)
        await learn(self.conn, self.statements.lookups, known)
        changes = batch.fold(known, [])
        await self._execute(changes.deletes())
        for table, payload, _ in changes.copies():
            await copies.write(self.conn, self.statements, table, payload)
        await self._execute(changes.statements())

    async def _execute(self, statements: list[tuple[str, list[str]]]) -> None:
        for name, parameters in statements:
            await self.conn.execute(self.statements.writes[name], *parameters)
