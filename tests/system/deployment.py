"""A whole deployment in processes of its own, as an operator runs it, against a served network.

Started by the same command (`headrace up`), observed through the same status, killed by pid.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import orjson

from tests.free_port import free_port

START_SECONDS = 30.0


class Deployment:
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
        self.port = free_port()
        self.log = log
        self.arguments = tuple(arguments)
        self.environment = {
            **os.environ,
            **network,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "INDEXER_PROCESSES": str(indexers),
            "METRICS_PORT": str(self.port),
            "METRICS_HOST": "127.0.0.1",
            "DATA_DIR": str(log.parent / "data"),
            **(extra or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "engine", "up", *self.arguments],
                env=self.environment,
                stdout=out,
                stderr=out,
            )

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
            raise AssertionError(f"not caught up after {seconds} s:\n{self.tail()}") from None

    def status(self) -> dict[str, Any]:
        """What the status server answers; empty while it does not answer."""
        try:
            url = f"http://127.0.0.1:{self.port}/status"
            with urllib.request.urlopen(url, timeout=5) as reply:
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

    def kill(self, role: str, which: int = 0) -> int | None:
        """SIGKILL one process of a role; its pid, or None if there was none just now."""
        pids = self.pids(role)
        if not pids:
            return None
        pid = pids[which % len(pids)]
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return pid

    def tail(self, size: int = 6000) -> str:
        return self.log.read_text(errors="replace")[-size:]
