"""A firehose role at work against real stores, and what it left in them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import redis.asyncio

from engine import settings
from engine.core import streams, wire
from engine.roles.firehose import FirehoseRole
from tests.fix_relay import Relay

SHARDS = 16
KEYS = streams.Keys()


async def until(
    condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = 60, why: str = ""
) -> None:
    """Poll until something is true."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = condition()
                if isinstance(answer, Awaitable):
                    answer = await answer
                if answer:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"did not happen in {seconds} s: {why}") from None


@dataclass
class Ingest:
    """One deployment under test."""

    database_url: str
    redis_url: str
    relays: list[Relay]
    variables: dict[str, str]

    @property
    def relay(self) -> Relay:
        return self.relays[0]

    def settings(self) -> settings.Settings:
        return settings.load(
            environ={
                "DATABASE_URL": self.database_url,
                "REDIS_URL": self.redis_url,
                "INGESTER_RELAY_HOSTS": ",".join(relay.url for relay in self.relays),
                "INGESTER_SILENCE_TIMEOUT_SECONDS": "60",
                **self.variables,
            }
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FirehoseRole]:
        """A role at work; stopped as TERM would on leaving. Its failure is raised."""
        role = FirehoseRole("firehose", self.settings())
        stop = asyncio.Event()
        task = asyncio.create_task(role.run(stop))
        try:
            yield role
        finally:
            stop.set()
            await asyncio.wait([task], timeout=5)
            assert task.done(), "the role did not stop"
            task.result()

    @contextlib.asynccontextmanager
    async def redis(self) -> AsyncIterator[Any]:
        # Any: the client types each reply as everything that any protocol could answer.
        client = redis.asyncio.Redis.from_url(self.redis_url)
        try:
            yield client
        finally:
            await client.aclose()

    @contextlib.asynccontextmanager
    async def db(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        conn = await asyncpg.connect(self.database_url)
        try:
            yield conn
        finally:
            await conn.close()

    async def cursor(self, relay: Relay | None = None) -> int | None:
        async with self.redis() as client:
            text = await client.get(KEYS.cursor(streams.LIVE, (relay or self.relay).host))
        return int(text) if text is not None and text.isdigit() else None

    async def reached(self, seq: int, relay: Relay | None = None, *, seconds: float = 60) -> None:
        """Wait until the cursor in Redis is there."""

        async def there() -> bool:
            with contextlib.suppress(redis.exceptions.RedisError):
                return await self.cursor(relay) == seq
            return False

        await until(there, seconds=seconds, why=f"cursor {seq}")

    async def shards(self) -> list[list[wire.Event]]:
        """The entries of every shard, in stream order."""
        async with self.redis() as client:
            found = []
            for shard in range(SHARDS):
                items = await client.xrange(KEYS.stream(streams.LIVE, shard))
                entries = [wire.decode(fields[b"event"]) for _, fields in items]
                found.append([entry for entry in entries if isinstance(entry, wire.Event)])
                assert len(found[-1]) == len(entries)
            return found

    async def seqs(self) -> Counter[int | None]:
        """How often each seq is in the streams."""
        return Counter(entry.seq for shard in await self.shards() for entry in shard)

    async def assert_exactly_the_log(self, relay: Relay | None = None) -> None:
        """Every frame of the relay's log once, on the shard of its DID, in order; accounts add up.

        Only where nothing was trimmed and one relay was read.
        """
        relay = relay or self.relay
        expected: list[list[int]] = [[] for _ in range(SHARDS)]
        for seq, _ in relay.log:
            expected[streams.shard_of(relay.did_of[seq], SHARDS)].append(seq)
        shards = await self.shards()
        assert [[entry.seq for entry in shard] for shard in shards] == expected
        async with self.redis() as client:
            events = await client.hgetall(KEYS.events(streams.LIVE))
            size = await client.hgetall(KEYS.bytes(streams.LIVE))
            received = await client.hgetall(KEYS.received(streams.LIVE, relay.host))
            assert {int(k): int(v) for k, v in events.items()} == {
                number: len(shard) for number, shard in enumerate(shards)
            }
            for number in range(SHARDS):
                items = await client.xrange(KEYS.stream(streams.LIVE, number))
                assert int(size[b"%d" % number]) == sum(len(f[b"event"]) for _, f in items)
        assert sum(map(int, received.values())) == len(relay.log)
        assert await self.cursor(relay) == relay.log[-1][0]
        async with self.redis() as client, self.db() as db:
            mark = await client.get(KEYS.epoch)
            row = await db.fetchrow("SELECT deployment_id, epoch FROM headrace.deployment")
            assert row is not None
            assert mark is not None
            assert mark.decode() == f"{row['deployment_id']}:{row['epoch']}"

    async def trim_all(self) -> int:
        """What the owners of the shards do after committing everything; entries removed."""
        removed = 0
        async with self.redis() as client:
            for shard in range(SHARDS):
                name = KEYS.stream(streams.LIVE, shard)
                entries = await client.xrange(name)
                if not entries:
                    continue
                size = sum(len(fields[b"event"]) for _, fields in entries)
                time, _, number = entries[-1][0].decode().partition("-")
                pipe = client.pipeline()
                pipe.xtrim(name, minid=f"{time}-{int(number) + 1}", approximate=False)
                pipe.hincrby(KEYS.events(streams.LIVE), str(shard), -len(entries))
                pipe.hincrby(KEYS.bytes(streams.LIVE), str(shard), -size)
                removed += (await pipe.execute())[0]
        return removed
