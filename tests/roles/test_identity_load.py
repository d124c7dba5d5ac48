"""Very many identities at once, and hosts that hold up who asks: bounded in memory and in rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from engine.adapters import identity as directory
from engine.adapters.handles import Answer
from engine.roles import identity
from engine.settings import IdentitySettings, NetworkSettings, Settings
from engine.simulate import MemoryFrames, Network, Server, serve
from tests.roles.test_identity_role import Tables, register, running

PER_SECOND = 250.0
COUNT = 750
MOST_HELD = identity.PICK_COUNT + 2 * IdentitySettings().concurrency


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(Network(MemoryFrames())) as made:
        yield made


@pytest.fixture
async def db(database: str) -> AsyncIterator[Tables]:
    conn = await asyncpg.connect(database)
    yield Tables(conn)
    await conn.close()


def settings_for(
    database: str, server: Server, *, per_second: float = 100.0, **identities: Any
) -> Settings:
    return Settings(
        plc_requests_per_second=per_second,
        database_url=database,
        plc_url=server.url,
        identity=msgspec.structs.replace(
            IdentitySettings(handle_resolver=server.url), **identities
        ),
        network=NetworkSettings(allow_private=True),
    )


async def test_what_is_due_at_once_is_held_and_asked_for_little_by_little(
    database: str, db: Tables, server: Server
) -> None:
    for number in range(COUNT):
        register(server, f"u{number:04}", f"u{number}.test")
    await db.conn.execute(
        "INSERT INTO headrace.identity_due (did, seq, time, forced)"
        " SELECT rpad('did:plc:u' || to_char(n, 'FM0000'), 32, 'a'), n, 't', true"
        " FROM generate_series(0, $1::int - 1) n",
        COUNT,
    )
    held = []
    async with running(settings_for(database, server, per_second=PER_SECOND)) as role:
        while await db.conn.fetchval("SELECT count(*) FROM headrace.identity_due"):
            held.append(int(str(role.report()["in_flight"])))
            await asyncio.sleep(0.01)
    assert await db.conn.fetchval("SELECT count(*) FROM actor WHERE handle IS NOT NULL") == COUNT
    asked = server.directory_asked
    assert len(asked) == COUNT
    # Requests that left in turn may arrive together, no more of them than are under way at once.
    under_way = IdentitySettings().concurrency
    seconds = asked[-1] - asked[0]
    assert seconds >= (COUNT - under_way) / PER_SECOND
    for first, last in ((0, COUNT // 3), (COUNT // 3, COUNT - 1)):
        assert last - first <= (asked[last] - asked[first]) * PER_SECOND + under_way
    assert max(held) <= MOST_HELD


async def test_a_directory_that_has_too_much_to_do_is_left_alone(
    database: str, db: Tables, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "REST_SECONDS_FIRST", 60.0)  # longer than a second here takes
    for number in range(200):
        await db.add_due(f"u{number:03}")
    server.identity_status = 429
    tried = "SELECT count(*) FROM headrace.identity_due WHERE attempts > 0"
    async with running(settings_for(database, server)):
        await db.until(tried)
        await asyncio.sleep(1.0)
        assert await db.conn.fetchval(tried) <= IdentitySettings().concurrency + 2


class Slow:
    """Handles whose servers hold up whoever asks, as long as they are let."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at_once = self.most = 0

    async def resolve(self, handle: str) -> Answer:
        if not handle.startswith("slow"):
            return Answer(None)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        return Answer(None, "no answer in time")


async def test_hosts_that_hold_up_cost_time_and_no_more(
    database: str, db: Tables, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as many as there are slots, and due before the others: those come all the same."""
    slow = Slow(0.5)
    monkeypatch.setattr(identity, "handle_resolver", lambda *_: slow)
    for number in range(8):
        register(server, f"slow{number}", f"slow{number}.test")
        await db.add_actor(f"slow{number}", f"slow{number}.test")
        await db.add_due(f"slow{number}", age=100.0)
        register(server, f"quick{number}", f"quick{number}.test")
        await db.add_due(f"quick{number}")
    async with running(settings_for(database, server, concurrency=4)):
        await db.until("SELECT count(*) = 8 FROM actor WHERE did LIKE '%quick%'")
        await db.until("SELECT count(*) = 8 FROM headrace.identity_due WHERE attempts = 1")
    assert slow.most == 4
    kept = await db.conn.fetchval("SELECT count(handle) FROM actor WHERE did LIKE '%slow%'")
    assert kept == 8
