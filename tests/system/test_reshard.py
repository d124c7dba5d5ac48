"""Another number of shards in the middle of a log; and one ingester at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from engine.simulate import network as networks
from engine.simulate import server
from tests.system import accounts
from tests.system.deployment import Deployment, past, settle
from tests.system.golden import differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(180)]


@contextmanager
def firehose(run: Deployment) -> Iterator[subprocess.Popen[bytes]]:
    """The ingester by itself, as an operator starts and stops it."""
    with run.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine", "run", "firehose"],
            env=run.environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(15)


def reshard(run: Deployment, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine", "reshard", str(count), "--wait", "30"]
    return subprocess.run(
        command, env=run.environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("count", [5, 24])
async def test_a_new_number_of_shards_loses_and_repeats_nothing(
    shared: Path, tmp_path: Path, database: str, redis_url: str, count: int
) -> None:
    with ExitStack() as stack:
        network = networks.load(shared / "golden")
        relay = stack.enter_context(server.serve_in_thread(network, rate=400))
        run = stack.enter_context(
            Deployment(
                relay.settings,
                database,
                redis_url,
                indexers=2,
                log=tmp_path / "up.log",
                arguments=["--roles", "indexer,identity"],
            )
        )
        with firehose(run):
            run.wait_for("seq 900", past(900))
            refused = reshard(run, count)
        assert refused.returncode == 2
        assert "another firehose of this deployment is at work" in refused.stderr
        done = reshard(run, count)
        assert done.returncode == 0, done.stderr
        assert f"{count} shards instead of 16" in done.stdout
        with firehose(run):
            settle(run, network.frames.last_seq)
            status = run.status()
        assert len(status["streams"]["firehose_live"]["shards"]) == count
    assert differences(shared, "golden", database) == ""
    await accounts.add_up(database, redis_url, at_least=3001)


def test_a_second_ingester_of_the_deployment_is_refused(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    with ExitStack() as stack:
        network = networks.load(shared / "golden-gates")
        relay = stack.enter_context(server.serve_in_thread(network))
        run = stack.enter_context(
            Deployment(relay.settings, database, redis_url, log=tmp_path / "up.log")
        )
        run.wait_for("seq 100", past(100))
        with firehose(run) as second:
            assert second.wait(30) == 2
        assert "another firehose of this deployment is at work" in run.tail()
        settle(run, network.frames.last_seq)
    assert differences(shared, "golden-gates", database) == ""
