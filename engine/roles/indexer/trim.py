"""Free what is committed: XTRIM at committed positions, counters in the same script.

An entry leaves its stream only when its commit is flushed to disk and it is
older than the retention (ARCHITECTURE.md, law 4). The engine commits with
``synchronous_commit = off``; what makes that safe is this file: a boundary may
be trimmed only after ``pg_current_wal_flush_lsn()`` has passed a WAL position
that was read after its commit.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from engine import errors, failpoints
from engine.adapters import resp
from engine.core import streams, wire

logger = logging.getLogger(__name__)

_TRIM = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local removed = {}
for i = 4, #KEYS do
  local at = 4 * (i - 4) + 2
  removed[i - 3] = redis.call('XTRIM', KEYS[i], 'MINID', ARGV[at])
  redis.call('HINCRBY', KEYS[2], ARGV[at + 1], ARGV[at + 2])
  redis.call('HINCRBY', KEYS[3], ARGV[at + 1], ARGV[at + 3])
end
return removed
"""
"""A script and not a MULTI: a Redis at its memory limit refuses HINCRBY, hence the whole MULTI,
and would never get rid of what fills it."""

LOG_SECONDS = 5.0
"""At most one line a stream in this time."""


@dataclass
class Boundary:
    """Everything up to ``entry_id`` is committed."""

    entry_id: str
    at: float
    """Monotonic seconds of the commit."""
    events: int
    """Events between the previous boundary and this one."""
    bytes: int
    lsn: int | None = None
    """A WAL position not before the commit, once known."""


@dataclass
class _Shard:
    boundaries: deque[Boundary] = field(default_factory=deque)
    kept_bytes: int = 0
    unreported: int = 0
    reported_at: float = float("-inf")


class Trimmer:
    """Remembers what was committed and trims it when it may go."""

    def __init__(
        self, keys: streams.Keys, source: str, retention_seconds: float, retention_bytes: int
    ) -> None:
        """Keep committed entries for ``retention_seconds``, and no more than the bytes a shard."""
        self._keys = keys
        self._source = source
        self._seconds = retention_seconds
        self._bytes = retention_bytes
        self._shards: dict[int, _Shard] = {}
        self.trimmed_entries = 0

    def committed(self, shard: int, entry_id: str, events: int, size: int, now: float) -> None:
        """Note a commit; nothing is trimmed here."""
        state = self._shards.setdefault(shard, _Shard())
        state.boundaries.append(Boundary(entry_id, now, events, size))
        state.kept_bytes += size

    def observe(self, flushed: int, inserted: int) -> None:
        """Take a reading of the WAL: where it is flushed, and where it ends."""
        self._flushed = flushed
        for state in self._shards.values():
            for boundary in reversed(state.boundaries):
                if boundary.lsn is not None:
                    break
                boundary.lsn = inserted

    def due(self, now: float) -> dict[int, list[Boundary]]:
        """Boundaries that may go now, by shard; remove them with ``trim``."""
        due: dict[int, list[Boundary]] = {}
        for shard, state in self._shards.items():
            kept = state.kept_bytes
            for boundary in state.boundaries:
                old = now - boundary.at >= self._seconds or kept > self._bytes
                if not old or boundary.lsn is None or boundary.lsn > self._flushed:
                    break
                kept -= boundary.bytes
                due.setdefault(shard, []).append(boundary)
        return due

    _flushed = -1

    async def trim(self, conn: resp.RespConnection, epoch_mark: bytes, now: float) -> int:
        """Trim what is due; entries removed.

        If the streams were made anew meanwhile, nothing happens. The caller has
        checked them for being torn.

        Raises:
            StreamsTorn: the epoch is another one.
        """
        due = self.due(now)
        if not due:
            return 0
        names = [self._keys.stream(self._source, shard) for shard in due]
        arguments: list[resp.Argument] = []
        for shard, gone in due.items():
            arguments += [streams.id_after(gone[-1].entry_id), shard]
            arguments += [-sum(b.events for b in gone), -sum(b.bytes for b in gone)]
        keys = [self._keys.epoch, self._keys.events(self._source), self._keys.bytes(self._source)]
        failpoints.passing("before_trim")
        results = await conn.command(
            "EVAL", _TRIM, len(keys) + len(names), *keys, *names, epoch_mark, *arguments
        )
        if results is None:
            raise errors.StreamsTorn("the epoch in Redis is no longer ours")
        failpoints.passing("after_trim")
        total = 0
        for (shard, gone), removed in zip(due.items(), results, strict=True):
            state = self._shards[shard]
            for boundary in gone:
                state.boundaries.popleft()
                state.kept_bytes -= boundary.bytes
            total += removed
            self._report(shard, state, removed, gone[-1].entry_id, now)
        self.trimmed_entries += total
        return total

    def _report(self, shard: int, state: _Shard, removed: int, entry_id: str, now: float) -> None:
        state.unreported += removed
        if state.unreported and now - state.reported_at >= LOG_SECONDS:
            logger.info(
                "Trimmed %d messages from stream %s (cursor: %s)",
                state.unreported,
                self._keys.stream(self._source, shard),
                entry_id,
            )
            state.unreported = 0
            state.reported_at = now


def _weight(entry: bytes) -> int:
    return wire.weight(wire.decode(entry))


async def committed_leftovers(
    conn: resp.RespConnection,
    stream: str,
    entry_id: str,
    page: int = 1000,
    weigh: Callable[[bytes], int] = _weight,
) -> tuple[int, int]:
    """Events and bytes of the entries up to a position that a former owner left untrimmed.

    Bounded by the retention; read once, at take-over, because the counters in
    Redis must be lowered by exactly what is trimmed. ``weigh`` says the events of an entry.
    """
    events = size = 0
    start = "-"
    while True:
        reply = await conn.command("XRANGE", stream, start, entry_id, "COUNT", page)
        for _, fields in reply:
            events += weigh(fields[1])
            size += len(fields[1])
        if len(reply) < page:
            return events, size
        start = streams.id_after(reply[-1][0].decode())


def parse_lsn(text: str) -> int:
    """Postgres' ``16/B374D848`` as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
