"""How far each shard is committed: read at take-over, written with every batch.

A position is the truth about a stream: Redis may lose everything, and from
``relays`` the ingester still knows what to ask the relay for again, and the
owner what it already holds. Writing it in the transaction of its rows is what
makes their effects exactly once (ARCHITECTURE.md, law 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from engine import errors

if TYPE_CHECKING:
    import asyncpg

START = "0-0"
"""Entry id before every entry of a stream."""


@dataclass
class Position:
    """The committed position of one shard of one source."""

    shard: int
    epoch: str
    entry_id: str = START
    entries: int = 0
    """Entries committed in this epoch."""
    relays: dict[str, dict[str, int]] = field(default_factory=dict)
    """``host/generation`` -> ``seq`` (highest held, if any) and ops by outcome; never reset."""

    def held(self) -> dict[str, int]:
        """Highest seq held of each relay generation: what is not newer is a duplicate."""
        return {key: counts["seq"] for key, counts in self.relays.items() if "seq" in counts}

    def advance(self, entry_id: str, entries: int) -> None:
        """Count ``entries`` more entries, the last of them ``entry_id``."""
        self.entry_id = entry_id
        self.entries += entries

    def record(self, relay: str, seq: int | None, outcomes: dict[str, int]) -> None:
        """Add a batch's ops by outcome and raise the seq of one relay generation.

        Without a seq none is held: a rewind then begins at the relay's first one.
        """
        counts = self.relays.setdefault(relay, {})
        if seq is not None:
            counts["seq"] = max(counts.get("seq", seq), seq)
        for outcome, ops in outcomes.items():
            counts[outcome] = counts.get(outcome, 0) + ops

    def in_epoch(self, epoch: str) -> Position:
        """The same knowledge at the start of a new life of the streams."""
        if epoch == self.epoch:
            return self
        return Position(shard=self.shard, epoch=epoch, relays=self.copy().relays)

    def copy(self) -> Position:
        """An independent copy, to advance before the commit is certain."""
        relays = {key: dict(counts) for key, counts in self.relays.items()}
        return Position(self.shard, self.epoch, self.entry_id, self.entries, relays)


def lowest_held(held: dict[int, Position]) -> dict[str, int]:
    """The lowest seq that any of these shards holds of each relay's newest generation."""
    lowest: dict[str, int] = {}
    newest: dict[str, int] = {}
    for position in held.values():
        for relay, seq in position.held().items():
            lowest[relay] = min(seq, lowest.get(relay, seq))
            host, _, generation = relay.rpartition("/")
            newest[host] = max(int(generation), newest.get(host, 0))
    return {relay: lowest[relay] for relay in sorted(f"{h}/{g}" for h, g in newest.items())}


async def load(
    conn: asyncpg.Connection, sql: dict[str, str], source: str, shards: list[int]
) -> dict[int, Position]:
    """Read the positions of these shards; the caller holds their lease."""
    rows = await conn.fetch(sql["position_load"], source, shards)
    return {
        row["shard"]: Position(
            shard=row["shard"],
            epoch=row["epoch"],
            entry_id=row["entry_id"],
            entries=row["entries"],
            relays=orjson.loads(row["relays"]),
        )
        for row in rows
    }


async def store(
    conn: asyncpg.Connection, sql: dict[str, str], source: str, positions: list[Position]
) -> None:
    """Write positions; durable with the caller's transaction, which holds the shards' lease.

    Raises:
        StreamsTorn: the streams were made anew; the transaction must not commit.
    """
    status = await conn.execute(
        sql["position_store"],
        source,
        [p.shard for p in positions],
        [p.epoch for p in positions],
        [p.entry_id for p in positions],
        [p.entries for p in positions],
        [orjson.dumps(p.relays).decode() for p in positions],
    )
    if int(status.rpartition(" ")[2]) != len(positions):
        raise errors.StreamsTorn("the epoch in Postgres is no longer that of these positions")
