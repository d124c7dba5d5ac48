"""Live entries first: when slices get a batch, and how much of it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from engine.core import streams
from engine.roles.indexer.reader import ShardEntries
from engine.roles.indexer.turns import Turns

AFTER = {streams.LIVE: {0: "0-0"}, streams.BACKFILL: {0: "0-0"}}


class Readers:
    """Stands for a source's reader: so many batches wait."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.lag_seconds = 0.0
        self.shares: list[float] = []
        self.waits = 0
        self.arriving = 0

    async def read(
        self, after: dict[int, str], block_ms: int, *, share: float = 1.0
    ) -> list[ShardEntries]:
        assert block_ms == 0
        assert after == {0: "0-0"}
        if not self.batches:
            return []
        self.batches -= 1
        self.shares.append(share)
        return [ShardEntries(0, [b"1-1"], [b"x"])]

    async def wait(self, after: dict[str, dict[int, str]], block_ms: int) -> None:
        assert (after, block_ms) == (AFTER, 250)
        self.waits += 1
        self.batches, self.arriving = self.arriving, 0


async def order(live: Readers, backfill: Readers, count: int) -> list[str]:
    turns = Turns(cast("Any", live), cast("Any", backfill), 0.25)
    read = [await turns.read(AFTER, 250) for _ in range(count)]
    return [source if parts else "nothing" for source, parts in read]


async def test_they_take_turns_and_slices_have_their_share() -> None:
    live, backfill = Readers(3), Readers(2)
    expected = [streams.LIVE, streams.BACKFILL] * 2 + [streams.LIVE]
    assert await order(live, backfill, 5) == expected
    assert (live.shares, backfill.shares) == ([1.0] * 3, [0.25] * 2)


async def test_slices_get_everything_where_nothing_else_waits() -> None:
    live, backfill = Readers(0), Readers(3)
    assert await order(live, backfill, 3) == [streams.BACKFILL] * 3
    assert backfill.shares == [1.0] * 3
    assert live.waits == 0


@pytest.mark.parametrize(("lag_seconds", "slices"), [(1.0, 3), (1.01, 0)])
async def test_slices_get_nothing_while_live_entries_wait_too_long(
    lag_seconds: float, slices: int
) -> None:
    live, backfill = Readers(9), Readers(9)
    live.lag_seconds = lag_seconds
    assert (await order(live, backfill, 6)).count(streams.BACKFILL) == slices


async def test_whatever_comes_first_ends_the_wait() -> None:
    live, backfill = Readers(0), Readers(0)
    live.arriving = 1
    assert await order(live, backfill, 2) == [streams.LIVE, "nothing"]
    assert live.waits == 2


async def test_an_owner_of_nothing_reads_nothing() -> None:
    nothing: dict[str, dict[int, str]] = {streams.LIVE: {}, streams.BACKFILL: {}}
    turns = Turns(cast("Any", Readers(1)), cast("Any", Readers(1)), 0.5)
    assert await turns.read(nothing, 1) == (streams.LIVE, [])
