"""What a relay says besides events, and where reading begins."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from engine.core import streams
from engine.roles.firehose import FirehoseRole
from tests import fix_relay
from tests.fix_ingest import KEYS, Ingest, until
from tests.fix_relay import Relay

pytestmark = pytest.mark.services


async def rows(ingest: Ingest, query: str) -> list[asyncpg.Record]:
    async with ingest.db() as db:
        found: list[asyncpg.Record] = await db.fetch(query)
        return found


async def relay_row(ingest: Ingest) -> tuple[Any, ...]:
    (row,) = await rows(ingest, "SELECT generation, first_seq FROM headrace.relay")
    return tuple(row)


async def gaps(ingest: Ingest) -> list[tuple[Any, ...]]:
    query = "SELECT generation, after_seq, before_seq, reason FROM headrace.relay_gap ORDER BY id"
    return [tuple(row) for row in await rows(ingest, query)]


async def wait(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
    await asyncio.Event().wait()


async def test_oldest_asks_for_cursor_zero_and_writes_the_relay_down(ingest: Ingest) -> None:
    ingest.relay.fill(5)
    async with ingest.running():
        await ingest.reached(5)
    assert ingest.relay.cursors == [0]
    assert await relay_row(ingest) == (1, 0)


async def test_seq_asks_for_what_follows_it(ingest: Ingest) -> None:
    ingest.variables["INGESTER_INITIAL_CURSOR"] = "30"
    ingest.relay.fill(50)
    async with ingest.running():
        await ingest.reached(50)
    assert ingest.relay.cursors == [30]
    assert await relay_row(ingest) == (1, 30)
    assert sorted(filter(None, await ingest.seqs())) == list(range(31, 51))


async def test_live_asks_without_a_cursor_and_writes_down_where_it_began(ingest: Ingest) -> None:
    ingest.variables["INGESTER_INITIAL_CURSOR"] = "live"
    ingest.relay.fill(50)
    async with ingest.running():
        await until(lambda: ingest.relay.connected == 1)
        assert await rows(ingest, "SELECT FROM headrace.relay") == []
        ingest.relay.fill(10)
        await ingest.relay.tell()
        await ingest.reached(60)
    assert ingest.relay.cursors == [None]
    assert await relay_row(ingest) == (1, 50)
    assert sorted(filter(None, await ingest.seqs())) == list(range(51, 61))
    ingest.relay.fill(10)
    async with ingest.running():
        await ingest.reached(70)
    assert ingest.relay.cursors == [None, 60]


async def test_live_start_keeps_garbage_that_comes_first(ingest: Ingest) -> None:
    ingest.variables["INGESTER_INITIAL_CURSOR"] = "live"

    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        await relay.send(ws, b"garbage")
        await asyncio.sleep(0.3)
        await relay.send(ws, fix_relay.identity(100, fix_relay.did(1)))
        await asyncio.Event().wait()

    ingest.relay.scripts.append(script)
    async with ingest.running():
        await ingest.reached(100)
    kinds = sorted(type(entry).__name__ for shard in await ingest.shards() for entry in shard)
    assert kinds == ["Identity", "RejectedFrame"]
    assert await relay_row(ingest) == (1, 99)


@pytest.mark.parametrize("scheme", ["", "https://", "wss://"])
async def test_cursor_of_a_predecessor_is_adopted(ingest: Ingest, scheme: str) -> None:
    ingest.relay.fill(50)
    async with ingest.redis() as client:
        await client.set(f"firehose_live:cursor:{scheme}{ingest.relay.host}", 20)
    async with ingest.running():
        await ingest.reached(50)
    assert ingest.relay.cursors == [20]
    assert await relay_row(ingest) == (1, 20)


async def test_cursor_that_is_no_seq_is_not_adopted(ingest: Ingest) -> None:
    ingest.relay.fill(5)
    async with ingest.redis() as client:
        await client.set(f"firehose_live:cursor:{ingest.relay.host}", "!done")
    async with ingest.running():
        await ingest.reached(5)
    assert ingest.relay.cursors == [0]


async def test_a_seq_far_too_high_does_not_hide_what_follows(ingest: Ingest) -> None:
    """Frames below it would be taken for repetitions for as long as the connection lives."""
    ingest.relay.fill(400)

    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        await relay.send(ws, fix_relay.identity(1 << 50, fix_relay.did(1)))
        await ingest.reached(1 << 50)
        for _, data in relay.log:
            await relay.send(ws, data)
        await asyncio.Event().wait()

    refusal = fix_relay.first(fix_relay.error("FutureCursor"), close=True)
    ingest.relay.scripts += [script, refusal]
    async with ingest.running():
        await until(lambda: len(ingest.relay.cursors) == 3)
        await ingest.reached(400)
    assert ingest.relay.cursors == [0, 1 << 50, 0]
    assert await relay_row(ingest) == (2, 0)
    assert await gaps(ingest) == [(1, 1 << 50, None, "FutureCursor")]
    entries = [entry for shard in await ingest.shards() for entry in shard]
    again = {entry.seq for entry in entries if entry.generation == 2}
    assert again == set(range(1, 401))


async def test_cursor_in_the_future_begins_a_generation(ingest: Ingest) -> None:
    ingest.relay.fill(500)
    async with ingest.running():
        await ingest.reached(500)
    ingest.relay.log = [(seq, data) for seq, data in ingest.relay.log if seq <= 60]
    ingest.relay.scripts.append(fix_relay.first(fix_relay.error("FutureCursor"), close=True))
    async with ingest.running() as role:
        await ingest.reached(60)
        (counters,) = role._counters.values()
        assert counters.notices["FutureCursor"] == 1
        assert counters.reconnects["new_generation"] == 1
        assert counters.generation == 2
    assert ingest.relay.cursors == [0, 500, 0]
    assert await relay_row(ingest) == (2, 0)
    assert await gaps(ingest) == [(1, 500, None, "FutureCursor")]
    second = [e for shard in await ingest.shards() for e in shard if e.generation == 2]
    assert sorted(e.seq for e in second if e.seq) == list(range(1, 61))
    async with ingest.redis() as client:
        received = await client.hgetall(KEYS.received(streams.LIVE, ingest.relay.host))
    assert received == {b"1": b"500", b"2": b"60"}


async def test_future_cursor_at_zero_makes_no_generation(ingest: Ingest) -> None:
    ingest.relay.fill(10)
    ingest.relay.scripts += [fix_relay.first(fix_relay.error("FutureCursor"), close=True)] * 2
    async with ingest.running():
        await ingest.reached(10)
    assert await relay_row(ingest) == (1, 0)
    assert await gaps(ingest) == []


async def test_relay_that_counts_anew_without_a_word_begins_a_generation(ingest: Ingest) -> None:
    ingest.relay.fill(2000)
    async with ingest.running():
        await ingest.reached(2000)
    ingest.relay.log = [(seq, data) for seq, data in ingest.relay.log if seq <= 400]

    async def ignoring(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        await relay.serve(ws, 0)

    ingest.relay.scripts.append(ignoring)
    async with ingest.running():
        await ingest.reached(400)
    assert ingest.relay.cursors == [0, 2000, 0]
    assert await gaps(ingest) == [(1, 2000, None, "SequenceReset")]


async def test_outdated_cursor_is_a_gap_with_both_ends(ingest: Ingest) -> None:
    ingest.relay.fill(100)
    async with ingest.running():
        await ingest.reached(100)
    for seq in range(500, 520):
        ingest.relay.add(seq, fix_relay.did(seq % 3))
    ingest.relay.scripts += [fix_relay.first(fix_relay.info("OutdatedCursor"))] * 2
    async with ingest.running() as role:
        await ingest.reached(519)
        (counters,) = role._counters.values()
        assert counters.notices["OutdatedCursor"] == 1
    assert await gaps(ingest) == [(1, 100, 500, "OutdatedCursor")]


async def test_outdated_cursor_zero_is_no_gap(ingest: Ingest) -> None:
    ingest.relay.add(77, fix_relay.did(1))
    ingest.relay.scripts.append(fix_relay.first(fix_relay.info("OutdatedCursor")))
    async with ingest.running():
        await ingest.reached(77)
    assert await gaps(ingest) == []


async def test_gap_is_written_once_however_often_we_come_back(ingest: Ingest) -> None:
    ingest.relay.fill(10)
    async with ingest.running():
        await ingest.reached(10)
    ingest.relay.add(50, fix_relay.did(1))
    info = fix_relay.info("OutdatedCursor")
    ingest.relay.scripts += [
        fix_relay.first(info, close=True),  # the far end was not seen yet
        fix_relay.first(info, then=wait),
    ]
    async with ingest.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: counters.notices["OutdatedCursor"] == 2)
        assert await gaps(ingest) == []
    ingest.relay.scripts.append(fix_relay.first(info))
    async with ingest.running():
        await ingest.reached(50)
    assert await gaps(ingest) == [(1, 10, 50, "OutdatedCursor")]


@pytest.mark.parametrize("name", ["ConsumerTooSlow", "NewKindOfTrouble"])
async def test_error_frame_is_counted_and_what_came_before_it_kept(
    ingest: Ingest, name: str
) -> None:
    ingest.relay.fill(100)
    some = [data for _, data in ingest.relay.log[:40]]
    ingest.relay.scripts.append(fix_relay.first(*some, fix_relay.error(name), close=True))
    async with ingest.running() as role:
        await ingest.reached(100)
        (counters,) = role._counters.values()
        assert counters.notices[name] == 1
        assert counters.reconnects["error_frame"] == 1
    assert ingest.relay.cursors == [0, 40]
    await ingest.assert_exactly_the_log()


async def test_relay_away_is_tried_again_with_growing_pauses(ingest: Ingest) -> None:
    ingest.relay.url = "ws://127.0.0.1:1"
    async with ingest.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: counters.reconnects["connect"] == 3)
        assert role.report()["state"] in (
            "waiting to reconnect",
            "connecting",
            "waiting for stores",
        )
        assert not counters.connected


async def test_bsky_network_is_warned_of(ingest: Ingest, caplog: pytest.LogCaptureFixture) -> None:
    ingest.relay.url = "ws://bsky.network:1"
    role = FirehoseRole("firehose", ingest.settings())
    role._relays = {"bsky.network": "ws://127.0.0.1:1"}
    role._counters = {"bsky.network": next(iter(role._counters.values()))}
    stop = asyncio.Event()
    stop.set()
    await role.run(stop)
    (line,) = [r.getMessage() for r in caplog.records if "bsky.network" in r.getMessage()][:1]
    assert "relay1.us-east.bsky.network" in line
    assert "relay1.us-west.bsky.network" in line
