"""Trimming what is committed, where it matters most: in a Redis that takes nothing more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.adapters import embedded, resp
from engine.core import streams
from engine.errors import StreamsTorn
from engine.roles.indexer.trim import Trimmer

pytestmark = pytest.mark.services

KEYS = streams.Keys("t:")
MARK = b"deployment:epoch"


@pytest.fixture
async def conn(own_valkey: embedded.Valkey) -> AsyncIterator[resp.RespConnection]:
    conn = await resp.RespConnection.open(own_valkey.url)
    yield conn
    conn.close()
    await conn.wait_closed()


async def fill(conn: resp.RespConnection, shard: int, count: int) -> str:
    """Append entries of one event and 1000 bytes; the id of the last."""
    await conn.command("SET", KEYS.epoch, MARK)
    await conn.command("HINCRBY", KEYS.events(streams.LIVE), shard, count)
    await conn.command("HINCRBY", KEYS.bytes(streams.LIVE), shard, 1000 * count)
    last = b""
    for _ in range(count):
        last = await conn.command(
            "XADD", KEYS.stream(streams.LIVE, shard), "*", "event", "x" * 1000
        )
    return last.decode()


async def facts(conn: resp.RespConnection, shard: int) -> tuple[int, int, int]:
    """Entries, events and bytes of one shard."""
    return (
        await conn.command("XLEN", KEYS.stream(streams.LIVE, shard)),
        int(await conn.command("HGET", KEYS.events(streams.LIVE), shard)),
        int(await conn.command("HGET", KEYS.bytes(streams.LIVE), shard)),
    )


def committed(**boundaries: str) -> Trimmer:
    trimmer = Trimmer(KEYS, streams.LIVE, 0, 0)
    for shard, entry_id in boundaries.items():
        trimmer.committed(int(shard.removeprefix("s")), entry_id, 10, 10_000, 0.0)
    trimmer.observe(0, 5)
    trimmer.observe(5, 5)
    return trimmer


async def test_trimming_frees_a_redis_at_its_memory_limit(conn: resp.RespConnection) -> None:
    trimmer = committed(s3=await fill(conn, 3, 10), s4=await fill(conn, 4, 10))
    await fill(conn, 4, 5)
    await conn.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(resp.ReplyError, match="OOM"):
        await conn.command("HINCRBY", KEYS.events(streams.LIVE), 3, 1)
    assert await trimmer.trim(conn, MARK, 1.0) == 20
    assert await facts(conn, 3) == (0, 0, 0)
    assert await facts(conn, 4) == (5, 5, 5000)


async def test_streams_of_another_epoch_are_left_alone(conn: resp.RespConnection) -> None:
    trimmer = committed(s3=await fill(conn, 3, 10))
    await conn.command("SET", KEYS.epoch, "deployment:later")
    with pytest.raises(StreamsTorn):
        await trimmer.trim(conn, MARK, 1.0)
    assert await facts(conn, 3) == (10, 10, 10_000)
