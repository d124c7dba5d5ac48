"""Joining and leaving: how many indexers share the shards, and which are ours.

Every indexer says each second that it is here and reads who else is. One more
process, on this host or another, changes everyone's share within a few
seconds: each finishes its batch, gives its shards back and claims its new
ones. Who says nothing for ``AWAY_SECONDS`` no longer counts; its shards can
then be claimed as its lease runs out.
"""

from __future__ import annotations

import datetime
import logging
import time
from typing import TYPE_CHECKING

from engine.adapters import postgres
from engine.core import shares

if TYPE_CHECKING:
    import asyncpg

logger = logging.getLogger(__name__)

SEEN_SECONDS = 1.0
"""How often an indexer says that it is here."""

AWAY_SECONDS = 8.0
"""Longer than a restart by the supervisor takes, so that a crash moves no shard."""


class Membership:
    """One indexer's place among the others."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shard_count = 0
        self._read_at = float("-inf")
        self._members: list[str] = []

    async def share(self, conn: asyncpg.Connection, sql: dict[str, str]) -> list[int]:
        """The shards that are ours by the members and shards of now; joins at the first call.

        Asks Postgres at most each ``SEEN_SECONDS``. No transaction may be open.

        Raises:
            StoreError: Postgres failed.
        """
        now = time.monotonic()
        if now - self._read_at >= SEEN_SECONDS:
            async with postgres.translated_errors():
                rows = await conn.fetch(
                    sql["indexer_seen"], self._name, datetime.timedelta(seconds=AWAY_SECONDS)
                )
            self._read_at = now
            members, shard_count = sorted(row["name"] for row in rows), rows[0]["shard_count"]
            if (members, shard_count) != (self._members, self._shard_count):
                self._members, self._shard_count = members, shard_count
                self._tell()
        return shares.share(self._name, self._members, self._shard_count)

    async def leave(self, conn: asyncpg.Connection, sql: dict[str, str]) -> None:
        """Give our place up, so that the others need not wait for our silence."""
        async with postgres.translated_errors():
            await conn.execute(sql["indexer_leave"], self._name)

    def _tell(self) -> None:
        count = len(self._members)
        if count > self._shard_count:
            logger.warning(
                "%d indexers share %d shards: some have nothing to do", count, self._shard_count
            )
        else:
            logger.info(
                "%d shards, indexers at work: %s", self._shard_count, ", ".join(self._members)
            )
