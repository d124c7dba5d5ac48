"""Labelers that move, fail, fall silent or count anew; and how they are found."""

from __future__ import annotations

import msgspec
import pytest

from engine import simulate
from engine.roles.labels import role
from engine.simulate.feed import message
from engine.simulate.network import MemoryFrames
from tests.fix_labels import CID, CTS, POST, World, at_work, did, holds, settings_for

DECLARE = (
    'INSERT INTO labeler (uri, cid, creator, "createdAt", "indexedAt") VALUES ($1, $2, $3, $4, $4)'
)


async def test_one_bad_labeler_disturbs_no_other(database: str, redis_url: str) -> None:
    world = World(3)
    for number in range(5):
        world.say(world.label(f"did:plc:{number}", of=0), of=0)
        world.publish(b"\xff" * 100, of=1)
        world.say(world.label(f"did:plc:{number}", of=2), of=2)
    async with simulate.serve(world.network) as server:
        broken = server.labelers[did(1)]
        broken.greetings = [message(-1, None, {"error": "Broken"}) for _ in range(100)]
        nobody = "did:plc:nobodyatall"
        settings = settings_for(server, database, redis_url, labelers=(nobody, *server.labelers))
        async with at_work(settings) as work:
            await work.until_rows(world.expected)
            assert server.labelers[did(0)].connections == 1
            assert server.labelers[did(2)].connections == 1

            async def refused() -> bool:
                return any(c["reconnects"]["error_frame"] >= 2 for c in work.counters())

            await work.until("error frames", refused)
            assert sum(c["notices"].get("Broken", 0) for c in work.counters()) >= 2


async def test_a_labeler_that_counts_anew_is_read_from_the_beginning(
    database: str, redis_url: str
) -> None:
    world = World()
    world.say(world.label(POST), world.label(POST, "old", cts="2025-01-05T00:00:00Z"))
    world.say(world.label(POST, "porn"))
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.until_seq(2)
        feed = server.labelers[did(0)]
        world.labelers[0].seq = 0
        feed.frames = world.network.labels[did(0)] = MemoryFrames()
        # Said by another stream of the same labeler: the later time wins, not the order.
        older = world.label(POST, "old", neg=True, cts="2025-01-04T23:59:59Z")
        later = world.label(POST, neg=True, cts="2025-01-01T01:00:00.001+01:00")
        world.expect(later)
        world.publish(world.labelers[0].message([older, later]))
        feed.disconnect()
        await work.until_rows(world.expected)
        assert (await work.outcomes())["no_effect:older"] == 1
        generation = await work.conn.fetchval("SELECT max(generation) FROM headrace.label_position")
        assert generation == 2
        # Within the new stream the order decides again.
        world.say(world.label(POST, cts="2024-01-01T00:00:00Z"), server=server)
        await work.until_rows(world.expected)


async def test_labels_that_were_there_before_us_give_way_to_later_ones(
    database: str, redis_url: str
) -> None:
    world = World()
    insert = "INSERT INTO label VALUES ($1, $2, '', $3, false, $4, NULL)"
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        for val, cts in (("spam", "2025-03-01T00:00:00Z"), ("porn", "2024-03-01T00:00:00Z")):
            await work.conn.execute(insert, did(0), POST, val, cts)
        later = {"src": did(0), "uri": POST, "val": "spam", "cts": "2025-03-01T00:00:00Z"}
        world.expect(later)
        world.publish(world.labelers[0].message([world.label(POST, neg=True)]), server=server)
        world.say(world.label(POST, "porn", neg=True), server=server)
        await work.until_rows(world.expected)
        assert (await work.outcomes())["no_effect:older"] == 1


async def test_frames_that_a_labeler_no_longer_has_are_written_down(
    database: str, redis_url: str
) -> None:
    world = World()
    world.say(world.label(POST))
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.until_seq(1)
        feed = server.labelers[did(0)]
        feed.hold_at = 1
        for number in range(4):
            world.publish(world.labelers[0].message([world.label(f"did:plc:{number}")]))
        feed.oldest_seq = 5
        feed.hold_at = None
        feed.disconnect()
        await work.until_seq(5)
        gap = await work.conn.fetchrow("SELECT * FROM headrace.label_gap")
        assert gap is not None
        assert (gap["after_seq"], gap["before_seq"]) == (1, 5)
        assert work.counters()[0]["notices"] == {"OutdatedCursor": 1}


async def test_a_quiet_labeler_stays_connected_and_a_dead_one_does_not(
    database: str, redis_url: str
) -> None:
    world = World(2)
    async with simulate.serve(world.network) as server:
        dead, quiet = server.labelers[did(0)], server.labelers[did(1)]
        dead.mute = True
        settings = settings_for(server, database, redis_url, pong_timeout_seconds=1.5)
        async with at_work(settings) as work:

            async def again() -> bool:
                return dead.connections >= 2

            await work.until("a reconnect of the one that answers no ping", again)
            assert quiet.connections == 1


async def test_two_labelers_of_one_host_share_a_stream(database: str, redis_url: str) -> None:
    world = World(2)
    world.say(world.label(POST), of=0)
    async with simulate.serve(world.network, host="127.0.0.1") as server:
        # Both documents name the first one's address; its stream carries both.
        server.addresses[did(1)] = server.addresses[did(0)]
        other = world.label(POST, of=1)
        world.expect(other)
        world.publish(world.labelers[0].message([other]), of=0, server=server)
        async with at_work(settings_for(server, database, redis_url)) as work:
            await work.until_rows(world.expected)
            assert len(work.counters()) == 1


async def test_labelers_that_declare_themselves_are_found(database: str, redis_url: str) -> None:
    world = World(2)
    world.say(world.label(POST), of=0)
    world.say(world.label(POST, of=1), of=1)
    async with simulate.serve(world.network) as server:
        settings = settings_for(server, database, redis_url, labelers=(), discover=True)
        async with at_work(settings_for(server, database, redis_url, labelers=())) as work:
            for number in range(2):
                uri = f"at://{did(number)}/app.bsky.labeler.service/self"
                await work.conn.execute(DECLARE, uri, CID, did(number), CTS)
        async with at_work(settings) as work:
            await work.until_rows(world.expected)


async def test_labelers_are_found_through_a_mirror(database: str, redis_url: str) -> None:
    world = World()
    world.say(world.label(POST))
    async with simulate.serve(world.network) as server:
        settings = settings_for(server, database, redis_url)
        away = msgspec.structs.replace(
            settings, plc_url="http://127.0.0.1:1", plc_mirrors=(settings.plc_url,)
        )
        async with at_work(away) as work:
            await work.until_rows(world.expected)


async def test_a_labeler_that_comes_to_a_host_has_what_was_said_before_read_again(
    database: str, redis_url: str
) -> None:
    world = World(2)
    world.say(world.label(POST), of=0)
    other = world.label(POST, of=1)
    world.publish(world.labelers[0].message([other]), of=0)
    async with simulate.serve(world.network) as server:
        server.addresses[did(1)] = server.addresses[did(0)]
        settings = settings_for(server, database, redis_url, labelers=(did(0),))
        async with at_work(settings) as work:
            await work.until_seq(2)
            assert await work.rows() == world.expected  # the other one's are foreign
        world.expect(other)
        async with at_work(settings_for(server, database, redis_url)) as work:
            await work.until_rows(world.expected)
        # It is known by now: nothing is read again.
        async with at_work(settings_for(server, database, redis_url)) as work:
            await work.until(
                "both are placed",
                holds(
                    lambda: (
                        work.role.report()["unplaced"] == 0
                        and any(each["connected"] for each in work.counters())
                    )
                ),
            )
            generations = "SELECT array_agg(generation) FROM headrace.label_position"
            assert sorted(await work.conn.fetchval(generations)) == [1, 2]


async def test_a_labeler_that_declares_itself_at_a_quiet_host_is_read_at_once(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "DISCOVER_SECONDS", 0.1)
    world = World(2)
    world.say(world.label(POST), of=0)
    other = world.label(POST, of=1)
    world.publish(world.labelers[0].message([other]), of=0)
    async with simulate.serve(world.network) as server:
        server.addresses[did(1)] = server.addresses[did(0)]
        settings = settings_for(server, database, redis_url, labelers=(did(0),), discover=True)
        async with at_work(settings) as work:
            await work.until_seq(2)
            uri = f"at://{did(1)}/app.bsky.labeler.service/self"
            await work.conn.execute(DECLARE, uri, CID, did(1), CTS)
            world.expect(other)
            await work.until_rows(world.expected)


async def test_history_that_is_gone_at_the_first_look_is_written_down(
    database: str, redis_url: str
) -> None:
    world = World()
    for number in range(4):
        world.publish(world.labelers[0].message([world.label(f"did:plc:{number}")]))
    async with simulate.serve(world.network) as server:
        server.labelers[did(0)].oldest_seq = 3
        async with at_work(settings_for(server, database, redis_url)) as work:
            await work.until_seq(4)
            gap = await work.conn.fetchrow("SELECT * FROM headrace.label_gap")
            assert gap is not None
            assert (gap["after_seq"], gap["before_seq"]) == (0, 3)


async def test_a_labeler_that_moves_is_read_at_its_new_host(database: str, redis_url: str) -> None:
    world = World(2)
    world.say(world.label(POST), of=0)
    async with simulate.serve(world.network) as server:
        settings = settings_for(server, database, redis_url, labelers=(did(0),))
        async with at_work(settings) as work:
            await work.until_rows(world.expected)
            # Its stream goes on at the second address, which is another one to us.
            server.addresses[did(0)] = server.addresses[did(1)]
            server.labelers[did(0)].disconnect()
            host = server.url_of(did(1))[7:]
            await work.until_seq(1, host)
            world.say(world.label(POST, neg=True), server=server)
            await work.until_rows(world.expected)
            # The old host is nobody's any more, so nobody waits for it.
            assert [each["connected"] for each in work.counters()] == [True]
            assert work.role.report()["unplaced"] == 0
