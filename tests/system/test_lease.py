"""Two indexers for the same shards: one writes, the other waits, whatever happens to the first."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.deployment import past
from tests.system.scene import (
    LEASE_SECONDS,
    PATIENT_SECONDS,
    READY,
    RENEW_SECONDS,
    WAITING,
    Scene,
    says_again,
    scene,
)

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]


@pytest.fixture
def it(shared: Path, tmp_path: Path, database: str, redis_url: str) -> Iterator[Scene]:
    with scene(shared / "golden", database, redis_url, tmp_path / "up.log", rate=200) as made:
        yield made


async def test_waiting_indexer_takes_over_at_once_from_a_killed_one(it: Scene) -> None:
    it.relay.rate = 400
    owner = it.indexer(READY)
    for seq in (300, 900, 1500):
        waiting = it.indexer(WAITING, lease_seconds=PATIENT_SECONDS)
        it.up.wait_for(f"seq {seq}", past(seq))
        assert not waiting.says(READY)
        owner.signal(signal.SIGKILL)
        waiting.until_says(READY)  # long before a lease runs out
        owner.wait(5)
        owner = waiting
    it.settle()
    assert await it.tokens() == {4}
    await it.judge()


@pytest.mark.slow
async def test_frozen_indexer_is_replaced_after_its_lease_and_never_writes_again(it: Scene) -> None:
    owner = it.indexer(READY)
    waiting = it.indexer(WAITING)
    for turn, seq in enumerate((100, 300, 500, 700)):
        it.up.wait_for(f"seq {seq}", past(seq))
        owns = says_again(waiting, READY)
        at = owner.signal(signal.SIGSTOP)
        waiting.until("taking over", owns)
        took = time.monotonic() - at
        assert LEASE_SECONDS - RENEW_SECONDS - 0.5 < took < LEASE_SECONDS + 2
        assert waiting.log.read_text().count("ending its backend") == turn // 2 + 1
        waits = says_again(owner, WAITING)
        owner.signal(signal.SIGCONT)
        owner.until("waiting again", waits)
        owner, waiting = waiting, owner
    it.settle()
    assert await it.tokens() == {5}
    await it.judge()


@pytest.mark.slow
async def test_indexer_whose_token_is_passed_writes_nothing_more_and_waits(it: Scene) -> None:
    """The fence alone, without the end of its backend."""
    it.relay.rate = 300
    owner = it.indexer(READY)
    it.up.wait_for("seq 200", past(200))
    owns = says_again(owner, READY)
    await it.sql(
        "UPDATE headrace.shard SET token = token + 1, owner = 'another',"
        " backend_pid = pg_backend_pid(), backend_start = NULL, renewed_at = NULL"
        " WHERE shard IN (3, 7)"
    )
    owner.until_says("shards [3, 7] were taken over")
    owner.until("owning them again", owns)
    await it.judge()
