"""The status page, asked ten times a second while everything runs at full speed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from engine import simulate
from tests.system.deployment import Deployment, progress

pytestmark = [pytest.mark.services, pytest.mark.timeout(90)]

INTERVAL_SECONDS = 0.1


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_status_can_be_polled_ten_times_a_second(
    busy_network: simulate.Network,
    database: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    last = busy_network.frames.last_seq
    took: list[float] = []
    indexed: list[int] = []
    with simulate.serve_in_thread(busy_network) as relay:
        up = Deployment(relay.settings, database, redis_url, log=tmp_path / "up.log")
        with up:
            up.wait_for("frames", lambda status: progress(status)[0] > 0)
            began, cpu = time.monotonic(), cpu_seconds(up.pid)
            for number in range(60):
                asked = time.monotonic()
                status = up.status()
                took.append(time.monotonic() - asked)
                assert status, "no answer"
                assert status["errors"] == []
                indexed.append(progress(status)[1])
                due = began + (number + 1) * INTERVAL_SECONDS
                time.sleep(max(0.0, due - time.monotonic()))
            seconds = time.monotonic() - began
            share = (cpu_seconds(up.pid) - cpu) / seconds
    took.sort()
    print(f"median {took[30] * 1000:.1f} ms, longest {took[-1] * 1000:.1f} ms, cpu {share:.1%}")
    assert indexed == sorted(indexed)
    assert len(set(indexed)) >= 5
    assert 0 < indexed[-1] <= last
    assert took[30] < INTERVAL_SECONDS
    assert share < 0.5
