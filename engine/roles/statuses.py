"""Asking whether an account that was called deactivated is: a part of the identity role.

Whoever moves to another host deactivates the account at the old one, which says so last; relays
may pass that on, and the account would look deactivated for ever. The status is written as the
event says, like any other, and noted in ``status_due``; if the host that the DID's document
names today calls the account active, the status is taken away again. It stays where that host
agrees, knows nothing, or there is none; a host that does not answer is asked again.

Only *deactivated* is asked about, which is the word of who left. Of a suspended account, or one
that was taken down, a relay may say so on its own, and its host would know nothing of it.
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

    stands: int = 0
    refuted: int = 0


class StatusChecker(asking.Asker[Counters]):
    """Asks about accounts that are called deactivated."""

    FILE, WORD = "statuses", "status"

    async def _due(self, count: int, in_hand: list[str]) -> Sequence[asyncpg.Record]:
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            rows = await conn.fetch(self._sql["status_pick"], count, in_hand)
        for row in rows:
            if row["is_stale"]:
                await self._write("status_stands", row["did"], row["time"])
        return [row for row in rows if not row["is_stale"]]

    async def _answer(self, did: str) -> str:
        is_active = await self._hosting.says_active(did)
        self._counters.refuted += is_active
        self._counters.stands += not is_active
        return "status_refuted" if is_active else "status_stands"
