"""Postgres: connections as the engine needs them, binary COPY, errors in our words.

Driver errors are translated here, once (``translated_errors``); the driver's own
exception is always the cause. A DSN's password appears in no message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from engine import errors, failpoints
from engine.adapters import versions
from engine.core.backoff import Backoff
from engine.settings import Settings
from engine.sql import quoted

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
"""A server that does not finish the handshake in this time counts as away."""

CHUNK_BYTES = 256 * 1024
"""Size of a COPY message: small enough to notice backpressure, large enough to be cheap."""

_AWAY = re.compile(r"08|53|57P0[123]|25006")
"""SQLSTATEs of a server that is away, full, starting, stopping, or a standby for now."""

_UNUSABLE = re.compile(r"28|3D000|0A000")
"""SQLSTATEs that only the operator can mend: who we are, which database."""

_MISMATCH = re.compile(r"42P01|42703|42704|42883|42501|3F000|428C9")
"""SQLSTATEs of tables, columns, types or rights that are not as the engine needs them."""


class translated_errors:  # noqa: N801 - reads as the statement it is part of
    """Raise what the driver raises as an error of the engine; ``with`` and ``async with``.

    Deadlocks and serialization failures (SQLSTATE 40xxx) pass unchanged: whoever
    ran the transaction replays it. So do errors of our own use of the driver, except
    those of a connection that was lost: the driver, surprised inside a COPY, blames us.

    Args:
        connection: what the body works with, if it copies.

    Raises:
        StoreUnavailable: the server is away; retry. After a COMMIT the outcome is unknown.
        SchemaMismatch: a table, column or right is missing.
        SettingsError: the server does not know us or the database.
        StoreError: anything else that the server refused.
    """

    def __init__(self, connection: asyncpg.Connection[Any] | None = None) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Translate what came out of the body."""
        del kind, trace
        if error is not None:
            ours = _translate(error)
            if ours is None and self._connection is not None and self._connection.is_closed():
                ours = _of_lost_connection(error)
            if ours is not None:
                raise ours from error

    async def __aenter__(self) -> None:
        """Nothing to prepare."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Translate what came out of the body."""
        self.__exit__(kind, error, trace)


def _translate(error: BaseException) -> errors.HeadraceError | None:
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        text = f"Postgres: {error} ({state})"
        if state.startswith("40"):
            return None
        if _AWAY.match(state):
            return errors.StoreUnavailable(text)
        if _UNUSABLE.match(state):
            return errors.SettingsError(f"{text}: check DATABASE_URL")
        if _MISMATCH.match(state):
            return errors.SchemaMismatch(f"{text}: see `headrace schema check`")
        return errors.StoreError(text)
    if isinstance(error, asyncpg.InterfaceError):
        if isinstance(error, ValueError):  # ClientConfigurationError: the DSN
            return errors.SettingsError(f"DATABASE_URL: {error}")
        # Every other InterfaceError is a mistake of ours and must stay one.
        gone = "closed" in str(error) or "closing" in str(error)
        return errors.StoreUnavailable(f"Postgres: {error}") if gone else None
    if isinstance(error, asyncpg.InternalClientError) and "cannot switch to" in str(error):
        # The server's last words came while nobody asked, and its end has not come yet: the
        # driver cannot use this connection any more and does not say so in better words.
        return errors.StoreUnavailable("Postgres: the connection was lost")
    if isinstance(error, OSError):  # TimeoutError and every ConnectionError with it
        return errors.StoreUnavailable(f"Postgres: {str(error) or type(error).__name__}")
    return None


def _of_lost_connection(error: BaseException) -> errors.StoreUnavailable | None:
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return errors.StoreUnavailable("Postgres: the connection was lost")
    return None


def array_literal(texts: Iterable[str | None]) -> str:
    """An array of text as Postgres reads it: ``($1::text)::text[]`` in a statement."""
    return "{" + ",".join(map(_element, texts)) + "}"


def _element(text: str | None) -> str:
    if text is None:
        return "NULL"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def place(dsn: str) -> str:
    """Where a DSN leads, for messages: host, port and database, never the password."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    host = parts.netloc.rpartition("@")[2] or ",".join(query.get("host", [])) or "localhost"
    return f"{unquote(host)}/{unquote(parts.path.lstrip('/'))}".rstrip("/")


def _session_settings(settings: Settings, name: str) -> dict[str, str]:
    return {
        "application_name": f"headrace {name}"[:63],
        # pg_trgm and its operators live in public, wherever the tables are.
        "search_path": f"{quoted(settings.database_schema)}, public",
        "default_transaction_isolation": "read committed",
        # Positions commit with their rows, so a crash loses both; trimming waits for the flush.
        "synchronous_commit": "off",
        # Compiling a statement costs more than any of ours takes.
        "jit": "off",
        # Ours go through an index by keys they are given. On a table that grew since it was last
        # analysed (or since a plan was cached) the planner would still compare each row with each
        # key: measured, 25 ms become a second.
        "enable_seqscan": "off",
    }


async def connect(settings: Settings, name: str) -> asyncpg.Connection[Any]:
    """One connection for the process ``name``; the caller closes it.

    Its search path is the data plane's schema, then public. Commits are atomic
    and ordered but reach the disk up to a second later.

    Raises:
        StoreUnavailable: the server is away; see ``wait_for_postgres``.
        SettingsError: no DATABASE_URL, or one that cannot work, or an unsupported version.
    """
    async with translated_errors():
        connection = await asyncpg.connect(
            _dsn(settings),
            timeout=CONNECT_SECONDS,
            server_settings=_session_settings(settings, name),
        )
    try:
        versions.check_postgres(connection.get_server_version().major)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def create_pool(settings: Settings, name: str, *, size: int) -> asyncpg.Pool[Any]:
    """A pool of up to ``size`` such connections, opened as they are needed.

    Raises:
        SettingsError: as ``connect``; an absent server shows at the first use.
    """
    async with translated_errors():
        return await asyncpg.create_pool(
            _dsn(settings),
            min_size=0,
            max_size=size,
            timeout=CONNECT_SECONDS,
            server_settings=_session_settings(settings, name),
        )


async def wait_for_postgres(
    settings: Settings, name: str, stop: asyncio.Event
) -> asyncpg.Connection[Any] | None:
    """Connect, however long the server takes to come; None if ``stop`` comes first.

    Raises:
        SettingsError: as ``connect``; waiting would not help.
    """
    delays = Backoff(base_seconds=0.2, cap_seconds=5.0)
    while not stop.is_set():
        try:
            return await connect(settings, name)
        except errors.StoreUnavailable as away:
            delay = delays.next(random.random())  # noqa: S311 - jitter
            logger.warning(
                "Postgres is not reachable at %s (%s); trying again in %.1f s",
                place(_dsn(settings)),
                away.__cause__ or away,
                delay,
            )
        try:
            await asyncio.wait_for(stop.wait(), delay)
        except TimeoutError:
            continue
    return None


Borrowable: TypeAlias = "asyncio.Queue[asyncpg.Connection[Any]]"
"""Idle connections that several tasks share."""


@contextlib.asynccontextmanager
async def borrowed(idle: Borrowable) -> AsyncIterator[asyncpg.Connection[Any]]:
    """One of them, waited for; it goes back whatever happens."""
    conn = await idle.get()
    try:
        yield conn
    finally:
        idle.put_nowait(conn)


def storable(text: str) -> str:
    """What Postgres takes as text; a stranger's server may be quoted in it."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:500]


async def copy_in(
    connection: asyncpg.Connection[Any],
    schema: str,
    table: str,
    columns: Sequence[str],
    payload: bytes,
) -> int:
    """Write a complete PGCOPY binary payload into a table; rows written.

    Part of the caller's transaction, durable with it. The payload is not copied
    in Python. Driver errors pass through: a refused row's line is in the error's
    ``context``.

    Raises:
        StoreUnavailable: the connection was lost.
    """
    copying = asyncio.ensure_future(
        connection.copy_to_table(
            table,
            schema_name=schema,
            columns=list(columns),
            source=_chunks(payload),  # type: ignore[arg-type]  # any buffer will do
            format="binary",
        )
    )
    lost = False

    def on_lost(_: object) -> None:
        nonlocal lost
        lost = True
        copying.cancel()

    # The driver waits for room in the socket's buffer even when the socket is gone.
    connection.add_termination_listener(on_lost)
    try:
        done: str = await copying
    except asyncio.CancelledError as error:
        if lost:
            raise errors.StoreUnavailable("Postgres: the connection was lost") from error
        raise
    except asyncpg.InternalClientError as error:
        # The server's last words came before the driver's: it lost count of whose turn it is
        # ("cannot switch to state"), and nothing can be done over this connection any more.
        connection.terminate()
        raise errors.StoreUnavailable("Postgres: the connection was lost") from error
    finally:
        connection.remove_termination_listener(on_lost)
    return int(done.rpartition(" ")[2])


async def _chunks(payload: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(payload)
    for start in range(0, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]
        await failpoints.passing_sent("inside_copy")


def _dsn(settings: Settings) -> str:
    if not settings.database_url:
        raise errors.SettingsError("DATABASE_URL is not set")
    return settings.database_url
