"""Kill anything, lose Redis, restart Postgres, in the middle of a run: the same tables."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import redis

from engine.adapters import embedded
from engine.simulate.server import Server
from tests.system.deployment import Deployment, deployed, past, progress, settle
from tests.system.golden import stable_differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(240)]

NETWORK = "golden"
RATE = 400.0
"""Frames a second: the run takes five seconds, enough for faults in its middle."""


def running(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> AbstractContextManager[tuple[Deployment, Server]]:
    return deployed(
        shared / NETWORK, tmp_path / "up.log", database, redis_url, rate=RATE, indexers=2
    )


@pytest.mark.parametrize("role", [pytest.param("firehose", marks=pytest.mark.slow), "indexer"])
def test_kill_9_anywhere_leaves_the_same_tables(
    shared: Path, tmp_path: Path, database: str, redis_url: str, role: str
) -> None:
    under_way = 0
    with running(shared, tmp_path, database, redis_url) as (run, relay):
        frames = relay.network.frames
        last = frames.last_seq
        relay.rate = RATE / 2
        for seq in (150, 500, 900, 1300, 1700):
            relay.hold_at = frames.after(seq + 400)  # however slowly a process starts again
            run.wait_for(f"seq {seq}", past(seq))
            run.kill(role, which=seq // 100)
            under_way += progress(run.status()) != (last, last)
        relay.hold_at = None
        settle(run, last)
    assert len(run.killed) == 5
    assert under_way >= 3
    assert stable_differences(shared, NETWORK, database) == ""


def test_flushall_in_the_middle_loses_nothing(
    shared: Path, tmp_path: Path, database: str, own_valkey: embedded.Valkey
) -> None:
    with running(shared, tmp_path, database, own_valkey.url) as (run, relay):
        with redis.Redis.from_url(own_valkey.url) as client:
            for seq in (400, 1200, 2184):
                run.wait_for(f"seq {seq}", past(seq))
                assert client.exists("headrace:epoch")
                client.flushall()
                run.wait_for("a new epoch", lambda _: client.exists("headrace:epoch"))
        settle(run, relay.network.frames.last_seq)
    assert stable_differences(shared, NETWORK, database) == ""


def test_one_deleted_stream_loses_nothing(
    shared: Path, tmp_path: Path, database: str, own_valkey: embedded.Valkey
) -> None:
    with running(shared, tmp_path, database, own_valkey.url) as (run, relay):
        run.wait_for("seq 700", past(700))
        with redis.Redis.from_url(own_valkey.url) as client:
            before = client.get("headrace:epoch")
            assert client.delete("firehose_live:3", "firehose_live:4") == 2
            run.wait_for(
                "a new epoch", lambda _: client.get("headrace:epoch") not in (None, before)
            )
        settle(run, relay.network.frames.last_seq)
    assert stable_differences(shared, NETWORK, database) == ""


def test_redis_restarted_without_its_data_loses_nothing(
    shared: Path, tmp_path: Path, database: str, own_valkey: embedded.Valkey
) -> None:
    with running(shared, tmp_path, database, own_valkey.url) as (run, relay):
        run.wait_for("seq 700", past(700))
        own_valkey.kill()
        time.sleep(0.5)
        own_valkey.start()
        settle(run, relay.network.frames.last_seq)
    assert stable_differences(shared, NETWORK, database) == ""


def test_postgres_restart_loses_nothing(
    shared: Path, tmp_path: Path, own_postgres: embedded.Postgres, redis_url: str
) -> None:
    database = own_postgres.url
    with running(shared, tmp_path, database, redis_url) as (run, relay):
        for seq, stop in ((500, own_postgres.stop), (1300, own_postgres.kill)):
            run.wait_for(f"seq {seq}", past(seq))
            stop()
            time.sleep(0.3)
            own_postgres.start()
        settle(run, relay.network.frames.last_seq)
    assert stable_differences(shared, NETWORK, database) == ""
