"""A network of hosts that list repositories, and listers at work on it against real stores."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
import redis.asyncio

from engine import settings, simulate
from engine.core import listing, streams
from engine.roles.lister import ListerRole
from engine.simulate import Network, Server
from engine.simulate.lists import Listing

KEYS = streams.Keys()
A, B, C = "https://a.test", "https://b.test", "https://c.test"
REV = listing.tid_at(1_750_000_000)
LATER = listing.tid_at(1_750_000_060)

_numbers = itertools.count()


def did(number: int, name: str = "") -> str:
    """A DID whose order is that of the numbers, of one name."""
    digits = "".join("abcdefghij"[int(digit)] for digit in f"{number:08}")
    return f"did:plc:{name:a<16}{digits}"


def document(who: str, pds: str) -> dict[str, Any]:
    service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds}
    return {"id": who, "alsoKnownAs": [], "service": [service]}


def network(**hosts: int) -> Network:
    """Hosts by name (``a`` is ``https://a.test``), each with so many repositories."""
    made = Network()
    for name, count in hosts.items():
        for number in range(count):
            add(made, f"https://{name}.test", did(number, name))
    return made


def add(to: Network, pds: str, who: str, **fields: Any) -> None:
    """One more repository."""
    to.repos.append({"did": who, "head": "bafyhead", "rev": REV, "active": True, **fields})
    to.documents[who] = document(who, pds)


@dataclass
class Lists:
    """One deployment under test."""

    database_url: str
    redis_url: str
    server: Server
    conn: asyncpg.Connection[Any]
    redis: Any
    variables: dict[str, str] = field(default_factory=dict)

    def settings(self, **more: str) -> settings.Settings:
        return settings.load(
            environ={
                "DATABASE_URL": self.database_url,
                "REDIS_URL": self.redis_url,
                **self.server.settings,
                "LISTER_SPACING_MS": "0",
                "LISTER_QUEUE_CHECK_SECONDS": "0.1",
                **self.variables,
                **more,
            }
        )

    def listing(self, pds: str | None) -> Listing:
        """Levers and requests of one host."""
        return self.server.listings.setdefault(pds, Listing())

    @contextlib.asynccontextmanager
    async def running(self, **more: str) -> AsyncIterator[ListerRole]:
        """A lister at work; stopped as TERM would on leaving. Its failure is raised."""
        role = ListerRole(f"lister/{next(_numbers)}", self.settings(**more))
        stop = asyncio.Event()
        task = asyncio.create_task(role.run(stop))
        try:
            yield role
        finally:
            stop.set()
            await asyncio.wait([task], timeout=5)
            assert task.done(), "the role did not stop"
            task.result()

    async def value(self, query: str, *arguments: Any) -> Any:
        return await self.conn.fetchval(query, *arguments)

    async def known(self, pds: str | None = None) -> set[str]:
        """DIDs in the table, or those of one host."""
        origin = self.server.url_of(pds) if pds else None
        rows = await self.conn.fetch(
            "SELECT did FROM headrace.repo WHERE $1::text IS NULL OR host = $1", origin
        )
        return {row["did"] for row in rows}

    async def repo(self, who: str) -> dict[str, Any]:
        row = await self.conn.fetchrow("SELECT * FROM headrace.repo WHERE did = $1", who)
        assert row is not None
        return dict(row)

    async def host(self, pds: str | None) -> dict[str, Any]:
        row = await self.conn.fetchrow(
            "SELECT * FROM headrace.host WHERE origin = $1", self.server.url_of(pds)
        )
        assert row is not None
        return dict(row)

    async def is_listed(self, *hosts: str | None) -> bool:
        """Whether these hosts' listings are done; of all, if none is named."""
        rows = await self.conn.fetch("SELECT origin, done_at FROM headrace.host")
        done = {row["origin"] for row in rows if row["done_at"] is not None}
        origins = {self.server.url_of(host) for host in hosts}
        if not hosts:
            origins = {self.server.url, *(map(self.server.url_of, self.server.network.hosts()))}
        return origins <= done

    async def again(self) -> None:
        """Every host is due now."""
        await self.conn.execute(
            "UPDATE headrace.host SET next_at = now(), done_at = NULL, parked_until = NULL"
        )

    async def queue(self) -> list[dict[str, Any]]:
        """The documents in the queue, in their order."""
        entries = await self.redis.xrange(KEYS.queue)
        return [orjson.loads(fields[b"repo"]) for _, fields in entries]

    async def queued(self) -> list[str]:
        """The DIDs in the queue, in their order."""
        return [entry["did"] for entry in await self.queue()]

    async def take(self, count: int) -> list[str]:
        """Fetch and finish so many of the queue's head, as a backfiller does."""
        entries = await self.redis.xrange(KEYS.queue, count=count)
        dids = [orjson.loads(fields[b"repo"])["did"] for _, fields in entries]
        await self.conn.execute(
            "UPDATE headrace.repo SET last_attempt_at = now(), fetched_at = now(), outcome = 'ok',"
            " backfilled_rev = listed_rev, queued_at = NULL WHERE did = ANY($1)",
            dids,
        )
        if entries:
            await self.redis.xdel(KEYS.queue, *(name for name, _ in entries))
        return dids


@contextlib.asynccontextmanager
async def serving(
    database_url: str, redis_url: str, served: Network, **variables: str
) -> AsyncIterator[Lists]:
    """The network served, and connections to look at the stores."""
    conn = await asyncpg.connect(database_url)
    client = redis.asyncio.Redis.from_url(redis_url)
    try:
        async with simulate.serve(served) as server:
            yield Lists(database_url, redis_url, server, conn, client, variables)
    finally:
        await client.aclose()
        await conn.close()
