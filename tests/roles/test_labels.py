"""The labels role against labelers that are served on real websockets, and real stores."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from engine import simulate
from engine.ops import label_report
from engine.simulate.feed import message
from engine.simulate.keys import Key
from engine.simulate.network import MemoryFrames
from engine.simulate.repository import Plain
from tests.fix_labels import CID, CTS, LABELS, Work, World, at_work, did, key, settings_for

POST = "at://did:plc:alice/app.bsky.feed.post/1"


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
            await work.until("a second subscription", async_true(lambda: feed.connections == 2))
            await work.redis.set(f"{LABELS}:cursor:{server.url_of(did(0))[7:]}", 0)
            feed.disconnect()

            async def repeated() -> bool:
                return (await work.outcomes()).get("duplicate") == labels

            await work.until("duplicates", repeated)
            assert feed.cursors == [0, 20, 0]
            assert await work.rows() == gone
            assert (await work.outcomes())["applied"] == labels


def async_true(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    """A condition that needs no waiting, for `Work.until`."""

    async def holds() -> bool:
        return condition()

    return holds


async def test_bad_labels_are_dead_letters_and_their_neighbours_rows(
    database: str, redis_url: str
) -> None:
    world = World()
    good = world.label(POST)
    forged = {**world.label("did:plc:bob"), "sig": Plain(bytes(64))}
    unsigned = {name: value for name, value in world.label("did:plc:c").items() if name != "sig"}
    bad = [
        world.label("did:plc:d", cts="2025-06-08 20:34:56 UTC"),
        world.label("not a uri"),
        world.label("did:plc:e", "v" * 129),
        world.label("did:plc:f", ver=2),
        world.label("did:plc:g", exp="2025-02-30T00:00:00Z"),
        world.label("at://did:plc:h/" + "x" * 5000),
        {**world.label("did:plc:i"), "src": "did:plc:somebodyelse"},
    ]
    world.expect(good)
    world.publish(world.labelers[0].message([good, forged, unsigned, *bad]))
    world.publish(b"\xffgarbage")
    world.say(world.label("did:plc:last"))
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.until_rows(world.expected)
        letters = await work.letters()
        reasons = [letter["reason"] for letter in letters]
        assert reasons.count("bad_signature") == 2
        assert reasons.count("bad_field") == 6
        assert reasons.count("foreign_source") == 1
        assert reasons.count("bad_header") == 1
        assert {letter["source"] for letter in letters} == {LABELS}
        assert letters[0]["raw"]
        assert letters[0]["path"] == "did:plc:bob"
        outcomes = await work.outcomes()
        assert sum(outcomes.values()) == await work.received() == 12
        assert len(letters) == 10


@pytest.mark.parametrize("check", ["count", "off"])
async def test_signatures_need_not_be_enforced(check: str, database: str, redis_url: str) -> None:
    world = World()
    world.say({**world.label(POST), "sig": Plain(bytes(64))})
    async with simulate.serve(world.network) as server:
        settings = settings_for(server, database, redis_url, signatures=check)
        async with at_work(settings) as work:
            await work.until_rows(world.expected)
            counts = work.counters()[0]["counts"]
            assert counts["unverified"] == (1 if check == "count" else 0)


async def test_a_new_key_is_found_once_and_bad_ones_do_not_flood_the_directory(
    database: str, redis_url: str
) -> None:
    world = World()
    world.say(world.label(POST))
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.until_seq(1)
        world.labelers[0].rotate(key(7))
        world.network.documents[did(0)] = world.labelers[0].document()
        world.say(world.label(POST, "porn"), server=server)
        await work.until_rows(world.expected)
        asked: list[str] = []
        original = server._document

        def counted(name: str) -> Any:
            asked.append(name)
            return original(name)

        server._document = counted  # type: ignore[assignment,method-assign]
        forged = {**world.label("did:plc:bob"), "sig": Plain(bytes(64))}
        for _ in range(20):
            world.publish(world.labelers[0].message([forged]), server=server)
        await work.until_seq(22)
        assert await work.rows() == world.expected
        assert len(await work.letters()) == 20
        assert len(asked) <= 3


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
        settings = settings_for(server, database, redis_url, pong_timeout_seconds=0.6)
        async with at_work(settings) as work:

            async def again() -> bool:
                return dead.connections >= 3

            await work.until("reconnects of the one that answers no ping", again)
            assert quiet.connections == 1


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


async def test_a_host_of_the_settings_carries_whoever_names_it(
    database: str, redis_url: str
) -> None:
    world = World(2)
    world.say(world.label(POST), of=0)
    world.say(world.label(POST, of=1), of=1)
    foreign = world.label("did:plc:bob", of=1)
    world.publish(world.labelers[0].message([foreign]), of=0)
    async with simulate.serve(world.network) as server:
        url = server.url_of(did(0)).replace("http", "ws")
        settings = settings_for(server, database, redis_url, labelers=(url,))
        async with at_work(settings) as work:
            await work.until_seq(2)
            mine = {name: row for name, row in world.expected.items() if name[0] == did(0)}
            assert await work.rows() == mine
            assert [letter["reason"] for letter in await work.letters()] == ["foreign_source"]


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
    insert = (
        'INSERT INTO labeler (uri, cid, creator, "createdAt", "indexedAt") '
        "VALUES ($1, $2, $3, $4, $4)"
    )
    async with simulate.serve(world.network) as server:
        settings = settings_for(server, database, redis_url, labelers=(), discover=True)
        async with at_work(settings_for(server, database, redis_url, labelers=())) as work:
            for number in range(2):
                uri = f"at://{did(number)}/app.bsky.labeler.service/self"
                await work.conn.execute(insert, uri, CID, did(number), CTS)
        async with at_work(settings) as work:
            await work.until_rows(world.expected)


async def test_a_private_address_in_a_document_is_not_connected_to(
    database: str, redis_url: str
) -> None:
    world = World(2)
    world.say(world.label(POST), of=0)
    async with simulate.serve(world.network) as server:
        trusted = server.url_of(did(1)).replace("http", "ws")
        settings = settings_for(
            server, database, redis_url, labelers=(trusted,), allow_private=False
        )
        async with at_work(settings) as work:

            async def connected() -> bool:
                return server.labelers[did(1)].connections == 1

            await work.until("the host that the operator named", connected)
        from engine.adapters.websocket import End, SubscriptionEnded, subscribe

        url = server.url_of(did(0)).replace("http", "ws")
        with pytest.raises(SubscriptionEnded) as caught:
            async with subscribe(url, silence_timeout=5, buffer_bytes=1 << 20, guarded=True):
                pass
        assert caught.value.end == End.CONNECT
        assert server.labelers[did(0)].connections == 0


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


async def test_a_report_says_what_is_known_of_a_subject_and_from_where(
    database: str, redis_url: str
) -> None:
    world = World(2)
    world.say(world.label(POST, cid=CID), of=0)
    world.say(world.label(POST, of=1, neg=True, exp="2100-01-01T00:00:00Z"), of=1)
    world.publish(world.labelers[1].message([world.label(POST, "v" * 129, of=1)]), of=1)
    insert = "INSERT INTO label VALUES ('did:plc:other', $1, '', 'old', false, $2, NULL)"
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.conn.execute(insert, POST, CTS)
        await work.until("a dead letter", work.letters)
        await work.until("all of them", async_rows(work, 3))
        hosts = {did(number): server.url_of(did(number))[7:] for number in range(2)}
        found = await label_report.report(work.conn, "headrace", POST)
    assert [(label.src, label.host, label.neg, label.cid) for label in found.labels] == [
        (did(0), hosts[did(0)], False, CID),
        (did(1), hosts[did(1)], True, None),
        ("did:plc:other", None, False, None),
    ]
    assert [letter.reason for letter in found.dead_letters] == ["bad_field"]
    text = label_report.render_text(found).splitlines()
    assert len(text) == 4
    assert "takes back 'spam' since" in text[1]
    assert "until 2100-01-01T00:00:00Z" in text[1]
    assert "before Headrace came" in text[2]
    assert label_report.render_json(found).startswith(b"{")


def async_rows(work: Work, count: int) -> Callable[[], Awaitable[bool]]:
    """Whether the table has so many rows, for `Work.until`."""

    async def holds() -> bool:
        return len(await work.rows()) == count

    return holds


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
