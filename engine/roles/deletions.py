"""Asking whether an account that was called deleted is: a part of the identity role.

An ``#account`` event comes through relays, possibly from a host that the account has left. So
nothing is deleted before the host that the DID's document names today says that it has
no such repository. The indexer notes what is to be asked in ``deletion``; the answer becomes one
statement: confirmed (the owner of the shard then deletes), or dropped because the account
lives. Anything else is asked again, later and later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from engine.adapters import postgres
from engine.roles.asking import Asker

if TYPE_CHECKING:
    from engine.adapters.hosting import Hosting


@dataclass
class Counters:
    """What the process did since it started; for the heartbeat."""

    gone: int = 0
    hosted: int = 0
    failed: int = 0
    in_flight: int = 0


class Confirmer(Asker):
    """Asks about deletions."""

    FILE, WORD = "deletions", "deletion"

    def __init__(
        self, hosting: Hosting, idle: postgres.Borrowable, state_schema: str, counters: Counters
    ) -> None:
        """Work with what others opened; ``counters`` are moved in place."""
        super().__init__(idle, state_schema)
        self._hosting = hosting
        self._counters = counters

    async def _due(self, count: int, in_hand: list[str]) -> Sequence[asyncpg.Record]:
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["deletion_drop_stale"])
            return await conn.fetch(self._sql["deletion_pick"], count, in_hand)

    async def _answer(self, did: str) -> str:
        is_hosted = await self._hosting.is_hosted(did)
        self._counters.hosted += is_hosted
        self._counters.gone += not is_hosted
        return "deletion_drop" if is_hosted else "deletion_confirm"

    def _failed(self) -> None:
        self._counters.failed += 1

    def _tell(self, in_flight: int) -> None:
        self._counters.in_flight = in_flight
