"""``headrace streams``: each shard of each source, out of the same reading as the status."""

from __future__ import annotations

import msgspec
import orjson

from engine.ops.status import Shard, Status, Stream

_HEAD = (
    "source",
    "shard",
    "events",
    "bytes",
    "entries",
    "position",
    "lag",
    "lag s",
    "progress s",
    "owner",
)
_TEXTS = {0, 9}
"""Columns that are no numbers."""


def render_json(status: Status) -> bytes:
    """One JSON document: ``at``, ``streams`` as in the status, ``errors``."""
    found = msgspec.to_builtins(status)
    return orjson.dumps({name: found[name] for name in ("at", "streams", "errors")})


def render_text(status: Status) -> str:
    """A table with a line a shard and a line a source.

    ``position`` is the id of the last committed entry, ``lag`` the entries beyond it, ``lag s`` the
    age of the oldest of them, ``progress s`` the time since the position last moved.
    """
    rows: list[tuple[str, ...]] = [_HEAD]
    for name, stream in status.streams.items():
        shards = sorted(stream.shards.items(), key=lambda item: int(item[0]))
        rows += [_row(name, number, shard) for number, shard in shards]
        rows.append(_total(name, stream))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in _TEXTS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *(f"error: {error}" for error in status.errors)])


def _row(source: str, number: str, shard: Shard) -> tuple[str, ...]:
    values = (
        shard.events,
        shard.bytes,
        shard.entries,
        shard.committed_id,
        shard.lag_entries,
        shard.lag_seconds,
        shard.progress_seconds,
        shard.owner,
    )
    return (source, number, *("-" if value is None else str(value) for value in values))


def _total(source: str, stream: Stream) -> tuple[str, ...]:
    """Sums, the greatest lag in seconds, and how long nothing at all has moved."""
    shards = stream.shards.values()
    late = [shard.lag_seconds for shard in shards if shard.lag_seconds is not None]
    moved = [shard.progress_seconds for shard in shards if shard.progress_seconds is not None]
    values = (
        stream.events,
        stream.bytes,
        stream.entries,
        "",
        sum(shard.lag_entries or 0 for shard in shards),
        max(late, default="-"),
        min(moved, default="-"),
        f"{len({shard.owner for shard in shards} - {None})} owners",
    )
    return (source, "all", *map(str, values))
