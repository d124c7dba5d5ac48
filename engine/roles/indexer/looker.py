"""Look up the rows that a batch needs, and fold it, while the one before it is being written.

Over a connection of its own and outside of any transaction: only the owner writes what the fold
must know exactly, and what it is writing at the moment the fold takes from there
(``native/src/fold/carry.rs``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.adapters import postgres
from engine.core import codec
from engine.roles.indexer import snapshots
from engine.roles.indexer.stages import Stage, Stages

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from engine.collections.statements import Statements


async def learn(
    conn: asyncpg.Connection, lookups: Mapping[str, str], known: codec.Known
) -> codec.Known | None:
    """Everything that the fold must know; None if the batch before must be written first.

    Driver errors pass through.
    """
    while not known.blocked and (wanted := await asyncio.to_thread(known.wanted)):
        answers = [
            (name, await conn.fetchval(lookups[name], *parameters)) for name, parameters in wanted
        ]
        await asyncio.to_thread(known.learn, answers)
    return None if known.blocked else known


@dataclass
class Looker:
    """Prepares one batch after another."""

    conn: asyncpg.Connection
    statements: Statements
    stages: Stages
    together: bool = False
    """Other owners write at the same time."""

    def __post_init__(self) -> None:
        # A lock would last no longer than its statement, and wait for the batch being written.
        unlocked = {"lookup_repos": self.statements.lookups["lookup_repos_unlocked"]}
        self._lookups = self.statements.lookups | unlocked

    async def prepare(
        self, batch: codec.Batch | codec.Fetched, before: codec.Changes | None
    ) -> codec.Changes | None:
        """What a batch changes, given that ``before`` will have been written as it is.

        None if that cannot be said yet: the writer then looks for itself.

        Raises:
            StoreError: Postgres failed.
        """
        async with postgres.translated_errors(self.conn):
            with self.stages(Stage.KNOWN_ROWS):
                if isinstance(batch, codec.Fetched):
                    if batch.blocked(before=before):
                        return None
                    batch = await snapshots.resolve(self.conn, self._lookups, batch, before)
                known = await asyncio.to_thread(
                    batch.known, trusting=True, before=before, together=self.together
                )
                learned = await learn(self.conn, self._lookups, known)
        if learned is None:
            return None
        with self.stages(Stage.FOLD):
            return await asyncio.to_thread(batch.fold, learned, [])
