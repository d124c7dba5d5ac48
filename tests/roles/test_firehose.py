"""What reaches the streams: everything, once, in order, whatever the relay does."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from aiohttp import web

from engine.core import streams, wire
from engine.runtime.worker import ROLE_STOP_SECONDS
from tests import fix_relay
from tests.fix_ingest import KEYS, SHARDS, Ingest, until
from tests.fix_relay import Relay

pytestmark = pytest.mark.services


async def test_all_frames_arrive_once_in_order_of_their_shard(ingest: Ingest) -> None:
    ingest.relay.fill(5000)
    async with ingest.running() as role:
        await ingest.reached(5000)
        await ingest.assert_exactly_the_log()
        assert ingest.relay.cursors == [0]
        (said,) = json.loads(json.dumps(role.report()))["relays"].values()
        assert (said["received_seq"], said["ops"], said["connected"]) == (5000, 5000, True)
        assert said["generation"] == 1
        assert 0 <= said["last_frame_age"] < 15
        assert said["last_time"].startswith("2026-")
        assert said["counts"]["identity"] == 5000


async def test_frames_that_come_later_are_appended_as_they_come(ingest: Ingest) -> None:
    ingest.relay.fill(10)
    async with ingest.running():
        await ingest.reached(10)
        for step in range(1, 6):
            ingest.relay.fill(1)
            await ingest.relay.tell()
            await ingest.reached(10 + step)
        await ingest.assert_exactly_the_log()


async def test_restarted_process_goes_on_at_the_cursor(ingest: Ingest) -> None:
    ingest.relay.fill(300)
    async with ingest.running():
        await ingest.reached(300)
    ingest.relay.fill(200)
    async with ingest.running():
        await ingest.reached(500)
    assert ingest.relay.cursors == [0, 300]
    await ingest.assert_exactly_the_log()


@pytest.mark.parametrize("abruptly", [False, True])
async def test_closed_connection_goes_on_at_the_cursor(ingest: Ingest, abruptly: bool) -> None:
    ingest.relay.fill(1000)
    ingest.relay.scripts += [fix_relay.close_after(137, abruptly=abruptly)] * 3
    async with ingest.running() as role:
        await ingest.reached(1000)
        (said,) = role.report()["relays"].values()  # type: ignore[attr-defined]
        assert said["reconnects"]["lost" if abruptly else "closed"] == 3
    await ingest.assert_exactly_the_log()
    assert len(ingest.relay.cursors) == 4
    assert ingest.relay.cursors == sorted(c for c in ingest.relay.cursors if c is not None)


async def test_stalled_relay_is_left_and_read_again(ingest: Ingest) -> None:
    ingest.variables["INGESTER_SILENCE_TIMEOUT_SECONDS"] = "0.5"
    ingest.relay.fill(500)
    ingest.relay.scripts += [fix_relay.stall_after(100)] * 2
    async with ingest.running() as role:
        await ingest.reached(500)
        (said,) = role.report()["relays"].values()  # type: ignore[attr-defined]
        assert said["reconnects"]["silent"] >= 2
    await ingest.assert_exactly_the_log()


async def test_repeated_frames_are_passed_on_and_the_cursor_stays(ingest: Ingest) -> None:
    ingest.relay.fill(200)
    ingest.relay.scripts += [fix_relay.close_after(200), fix_relay.repeat(50)]
    async with ingest.running() as role:
        await ingest.reached(200)
        await until(lambda: len(ingest.relay.cursors) == 2)
        (counters,) = role._counters.values()
        await until(lambda: counters.ops == 250)
        assert await ingest.cursor() == 200
        assert counters.backwards >= 1
        ingest.relay.fill(1)
        await ingest.relay.tell()
        await ingest.reached(201)
    seqs = await ingest.seqs()
    assert [seqs[seq] for seq in (150, 151, 200, 201)] == [1, 2, 2, 1]


async def test_skipped_seqs_are_no_reason_to_stop(ingest: Ingest) -> None:
    for seq in range(1, 2000, 7):
        ingest.relay.add(seq, fix_relay.did(seq % 5))
    async with ingest.running():
        await ingest.reached(1996)
    await ingest.assert_exactly_the_log()


async def test_garbage_costs_itself_alone(ingest: Ingest) -> None:
    ingest.relay.fill(20)
    bad = [b"", b"\xff", b"garbage", fix_relay.frame({"op": 1, "t": "#identity"}, {"did": 3})]
    good = [data for _, data in ingest.relay.log]
    mixed: list[bytes | str] = ["text"]
    for number, data in enumerate(good):
        mixed += [data, bad[number % len(bad)]]

    async def wait(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        await asyncio.Event().wait()

    ingest.relay.scripts.append(fix_relay.first(*mixed, then=wait))
    async with ingest.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: counters.ops == 40)
        assert counters.text_frames == 1
        assert sum(counters.rejected.values()) == 20
        assert set(counters.rejected) <= set(map(str, wire.Reason))
    shards = await ingest.shards()
    kinds = [type(entry) for shard in shards for entry in shard]
    assert kinds.count(wire.Identity) == 20
    assert kinds.count(wire.RejectedFrame) == 20
    assert await ingest.cursor() == 20


async def test_unknown_message_types_are_counted_and_passed_over(ingest: Ingest) -> None:
    ingest.relay.fill(3)
    odd = fix_relay.frame({"op": 1, "t": "#new"}, {"seq": 1, "x": 1})
    ingest.relay.scripts.append(fix_relay.first(odd))
    async with ingest.running() as role:
        await ingest.reached(3)
        (counters,) = role._counters.values()
        assert counters.notices["#new"] == 1


async def test_invented_names_do_not_grow_the_report(ingest: Ingest) -> None:
    ingest.relay.fill(3)
    odd = [fix_relay.frame({"op": 1, "t": f"#{n}" + "x" * 9999}, {}) for n in range(500)]
    ingest.relay.scripts.append(fix_relay.first(*odd))
    async with ingest.running() as role:
        await ingest.reached(3)
        assert len(json.dumps(role.report())) < 10_000
        (counters,) = role._counters.values()
        assert counters.notices["other"] >= 400


async def test_several_relays_are_read_at_once_each_with_its_cursor(
    database: str, redis_url: str
) -> None:
    async with fix_relay.running(Relay()) as one, fix_relay.running(Relay()) as two:
        one.fill(700)
        two.fill(400)
        two.log = [
            (seq + 9000, fix_relay.identity(seq + 9000, two.did_of[seq])) for seq, _ in two.log
        ]
        ingest = Ingest(database, redis_url, [one, two], {})
        async with ingest.running() as role:
            await ingest.reached(700, one)
            await ingest.reached(9400, two)
            assert len(role.report()["relays"]) == 2  # type: ignore[arg-type]
        seqs = await ingest.seqs()
    assert len(seqs) == 1100
    assert set(seqs.values()) == {1}
    async with ingest.redis() as client:
        received = [
            await client.hgetall(KEYS.received(streams.LIVE, relay.host)) for relay in (one, two)
        ]
    assert received == [{b"1": b"700"}, {b"1": b"400"}]


async def test_golden_frames_all_become_entries(ingest: Ingest, shared: Path) -> None:
    data = (shared / "golden" / "frames.bin").read_bytes()
    at = 0
    frames = []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        frames.append(data[at + 4 : at + 4 + size])
        at += 4 + size

    async def wait(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        await asyncio.Event().wait()

    ingest.relay.scripts.append(fix_relay.first(*frames, then=wait))
    async with ingest.running():
        await ingest.reached(2184)
    seqs = await ingest.seqs()
    assert len(frames) == 2130
    assert sum(seqs.values()) == len(frames)
    assert set(seqs.values()) == {1}
    ops = sum(
        len(entry.ops) + entry.filtered + len(entry.rejected)
        if isinstance(entry, wire.Commit)
        else 1
        for shard in await ingest.shards()
        for entry in shard
    )
    async with ingest.redis() as client:
        received = await client.hgetall(KEYS.received(streams.LIVE, ingest.relay.host))
    assert received == {b"1": b"%d" % ops}


async def test_stop_under_load_is_quick_and_loses_nothing(ingest: Ingest) -> None:
    ingest.relay.fill(60_000)
    async with ingest.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: counters.ops > 2000)
        started = time.monotonic()
    assert time.monotonic() - started < ROLE_STOP_SECONDS
    assert counters.ops < 60_000
    async with ingest.running():
        await ingest.reached(60_000, seconds=60)
    await ingest.assert_exactly_the_log()


async def test_every_stream_exists_before_anything_is_appended(ingest: Ingest) -> None:
    async with ingest.running(), ingest.redis() as client:
        await until(lambda: ingest.relay.connected == 1)
        names = [KEYS.stream(streams.LIVE, shard) for shard in range(SHARDS)]
        assert await client.exists(*names) == SHARDS
        facts = await client.xinfo_stream(names[0])
        assert (facts["length"], facts["entries-added"], facts["groups"]) == (0, 0, 0)
