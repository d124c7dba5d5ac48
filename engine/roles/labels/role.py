"""The labels role: one process reads every labeler, and writes what they say.

A session takes the stream, and then three things go on until one of them fails: chains, one for
each host of labelers; the writer; and the search for labelers, by the settings and,
with ``LABELS_DISCOVER``, by the records of those who declare themselves. A store that fails ends
the session, a labeler that fails ends nothing but its own connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engine import errors, log, sql
from engine.adapters import http, postgres, resp
from engine.adapters import identity as resolvers
from engine.core import streams
from engine.core.backoff import Backoff
from engine.roles.firehose.append import EntriesLost
from engine.roles.firehose.counters import State
from engine.roles.keep_trying import KeepTrying
from engine.roles.labels import writer as writers
from engine.roles.labels.chain import Chain
from engine.roles.labels.keyring import Keyring, key_of, url_of
from engine.roles.labels.pipe import Known, Pipe
from engine.roles.labels.stream import Register, claim
from engine.settings import Settings

logger = logging.getLogger(__name__)

DISCOVER_SECONDS = 10.0
"""Between two looks for labelers that declare themselves."""

LOOKUPS = 8
"""Documents asked for at a time."""

DIALS = 16
"""Connections being made at a time."""

LOOK_SECONDS = 1.0
"""How soon a lost stream is noticed while no labeler says anything."""

PLACE_CAP_SECONDS = 3600.0
"""Longest pause before the document of a labeler without a host is asked for again."""

STOP_SECONDS = 2.0
"""What a stop leaves the writer to finish its batch."""


class LabelsRole(KeepTrying):
    """Reads the labelers of the settings until it is stopped."""

    LINE, PROGRESS = "labels", "written"

    def __init__(self, name: str, settings: Settings) -> None:
        """Both stores' URLs must be set; labelers are as `settings.load` makes them."""
        super().__init__()
        self._name = name
        self._settings = settings
        self._keys = streams.LabelKeys(settings.redis_key_prefix)
        state = settings.database_state_schema
        self._sql = {
            **sql.load("labels", state=state),
            "wal_lsn": sql.load("shards", state=state)["wal_lsn"],
            "insert_dead_letters": sql.load("indexer", state=state)["insert_dead_letters"],
        }
        self._known: dict[str, Known] = {}
        self._counters = writers.Counters()
        self._reading: _Session | None = None
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="labels")

    async def run(self, stop: asyncio.Event) -> None:
        """Read and write until ``stop``, through every failure of stores and labelers.

        Raises:
            SettingsError: the operator must change something.
            SchemaMismatch: the database cannot be written as it is.
            UnknownEnvelope: a newer producer writes to the stream.
        """
        try:
            await super().run(stop)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def report(self) -> dict[str, object]:
        """What the heartbeat tells: state, each labeler's host, and what was written."""
        now = time.monotonic()
        full = any(known.counters.state == State.FULL for known in self._known.values())
        return {
            "state": str(State.FULL) if full and self._state == "running" else self._state,
            "labelers": {
                host: known.report(now) for host, known in self._known.items() if known.is_read
            },
            "unplaced": len(self._reading.unplaced) if self._reading else None,
            "discovered_at": self._reading.discovered_at if self._reading else None,
            "counters": dataclasses.asdict(self._counters),
        }

    def _counts(self) -> Mapping[str, int]:
        all_known = [known.counters for known in self._known.values()]
        return {
            "read": sum(counters.ops for counters in all_known),
            "written": self._counters.written,
            "duplicates": self._counters.duplicates,
            "rejected": sum(counters.rejected_ops for counters in all_known),
            "unverified": sum(counters.counts["unverified"] for counters in all_known),
        }

    def _places(self) -> Mapping[str, object]:
        connected = sum(known.counters.connected for known in self._known.values())
        return {"labelers": len(self._known), "connected": connected}

    async def _session(self, stop: asyncio.Event) -> None:
        async with contextlib.AsyncExitStack() as stack:
            url = self._settings.redis_url or ""
            redis = [await self._redis(stack, url) for _ in range(3)]
            db = [await postgres.connect(self._settings, self._name) for _ in range(2)]
            for conn in db:
                stack.callback(conn.terminate)
            owned = await claim(db[0], redis[0], self._keys, self._sql)
            fetcher = await stack.enter_async_context(
                http.open_fetcher(allow_private=self._settings.network.allow_private)
            )
            pipe = Pipe(
                redis=redis[0],
                keys=self._keys,
                epoch=owned.epoch,
                register=Register(db[1], redis[1], self._keys, self._sql),
                settings=self._settings.labels,
                executor=self._executor,
                dialing=asyncio.Semaphore(DIALS),
                allow_private=self._settings.network.allow_private,
            )
            writer = writers.Writer(
                db=db[0],
                redis=redis[2],
                admin=redis[1],
                keys=self._keys,
                owned=owned,
                sql=self._sql,
                counters=self._counters,
                batch_bytes=self._settings.labels.batch_bytes,
                dead_letters=self._settings.labels.dead_letters,
            )
            dids = resolvers.DidResolver.of(self._settings, fetcher)
            stack.callback(dids.close)
            logger.info("ready")
            self._state = "running"
            try:
                self._reading = _Session(self._settings, pipe, dids, self._known)
                await self._reading.run(writer, stop)
            except EntriesLost:
                await writers.report_torn(db[1], self._sql, owned.token)
                raise
            finally:
                self._reading = None

    async def _redis(self, stack: contextlib.AsyncExitStack, url: str) -> resp.RespConnection:
        conn = await resp.RespConnection.open(url)
        stack.callback(conn.close)
        return conn


class _Session:
    """The tasks of one session; the first that fails ends it."""

    def __init__(
        self,
        settings: Settings,
        pipe: Pipe,
        dids: resolvers.DidResolver,
        known: dict[str, Known],
    ) -> None:
        self._settings = settings
        self._pipe = pipe
        self._dids = dids
        self._known = known
        self._slots = asyncio.Semaphore(LOOKUPS)
        self._chains: dict[str, Chain] = {}
        self._placed: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._named = frozenset(settings.labels.labelers)
        self.unplaced: set[str] = set()
        """DIDs whose host is asked for: of those found by their records only the first time."""
        self.discovered_at: float | None = 0.0 if settings.labels.discover else None
        """Unix seconds of the last look for those; None: they are not asked for."""
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, writer: writers.Writer, stop: asyncio.Event) -> None:
        """Read and write until ``stop`` or the first failure of a store, which is raised."""
        writing = self._start(writer.run(stop))
        self._start(self._watch())
        for name in self._settings.labels.labelers:
            if name.startswith("did:"):
                self._place(name)
            else:
                self._open(name, is_trusted=True)
        if self._settings.labels.discover:
            self._start(self._discover())
        elif not self._settings.labels.labelers:
            logger.warning("no labeler is named: set LABELS_LABELERS or LABELS_DISCOVER")
        stopping = asyncio.create_task(stop.wait())
        try:
            waited: set[asyncio.Future[Any]] = {stopping, self._failed}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await asyncio.wait({writing}, timeout=STOP_SECONDS)
            if self._failed.done():
                self._failed.result()
        finally:
            tasks = [stopping, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._failed.cancel()
            for known in self._known.values():
                known.counters.connected = False

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            error = None if done.cancelled() else done.exception()
            if error is not None and not self._failed.done():
                self._failed.set_exception(error)

        task.add_done_callback(ended)
        return task

    async def _watch(self) -> None:
        """Notice a stream that is lost while no labeler says anything."""
        looking = self._pipe.appender("", 0, 0)
        while True:
            async with self._pipe.lock:
                await looking.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _discover(self) -> None:
        while True:
            limit = self._settings.labels.discover_limit
            looked_at = time.time()
            for did in await self._pipe.register.discovered(limit):
                self._place(did)
            self.discovered_at = looked_at
            await asyncio.sleep(DISCOVER_SECONDS)

    def _place(self, did: str) -> None:
        """Have a labeler read at the host that its document names."""
        if did not in self._placed:
            self._placed.add(did)
            self.unplaced.add(did)
            self._start(self._find_place(did))

    async def _find_place(self, did: str) -> None:
        backoff = Backoff(base_seconds=1.0, cap_seconds=PLACE_CAP_SECONDS)
        while True:
            try:
                async with self._slots:
                    labeler = await self._dids.labeler(did)
                url = url_of(labeler)
            except errors.UpstreamError as error:
                if did not in self._named:
                    self.unplaced.discard(did)
                delay = backoff.next(random.random())  # noqa: S311 - jitter
                logger.log(
                    logging.WARNING if backoff.failures <= 3 else logging.DEBUG,
                    "a labeler without a place: %s; asking again in %.1f s %s",
                    error,
                    delay,
                    log.fields(labeler=did),
                )
                await asyncio.sleep(delay)
                continue
            chain = self._chains.get(streams.canonical_host(url))
            if chain is None:
                self._open(url, is_trusted=False, did=did, key=key_of(labeler))
            else:
                await chain.join(did, key_of(labeler))
                chain.known.named |= did in self._named
            self.unplaced.discard(did)
            return

    def _open(
        self, url: str, *, is_trusted: bool, did: str | None = None, key: str | None = None
    ) -> None:
        """Begin to read a host."""
        host = streams.canonical_host(url)
        if host in self._chains:
            return
        ring = Keyring(host, self._dids, self._slots, is_open=is_trusted)
        if did is not None:
            ring.keys[did] = key

        def moved(gone: str) -> None:
            self._placed.discard(gone)
            self._place(gone)

        known = self._known.setdefault(host, Known())
        known.is_read = True
        known.named |= is_trusted or did in self._named
        chain = Chain(host, url, self._pipe, ring, known, is_trusted, moved)
        self._chains[host] = chain

        async def run() -> None:
            try:
                await chain.run()
            finally:
                del self._chains[host]
            known.is_read = False  # nobody is there any more

        self._start(run())
