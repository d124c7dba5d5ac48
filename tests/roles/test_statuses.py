"""Asking hosts about accounts that are called deactivated, and handles that two actors have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from engine import simulate, sql
from engine.core import identity as rules
from engine.roles import handles
from engine.roles.identity import IdentityRole
from engine.roles.statuses import Counters
from engine.settings import IdentitySettings, NetworkSettings, Settings
from engine.simulate import MemoryFrames, Network, Server

pytestmark = pytest.mark.services

T1, T2 = "2026-01-01T00:00:01.000Z", "2026-01-01T00:00:02.000Z"
DID, OTHER = "did:plc:aliceaaaaaaaaaaaaaaaaaaa", "did:plc:bobaaaaaaaaaaaaaaaaaaaaa"
HOST = {
    "id": "#atproto_pds",
    "type": "AtprotoPersonalDataServer",
    "serviceEndpoint": "http://pds.test",
}


class Scene:
    """One account that was called deactivated."""

    def __init__(self, conn: asyncpg.Connection[Any], server: Server, settings: Settings) -> None:
        self.conn = conn
        self.server = server
        self.settings = settings

    def host(self, **state: Any) -> None:
        self.server.network.documents[DID] = {"id": DID, "service": [HOST]}
        self.server.network.repos.append({"did": DID, "head": "bafy", "rev": "3k", **state})

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[IdentityRole]:
        role, stop = IdentityRole("identity/0", self.settings), asyncio.Event()
        task = asyncio.create_task(role.run(stop))
        try:
            yield role
        finally:
            stop.set()
            await asyncio.wait_for(task, 5)

    async def until(self, query: str) -> None:
        async with asyncio.timeout(20):
            while not await self.conn.fetchval(query):
                await asyncio.sleep(0.02)

    async def until_asked(self) -> None:
        await self.until("SELECT count(*) = 0 FROM headrace.status_due")

    async def status(self) -> Any:
        return await self.conn.fetchval('SELECT "upstreamStatus" FROM actor')


def counters(role: IdentityRole) -> Counters:
    found = role.report()["statuses"]
    assert isinstance(found, dict)
    return Counters(**{**found, "in_flight": 0})


@pytest.fixture
async def scene(database: str) -> AsyncIterator[Scene]:
    conn = await asyncpg.connect(database)
    await conn.execute(
        "INSERT INTO headrace.repo (did, account_time, active, status)"
        " VALUES ($1, $2, false, 'deactivated')",
        DID,
        T1,
    )
    await conn.execute("INSERT INTO headrace.status_due (did, time) VALUES ($1, $2)", DID, T1)
    await conn.execute(
        'INSERT INTO actor (did, "indexedAt", "upstreamStatus") VALUES ($1, $2, \'deactivated\')',
        DID,
        T1,
    )
    async with simulate.serve(Network(MemoryFrames())) as server:
        settings = Settings(
            database_url=database,
            plc_url=server.url,
            identity=IdentitySettings(handle_resolver=server.url),
            network=NetworkSettings(allow_private=True),
        )
        yield Scene(conn, server, settings)
    await conn.close()


async def test_what_the_present_host_denies_is_taken_away(scene: Scene) -> None:
    scene.host(active=True)
    async with scene.asking() as role:
        await scene.until_asked()
    assert await scene.status() is None
    assert counters(role) == Counters(refuted=1)


@pytest.mark.parametrize("why", ["says so", "no repository", "no host", "no document", "no method"])
async def test_what_nobody_denies_stands(scene: Scene, why: str) -> None:
    if why != "no document":
        scene.host(active=False, status="deactivated")
    if why == "no host":
        scene.server.network.documents[DID]["service"] = []
    if why == "no repository":
        scene.server.network.repos.clear()
    if why == "no method":
        scene.server.refusals[DID] = (501, "MethodNotImplemented")
    async with scene.asking() as role:
        await scene.until_asked()
    assert await scene.status() == "deactivated"
    assert counters(role) == Counters(stands=1)


async def test_a_host_that_does_not_answer_is_asked_again(scene: Scene) -> None:
    scene.host(active=True)
    scene.server.refusals[DID] = (500, "InternalServerError")
    async with scene.asking() as role:
        await scene.until("SELECT attempts = 1 FROM headrace.status_due")
        row = await scene.conn.fetchrow(
            "SELECT last_error, extract(epoch FROM next_attempt_at - now())::float AS wait"
            " FROM headrace.status_due"
        )
        assert row is not None
        assert "500 InternalServerError" in row["last_error"]
        assert 0 < row["wait"] <= rules.RETRY_SECONDS[0]
        assert await scene.status() == "deactivated"
        del scene.server.refusals[DID]
        await scene.conn.execute("UPDATE headrace.status_due SET next_attempt_at = now()")
        await scene.until_asked()
    assert await scene.status() is None
    assert counters(role) == Counters(failed=1, refuted=1)


async def test_an_answer_is_not_about_a_later_event(scene: Scene) -> None:
    """The later event is committed while the answer about the first one is being written."""
    scene.host(active=True)
    other = await asyncpg.connect(scene.settings.database_url)
    async with other.transaction():
        await other.execute("UPDATE headrace.repo SET account_time = $1", T2)
        async with scene.asking() as role:
            await scene.until(
                "SELECT count(*) > 0 FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
    await other.close()
    assert counters(role) == Counters(refuted=1)
    assert await scene.status() == "deactivated"


async def test_what_a_later_event_made_void_is_not_asked(scene: Scene) -> None:
    scene.host(active=True)
    await scene.conn.execute("UPDATE headrace.repo SET account_time = $1", T2)
    async with scene.asking() as role:
        await scene.until_asked()
    assert await scene.status() == "deactivated"
    assert counters(role) == Counters()


@pytest.mark.parametrize("hours", [0, 2])
async def test_an_older_event_takes_no_handle_of_a_newer_one_for_an_hour(
    scene: Scene, hours: int
) -> None:
    statements = sql.load("identity", state="headrace")
    for did, seq in ((OTHER, 9), (DID, 5)):
        await scene.conn.execute(
            "INSERT INTO headrace.identity_due (did, seq, time, forced, next_attempt_at)"
            " VALUES ($1, $2, $3, true, now() + interval '1 hour')",
            did,
            seq,
            T2,
        )
    await handles.write(scene.conn, statements, handles.Due(OTHER, 9, T2, 0), "a.test")
    await scene.conn.execute(
        "UPDATE headrace.seat SET seated_at = now() - make_interval(hours => $1)", hours
    )
    async with scene.asking():
        await scene.until_asked()
        await scene.until(f"SELECT count(*) = {int(hours == 0)} FROM headrace.seat")
    await handles.write(scene.conn, statements, handles.Due(DID, 5, T2, 0), "a.test")
    rows = await scene.conn.fetch('SELECT did, handle, "indexedAt" FROM actor ORDER BY did')
    held = [(DID, None, T2), (OTHER, "a.test", T2)]
    lost = [(DID, "a.test", T2), (OTHER, None, T2)]
    assert list(map(tuple, rows)) == (lost if hours else held)
