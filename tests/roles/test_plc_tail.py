"""Reading the end of the directory's log: a real Postgres, a simulated directory and its mirror."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from engine import simulate
from engine.adapters import http, imported, postgres
from engine.adapters.identity import DidResolver
from engine.core import plc
from engine.roles import plc_tail
from engine.settings import Settings
from engine.simulate import MemoryFrames, Network, Server, directory
from tests.roles.test_identity_role import did, document

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)


def at(seconds: float) -> str:
    return plc.instant(BEGIN + timedelta(seconds=seconds))


@dataclass
class Scene:
    settings: Settings
    server: Server
    db: asyncpg.Connection[Any]
    log: list[dict[str, Any]]
    fetcher: http.Fetcher

    def operation(self, name: str, seconds: float, handle: str, **changes: Any) -> None:
        made = directory.operation(document(name, handle), at(seconds), **changes)
        self.log.append(made)

    async def begin(self, seconds: float = 0.0) -> None:
        await self.db.execute(
            "UPDATE headrace.plc_log SET read_to = $1", BEGIN + timedelta(seconds=seconds)
        )

    async def cursor(self) -> float:
        found = await self.db.fetchval("SELECT read_to FROM headrace.plc_log")
        return float((found - BEGIN).total_seconds())

    async def handles(self) -> dict[str, str | None]:
        rows = await self.db.fetch("SELECT did, handle FROM headrace.plc")
        return {row["did"]: row["handle"] for row in rows}

    async def until(self, query: str, *args: object) -> None:
        async with asyncio.timeout(30):
            while not await self.db.fetchval(query, *args):
                await asyncio.sleep(0.02)

    async def until_handle(self, name: str, handle: str | None) -> None:
        query = (
            "SELECT count(*) FROM headrace.plc WHERE did = $1 AND handle IS NOT DISTINCT FROM $2"
        )
        await self.until(query, did(name), handle)

    async def until_current(self) -> None:
        await self.db.execute("UPDATE headrace.plc_log SET current_at = NULL")
        await self.until("SELECT current_at IS NOT NULL FROM headrace.plc_log")

    @asynccontextmanager
    async def tailing(self, url: str | None = None, *mirrors: str) -> AsyncIterator[plc_tail.Tail]:
        """A tail at work; what it raises fails the test."""
        conn = await postgres.connect(self.settings, "test")
        idle: postgres.Borrowable = asyncio.Queue()
        idle.put_nowait(conn)
        resolver = DidResolver(self.fetcher, url or self.server.url, mirrors=mirrors)
        tail = plc_tail.Tail(resolver, idle, "headrace", 0.02, plc_tail.Counters())
        task = asyncio.create_task(tail.run())
        try:
            yield tail
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            conn.terminate()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plc_tail, "REQUEST_SECONDS", 0.0)
    monkeypatch.setattr(plc_tail, "RETRY_FIRST_SECONDS", 0.01)


@pytest.fixture
async def scene(database: str) -> AsyncIterator[Scene]:
    log: list[dict[str, Any]] = []
    network = Network(MemoryFrames(), operations=log)
    db = await asyncpg.connect(database)
    async with (
        simulate.serve(network) as server,
        http.open_fetcher(allow_private=True) as fetcher,
    ):
        yield Scene(Settings(database_url=database), server, db, log, fetcher)
    await db.close()


async def test_nothing_is_read_where_nothing_was_imported(scene: Scene) -> None:
    scene.operation("alice", 1, "alice.test")
    async with scene.tailing():
        await asyncio.sleep(0.2)
        assert scene.server.asked["/export"] == 0
        await scene.begin()
        await scene.until_handle("alice", "alice.test")


async def test_operations_are_taken_as_they_come(scene: Scene) -> None:
    await scene.begin()
    async with scene.tailing() as tail:
        scene.operation("alice", 1, "first.test")
        await scene.until_handle("alice", "first.test")
        scene.operation("alice", 2, "second.test")
        scene.operation("alice", 3, "never.test", nullified=True)
        await scene.until_handle("alice", "second.test")
        scene.log.append(directory.tombstone(did("alice"), at(4)))
        await scene.until_handle("alice", None)
        assert tail.counters.bad == 0


async def test_many_pages_are_read_without_a_hole_and_the_cursor_stays_behind_the_end(
    scene: Scene,
) -> None:
    for number in range(2500):
        scene.operation(f"a{number}".replace("0", "x"), 1 + number / 7, f"h{number}.test")
    expected = {line["did"]: line["operation"]["alsoKnownAs"][0][5:] for line in scene.log}
    await scene.begin()
    async with scene.tailing() as tail:
        await scene.until("SELECT count(*) >= $1 FROM headrace.plc", len(expected))
        await scene.until_current()
        assert tail.counters.pages >= 3
    assert await scene.handles() == expected
    assert await scene.cursor() == pytest.approx(1 + 2499 / 7 - 60, abs=0.01)


async def test_what_shows_late_is_read_all_the_same(scene: Scene) -> None:
    await scene.begin()
    async with scene.tailing():
        scene.operation("alice", 100, "alice.test")
        await scene.until_handle("alice", "alice.test")
        await scene.until_current()
        scene.operation("bob", 70, "bob.test")
        await scene.until_handle("bob", "bob.test")


async def test_a_restart_goes_on_at_the_cursor_and_old_operations_change_nothing(
    scene: Scene,
) -> None:
    await scene.begin()
    scene.operation("alice", 10, "new.test")
    async with scene.tailing():
        await scene.until_handle("alice", "new.test")
        await scene.until_current()
    scene.operation("alice", 5, "old.test")
    scene.operation("bob", 11, "bob.test")
    async with scene.tailing():
        await scene.until_handle("bob", "bob.test")
        assert (await scene.handles())[did("alice")] == "new.test"


async def test_a_bad_line_costs_itself(scene: Scene) -> None:
    await scene.begin()
    scene.log.append({"did": "did:plc:x", "createdAt": at(1), "operation": {"type": "what"}})
    scene.log.append(directory.tombstone(did("carol"), "2999-01-01T00:00:00.000Z"))
    scene.operation("alice", 2, "alice.test")
    async with scene.tailing() as tail:
        await scene.until_handle("alice", "alice.test")
        await scene.until_current()
        assert tail.counters.bad >= 2
    assert set(await scene.handles()) == {did("alice")}
    assert await scene.cursor() <= 2


async def test_a_mirror_goes_on_but_does_not_say_that_there_is_nothing_more(scene: Scene) -> None:
    await scene.begin()
    scene.operation("alice", 1, "alice.test")
    async with scene.tailing("http://127.0.0.1:1", scene.server.url):
        await scene.until_handle("alice", "alice.test")
    assert await scene.db.fetchval("SELECT current_at FROM headrace.plc_log") is None


async def test_a_directory_that_fails_is_asked_again(scene: Scene) -> None:
    await scene.begin()
    scene.operation("alice", 1, "alice.test")
    for status in (500, 429, 404):
        scene.server.identity_status = status
        async with scene.tailing() as tail:
            async with asyncio.timeout(30):
                while tail.counters.failed < 2:
                    await asyncio.sleep(0.01)
            assert await scene.handles() == {}
    scene.server.identity_status = 200
    async with scene.tailing():
        await scene.until_handle("alice", "alice.test")


async def test_documents_are_believed_while_the_log_is_known(scene: Scene) -> None:
    await scene.begin()
    scene.operation("alice", 1, "alice.test")
    scene.operation("bob", 1, "bob.test")
    scene.log.append(directory.tombstone(did("bob"), at(2)))
    named = imported.statements("headrace")
    asked = [did("alice"), did("bob"), did("carol")]

    async def believed(max_age: float = 3600) -> set[str]:
        return set(await imported.look_up(scene.db, named, asked, max_age))

    async with scene.tailing():
        await scene.until_handle("alice", "alice.test")
        await scene.until_current()
    assert await believed() == {did("alice")}
    await scene.db.execute("UPDATE headrace.plc_log SET current_at = now() - interval '2 hours'")
    assert await believed() == set()
    assert await believed(3 * 3600) == {did("alice")}
    await scene.db.execute(named["plc_doubt"], asked)
    assert await believed(3 * 3600) == set()
    scene.operation("alice", 3, "again.test")
    async with scene.tailing():
        await scene.until_handle("alice", "again.test")
    assert await believed() == {did("alice")}
