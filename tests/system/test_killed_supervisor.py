"""The end of a supervisor without a word leaves no process, no lock and no lease behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import asyncpg
import pytest

from engine import simulate
from engine.adapters import embedded, launch
from tests.system.deployment import Deployment, alive, deployed, descendants, past, progress, settle
from tests.system.golden import differences, stable_differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

HELD = {
    "connections": "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name LIKE 'headrace %'",
    "places": "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE l.locktype = 'advisory' AND d.datname = current_database()",
    "leases": "SELECT count(*) FROM headrace.shard s JOIN pg_stat_activity a"
    " ON a.pid = s.backend_pid AND a.backend_start = s.backend_start",
}


def kill(up: Deployment, *, all_of_them: bool = False) -> set[int]:
    """SIGKILL to the supervisor, or to it and everything below; the processes there were below."""
    below = descendants(up.pid)
    for pid in (up.pid, *(below if all_of_them else ())):
        os.kill(pid, signal.SIGKILL)
    up.wait(5)
    return below


def until_ready(up: Deployment, times: int) -> None:
    line = "INFO up all processes are ready processes=4"
    up.until(f"ready, {times}", lambda: up.log.read_text().count(line) == times)


def await_end(pids: set[int]) -> None:
    gone_by = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < gone_by:
        time.sleep(0.02)
    assert [pid for pid in pids if alive(pid)] == []


async def until_held(observer: asyncpg.Connection, **expected: int) -> None:
    give_up = time.monotonic() + 10
    held: dict[str, int] = {}
    while held != expected and time.monotonic() < give_up:
        held = {what: await observer.fetchval(HELD[what]) for what in expected}
    assert held == expected


def test_embedded_servers_end_too_and_the_next_one_goes_on(
    shared: Path, short_dir: Path, tmp_path: Path
) -> None:
    data = short_dir / "killed"
    with simulate.serve_in_thread(simulate.load(shared / "golden"), rate=1000) as relay:
        extra = {"DATA_DIR": str(data)}
        up = Deployment(relay.settings, "", "", log=tmp_path / "up.log", extra=extra)
        up.start()
        up.wait_for("seq 300", past(300), 60)
        below = kill(up)
        assert len(below) >= 8  # the roles, Postgres with its own, Valkey
        await_end(below)
        assert not launch.is_locked(data / "postgres" / "lock")
        assert not launch.is_locked(data / "valkey" / "lock")
        up.start()
        up.wait_for("seq 1000", past(1000), 60)
        below = kill(up)
        with up:  # at once, while what was below still ends
            settle(up, relay.network.frames.last_seq)
            assert up.says("made the tables")
            database = embedded.Postgres(data, run_as=launch.DIRECT).url
            assert differences(shared, "golden", database) == ""
            await_end(below)
    assert not embedded.Valkey(data).socket.exists()
    assert up.log.read_text().count("made the tables") == 1
    assert len(relay.cursors) == 3
    assert relay.cursors[0] == 0
    assert all(cursor and cursor >= 300 for cursor in relay.cursors[1:])


@pytest.mark.parametrize(
    "all_of_them",
    [
        pytest.param(False, id="supervisor"),
        pytest.param(True, id="everything", marks=pytest.mark.slow),
    ],
)
async def test_nothing_is_held_in_the_stores_and_the_next_one_starts_at_once(
    shared: Path, tmp_path: Path, database: str, redis_url: str, all_of_them: bool
) -> None:
    log = tmp_path / "up.log"
    observer = await asyncpg.connect(database)
    try:
        with deployed(shared / "golden", log, database, redis_url, rate=100, indexers=2) as (
            up,
            relay,
        ):
            relay.hold_at = 1000  # so the log does not end before the third is at work
            until_ready(up, 1)
            await until_held(observer, places=2, leases=16)  # shares may just be changing
            await_end(kill(up, all_of_them=all_of_them))
            await until_held(observer, connections=0, places=0, leases=0)
            up.start()
            until_ready(up, 2)
            assert 0 < progress(up.status())[0] < relay.network.frames.last_seq
            below = kill(up, all_of_them=all_of_them)
            relay.rate, relay.hold_at = 0, None
            up.start()  # at once, while what was below still ends
            until_ready(up, 3)
            settle(up, relay.network.frames.last_seq)
            await_end(below)
    finally:
        await observer.close()
    assert stable_differences(shared, "golden", database) == ""
    words = log.read_text()
    for trouble in ("is at work", "silent for", "Traceback", "giving up", "a process ended"):
        assert trouble not in words, trouble
    assert len(relay.cursors) == 3
    assert all(relay.cursors[1:])
