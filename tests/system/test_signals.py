"""Ending a deployment in the middle of its work: in time, in order, and without a trace."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from engine import simulate
from engine.runtime.worker import STOP_SECONDS
from engine.simulate.server import Server
from tests.system.deployment import (
    Deployment,
    Process,
    alive,
    descendants,
    progress,
)

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]


@pytest.fixture
def relay(busy_network: simulate.Network) -> Iterator[Server]:
    """It keeps the end of its log to itself: no machine is so fast that it has read everything."""
    with simulate.serve_in_thread(busy_network, hold_at=len(busy_network.frames) - 1) as server:
        yield server


def role(
    name: str, server: Server, database: str, redis_url: str, tmp_path: Path, **more: str
) -> Process:
    environ = {**server.settings, "DATABASE_URL": database, "REDIS_URL": redis_url, **more}
    return Process(("run", name), environ, tmp_path / f"{name}.log")


def cursor(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        values = [client.get(key) for key in client.scan_iter("*cursor*")]
    return max((int(value) for value in values if value), default=0)


def entries(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return sum(client.xlen(f"firehose_live:{shard}") for shard in range(16))


def ends_in_order(process: Process, name: str, sent_at: float, reason: str = "SIGTERM") -> None:
    code = process.wait(STOP_SECONDS + 5)
    took = time.monotonic() - sent_at
    assert code == 0, process.tail()
    assert took < STOP_SECONDS, process.tail()
    assert f"INFO {name} stopped reason={reason}" in process.tail()
    assert not process.says("Traceback")


def test_term_ends_the_firehose_role_at_full_speed(
    relay: Server, database: str, redis_url: str, tmp_path: Path
) -> None:
    with role("firehose", relay, database, redis_url, tmp_path) as process:
        process.until("frames", lambda: cursor(redis_url) > 500)
        ends_in_order(process, "firehose", process.signal())
    assert 500 < cursor(redis_url) < relay.network.frames.last_seq


def test_term_ends_an_indexer_with_a_backlog(
    relay: Server, database: str, redis_url: str, tmp_path: Path
) -> None:
    last = relay.network.frames.last_seq
    relay.hold_at = None
    with role("firehose", relay, database, redis_url, tmp_path) as firehose:
        firehose.until("a backlog", lambda: cursor(redis_url) == last)
    backlog = entries(redis_url)
    assert backlog > 10_000
    slowly = {"INDEXER_BATCH_SIZE": "100"}  # however fast the machine is
    with role("indexer", relay, database, redis_url, tmp_path, **slowly) as process:
        process.until("rows", lambda: entries(redis_url) < backlog)
        ends_in_order(process, "indexer/0", process.signal())
    assert 0 < entries(redis_url) < backlog


def test_term_ends_the_identity_role_in_the_middle_of_look_ups(
    relay: Server, database: str, redis_url: str, tmp_path: Path
) -> None:
    relay.identity_delay = 0.4
    with Deployment(
        relay.settings,
        database,
        redis_url,
        log=tmp_path / "up.log",
        arguments=["--roles", "firehose,indexer"],
    ) as up:
        due = up.wait_for("identities", lambda s: s["identity"]["due"] >= 1000)["identity"]["due"]
        with role("identity", relay, database, redis_url, tmp_path) as process:
            up.wait_for("look-ups", lambda s: s["processes"].get("identity", {}).get("in_flight"))
            time.sleep(1)
            ends_in_order(process, "identity", process.signal())
        assert 0 < up.status()["identity"]["due"] <= max(due, 1500)


@pytest.mark.parametrize("how", ["Ctrl-C", "timeout"])
def test_up_ends_in_order_at_full_speed(
    relay: Server, database: str, redis_url: str, tmp_path: Path, how: str
) -> None:
    up = Deployment(relay.settings, database, redis_url, indexers=2, log=tmp_path / "up.log")
    reason = "SIGTERM"
    if how == "timeout":  # tells its child, and at once the whole group with it
        up.prefix = ("timeout", "--preserve-status", "60")
    with up:
        up.wait_for("rows", lambda s: progress(s)[1] > 200)
        below = descendants(up.pid)
        assert len(below) >= 4
        if how == "Ctrl-C":
            reason, sent = "SIGINT", up.signal(signal.SIGINT, group=True)
        else:
            sent = up.signal()
        ends_in_order(up, "up", sent, reason)
        assert not any(map(alive, below))
    log = up.log.read_text()
    for name in ("firehose", "indexer/0", "indexer/1", "identity"):
        assert f"INFO {name} stopped reason=SIGTERM" in log
    assert "killing" not in log
    assert cursor(redis_url) > 0
    assert cursor(redis_url) < relay.network.frames.last_seq or entries(redis_url) > 0
