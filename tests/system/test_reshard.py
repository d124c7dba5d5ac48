"""Another number of shards in the middle of a log; and one ingester at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system import accounts
from tests.system.deployment import Deployment, Process, deployed, past, settle
from tests.system.golden import differences, stable_differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(180)]


def firehose(run: Deployment) -> Process:
    """The ingester by itself, as an operator starts and stops it."""
    return Process(["run", "firehose"], run.environment, run.log)


def reshard(run: Deployment, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine", "reshard", str(count), "--wait", "30"]
    return subprocess.run(
        command, env=run.environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("count", [5, 24])
async def test_a_new_number_of_shards_loses_and_repeats_nothing(
    shared: Path, tmp_path: Path, database: str, redis_url: str, count: int
) -> None:
    with deployed(
        shared / "golden",
        tmp_path / "up.log",
        database,
        redis_url,
        rate=400,
        indexers=2,
        arguments=["--roles", "indexer,identity"],
    ) as (run, relay):
        with firehose(run):
            run.wait_for("seq 900", past(900))
            refused = reshard(run, count)
        assert refused.returncode == 2
        assert "another firehose of this deployment is at work" in refused.stderr
        done = reshard(run, count)
        assert done.returncode == 0, done.stderr
        assert f"{count} shards instead of 16" in done.stdout
        with firehose(run):
            settle(run, relay.network.frames.last_seq)
            status = run.status()
        assert len(status["streams"]["firehose_live"]["shards"]) == count
    assert stable_differences(shared, "golden", database) == ""
    await accounts.add_up(database, redis_url, at_least=3001)


def test_a_second_ingester_of_the_deployment_is_refused(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    network, log = shared / "golden-gates", tmp_path / "up.log"
    with deployed(network, log, database, redis_url) as (run, relay):
        run.wait_for("seq 100", past(100))
        [pid] = run.pids("firehose")
        heard = []
        with firehose(run) as second:
            while second.process is not None and second.process.poll() is None:
                heard.append(run.pids("firehose"))  # the newcomer does not speak for the first
                time.sleep(0.2)
            assert second.wait(30) == 2
        assert len(heard) > 5
        assert all(pids == [pid] for pids in [*heard, run.pids("firehose")])
        assert "another firehose of this deployment is at work" in run.tail()
        settle(run, relay.network.frames.last_seq)
    assert differences(shared, "golden-gates", database) == ""
