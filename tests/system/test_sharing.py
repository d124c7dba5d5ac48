"""Indexers that join and leave under load: shares follow, no row differs."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from engine.simulate.server import Server
from tests.system.deployment import (
    START_SECONDS,
    Deployment,
    Process,
    deployed,
    past,
    settle,
)
from tests.system.golden import stable_differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(180)]

SHARDS = set(range(16))
HOSTS = ("one", "two")
TAKES_SECONDS = 10.0
"""How soon one more or one less shows in everyone's share."""


def indexer(run: Deployment, slot: int, host: str = "one") -> Process:
    """One more ``headrace run indexer``, as an operator would type it on a host."""
    arguments = ["run", "indexer", "--slot", str(slot), "--host", host]
    return Process(arguments, run.environment, run.log)


def shares(status: dict[str, Any]) -> dict[str, set[int]]:
    processes = status.get("processes", {})
    return {
        name: set(process["shards"])
        for name, process in processes.items()
        if process["role"] == "indexer"
    }


def shared_by(count: int) -> Any:
    """Whether this many indexers own all shards, about equally, each shard once."""

    def holds(status: dict[str, Any]) -> bool:
        owned = [own for own in shares(status).values() if own]
        return (
            len(owned) == count
            and set().union(*owned) == SHARDS
            and sum(map(len, owned)) == len(SHARDS)
            and max(map(len, owned)) - min(map(len, owned)) <= 1
        )

    return holds


def without_indexers(
    network: Path, tmp_path: Path, database: str, redis_url: str, rate: float
) -> AbstractContextManager[tuple[Deployment, Server]]:
    arguments = ["--roles", "firehose,identity"]
    log = tmp_path / "up.log"
    return deployed(network, log, database, redis_url, rate=rate, arguments=arguments)


def test_one_to_four_to_two_under_load(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    network = shared / "golden"
    with (
        without_indexers(network, tmp_path, database, redis_url, 150) as (run, relay),
        ExitStack() as stack,
    ):
        first = stack.enter_context(indexer(run, 0))
        run.wait_for("one indexer", shared_by(1))
        run.wait_for("seq 300", past(300))
        more = ((1, "one"), (0, "two"), (1, "two"))
        others = [stack.enter_context(indexer(run, slot, host)) for slot, host in more]
        status = run.wait_for("four shares", shared_by(4), START_SECONDS + TAKES_SECONDS)
        assert set(shares(status)) == {f"indexer/{k}@{host}" for k in (0, 1) for host in HOSTS}
        run.wait_for("seq 1200", past(1200))
        for process in (first, others[1]):
            assert process.stop() == 0
        run.wait_for("two shares", shared_by(2), TAKES_SECONDS)
        settle(run, relay.network.frames.last_seq)
    assert stable_differences(shared, "golden", database) == ""


@pytest.mark.slow
def test_a_killed_indexer_that_stays_away_is_replaced(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    network = shared / "golden-gates"
    with (
        without_indexers(network, tmp_path, database, redis_url, 100) as (run, relay),
        indexer(run, 0) as first,
        indexer(run, 1),
    ):
        run.wait_for("two shares", shared_by(2))
        assert first.process is not None
        first.process.kill()
        run.wait_for("one share", shared_by(1), 30)
        settle(run, relay.network.frames.last_seq)
    assert stable_differences(shared, "golden-gates", database) == ""
