"""A proved export into the streams: every slice in key order, then the closing entry."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from engine.core import codec
from engine.roles.backfiller.append import Appender, Done, Entry

SLICE_BYTES = 256 << 10
"""Keys and records in one slice: what an indexer takes at a time, whatever the repository."""

SLICE_RECORDS = 2000
"""Records in one slice, for the small ones."""

IN_THREAD_BYTES = 16 << 20
"""An export from here on lies in a file: its slices are read beside the event loop."""


@dataclass(frozen=True)
class Cut:
    """What is taken of a repository."""

    collections: tuple[str, ...] = ()  # the allow-list, asked before a record is read; empty: all
    notify: bool = True  # whether its records tell their notifications


@dataclass(frozen=True)
class Carried:
    """What became of an export's leaves, each of which is in one of these counts."""

    records: int
    filtered: int
    rejected: int
    slices: int
    bytes: int  # of entries


async def append_export(
    appender: Appender,
    export: codec.Export,
    fetch_id: int,
    cut: Cut,
    done: Done | None = None,
) -> Carried:
    """Append a fetched repository; on return all of it is durable in Redis, and ``done`` finished.

    Each slice waits for room in the streams. One is in memory at a time, and one more that
    travels with the closing entry: a small repository is one transaction.

    Raises:
        ValueError: the commit has no rev.
        OSError: the export's file was changed meanwhile.
        StreamsTorn: as `Appender.append`; the fetch must be begun anew.
        StoreUnavailable: likewise.
    """
    slices = export.slices(
        fetch_id=fetch_id,
        notify=cut.notify,
        collections=list(cut.collections),
        max_bytes=SLICE_BYTES,
        max_records=SLICE_RECORDS,
    )
    in_thread = export.length > IN_THREAD_BYTES
    held: Entry | None = None
    count = size = 0
    while True:
        made = await asyncio.to_thread(next, slices, None) if in_thread else next(slices, None)
        if made is None:
            break
        count, size = count + 1, size + len(made[1])
        if held is not None:
            await appender.append(export.did, [held])
        held = made
    closing: Entry = (1, export.closing(fetch_id))
    last = [closing] if held is None else [held, closing]
    await appender.append(export.did, last, done)
    size += len(closing[1])
    return Carried(slices.records, slices.filtered, slices.rejected, count, size)
