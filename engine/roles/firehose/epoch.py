"""One life of the shard streams: made, recognised, and made anew where they were lost.

The mark in Redis is ``{deployment id}:{epoch}``, the epoch a random word that Postgres holds
too. All streams of an epoch are made, empty, in the MULTI that sets the mark, and are only
appended to if they exist; so a mark that is present says that the streams were whole when it was
set, and everything that can go wrong with Redis afterwards shows as a mark that is absent or
another one, as a stream that is gone, or as a torn stream that its owner reports by emptying the
epoch in Postgres.

A new epoch begins where Postgres ends: each relay's cursor is set to the lowest seq that all
shards have committed, and `received` to the ops that Postgres accounts for (ARCHITECTURE.md,
laws 1 to 4). Only this module makes epochs, under a lock on the deployment's row. A crash between
its two commits leaves two different epochs, which is a reason to make a third.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import Any

import asyncpg

from engine import log
from engine.adapters import postgres, resp
from engine.core import streams
from engine.errors import SchemaMismatch, SettingsError, StoreError, StoreUnavailable

logger = logging.getLogger(__name__)

MAX_SEQ = (1 << 63) - 1


@dataclass(frozen=True)
class Epoch:
    """The epoch both stores agree on."""

    mark: bytes  # value of the epoch key
    shard_count: int


@dataclass(frozen=True)
class Stores:
    """The connections and names that the functions here work with; owned by the caller."""

    db: asyncpg.Connection[Any]
    redis: resp.RespConnection
    keys: streams.Keys
    sql: dict[str, str]  # of firehose.sql
    source: str = streams.LIVE


async def ensure(stores: Stores, *, lost: bytes | None = None) -> Epoch:
    """Return the epoch of whole streams, making a new one where there is none.

    Args:
        stores: connections; no transaction is open.
        lost: a mark whose streams are known to have lost entries, though nothing shows it.

    Raises:
        SettingsError: the Redis holds the streams of another deployment.
        StoreUnavailable: a store is away or full; nothing is lost, try again.
    """
    async with postgres.translated_errors(), stores.db.transaction():
        return await ensure_locked(stores, lost)


async def ensure_locked(stores: Stores, lost: bytes | None) -> Epoch:
    """Like `ensure`, inside the caller's transaction, which must commit after it."""
    await stores.db.execute(stores.sql["flushed"])
    row = await stores.db.fetchrow(stores.sql["deployment_lock"])
    if row is None:
        raise SchemaMismatch("there is no deployment in the database: run `headrace schema create`")
    shard_count: int = row["shard_count"]
    reason = await _fault(stores, row, lost)
    mark = f"{row['deployment_id']}:{row['epoch']}".encode()
    if reason:
        mark = await _make(stores, row["deployment_id"], shard_count, reason)
    return Epoch(mark, shard_count)


async def _fault(stores: Stores, row: asyncpg.Record, lost: bytes | None) -> str:
    """Why the streams must be made anew; empty if they need not."""
    names = _stream_names(stores, row["shard_count"])
    commands = [resp.pack("GET", stores.keys.epoch), resp.pack("EXISTS", *names)]
    replies = await stores.redis.execute(commands, 2)
    mark, present = (stores.redis.checked(reply) for reply in replies)
    if mark is None:
        return "Redis holds no streams of this deployment"
    deployment, _, epoch = mark.decode(errors="replace").partition(":")
    if deployment != row["deployment_id"]:
        raise SettingsError(
            f"REDIS_URL leads to a Redis that holds the streams of another deployment "
            f"({deployment!r}): give this one a REDIS_KEY_PREFIX of its own"
        )
    if not row["epoch"]:
        return "an owner found a stream that lost entries"
    if epoch != row["epoch"]:
        return "the streams in Redis are not those that Postgres knows"
    if present != len(names):
        return f"{len(names) - present} of {len(names)} streams are gone"
    if mark == lost:
        return "an append failed"
    return ""


async def _make(stores: Stores, deployment_id: str, shard_count: int, reason: str) -> bytes:
    """Make the streams of a new epoch in Redis, then name it in the caller's transaction."""
    keys, source = stores.keys, stores.source
    mark = f"{deployment_id}:{secrets.token_hex(8)}".encode()
    names = _stream_names(stores, shard_count)
    counters = [each for of in streams.SOURCES for each in (keys.events(of), keys.bytes(of))]
    await stores.db.execute(stores.sql["patience"])
    await stores.db.execute(stores.sql["owners_stop"])
    rewinds = await stores.db.fetch(stores.sql["relay_rewinds"], source, shard_count)
    tallies = await stores.db.fetch(stores.sql["relay_tallies"], source)
    zeros = [part for shard in range(shard_count) for part in (shard, 0)]
    commands = [
        resp.pack("UNLINK", *names, *counters),
        resp.pack("SET", keys.epoch, mark),
        *(resp.pack("HSET", name, *zeros) for name in counters),
    ]
    for row in rewinds:
        commands.append(resp.pack("SET", keys.cursor(source, row["host"]), row["seq"]))
        commands.append(resp.pack("UNLINK", keys.received(source, row["host"])))
    for row in tallies:
        host, _, generation = row["relay"].rpartition("/")
        commands.append(resp.pack("HSET", keys.received(source, host), generation, row["ops"]))
    # A full Redis refuses to make streams, but not to drop the lost ones.
    await stores.redis.command("UNLINK", keys.epoch, *names)
    await make_streams(stores.redis, commands, names)
    await stores.db.execute(stores.sql["deployment_epoch_set"], mark.decode().partition(":")[2])
    cursors = {row["host"]: row["seq"] for row in rewinds}
    logger.info("streams made anew %s", log.fields(reason=reason, cursors=cursors))
    return mark


async def make_streams(redis: resp.RespConnection, commands: list[bytes], names: list[str]) -> None:
    """Make empty streams, in one MULTI after the other commands.

    Raises:
        StoreUnavailable: Redis is full, or away.
        StoreError: Redis refuses something.
    """
    asked = [resp.pack("MULTI"), *commands]
    for name in names:
        # Only a group can make an empty stream; the group itself is not wanted.
        asked.append(resp.pack("XGROUP", "CREATE", name, "headrace", "$", "MKSTREAM"))
        asked.append(resp.pack("XGROUP", "DESTROY", name, "headrace"))
    asked.append(resp.pack("EXEC"))
    replies = await redis.execute(asked, len(asked))
    failed = [reply for reply in replies if isinstance(reply, resp.ReplyError)]
    failed += [result for result in replies[-1] or () if isinstance(result, resp.ReplyError)]
    if failed:
        full = any(error.code == "OOM" for error in failed)
        kind = StoreUnavailable if full else StoreError
        raise kind(f"Redis refuses to make the streams: {failed[0]}") from failed[0]


def _stream_names(stores: Stores, shard_count: int) -> list[str]:
    return [stores.keys.stream(of, shard) for of in streams.SOURCES for shard in range(shard_count)]
