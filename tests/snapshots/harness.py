"""An owner of every shard, fed with live events and slices in any order, ended at any moment.

Both streams are logs here, as in Redis: whoever owns the shards next begins at the positions in
Postgres. A batch is prepared while the one before it is being written, or not.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections import defaultdict
from typing import Self

from engine import errors
from engine.core import codec, streams
from engine.roles.indexer import position as positions
from engine.roles.indexer.looker import Looker
from engine.roles.indexer.reader import ShardEntries
from engine.roles.indexer.stages import Stages
from engine.roles.indexer.writer import Committed, Decoded, Writer
from tests.model.golden import Network
from tests.scenarios import dsl
from tests.scenarios.run import SHARDS, World

SOURCES = streams.SOURCES

Log = dict[int, list[bytes]]
"""The entries of each shard."""


class Owner(World):
    """Owns all shards of a database; ``logs`` outlive it."""

    logs: dict[str, Log]
    rng: random.Random

    @classmethod
    async def begin(cls, database: str, logs: dict[str, Log], rng: random.Random) -> Self:
        """Go on from the positions in Postgres."""
        owner = await cls.open(database)
        owner.logs, owner.rng = logs, rng
        owner._lanes = {streams.LIVE: owner._writer}
        lease = owner._writer.lease
        held = await positions.load(
            owner._writer.conn, owner._writer.sql, streams.BACKFILL, lease.shards
        )
        owner._lanes[streams.BACKFILL] = dataclasses.replace(
            owner._writer,
            source=streams.BACKFILL,
            positions={shard: position.in_epoch("e") for shard, position in held.items()},
        )
        owner._read_to = {
            source: {shard: position.entries for shard, position in lane.positions.items()}
            for source, lane in owner._lanes.items()
        }
        owner._looker = Looker(owner._identity, owner._writer.statements, Stages())
        return owner

    _lanes: dict[str, Writer]
    _read_to: dict[str, dict[int, int]]
    _looker: Looker
    _writing: asyncio.Task[Committed] | None = None
    _before: codec.Changes | None = None
    prepared = 0
    """Batches whose changes were found while another was being written, or before."""

    def waiting(self, source: str) -> int:
        """Entries that are not read yet."""
        return sum(
            len(entries) - self._read_to[source][shard]
            for shard, entries in self.logs[source].items()
        )

    async def step(self, source: str, most: int) -> None:
        """Read a batch of a source and begin to write it, when the one before is committed."""
        lane, read_to = self._lanes[source], self._read_to[source]
        parts: list[ShardEntries] = []
        for shard, entries in self.logs[source].items():
            start = read_to[shard]
            end = min(len(entries), start + self.rng.randint(0 if len(parts) else 1, most))
            if end > start:
                ids = [b"%d-1" % (place + 1) for place in range(start, end)]
                taken = entries[start:end]
                parts.append(ShardEntries(shard, ids, taken, is_cut=end < len(entries)))
        if not parts:
            return
        decoded = await lane.decode(parts)
        for part in decoded.parts:
            read_to[part.shard] += len(part.entries)
        await self._write(lane, decoded)

    async def _write(self, lane: Writer, decoded: Decoded) -> None:
        prepared = None
        if self.rng.random() < 0.9 and (self._writing is None or self._before is not None):
            prepared = await self._looker.prepare(decoded.batch, self._before)
        await self.pause(self.rng.random() * 0.002)
        if self._writing is not None and not (await self._writing).as_prepared:
            prepared = None
        if prepared is None and self.rng.random() < 0.5:
            prepared = await self._looker.prepare(decoded.batch, None)
        self.prepared += prepared is not None
        self._writing = asyncio.create_task(lane.write(decoded, prepared))
        self._before = prepared

    async def pause(self, seconds: float) -> None:
        """Let what is being written go on."""
        await asyncio.sleep(seconds)

    async def settle(self) -> None:
        """Wait until nothing is being written."""
        if self._writing is not None:
            await self._writing
        self._writing = self._before = None

    async def look_up(self, network: Network) -> None:
        """Every handle that is due, as the recorded directory answers."""
        await self._resolve(dsl.Resolve(network.aliases, network.points))

    async def end(self, *, killed: bool) -> bool:
        """Stop; if ``killed`` in the middle of whatever is being written.

        Returns whether a batch was lost that way.
        """
        is_lost = False
        if killed and self._writing is not None:
            # Half of the time before it has said anything, else anywhere.
            if self.rng.random() < 0.5:
                await asyncio.sleep(self.rng.random() * 0.02)
            is_lost = not self._writing.done()
            self._writer.conn.terminate()
            try:
                await self._writing
                is_lost = False
            except (errors.StoreError, asyncio.CancelledError):
                pass
        else:
            await self.settle()
        await self.close()
        return is_lost


async def drain(owner: Owner) -> None:
    """Index everything there is, of both sources by turns."""
    while any(owner.waiting(source) for source in SOURCES):
        source = owner.rng.choice([each for each in SOURCES if owner.waiting(each)])
        await owner.step(source, owner.rng.choice((1, 2, 8, 64)))
    await owner.settle()


def empty_logs() -> dict[str, Log]:
    return {source: defaultdict(list) for source in SOURCES}


def append(logs: dict[str, Log], source: str, did: str, entry: bytes) -> None:
    """Add an entry to the shard of its DID."""
    logs[source][streams.shard_of(did, SHARDS)].append(entry)
