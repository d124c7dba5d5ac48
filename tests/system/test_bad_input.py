"""A recorded network through relays that misbehave: the same tables, and letters for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import libipld
import pytest
from aiohttp import WSCloseCode, web

from engine import simulate
from engine.simulate.network import frame_seq
from tests import fix_relay
from tests.fix_relay import Relay
from tests.system import accounts
from tests.system.deployment import Deployment, settle
from tests.system.golden import stable_differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

NETWORK = "golden"
GARBAGE = (
    b"\xff\xfe\xfd not cbor at all",
    b"\xa2bop\x01at",
    b"",
    fix_relay.frame({"op": 1, "t": "#commit"}, {"seq": "a word"}),
)


def recorded(shared: Path) -> list[tuple[int, bytes]]:
    """Frames and the seq that each is sent under: frames without one go with their neighbour."""
    frames = simulate.load(shared / NETWORK).frames
    log, seq = [], 0
    for index in range(len(frames)):
        seq = max(seq, frame_seq(frames[index]) or 0)
        log.append((seq, frames[index]))
    return log


@contextlib.asynccontextmanager
async def running(
    shared: Path,
    tmp_path: Path,
    database: str,
    redis_url: str,
    relays: list[Relay],
) -> AsyncIterator[Deployment]:
    """The relays on this loop, who-is-who on a thread, a deployment beside."""
    async with contextlib.AsyncExitStack() as stack:
        for relay in relays:
            await stack.enter_async_context(fix_relay.running(relay))
        known = stack.enter_context(simulate.serve_in_thread(simulate.load(shared / NETWORK)))
        hosts = ",".join(relay.url for relay in relays)
        network = {**known.settings, "INGESTER_RELAY_HOSTS": hosts}
        up = Deployment(
            network,
            database,
            redis_url,
            indexers=2,
            log=tmp_path / "up.log",
            extra={"INGESTER_SILENCE_TIMEOUT_SECONDS": "2"},
        )
        up.start()
        try:
            yield up
        finally:
            await asyncio.to_thread(up.stop)


async def letters(database: str) -> list[tuple[str, str, bytes | None]]:
    conn = await asyncpg.connect(database)
    try:
        rows = await conn.fetch(
            "SELECT reason, error, raw FROM headrace.dead_letter WHERE path IS NULL ORDER BY id"
        )
    finally:
        await conn.close()
    return [tuple(row) for row in rows]


async def test_everything_that_one_relay_can_do_wrong(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    """Garbage, closes, cuts, a stall, repeats: one connection after the other."""
    log = recorded(shared)
    relay = Relay(log=log)

    async def garbage(self: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        for number, (seq, data) in enumerate(log[:400]):
            if seq > (cursor or 0):
                await self.send(ws, data)
            if number in (50, 150, 250, 350):
                await self.send(ws, GARBAGE[number // 100])
                await ws.send_str("no binary message")
        await ws.close(code=WSCloseCode.POLICY_VIOLATION, message=b"go away")

    async def gaps(self: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        """Later frames under the same connection, with every seq more than once."""
        part = [item for item in log if item[0] > (cursor or 0)][:300]
        for _, data in part:
            for _ in range(2):
                await self.send(ws, data)
        await ws.close(code=WSCloseCode.SERVICE_RESTART, message=b"restarting")

    relay.scripts = [
        garbage,
        fix_relay.close_after(200),
        fix_relay.close_after(150, abruptly=True),
        fix_relay.stall_after(300),
        gaps,
        fix_relay.first(fix_relay.error("ConsumerTooSlow"), close=True),
        fix_relay.first(fix_relay.info("Something"), then=fix_relay.repeat(500)),
    ]
    async with running(shared, tmp_path, database, redis_url, [relay]) as up:
        await asyncio.to_thread(settle, up, log[-1][0])
        assert not relay.scripts, "not all of it happened"
        assert len(relay.cursors) >= 7
        assert "which is a bug" not in up.log.read_text()
    assert stable_differences(shared, NETWORK, database) == ""
    await accounts.add_up(database, redis_url, at_least=3001)
    raws = [raw for _, _, raw in await letters(database)]
    for piece in GARBAGE:
        assert raws.count(piece) == 1
    assert all(reason and error for reason, error, _ in await letters(database))


def renumbered(log: list[tuple[int, bytes]], dice: random.Random) -> list[tuple[int, bytes]]:
    """The same frames under seqs that leave some out, now one and now a million."""
    made, seq, seen = [], 0, 0
    for number, data in log:
        if number != seen:
            seen, seq = number, seq + dice.choice((1, 2, 10, 1_000_000))
        if frame_seq(data) is not None:
            header, body = libipld.decode_dag_cbor_multi(data)
            data = fix_relay.frame(header, {**body, "seq": seq})
        made.append((seq, data))
    return made


@pytest.mark.slow
async def test_skipped_seqs_are_no_reason_to_stop(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    log = renumbered(recorded(shared), random.Random(4))
    assert log[-1][0] > 100_000_000
    relay = Relay(log=log, scripts=[fix_relay.close_after(700, abruptly=True)])
    async with running(shared, tmp_path, database, redis_url, [relay]) as up:
        await asyncio.to_thread(settle, up, log[-1][0])
    assert len(relay.cursors) >= 2
    assert stable_differences(shared, NETWORK, database) == ""
    await accounts.add_up(database, redis_url, at_least=3001)


@pytest.mark.slow
async def test_commits_that_a_relay_left_out_are_noted(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    """The next commit of the repository names one that never came: it must be fetched again."""
    log = recorded(shared)
    last: dict[str, str] = {}
    missing: set[str] = set()
    noted: set[str] = set()
    kept: list[tuple[int, bytes]] = []
    for number, (seq, data) in enumerate(log):
        try:
            header, body = libipld.decode_dag_cbor_multi(data)
        except ValueError:
            header, body = {}, {}
        if header.get("t") == "#commit":
            did = body["repo"]
            if number % 50 == 7 and did in last:
                missing.add(did)
                continue
            if body["since"] is not None and last.get(did, body["since"]) != body["since"]:
                noted.add(did)
            last[did] = body["rev"]
        kept.append((seq, data))
    assert len(missing & noted) > 10
    relay = Relay(log=kept)
    async with running(shared, tmp_path, database, redis_url, [relay]) as up:
        await asyncio.to_thread(settle, up, kept[-1][0])
        assert up.status()["resync"] >= len(missing & noted)
    conn = await asyncpg.connect(database)
    try:
        rows = await conn.fetch("SELECT did FROM headrace.repo WHERE resync IS NOT NULL")
    finally:
        await conn.close()
    assert missing & noted <= {row["did"] for row in rows}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_two_relays_of_one_network_make_every_row_once(
    shared: Path, tmp_path: Path, database: str, redis_url: str, seed: int
) -> None:
    """Each in bursts of its own, so that now one and now the other is ahead."""
    dice = random.Random(seed)
    log = recorded(shared)
    relays = [Relay(log=log), Relay(log=log)]

    def bursts(dice: random.Random) -> fix_relay.Script:
        async def script(self: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
            at = 0
            while at < len(log):
                count = dice.randrange(1, 200)
                for seq, data in log[at : at + count]:
                    if seq > (cursor or 0):
                        await self.send(ws, data)
                at += count
                await asyncio.sleep(dice.random() * 0.1)
            await asyncio.Event().wait()

        return script

    for relay in relays:
        relay.scripts = [bursts(random.Random(dice.random()))] * 3
    async with running(shared, tmp_path, database, redis_url, relays) as up:
        await asyncio.to_thread(settle, up, log[-1][0])
        # All of it at least: what was under way when a connection ended comes again.
        assert all(relay.sent >= len(log) for relay in relays)
    assert stable_differences(shared, NETWORK, database) == ""
    await accounts.add_up(database, redis_url, at_least=6002)
