"""A whole deployment in processes of its own, as an operator runs it, against a served network.

Started by the same command (`headrace up`), observed through the same status, killed by pid.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import orjson

from engine import simulate
from engine.simulate.server import Server

START_SECONDS = 30.0


class Process:
    """One `headrace ...`; a context manager that stops it."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.arguments = tuple(arguments)
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environ}
        self.log = log
        self.program: tuple[str, ...] = ("-m", "engine")
        self.prefix: tuple[str, ...] = ()  # of the command line, as `timeout 3`
        self.process: subprocess.Popen[bytes] | None = None
        self.killed: set[int] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """In a session of its own, as from a terminal: it leads its group."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, *self.program, *self.arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def signal(self, which: signal.Signals = signal.SIGTERM, *, group: bool = False) -> float:
        """Send a signal, and say when."""
        at = time.monotonic()
        os.killpg(self.pid, which) if group else os.kill(self.pid, which)
        return at

    def stop(self) -> int:
        """TERM, and the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def wait(self, seconds: float) -> int:
        """The exit code of a run that ends by itself (`--until-caught-up`)."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended after {seconds} s:\n{self.tail()}") from None

    def until(self, what: str, condition: Callable[[], Any], seconds: float = START_SECONDS) -> Any:
        """Poll until a condition holds while the process runs; what it returned."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"ended while waiting for {what}:\n{self.tail()}"
            if found := condition():
                return found
            time.sleep(0.02)
        raise AssertionError(f"{what}: not within {seconds} s\n{self.tail()}")

    def says(self, words: str) -> bool:
        """Whether its log has these words."""
        return words in self.log.read_text(errors="replace")

    def until_says(self, words: str, seconds: float = START_SECONDS) -> None:
        """Wait for words in its log."""
        self.until(words, lambda: self.says(words), seconds)

    def tail(self, size: int = 6000) -> str:
        return self.log.read_text(errors="replace")[-size:]


class Deployment(Process):
    """`headrace up` as a child process; a context manager that stops it."""

    def __init__(
        self,
        network: Mapping[str, str],
        database_url: str,
        redis_url: str,
        *,
        indexers: int = 1,
        log: Path,
        extra: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        environment = {
            **network,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "INDEXER_PROCESSES": str(indexers),
            "METRICS_PORT": "0",  # one that nobody can take before it; its log says which
            "METRICS_HOST": "127.0.0.1",
            "DATA_DIR": str(log.parent / "data"),
            # Nothing is fetched where a test is about live events.
            "ROLES": "firehose,indexer,identity",
            **(extra or {}),
        }
        super().__init__(("up", *arguments), environment, log)

    def status(self) -> dict[str, Any]:
        """What the status server answers; empty while it does not answer."""
        urls = re.findall(r" status page url=(\S+)", self.log.read_text(errors="replace"))
        if not urls:
            return {}
        try:
            with urllib.request.urlopen(urls[-1], timeout=5) as reply:
                document: dict[str, Any] = orjson.loads(reply.read())
                return document
        except OSError:
            return {}

    def wait_for(self, what: str, condition: Any, seconds: float = START_SECONDS) -> dict[str, Any]:
        """Poll the status until `condition(status)` holds."""
        deadline = time.monotonic() + seconds
        status: dict[str, Any] = {}
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"ended while waiting for {what}:\n{self.tail()}"
            status = self.status()
            if status and condition(status):
                return status
            time.sleep(0.05)
        raise AssertionError(f"{what}: not within {seconds} s: {status}\n{self.tail()}")

    def pids(self, role: str) -> list[int]:
        """Processes of a role, as the status names them."""
        processes = self.status().get("processes", {})
        return [p["pid"] for p in processes.values() if p["role"] == role and p.get("pid")]

    def kill(self, role: str, which: int = 0, seconds: float = 30) -> int:
        """SIGKILL one process of a role that was not killed before; its pid.

        A killed process stays in the status until its heartbeat expires, so a new one is waited
        for.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pids = sorted(set(self.pids(role)) - self.killed)
            if pids:
                pid = pids[which % len(pids)]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed.add(pid)
                    return pid
            time.sleep(0.05)
        raise AssertionError(f"no {role} to kill within {seconds} s:\n{self.tail()}")


def cut(network: simulate.Network) -> tuple[simulate.Network, list[bytes]]:
    """A network whose log ends in its middle, and the frames that are to be published later."""
    frames = [network.frames[place] for place in range(len(network.frames))]
    middle = len(frames) // 2
    return replace(network, frames=simulate.MemoryFrames(frames[:middle])), frames[middle:]


@contextmanager
def deployed(
    network: Path | simulate.Network,
    log: Path,
    database: str,
    redis_url: str,
    *,
    rate: float = 0.0,
    **options: Any,
) -> Iterator[tuple[Deployment, Server]]:
    """A deployment on a recorded network that is served at ``rate`` frames a second."""
    if isinstance(network, Path):
        network = simulate.load(network)
    with (
        simulate.serve_in_thread(network, rate=rate) as relay,
        Deployment(relay.settings, database, redis_url, log=log, **options) as run,
    ):
        yield run, relay


def progress(status: dict[str, Any]) -> tuple[int, int]:
    """Received and indexed seq; of several relays the lowest."""
    relays = list(status.get("relays", {}).values())
    received = [relay.get("received_seq") or 0 for relay in relays]
    indexed = [relay.get("indexed_seq") or 0 for relay in relays]
    return min(received, default=0), min(indexed, default=0)


def past(seq: int) -> Callable[[dict[str, Any]], bool]:
    """Condition for `wait_for`: so much is received."""
    return lambda status: progress(status)[0] >= seq


def settle(run: Deployment, last: int, seconds: float = 60) -> None:
    """Wait until all up to a seq is indexed and settled, no identity due, every stream empty."""

    def done(status: dict[str, Any]) -> bool:
        streams = status.get("streams", {})
        return (
            progress(status) == (last, last)
            and status.get("identity", {}).get("due") == 0
            and status.get("unsettled") == 0
            and bool(streams)
            and all(stream.get("entries") == 0 for stream in streams.values())
        )

    run.wait_for("everything indexed and every stream empty", done, seconds)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descendants(pid: int) -> set[int]:
    """All processes below one, however deep."""
    found: set[int] = set()
    todo = [pid]
    while todo:
        parent = todo.pop()
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                below = {int(child) for child in children.read_text().split()}
            except OSError:  # it just ended
                continue
            todo += below - found
            found |= below
    return found
