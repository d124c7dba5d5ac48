"""The identity role against a real Postgres and the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest
import redis

from engine import simulate
from engine.core import identity as rules
from engine.roles import identity
from engine.roles.identity import Counters, IdentityRole
from engine.roles.keep_trying import pause
from engine.runtime.worker import ROLE_STOP_SECONDS
from engine.settings import IdentitySettings, NetworkSettings, Settings
from engine.simulate import MemoryFrames, Network, Server

T1 = "2026-01-01T00:00:01.000Z"
T2 = "2026-01-01T00:00:02.000Z"
EARLIER = "2025-01-01T00:00:00.000Z"
TRY_NOW = "UPDATE headrace.identity_due SET next_attempt_at = now()"
NOTHING_LEFT = "SELECT count(*) = 0 FROM headrace.identity_due"


def did(name: str) -> str:
    return f"did:plc:{name:a<24}"


def document(name: str, handle: str) -> dict[str, Any]:
    pds = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "http://x"}
    return {
        "id": did(name),
        "alsoKnownAs": [f"at://{handle}"],
        "verificationMethod": [{"id": "#atproto", "type": "Multikey", "publicKeyMultibase": "zK"}],
        "service": [pds],
    }


def register(server: Server, name: str, handle: str, *, resolves: bool = True) -> None:
    server.network.documents[did(name)] = document(name, handle)
    if resolves:
        server.network.handles[handle.lower()] = did(name)


class Tables:
    """What the tests write and read, in few words."""

    def __init__(self, conn: asyncpg.Connection[Any]) -> None:
        self.conn = conn

    async def add_actor(self, name: str, handle: str | None = None) -> None:
        insert = 'INSERT INTO actor (did, handle, "indexedAt") VALUES ($1, $2, $3)'
        await self.conn.execute(insert, did(name), handle, EARLIER)

    async def add_due(self, name: str, age: float = 0.0) -> None:
        insert = (
            "INSERT INTO headrace.identity_due (did, seq, time, forced, next_attempt_at) "
            "VALUES ($1, 1, $2, true, now() - make_interval(secs => $3))"
        )
        await self.conn.execute(insert, did(name), T1, age)

    async def ask_again(self, name: str, seq: int = 2) -> None:
        """As the indexer does for a newer event."""
        update = (
            "UPDATE headrace.identity_due "
            "SET seq = $3, time = $2, attempts = 0, next_attempt_at = now() WHERE did = $1"
        )
        await self.conn.execute(update, did(name), T2, seq)

    async def actor(self, name: str) -> tuple[Any, ...] | None:
        query = 'SELECT handle, "indexedAt" FROM actor WHERE did = $1'
        row = await self.conn.fetchrow(query, did(name))
        return tuple(row) if row else None

    async def due(self, name: str) -> Any:
        query = (
            "SELECT *, extract(epoch FROM next_attempt_at - now())::float AS wait "
            "FROM headrace.identity_due WHERE did = $1"
        )
        return await self.conn.fetchrow(query, did(name))

    async def until(self, query: str, *args: object) -> None:
        async with asyncio.timeout(60):
            while not await self.conn.fetchval(query, *args):
                await asyncio.sleep(0.02)

    async def nothing_due(self) -> None:
        await self.until(NOTHING_LEFT + " WHERE next_attempt_at <= now()")

    async def backends(self) -> list[asyncpg.Record]:
        query = (
            "SELECT pid, state FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE '%identity/0'"
        )
        return await self.conn.fetch(query)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with simulate.serve(Network(MemoryFrames())) as running:
        yield running


@pytest.fixture
async def db(database: str) -> AsyncIterator[Tables]:
    conn = await asyncpg.connect(database)
    yield Tables(conn)
    await conn.close()


def settings_for(database: str, server: Server, resolver: str | None = None) -> Settings:
    return Settings(
        database_url=database,
        plc_url=server.url,
        identity=IdentitySettings(handle_resolver=resolver or server.url),
        network=NetworkSettings(allow_private=True),
    )


@pytest.fixture
def settings(database: str, server: Server) -> Settings:
    return settings_for(database, server)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[IdentityRole]:
    """The role at work; it must stop by itself, whatever it does."""
    role, stop = IdentityRole("identity/0", settings), asyncio.Event()
    task = asyncio.create_task(role.run(stop))
    try:
        yield role
    finally:
        stop.set()
        await asyncio.wait_for(task, ROLE_STOP_SECONDS)


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def in_flight(role: IdentityRole, count: int = 1) -> None:
    await wait_for(lambda: role.report()["in_flight"] == count)


def counters(role: IdentityRole) -> Counters:
    found = role.report()["counters"]
    assert isinstance(found, dict)
    return Counters(**found)


async def counted(role: IdentityRole, **expected: int) -> None:
    """Wait for these counts: a row may be seen before the role itself hears of its commit."""
    await wait_for(lambda: counters(role) == Counters(**expected))


HELD = 3600.0
"""A delay of answers, for as long as a test lets it stand."""


@pytest.fixture
def more(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Only what is due at the start is looked up, until this is set."""
    event = asyncio.Event()

    async def until_more(stop: asyncio.Event, seconds: float) -> None:
        while not (event.is_set() or stop.is_set()):
            await pause(stop, 0.01)
        await pause(stop, seconds)

    monkeypatch.setattr(identity, "pause", until_more)
    return event


async def test_a_due_identity_gets_its_handle_and_the_time_of_the_event(
    db: Tables, server: Server, settings: Settings
) -> None:
    register(server, "alice", "Alice.Test")
    await db.add_actor("alice")
    await db.add_due("alice")
    async with running(settings) as role:
        await db.nothing_due()
        assert role.report()["state"] == "running"
        await counted(role, resolved=1)
    assert await db.actor("alice") == ("alice.test", T1)
    assert await db.due("alice") is None


async def test_what_backfillers_remember_of_it_is_forgotten(
    db: Tables, server: Server, settings: Settings, redis_url: str
) -> None:
    register(server, "alice", "alice.test")
    await db.add_due("alice")
    with redis.Redis.from_url(redis_url) as client:
        for name in ("alice", "bob"):
            client.set(f"did:key:{did(name)}", "did:key:zOld")
            client.set(f"did:pds:{did(name)}", "https://old.test")
        async with running(msgspec.structs.replace(settings, redis_url=redis_url)):
            await db.nothing_due()
        assert sorted(client.keys("did:*")) == sorted(
            f"did:{what}:{did('bob')}".encode() for what in ("key", "pds")
        )


async def test_a_missing_actor_row_is_made(db: Tables, server: Server, settings: Settings) -> None:
    register(server, "alice", "alice.test")
    await db.add_due("alice")
    async with running(settings):
        await db.nothing_due()
    assert await db.actor("alice") == ("alice.test", T1)


async def test_other_columns_of_the_actor_stay(
    db: Tables, server: Server, settings: Settings
) -> None:
    register(server, "alice", "alice.test")
    await db.add_actor("alice")
    await db.conn.execute("UPDATE actor SET \"upstreamStatus\" = 'x', \"takedownRef\" = 'y'")
    await db.add_due("alice")
    async with running(settings):
        await db.nothing_due()
    row = await db.conn.fetchrow('SELECT handle, "upstreamStatus", "takedownRef" FROM actor')
    assert tuple(row or ()) == ("alice.test", "x", "y")


async def test_a_handle_moves_from_its_former_holder(
    db: Tables, server: Server, settings: Settings
) -> None:
    register(server, "alice", "shared.test")
    await db.add_actor("alice", "old.test")
    await db.add_actor("bob", "shared.test")
    await db.add_due("alice")
    async with running(settings):
        await db.nothing_due()
    assert await db.actor("alice") == ("shared.test", T1)
    assert await db.actor("bob") == (None, EARLIER)


async def test_many_pairs_that_swap_handles_all_end_right(
    db: Tables, server: Server, settings: Settings
) -> None:
    names = [(f"{a}{n}", f"{b}{n}") for n in range(40) for a, b in (("a", "b"), ("b", "a"))]
    for name, other in names:
        register(server, name, f"{other}.test")
        await db.add_actor(name, f"{name}.test")
        await db.add_due(name)
    async with running(settings) as role:
        await db.nothing_due()
        await counted(role, resolved=len(names))
    # The second of a pair takes its handle from the first, which has its own new one by then or
    # gets it afterwards: nobody ends without.
    for name, other in names:
        assert await db.actor(name) == (f"{other}.test", T1)


async def test_a_handle_that_does_not_point_back_is_a_success_without_handle(
    db: Tables, server: Server, settings: Settings
) -> None:
    register(server, "alice", "alice.test", resolves=False)
    register(server, "carol", "bob.test", resolves=False)
    server.network.handles["bob.test"] = did("bob")
    await db.add_actor("alice", "alice.test")
    for name in ("alice", "carol"):
        await db.add_due(name)
    async with running(settings) as role:
        await db.until(NOTHING_LEFT)
        await counted(role, resolved=2, without_handle=2)
    assert await db.actor("alice") == (None, T1)
    assert await db.actor("carol") == (None, T1)


@pytest.mark.parametrize("lacking", ["document", "verificationMethod", "alsoKnownAs", "service"])
async def test_without_a_usable_document_the_actor_stays_and_the_note_waits(
    db: Tables, server: Server, settings: Settings, lacking: str
) -> None:
    if lacking != "document":
        register(server, "alice", "alice.test")
        server.network.documents[did("alice")][lacking] = []
    await db.add_actor("alice", "old.test")
    await db.add_due("alice")
    async with running(settings):
        await db.nothing_due()
    assert await db.actor("alice") == ("old.test", EARLIER)
    note = await db.due("alice")
    assert (note["attempts"], bool(note["last_error"])) == (1, True)
    assert 5 < note["wait"] <= rules.RETRY_SECONDS[0]


async def test_waits_grow_with_every_failure(
    db: Tables, server: Server, settings: Settings
) -> None:
    await db.add_due("alice")
    async with running(settings):
        for attempts, wait in enumerate(rules.RETRY_SECONDS, 1):
            await db.until("SELECT attempts = $1 FROM headrace.identity_due", attempts)
            note = await db.due("alice")
            assert wait * (1 - rules.RETRY_JITTER) - 5 < note["wait"] <= wait
            await db.conn.execute(TRY_NOW)


async def test_a_directory_that_fails_changes_nothing(
    db: Tables, server: Server, settings: Settings
) -> None:
    register(server, "alice", "alice.test")
    server.identity_status = 503
    await db.add_actor("alice", "old.test")
    await db.add_due("alice")
    async with running(settings):
        await db.nothing_due()
        assert "503" in (await db.due("alice"))["last_error"]
        assert await db.actor("alice") == ("old.test", EARLIER)
        server.identity_status = 200
        await db.conn.execute(TRY_NOW)
        await db.until(NOTHING_LEFT)
    assert await db.actor("alice") == ("alice.test", T1)


async def test_a_handle_whose_servers_fail_is_kept_for_some_tries(
    database: str, db: Tables, server: Server
) -> None:
    register(server, "alice", "alice.test")
    await db.add_actor("alice", "alice.test")
    await db.add_due("alice")
    async with running(settings_for(database, server, resolver="http://127.0.0.1:1")):
        for attempts in range(1, rules.HANDLE_TRIES):
            await db.until("SELECT attempts = $1 FROM headrace.identity_due", attempts)
            assert await db.actor("alice") == ("alice.test", EARLIER)
            await db.conn.execute(TRY_NOW)
        await db.until(NOTHING_LEFT)
    assert await db.actor("alice") == (None, T1)


@pytest.mark.parametrize("seq", [2, 1], ids=["same relay", "equal seq of another relay"])
async def test_a_newer_event_during_the_look_up_stays_due(
    db: Tables, server: Server, settings: Settings, more: asyncio.Event, seq: int
) -> None:
    register(server, "alice", "alice.test")
    server.identity_delay = HELD
    await db.add_due("alice")
    async with running(settings) as role:
        await in_flight(role)
        await db.ask_again("alice", seq)
        server.identity_delay = 0.0
        await counted(role, resolved=1, replaced=1)
        assert await db.actor("alice") == ("alice.test", T1)
        assert (await db.due("alice"))["seq"] == seq
        more.set()
        await db.until(NOTHING_LEFT)
        await counted(role, resolved=2, replaced=1)
    assert await db.actor("alice") == ("alice.test", T2)


async def test_a_failure_does_not_put_a_newer_event_off(
    db: Tables, server: Server, settings: Settings, more: asyncio.Event
) -> None:
    register(server, "alice", "alice.test")
    server.network.documents[did("alice")]["service"] = []
    server.identity_delay = HELD
    await db.add_due("alice")
    async with running(settings) as role:
        await in_flight(role)
        await db.ask_again("alice")
        server.identity_delay = 0.0
        await wait_for(lambda: counters(role).failed == 1)
        await in_flight(role, 0)
        register(server, "alice", "alice.test")
        more.set()
        await db.until(NOTHING_LEFT)
    assert await db.actor("alice") == ("alice.test", T2)


async def test_an_account_deleted_during_the_look_up_stays_deleted(
    db: Tables, server: Server, settings: Settings
) -> None:
    register(server, "alice", "alice.test")
    server.identity_delay = HELD
    await db.add_actor("alice")
    await db.add_due("alice")
    async with running(settings) as role:
        await in_flight(role)
        await db.conn.execute("DELETE FROM actor; DELETE FROM headrace.identity_due")
        server.identity_delay = 0.0
        await in_flight(role, 0)
        await counted(role, resolved=1)
    assert await db.actor("alice") is None


async def test_no_transaction_is_open_while_the_network_is_asked(
    db: Tables, server: Server, settings: Settings
) -> None:
    server.identity_delay = HELD
    await db.add_due("alice")
    async with running(settings) as role:
        await in_flight(role)
        backends = await db.backends()
    assert len(backends) > 0
    assert "idle in transaction" not in {row["state"] for row in backends}


async def test_a_backlog_is_worked_off_oldest_first(
    db: Tables, server: Server, settings: Settings
) -> None:
    count = 300
    for number in range(count):
        register(server, f"u{number:03}", f"u{number}.test")
        await db.add_due(f"u{number:03}", age=float(count - number))
    server.identity_delay = 0.01
    async with running(settings):
        await db.until("SELECT count(*) BETWEEN 50 AND 200 FROM headrace.identity_due")
        left = await db.conn.fetchval("SELECT min(did) FROM headrace.identity_due")
        await db.until(NOTHING_LEFT)
    assert left > did("u050")
    assert await db.conn.fetchval("SELECT count(*) FROM actor WHERE handle IS NOT NULL") == count


async def test_lost_connections_are_made_again_and_nothing_is_lost(
    db: Tables, server: Server, settings: Settings
) -> None:
    count, cut = 100, 0
    for number in range(count):
        register(server, f"u{number}", f"u{number}.test")
        await db.add_due(f"u{number}")
    server.identity_delay = 0.1
    async with running(settings) as role:
        for _ in range(4):
            await wait_for(lambda: role.report()["in_flight"] != 0)
            for backend in await db.backends():
                cut += await db.conn.fetchval("SELECT pg_terminate_backend($1)", backend["pid"])
            await in_flight(role, 0)  # this session is over
        await db.until(NOTHING_LEFT)
    assert cut >= 4
    assert await db.conn.fetchval("SELECT count(*) FROM actor WHERE handle IS NOT NULL") == count


async def test_a_database_that_is_away_is_waited_for_and_a_stop_still_works(
    server: Server,
) -> None:
    away = settings_for("postgresql://nobody@127.0.0.1:1/nothing", server)
    async with running(away) as role:
        await wait_for(lambda: role.report()["state"] == "waiting")


async def test_a_stop_drops_look_ups_under_way_and_they_stay_due(
    db: Tables, server: Server, settings: Settings
) -> None:
    server.identity_delay = 60
    await db.add_due("alice")
    async with running(settings) as role:
        await in_flight(role)
    note = await db.due("alice")
    assert (note["attempts"], note["last_error"]) == (0, None)


async def test_a_stop_does_not_wait_for_a_locked_row(
    database: str, db: Tables, server: Server, settings: Settings
) -> None:
    register(server, "alice", "alice.test")
    await db.add_actor("alice")
    await db.add_due("alice")
    holder = await asyncpg.connect(database)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM actor FOR UPDATE")
            async with running(settings):
                await db.until(
                    "SELECT count(*) = 1 FROM pg_stat_activity "
                    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
    finally:
        await holder.close()
    assert await db.actor("alice") == (None, EARLIER)
