"""A process of a role, started for real, with a role made for the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import redis

from engine.runtime import worker

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import asyncio, sys, time
from engine.errors import SchemaMismatch
from engine.runtime import services, worker
from engine.runtime.plan import ProcessSpec
from engine import settings

class Role:
    async def run(self, stop):
        print("ready", flush=True)
        {body}

    def report(self):
        return {{"state": "tested", "shards": [3]}}

async def ready(settings, name, *, tells): pass
services.wait_ready = ready
services.with_urls = lambda settings: settings
worker.build = lambda spec, settings: Role()
sys.exit(worker.main(ProcessSpec({role!r}, 1, {core}, "here"), settings.load_with_sources()))
"""

BODIES = {
    "obedient": "await stop.wait()",
    "slow": "await stop.wait(); await asyncio.sleep(1)",
    "hanging": "time.sleep(60)",
    "deaf": "await asyncio.sleep(60)",
    "ending": "pass",
    "mismatched": "raise SchemaMismatch('no table')",
    "broken": "1 / 0",
}


class Started:
    def __init__(
        self, body: str, core: int | None = None, role: str = "indexer", **environ: str
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(body=BODIES[body], core=core, role=role)],
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": "redis://127.0.0.1:1", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def end(self, timeout: float = 20) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, errors


@pytest.fixture
def start() -> Iterator[type[Started]]:
    made: list[Started] = []

    class Tracked(Started):
        def __init__(
            self, body: str, core: int | None = None, role: str = "indexer", **environ: str
        ) -> None:
            super().__init__(body, core, role, **environ)
            made.append(self)

    yield Tracked
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_role_with_0_and_logs_the_reason(
    start: type[Started], which: signal.Signals
) -> None:
    one = start("obedient")
    one.process.send_signal(which)
    code, log = one.end()
    assert code == 0
    assert f"INFO indexer/1 stopped reason={which.name}" in log


def test_second_signal_kills_at_once(start: type[Started]) -> None:
    one = start("deaf")
    one.process.send_signal(signal.SIGTERM)
    assert one.process.stderr
    while "stopping" not in one.process.stderr.readline():
        pass
    time.sleep(worker.ECHO_SECONDS)
    one.process.send_signal(signal.SIGTERM)
    # Had it not killed at once, it would have ended by itself, with 1.
    assert one.end()[0] == -signal.SIGTERM


def test_echo_of_a_signal_is_no_second_signal(start: type[Started]) -> None:
    one = start("slow")
    for which in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        one.process.send_signal(which)
    code, log = one.end()
    assert code == 0
    assert "INFO indexer/1 stopped reason=SIG" in log


def test_role_that_does_not_stop_is_ended_anyway(start: type[Started]) -> None:
    one = start("deaf")
    started = time.monotonic()
    one.process.send_signal(signal.SIGTERM)
    code, log = one.end()
    assert worker.ROLE_STOP_SECONDS <= time.monotonic() - started < worker.STOP_SECONDS + 2
    assert code == 1
    assert "did not stop within 4.5 s" in log


def test_role_that_does_not_stop_is_ended_even_if_nobody_reads_its_log(
    start: type[Started],
) -> None:
    one = start("deaf")
    assert one.process.stderr
    one.process.stderr.close()
    one.process.stderr = None
    one.process.send_signal(signal.SIGTERM)
    assert one.end()[0] == 1


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("ending", 1, "nobody asked"),
        ("mismatched", 3, 'error=SchemaMismatch text="no table"'),
        ("broken", 1, "ZeroDivisionError"),
    ],
)
def test_end_of_the_role_is_an_exit_code_and_a_line(
    start: type[Started], body: str, code: int, words: str
) -> None:
    found, log = start(body).end()
    assert found == code
    assert words in log


def test_process_is_pinned_to_its_core(start: type[Started]) -> None:
    core = max(os.sched_getaffinity(0))
    one = start("obedient", core)
    assert os.sched_getaffinity(one.process.pid) == {core}


@pytest.mark.parametrize("role", ["backfiller", "lister"])
def test_role_that_can_wait_stands_back(start: type[Started], role: str) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    one = start("obedient", role=role)
    assert os.getpriority(os.PRIO_PROCESS, one.process.pid) == max(ours, worker.NICE)


def test_role_that_others_wait_for_does_not_stand_back(start: type[Started]) -> None:
    one = start("obedient")
    priority = os.getpriority(os.PRIO_PROCESS, one.process.pid)
    assert priority == os.getpriority(os.PRIO_PROCESS, 0)


def test_heartbeat_tells_what_the_role_reports(start: type[Started], redis_url: str) -> None:
    one = start("obedient", REDIS_URL=redis_url, REDIS_KEY_PREFIX="p:")
    with redis.Redis.from_url(redis_url) as client:
        key = "p:headrace:process:indexer/1@here"
        give_up = time.monotonic() + 10
        while (text := client.get(key)) is None and time.monotonic() < give_up:
            time.sleep(0.02)
        assert isinstance(text, bytes)
        said = orjson.loads(text)
        assert (said["role"], said["slot"], said["host"]) == ("indexer", 1, "here")
        assert (said["state"], said["shards"], said["pid"]) == ("tested", [3], one.process.pid)
        assert 0 < client.ttl(key) <= 10
        one.process.terminate()
        assert one.end()[0] == 0
        assert client.get(key) is None


def test_process_ends_with_its_supervisor() -> None:
    program = textwrap.dedent(
        """
        import os, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE,
                                 env={**os.environ, "HEADRACE_SUPERVISOR": str(os.getpid())})
        child.stdout.readline()
        print(child.pid, flush=True)
        sys.stdin.read()
        """
    )
    worker_program = PROGRAM.format(body=BODIES["obedient"], core=None, role="indexer")
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program, worker_program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdout
    pid = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.communicate()
    give_up = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < give_up:
        if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{pid}").exists()
