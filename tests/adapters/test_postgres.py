"""The Postgres adapter: sessions as declared, COPY of ready bytes, errors in our words."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
import uvloop

from engine.adapters import embedded, postgres, versions
from engine.errors import SchemaMismatch, SettingsError, StoreError, StoreUnavailable
from engine.settings import Settings

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def pgcopy(rows: Sequence[tuple[bytes | None, ...]]) -> bytes:
    out = bytearray(SIGNATURE)
    for row in rows:
        out += struct.pack(">h", len(row))
        for value in row:
            out += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
    return bytes(out + struct.pack(">h", -1))


@pytest.fixture
def settings(database: str) -> Settings:
    return Settings(database_url=database)


@pytest.fixture
async def conn(settings: Settings) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await postgres.connect(settings, "test/0")
    yield connection
    await connection.close()


async def test_session_is_as_the_engine_needs_it(settings: Settings) -> None:
    elsewhere = Settings(database_url=settings.database_url, database_schema='odd "name"')
    connection = await postgres.connect(elsewhere, "indexer/3")
    try:
        shown = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("search_path", "synchronous_commit", "application_name")
        }
    finally:
        await connection.close()
    assert shown == {
        "search_path": '"odd ""name""", public',
        "synchronous_commit": "off",
        "application_name": "headrace indexer/3",
    }


async def test_copy_writes_every_row_of_a_large_payload(conn: asyncpg.Connection[Any]) -> None:
    rows = [(f"did:plc:{n:024d}".encode(), b"cid", None) for n in range(20_000)]
    payload = pgcopy(rows)
    assert len(payload) > 3 * postgres.CHUNK_BYTES
    columns = ("did", "commitCid", "repoRev")
    async with conn.transaction():
        assert await postgres.copy_in(conn, "public", "actor_sync", columns, payload) == 20_000
    assert await conn.fetchval("SELECT count(DISTINCT did) FROM actor_sync") == 20_000


@pytest.mark.parametrize("line", [1, 2, 700])
async def test_refused_copy_names_the_line(conn: asyncpg.Connection[Any], line: int) -> None:
    rows = [(f"did:{n}".encode(), b"cid", None) for n in range(1, 1001)]
    rows[line - 1] = (b"did:taken", b"cid", None)
    await conn.execute("INSERT INTO actor_sync VALUES ('did:taken', 'cid')")
    columns = ("did", "commitCid", "repoRev")
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await postgres.copy_in(conn, "public", "actor_sync", columns, pgcopy(rows))
    context: Any = refused.value
    assert context.context == f"COPY actor_sync, line {line}"
    assert await conn.fetchval("SELECT count(*) FROM actor_sync") == 1


async def test_connection_is_usable_after_a_refused_copy(conn: asyncpg.Connection[Any]) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await postgres.copy_in(conn, "public", "actor_sync", ("did",), b"no copy at all")
    assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("size", [100, 400_000], ids=["small", "more than the socket takes"])
def test_connection_lost_inside_a_copy_is_unavailable(
    settings: Settings, loop: str, size: int
) -> None:
    """The server waits for a lock and reads nothing; then its backend ends."""
    payload = pgcopy([(b"did:%d" % n, b"cid", None) for n in range(size)])

    async def main() -> None:
        conn = await postgres.connect(settings, "test/0")
        other = await postgres.connect(settings, "test/1")

        async def copy() -> None:
            async with postgres.translated_errors(conn), conn.transaction():
                columns = ("did", "commitCid", "repoRev")
                await postgres.copy_in(conn, "public", "actor_sync", columns, payload)

        async with other.transaction():
            await other.execute("LOCK TABLE actor_sync")
            copying = asyncio.create_task(copy())
            await asyncio.sleep(0.3)
            assert await other.fetchval("SELECT pg_terminate_backend($1)", conn.get_server_pid())
            done, _ = await asyncio.wait({copying}, timeout=5)
            assert done, "it still waits"
            with pytest.raises(StoreUnavailable):
                copying.result()
        await other.close()

    if loop == "uvloop":
        uvloop.run(main())
    else:
        asyncio.run(main())


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT * FROM no_such_table", SchemaMismatch),
        ("SELECT no_such_column FROM record", SchemaMismatch),
        ("SELECT 1 / 0", StoreError),
        ("SELECT pg_terminate_backend(pg_backend_pid())", StoreUnavailable),
    ],
)
async def test_driver_errors_are_translated_with_their_cause(
    conn: asyncpg.Connection[Any], statement: str, error: type[StoreError]
) -> None:
    with pytest.raises(StoreError) as raised:
        async with postgres.translated_errors():
            await conn.execute(statement)
    assert type(raised.value) is error
    assert isinstance(raised.value.__cause__, asyncpg.PostgresError)


async def test_lost_connection_is_unavailable_at_the_next_use_too(
    conn: asyncpg.Connection[Any],
) -> None:
    conn.terminate()
    with pytest.raises(StoreUnavailable):
        async with postgres.translated_errors():
            await conn.execute("SELECT 1")


async def test_last_words_on_a_connection_that_stays_open_are_its_end(settings: Settings) -> None:
    """A server that has much to do says that it ends a session, and closes it later."""
    direct = await postgres.connect(settings, "test/1")
    address: Any = direct._addr  # type: ignore[attr-defined]  # where it is, however it was named
    said, ended = asyncio.Event(), asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_path = isinstance(address, str)
        upstream, to_server = await (
            asyncio.open_unix_connection(address) if is_path else asyncio.open_connection(*address)
        )
        asking = asyncio.create_task(carry(reader, to_server))
        await carry(upstream, writer)
        said.set()  # but that it closed the connection is kept from the client
        await asyncio.wait([asking])
        for each in (to_server, writer):
            each.close()
            with contextlib.suppress(ConnectionError):
                await each.wait_closed()
        ended.set()

    server = await asyncio.start_server(between, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    name = str(settings.database_url).partition("?")[0].rpartition("/")[2]
    beside = Settings(database_url=f"postgresql://postgres@127.0.0.1:{port}/{name}")
    try:
        conn = await postgres.connect(beside, "test/0")
        assert await direct.fetchval("SELECT pg_terminate_backend($1)", conn.get_server_pid())
        await said.wait()
        await asyncio.sleep(0.05)
        assert not conn.is_closed()
        with pytest.raises(StoreUnavailable):
            async with postgres.translated_errors():
                await conn.fetchval("SELECT 1")
        conn.terminate()
        await ended.wait()
    finally:
        server.close()
        await direct.close()


async def test_deadlock_passes_unchanged(settings: Settings) -> None:
    one, two = [await postgres.connect(settings, f"test/{n}") for n in range(2)]
    lock = "UPDATE view_param SET value = value WHERE name = $1"
    names = ("whats_hot_interval", "whats_hot_like_threshold")
    both = asyncio.Barrier(2)

    async def work(connection: asyncpg.Connection[Any], first: str, second: str) -> None:
        async with postgres.translated_errors(), connection.transaction():
            await connection.execute(lock, first)
            await both.wait()
            await connection.execute(lock, second)

    try:
        outcomes = await asyncio.gather(
            work(one, *names), work(two, *reversed(names)), return_exceptions=True
        )
    finally:
        await one.close()
        await two.close()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "DeadlockDetectedError",
        "NoneType",
    ]


async def test_mistakes_of_ours_are_not_called_an_absent_server(
    conn: asyncpg.Connection[Any],
) -> None:
    with pytest.raises(asyncpg.InterfaceError):
        async with postgres.translated_errors():
            await conn.execute("SELECT $1::int", 1, 2)


async def test_unknown_database_is_the_operators_to_mend(settings: Settings) -> None:
    assert settings.database_url
    wrong = Settings(database_url=settings.database_url.replace("headrace_test", "no_such"))
    with pytest.raises(SettingsError, match="no_such"):
        await postgres.connect(wrong, "test/0")


async def test_pool_connections_have_the_same_session(settings: Settings) -> None:
    pool = await postgres.create_pool(settings, "identity", size=2)
    try:
        assert await pool.fetchval("SHOW search_path") == '"public", public'
        assert await pool.fetchval("SHOW application_name") == "headrace identity"
    finally:
        await pool.close()


async def test_waiting_ends_when_the_server_comes(
    own_postgres: embedded.Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(database_url=own_postgres.url.replace("postgres@", "postgres:hunter2@"))
    own_postgres.kill()
    stop = asyncio.Event()
    with caplog.at_level(logging.WARNING):
        waiting = asyncio.create_task(postgres.wait_for_postgres(settings, "test/0", stop))
        async with asyncio.timeout(30):
            while "Postgres is not reachable at" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not waiting.done()
        own_postgres.start()
        connection = await asyncio.wait_for(waiting, 30)
    assert connection is not None
    assert await connection.fetchval("SELECT count(*) FROM record") == 0
    await connection.close()
    assert "hunter2" not in caplog.text


async def test_waiting_ends_when_told_to_stop(tmp_path: Any) -> None:
    settings = Settings(database_url=f"postgresql:///x?host={tmp_path}&user=nobody")
    stop = asyncio.Event()
    waiting = asyncio.create_task(postgres.wait_for_postgres(settings, "test/0", stop))
    await asyncio.sleep(0.1)
    stop.set()
    assert await asyncio.wait_for(waiting, 5) is None


@pytest.mark.parametrize(
    ("dsn", "place"),
    [
        ("postgresql://me:secret@db.example:5433/bsky?sslmode=require", "db.example:5433/bsky"),
        ("postgres://me:s%40cret@/bsky?host=/run/pg", "/run/pg/bsky"),
        ("postgresql://", "localhost"),
    ],
)
def test_place_of_a_dsn_has_no_password(dsn: str, place: str) -> None:
    assert postgres.place(dsn) == place


@pytest.mark.parametrize("major", [14, 19])
def test_unsupported_postgres_is_refused(major: int) -> None:
    with pytest.raises(SettingsError, match=f"Postgres {major}; supported are 15 to 18"):
        versions.check_postgres(major)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"redis_version": "6.2.14"}, "Redis 6.2.14"),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.9"}, "Valkey 7.2.9"),
        ({"redis_version": "7.4.0", "cluster_enabled": 1}, "Cluster, which is not supported yet"),
        (
            {"redis_version": "7.2.4", "valkey_version": "8.1.0", "server_mode": "cluster"},
            "Cluster",
        ),
        ({}, "Redis unknown"),
        (
            {"redis_version": "7.4.0", "maxmemory_policy": "allkeys-lru"},
            "maxmemory-policy allkeys-lru.* noeviction",
        ),
        ({"redis_version": "8.0.0", "maxmemory_policy": "volatile-ttl"}, "volatile-ttl"),
    ],
)
def test_unsupported_redis_is_refused(info: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        versions.check_redis(info)


@pytest.mark.parametrize(
    ("info", "name"),
    [
        ({"redis_version": "7.0.15", "redis_mode": "standalone"}, "Redis 7.0.15"),
        ({"redis_version": "8.2.3", "maxmemory_policy": "noeviction"}, "Redis 8.2.3"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "Valkey 9.1.2"),
    ],
)
def test_supported_redis_is_named(info: dict[str, Any], name: str) -> None:
    assert versions.check_redis(info) == name
