"""Asking hosts about accounts that were called deleted, against the simulated network."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from engine import simulate
from engine.core import identity as rules
from engine.roles.deletions import Counters
from engine.roles.identity import IdentityRole
from engine.settings import IdentitySettings, NetworkSettings, Settings
from engine.simulate import MemoryFrames, Network, Server

pytestmark = pytest.mark.services

T1, T2 = "2026-01-01T00:00:01.000Z", "2026-01-01T00:00:02.000Z"
DID = "did:plc:aliceaaaaaaaaaaaaaaaaaaa"
REV = "3kaaaaaaaaa22"
WAITING = (
    "SELECT count(*) > 0 FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
TRY_NOW = "UPDATE headrace.deletion SET next_attempt_at = now()"


class Scene:
    """One account that was called deleted."""

    def __init__(self, conn: asyncpg.Connection[Any], server: Server, settings: Settings) -> None:
        self.conn = conn
        self.server = server
        self.settings = settings

    def document(self, *, pds: bool = True) -> None:
        """Registered; nothing but the host matters here."""
        service = {
            "id": "#atproto_pds",
            "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": "http://pds.test",
        }
        self.server.network.documents[DID] = {"id": DID, "service": [service] if pds else []}

    def host(self) -> None:
        self.server.network.repos.append({"did": DID, "head": "bafy", "rev": REV, "active": True})

    def answer(self, folder: Path, status: int, error: str) -> None:
        """What the host says instead of a repository."""
        body = orjson.dumps({"error": error}).decode()
        name = f"{DID.replace(':', '_')}.error.json"
        (folder / name).write_bytes(orjson.dumps({"status": status, "body": body}))
        self.server.network.cars = folder

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[IdentityRole]:
        role, stop = IdentityRole("identity/0", self.settings), asyncio.Event()
        task = asyncio.create_task(role.run(stop))
        try:
            yield role
        finally:
            stop.set()
            await asyncio.wait_for(task, 5)

    async def row(self) -> Any:
        return await self.conn.fetchrow(
            "SELECT *, extract(epoch FROM next_attempt_at - now())::float AS wait"
            " FROM headrace.deletion"
        )

    async def until(self, condition: str, *parameters: object) -> None:
        async with asyncio.timeout(20):
            query = f"SELECT {condition} FROM headrace.deletion"
            while not await self.conn.fetchval(query, *parameters):
                await asyncio.sleep(0.02)

    async def until_gone(self) -> None:
        await self.until("count(*) = 0")


def counters(role: IdentityRole) -> Counters:
    found = role.report()["deletions"]
    assert isinstance(found, dict)
    return Counters(**found)


def outcomes(role: IdentityRole) -> Counters:
    """Those that only grow."""
    return dataclasses.replace(counters(role), in_flight=0)


@pytest.fixture
async def scene(database: str) -> AsyncIterator[Scene]:
    conn = await asyncpg.connect(database)
    await conn.execute(
        "INSERT INTO headrace.repo (did, rev, account_time, active, status)"
        " VALUES ($1, $2, $3, false, 'deleted')",
        DID,
        REV,
        T1,
    )
    await conn.execute(
        "INSERT INTO headrace.deletion (did, shard, relay, generation, seq, time, rev)"
        " VALUES ($1, 3, 'relay.test', 1, 7, $2, $3)",
        DID,
        T1,
        REV,
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


@pytest.mark.parametrize("lacking", ["repository", "host", "document"])
async def test_an_account_that_nobody_hosts_is_confirmed(scene: Scene, lacking: str) -> None:
    if lacking != "document":
        scene.document(pds=lacking != "host")
    async with scene.asking() as role:
        await scene.until("confirmed_at IS NOT NULL")
    assert outcomes(role) == Counters(gone=1)
    assert (await scene.row())["started_at"] is None


async def test_an_account_that_its_host_has_is_not_deleted(scene: Scene) -> None:
    scene.document()
    scene.host()
    async with scene.asking() as role:
        await scene.until_gone()
    assert outcomes(role) == Counters(hosted=1)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, "RepoDeactivated"), (400, "RepoTakendown"), (404, "NotFound"), (502, "Bad")],
)
async def test_another_answer_is_none_and_the_host_is_asked_again(
    scene: Scene, tmp_path: Path, status: int, error: str
) -> None:
    scene.document()
    scene.answer(tmp_path, status, error)
    async with scene.asking() as role:
        await scene.until("attempts = 1")
        row = await scene.row()
        assert row["confirmed_at"] is None
        assert f"{status} {error}" in row["last_error"]
        assert 5 < row["wait"] <= rules.RETRY_SECONDS[0]
        scene.server.network.cars = None
        await scene.conn.execute(TRY_NOW)
        await scene.until("confirmed_at IS NOT NULL")
    assert outcomes(role) == Counters(failed=1, gone=1)


async def test_a_directory_that_fails_says_nothing_of_the_account(scene: Scene) -> None:
    scene.server.identity_status = 503
    async with scene.asking():
        await scene.until("attempts = 1")
        assert "503" in (await scene.row())["last_error"]
        await scene.conn.execute(TRY_NOW)
        await scene.until("attempts = 2")
        row = await scene.row()
        assert row["confirmed_at"] is None
        assert 40 < row["wait"] <= rules.RETRY_SECONDS[1]


@pytest.mark.parametrize("change", ["account_time = '2026-01-01T00:00:09.000Z'", "rev = 'later'"])
async def test_what_an_event_came_after_is_dropped_unasked(scene: Scene, change: str) -> None:
    await scene.conn.execute(f"UPDATE headrace.repo SET {change}")
    async with scene.asking() as role:
        await scene.until_gone()
    assert outcomes(role) == Counters()


async def test_an_answer_is_only_about_the_event_that_it_was_asked_for(scene: Scene) -> None:
    """The second event is committed while the answer about the first is being written."""
    other = await asyncpg.connect(scene.settings.database_url)
    async with other.transaction():
        await other.execute("UPDATE headrace.repo SET account_time = $1", T2)
        await other.execute("UPDATE headrace.deletion SET time = $1", T2)
        async with scene.asking() as role:
            async with asyncio.timeout(20):
                while not await scene.conn.fetchval(WAITING):
                    await asyncio.sleep(0.02)
    await other.close()
    assert outcomes(role) == Counters(gone=1)
    row = await scene.row()
    assert (row["time"], row["confirmed_at"]) == (T2, None)
    async with scene.asking() as role:
        await scene.until("confirmed_at IS NOT NULL")
    assert outcomes(role) == Counters(gone=1)


async def test_many_are_asked_about_at_once(scene: Scene) -> None:
    count = 60
    await scene.conn.execute(
        "INSERT INTO headrace.repo (did, account_time)"
        " SELECT 'did:plc:' || n, $1 FROM generate_series(1, $2::int) n",
        T1,
        count,
    )
    await scene.conn.execute(
        "INSERT INTO headrace.deletion (did, shard, relay, generation, seq, time)"
        " SELECT 'did:plc:' || n, 0, 'relay.test', 1, n, $1 FROM generate_series(1, $2::int) n",
        T1,
        count,
    )
    scene.server.identity_delay = 0.05
    async with scene.asking() as role:
        await scene.until("count(*) FILTER (WHERE confirmed_at IS NULL) = 0")
    assert counters(role).gone == count + 1
