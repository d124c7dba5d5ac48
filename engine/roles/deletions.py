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

import asyncpg

from engine.adapters import postgres
from engine.roles import asking


@dataclass
class Counters(asking.Counters):
    """What the process did since it started; for the heartbeat."""

    gone: int = 0
    hosted: int = 0


class Confirmer(asking.Asker[Counters]):
    """Asks about deletions."""

    FILE, WORD = "deletions", "deletion"

    async def _due(self, count: int, in_hand: list[str]) -> Sequence[asyncpg.Record]:
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["deletion_drop_stale"])
            return await conn.fetch(self._sql["deletion_pick"], count, in_hand)

    async def _answer(self, did: str) -> str:
        is_hosted = await self._hosting.is_hosted(did)
        self._counters.hosted += is_hosted
        self._counters.gone += not is_hosted
        return "deletion_drop" if is_hosted else "deletion_confirm"
