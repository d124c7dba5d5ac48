"""Indexers that join and leave under load: shares follow, no row differs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.simulate import network as networks
from engine.simulate import server
from tests.system.deployment import Deployment, past, settle
from tests.system.golden import differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(180)]

SHARDS = set(range(16))
TAKES_SECONDS = 10.0
"""How soon one more or one less shows in everyone's share."""


@contextmanager
def indexer(run: Deployment, slot: int) -> Iterator[subprocess.Popen[bytes]]:
    """One more ``headrace run indexer``, as an operator would type it."""
    command = [sys.executable, "-m", "engine", "run", "indexer", "--slot", str(slot), "--of", "9"]
    with run.log.open("ab") as log:
        process = subprocess.Popen(command, env=run.environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(15)


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


def test_one_to_four_to_two_under_load(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    with ExitStack() as stack:
        network = networks.load(shared / "golden")
        relay = stack.enter_context(server.serve_in_thread(network, rate=150))
        run = stack.enter_context(
            Deployment(
                relay.settings,
                database,
                redis_url,
                log=tmp_path / "up.log",
                arguments=["--roles", "firehose,identity"],
            )
        )
        first = stack.enter_context(indexer(run, 0))
        run.wait_for("one indexer", shared_by(1))
        run.wait_for("seq 300", past(300))
        others = [stack.enter_context(indexer(run, slot)) for slot in (1, 2, 3)]
        began = time.monotonic()
        run.wait_for("four shares", shared_by(4), TAKES_SECONDS + 5)
        joined = time.monotonic() - began
        run.wait_for("seq 1200", past(1200))
        for process in (first, others[1]):
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        began = time.monotonic()
        run.wait_for("two shares", shared_by(2), TAKES_SECONDS)
        left = time.monotonic() - began
        assert joined < TAKES_SECONDS + 5
        assert left < TAKES_SECONDS
        settle(run, relay.network.frames.last_seq)
    assert differences(shared, "golden", database) == ""


def test_a_killed_indexer_that_stays_away_is_replaced(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    with ExitStack() as stack:
        network = networks.load(shared / "golden-gates")
        relay = stack.enter_context(server.serve_in_thread(network, rate=100))
        run = stack.enter_context(
            Deployment(
                relay.settings,
                database,
                redis_url,
                log=tmp_path / "up.log",
                arguments=["--roles", "firehose,identity"],
            )
        )
        processes = [stack.enter_context(indexer(run, slot)) for slot in (0, 1)]
        run.wait_for("two shares", shared_by(2))
        processes[0].kill()
        run.wait_for("one share", shared_by(1), 25)
        settle(run, relay.network.frames.last_seq)
    assert differences(shared, "golden-gates", database) == ""
