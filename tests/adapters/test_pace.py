"""Turns at the directory: one after another, whoever asks, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import redis

from engine import simulate
from engine.adapters import embedded, http, identity, pace
from engine.adapters.identity import DidResolver, DirectoryAway
from engine.core.pacing import PAUSE_SECONDS_MAX
from engine.core.streams import Keys
from engine.errors import StoreUnavailable
from engine.settings import Settings
from engine.simulate import MemoryFrames, Network, Server

URL = "https://plc.test"
ALICE = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


def shared(stack: AsyncExitStack, url: str, per_second: float) -> pace.SharedPace:
    made = pace.SharedPace(url, Keys(), per_second)
    stack.callback(made.close)
    return made


async def take(paces: list[pace.SharedPace], count: int, url: str = URL) -> list[int]:
    """Take so many turns, as fast as they are given; how many each had."""
    had = [0] * len(paces)

    async def taking(which: int) -> None:
        while sum(had) < count:
            wait = await paces[which].take(url)
            if wait:
                await asyncio.sleep(wait)
            else:
                had[which] += 1

    await asyncio.gather(*map(taking, range(len(paces))))
    return had


async def test_processes_take_turns_about(stack: AsyncExitStack, redis_url: str) -> None:
    paces = [shared(stack, redis_url, 200.0) for _ in range(5)]
    began = time.monotonic()
    had = await take(paces, 200)
    assert sum(had) >= 200
    # The turns that were waited for lie one step apart.
    assert time.monotonic() - began >= 0.9 * (sum(had) - 1) / 200.0
    assert min(had) >= 30


async def test_each_directory_has_turns_of_its_own(stack: AsyncExitStack, redis_url: str) -> None:
    ours = shared(stack, redis_url, 0.01)
    assert [await ours.take(url) for url in ("https://a", "https://b", "https://c")] == [0.0] * 3
    assert 50.0 < await ours.take("https://a/") <= 100.0


async def test_a_pause_is_everybodys_and_has_an_end(stack: AsyncExitStack, redis_url: str) -> None:
    one, other = (shared(stack, redis_url, 1000.0) for _ in range(2))
    await one.pause(URL, 1e9)
    await one.pause(URL, 1.0)  # a shorter one changes nothing
    assert PAUSE_SECONDS_MAX / 2 < await other.take(URL) <= PAUSE_SECONDS_MAX
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.pttl(Keys().directory(URL)) <= 2 * PAUSE_SECONDS_MAX * 1000


async def test_a_clock_that_was_set_back_holds_up_nobody(
    stack: AsyncExitStack, redis_url: str
) -> None:
    ours = shared(stack, redis_url, 100.0)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(Keys().directory(URL), "free", int((time.time() + 3600) * 1_000_000))
    assert await ours.take(URL) == 0.0
    assert await ours.take(URL) <= 0.01


async def test_a_pause_takes_the_turn_that_was_booked(
    stack: AsyncExitStack, redis_url: str
) -> None:
    one, other = (shared(stack, redis_url, 0.01) for _ in range(2))
    assert await one.take(URL) == 0.0
    assert 0.0 < await one.take(URL) <= 100.0
    assert await one.take(URL) <= 100.0  # the same
    assert 100.0 < await other.take(URL) <= 200.0
    await other.pause(URL, 150.0)
    assert 200.0 < await one.take(URL) <= 300.0
    assert await other.take(URL) <= 200.0


async def test_a_turn_that_was_missed_is_lost(stack: AsyncExitStack, redis_url: str) -> None:
    one, other = (shared(stack, redis_url, 100.0) for _ in range(2))
    await one.take(URL)
    one._booked[URL] = int((time.time() - 10) * 1_000_000)
    await other.pause(URL, 0.0)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(Keys().directory(URL), "free", int((time.time() + 100) * 1_000_000))
    assert await one.take(URL) > 50.0


async def test_a_full_redis_gives_turns(stack: AsyncExitStack, own_valkey: embedded.Valkey) -> None:
    ours = shared(stack, own_valkey.url, 0.1)
    with redis.Redis.from_url(own_valkey.url) as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("x", "y")
    assert await ours.take(URL) == 0.0
    assert await ours.take(URL) > 0.0


async def test_a_redis_that_was_away_is_connected_to_again_until_we_close(
    stack: AsyncExitStack, redis_url: str
) -> None:
    away = shared(stack, "redis://127.0.0.1:1", 100.0)
    with pytest.raises(StoreUnavailable):
        await away.take(URL)
    ours = shared(stack, redis_url, 100.0)
    assert await ours.take(URL) == 0.0
    assert ours._conn is not None
    ours._conn.close()
    await take([ours], 3)
    ours.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await ours.take(URL)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    document = {"id": ALICE, "service": []}
    async with simulate.serve(Network(MemoryFrames(), documents={ALICE: document})) as made:
        yield made


@pytest.fixture
async def fetcher() -> AsyncIterator[http.Fetcher]:
    async with http.open_fetcher(allow_private=True) as made:
        yield made


def resolver(stack: AsyncExitStack, fetcher: http.Fetcher, settings: Settings) -> DidResolver:
    made = DidResolver.of(settings, fetcher)
    stack.callback(made.close)
    return made


async def test_what_one_process_is_told_holds_for_all(
    stack: AsyncExitStack, fetcher: http.Fetcher, server: Server, redis_url: str
) -> None:
    settings = Settings(plc_url=server.url, redis_url=redis_url)
    one, other = (resolver(stack, fetcher, settings) for _ in range(2))
    server.identity_status = 429
    began = asyncio.get_running_loop().time()
    with pytest.raises(DirectoryAway):
        await one.pds(ALICE)
    server.identity_status = 200
    await other.pds(ALICE)
    (asked,) = server.directory_asked
    assert asked - began >= identity.REST_SECONDS_FIRST


async def test_a_mirror_is_asked_where_the_directory_is_left_alone(
    stack: AsyncExitStack, fetcher: http.Fetcher, server: Server, redis_url: str
) -> None:
    settings = Settings(plc_url=URL, plc_mirrors=(server.url,), redis_url=redis_url)
    await shared(stack, redis_url, 100.0).pause(URL, 300.0)
    assert await resolver(stack, fetcher, settings).pds(ALICE) is None
    page = await resolver(stack, fetcher, settings).export("", 10)
    assert not page.by_directory


async def test_whoever_waits_for_a_turn_ends_with_its_session(
    stack: AsyncExitStack, fetcher: http.Fetcher, server: Server, redis_url: str
) -> None:
    settings = Settings(plc_url=server.url, redis_url=redis_url, plc_requests_per_second=5.0)
    ours = DidResolver.of(settings, fetcher)
    looking = [asyncio.create_task(ours.pds(ALICE)) for _ in range(50)]
    await asyncio.wait(looking, return_when=asyncio.FIRST_COMPLETED)
    ours.close()
    ended = await asyncio.gather(*looking, return_exceptions=True)
    assert sum(isinstance(each, StoreUnavailable) for each in ended) >= 40
    assert all(each is None or isinstance(each, StoreUnavailable) for each in ended)


async def test_without_a_redis_a_process_keeps_the_pace_by_itself(
    stack: AsyncExitStack, fetcher: http.Fetcher, server: Server
) -> None:
    settings = Settings(plc_url=server.url, plc_requests_per_second=50.0)
    ours = resolver(stack, fetcher, settings)
    began = time.monotonic()
    await asyncio.gather(*(ours.pds(ALICE) for _ in range(26)))
    assert time.monotonic() - began >= 0.45
    assert len(server.directory_asked) == 26
