"""A place that one process of a deployment may have at a time, held in Postgres.

Two ingesters on the same streams would both move the relays' cursors, two
identity roles would contend for handles, and a change of the number of shards must be
alone. Each holds an advisory lock of the deployment on a connection of its
own for as long as it works: whatever ends the process ends the connection, and
the place is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from engine import sql
from engine.adapters import postgres
from engine.errors import SettingsError, StoreError
from engine.settings import Settings

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""How long a newcomer waits: a predecessor that was killed is gone by then."""

_POLL_SECONDS = 0.25
_CHECK_SECONDS = 2.0


class PlaceTaken(SettingsError):
    """Another process of this deployment does the same job."""


@asynccontextmanager
async def held(
    settings: Settings, what: str, *, patience: float = PATIENCE_SECONDS
) -> AsyncIterator[None]:
    """Hold the place of ``what`` (a role's name) for the body.

    A lost connection is made again and the place taken again; if somebody else
    has it by then, the body is cancelled.

    Raises:
        PlaceTaken: another process holds it, or took it over.
        StoreError: Postgres failed before the body began.
    """
    conn = await _take(settings, what, patience)
    body = asyncio.current_task()
    assert body is not None
    taken: list[PlaceTaken] = []

    async def keep() -> None:
        nonlocal conn
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if not conn.is_closed():
                continue
            try:
                conn = await _take(settings, what, patience)
            except PlaceTaken as error:
                taken.append(error)
                body.cancel()
                return
            except StoreError as error:
                logger.warning("the place of %s is not held: %s", what, error)

    keeping = asyncio.create_task(keep())
    try:
        yield
    except asyncio.CancelledError:
        if taken:
            raise taken[0] from None
        raise
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await conn.close(timeout=1)


async def _take(settings: Settings, what: str, patience: float) -> asyncpg.Connection[Any]:
    """A connection that holds the place."""
    statements = sql.load("place", state=settings.database_state_schema)
    conn = await postgres.connect(settings, f"{what}@{socket.gethostname()}")
    try:
        async with postgres.translated_errors():
            waited = 0.0
            while not await conn.fetchval(statements["place_take"], what):
                if waited >= patience:
                    holder = await conn.fetchval(statements["place_holder"], what)
                    raise PlaceTaken(
                        f"another {what} of this deployment is at work ({holder or 'unknown'}): "
                        "stop it, or give this deployment its own DATABASE_STATE_SCHEMA and "
                        "REDIS_KEY_PREFIX"
                    )
                await asyncio.sleep(_POLL_SECONDS)
                waited += _POLL_SECONDS
    except BaseException:
        conn.terminate()
        raise
    return conn
