"""The stream of labels: who owns it, its epoch, and where each labeler is resumed.

One process of the deployment reads the labelers and writes the labels, so one stream is enough.
Its mark in Redis is of its own, ``label_live:epoch``: it is made anew without the shards' streams,
and they without it. Whoever takes it ends the former owner's backend and voids its token: a
frozen owner neither writes nor blocks.

A new epoch begins where Postgres ends: the cursors in Redis are dropped, and each labeler is
asked for what follows the seq that its position holds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from engine import errors, log
from engine.adapters import postgres, resp
from engine.core import streams
from engine.roles.firehose.epoch import Epoch, make_streams
from engine.roles.indexer import reader as readers
from engine.roles.indexer.position import Position

logger = logging.getLogger(__name__)

SHARD = 0
"""The stream's only shard."""


@dataclass
class Labeler:
    """One life of a labeler's seqs, as Postgres has it."""

    id: int
    host: str
    generation: int
    seq: int  # held
    outcomes: dict[str, int] = field(default_factory=dict)
    unverified: int = 0  # labels taken without a signature that was checked and good
    letters_left_out: int = 0  # dead letters that were not kept

    @property
    def name(self) -> str:
        """As entries name it."""
        return f"{self.host}/{self.generation}"


@dataclass
class Owned:
    """The stream, taken: how far it is committed, under which token, in which epoch."""

    token: int
    epoch: Epoch
    position: Position


async def claim(
    db: asyncpg.Connection[Any],
    redis: resp.RespConnection,
    keys: streams.LabelKeys,
    sql: dict[str, str],
) -> Owned:
    """Take the stream from whoever had it, and make it anew where it is not whole.

    Args:
        db: the connection that will write the labels.
        redis: any connection.
        keys: of the deployment.
        sql: of labels.sql.

    Raises:
        SettingsError: the Redis holds the stream of another deployment.
        StoreError: a store is away or full; nothing is lost.
    """
    async with postgres.translated_errors():
        await db.execute(sql["label_owner"])
        row = await db.fetchrow(sql["label_claim"])
    if row is None or row["deployment_id"] is None:
        raise errors.SchemaMismatch("no deployment in the database: run `headrace schema create`")
    deployment: str = row["deployment_id"]
    position = Position(SHARD, row["epoch"], row["entry_id"], row["entries"])
    reason = await _fault(redis, keys, deployment, position)
    if reason:
        epoch = await _make(db, redis, keys, sql, deployment)
        logger.info("stream of labels made anew %s", log.fields(reason=reason))
        position = Position(SHARD, epoch)
    mark = f"{deployment}:{position.epoch}".encode()
    return Owned(row["token"], Epoch(mark, 1), position)


async def _fault(
    redis: resp.RespConnection, keys: streams.LabelKeys, deployment: str, held: Position
) -> str:
    """Why the stream must be made anew; empty if it need not."""
    mark, facts, _ = await readers.inspect(redis, keys, streams.LABELS, [SHARD], [])
    if mark is None:
        return "Redis holds no labels of this deployment"
    owner, _, epoch = mark.decode(errors="replace").partition(":")
    if owner != deployment:
        raise errors.SettingsError(
            f"REDIS_URL leads to a Redis that holds the labels of another deployment ({owner!r}): "
            "give this one a REDIS_KEY_PREFIX of its own"
        )
    if not held.epoch:
        return "it lost entries" if held.entries else "it is new"
    if epoch != held.epoch:
        return "the stream in Redis is not the one that Postgres knows"
    return "it lost entries" if readers.torn_shards({SHARD: held}, facts, epoch) else ""


async def _make(
    db: asyncpg.Connection[Any],
    redis: resp.RespConnection,
    keys: streams.LabelKeys,
    sql: dict[str, str],
    deployment: str,
) -> str:
    """Make the stream of a new epoch, empty, and name the epoch in Postgres.

    Postgres last: a crash in between leaves two different epochs, a reason to make a third.
    """
    epoch, source = secrets.token_hex(8), streams.LABELS
    stream = keys.stream(source, SHARD)
    async with postgres.translated_errors():
        held = await positions(db, sql)
    gone = [stream, keys.events(source), keys.bytes(source)]
    for labeler in held.values():
        gone += [keys.cursor(source, labeler.host), keys.received(source, labeler.host)]
    # A full Redis refuses to make streams, but not to drop the lost ones.
    await redis.command("UNLINK", keys.epoch, *gone)
    commands = [
        resp.pack("SET", keys.epoch, f"{deployment}:{epoch}"),
        resp.pack("HSET", keys.events(source), SHARD, 0),
        resp.pack("HSET", keys.bytes(source), SHARD, 0),
    ]
    for labeler in held.values():
        received = keys.received(source, labeler.host)
        labels = sum(labeler.outcomes.values())
        commands.append(resp.pack("HSET", received, labeler.generation, labels))
    await make_streams(redis, commands, [stream])
    async with postgres.translated_errors(), db.transaction():
        await db.execute(sql["label_flushed"])
        await db.execute(sql["label_stream_new"], epoch)
    return epoch


class Register:
    """Where labelers are resumed; over a connection that chains share."""

    def __init__(
        self,
        db: asyncpg.Connection[Any],
        redis: resp.RespConnection,
        keys: streams.LabelKeys,
        sql: dict[str, str],
    ) -> None:
        self._db = db
        self._redis = redis
        self._keys = keys
        self._sql = sql
        self._lock = asyncio.Lock()

    async def begin(self, host: str, sources: Collection[str]) -> tuple[int, int]:
        """The generation of a labeler's seqs, and the cursor to ask for: 0 the first time.

        Its row is in Postgres, durably, before the first of its frames is in the stream. Where
        one of the sources came to the host after it was read, all it has is read again.

        Args:
            host: nothing is being appended of it.
            sources: DIDs whose labels are taken, as far as they are known.
        """
        async with self._lock, postgres.translated_errors():
            row = await self._db.fetchrow(self._sql["label_position_last"], host)
            if row is None:
                await self._add(host, 1, sources)
                generation, held = 1, 0
            else:
                generation, held = row["generation"], row["seq"]
            late = [src for src in sources if not await self._accepts(row, host, src)]
        reply = await self._redis.command("GET", self._keys.cursor(streams.LABELS, host))
        cursor = int(reply) if isinstance(reply, bytes) and reply.isdigit() else held
        if late and cursor:
            reason = f"another labeler: {', '.join(sorted(late))}"
            await self.next_generation(host, generation, reason, sources)
            return generation + 1, 0
        if row is not None and (late or row["sources"] is None):
            async with self._lock, postgres.translated_errors():
                await self._db.execute(
                    self._sql["label_position_sources"], host, generation, sorted(sources)
                )
        return generation, cursor

    async def accepts(self, host: str, src: str) -> bool:
        """Whether a source's labels were taken from what is read of a host from its beginning."""
        async with self._lock, postgres.translated_errors():
            row = await self._db.fetchrow(self._sql["label_position_last"], host)
            return await self._accepts(row, host, src)

    async def _accepts(self, row: asyncpg.Record | None, host: str, src: str) -> bool:
        if row is None or row["sources"] is None or src in row["sources"]:
            return True
        # A host of the settings finds its sources in what it sends.
        return bool(await self._db.fetchval(self._sql["label_source_hosts"], src, host))

    async def next_generation(
        self, host: str, generation: int, reason: str, sources: Collection[str]
    ) -> None:
        """The labeler counts anew, or all it has is wanted again: from 0, beside what is known.

        The old cursor goes first: in the new generation it would skip what was never read.
        """
        key = self._keys.cursor(streams.LABELS, host)
        await self._redis.command("DEL", key)
        async with self._lock, postgres.translated_errors():
            await self._add(host, generation + 1, sources)
        await self._redis.command("SET", key, 0)
        logger.warning(
            "reading everything that the labeler has again %s",
            log.fields(labeler=host, reason=reason, generation=generation + 1),
        )

    async def note_gap(self, host: str, generation: int, after: int, before: int) -> None:
        """Write down that the labeler no longer has the frames between two seqs."""
        async with self._lock, postgres.translated_errors():
            await self._db.execute(self._sql["label_gap_add"], host, generation, after, before)
        logger.error(
            "labels are missing: the labeler no longer has them %s",
            log.fields(labeler=host, after_seq=after, before_seq=before),
        )

    async def discovered(self, limit: int) -> list[str]:
        """DIDs that declare themselves labelers, the oldest first."""
        async with self._lock, postgres.translated_errors():
            rows = await self._db.fetch(self._sql["label_discovered"], limit)
        return [row["creator"] for row in rows]

    async def _add(self, host: str, generation: int, sources: Collection[str]) -> None:
        async with self._db.transaction():
            await self._db.execute(self._sql["label_flushed"])
            await self._db.execute(
                self._sql["label_position_add"], host, generation, sorted(sources)
            )


async def positions(db: asyncpg.Connection[Any], sql: dict[str, str]) -> dict[str, Labeler]:
    """What is held of every labeler, by ``host/generation``."""
    rows = await db.fetch(sql["label_positions"])
    found = (Labeler(**{**dict(row), "outcomes": json.loads(row["outcomes"])}) for row in rows)
    return {labeler.name: labeler for labeler in found}
