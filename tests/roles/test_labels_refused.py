"""Labels, signatures and hosts that the labels role does not believe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine import simulate
from engine.adapters.websocket import End, SubscriptionEnded, subscribe
from engine.simulate.repository import Plain
from tests.fix_labels import LABELS, POST, Work, World, at_work, did, key, settings_for


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
        url = server.url_of(did(0)).replace("http", "ws")
        with pytest.raises(SubscriptionEnded) as caught:
            async with subscribe(url, silence_timeout=5, buffer_bytes=1 << 20, guarded=True):
                pass
        assert caught.value.end == End.CONNECT
        assert server.labelers[did(0)].connections == 0


async def test_dead_letters_of_a_labeler_are_limited_and_the_rest_is_counted(
    database: str, redis_url: str
) -> None:
    world = World(2)
    for number in range(6):
        bad = [world.label(f"not a uri {number}") for _ in range(5)]
        world.publish(world.labelers[0].message(bad))
        world.say(world.label(f"did:plc:{number}"))
    world.publish(world.labelers[1].message([world.label("no uri", of=1)]), of=1)
    async with simulate.serve(world.network) as server:
        settings = settings_for(server, database, redis_url, dead_letters=12)
        left = "SELECT sum(letters_left_out)::int FROM headrace.label_position"
        async with at_work(settings) as work:
            await work.until_seq(12, server.url_of(did(0))[7:])
            await work.until("the other one's", async_letters(work, 13))
            assert await work.rows() == world.expected
            assert await work.conn.fetchval(left) == 18
            assert (await work.outcomes())["rejected:bad_field"] == 31
            # What is deleted makes room.
            await work.conn.execute("DELETE FROM headrace.dead_letter WHERE path < 'not a uri 1'")
            world.publish(world.labelers[0].message([world.label("not a uri")] * 9), server=server)
            await work.until_seq(13, server.url_of(did(0))[7:])
            assert await work.conn.fetchval(left) == 18 + 9 - 5


def async_letters(work: Work, count: int) -> Callable[[], Awaitable[bool]]:
    """Whether there are so many dead letters, for `Work.until`."""

    async def holds() -> bool:
        return len(await work.letters()) == count

    return holds
