"""Fixtures: real Postgres and Valkey, and the recorded networks beside the checkout.

``TEST_DATABASE_URL`` (a superuser's, any database) and ``TEST_REDIS_URL`` name
servers to use; without them both start from the wheels, once a session, and
end with it. ``CI=true`` turns a missing service or missing data into a failure.

=================  =============================================================
shared             Path of ``../shared``
database           DSN of a fresh database holding the data plane and our schema
empty_database     DSN of a fresh, empty database
database_factory   makes further databases: ``make(template)`` -> DSN
module_database    like ``database``, one for all tests of a file
redis_url          URL of an empty database on the session's Valkey
own_postgres       a migrated Postgres of this test's own, to kill and restart
own_valkey         a Valkey of this test's own, to flush, kill and restart
=================  =============================================================
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis

from engine.adapters import embedded
from engine.errors import SettingsError
from engine.ops import schema, schema_state

T = TypeVar("T")
IN_CI = os.environ.get("CI") == "true"
SHARED = Path(__file__).resolve().parents[2] / "shared"
REDIS_DATABASES = 64
SHARD_COUNT = 16


def skip_or_fail(reason: str) -> None:
    """Skip with a clear word; in CI fail, for there everything must be present."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from a fixture that is no coroutine, on a loop of its own thread."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        skip_or_fail("the recorded networks are not here: ../shared is absent")
    return SHARED


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A private directory with a path short enough for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="hr-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(short_dir: Path) -> Iterator[str]:
    """The session's Postgres: the database to connect to for making others."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    try:
        server = embedded.Postgres(short_dir, settings=embedded.Postgres.FAST_AND_LOSSY)
    except SettingsError as error:
        skip_or_fail(str(error))
    with server:
        yield server.url


async def migrate(url: str) -> None:
    """Put the data plane and our own schema into an empty database."""
    connection = await asyncpg.connect(url)
    try:
        await schema.create(connection, "public")
        await schema_state.ensure_state(connection, "headrace", SHARD_COUNT)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """Name of a database to clone: never connected to once it is made."""
    name = f"headrace_template_{os.getpid()}"
    run_async(_execute(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE template0'))
    run_async(migrate(with_database(postgres_url, name)))
    yield name
    run_async(_execute(postgres_url, f'DROP DATABASE "{name}"'))


@pytest.fixture(scope="session")
def session_redis_url(short_dir: Path) -> Iterator[str]:
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    try:
        server = embedded.Valkey(short_dir, persist=False, databases=REDIS_DATABASES)
    except SettingsError as error:
        skip_or_fail(str(error))
    with server:
        yield server.url


_numbers = itertools.count()


@contextmanager
def databases(postgres_url: str) -> Iterator[Callable[[str], str]]:
    """Make databases from a template's name, by their URL; they are dropped at the end."""
    made: list[str] = []

    def make(template: str) -> str:
        name = f"headrace_test_{os.getpid()}_{next(_numbers)}"
        run_async(_execute(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        made.append(name)
        return with_database(postgres_url, name)

    yield make
    drops = [f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)' for name in made]
    run_async(_execute(postgres_url, *drops))


@pytest.fixture
def database_factory(postgres_url: str) -> Iterator[Callable[[str], str]]:
    with databases(postgres_url) as make:
        yield make


@pytest.fixture(scope="module")
def module_database(postgres_url: str, template_database: str) -> Iterator[str]:
    with databases(postgres_url) as make:
        yield make(template_database)


@pytest.fixture
def empty_database(database_factory: Callable[[str], str]) -> str:
    return database_factory("template0")


@pytest.fixture
def database(database_factory: Callable[[str], str], template_database: str) -> str:
    return database_factory(template_database)


@pytest.fixture
def redis_url(session_redis_url: str) -> Iterator[str]:
    count = REDIS_DATABASES if "TEST_REDIS_URL" not in os.environ else 16
    number = next(_numbers) % count
    parts = urlsplit(session_redis_url)
    if parts.scheme == "unix":
        url = f"{session_redis_url}?db={number}"  # urlunsplit would drop slashes
    else:
        url = urlunsplit(parts._replace(path=f"/{number}"))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture
def own_valkey() -> Iterator[embedded.Valkey]:
    """Keeps nothing over a restart: what a Redis without its data looks like."""
    path = Path(tempfile.mkdtemp(prefix="hr-", dir="/tmp"))
    with embedded.Valkey(path, persist=False) as server:
        yield server
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_cluster() -> Iterator[Path]:
    """The files of a stopped server whose database ``postgres`` is migrated."""
    path = Path(tempfile.mkdtemp(prefix="hr-", dir="/tmp"))
    with embedded.Postgres(path, settings=embedded.Postgres.FAST_AND_LOSSY) as server:
        run_async(migrate(server.url))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def own_postgres(migrated_cluster: Path) -> Iterator[embedded.Postgres]:
    path = Path(tempfile.mkdtemp(prefix="hr-", dir="/tmp"))
    data = Path("postgres") / "data"
    shutil.copytree(migrated_cluster / data, path / data)
    with embedded.Postgres(path, settings=embedded.Postgres.FAST_AND_LOSSY) as server:
        yield server
    shutil.rmtree(path, ignore_errors=True)
