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

Beside that the role asks whether accounts that were called deleted are (``deletions``), and
reads the end of the directory's log (``plc_tail``). A document that the log told is not asked for,
unless it is an ``#identity`` event that asks.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from engine import errors, log, sql
from engine.adapters import http, imported, postgres, remembered, resp
from engine.adapters import identity as resolvers
from engine.core import identity as rules
from engine.core import plc, streams
from engine.roles import deletions, plc_tail
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

STOP_SECONDS = 1.0
"""How long a stop waits for the database before it cuts the connections."""

_CONTENTION = (
    asyncpg.UniqueViolationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)


class Due(msgspec.Struct, frozen=True):
    """One note: whom to look up, and which event asked."""

    did: str
    seq: int
    time: str  # verbatim
    attempts: int  # that failed
    forced: bool = True  # an event says that the document changed; else it is to be read at all


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
            timeout = settings.identity.timeout_seconds
            dids = resolvers.DidResolver.of(settings, fetcher)
            hosting = resolvers.Hosting(dids, fetcher, timeout)
            lookup = Lookup(
                dids,
                resolvers.handle_resolver(fetcher, settings.identity.handle_resolver, timeout),
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
            picked: asyncio.Queue[Due] = asyncio.Queue()
            workers = [
                asyncio.create_task(self._work(picked, lookup, writers))
                for _ in range(settings.identity.concurrency)
            ]
            confirmer = deletions.Confirmer(
                hosting, writers, settings.database_state_schema, self._deletions
            )
            workers.append(asyncio.create_task(confirmer.run()))
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
        picked: asyncio.Queue[Due],
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
                    picked.put_nowait(Due(*row))
            # With notes left over, look again as soon as the workers have caught up with them.
            await pause(stop, POLL_SECONDS if found < PICK_COUNT else POLL_SECONDS / 10)

    async def _work(
        self,
        picked: asyncio.Queue[Due],
        lookup: Lookup,
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
        self, due: Due, dids: resolvers.DidResolver, writers: postgres.Borrowable
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

    async def _write(self, due: Due, handle: str | None, writers: postgres.Borrowable) -> None:
        for attempt in range(CONTENTION_TRIES):
            async with postgres.borrowed(writers) as conn, postgres.translated_errors():
                try:
                    last = await write(conn, self._sql, due, handle)
                except _CONTENTION as contention:
                    if attempt == CONTENTION_TRIES - 1:
                        raise errors.StoreError(f"writing {due.did}: {contention}") from contention
                    continue
            self._counters.resolved += 1
            self._counters.without_handle += handle is None
            self._counters.replaced += not last
            return

    async def _put_off(self, due: Due, reason: str, writers: postgres.Borrowable) -> None:
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


@dataclass(frozen=True)
class Lookup:
    """One question to the network: which handle does this DID have now?"""

    dids: resolvers.DidResolver
    handles: resolvers.HandleResolver

    async def handle(self, due: Due, found: rules.Identity) -> str | None:
        """The DID's handle in lower case; None if it does not point back to the DID.

        Raises:
            UpstreamError: the handle's servers failed and may answer another time
                (``HANDLE_TRIES``).
        """
        answer = await self.handles.resolve(found.handle)
        if answer.did == due.did:
            return found.handle.lower()
        if answer.failure is not None and due.attempts + 1 < rules.HANDLE_TRIES:
            raise errors.UpstreamError(f"handle {found.handle}: {answer.failure}")
        return None


async def write(
    conn: asyncpg.Connection, statements: dict[str, str], due: Due, handle: str | None
) -> bool:
    """Write one success in a transaction of its own.

    Nothing is written for a DID that is no longer due: its account was deleted,
    or another process was faster.

    Returns:
        False if the DID is due again because of a newer event.

    Raises:
        asyncpg.UniqueViolationError: another writer took the handle meanwhile: write again.
    """
    async with conn.transaction():
        await conn.fetch(statements["identity_lock"], due.did, handle)
        if not await conn.fetchval(statements["identity_wanted"], due.did):
            return True
        if handle is not None:
            await conn.execute(statements["identity_unseat"], due.did, handle)
        await conn.execute(statements["identity_seat"], due.did, handle, due.time)
        done: str = await conn.execute(statements["identity_done"], due.did, due.seq, due.time)
        return done == "DELETE 1"
