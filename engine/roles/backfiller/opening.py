"""What a backfiller works with, opened anew for each session."""

from __future__ import annotations

import contextlib
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import sql
from engine.adapters import http, postgres, resp
from engine.adapters.identity import DidResolver
from engine.adapters.imported import Imported
from engine.adapters.spool import Spool
from engine.core import streams
from engine.roles.backfiller import directory as directories
from engine.roles.backfiller.append import Appender, Marks
from engine.roles.backfiller.attempt import Attempts
from engine.roles.backfiller.ledger import Ledger, Retries
from engine.roles.backfiller.slices import Cut
from engine.roles.firehose import epoch as epochs

if TYPE_CHECKING:
    import asyncpg

    from engine.roles.backfiller.job import Counters
    from engine.settings import Settings

SPOOL_BYTES = 16 << 20
"""A larger repository goes to a file."""

CONNECT_SHARE = 2
"""Connections to hosts kept open, per repository fetched at a time."""


@dataclass(frozen=True)
class Opened:
    """Connections and what is made of them; closed with the stack that they were opened on."""

    attempts: Attempts
    appender: Appender
    commands: resp.RespConnection  # to Redis, shared
    epoch: epochs.Epoch


async def open_attempts(
    stack: AsyncExitStack,
    settings: Settings,
    name: str,
    counters: Counters,
    lookups: directories.Counters,
    lost: bytes | None = None,
) -> Opened:
    """Open everything that attempts need.

    Args:
        stack: closes it.
        settings: of the deployment; both URLs are set.
        name: of the process, unlike any other's.
        counters: go on from session to session, like the look-ups'.
        lookups: see there.
        lost: the mark of streams that are known to have lost entries.

    Raises:
        StoreError: Redis or Postgres is away, or the schema is another.
    """
    ours = settings.backfiller
    keys = streams.Keys(settings.redis_key_prefix)
    begins = await postgres.connect(settings, f"{name} begins")
    stack.callback(begins.terminate)
    ends = await postgres.connect(settings, f"{name} ends")
    stack.callback(ends.terminate)
    homes = await postgres.connect(settings, f"{name} homes")
    stack.callback(homes.terminate)
    commands, appending = await connection(stack, settings), await connection(stack, settings)
    epoch = await _epoch(settings, begins, commands, lost)
    marks = Marks(ours.firehose_stream_high_water_mark, ours.high_water_bytes)
    appender = Appender(appending, keys, epoch.mark, epoch.shard_count, marks)
    stack.push_async_callback(appender.close)
    fetcher = await stack.enter_async_context(
        http.open_fetcher(
            allow_private=settings.network.allow_private,
            connections=ours.concurrency * CONNECT_SHARE + 64,
            connections_per_host=ours.host_concurrency + 8,
        )
    )
    folder = Path(ours.spool_dir or Path(settings.data_dir) / "spool")
    spool = Spool(
        folder / re.sub(r"[^\w.-]", "_", name),
        body_bytes=SPOOL_BYTES,
        all_bytes=ours.memory_bytes,
    )
    stack.callback(spool.close)
    resolver = DidResolver.of(settings, fetcher)
    stack.callback(resolver.close)
    imported = Imported(
        homes, settings.database_state_schema, settings.identity.plc_max_age_seconds
    )
    retries = Retries(
        ours.max_retries,
        ours.retry_initial_backoff_ms / 1000,
        ours.retry_max_backoff_ms / 1000,
    )
    attempts = Attempts(
        fetcher=fetcher,
        spool=spool,
        directory=directories.Directory(commands, keys, resolver, lookups, imported),
        ledger=Ledger(begins, ends, settings.database_state_schema, retries, epoch.shard_count),
        appender=appender,
        settings=ours,
        counters=counters,
        queue_key=keys.queue,
        cut=Cut(settings.filter_collections, ours.notify),
    )
    return Opened(attempts, appender, commands, epoch)


async def connection(stack: AsyncExitStack, settings: Settings) -> resp.RespConnection:
    """One more connection to Redis."""
    opened = await resp.RespConnection.open(settings.redis_url or "")
    return stack.enter_context(contextlib.closing(opened))


async def _epoch(
    settings: Settings,
    conn: asyncpg.Connection[Any],
    redis: resp.RespConnection,
    lost: bytes | None,
) -> epochs.Epoch:
    """The streams to append to. Without an ingester it is us who make them."""
    statements = sql.load("firehose", state=settings.database_state_schema)
    keys = streams.Keys(settings.redis_key_prefix)
    return await epochs.ensure(epochs.Stores(conn, redis, keys, statements), lost=lost)
