"""Whose turn it is: what happens now comes first, fetched repositories fill what it leaves.

A batch is of one source. Slices become ops only once the rows of their ranges are known, which
what is being written may change; so the two are not mixed in one batch, but take turns. After
a batch of live entries comes one of slices, of a share of its size at most; none while the live
streams are behind; all there is where nothing else waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.core import streams

if TYPE_CHECKING:
    from engine.roles.indexer.reader import Reader, ShardEntries

MAX_LAG_SECONDS = 1.0
"""Slices wait while live entries that are older than this wait."""


class Turns:
    """Reads the streams of both sources; not from two tasks at once."""

    def __init__(self, live: Reader, backfill: Reader, share: float) -> None:
        """``share`` of a batch is the most that slices get beside live entries."""
        self._readers = {streams.LIVE: live, streams.BACKFILL: backfill}
        self._share = share
        self._is_next = False

    async def read(
        self, after: dict[str, dict[int, str]], block_ms: int
    ) -> tuple[str, list[ShardEntries]]:
        """A source and entries after the ids given for it; none after about ``block_ms``.

        Raises:
            StreamsTorn: the streams are not (or no longer) those of the epoch.
            StoreUnavailable: the connection is gone.
        """
        live, backfill = self._readers[streams.LIVE], self._readers[streams.BACKFILL]
        if not after[streams.LIVE]:  # more indexers than shards
            await asyncio.sleep(block_ms / 1000)
            return streams.LIVE, []
        while True:
            if self._is_next and live.lag_seconds <= MAX_LAG_SECONDS:
                self._is_next = False
                parts = await backfill.read(after[streams.BACKFILL], 0, share=self._share)
                if parts:
                    return streams.BACKFILL, parts
            parts = await live.read(after[streams.LIVE], 0)
            if parts:
                self._is_next = True
                return streams.LIVE, parts
            self._is_next = False
            parts = await backfill.read(after[streams.BACKFILL], 0)
            if parts or not block_ms:
                return streams.BACKFILL, parts
            await live.wait(after, block_ms)
            block_ms = 0

    def keep(self, source: str, rest: list[ShardEntries]) -> None:
        """Give the next read of a source what this one could not use."""
        self._readers[source].keep(rest)
