"""``headrace reshard N``: another number of shards, without losing or repeating anything.

A DID's shard depends on the number of shards, so the number may only change while
nothing is under way: the producers are stopped (we hold the ingester's place), the
indexers drain every stream to its end, and then the count, the shards and their positions
change in one transaction. Every new shard holds of each relay what all of
them hold together, which after draining is the relay's cursor. The ingester, started again,
makes the new streams; the indexers notice by their tokens and share the new shards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson

from engine import sql
from engine.adapters import place, postgres, resp
from engine.core import streams
from engine.errors import SchemaMismatch, StoreUnavailable
from engine.settings import Settings

logger = logging.getLogger(__name__)

PRODUCERS = ("firehose",)
"""Roles that append to shard streams."""

_POLL_SECONDS = 0.5

Relays = dict[str, dict[str, int]]


async def reshard(settings: Settings, shard_count: int, *, wait_seconds: float) -> int:
    """Change the number of shards; the number there was. Durable on return.

    Args:
        settings: of the deployment; both URLs are set.
        shard_count: the new number.
        wait_seconds: how long to wait for the indexers to drain the streams.

    Raises:
        PlaceTaken: a producer is at work; stop it first.
        StoreUnavailable: the streams were not drained in time; nothing was changed.
        SchemaMismatch: there is no deployment in the database.
    """
    async with place.held(settings, PRODUCERS[0], patience=0):
        conn = await postgres.connect(settings, "reshard")
        redis = await resp.RespConnection.open(settings.redis_url or "")
        try:
            return await _reshard(_Work(settings, conn, redis), shard_count, wait_seconds)
        finally:
            redis.close()
            await conn.close()


class _Work:
    """The connections of one change."""

    def __init__(
        self, settings: Settings, conn: asyncpg.Connection[Any], redis: resp.RespConnection
    ) -> None:
        self.conn = conn
        self.redis = redis
        self.keys = streams.Keys(settings.redis_key_prefix)
        self.sql = sql.load("reshard", state=settings.database_state_schema)

    async def undrained(self) -> list[str]:
        """Streams with entries beyond their position; those that are gone hold none."""
        return [name for source in streams.SOURCES for name in await self._undrained(source)]

    async def _undrained(self, source: str) -> list[str]:
        async with postgres.translated_errors():
            rows = await self.conn.fetch(self.sql["reshard_positions"], source)
        names = [self.keys.stream(source, row["shard"]) for row in rows]
        commands = [resp.pack("XREVRANGE", name, "+", "-", "COUNT", 1) for name in names]
        replies = await self.redis.execute(commands, len(commands))
        waiting = []
        for name, row, reply in zip(names, rows, replies, strict=True):
            newest = self.redis.checked(reply)
            if newest and streams.id_parts(newest[0][0].decode()) > streams.id_parts(
                row["entry_id"]
            ):
                waiting.append(name)
        return waiting

    async def cursors(self, hosts: Sequence[str]) -> dict[str, int]:
        """Seq up to which each relay's frames are in the streams."""
        if not hosts:
            return {}
        names = [self.keys.cursor(streams.LIVE, host) for host in hosts]
        replies = await self.redis.command("MGET", *names)
        return {host: int(seq) for host, seq in zip(hosts, replies, strict=True) if seq}


async def _reshard(work: _Work, shard_count: int, wait_seconds: float) -> int:
    deadline = time.monotonic() + wait_seconds
    while waiting := await work.undrained():
        if time.monotonic() >= deadline:
            raise StoreUnavailable(
                f"streams {waiting} still hold entries that are not indexed: keep the indexers "
                "running, stop the backfillers, and try again; nothing was changed"
            )
        logger.info("waiting for the indexers to drain %d of the streams", len(waiting))
        await asyncio.sleep(_POLL_SECONDS)
    async with postgres.translated_errors(), work.conn.transaction():
        await work.conn.execute("SET LOCAL synchronous_commit = on")
        deployment = await work.conn.fetchrow(work.sql["reshard_deployment"])
        if deployment is None:
            raise SchemaMismatch("there is no deployment in this database")
        locked = await work.conn.fetch(work.sql["reshard_lock"])
        rows = await work.conn.fetch(work.sql["reshard_positions"], streams.LIVE)
        held = [orjson.loads(row["relays"]) for row in rows]
        mark = await work.redis.command("GET", work.keys.epoch)
        ours = f"{deployment['deployment_id']}:{deployment['epoch']}".encode()
        hosts = sorted({key.rpartition("/")[0] for relays in held for key in relays})
        # Without whole streams the cursors say nothing, and the lowest held seqs are right.
        cursors = await work.cursors(hosts) if mark == ours else {}
        relays = await work.conn.fetch(work.sql["reshard_relays"])
        first = {f"{row['host']}/{row['generation']}": row["first_seq"] for row in relays}
        positions = spread(held, first, cursors, shard_count)
        fetched = await work.conn.fetch(work.sql["reshard_positions"], streams.BACKFILL)
        of_fetched = add_up([orjson.loads(row["relays"]) for row in fetched])
        for source in streams.SOURCES:
            await work.conn.execute(work.sql["reshard_clear"], source)
        await work.conn.execute(work.sql["reshard_forget"])
        token = max((row["token"] for row in locked), default=0) + 1
        await work.conn.execute(work.sql["reshard_shards"], shard_count, token)
        rest: list[Relays] = [{}] * (shard_count - 1)
        for source, of_source in (
            (streams.LIVE, positions),
            (streams.BACKFILL, [of_fetched, *rest]),
        ):
            await work.conn.execute(
                work.sql["reshard_insert"],
                source,
                list(range(shard_count)),
                [orjson.dumps(relays).decode() for relays in of_source],
            )
        dids = [row["did"] for row in await work.conn.fetch(work.sql["reshard_deletions"])]
        shards = [streams.shard_of(did, shard_count) for did in dids]
        await work.conn.execute(work.sql["reshard_move_deletions"], dids, shards)
        await work.conn.execute(work.sql["reshard_unsettled"])
        await work.conn.execute(work.sql["reshard_done"], shard_count)
    names = [work.keys.stream(source, row["shard"]) for source in streams.SOURCES for row in locked]
    await work.redis.command("UNLINK", work.keys.epoch, *names)
    return len(locked)


def spread(
    held: list[Relays], first_seqs: dict[str, int], cursors: dict[str, int], shard_count: int
) -> list[Relays]:
    """What each new shard holds: of every relay what all old ones hold, outcomes in the first.

    Args:
        held: of each old shard, as ``position.relays``.
        first_seqs: where each relay generation was begun; a shard that never saw it holds that.
        cursors: of relays whose frames up to it are all indexed, by host.
        shard_count: how many shards there will be.
    """
    keys = sorted({key for relays in held for key in relays})
    newest = {host: max(_generation(key) for key in keys if _host(key) == host) for host in cursors}
    whole: Relays = {}
    for key in keys:
        seq = min(
            relays[key]["seq"] if key in relays else first_seqs.get(key, 0) for relays in held
        )
        if newest.get(_host(key)) == _generation(key):
            seq = max(seq, cursors[_host(key)])
        whole[key] = {"seq": seq}
        for relays in held:
            for outcome, ops in relays.get(key, {}).items():
                if outcome != "seq":
                    whole[key][outcome] = whole[key].get(outcome, 0) + ops
    seqs: Relays = {key: {"seq": counts["seq"]} for key, counts in whole.items()}
    return [whole] + [seqs] * (shard_count - 1)


def add_up(held: list[Relays]) -> Relays:
    """Outcomes of what has no seqs, over all shards."""
    total: Relays = {}
    for relays in held:
        for key, counts in relays.items():
            sums = total.setdefault(key, {})
            for outcome, ops in counts.items():
                sums[outcome] = sums.get(outcome, 0) + ops
    return total


def _host(key: str) -> str:
    return key.rpartition("/")[0]


def _generation(key: str) -> int:
    return int(key.rpartition("/")[2])
