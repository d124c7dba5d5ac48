from __future__ import annotations

import logging
from typing import Any

import pytest

from engine.runtime.plan import ProcessSpec
from engine.runtime.readiness import REPORT_SECONDS, Readiness

SPECS = [ProcessSpec("firehose", 0, None, "h"), ProcessSpec("indexer", 0, None, "h")]
PIDS = {"firehose": 11, "indexer/0": 12}


def beat(pid: int, state: str, host: str = "h") -> dict[str, Any]:
    return {"pid": pid, "host": host, "state": state}


def texts(readiness: Readiness, said: dict[str, Any], pids: dict[str, int], at: float) -> list[str]:
    return [text for _, text in readiness.observe(said, pids, at)]


def test_each_ready_process_is_told_once_and_then_all() -> None:
    ours = Readiness(SPECS)
    assert texts(ours, {}, PIDS, 10.0) == []
    said = {"firehose": beat(11, "connecting"), "indexer/0@h": beat(12, "running")}
    assert texts(ours, said, PIDS, 11.5) == ["ready process=indexer/0 pid=12 seconds=1.500"]
    said["firehose"] = beat(11, "backpressure")
    assert texts(ours, said, PIDS, 12.0) == [
        "ready process=firehose pid=11 seconds=2.000",
        "all processes are ready processes=2",
    ]
    said["firehose"] = beat(11, "waiting")  # what is wrong later the role says itself
    assert texts(ours, said, PIDS, 13.0) == []


@pytest.mark.parametrize(
    "stale", [beat(9, "running"), beat(12, "running", "other"), {}], ids=["pid", "host", "none"]
)
def test_heartbeat_of_another_process_makes_nobody_ready(stale: dict[str, Any]) -> None:
    ours = Readiness(SPECS)
    said = {"firehose": beat(11, "running"), "indexer/0@h": stale}
    assert texts(ours, said, PIDS, 1.0) == ["ready process=firehose pid=11 seconds=0.000"]
    assert ours.report() == {"state": "not all ready", "not_ready": {"indexer/0": "silent"}}


def test_process_started_again_is_told_again() -> None:
    ours = Readiness(SPECS)
    said = {"firehose": beat(11, "running"), "indexer/0@h": beat(12, "running")}
    assert len(texts(ours, said, PIDS, 1.0)) == 3
    assert ours.report() == {"state": "running", "not_ready": {}}
    assert texts(ours, said, {"firehose": 11}, 2.0) == []
    assert ours.report()["not_ready"] == {"indexer/0": "silent"}
    anew = PIDS | {"indexer/0": 13}
    assert texts(ours, said, anew, 3.0) == []
    said["indexer/0@h"] = beat(13, "running")
    assert texts(ours, said, anew, 4.0) == [
        "ready process=indexer/0 pid=13 seconds=1.000",
        "all processes are ready processes=2",
    ]


def test_process_that_does_not_become_ready_is_named_again_and_again() -> None:
    ours = Readiness(SPECS[:1])
    said = {"firehose": beat(11, "connecting")}
    assert texts(ours, said, PIDS, 0.0) == []
    assert texts(ours, said, PIDS, REPORT_SECONDS - 0.1) == []
    for turn in (1, 2):
        seconds = turn * REPORT_SECONDS
        assert list(ours.observe(said, PIDS, seconds)) == [
            (
                logging.WARNING,
                f"not ready yet process=firehose pid=11 state=connecting seconds={seconds:.3f}",
            )
        ]
        assert texts(ours, said, PIDS, seconds + 1) == []
