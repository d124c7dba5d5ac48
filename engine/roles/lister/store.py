"""What the lister keeps in Postgres: claims, pages with their cursors, failures, gaps."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
import msgspec

from engine import sql
from engine.adapters import postgres
from engine.core import listing, outcomes
from engine.core.listing import NamedHost, Page
from engine.errors import StoreError

T = TypeVar("T")

CLAIM_SECONDS = 30.0
"""How long a claim holds that is not renewed: then whoever had it is gone, or stands still."""

RENEW_SECONDS = 5.0
"""How often a lister renews all that it has."""

REPLAYS = 10
"""Two pages, or a page and an indexer, may lock each other out; the loser writes again."""

_CONTENTION = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class Claim(msgspec.Struct, frozen=True):
    """The right to list a host, until it is taken over or runs out."""

    origin: str
    relay: bool
    accounts: int | None
    token: int
    cursor: str  # of the page to read next
    listed: int  # in this listing so far
    failures: int  # of that page


class Gap(msgspec.Struct, frozen=True):
    """Something that a host could not list."""

    origin: str
    after: str
    until: str
    attempts: int
    relay: bool


class Untold(msgspec.Struct, frozen=True):
    """What a list says of an account."""

    did: str
    tell: str  # a status, or active
    listed_at: datetime
    host: str | None  # whose list; None: a relay's


class ClaimLost(Exception):
    """Another lister has the host now; nothing was written."""


class Store:
    """Every statement of the lister, each method one transaction; durable on return.

    Within a second, that is: a crash of the server loses pages and their cursors together.
    """

    def __init__(self, idle: postgres.Borrowable, schema: str, grace_seconds: float) -> None:
        """Work over borrowed connections.

        Args:
            idle: connections that nobody uses.
            schema: DATABASE_STATE_SCHEMA.
            grace_seconds: how old a listed rev is that live commits should have brought.
        """
        self._idle = idle
        self._sql = sql.load("lister", state=schema)
        self._grace = grace_seconds

    def connection(self) -> contextlib.AbstractAsyncContextManager[asyncpg.Connection[Any]]:
        """One of the connections, for what is not ours to state."""
        return postgres.borrowed(self._idle)

    async def claim(self, name: str, *, failing: bool) -> Claim | None:
        """The next host to list, held for ``CLAIM_SECONDS``; None if there is none now."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            row = await conn.fetchrow(self._sql["host_claim"], name, CLAIM_SECONDS, failing)
        return Claim(**dict(row)) if row is not None else None

    async def release(self, name: str) -> None:
        """Give back what a process of this name holds."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["host_release"], name)

    async def renew(self, claim: Claim) -> None:
        """Hold the claim from now on.

        Raises:
            ClaimLost: it is somebody else's.
        """
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            done = await conn.execute(
                self._sql["claim_renew"], claim.origin, claim.token, CLAIM_SECONDS
            )
        _check(done)

    async def renew_all(self, name: str) -> None:
        """Hold from now on what this process has, however long its hosts take to answer."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["claims_renew"], name, CLAIM_SECONDS)

    async def page(self, claim: Claim, page: Page, cursor: str) -> int:
        """Keep a page and where the next one begins; how many repositories are new.

        Raises:
            ClaimLost: the host is somebody else's.
        """

        async def write(conn: asyncpg.Connection[Any]) -> int:
            _check(
                await conn.execute(
                    self._sql["host_page"],
                    claim.origin,
                    claim.token,
                    cursor,
                    len(page.repos),
                    CLAIM_SECONDS,
                )
            )
            return await self._write_repos(conn, page, None if claim.relay else claim.origin)

        return await self._transaction(write)

    async def repos(self, origin: str, page: Page, *, relay: bool) -> int:
        """Keep what is listed outside of a listing; how many repositories are new."""
        return await self._transaction(
            lambda conn: self._write_repos(conn, page, None if relay else origin)
        )

    async def _write_repos(
        self, conn: asyncpg.Connection[Any], page: Page, host: str | None
    ) -> int:
        if not page.repos:
            return 0
        row = await conn.fetchrow(
            self._sql["page_repos"],
            [repo.did for repo in page.repos],
            [repo.rev for repo in page.repos],
            [repo.status for repo in page.repos],
            [repo.outcome for repo in page.repos],
            host,
            listing.tid_at(time.time() - self._grace),
            [outcomes.status_of(repo.outcome) for repo in page.repos],
        )
        return int(row["new"]) if row is not None else 0

    async def untold(self, count: int) -> list[Untold]:
        """What lists say of accounts and their owners have not applied."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            rows = await conn.fetch(self._sql["untold"], count)
        return [Untold(*row) for row in rows]

    async def told(self, some: Sequence[Untold], instants: Sequence[str]) -> None:
        """Forget those of them that are applied; ``instants`` as of which they were told."""
        dids, words = [each.did for each in some], [each.tell for each in some]
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["told"], dids, words, list(instants))

    async def untell(self, some: Sequence[Untold]) -> None:
        """Forget these: nobody is told."""
        dids, words = [each.did for each in some], [each.tell for each in some]
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["untell"], dids, words)

    async def done(self, claim: Claim, next_seconds: float, odd: str | None) -> None:
        """The listing is over; the claim is given back."""

        async def write(conn: asyncpg.Connection[Any]) -> None:
            _check(
                await conn.execute(
                    self._sql["host_done"], claim.origin, claim.token, next_seconds, odd
                )
            )
            await conn.execute(self._sql["gap_passed"], claim.origin)

        await self._transaction(write)

    async def failed(
        self, claim: Claim, error: str, wait_seconds: float, *, anew: bool, counts: bool
    ) -> None:
        """The page could not be read; the claim is given back."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(
                self._sql["host_failed"],
                claim.origin,
                claim.token,
                postgres.storable(error),
                wait_seconds,
                anew,
                counts,
            )

    async def step(self, claim: Claim, after: str, until: str, error: str) -> None:
        """The listing goes on behind what fails, which is noted."""

        async def write(conn: asyncpg.Connection[Any]) -> None:
            _check(
                await conn.execute(
                    self._sql["host_page"], claim.origin, claim.token, until, 0, CLAIM_SECONDS
                )
            )
            text = postgres.storable(error)
            await conn.execute(self._sql["gap_add"], claim.origin, after, until, text)

        await self._transaction(write)

    async def stuck(self, claim: Claim, after: str, error: str) -> None:
        """The listing cannot go on here, which is noted."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            text = postgres.storable(error)
            await conn.execute(self._sql["gap_add"], claim.origin, after, "", text)

    async def gaps(self) -> list[Gap]:
        """Gaps that it is time to ask for again."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            return [Gap(*row) for row in await conn.fetch(self._sql["gap_due"])]

    async def gap_failed(self, gap: Gap, error: str, wait_seconds: float) -> None:
        """It fails still."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            text = postgres.storable(error)
            await conn.execute(self._sql["gap_failed"], gap.origin, gap.after, text, wait_seconds)

    async def gap_done(self, gap: Gap) -> None:
        """Everything in it is listed."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["gap_done"], gap.origin, gap.after)

    async def add_relays(self, origins: Sequence[str]) -> None:
        """The relays of the settings are hosts, too."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["relay_add"], list(origins))

    async def add_hosts(self, hosts: Sequence[NamedHost], found_by: str) -> None:
        """Hosts to list."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(
                self._sql["host_add"],
                [host.origin for host in hosts],
                [host.accounts for host in hosts],
                [host.status for host in hosts],
                found_by,
            )

    async def named(self, relay: str) -> None:
        """The relay's list of hosts was read to its end."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["relay_named"], relay)

    async def keep_census(self) -> None:
        """Count everything and keep the counts."""
        async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
            await conn.execute(self._sql["census_keep"])

    async def _transaction(self, write: Callable[[asyncpg.Connection[Any]], Awaitable[T]]) -> T:
        for attempt in range(REPLAYS):
            async with postgres.borrowed(self._idle) as conn, postgres.translated_errors():
                try:
                    async with conn.transaction():
                        return await write(conn)
                except _CONTENTION as contention:
                    if attempt == REPLAYS - 1:
                        raise StoreError(f"Postgres: {contention}") from contention
            await asyncio.sleep(0.01 * (attempt + 1))
        raise AssertionError("unreachable")


def _check(done: str) -> None:
    if done != "UPDATE 1":
        raise ClaimLost
