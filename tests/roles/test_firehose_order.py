"""INGESTER_FAN_IN=false: one relay of the list is read, the others stand by for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from engine.roles.firehose import FirehoseRole
from engine.roles.firehose.counters import RelayCounters, is_behind, reaches_back
from engine.roles.firehose.order import Order
from tests import fix_relay
from tests.fix_ingest import Ingest, until
from tests.fix_relay import Relay

services = pytest.mark.services

OTHER_SEQS = 9000
"""What the second relay's seqs are ahead of the first's for the same event."""


def carry(relay: Relay, count: int, *, ahead: int = 0, start: int = 1) -> None:
    """Events of the same network under other seqs; the time tells which event it is."""
    for seq in range(start, start + count):
        relay.log.append((seq + ahead, fix_relay.identity(seq + ahead, fix_relay.did(seq % 40))))
        relay.did_of[seq + ahead] = fix_relay.did(seq % 40)


@pytest.fixture
async def pair(database: str, redis_url: str) -> AsyncIterator[Ingest]:
    """Two relays with the same 300 events, in order of preference; nothing runs yet."""
    async with fix_relay.running(Relay()) as one, fix_relay.running(Relay()) as two:
        carry(one, 300)
        carry(two, 300, ahead=OTHER_SEQS)
        yield Ingest(database, redis_url, [one, two], {"INGESTER_FAN_IN": "false"})


def active(role: FirehoseRole) -> list[str]:
    """Hosts that the heartbeat names as active."""
    relays: Any = role.report()["relays"]
    return [host for host, said in relays.items() if said["active"]]


def impatient(role: FirehoseRole) -> None:
    """Try preferred relays again at once; silence stays what it is."""
    role._order.retry_seconds = 0.05


async def gaps(ingest: Ingest) -> list[tuple[Any, ...]]:
    query = "SELECT host, generation, after_seq, before_seq, reason FROM headrace.relay_gap"
    async with ingest.db() as db:
        return [tuple(row) for row in await db.fetch(query)]


def away(relay: Relay) -> None:
    """From now on every new connection is closed at once."""
    relay.scripts += [fix_relay.first(close=True)] * 1000


def back(relay: Relay) -> None:
    relay.scripts.clear()


async def drop(relay: Relay) -> None:
    """Close the relay's open connections."""
    sockets = list(relay.sockets)
    assert sockets
    for socket in sockets:
        await socket.close()


@services
async def test_only_the_first_relay_is_read(pair: Ingest) -> None:
    one, two = pair.relays
    async with pair.running() as role:
        await pair.reached(300)
        assert active(role) == [one.host]
        said: Any = role.report()
        assert said["state"] == "running"
        assert said["relays"][two.host]["state"] == "standby"
        assert two.cursors == []
    await pair.assert_exactly_the_log()


@services
async def test_a_silent_relay_is_replaced_and_taken_back_when_it_speaks(
    pair: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="engine")
    pair.variables["INGESTER_SILENCE_TIMEOUT_SECONDS"] = "0.5"
    one, two = pair.relays
    one.scripts += [fix_relay.up_to(100)] * 1000
    async with pair.running() as role:
        await pair.reached(100, one)
        await pair.reached(OTHER_SEQS + 300, two)
        assert two.cursors[0] == 0
        back(one)
        await pair.reached(300, one)
        assert 100 in one.cursors[1:]
        # Whichever falls silent next: each has its own place to go on from.
        await until(lambda: role._counters[one.host].reconnects["silent"] >= 2)
    said = [record.getMessage() for record in caplog.records]
    first = f"relay={two.host} instead_of={one.host} why=silent"
    assert any(first in line and "takes over" in line for line in said)
    assert await gaps(pair) == []


@services
async def test_a_relay_that_cannot_be_reached_is_replaced_and_the_other_let_go_later(
    database: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="engine")
    one, two = Relay(), Relay()
    carry(one, 300)
    carry(two, 300, ahead=OTHER_SEQS)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(fix_relay.running(two))
        ingest = Ingest(database, redis_url, [one, two], {"INGESTER_FAN_IN": "false"})
        async with fix_relay.running(one):
            role = await stack.enter_async_context(ingest.running())
            impatient(role)
            await ingest.reached(300, one)
        await ingest.reached(OTHER_SEQS + 300, two)
        assert active(role) == [two.host]
        carry(two, 50, ahead=OTHER_SEQS, start=301)
        await two.tell()
        await ingest.reached(OTHER_SEQS + 350, two)
        carry(one, 100, start=301)
        await stack.enter_async_context(fix_relay.running(one, port=int(one.url.split(":")[2])))
        await ingest.reached(400, one)
        await until(lambda: active(role) == [one.host])
        await until(lambda: two.connected == 0)
        carry(two, 50, ahead=OTHER_SEQS, start=351)
        await two.tell()
        carry(one, 10, start=401)
        await one.tell()
        await ingest.reached(410, one)
        assert await ingest.cursor(two) == OTHER_SEQS + 350
        assert role._counters[two.host].reconnects["dismissed"] == 1
        assert set(one.cursors) == {0, 300}
        assert two.cursors == [0]
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "takes over" in line]) == 1
    assert len([line for line in said if "answers again" in line]) == 1
    assert await gaps(ingest) == []


@services
async def test_replaced_a_second_time_the_other_goes_on_at_its_own_cursor(pair: Ingest) -> None:
    one, two = pair.relays
    away(one)
    async with pair.running() as role:
        impatient(role)
        await pair.reached(OTHER_SEQS + 300, two)
        back(one)
        await pair.reached(300, one)
        await until(lambda: two.connected == 0)
        carry(two, 20, ahead=OTHER_SEQS, start=301)
        away(one)
        await drop(one)
        await pair.reached(OTHER_SEQS + 320, two)
    assert two.cursors == [0, OTHER_SEQS + 300]


@services
async def test_a_relay_with_a_backlog_is_read_beside_the_other_until_it_is_level(
    pair: Ingest,
) -> None:
    one, two = pair.relays
    away(one)
    async with pair.running() as role:
        impatient(role)
        await pair.reached(OTHER_SEQS + 300, two)
        one.scripts[:] = [fix_relay.up_to(200)]
        await pair.reached(200, one)
        carry(two, 10, ahead=OTHER_SEQS, start=301)
        await two.tell()
        await pair.reached(OTHER_SEQS + 310, two)
        assert active(role) == [two.host]
        await drop(one)
        await pair.reached(300, one)
        assert active(role) == [two.host]
        carry(one, 10, start=301)
        await one.tell()
        await until(lambda: active(role) == [one.host] and two.connected == 0)
    assert two.cursors == [0]
    assert await pair.cursor(one) == 310


@services
async def test_the_most_preferred_relay_that_answers_is_read(database: str, redis_url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(fix_relay.running(Relay())) for _ in range(3)]
        for place, relay in enumerate(relays):
            carry(relay, 100, ahead=OTHER_SEQS * place)
        for relay in relays[:2]:
            away(relay)
        ingest = Ingest(database, redis_url, relays, {"INGESTER_FAN_IN": "false"})
        async with ingest.running() as role:
            impatient(role)
            for place in (2, 1, 0):
                back(relays[place])
                await ingest.reached(OTHER_SEQS * place + 100, relays[place])
                await until(partial(is_alone, role, relays, place))


def is_alone(role: FirehoseRole, relays: list[Relay], place: int) -> bool:
    """Whether this relay is active and none after it is connected."""
    others = any(relay.connected for relay in relays[place + 1 :])
    return active(role) == [relays[place].host] and not others


@services
async def test_errors_alone_are_no_answer(pair: Ingest) -> None:
    one, two = pair.relays
    one.scripts += [fix_relay.first(fix_relay.error("ConsumerTooSlow"), close=True)] * 1000
    async with pair.running() as role:
        await pair.reached(OTHER_SEQS + 300, two)
        assert active(role) == [two.host]


@services
async def test_a_store_that_fails_says_nothing_about_the_relay(pair: Ingest) -> None:
    one, two = pair.relays
    async with pair.running() as role:
        await pair.reached(300)
        async with pair.redis() as client:
            await client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: role._counters[one.host].reconnects["store"] >= 1)
        await until(lambda: len(one.cursors) >= 2)
        carry(one, 10, start=301)
        await one.tell()
        await pair.reached(310)
        assert active(role) == [one.host]
    assert two.cursors == []


@services
@pytest.mark.parametrize(("start", "expected"), [(301, "TakeOver"), (250, None)])
async def test_a_first_take_over_begins_at_the_oldest_and_says_if_that_is_too_young(
    pair: Ingest, start: int, expected: str | None
) -> None:
    """Whatever INGESTER_INITIAL_CURSOR says: it was about the relay read first."""
    pair.variables["INGESTER_INITIAL_CURSOR"] = "250"
    one, two = pair.relays
    two.log.clear()
    carry(two, 400 - start, ahead=OTHER_SEQS, start=start)
    one.scripts.append(Relay.serve)
    away(one)
    async with pair.running():
        await pair.reached(300, one)
        await drop(one)
        await pair.reached(OTHER_SEQS + 399, two)
    assert (one.cursors[0], two.cursors) == (250, [0])
    first = OTHER_SEQS + start
    wanted = [(two.host, 1, 0, first, expected)] if expected else []
    assert await gaps(pair) == wanted


@services
async def test_a_live_start_is_the_first_relays_alone(pair: Ingest) -> None:
    pair.variables["INGESTER_INITIAL_CURSOR"] = "live"
    one, two = pair.relays
    one.scripts.append(Relay.serve)
    away(one)
    async with pair.running():
        await until(lambda: one.connected == 1)
        carry(one, 10, start=301)
        await one.tell()
        await pair.reached(310, one)
        await drop(one)
        await pair.reached(OTHER_SEQS + 300, two)
    assert (one.cursors[0], two.cursors) == (None, [0])


def test_a_single_relay_is_always_active() -> None:
    order = Order(["one"], fan_in=False, retry_seconds=1)
    order.failed("one", "silent")
    assert order.is_active("one")


def test_after_the_last_comes_the_first_again() -> None:
    order = Order(["one", "two"], fan_in=False, retry_seconds=1)
    seen = []
    for _ in range(3):
        (host,) = [host for host in ("one", "two") if order.is_active(host)]
        seen.append(host)
        order.failed(host, "connect")
    assert seen == ["one", "two", "one"]


async def test_turns() -> None:
    """A less preferred relay waits for the failure of all before it, a preferred one for time."""
    order = Order(["one", "two", "three"], fan_in=False, retry_seconds=0.01)
    third = asyncio.create_task(order.turn("three"))
    order.failed("one", "connect")
    await asyncio.wait_for(order.turn("one"), 5)
    order.failed("two", "connect")
    await asyncio.wait_for(third, 5)
    order.answered("two", is_level=False)
    assert order.is_active("three")
    order.answered("two", is_level=True)
    assert [order.is_active(host) for host in ("one", "two", "three")] == [False, True, False]
    assert [order.is_wanted(host) for host in ("one", "two", "three")] == [True, True, False]


def test_a_trial_that_brings_events_comes_before_the_next() -> None:
    order = Order(["one", "two", "three"], fan_in=False, retry_seconds=1)
    order.failed("one", "connect")
    order.answered("one", is_level=False)
    order.failed("two", "silent")
    assert order.is_active("one")
    order.failed("one", "silent")
    assert order.is_active("two")


@pytest.mark.parametrize(
    ("here", "there", "behind"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.001Z", True),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z", False),
        (None, "2026-01-01T00:00:00Z", True),
        ("2026-01-01T00:00:00Z", None, False),
    ],
)
def test_being_behind(here: str | None, there: str | None, behind: bool) -> None:
    assert is_behind(RelayCounters(last_time=here), RelayCounters(last_time=there)) == behind


@pytest.mark.parametrize(
    ("first", "last", "seq", "enough"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z", 5, True),
        ("2026-01-01T00:00:00.001Z", "2026-01-01T00:00:00Z", 5, False),
        ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z", 5, True),
        ("2026-01-01T00:00:00Z", None, 5, False),
        ("2026-01-01T00:00:00Z", None, None, True),
        ("soon", "2026-01-01T00:00:00Z", 5, False),
        (None, "2026-01-01T00:00:00Z", 5, False),
    ],
)
def test_reaching_back(first: str | None, last: str | None, seq: int | None, enough: bool) -> None:
    relays = {"one": RelayCounters(last_time=last, received_seq=seq), "two": RelayCounters()}
    assert reaches_back(relays, first) == enough
