"""The keeper of processes, with processes that misbehave on request."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

import pytest

from engine.runtime import children
from engine.runtime.children import Children
from engine.runtime.plan import ProcessSpec

SPECS = [ProcessSpec("indexer", slot, None, "here") for slot in range(2)]

# Each process appends "SLOT PID SUPERVISOR FAILPOINT" to its log, then does as told for its slot.
PROGRAM = """
import os, signal, sys, time
log, todo = sys.argv[1], sys.argv[2].split(",")
slot = int(sys.argv[sys.argv.index("--slot") + 1])
word = todo[slot]
if word == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(log, "a") as out:
    failpoint = os.environ.get("HEADRACE_FAILPOINT", "none")
    out.write(f"{slot} {os.getpid()} {os.environ['HEADRACE_SUPERVISOR']} {failpoint}\\n")
if word.isdigit():
    sys.exit(int(word))
if word == "crashing":
    print("2026-01-31T12:00:00.123Z ERROR indexer/1 it broke", file=sys.stderr)
    print("    Traceback", "    Odd: here", sep="\\n", file=sys.stderr)
    os.abort()
if word == "chatty":
    for number in range(1000):
        print("line", number, "x" * 2000, file=sys.stderr)
    sys.stderr.write("no newline" * 1000)
    sys.exit(1)
if word == "once" and sum(line.startswith(f"{slot} ") for line in open(log)) == 1:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""


def make(tmp_path: Path, todo: str) -> tuple[Children, Path]:
    log = tmp_path / "log"
    log.touch()
    command = [sys.executable, "-c", PROGRAM, str(log), todo]
    return Children(SPECS, command, dict(os.environ)), log


async def until_lines(log: Path, count: int) -> list[str]:
    async with asyncio.timeout(20):
        while len(lines := log.read_text().splitlines()) < count:
            await asyncio.sleep(0.02)
    return lines


def alive(line: str) -> bool:
    try:
        os.kill(int(line.split()[1]), 0)
    except ProcessLookupError:
        return False
    return True


async def test_run_starts_every_process_and_stop_ends_them(tmp_path: Path) -> None:
    keeper, log = make(tmp_path, "sleep,sleep")
    running = asyncio.create_task(keeper.run())
    lines = await until_lines(log, 2)
    assert sorted(line.split()[0] for line in lines) == ["0", "1"]
    assert {line.split()[2] for line in lines} == {str(os.getpid())}
    assert all(alive(line) for line in lines)
    running.cancel()
    assert await keeper.stop(), "they had to be killed"
    assert not any(alive(line) for line in lines)


async def test_processes_do_not_get_the_signals_of_a_terminal(tmp_path: Path) -> None:
    keeper, log = make(tmp_path, "sleep,sleep")
    running = asyncio.create_task(keeper.run())
    for line in await until_lines(log, 2):
        assert os.getpgid(int(line.split()[1])) != os.getpgrp()
    running.cancel()
    await keeper.stop()


async def test_run_starts_a_dead_process_again_and_logs_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keeper, log = make(tmp_path, "once,sleep")
    running = asyncio.create_task(keeper.run())
    lines = await until_lines(log, 3)
    assert sorted(line.split()[0] for line in lines) == ["0", "0", "1"]
    assert "process=indexer/0 exit=SIGKILL" in caplog.text
    running.cancel()
    await keeper.stop()


async def test_failpoint_is_for_the_first_process_of_a_slot_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_FAILPOINT", "indexer:before_commit:1:kill")
    keeper, log = make(tmp_path, "once,once")
    running = asyncio.create_task(keeper.run())
    lines = await until_lines(log, 4)
    for slot in ("0", "1"):
        words = [line.split()[3] for line in lines if line.startswith(slot)]
        assert words == ["indexer:before_commit:1:kill", "none"]
    running.cancel()
    await keeper.stop()


@pytest.mark.parametrize("code", sorted(children.FINAL_CODES))
async def test_run_returns_a_code_that_no_restart_mends(tmp_path: Path, code: int) -> None:
    keeper, log = make(tmp_path, f"sleep,{code}")
    async with asyncio.timeout(20):
        assert await keeper.run() == code
    await keeper.stop()
    assert not any(alive(line) for line in log.read_text().splitlines())


@pytest.mark.parametrize(
    ("todo", "code", "cause", "last"),
    [
        ("1", "1", 'said=""', []),
        (
            "crashing",
            "SIGABRT",
            'said="it broke: Odd: here"',
            ["2026-01-31T12:00:00.123Z ERROR indexer/1 it broke", "    Traceback", "    Odd: here"],
        ),
        (
            "chatty",
            "1",
            'said="' + "no newline" * 50 + '"',
            [f"line {number} {'x' * 2000}"[:500] for number in range(981, 1000)]
            + ["no newline" * 50],
        ),
    ],
)
async def test_run_gives_up_on_a_crash_loop_with_its_last_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    todo: str,
    code: str,
    cause: str,
    last: list[str],
) -> None:
    monkeypatch.setattr(children, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(children, "LONGEST_PAUSE_SECONDS", 0.01)
    keeper, log = make(tmp_path, f"sleep,{todo}")
    async with asyncio.timeout(30):
        assert await keeper.run() == 4
    await keeper.stop()
    deaths = [line for line in log.read_text().splitlines() if line.startswith("1 ")]
    assert len(deaths) == children.CRASH_LOOP_DEATHS
    ended = f"process=indexer/1 exit={code} {cause}"
    assert caplog.text.count(f"starting it again {ended}") == children.CRASH_LOOP_DEATHS - 1
    assert f"giving up {ended}" in caplog.text
    prefix = "last line of indexer/1: "
    lines = [said.removeprefix(prefix) for said in caplog.messages if said.startswith(prefix)]
    assert lines == last


async def test_what_a_process_says_goes_on_to_our_own_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "CRASH_LOOP_DEATHS", 1)
    keeper, _ = make(tmp_path, "sleep,chatty")
    async with asyncio.timeout(20):
        assert await keeper.run() == 4
    await keeper.stop()
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("line ")] == [
        f"line {number} {'x' * 2000}" for number in range(1000)
    ]
    assert "no newline" * 1000 in lines


async def test_stop_kills_what_does_not_listen_after_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(children, "STOP_SECONDS", 0.3)
    caplog.set_level(logging.INFO)
    keeper, log = make(tmp_path, "deaf,sleep")
    running = asyncio.create_task(keeper.run())
    lines = await until_lines(log, 2)
    running.cancel()
    started = time.monotonic()
    async with asyncio.timeout(30):  # not for as long as they would live
        assert not await keeper.stop()
    assert time.monotonic() - started >= 0.3
    assert not any(alive(line) for line in lines)
    assert "killing what did not stop" in caplog.text
    assert "process=indexer/0 exit=SIGKILL" in caplog.text
