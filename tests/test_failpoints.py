"""Failpoints: what is refused, who acts, when, and that every point is somewhere."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from engine import failpoints, settings
from engine.errors import SettingsError

ALL = sorted(point for points in failpoints.POINTS.values() for point in points)

PROGRAM = """
import logging, sys
from engine import failpoints
logging.basicConfig()
failpoints.arm(sys.argv[1], sys.argv[2])
for number in range(4):
    print("pass", number, flush=True)
    failpoints.passing("before_copy")
    failpoints.passing("before_commit")
"""


def run(value: str, process: str = "indexer/0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, value, process],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize(
    "value",
    [
        "indexer:before_commit:3",
        "indexer:before_commit:3:kill:now",
        "indexer:before_comit:3:kill",
        "firehose:before_commit:3:kill",
        "identity:before_copy:3:kill",
        "indexer:before_commit:0:kill",
        "indexer:before_commit:-1:kill",
        "indexer:before_commit:x:kill",
        "indexer:before_commit:3:exit",
    ],
)
def test_load_value_that_names_no_point_is_refused_with_all_points(value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings.load(environ={failpoints.VARIABLE: value})
    for word in (value, "ROLE:POINT:PASS:ACTION", "kill or stop", *ALL):
        assert word in str(refused.value)


def test_load_takes_a_failpoint_and_is_not_changed_by_it() -> None:
    for role, points in failpoints.POINTS.items():
        for point in points:
            value = f"{role}:{point}:2:stop"
            assert settings.load(environ={failpoints.VARIABLE: value}) == settings.Settings()
    assert settings.load(environ={failpoints.VARIABLE: ""}) == settings.Settings()


def test_every_point_is_passed_at_one_place_a_role_or_one_that_roles_share() -> None:
    engine = Path(failpoints.__file__).parent
    places = Counter(
        point
        for path in engine.rglob("*.py")
        for point in re.findall(r'failpoints\.passing(?:_sent)?\("(\w+)"\)', path.read_text())
    )
    assert set(places) == set(ALL)
    assert places <= Counter(ALL)


def test_process_kills_itself_at_the_pass_asked_for_after_saying_so() -> None:
    ended = run("indexer:before_commit:3:kill")
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.splitlines() == ["pass 0", "pass 1", "pass 2"]
    first, last = ended.stderr.splitlines()
    assert first == (
        "WARNING:engine.failpoints:failpoint armed: this process will kill itself at pass 3 of"
        " before_commit; for tests only"
    )
    assert last == "failpoint before_commit reached"


@pytest.mark.parametrize(
    ("value", "process"),
    [
        ("", "indexer/0"),
        ("indexer/1:before_commit:1:kill", "indexer/0"),
        ("indexer:before_commit:1:kill", "firehose"),
        ("indexer:before_commit:5:kill", "indexer/0"),
    ],
)
def test_nothing_happens_unless_it_is_asked_of_this_process(value: str, process: str) -> None:
    ended = run(value, process)
    assert ended.returncode == 0
    assert len(ended.stdout.splitlines()) == 4
    assert "reached" not in ended.stderr


def test_one_process_of_a_role_can_be_meant() -> None:
    assert run("indexer/1:before_copy:1:kill", "indexer/1").returncode == -signal.SIGKILL


def test_stopped_process_goes_on_when_continued_and_does_not_stop_again() -> None:
    program = [sys.executable, "-c", PROGRAM, "indexer:before_copy:2:stop", "indexer/0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(out.splitlines()) == 4
    assert err.decode().count("failpoint before_copy reached") == 1
