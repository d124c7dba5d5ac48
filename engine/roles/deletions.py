"""Asking whether an account that was called deleted is: a part of the identity role.

An ``#account`` event comes through relays, possibly from a host that the account has left. So
nothing is deleted before the host that the DID's document names today says that it has
no such repository. The indexer notes what is to be asked in ``deletion``; the answer becomes one
statement: confirmed (the owner of the shard then deletes), or dropped because the account
lives. Anything else is asked again, later and later.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from engine import errors, log, sql
from engine.adapters import postgres
from engine.core import identity as rules

if TYPE_CHECKING:
    from engine.adapters.identity import Hosting

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How late a new deletion is noticed."""

CONCURRENCY = 16
"""Accounts asked about at a time; they are often of one host, which limits them further."""


@dataclass
class Counters:
    """What the process did since it started; for the heartbeat."""

    gone: int = 0
    hosted: int = 0
    failed: int = 0
    in_flight: int = 0


class Confirmer:
    """Asks about deletions until it is cancelled. Accounts in hand are then simply asked again."""

    def __init__(
        self, hosting: Hosting, idle: postgres.Borrowable, state_schema: str, counters: Counters
    ) -> None:
        """Work with what others opened; ``counters`` are moved in place."""
        self._hosting = hosting
        self._idle = idle
        self._sql = sql.load("deletions", state=state_schema)
        self._counters = counters

    async def run(self) -> None:
        """Ask, for ever.

        Raises:
            StoreError: Postgres failed.
        """
        asking: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for did in [did for did, task in asking.items() if task.done()]:
                    asking.pop(did).result()
                free = CONCURRENCY - len(asking)
                rows = await self._pick(free, list(asking)) if free else []
                for row in rows:
                    task = asyncio.create_task(self._ask(row["did"], row["time"], row["attempts"]))
                    asking[row["did"]] = task
                self._counters.in_flight = len(asking)
                if asking:
                    wait = asyncio.FIRST_COMPLETED
                    await asyncio.wait(asking.values(), timeout=POLL_SECONDS, return_when=wait)
                else:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            self._counters.in_flight = 0
            for task in asking.values():
                task.cancel()
            await asyncio.gather(*asking.values(), return_exceptions=True)

    async def _pick(self, count: int, in_hand: list[str]) -> list[asyncpg.Record]:
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["deletion_drop_stale"])
            return await conn.fetch(self._sql["deletion_pick"], count, in_hand)

    async def _ask(self, did: str, time: str, attempts: int) -> None:
        try:
            is_hosted = await self._hosting.is_hosted(did)
        except errors.UpstreamError as failure:
            self._counters.failed += 1
            wait = rules.retry_seconds(attempts + 1, random.random())  # noqa: S311 - jitter
            reason = postgres.storable(str(failure))
            logger.debug("host not asked %s", log.fields(did=did, error=reason, retry_in=wait))
            await self._write("deletion_failed", did, time, reason, wait)
            return
        self._counters.hosted += is_hosted
        self._counters.gone += not is_hosted
        await self._write("deletion_drop" if is_hosted else "deletion_confirm", did, time)

    async def _write(self, name: str, *parameters: object) -> None:
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql[name], *parameters)
