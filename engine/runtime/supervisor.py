"""``headrace up``: every role of this machine, started, watched and ended together.

It holds no data and does no work of its own: embedded services where no URL is given,
the processes of the plan, and the status page. A first TERM or INT ends everything in order,
a second one at once, unless it is the echo of the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import FrameType

import msgspec

from engine import log
from engine.adapters import embedded
from engine.core import streams
from engine.ops import schema_commands, status
from engine.ops.status import Status
from engine.ops.status_reader import StatusReader
from engine.runtime import (
    budget,
    children,
    heartbeat,
    plan,
    readiness,
    services,
    status_server,
)
from engine.runtime.status_server import Snapshots
from engine.runtime.worker import ECHO_SECONDS
from engine.settings import Loaded, Settings

logger = logging.getLogger(__name__)

SILENCE_SECONDS = 2.0
"""``--until-caught-up``: relays and labelers that send nothing for so long have nothing more."""

PROGRESS_SECONDS = 1.0
"""Between two lines of progress on a terminal."""

_POLL_SECONDS = 0.2

CaughtUp = Callable[[Settings], Awaitable[None]]


def up(
    loaded: Loaded,
    *,
    config: str | None = None,
    roles: Collection[str] | None = None,
    until_caught_up: bool = False,
    progress: bool | None = None,
    host: str | None = None,
    environ: Mapping[str, str] | None = None,
    on_caught_up: CaughtUp | None = None,
) -> int:
    """Run until a signal, or until caught up.

    Embedded servers and processes are children of the calling thread, and end with it: call it
    from the main thread.

    Args:
        loaded: the settings of the deployment.
        config: the file that they came from, for the processes.
        roles: only these; by default those of the settings.
        until_caught_up: end once all that the relays have is indexed; with the lister and the
            backfiller once every repository has its outcome, and what was fetched is indexed; with
            the labels role once every labeler is connected and what it sent is indexed.
        progress: print a line a second on stdout; by default, if that is a terminal.
        host: this machine's name in the deployment; by default its hostname.
        environ: what the settings were loaded from, for the processes; by default our own.
        on_caught_up: called once when caught up, with all still running; it gets the
            settings with both URLs.

    Returns:
        The exit code: 0 after a signal or when caught up, 1 if processes had to be killed, else
            that of the process that failed.

    Raises:
        HeadraceError: it cannot start; the message says why.
    """
    settings = loaded.settings
    log.setup("up", settings.log_level)
    services.tell(loaded.notices)
    host = host or socket.gethostname()
    specs = plan.plan(settings, _cores(), roles, host=host)
    if settings.indexer.processes > settings.shard_count:
        logger.warning(
            "more indexers than shards would idle %s",
            log.fields(
                INDEXER_PROCESSES=settings.indexer.processes, SHARD_COUNT=settings.shard_count
            ),
        )
    with contextlib.ExitStack() as stack:
        try:
            with _signals_raise():
                settings, owned = _start_embedded(settings, stack)
        except _Told as told:
            logger.info("stopped before it started %s", log.fields(reason=told))
            return 0
        show = sys.stdout.isatty() if progress is None else progress
        keeper = children.Children(
            specs,
            children.headrace_command(config),
            {
                **(os.environ if environ is None else environ),
                "DATABASE_URL": settings.database_url or "",
                "REDIS_URL": settings.redis_url or "",
            },
        )
        watch = _Watch(settings, specs, until_caught_up, show, on_caught_up)
        supervisor = _Supervisor(settings, specs, host, keeper, watch)
        return asyncio.run(supervisor.run(owned))


class _Told(BaseException):
    """A signal, while there is no event loop yet to tell."""


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """TERM and INT raise ``_Told``: making a database takes seconds, and no half of it stays."""

    def raise_it(which: int, frame: FrameType | None) -> None:
        del frame
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # until all that was started has ended
        raise _Told(signal.Signals(which).name)

    before = {each: signal.signal(each, raise_it) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return []  # no pinning on this system


def _start_embedded(settings: Settings, stack: contextlib.ExitStack) -> tuple[Settings, bool]:
    """Start what no URL is given for; True if the database is one of our own."""
    data_dir = Path(settings.data_dir)
    started: dict[str, str] = {}
    if not settings.database_url:
        postgres = stack.enter_context(embedded.Postgres(data_dir))
        started["database_url"] = postgres.url
    if not settings.redis_url:
        valkey = stack.enter_context(embedded.Valkey(data_dir))
        started["redis_url"] = valkey.url
    for name, url in started.items():
        logger.info(
            "%s is not set: embedded service, for trying out, not for production %s",
            name.upper(),
            log.fields(url=url, data=data_dir.absolute()),
        )
    return msgspec.structs.replace(settings, **started), "database_url" in started


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        specs: list[plan.ProcessSpec],
        host: str,
        keeper: children.Children,
        watch: _Watch,
    ) -> None:
        self._settings = settings
        self._specs = specs
        self._host = host
        self._children = keeper
        self._watch = watch
        self._told = asyncio.Event()
        self._told_at = 0.0
        self._reason = ""

    async def run(self, owns_database: bool) -> int:
        """Prepare the stores, then keep the processes until something ends it."""
        self._catch_signals()
        prepared = asyncio.create_task(self._prepare(owns_database))
        if not await self._before_signal(prepared):
            return 0
        reader = StatusReader(self._settings)
        snapshots = Snapshots(reader)
        page = await status_server.serve(self._settings, snapshots)
        logger.info("starting %s", log.fields(processes=",".join(self._children.names)))
        keeping = asyncio.create_task(self._children.run())
        told = asyncio.create_task(self._told.wait())
        watching = asyncio.create_task(self._watch.run(snapshots))
        over = asyncio.Event()
        heralding = asyncio.create_task(
            readiness.herald(self._settings, self._specs, self._children.pids, self._host, over)
        )
        try:
            await asyncio.wait((keeping, told, watching), return_when=asyncio.FIRST_COMPLETED)
            code = keeping.result() if keeping.done() else 0
            if watching.done():
                watching.result()  # it ends by itself only when caught up, or by a bug
                self._reason = "caught up"
        finally:
            over.set()
            for task in (keeping, told, watching):
                task.cancel()
            await asyncio.gather(keeping, told, watching, return_exceptions=True)
            in_order = await self._children.stop()
            if page is not None:
                await page.cleanup()
            await reader.close()
            await asyncio.wait([heralding], timeout=heartbeat.FAREWELL_SECONDS)
            heralding.cancel()
        logger.info("stopped %s", log.fields(reason=self._reason or f"exit {code}"))
        return code if in_order else code or 1

    async def _prepare(self, owns_database: bool) -> None:
        """Wait for the stores; see that the tables and enough connections are there."""
        await services.wait_ready(self._settings, "up", tells=True)
        await schema_commands.prepare(self._settings, own=owns_database)
        await budget.check(self._settings, self._specs)

    async def _before_signal(self, task: asyncio.Task[None]) -> bool:
        """Wait for the task; False if a signal came first."""
        told = asyncio.create_task(self._told.wait())
        await asyncio.wait((task, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            logger.info("stopped before it started %s", log.fields(reason=self._reason))
            return False
        task.result()
        return True

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, self._on_signal, which)

    def _on_signal(self, which: signal.Signals) -> None:
        now = time.monotonic()
        if self._told.is_set():
            if now - self._told_at < ECHO_SECONDS:
                return
            logger.error("killing everything %s", log.fields(reason=f"a second {which.name}"))
            self._children.kill()
            return
        self._reason, self._told_at = which.name, now
        logger.info("stopping %s", log.fields(reason=which.name))
        self._told.set()


class _Watch:
    """Looks at the status while the processes work: prints progress, notices being caught up."""

    def __init__(
        self,
        settings: Settings,
        specs: list[plan.ProcessSpec],
        until_caught_up: bool,
        show: bool,
        on_caught_up: CaughtUp | None,
    ) -> None:
        self._settings = settings
        self._specs = specs
        self._until_caught_up = until_caught_up
        self._show = show
        self._on_caught_up = on_caught_up
        self._started_at = time.time()

    async def run(self, snapshots: Snapshots) -> None:
        """Return once caught up, if that is asked for, else never."""
        if self._show or self._until_caught_up or self._on_caught_up:
            await self._until(snapshots)
        if not self._until_caught_up:
            await asyncio.Event().wait()

    async def _until(self, snapshots: Snapshots) -> None:
        loop = asyncio.get_running_loop()
        roles = {spec.role for spec in self._specs}
        hosts = map(streams.canonical_host, self._settings.ingester.relay_hosts)
        silence = Silence(list(hosts) if "firehose" in roles else [], roles)
        shown_at, shown = 0.0, ""
        while True:
            found = await snapshots.status()
            now = loop.time()
            done = silence.observe(found, now) and self._all_at_work(found)
            line = status.progress_line(found)
            if self._show and (done or now - shown_at >= PROGRESS_SECONDS) and line != shown:
                print(line, flush=True)
                shown_at, shown = now, line
            if done and self._on_caught_up is not None:
                await self._on_caught_up(self._settings)
                self._on_caught_up = None
            if done and (self._until_caught_up or not self._show):
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _all_at_work(self, found: Status) -> bool:
        """Whether each process of the plan has spoken since we started it.

        What a killed predecessor said about its relays stays in Redis for some seconds.
        """
        return all(
            found.processes.get(spec.shared_name, {}).get("started_at", 0.0) >= self._started_at
            for spec in self._specs
        )


class Silence:
    """Judges over time whether everything there is has been indexed."""

    def __init__(self, hosts: list[str], roles: Collection[str]) -> None:
        """Judge by these relays, in their canonical names, and by what these roles do."""
        self._hosts = hosts
        self._roles = roles
        self._seqs: dict[str, int | None] = {}
        self._since: float | None = None  # caught up without a break from then on
        self._since_at = 0.0  # the same in unix seconds

    def observe(self, found: Status, now: float) -> bool:
        """Take one reading; True after ``SILENCE_SECONDS`` of being caught up without a new seq."""
        seqs = {host: relay.received_seq for host, relay in found.relays.items()}
        seqs |= {host: each.received_seq for host, each in found.labels.labelers.items()}
        if not status.caught_up(found, self._hosts, self._roles):
            self._since = None
            return False
        if self._since is None or seqs != self._seqs:
            self._seqs, self._since, self._since_at = seqs, now, found.at
        # Labelers that declared themselves meanwhile are looked for now and then.
        looked = found.labels.discovered_at
        return now - self._since >= SILENCE_SECONDS and (looked is None or looked >= self._since_at)
