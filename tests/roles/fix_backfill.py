"""A backfiller at work on small repositories: a network of one PDS, its misdeeds, both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec
import redis.asyncio
from aiohttp import web

from engine import simulate
from engine.core import streams, wire
from engine.roles.backfiller import BackfillerRole
from engine.runtime.worker import ROLE_STOP_SECONDS
from engine.settings import BackfillerSettings, NetworkSettings, Settings
from engine.simulate import MemoryFrames, Network
from engine.simulate.hostile import MISDEEDS as MISDEEDS
from engine.simulate.keys import K256, Key
from engine.simulate.repository import Repository, encode
from engine.simulate.repository import Write as Write
from engine.simulate.repository import tid as tid
from engine.simulate.server import Server

REV_MICROS = 1_760_000_000_000_000
SHARDS = 16


def did(name: str) -> str:
    return f"did:plc:{name:a<24}"


def repository(name: str, records: int = 5, *, rev: int = REV_MICROS) -> Repository:
    """A signed repository of some posts."""
    made = Repository(did(name), Key(K256, name.encode().rjust(32, b"k")))
    writes = [Write(f"app.bsky.feed.post/{tid(rev - 1000 + n)}", post(n)) for n in range(records)]
    made.commit(writes, tid(rev), 1, "2025-10-09T00:00:00.000Z")
    return made


def post(number: int) -> bytes:
    return encode(
        {
            "$type": "app.bsky.feed.post",
            "text": f"post {number}",
            "createdAt": "2025-10-09T00:00:00.000Z",
        }
    )


class Hosts(Network):
    """Repositories in memory."""

    def __init__(self) -> None:
        super().__init__(MemoryFrames())
        self.repositories: dict[str, Repository] = {}

    def export(self, did: str) -> bytes | None:
        found = self.repositories.get(did)
        return found.export() if found is not None else None


@dataclass
class Scene:
    """What a test works with."""

    settings: Settings
    server: Server
    network: Hosts
    db: asyncpg.Connection[Any]
    redis: Any  # its annotations promise None everywhere

    def add(self, name: str, records: int = 5, *, host: str | None = None) -> Repository:
        """An account with its repository."""
        made = repository(name, records)
        self.network.repositories[made.did] = made
        self.register(made, host)
        return made

    def register(self, made: Repository, host: str | None = None) -> None:
        service = {
            "id": "#atproto_pds",
            "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": host or self.server.url,
        }
        key = {"id": "#atproto", "type": "Multikey", "publicKeyMultibase": made.key.multibase}
        self.network.documents[made.did] = {
            "id": made.did,
            "alsoKnownAs": ["at://x.test"],
            "verificationMethod": [key],
            "service": [service],
        }

    async def push(self, *names: str) -> None:
        """Queue repositories, as a lister does."""
        for name in names:
            fields = {streams.QUEUE_FIELD: f'{{"did":"{did(name)}","host":null}}'}
            await self.redis.xadd(streams.QUEUE, fields)

    async def row(self, name: str) -> Any:
        query = (
            "SELECT *, extract(epoch FROM next_attempt_at - now())::float AS wait "
            "FROM headrace.repo WHERE did = $1"
        )
        return await self.db.fetchrow(query, did(name))

    async def row_apart(self, name: str) -> Any:
        """The same over a connection of its own: the other one is mostly asking something."""
        conn = await asyncpg.connect(self.settings.database_url)
        try:
            return await conn.fetchrow("SELECT * FROM headrace.repo WHERE did = $1", did(name))
        finally:
            await conn.close()

    async def until(self, query: str, *args: object) -> None:
        async with asyncio.timeout(30):
            while not await self.db.fetchval(query, *args):
                await asyncio.sleep(0.02)

    async def outcome(self, name: str, *expected: str) -> Any:
        """The row once it has that outcome."""
        query = "SELECT count(*) FROM headrace.repo WHERE did = $1 AND outcome = ANY ($2)"
        await self.until(query, did(name), list(expected))
        return await self.row(name)

    async def drained(self) -> None:
        """Nothing is left in the queue."""
        async with asyncio.timeout(30):
            while await self.redis.xlen(streams.QUEUE):
                await asyncio.sleep(0.02)

    async def entries(self, name: str) -> list[wire.Entry]:
        """What was appended for a DID."""
        return [entry for entry in await self.appended() if entry.did == did(name)]

    async def appended(self) -> list[Any]:
        found = []
        for shard in range(SHARDS):
            for _, fields in await self.redis.xrange(f"{streams.BACKFILL}:{shard}"):
                found.append(wire.decode(fields[b"event"]))
        return found

    @asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[BackfillerRole]:
        """A backfiller at work; it must stop by itself, whatever it does."""
        role = BackfillerRole("backfiller/0@test", self.with_settings(**changes))
        stop = asyncio.Event()
        task = asyncio.create_task(role.run(stop))
        try:
            yield role
        finally:
            stop.set()
            await asyncio.wait_for(task, ROLE_STOP_SECONDS)

    def with_settings(self, **changes: Any) -> Settings:
        ours = msgspec.structs.replace(self.settings.backfiller, **changes)
        return msgspec.structs.replace(self.settings, backfiller=ours)


@asynccontextmanager
async def scene(database: str, redis_url: str, spool: str) -> AsyncIterator[Scene]:
    """One host that behaves, until a test says otherwise."""
    network = Hosts()
    async with simulate.serve(network) as server:
        settings = Settings(
            database_url=database,
            redis_url=redis_url,
            plc_url=server.url,
            plc_requests_per_second=10_000.0,
            network=NetworkSettings(allow_private=True),
            backfiller=BackfillerSettings(
                retry_initial_backoff_ms=10, host_park_seconds=1.0, spool_dir=spool
            ),
        )
        db = await asyncpg.connect(database)
        client = redis.asyncio.Redis.from_url(redis_url)
        made = Scene(settings, server, network, db, client)
        try:
            yield made
        finally:
            await db.close()
            await client.aclose()


Answer = web.StreamResponse


def car(export: bytes) -> web.Response:
    """An answer with an export."""
    return web.Response(body=export, content_type="application/vnd.ipld.car")
