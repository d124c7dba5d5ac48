"""Listers that are killed in the middle: no repository is missed, no host left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from engine import simulate
from engine.simulate import Server
from engine.simulate.lists import Listing
from tests.fix_lists import network
from tests.system.deployment import Process

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(120)]

SIZES = dict.fromkeys("abcdef", 300)
"""Some thirty pages a host."""


@pytest.fixture
def server() -> Iterator[Server]:
    with simulate.serve_in_thread(network(**SIZES)) as running:
        for name in SIZES:
            running.listings[f"https://{name}.test"] = Listing(delay=0.03)
        yield running


def lister(slot: int, server: Server, log: Path, database: str, redis_url: str) -> Process:
    environ = {
        **server.settings,
        "DATABASE_URL": database,
        "REDIS_URL": redis_url,
        "LISTER_PAGE_SIZE": "10",
        "LISTER_SPACING_MS": "0",
        "LISTER_CONCURRENCY": "3",
        "LISTER_QUEUE_CHECK_SECONDS": "0.2",
    }
    return Process(["run", "lister", "--slot", str(slot), "--host", "h"], environ, log)


async def value(database: str, query: str) -> Any:
    conn = await asyncpg.connect(database)
    try:
        return await conn.fetchval(query)
    finally:
        await conn.close()


def known(database: str) -> int:
    return int(asyncio.run(value(database, "SELECT count(*) FROM headrace.repo")))


def knows(database: str, goal: int) -> bool:
    return known(database) >= goal


def listed(database: str) -> bool:
    query = "SELECT count(*) = 7 AND count(done_at) = 7 FROM headrace.host"
    return bool(asyncio.run(value(database, query)))


@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_lister_that_is_gone_is_replaced_and_every_repository_found(
    which: signal.Signals, server: Server, tmp_path: Path, database: str, redis_url: str
) -> None:
    """Of two that share the hosts one goes in the middle, the other ends the work alone."""
    one = lister(0, server, tmp_path / "0.log", database, redis_url)
    other = lister(1, server, tmp_path / "1.log", database, redis_url)
    with one, other:
        one.until("half of it", lambda: known(database) >= 600)
        os.kill(one.pid, which)
        other.until("all listed", lambda: listed(database), seconds=90)
        if which == signal.SIGSTOP:
            one.signal(signal.SIGCONT)
            one.until_says("INFO")
    assert known(database) == 1800
    everything = "SELECT count(*) FROM headrace.repo WHERE host IS NOT NULL"
    assert asyncio.run(value(database, everything)) == 1800
    for name in SIZES:
        cursors = [cursor for cursor, _ in server.listings[f"https://{name}.test"].asked]
        assert set(cursors) == {"", *(str(place) for place in range(10, 300, 10))}
        assert len(cursors) <= 30 + 3  # what was under way is asked for again, nothing else


def test_lister_killed_and_started_again_goes_on_at_once(
    server: Server, tmp_path: Path, database: str, redis_url: str
) -> None:
    with lister(0, server, tmp_path / "0.log", database, redis_url) as run:
        for goal in (200, 700, 1200):
            run.until(f"{goal} known", partial(knows, database, goal))
            run.signal(signal.SIGKILL)
            run.wait(10)
            run.start()
        run.until("all listed", lambda: listed(database), seconds=25)
    assert known(database) == 1800
    for name in SIZES:
        asked = server.listings[f"https://{name}.test"].asked
        assert len(asked) <= 30 + 3
