"""How much the indexer reads at once, from real streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.adapters import resp
from engine.core import streams
from engine.roles.indexer.reader import Reader

KEYS = streams.Keys("r:")
MARK = b"deployment:epoch"
ENTRIES = 50


@pytest.fixture
async def conn(redis_url: str) -> AsyncIterator[resp.RespConnection]:
    """Two shards with entries of 100 bytes."""
    made = await resp.RespConnection.open(redis_url)
    await made.command("SET", KEYS.epoch, MARK)
    for shard in (0, 1):
        for _ in range(ENTRIES):
            await made.command("XADD", KEYS.stream(streams.LIVE, shard), "*", "event", "x" * 100)
    yield made
    made.close()
    await made.wait_closed()


@pytest.mark.parametrize(
    ("batch_size", "a_shard"), [(10, 5), (11, 5), (2, 1), (1, 1), (1_000_000, ENTRIES)]
)
async def test_batch_size_is_shared_by_the_shards_and_none_is_left_out(
    conn: resp.RespConnection, batch_size: int, a_shard: int
) -> None:
    reader = Reader(conn, KEYS, streams.LIVE, MARK, batch_bytes=1 << 20, batch_size=batch_size)
    after = {0: "0-0", 1: "0-0"}
    seen = {0: 0, 1: 0}
    while batch := await reader.read(after, block_ms=10):
        assert {part.shard: len(part.entries) for part in batch} == {0: a_shard, 1: a_shard}
        for part in batch:
            after[part.shard] = part.last_id
            seen[part.shard] += len(part.entries)
    assert seen == {0: ENTRIES, 1: ENTRIES}
