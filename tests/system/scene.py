"""A deployment whose indexers a test starts by hand: for take-overs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from engine import failpoints, simulate
from engine.simulate.server import Server
from tests.system import accounts
from tests.system.deployment import Deployment, Process, deployed, settle
from tests.system.golden import differences

LEASE_SECONDS, RENEW_SECONDS = 2.0, 0.4
"""In these indexers only, so that nobody waits."""

PATIENT_SECONDS = 600.0
"""As a lease: who waits so long takes shards only from who is gone, or gives them back."""

PROGRAM = """
import sys
from engine.roles.indexer import lease
lease.LEASE_SECONDS, lease.RENEW_SECONDS = {lease_seconds}, {renew_seconds}
from engine.cli import main
sys.exit(main())
"""

READY = "ready, owning shards"
WAITING = "waiting for shards of indexer/0"


class Scene:
    """The rest of the deployment, and the indexers that were started: all of one name."""

    def __init__(
        self, up: Deployment, relay: Server, network: Path, database: str, redis_url: str
    ) -> None:
        self.up = up
        self.relay = relay
        self.started: list[Process] = []
        self._network = network
        self._database = database
        self._redis_url = redis_url

    def indexer(
        self, says: str, *, failpoint: str = "", lease_seconds: float = LEASE_SECONDS
    ) -> Process:
        """Start one more, and wait until it says so; after how long it takes over from others."""
        environ = {**self.up.environment, failpoints.VARIABLE: failpoint}
        log = self.up.log.parent / f"indexer-{len(self.started)}.log"
        process = Process(("run", "indexer"), environ, log)
        program = PROGRAM.format(lease_seconds=lease_seconds, renew_seconds=RENEW_SECONDS)
        process.program = ("-c", program)
        process.start()
        self.started.append(process)
        process.until_says(says)
        return process

    async def sql(self, statement: str, *parameters: object) -> list[asyncpg.Record]:
        conn = await asyncpg.connect(self._database)
        try:
            return await conn.fetch(statement, *parameters)
        finally:
            await conn.close()

    async def tokens(self) -> set[int]:
        """The fencing tokens of all shards."""
        return {row["token"] for row in await self.sql("SELECT token FROM headrace.shard")}

    def settle(self) -> None:
        """Wait until the whole log is indexed and every stream empty."""
        settle(self.up, simulate.load(self._network).frames.last_seq)

    async def judge(self) -> None:
        """Settle, end everything, and find the reference's tables and each op's outcome."""
        self.settle()
        self.end()
        self.up.stop()
        differing = differences(self._network.parent, self._network.name, self._database)
        assert differing == ""
        await accounts.add_up(self._database, self._redis_url, at_least=3001)

    def end(self) -> None:
        """Stop all indexers, frozen ones too."""
        for process in self.started:
            if process.process is not None and process.process.poll() is None:
                process.signal(signal.SIGCONT)
                process.stop()


@contextmanager
def scene(
    network: Path,
    database: str,
    redis_url: str,
    log: Path,
    *,
    served: simulate.Network | None = None,
    **options: Any,
) -> Iterator[Scene]:
    """A deployment without indexers on a recorded network, or what is ``served`` of it."""
    with deployed(
        served or network,
        log,
        database,
        redis_url,
        arguments=["--roles", "firehose,identity"],
        **options,
    ) as (up, relay):
        made = Scene(up, relay, network, database, redis_url)
        try:
            yield made
        finally:
            made.end()


def says_again(process: Process, words: str) -> Callable[[], bool]:
    """A condition: the process says these words once more than until now."""

    def count() -> int:
        return process.log.read_text(errors="replace").count(words)

    before = count()
    return lambda: count() > before
