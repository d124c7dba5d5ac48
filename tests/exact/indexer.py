"""Writers fed with a recorded log: cut anywhere, in any order, any part of it again."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import libipld

from engine.core import codec
from engine.roles.indexer.looker import Looker
from engine.roles.indexer.reader import ShardEntries
from engine.roles.indexer.stages import Stages
from engine.roles.indexer.writer import Committed, Decoded
from tests.model.golden import Network
from tests.native import frames
from tests.scenarios import dsl
from tests.scenarios.run import RELAY, SHARDS, Message, World

Streams = dict[int, deque[tuple[bytes, bytes]]]
"""What waits in each shard: ids and entries."""

SIZES = (1, 2, 8, 64, 512)
"""At most so many entries of a shard make a batch; another one of these each time."""


def messages(golden: Sequence[bytes]) -> dict[int, Message]:
    """Frames by their seq, ready to be sent under another one."""
    found: dict[int, Message] = {}
    for frame in golden:
        header: Any
        body: Any
        header, body = libipld.decode_dag_cbor_multi(frame)
        if "seq" in body:
            found[body["seq"]] = Message(header["t"], body)
    return found


def append(log: Sequence[bytes], last: int = 0) -> tuple[Streams, int]:
    """Every shard's stream with all frames in it, the first id after ``last``; and their ops."""
    read = codec.decode_frames(
        list(log), relay=RELAY, generation=1, shards=SHARDS, allow=frames.ALLOW
    )
    streams: Streams = {shard: deque() for shard in range(SHARDS)}
    for number, (shard, entry) in enumerate(read.entries(), last + 1):
        streams[shard].append((b"%d-1" % number, entry))
    return streams, read.ops


class Indexer(World):
    """Owns shards of one database; what was delivered is committed on return.

    ``received`` counts the ops of all frames, delivered again or not, as the ingester does;
    ``prepared`` the batches whose changes were found while another one was being written.
    """

    received = 0
    batches = 0
    prepared = 0

    async def deliver(self, log: Sequence[bytes], rng: random.Random) -> None:
        """Append all frames to the streams, then write them in batches cut at random."""
        await self.drain(self._append(log), rng)

    async def deliver_one_by_one(self, log: Sequence[bytes], rng: random.Random) -> None:
        """Every frame in a batch of its own."""

        async def batches() -> AsyncIterator[Decoded]:
            for frame in log:
                streams = self._append([frame])
                parts = [front(shard, each, len(each)) for shard, each in streams.items() if each]
                if parts:
                    yield await self._writer.decode(parts)

        await self._write(batches(), rng)

    async def drain(self, streams: Streams, rng: random.Random) -> None:
        """Write all that waits in shards of ours.

        As a session reads: each shard's stream for itself, and what must wait for another shard
        comes again.
        """

        async def batches() -> AsyncIterator[Decoded]:
            while any(streams.values()):
                size = rng.choice(SIZES)
                parts = [
                    front(shard, stream, rng.randint(1, size))
                    for shard, stream in streams.items()
                    if stream
                ]
                decoded = await self._writer.decode(parts)
                assert decoded.parts
                for part in decoded.parts:
                    for _ in part.entries:
                        streams[part.shard].popleft()
                yield decoded

        await self._write(batches(), rng)

    async def _write(self, batches: AsyncIterator[Decoded], rng: random.Random) -> None:
        """As a session does, each batch is prepared while the one before is being written.

        But not all of them: some are written without, some when nothing else is under way.
        """
        together = self._writer.lease.together
        looker = Looker(self._identity, self._writer.statements, Stages(), together)
        await self.settler.say()
        writing: asyncio.Task[Committed] | None = None
        before: codec.Changes | None = None
        async for decoded in batches:
            prepared, since = None, self.settler.looked
            if rng.random() < 0.9 and (writing is None or before is not None):
                prepared = await looker.prepare(decoded.batch, before)
            if writing is not None and not (await writing).as_prepared:
                prepared = None
            if await self.settler.work(since if prepared is not None else None):
                prepared = None
            self.batches += 1
            self.prepared += prepared is not None
            writing = asyncio.create_task(self._writer.write(decoded, prepared))
            before = prepared
            if rng.random() < 0.1:
                await writing
                writing = before = None
        if writing is not None:
            await writing

    async def settle(self) -> None:
        """Keep turning until nothing is unsettled, of whatever owner; others do the same."""
        async with asyncio.timeout(60):
            while await self._identity.fetchval("SELECT count(*) FROM headrace.unsettled"):
                await self.settler.work()
                await asyncio.sleep(0.02)

    async def resolve(self, network: Network) -> None:
        """Look up every handle that is due, as the recorded directory answers."""
        await self._resolve(dsl.Resolve(network.aliases, network.points))

    def _append(self, log: Sequence[bytes]) -> Streams:
        streams, ops = append(log, self._seq)
        self._seq += sum(map(len, streams.values()))
        self.received += ops
        return streams


async def deliver_at_once(
    database: str, network: Network, log: Sequence[bytes], rng: random.Random, count: int
) -> int:
    """Let ``count`` indexers drain the streams, each its shards, all at the same time.

    Returns how many ops were received.
    """
    streams, ops = append(log)
    owners = [await Indexer.open(database, range(each, SHARDS, count)) for each in range(count)]
    try:
        async with asyncio.TaskGroup() as group:
            for each, owner in enumerate(owners):
                own = {shard: streams[shard] for shard in range(each, SHARDS, count)}
                group.create_task(owner.drain(own, random.Random(rng.random())))
        async with asyncio.TaskGroup() as group:
            for owner in owners:
                group.create_task(owner.settle())
        await owners[0].resolve(network)
    finally:
        for owner in owners:
            await owner.close()
    return ops


def front(shard: int, stream: Sequence[tuple[bytes, bytes]], count: int = 1) -> ShardEntries:
    taken = [stream[place] for place in range(min(count, len(stream)))]
    ids, entries = map(list, zip(*taken, strict=True))
    return ShardEntries(shard, ids, entries, is_cut=len(taken) < len(stream))
