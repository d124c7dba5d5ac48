"""`headrace up` as an operator meets it, with the lightest role."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.adapters import launch
from engine.roles.firehose.counters import State
from engine.runtime.worker import ECHO_SECONDS

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = ("up", "--roles", "identity")


class Command:
    """One `headrace ...`, its log read line by line."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        keep = {"PATH", "HOME", "TMPDIR", "LANG"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine", *arguments],
            cwd=ROOT,
            env={name: os.environ[name] for name in keep & os.environ.keys()}
            | {"METRICS_PORT": "0", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen = ""

    def until(self, words: str) -> str:
        """The line of the log that has these words."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.seen += line
            if words in line:
                return line
        raise AssertionError(f"{words!r} never came:\n{self.seen}")

    def end(self, which: signal.Signals | None = None) -> tuple[int, str, str]:
        """Exit code, stdout and all of the log; after a signal, if one is named."""
        if which is not None:
            self.process.send_signal(which)
        out, rest = self.process.communicate(timeout=30)
        return self.process.returncode, out, self.seen + rest


@pytest.fixture
def command() -> Iterator[type[Command]]:
    made: list[Command] = []

    class Tracked(Command):
        def __init__(self, *arguments: str, **environ: str) -> None:
            super().__init__(*arguments, **environ)
            made.append(self)

    yield Tracked
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def started_pid(line: str) -> int:
    match = re.search(r"started pid=(\d+)", line)
    assert match
    return int(match[1])


def test_up_runs_until_a_signal_and_tells_its_status(
    command: type[Command], database: str, redis_url: str
) -> None:
    up = command(*IDENTITY, DATABASE_URL=database, REDIS_URL=redis_url)
    url = re.search(r"url=(\S+)", up.until("status page"))
    assert url
    pid = started_pid(up.until("identity started"))
    give_up = time.monotonic() + 10
    processes: dict[str, Any] = {}
    while "identity" not in processes and time.monotonic() < give_up:
        with urllib.request.urlopen(url[1]) as reply:
            processes = orjson.loads(reply.read())["processes"]
    assert processes["identity"]["pid"] == pid
    assert f"process=identity pid={pid}" in up.until("up ready")
    up.until("all processes are ready processes=1")
    code, _, log = up.end(signal.SIGTERM)
    assert code == 0
    assert "INFO up stopped reason=SIGTERM" in log
    assert "INFO identity stopped reason=SIGTERM" in log
    assert not alive(pid)


def test_process_that_does_not_become_ready_shows_in_the_status(
    command: type[Command], database: str, redis_url: str
) -> None:
    stores = {"DATABASE_URL": database, "REDIS_URL": redis_url}
    up = command("up", "--roles", "firehose", INGESTER_RELAY_HOSTS="ws://127.0.0.1:1", **stores)
    up.until("starting again in")
    ours: dict[str, Any] = {}
    give_up = time.monotonic() + 20
    while ours.get("not_ready") in (None, {"firehose": "silent"}) and time.monotonic() < give_up:
        _, out, _ = command("status", "--json", **stores).end()
        named = {p["role"]: p for p in orjson.loads(out)["processes"].values()}
        ours = named.get("up", {})
    assert ours["state"] == "not all ready"
    assert ours["not_ready"]["firehose"] in set(State) - {State.STREAMING, State.FULL}
    _, out, _ = command("status", **stores).end()
    assert re.search(
        r"^process up/\d+@\S+: not all ready, .*, firehose is [\w ]+$", out, re.MULTILINE
    )
    code, _, log = up.end(signal.SIGTERM)
    assert code == 0
    assert "up ready process=" not in log


def test_up_refuses_more_connections_than_postgres_allows(
    command: type[Command], database: str, redis_url: str
) -> None:
    code, _, log = command(
        *("up", "--roles", "indexer"),
        DATABASE_URL=database,
        REDIS_URL=redis_url,
        INDEXER_PROCESSES="50",
        SHARD_COUNT="50",
    ).end()
    assert code == 2
    assert "headrace: 101 connections are planned and Postgres allows 97: set max_conn" in log
    assert "starting processes=" not in log


def test_up_starts_a_killed_process_again(
    command: type[Command], database: str, redis_url: str
) -> None:
    up = command(*IDENTITY, DATABASE_URL=database, REDIS_URL=redis_url)
    first = started_pid(up.until("identity started"))
    os.kill(first, signal.SIGKILL)
    assert "exit=SIGKILL" in up.until("starting it again")
    second = started_pid(up.until("identity started"))
    assert second != first
    assert up.end(signal.SIGINT)[0] == 0
    assert not alive(second)


def test_up_killed_leaves_no_process(command: type[Command], database: str, redis_url: str) -> None:
    up = command(*IDENTITY, DATABASE_URL=database, REDIS_URL=redis_url)
    pid = started_pid(up.until("identity started"))
    up.process.kill()
    give_up = time.monotonic() + 30
    while alive(pid) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not alive(pid)


def test_second_signal_kills_at_once(command: type[Command], database: str, redis_url: str) -> None:
    up = command(*IDENTITY, DATABASE_URL=database, REDIS_URL=redis_url)
    pid = started_pid(up.until("identity started"))
    os.kill(pid, signal.SIGSTOP)  # it cannot listen
    up.process.send_signal(signal.SIGTERM)
    up.until("stopping reason=SIGTERM")
    time.sleep(ECHO_SECONDS)
    code, _, log = up.end(signal.SIGTERM)
    assert code == 1
    assert 'killing everything reason="a second SIGTERM"' in log
    assert "killing what did not stop" not in log, "it was not at once"
    assert "exit=SIGKILL" in log
    assert not alive(pid)


def test_echo_of_a_signal_is_no_second_signal(
    command: type[Command], database: str, redis_url: str
) -> None:
    up = command(*IDENTITY, DATABASE_URL=database, REDIS_URL=redis_url)
    up.until("identity started")
    up.process.send_signal(signal.SIGTERM)
    up.until("stopping reason=SIGTERM")
    code, _, log = up.end(signal.SIGTERM)
    assert code == 0
    assert "killing" not in log


def test_signal_while_services_start_ends_them(command: type[Command], short_dir: Path) -> None:
    data = short_dir / "interrupted"
    up = command(*IDENTITY, DATA_DIR=str(data))
    give_up = time.monotonic() + 20
    while not (data / "postgres" / "data.new").exists() and time.monotonic() < give_up:
        time.sleep(0.005)
    started = time.monotonic()
    code, _, log = up.end(signal.SIGTERM)
    assert code == 0
    assert "stopped before it started reason=SIGTERM" in log
    lock = data / "postgres" / "lock"
    while launch.is_locked(lock) and time.monotonic() < started + 30:
        time.sleep(0.02)  # initdb's own child has to notice
    assert not launch.is_locked(lock)
    again = command(*IDENTITY, DATA_DIR=str(data))
    again.until("identity started")
    assert again.end(signal.SIGTERM)[0] == 0


def test_up_in_a_foreign_database_without_tables_names_the_command(
    command: type[Command], empty_database: str, redis_url: str
) -> None:
    code, _, log = command(*IDENTITY, DATABASE_URL=empty_database, REDIS_URL=redis_url).end()
    assert code == 3
    assert "headrace schema create" in log
    assert "Traceback" not in log


def test_up_waits_for_a_store_that_is_away_and_says_so(
    command: type[Command], database: str
) -> None:
    up = command(*IDENTITY, DATABASE_URL=database, REDIS_URL="redis://127.0.0.1:1")
    line = up.until("waiting for Redis")
    assert "setting=REDIS_URL" in line
    assert up.end(signal.SIGTERM)[0] == 0


def test_up_without_urls_starts_services_and_makes_tables_once(
    command: type[Command], short_dir: Path
) -> None:
    data = str(short_dir / "up")
    first = command(*IDENTITY, DATA_DIR=data)
    for words in ("DATABASE_URL is not set", "REDIS_URL is not set", "made the tables"):
        first.until(words)
    first.until("identity started")
    code, out, _ = command("status", "--json", DATA_DIR=data).end()
    assert code == 0
    assert orjson.loads(out)["errors"] == []
    assert first.end(signal.SIGTERM)[0] == 0
    again = command(*IDENTITY, DATA_DIR=data)
    again.until("identity started")
    code, _, log = again.end(signal.SIGTERM)
    assert code == 0
    assert "made the tables" not in log
    code, _, log = command("status", DATA_DIR=data).end()
    assert code == 2
    assert "DATABASE_URL and REDIS_URL" in log
