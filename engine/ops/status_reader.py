"""Reads the facts of ``ops.status`` from Redis and Postgres over connections it keeps."""

from __future__ import annotations

import asyncio
import re
import time

import asyncpg
import msgspec
import orjson
import redis.asyncio
import redis.exceptions
from redis.asyncio.client import Pipeline

from engine import sql
from engine.core import streams
from engine.core.streams import Keys, LabelKeys
from engine.ops import status as report
from engine.ops.backfill_status import Backfill
from engine.ops.label_status import LabelRows
from engine.ops.status import Status
from engine.ops.status_facts import (
    Gap,
    Position,
    PostgresFacts,
    RedisFacts,
    RelayRow,
    SourceFacts,
    waiting,
)
from engine.settings import Settings

TIMEOUT_SECONDS = 3.0
"""A store that does not answer for this long is reported as away."""

_GAPS_SHOWN = 20

_POSTGRES_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What the driver raises, over a connection that is just ending too."""


class StatusReader:
    """Collects the status; safe to call from several tasks, which share one reading.

    Settings must have both URLs. Close it when done.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect lazily: a store that is away is reported, not raised."""
        assert settings.redis_url
        assert settings.database_url
        self._settings = settings
        self._keys = Keys(settings.redis_key_prefix)
        self._label_keys = LabelKeys(settings.redis_key_prefix)
        self._hosts = [streams.canonical_host(host) for host in settings.ingester.relay_hosts]
        self._redis = redis.asyncio.Redis.from_url(
            settings.redis_url,
            socket_connect_timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
        )
        self._postgres: asyncpg.Connection | None = None
        self._statements = sql.load("status", state=settings.database_state_schema)
        self._lock = asyncio.Lock()
        self._hosts_known: set[str] = set(self._hosts)
        self._labelers_known: set[str] = set()

    async def collect(self) -> Status:
        """One reading. Never raises for a store that is away."""
        async with self._lock:
            known = (set(self._hosts_known), set(self._labelers_known))
            found = await self._collect()
            # Cursors are read first, so a host met only in Postgres needs a second reading.
            is_new = known != (self._hosts_known, self._labelers_known)
            return await self._collect() if is_new else found

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()
        self._drop_postgres()

    async def _collect(self) -> Status:
        errors: list[str] = []
        told: RedisFacts | None = None
        known: PostgresFacts | None = None
        try:  # first: the cursors
            told = await self._read_cursors()
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            errors.append(f"Redis: {_words(error)}")
        try:  # then: the positions
            async with asyncio.timeout(TIMEOUT_SECONDS):
                known = await self._read_postgres()
        except (*_POSTGRES_AWAY, OSError, TimeoutError) as error:
            self._drop_postgres()
            errors.append(f"Postgres: {_words(error)}")
        if told is not None:
            try:  # last: what the streams hold
                await self._read_streams(told, known)
            except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
                told = None
                errors.append(f"Redis: {_words(error)}")
        status = report.assemble(told, known, self._hosts)
        status.errors = errors
        return status

    async def _read_cursors(self) -> RedisFacts:
        told = RedisFacts()
        for source, known, cursors in (
            (streams.LIVE, self._hosts_known, told.cursors),
            (streams.LABELS, self._labelers_known, told.labels.cursors),
        ):
            if hosts := sorted(known):
                values = await self._redis.mget([self._keys.cursor(source, host) for host in hosts])
                for host, value in zip(hosts, values, strict=True):
                    cursors[host] = int(value) if value is not None else None
        return told

    async def _read_streams(self, told: RedisFacts, known: PostgresFacts | None) -> None:
        keys = self._keys
        sources = dict.fromkeys((streams.LIVE, *(known.positions if known else ())))
        shards = range(known.shard_count if known else self._settings.shard_count)
        pipe = self._pipeline()
        pipe.time()
        pipe.get(keys.epoch)
        for source in sources:
            pipe.hgetall(keys.events(source))
            pipe.hgetall(keys.bytes(source))
        pipe.xlen(keys.queue)
        replies = await pipe.execute(raise_on_error=True)
        clock, epoch, *counts, told.queue = replies
        told.now = clock[0] + clock[1] / 1e6
        told.epoch = (epoch or b"").decode().rpartition(":")[2]
        for place, source in enumerate(sources):
            events, sizes = counts[2 * place : 2 * place + 2]
            told.sources[source] = SourceFacts(
                events={int(shard): int(count) for shard, count in events.items()},
                bytes={int(shard): int(count) for shard, count in sizes.items()},
            )
        pipe = self._pipeline()
        for source in sources:
            for shard in shards:
                pipe.xinfo_stream(keys.stream(source, shard))
        pipe.xpending(keys.queue, streams.QUEUE_GROUP)
        *facts, pending = await pipe.execute(raise_on_error=False)
        places = [(told.sources[source], shard) for source in sources for shard in shards]
        for (said, shard), reply in zip(places, facts, strict=True):
            if isinstance(reply, redis.exceptions.ResponseError):  # no such stream
                said.streams[shard] = None
            elif isinstance(reply, Exception):
                raise reply
            else:
                said.streams[shard] = (reply["length"], _text(reply["last-generated-id"]))
                said.added[shard] = reply["entries-added"]
        if not isinstance(pending, Exception):  # no group, while nobody fetches
            told.queue_taken = pending["pending"]
        await self._read_oldest(told, known)
        await self._read_labels(told)
        await self._read_processes(told)

    async def _read_oldest(self, told: RedisFacts, known: PostgresFacts | None) -> None:
        """Ids of the oldest entries that are not committed, where there are such."""
        late: list[tuple[SourceFacts, int]] = []
        pipe = self._pipeline()
        for source, said in told.sources.items():
            held = known.positions.get(source, []) if known else []
            positions = {position.shard: position for position in held}
            for shard, facts in said.streams.items():
                position = positions.get(shard)
                if facts is None or not waiting(position, facts[1], told.epoch):
                    continue
                same = position is not None and position.epoch == told.epoch
                start = f"({position.entry_id}" if same and position else "-"
                late.append((said, shard))
                pipe.xrange(self._keys.stream(source, shard), start, "+", count=1)
        for (said, shard), reply in zip(late, await pipe.execute(), strict=True):
            if reply:
                said.oldest_waiting[shard] = _text(reply[0][0])

    async def _read_labels(self, told: RedisFacts) -> None:
        keys, said = self._label_keys, told.labels
        pipe = self._pipeline()
        pipe.get(keys.epoch)
        pipe.hvals(keys.events(streams.LABELS))
        pipe.hvals(keys.bytes(streams.LABELS))
        pipe.xinfo_stream(keys.stream(streams.LABELS, 0))
        mark, events, sizes, facts = await pipe.execute(raise_on_error=False)
        for reply in (mark, events, sizes):
            if isinstance(reply, Exception):
                raise reply
        said.epoch = (mark or b"").decode().rpartition(":")[2]
        said.events, said.bytes = sum(map(int, events)), sum(map(int, sizes))
        if not isinstance(facts, redis.exceptions.ResponseError):  # no such stream
            if isinstance(facts, Exception):
                raise facts
            said.last_id = _text(facts["last-generated-id"])

    async def _read_processes(self, told: RedisFacts) -> None:
        prefix = self._keys.process("")
        # A SCAN, but of a database that holds a few keys a shard and nothing else.
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
        names = [_text(name) async for name in self._redis.scan_iter(match=pattern, count=1000)]
        if not names:
            return
        now = time.time()
        found = zip(names, await self._redis.mget(names), strict=True)
        for name, text in sorted(found):
            if text is None:  # expired between the two questions
                continue
            said = orjson.loads(text)
            said["age"] = round(max(0.0, now - said["at"]), 3)
            told.processes[name.removeprefix(prefix)] = said

    def _pipeline(self) -> Pipeline:
        return self._redis.pipeline(transaction=False)

    async def _read_postgres(self) -> PostgresFacts:
        if self._postgres is None or self._postgres.is_closed():
            self._postgres = await asyncpg.connect(
                self._settings.database_url,
                timeout=TIMEOUT_SECONDS,
                server_settings={"application_name": "headrace status"},
            )
        row = await self._postgres.fetchrow(self._statements["status"])
        assert row is not None
        known = PostgresFacts(
            epoch=row["epoch"] or "",
            shard_count=row["shard_count"] or 0,
            relays=[RelayRow(*item) for item in orjson.loads(row["relays"])],
            positions={
                source: [Position(*item) for item in items]
                for source, items in orjson.loads(row["positions"]).items()
            },
            owners=dict(orjson.loads(row["owners"])),
            dead_letters=orjson.loads(row["dead_letters"]),
            resync=row["resync"],
        )
        known.backfill = _backfill(row)
        known.identity.due, known.identity.later = row["due"], row["later"]
        known.unsettled = row["unsettled"]
        known.labels = msgspec.json.decode(row["labels"], type=LabelRows)
        known.deletions.due, known.deletions.later = row["deletions_due"], row["deletions_later"]
        for host, *gap in orjson.loads(row["gaps"])[:_GAPS_SHOWN]:
            known.gaps.setdefault(host, []).append(Gap(*gap))
        self._hosts_known |= {relay.host for relay in known.relays}
        self._labelers_known |= {row.host for row in known.labels.positions}
        return known

    def _drop_postgres(self) -> None:
        if self._postgres is not None:
            self._postgres.terminate()
            self._postgres = None


def _backfill(row: asyncpg.Record) -> Backfill:
    """The census with what is asked for each time; hosts are few."""
    census = orjson.loads(row["census"] or b"{}")
    census |= orjson.loads(row["hosts"])
    return msgspec.convert(
        {name: value for name, value in census.items() if name in Backfill.__struct_fields__}
        | {"age_seconds": row["census_age"], "complete": row["census_complete"]},
        Backfill,
    )


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _words(error: BaseException) -> str:
    """An error in one line; some have no text of their own."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
