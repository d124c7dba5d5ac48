"""Labelers for tests, a plain model of what their labels become, and the role at work on them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import redis.asyncio

from engine import simulate
from engine.core.streams import LABELS, LabelKeys
from engine.roles.labels import LabelsRole
from engine.settings import LabelsSettings, NetworkSettings, Settings
from engine.simulate.keys import K256, P256, Key
from engine.simulate.labels import Label, Labeler
from engine.simulate.network import MemoryFrames, Network
from engine.simulate.server import Server

CTS = "2025-01-01T00:00:00.000Z"
POST = "at://did:plc:alice/app.bsky.feed.post/1"
KEYS = LabelKeys()
WAIT_SECONDS = 30.0

Rows = dict[tuple[str, str, str, str], tuple[bool, str, str | None]]


def key(number: int) -> Key:
    return Key(P256 if number % 2 else K256, bytes([number + 1]) * 32)


def did(number: int) -> str:
    return f"did:plc:labeler{number:017d}"


@dataclass
class World:
    """Labelers on one server, and what the table must hold of them."""

    count: int = 1
    network: Network = field(default_factory=lambda: Network(MemoryFrames()))
    labelers: list[Labeler] = field(default_factory=list)
    expected: Rows = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number in range(self.count):
            labeler = Labeler(did(number), key(number), random.Random(number))
            self.labelers.append(labeler)
            self.network.documents[labeler.did] = labeler.document()
            self.network.labels[labeler.did] = MemoryFrames()

    def label(self, uri: str, val: str = "spam", *, of: int = 0, **fields: Any) -> Label:
        """A label of a labeler, signed; fields that are None are left out."""
        labeler = self.labelers[of]
        label = {"ver": 1, "src": labeler.did, "uri": uri, "val": val, "cts": CTS, **fields}
        return labeler.signed({name: value for name, value in label.items() if value is not None})

    def say(self, *labels: Label, of: int = 0, server: Server | None = None) -> None:
        """One message with these labels, which the table must then hold."""
        for label in labels:
            self.expect(label)
        self.publish(self.labelers[of].message(list(labels)), of=of, server=server)

    def publish(self, frame: bytes, *, of: int = 0, server: Server | None = None) -> None:
        """A message whatever it is; before the server runs, or through it."""
        if server is None:
            self.network.labels[self.labelers[of].did].append(frame)
        else:
            server.labelers[self.labelers[of].did].publish(frame)

    def expect(self, label: Label) -> None:
        """The plain model: the last label of a key is its row."""
        name = (label["src"], label["uri"], label.get("cid") or "", label["val"])
        self.expected[name] = (bool(label.get("neg")), label["cts"], label.get("exp"))

    def fill(self, messages: int, seed: int, *, each: int = 20, subjects: int = 500) -> int:
        """Many labels of all labelers, negations, versions and ends among them; how many."""
        dice = random.Random(seed)
        total = 0
        for number in range(messages):
            of = number % self.count
            labels = []
            for _ in range(dice.randint(1, 2 * each - 1)):
                uri = f"at://did:plc:{dice.randrange(subjects)}/app.bsky.feed.post/1"
                labels.append(
                    self.label(
                        uri,
                        dice.choice(("spam", "porn", "!hide")),
                        of=of,
                        cid=dice.choice((None, None, CID)),
                        neg=dice.choice((None, None, True)),
                        exp=dice.choice((None, "2100-01-01T00:00:00Z")),
                        # Times go back and forth: the order of the stream decides.
                        cts=f"2025-01-{dice.randint(1, 28):02d}T00:00:00.000Z",
                    )
                )
            self.say(*labels, of=of)
            total += len(labels)
        return total


def holds(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    """A condition that needs no waiting, for `Work.until`."""

    async def at_once() -> bool:
        return condition()

    return at_once


CID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"


def settings_for(server: Server, database: str, redis_url: str, **labels: Any) -> Settings:
    labelers = tuple(labels.pop("labelers", server.labelers))
    return Settings(
        database_url=database,
        redis_url=redis_url,
        plc_url=server.url,
        network=NetworkSettings(allow_private=labels.pop("allow_private", True)),
        labels=LabelsSettings(labelers=labelers, **labels),
    )


@dataclass
class Work:
    """A role at work, and both stores to look into."""

    role: LabelsRole
    conn: asyncpg.Connection[Any]
    redis: redis.asyncio.Redis

    async def rows(self) -> Rows:
        found = await self.conn.fetch("SELECT * FROM label")
        names = ("src", "uri", "cid", "val")
        return {
            tuple(row[name] for name in names): (row["neg"], row["cts"], row["exp"])
            for row in found
        }

    async def until(self, what: str, condition: Callable[[], Awaitable[Any]]) -> Any:
        """Poll until something holds; what it returned."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not (found := await condition()):
                    await asyncio.sleep(0.02)
                return found
        except TimeoutError:
            raise AssertionError(f"{what}: not in time; {self.role.report()}") from None

    async def until_rows(self, expected: Rows) -> None:
        async def same() -> bool:
            return await self.rows() == expected

        await self.until(f"{len(expected)} rows", same)

    async def until_seq(self, seq: int, host: str | None = None) -> None:
        """Wait until a labeler's stream is held up to a seq."""

        async def held() -> Any:
            query = (
                "SELECT seq >= $1 FROM headrace.label_position "
                "WHERE $2::text IS NULL OR host = $2 ORDER BY generation DESC LIMIT 1"
            )
            return await self.conn.fetchval(query, seq, host)

        await self.until(f"seq {seq}", held)

    async def outcomes(self) -> dict[str, int]:
        """Labels by outcome, over all streams."""
        query = (
            "SELECT key, sum(value::bigint)::bigint AS n FROM headrace.label_position "
            "CROSS JOIN LATERAL jsonb_each_text(outcomes) GROUP BY key"
        )
        return {row["key"]: row["n"] for row in await self.conn.fetch(query)}

    async def received(self) -> int:
        """Labels that were appended, as Redis counts them."""
        names = [name async for name in self.redis.scan_iter(f"{LABELS}:received:*")]
        return sum([int(n) for name in names for n in (await self.redis.hgetall(name)).values()])

    async def letters(self) -> list[asyncpg.Record]:
        return await self.conn.fetch("SELECT * FROM headrace.dead_letter ORDER BY id")

    def counters(self) -> list[dict[str, Any]]:
        labelers: Any = self.role.report()["labelers"]
        return list(labelers.values())


@contextlib.asynccontextmanager
async def at_work(settings: Settings) -> AsyncIterator[Work]:
    """A labels role on the running loop, stopped at the end; its failure is the test's."""
    assert settings.redis_url
    conn = await asyncpg.connect(settings.database_url)
    client = redis.asyncio.Redis.from_url(settings.redis_url)
    stop = asyncio.Event()
    role = LabelsRole("labels", settings)
    running = asyncio.create_task(role.run(stop))
    try:
        yield Work(role, conn, client)
    finally:
        stop.set()
        try:
            await asyncio.wait_for(running, 10)
        finally:
            await client.aclose()
            await conn.close()


__all__ = ["CID", "CTS", "KEYS", "LABELS", "Work", "World", "at_work", "did", "key", "simulate"]
