"""Who may write a shard: one owner at a time, fenced by a token.

A lease is won from an owner whose database backend is gone, or who has not
renewed for ``LEASE_SECONDS`` (frozen, swapped out, cut off). In the second case
its backend is ended first: it may be inside COPY or just before COMMIT, and
only the end of the backend makes sure that it neither commits nor keeps rows
locked. The token then goes up, and every writing transaction begins by locking
its shard rows with the token it holds (``Lease.lock``), so a former owner that
wakes up finds no row and stops.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
"""An owner silent for this long may be replaced. Longer than any batch, shorter than patience."""

RENEW_SECONDS = 3.0
"""How often an owner says that it lives."""

_WAIT_SECONDS = 0.25
_REPORT_SECONDS = 10.0


@dataclass
class Lease:
    """The shards this process owns through one database connection."""

    conn: asyncpg.Connection
    sql: dict[str, str]
    tokens: dict[int, int]
    together: bool = False
    """There are shards that are not ours: others may write at the same time."""

    @property
    def shards(self) -> list[int]:
        """The owned shards, ascending."""
        return sorted(self.tokens)

    def _pairs(self) -> tuple[list[int], list[int]]:
        shards = self.shards
        return shards, [self.tokens[shard] for shard in shards]

    async def lock(self) -> None:
        """Fence the current transaction: first statement, shard order.

        Raises:
            LeaseLost: another process owns a shard now; nothing was written.
        """
        rows = await self.conn.fetch(self.sql["shard_lock"], *self._pairs())
        self._require_all(rows, "locking")

    async def renew(self) -> None:
        """Keep the lease; outside any transaction.

        Raises:
            LeaseLost: another process owns a shard now.
        """
        rows = await self.conn.fetch(self.sql["shard_renew"], *self._pairs())
        self._require_all(rows, "renewing")

    async def give_back(self, shards: list[int]) -> None:
        """Give shards back; the next owner takes them at once."""
        if shards:
            tokens = [self.tokens.pop(shard) for shard in shards]
            await self.conn.execute(self.sql["shard_release"], shards, tokens)

    def _require_all(self, rows: list[asyncpg.Record], doing: str) -> None:
        missing = sorted(set(self.tokens) - {row["shard"] for row in rows})
        if missing:
            raise errors.LeaseLost(f"shards {missing} were taken over (noticed when {doing})")


async def claim(
    conn: asyncpg.Connection,
    sql: dict[str, str],
    owner: str,
    wanted: Callable[[], Awaitable[list[int]]],
) -> Lease:
    """Own the wanted shards, waiting for a former owner's end or silence.

    ``wanted`` is asked again and again, for the answer may change while we wait.
    Returns with exactly those shards owned, which may be none; cancel it to give
    up. Positions must be read only afterwards.
    """
    lease = Lease(conn, sql, {})
    told = float("-inf")
    while True:
        shards = await wanted()
        await lease.give_back([shard for shard in lease.shards if shard not in shards])
        missing = [shard for shard in shards if shard not in lease.tokens]
        owners = await _take_free(lease, owner, missing) if missing else []
        if len(lease.tokens) == len(shards):
            lease.together = len(shards) < await conn.fetchval(sql["shard_count"])
            return lease
        if lease.tokens:
            await lease.renew()
        now = time.monotonic()
        if now - told >= _REPORT_SECONDS:
            told = now
            logger.info("waiting for shards of %s", ", ".join(owners))
        await asyncio.sleep(_WAIT_SECONDS)


async def _take_free(lease: Lease, owner: str, missing: list[int]) -> list[str]:
    """Add what is free of these shards to the lease; the owners of the others."""
    silence = datetime.timedelta(seconds=LEASE_SECONDS)
    rows = await lease.conn.fetch(lease.sql["shard_owners"], missing, silence)
    unknown = set(missing) - {row["shard"] for row in rows}
    if unknown:
        raise errors.LeaseLost(f"shards {sorted(unknown)} no longer exist: their number changed")
    free = [row for row in rows if not (row["alive"] and row["fresh"])]
    silent = {
        (row["backend_pid"], row["backend_start"]): row["owner"] for row in free if row["alive"]
    }
    for (pid, started), former in silent.items():
        logger.warning(
            "taking shards from %s, silent for %.0f s: ending its backend %d",
            former,
            LEASE_SECONDS,
            pid,
        )
        await lease.conn.fetch(lease.sql["shard_terminate"], pid, started)
    if free:
        claimed = await lease.conn.fetch(
            lease.sql["shard_claim"],
            [row["shard"] for row in free],
            [row["token"] for row in free],
            owner,
        )
        lease.tokens.update({row["shard"]: row["token"] for row in claimed})
    return sorted({str(row["owner"]) for row in rows if row not in free})
