"""Asking the hosts of accounts what became of them: a loop of the identity role.

What is to be asked stands in a table, one row a DID with the time of the event that it is about.
An answer becomes one statement; a host that does not answer is asked again, later and later.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import asyncpg

from engine import errors, log, sql
from engine.adapters import postgres
from engine.core import identity as rules

if TYPE_CHECKING:
    from engine.adapters.hosting import Hosting

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How late a new row is noticed."""

CONCURRENCY = 16
"""Accounts asked about at a time; they are often of one host, which limits them further."""

CONFLICT_TRIES = 10
"""The owner of an account's shard may lock it out; the loser writes again."""

_CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


@dataclass
class Counters:
    """What the process did since it started; for the heartbeat. The answers are counted apart."""

    failed: int = 0
    in_flight: int = 0


C = TypeVar("C", bound=Counters)


class Asker(ABC, Generic[C]):
    """Asks until it is cancelled. Accounts in hand are then simply asked about again.

    ``FILE`` names the statements and ``WORD`` how theirs begin: ``WORD_failed`` puts one off.
    """

    FILE: str
    WORD: str

    def __init__(
        self, hosting: Hosting, idle: postgres.Borrowable, state_schema: str, counters: C
    ) -> None:
        """Work with what others opened; ``counters`` are moved in place."""
        self._hosting = hosting
        self._idle = idle
        self._sql = sql.load(self.FILE, state=state_schema)
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
                rows = await self._due(free, list(asking)) if free else []
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

    @abstractmethod
    async def _due(self, count: int, in_hand: list[str]) -> Sequence[asyncpg.Record]:
        """Whom to ask about now: DID, time of the event and attempts."""

    @abstractmethod
    async def _answer(self, did: str) -> str:
        """Ask the host; the name of the statement that follows, which takes DID and time.

        Raises:
            UpstreamError: nobody could tell now.
        """

    async def _ask(self, did: str, time: str, attempts: int) -> None:
        try:
            name = await self._answer(did)
        except errors.UpstreamError as failure:
            self._counters.failed += 1
            wait = rules.retry_seconds(attempts + 1, random.random())  # noqa: S311 - jitter
            reason = postgres.storable(str(failure))
            logger.debug("host not asked %s", log.fields(did=did, error=reason, retry_in=wait))
            await self._write(f"{self.WORD}_failed", did, time, reason, wait)
        else:
            await self._write(name, did, time)

    async def _write(self, name: str, *parameters: object) -> None:
        for attempt in range(CONFLICT_TRIES):
            async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
                try:
                    await conn.execute(self._sql[name], *parameters)
                except _CONFLICTS as conflict:
                    if attempt == CONFLICT_TRIES - 1:
                        raise errors.StoreError(f"{name}: {conflict}") from conflict
                    continue
            return
