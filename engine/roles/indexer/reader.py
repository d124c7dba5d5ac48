"""Read the shard streams as logs: from the committed position, in order, never twice.

There is no consumer group and hence no pending list. What was read but not
committed is simply read again by whoever owns the shard next.

Whether the streams are still the ones that the positions speak of is asked
after every read, in the same round trip: an epoch never comes back, so an
unchanged epoch after the read proves that the read saw these streams
(ARCHITECTURE.md, law 4).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine import errors
from engine.adapters import resp
from engine.core import streams

if TYPE_CHECKING:
    from engine.roles.indexer.position import Position

_FIRST_GUESS_BYTES = 4096
"""Size of an entry before any was seen: about a commit with one record and its proofs dropped."""

_MIN_COUNT, _MAX_COUNT = 16, 20_000


@dataclass(frozen=True)
class ShardEntries:
    """What one shard's stream gave, in stream order; never empty."""

    shard: int
    ids: list[bytes]
    entries: list[bytes]
    is_cut: bool = False
    """More waits in the stream: what comes after these must wait too."""

    @property
    def last_id(self) -> str:
        """Id of the last entry: where the position goes when all are committed."""
        return self.ids[-1].decode()

    @property
    def size_bytes(self) -> int:
        """Entry bytes."""
        return sum(map(len, self.entries))

    def cut(self, at: int) -> tuple[ShardEntries, ShardEntries]:
        """The entries before ``at`` and the others."""
        return (
            ShardEntries(self.shard, self.ids[:at], self.entries[:at], is_cut=True),
            ShardEntries(self.shard, self.ids[at:], self.entries[at:], is_cut=self.is_cut),
        )


@dataclass(frozen=True)
class StreamFacts:
    """One shard's stream and its upstreams' cursors, seen at one instant."""

    length: int
    added: int
    last_id: str


class Reader:
    """Reads all streams of one process over its own connection."""

    def __init__(
        self,
        conn: resp.RespConnection,
        keys: streams.Keys,
        source: str,
        epoch_mark: bytes,
        *,
        batch_bytes: int,
        batch_size: int,
        min_count: int = _MIN_COUNT,
    ) -> None:
        """Read ``source``; ``epoch_mark`` is the value that the epoch key must have.

        A batch is closed at about ``batch_bytes``, and at ``batch_size`` entries; as many as
        ``min_count`` of each stream are taken whatever their size.
        """
        self._min_count = min_count
        self._conn = conn
        self._keys = keys
        self._source = source
        self._mark = epoch_mark
        self._batch_bytes = batch_bytes
        self._batch_size = batch_size
        self._entry_bytes = float(_FIRST_GUESS_BYTES)
        self._kept: dict[int, ShardEntries] = {}
        self._now_ms = 0
        self.lag_seconds = 0.0
        """How old the last entry read is, where more waits behind it; by the clock of Redis."""

    async def read(
        self, after: dict[int, str], block_ms: int, *, share: float = 1.0
    ) -> list[ShardEntries]:
        """Entries after the given ids, at most about ``batch_bytes``; empty after ``block_ms``.

        It does not wait if that is 0. A ``share`` of ``batch_bytes`` is taken at most.

        Raises:
            StreamsTorn: the streams are not (or no longer) those of the epoch.
            StoreUnavailable: the connection is gone.
        """
        if not after:  # more indexers than shards
            await asyncio.sleep(block_ms / 1000)
            return []
        each = self._batch_bytes * share / len(after)
        count = min(_MAX_COUNT, max(self._min_count, int(each / self._entry_bytes)))
        # One each at least: who is cut off first would never be read under load.
        count = min(count, max(1, self._batch_size // len(after)))
        kept, self._kept = self._kept, {}
        wanting = {
            shard: kept[shard].last_id if shard in kept else last_id
            for shard, last_id in after.items()
            if shard not in kept or len(kept[shard].entries) < count
        }
        fresh = await self._read(wanting, count, 0) if wanting else {}
        # What ends a wait is only a sign: Redis before 7.2 then answers with one stream, though
        # others may hold what comes before it.
        if block_ms and not fresh and not kept and await self._read(wanting, 1, block_ms):
            fresh = await self._read(wanting, count, 0)
        result = []
        for shard in after:
            ids, entries = fresh.get(shard, ([], []))
            is_cut = shard not in wanting or len(ids) == count
            if shard in kept:
                ids, entries = kept[shard].ids + ids, kept[shard].entries + entries
            if ids:
                result.append(ShardEntries(shard, ids, entries, is_cut))
        entries_read = sum(len(part.entries) for part in result)
        if entries_read:
            seen = sum(part.size_bytes for part in result) / entries_read
            # Larger ones are believed at once: a read has no limit of bytes but this guess.
            self._entry_bytes = max(seen, self._entry_bytes + (seen - self._entry_bytes) / 4)
        cut = [streams.id_parts(part.last_id)[0] for part in result if part.is_cut]
        self.lag_seconds = max(0, self._now_ms - min(cut)) / 1000 if cut else 0.0
        return result

    def keep(self, rest: list[ShardEntries]) -> None:
        """Give the next read what this one could not use, beginning after the ids read to."""
        self._kept = {part.shard: part for part in rest}

    async def wait(self, after: dict[str, dict[int, str]], block_ms: int) -> None:
        """Until any of these streams, of any source, holds something new, or for ``block_ms``."""
        ids = {
            self._keys.stream(source, shard): last_id
            for source, shards in after.items()
            for shard, last_id in shards.items()
        }
        asked = resp.pack("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", *ids, *ids.values())
        (answer,) = await self._conn.execute(asked, 1)
        if isinstance(answer, Exception):
            raise errors.StoreError(f"waiting for the streams: {answer}") from answer

    async def _read(
        self, after: dict[int, str], count: int, block_ms: int
    ) -> dict[int, tuple[list[bytes], list[bytes]]]:
        """Ids and entries of each shard that has any; does not wait if ``block_ms`` is 0."""
        names = [self._keys.stream(self._source, shard) for shard in after]
        block = ("BLOCK", block_ms) if block_ms else ()
        read = resp.pack("XREAD", "COUNT", count, *block, "STREAMS", *names, *after.values())
        asked = read + resp.pack("GET", self._keys.epoch) + resp.pack("TIME")
        reply, mark, clock = await self._conn.execute(asked, 3)
        for answer in (reply, mark, clock):
            if isinstance(answer, Exception):
                raise errors.StoreError(f"reading the streams: {answer}") from answer
        self._now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
        if mark != self._mark:
            raise errors.StreamsTorn(f"the epoch in Redis is {mark!r}, ours is {self._mark!r}")
        shard_by_name = dict(zip((name.encode() for name in names), after, strict=True))
        return {
            shard_by_name[name]: ([item[0] for item in items], [item[1][1] for item in items])
            for name, items in (reply or ())
        }


async def inspect(
    conn: resp.RespConnection, keys: streams.Keys, source: str, shards: list[int], hosts: list[str]
) -> tuple[bytes | None, dict[int, StreamFacts | None], dict[str, int]]:
    """The epoch mark, each stream's facts (None: no such stream) and cursors, at one instant.

    One MULTI, so that "the cursor is at N and nothing lies beyond the position"
    is one observation.
    """
    commands = [
        resp.pack("MULTI"),
        resp.pack("GET", keys.epoch),
        *(resp.pack("XINFO", "STREAM", keys.stream(source, shard)) for shard in shards),
        *(resp.pack("GET", keys.cursor(source, host)) for host in hosts),
        resp.pack("EXEC"),
    ]
    replies = await conn.execute(b"".join(commands), len(commands))
    results = replies[-1]
    if isinstance(results, Exception) or results is None:
        raise errors.StoreError(f"inspecting the streams: {results}")
    mark, *rest = results
    facts = {shard: _facts(reply) for shard, reply in zip(shards, rest[: len(shards)], strict=True)}
    cursors = {
        host: int(reply)
        for host, reply in zip(hosts, rest[len(shards) :], strict=True)
        if reply is not None
    }
    return mark, facts, cursors


def _facts(reply: object) -> StreamFacts | None:
    if isinstance(reply, Exception) or not isinstance(reply, list):
        return None
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    return StreamFacts(
        length=fields[b"length"],
        added=fields[b"entries-added"],
        last_id=fields[b"last-generated-id"].decode(),
    )


def torn_shards(
    held: dict[int, Position], facts: dict[int, StreamFacts | None], epoch: str
) -> list[int]:
    """Shards whose stream cannot be the one that their position speaks of.

    ``added - length <= committed <= added``: less, and entries left the stream
    before they were committed; more, and the stream forgot entries.
    A position of an older epoch says nothing about these streams.
    """
    torn = []
    for shard, position in held.items():
        fact = facts.get(shard)
        if fact is None or (
            position.epoch == epoch
            and not (fact.added - fact.length <= position.entries <= fact.added)
        ):
            torn.append(shard)
    return torn


def is_quiet(position: Position, fact: StreamFacts) -> bool:
    """Whether nothing lies beyond the position."""
    return streams.id_parts(fact.last_id) <= streams.id_parts(position.entry_id)
