"""The labels role against labelers on real websockets and real stores: which rows there are."""

from __future__ import annotations

import asyncio
import random

from engine import simulate
from engine.simulate.keys import Key
from tests.fix_labels import CID, LABELS, POST, World, at_work, did, holds, key, settings_for


async def test_labels_become_rows_verbatim(database: str, redis_url: str) -> None:
    world = World()
    world.say(
        world.label("did:plc:alice", cts="2025-06-08T20:34:56.1234567+02:00"),
        world.label(POST, exp="2025-06-01T00:00:00Z"),
        world.label(POST, cid=CID),
        world.label(POST, "!hide", neg=True),
    )
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.until_rows(world.expected)
        assert server.labelers[did(0)].cursors == [0]
        assert await work.outcomes() == {"applied": 4}
        assert await work.received() == 4


async def test_a_negation_touches_its_own_cid_only(database: str, redis_url: str) -> None:
    world = World()
    world.say(world.label(POST), world.label(POST, cid=CID))
    world.say(world.label(POST, cid=CID, neg=True))
    world.say(
        world.label(POST, "porn"), world.label(POST, "porn", neg=True), world.label(POST, "porn")
    )
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.until_seq(3)
        assert await work.rows() == world.expected
    assert {name[2]: row[0] for name, row in world.expected.items() if name[3] == "spam"} == {
        "": False,
        CID: True,
    }


async def test_the_later_label_wins_whatever_its_time(database: str, redis_url: str) -> None:
    world = World()
    world.say(world.label(POST, cts="2025-05-05T00:00:00Z"))
    world.say(world.label(POST, cts="2024-01-01T00:00:00Z", neg=True))
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.until_seq(2)
        assert await work.rows() == world.expected


async def test_a_replay_from_the_beginning_changes_nothing(database: str, redis_url: str) -> None:
    world = World()
    labels = world.fill(20, seed=1)
    async with simulate.serve(world.network) as server:
        settings = settings_for(server, database, redis_url)
        async with at_work(settings) as work:
            await work.until_seq(20)
        feed = server.labelers[did(0)]
        # Were anything of it written again, these rows would come back.
        gone = {name: row for name, row in world.expected.items() if name[3] != "porn"}
        async with at_work(settings) as work:
            await work.conn.execute("DELETE FROM label WHERE val = 'porn'")
            await work.until("a second subscription", holds(lambda: feed.connections == 2))
            await work.redis.set(f"{LABELS}:cursor:{server.url_of(did(0))[7:]}", 0)
            feed.disconnect()

            async def repeated() -> bool:
                return (await work.outcomes()).get("duplicate") == labels

            await work.until("duplicates", repeated)
            assert feed.cursors == [0, 20, 0]
            assert await work.rows() == gone
            assert (await work.outcomes())["applied"] == labels


async def test_a_full_stream_makes_labelers_wait(database: str, redis_url: str) -> None:
    world = World()
    labels = world.fill(200, seed=2, each=10)
    async with simulate.serve(world.network) as server:
        settings = settings_for(server, database, redis_url, high_water_mark=50)
        async with at_work(settings) as work:
            await work.until_seq(200)
            assert await work.rows() == world.expected
            assert (await work.outcomes())["applied"] == labels
            assert work.counters()[0]["backpressure"] >= 1


async def test_a_lost_redis_loses_no_label(database: str, redis_url: str) -> None:
    world = World(2)
    world.fill(60, seed=3)
    dice = random.Random(4)
    async with simulate.serve(world.network) as server:
        for feed in server.labelers.values():
            feed.rate = 60.0
        async with at_work(settings_for(server, database, redis_url)) as work:
            for _ in range(3):
                await asyncio.sleep(dice.random() / 3)
                await work.redis.flushdb()
            for feed in server.labelers.values():
                feed.rate = 0.0
            await work.until_rows(world.expected)

            async def settled() -> bool:
                return sum((await work.outcomes()).values()) == await work.received()

            await work.until("the accounts add up", settled)


def test_keys_of_tests_are_of_both_curves() -> None:
    assert {key(0).algorithm, key(1).algorithm} == {"ES256K", "ES256"}
    assert isinstance(key(0), Key)
