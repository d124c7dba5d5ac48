"""The identity role: handles of actors, looked up when an event asked for it.

The indexer notes what is due in ``identity_due``; this role alone writes
``actor.handle``. A look-up that succeeds becomes one transaction: both actors of
a contended handle locked in DID order, the former holder's handle removed, the
actor written with the time of the event that asked, the note deleted unless a
newer event replaced it. A look-up that fails writes nothing but the next
attempt. A handle that does not point back is a success without a handle.

No connection waits for the network, and nothing is remembered between two
failures of the database: the notes are the whole state, so a look-up cut short
by a stop or a crash is simply done again.

What backfillers remember of a DID's document for a day is forgotten when a look-up begins.

Beside that the role asks whether accounts that were called deleted or deactivated are
(``deletions``, ``statuses``), and reads the end of the directory's log (``plc_tail``). A document
that the log told is not asked for, unless it is an ``#identity`` event that asks.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from engine import errors, log, sql
from engine.adapters import hosting, http, imported, postgres, remembered, resp
from engine.adapters import identity as resolvers
from engine.adapters.handles import handle_resolver
from engine.core import identity as rules
from engine.core import plc, streams
from engine.roles import deletions, handles, plc_tail, statuses
from engine.roles.keep_trying import KeepTrying, pause

if TYPE_CHECKING:
    from engine.settings import Settings

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How late a new note is noticed by an idle role."""

PICK_COUNT = 100
"""Notes read at a time: enough to keep the look-ups busy, few enough to stay in order of need."""

CONNECTIONS = 4
"""Writers to Postgres; a write takes a few round trips, a look-up tens of milliseconds."""

CONTENTION_TRIES = 10
"""Two writers may meet in a handle or lock each other out; the loser writes again."""

SEAT_AGE = datetime.timedelta(hours=1)
"""As long as an older event cannot take a handle back; what failed four times may come later."""

SEATS_SECONDS, SEATS_FORGOTTEN = 10.0, 10_000
"""How often what is older is forgotten, and how much at a time."""

STOP_SECONDS = 1.0
"""How long a stop waits for the database before it cuts the connections."""

_CONTENTION = (
    asyncpg.UniqueViolationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)


@dataclass
class Counters:
    """What the process did since it started; for the heartbeat and the log."""

    resolved: int = 0
    without_handle: int = 0  # of them, those whose handle does not point back
    failed: int = 0
    replaced: int = 0  # a newer event asked during the look-up
    imported: int = 0  # documents that were not asked for: the directory's log told them


class IdentityRole(KeepTrying):
    """Looks up what is due until it is stopped.

    Look-ups under way at the stop are dropped; they are still due.
    """

    LINE, PROGRESS = "identities", "written"

    def __init__(self, name: str, settings: Settings) -> None:
        """Prepare; nothing is opened before ``run``."""
        super().__init__()
        self._name = name
        self._settings = settings
        self._sql = sql.load("identity", state=settings.database_state_schema)
        self._counters = Counters()
        self._deletions = deletions.Counters()
        self._tail = plc_tail.Counters()
        self._plc = imported.statements(settings.database_state_schema)
        self._statuses = statuses.Counters()
        self._keys = streams.Keys(settings.redis_key_prefix)
        self._held: set[str] = set()  # DIDs picked and not finished

    def report(self) -> dict[str, object]:
        """What the heartbeat tells: state, look-ups in hand, counters since the start."""
        return {
            "state": self._state,
            "in_flight": len(self._held),
            "counters": dataclasses.asdict(self._counters),
            "deletions": dataclasses.asdict(self._deletions),
            "plc": dataclasses.asdict(self._tail),
            "statuses": dataclasses.asdict(self._statuses),
        }

    async def _session(self, stop: asyncio.Event) -> None:
        """A session that ends at ``stop`` even if the database answers nothing."""
        session = asyncio.create_task(self._look_up(stop))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({session, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({session}, timeout=STOP_SECONDS)
            if session.done():
                session.result()
        finally:
            for task in (session, stopping):
                task.cancel()
            await asyncio.gather(session, stopping, return_exceptions=True)

    async def _look_up(self, stop: asyncio.Event) -> None:
        """Work on one set of connections until ``stop`` or the first failure of the database."""
        settings = self._settings
        self._held = set()
        async with AsyncExitStack() as stack:
            fetcher = await stack.enter_async_context(
                http.open_fetcher(allow_private=settings.network.allow_private)
            )
            chosen = settings.identity
            timeout = chosen.timeout_seconds
            dids = resolvers.DidResolver.of(settings, fetcher)
            stack.callback(dids.close)
            hosts = hosting.Hosting(dids, fetcher, timeout)
            lookup = handles.Lookup(
                dids,
                handle_resolver(fetcher, chosen.handle_resolver, timeout, chosen.name_servers),
            )
            redis = None
            if settings.redis_url:
                redis = await resp.RespConnection.open(settings.redis_url)
                stack.callback(redis.close)
            conns: list[asyncpg.Connection] = []
            writers: postgres.Borrowable = asyncio.Queue()
            for _ in range(CONNECTIONS):
                conns.append(await postgres.connect(settings, self._name))
                stack.callback(conns[-1].terminate)
                writers.put_nowait(conns[-1])
            logger.info("ready")
            self._state = "running"
            picked: asyncio.Queue[handles.Due] = asyncio.Queue()
            workers = [
                asyncio.create_task(self._work(picked, lookup, writers))
                for _ in range(settings.identity.concurrency)
            ]
            state = settings.database_state_schema
            workers += map(
                asyncio.create_task,
                (
                    deletions.Confirmer(hosts, writers, state, self._deletions).run(),
                    statuses.StatusChecker(hosts, writers, state, self._statuses).run(),
                    self._forget_seats(writers),
                ),
            )
            if settings.identity.plc_tail:
                workers.append(asyncio.create_task(self._tailing(dids, writers, redis).run()))
            try:
                await self._pick(stop, picked, writers, workers, redis)
            finally:
                # First the connections: a cancelled transaction would wait for the server.
                for conn in conns:
                    conn.terminate()
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
                self._held = set()

    def _tailing(
        self,
        dids: resolvers.DidResolver,
        writers: postgres.Borrowable,
        redis: resp.RespConnection | None,
    ) -> plc_tail.Tail:
        settings = self._settings
        return plc_tail.Tail(
            dids,
            writers,
            settings.database_state_schema,
            settings.identity.plc_tail_interval_seconds,
            self._tail,
            redis,
            self._keys,
        )

    async def _pick(
        self,
        stop: asyncio.Event,
        picked: asyncio.Queue[handles.Due],
        writers: postgres.Borrowable,
        workers: list[asyncio.Task[None]],
        redis: resp.RespConnection | None,
    ) -> None:
        """Keep the workers in notes; raises what ended one of them."""
        while not stop.is_set():
            for worker in workers:
                if worker.done():
                    worker.result()
            found = 0
            if picked.qsize() < self._settings.identity.concurrency:
                async with postgres.borrowed(writers) as conn, postgres.translated_errors():
                    rows = await conn.fetch(
                        self._sql["identity_pick"], PICK_COUNT, list(self._held)
                    )
                    if forced := [row["did"] for row in rows if row["forced"]]:
                        await conn.execute(self._plc["plc_doubt"], forced)
                found = len(rows)
                if redis is not None and rows:
                    # Whoever fetches its repository must not ask the host of before.
                    await remembered.forget(redis, self._keys, [row["did"] for row in rows])
                for row in rows:
                    self._held.add(row["did"])
                    picked.put_nowait(handles.Due(*row))
            # With notes left over, look again as soon as the workers have caught up with them.
            await pause(stop, POLL_SECONDS if found < PICK_COUNT else POLL_SECONDS / 10)

    async def _forget_seats(self, writers: postgres.Borrowable) -> None:
        while True:
            async with postgres.borrowed(writers) as conn, postgres.translated_errors():
                forget = self._sql["identity_forget_seats"]
                await conn.execute(forget, SEAT_AGE, SEATS_FORGOTTEN)
            await asyncio.sleep(SEATS_SECONDS)

    async def _work(
        self,
        picked: asyncio.Queue[handles.Due],
        lookup: handles.Lookup,
        writers: postgres.Borrowable,
    ) -> None:
        while True:
            due = await picked.get()
            try:
                try:
                    found = await self._document(due, lookup.dids, writers)
                    handle = await lookup.handle(due, found)
                except errors.UpstreamError as failure:
                    await self._put_off(due, str(failure), writers)
                else:
                    await self._write(due, handle, writers)
            finally:
                self._held.discard(due.did)

    async def _document(
        self, due: handles.Due, dids: resolvers.DidResolver, writers: postgres.Borrowable
    ) -> rules.Identity:
        """The DID's document: what the log told, or what the directory says now."""
        max_age = self._settings.identity.plc_max_age_seconds
        if not due.forced:
            async with postgres.borrowed(writers) as conn:
                told = await imported.look_up(conn, self._plc, [due.did], max_age)
            known = plc.identity_of(told[due.did]) if due.did in told else None
            if known is not None:
                self._counters.imported += 1
                return known
        found = await dids.resolve(due.did)
        if due.forced and found.key_type == "Multikey":
            async with postgres.borrowed(writers) as conn, postgres.translated_errors():
                key = f"did:key:{found.key}"
                await conn.execute(self._plc["plc_confirm"], due.did, found.handle, key, found.pds)
        return found

    async def _write(
        self, due: handles.Due, handle: str | None, writers: postgres.Borrowable
    ) -> None:
        for attempt in range(CONTENTION_TRIES):
            async with postgres.borrowed(writers) as conn, postgres.translated_errors():
                try:
                    last = await handles.write(conn, self._sql, due, handle)
                except _CONTENTION as contention:
                    if attempt == CONTENTION_TRIES - 1:
                        raise errors.StoreError(f"writing {due.did}: {contention}") from contention
                    continue
            self._counters.resolved += 1
            self._counters.without_handle += handle is None
            self._counters.replaced += not last
            return

    async def _put_off(self, due: handles.Due, reason: str, writers: postgres.Borrowable) -> None:
        self._counters.failed += 1
        wait = rules.retry_seconds(due.attempts + 1, random.random())  # noqa: S311 - jitter
        logger.debug("look-up failed %s", log.fields(did=due.did, error=reason, retry_in=wait))
        async with postgres.borrowed(writers) as conn, postgres.translated_errors():
            await conn.execute(
                self._sql["identity_failed"],
                due.did,
                due.seq,
                due.time,
                postgres.storable(reason),
                wait,
            )

    def _counts(self) -> dict[str, int]:
        counters = self._counters
        return {
            "read": counters.resolved + counters.failed,
            "written": counters.resolved,
            "without_handle": counters.without_handle,
            "failed": counters.failed,
            "deletions": self._deletions.gone,
        }

    def _places(self) -> dict[str, object]:
        return {"in_flight": len(self._held)}
