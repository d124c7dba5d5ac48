"""Two indexers for the same shards: one writes, the other waits, whatever happens to the first."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from engine import simulate
from tests.system import accounts
from tests.system.deployment import Deployment, Process, past, settle
from tests.system.golden import differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

NETWORK = "golden"
LAST = 2184
LEASE_SECONDS, RENEW_SECONDS = 2.0, 0.4
"""In these indexers only, so that nobody waits."""

QUICK = f"""
import sys
from engine.roles.indexer import lease
lease.LEASE_SECONDS, lease.RENEW_SECONDS = {LEASE_SECONDS}, {RENEW_SECONDS}
from engine.cli import main
sys.exit(main())
"""
READY = "ready, owning shards"


class Scene:
    """The rest of the deployment, and indexers to be started by hand."""

    def __init__(self, up: Deployment, database: str, folder: Path) -> None:
        self.up = up
        self.database = database
        self._folder = folder
        self.started: list[Process] = []

    def indexer(self) -> Process:
        log = self._folder / f"indexer-{len(self.started)}.log"
        process = Process(("run", "indexer"), self.up.environment, log)
        process.program = ("-c", QUICK)
        process.start()
        self.started.append(process)
        return process

    async def sql(self, statement: str) -> object:
        conn = await asyncpg.connect(self.database)
        try:
            return await conn.fetchval(statement)
        finally:
            await conn.close()


def count(process: Process, words: str) -> int:
    return process.log.read_text(errors="replace").count(words)


@contextmanager
def scene(
    shared: Path, tmp_path: Path, database: str, redis_url: str, rate: float
) -> Iterator[Scene]:
    with simulate.serve_in_thread(simulate.load(shared / NETWORK), rate=rate) as relay:
        up = Deployment(
            relay.settings,
            database,
            redis_url,
            log=tmp_path / "up.log",
            arguments=["--roles", "firehose,identity"],
        )
        with up:
            made = Scene(up, database, tmp_path)
            try:
                yield made
            finally:
                for process in made.started:
                    if process.process is not None and process.process.poll() is None:
                        process.signal(signal.SIGCONT)
                        process.stop()


async def test_waiting_indexer_takes_over_at_once_from_a_killed_one(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    with scene(shared, tmp_path, database, redis_url, rate=400) as it:
        owner = it.indexer()
        owner.until_says(READY)
        for seq in (300, 900, 1500):
            waiting = it.indexer()
            waiting.until_says("waiting for shards of indexer/0")
            it.up.wait_for(f"seq {seq}", past(seq))
            assert not waiting.says(READY)
            at = owner.signal(signal.SIGKILL)
            owner.wait(5)
            waiting.until_says(READY)
            assert time.monotonic() - at < 3
            owner = waiting
        settle(it.up, LAST)
        assert await it.sql("SELECT min(token) FROM headrace.shard") == 4
    assert differences(shared, NETWORK, database) == ""
    await accounts.add_up(database, redis_url, at_least=3001)


@pytest.mark.slow
async def test_frozen_indexer_is_replaced_after_its_lease_and_never_writes_again(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    with scene(shared, tmp_path, database, redis_url, rate=200) as it:
        owner = it.indexer()
        owner.until_says(READY)
        waiting = it.indexer()
        waiting.until_says("waiting for shards of indexer/0")
        for turn, seq in enumerate((100, 300, 500, 700)):
            it.up.wait_for(f"seq {seq}", past(seq))
            owner.signal(signal.SIGSTOP)
            at = time.monotonic()
            before = count(waiting, READY)
            waiting.until("taking over", has_more(waiting, READY, before))
            took = time.monotonic() - at
            assert LEASE_SECONDS - RENEW_SECONDS - 0.5 < took < LEASE_SECONDS + 2
            assert count(waiting, "ending its backend") == turn // 2 + 1
            waits = count(owner, "waiting for shards of indexer/0")
            owner.signal(signal.SIGCONT)
            owner.until("waiting again", has_more(owner, "waiting for shards of indexer/0", waits))
            owner, waiting = waiting, owner
        settle(it.up, LAST)
        assert await it.sql("SELECT min(token) FROM headrace.shard") == 5
    assert differences(shared, NETWORK, database) == ""
    await accounts.add_up(database, redis_url, at_least=3001)


@pytest.mark.slow
async def test_indexer_whose_token_is_passed_writes_nothing_more_and_waits(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    """The fence alone, without the end of its backend."""
    with scene(shared, tmp_path, database, redis_url, rate=300) as it:
        owner = it.indexer()
        it.up.wait_for("seq 200", past(200))
        await it.sql(
            "UPDATE headrace.shard SET token = token + 1, owner = 'another',"
            " backend_pid = pg_backend_pid(), backend_start = NULL, renewed_at = NULL"
            " WHERE shard IN (3, 7)"
        )
        owner.until_says("shards [3, 7] were taken over")
        owner.until("owning them again", has_more(owner, READY, 1))
        settle(it.up, LAST)
    assert differences(shared, NETWORK, database) == ""
    await accounts.add_up(database, redis_url, at_least=3001)


def has_more(process: Process, words: str, than: int) -> Callable[[], bool]:
    return lambda: count(process, words) > than
