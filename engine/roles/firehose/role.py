"""The firehose role: one process reads the relays, one supervised chain each.

The role keeps the chains going: it finds where to begin, connects, and when a chain ends it
says why, waits as its backoff says, and begins again from the stores. Postgres is needed to
begin; steady appending needs Redis alone. Which relays are read says `order`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import asyncpg

from engine import log
from engine.adapters import postgres, resp
from engine.adapters.websocket import End, SubscriptionEnded, subscribe
from engine.core import streams
from engine.core.backoff import Backoff
from engine.errors import (
    HeadraceError,
    InvariantError,
    SchemaMismatch,
    StoreError,
    StreamsTorn,
    UpstreamError,
)
from engine.roles.firehose import epoch as epochs
from engine.roles.firehose import start as starts
from engine.roles.firehose.append import Appender, EntriesLost
from engine.roles.firehose.chain import Chain, CursorInFuture, Dismissed, RelayRefuses
from engine.roles.firehose.counters import (
    RelayCounters,
    Restart,
    State,
    is_behind,
    places,
    reaches_back,
    totals,
)
from engine.roles.firehose.epoch import Stores
from engine.roles.firehose.order import Order
from engine.settings import Settings
from engine.sql import load

logger = logging.getLogger(__name__)

SOCKET_BUFFER_BYTES = 8 << 20
"""Frames of one relay that wait to be taken; beyond it the socket is not read."""

TORN_POLL_SECONDS = 0.5
"""How often Postgres is asked whether an owner reported torn streams."""

REPORT_SECONDS = 10.0

MOVED = {"bsky.network": "relay1.us-east.bsky.network and relay1.us-west.bsky.network"}
"""Relays whose name no longer says which seqs they count."""


class FirehoseRole:
    """Reads the relays of the settings into the live streams."""

    def __init__(self, name: str, settings: Settings) -> None:
        """Both stores' URLs must be set; relay hosts are URLs, as `settings.load` makes them."""
        self._name = name
        self._settings = settings
        self._keys = streams.Keys(settings.redis_key_prefix)
        self._sql = load("firehose", state=settings.database_state_schema)
        self._relays = {streams.canonical_host(url): url for url in settings.ingester.relay_hosts}
        self._counters = {host: RelayCounters() for host in self._relays}
        self._order = Order(
            list(self._relays),
            fan_in=settings.ingester.fan_in,
            retry_seconds=settings.ingester.silence_timeout_seconds,
        )
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="decode")

    async def run(self, stop: asyncio.Event) -> None:
        """Ingest until `stop`; the appends in flight are finished before it returns.

        Raises:
            SettingsError: the operator must change something.
            SchemaMismatch: the database is not ours.
        """
        for host in self._relays:
            if host in MOVED:
                logger.warning(
                    "%s no longer is one relay with one count of seqs; use %s", host, MOVED[host]
                )
        tasks = [asyncio.create_task(self._relay(host)) for host in self._relays]
        tasks += [asyncio.create_task(self._mend_torn()), asyncio.create_task(self._log_progress())]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # only an error ends a task; it is raised here
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)
            self._executor.shutdown(wait=False, cancel_futures=True)

    def report(self) -> dict[str, object]:
        """What the heartbeat tells, for each relay."""
        now = time.monotonic()
        is_active = self._order.is_active
        states = {counters.state for host, counters in self._counters.items() if is_active(host)}
        state = next((s for s in (State.FULL, State.STREAMING) if s in states), min(states))
        return {
            "state": "running" if state == State.STREAMING else str(state),
            "relays": {
                host: {**counters.report(now), "active": is_active(host)}
                for host, counters in self._counters.items()
            },
        }

    async def _relay(self, host: str) -> None:
        """Keep one relay's chain going for ever."""
        counters, order = self._counters[host], self._order
        upstream, store = Backoff(), Backoff(base_seconds=0.1, cap_seconds=5.0)
        if order.is_strict:  # while it waits, the others do too
            upstream.cap_seconds = min(upstream.cap_seconds, order.retry_seconds)
        lost: bytes | None = None
        while True:
            if not order.is_active(host):
                counters.state = State.STANDBY
                await order.turn(host)
            life = _Life(self, host, upstream, store, lost)
            lost, pause = None, upstream
            reason: HeadraceError
            try:
                await life.live()
                raise InvariantError("a chain ended without a reason")
            except SubscriptionEnded as error:
                why, reason = str(error.end), error
            except CursorInFuture as error:
                why, reason = str(Restart.NEW_GENERATION), error
                if not await self._new_generation(host, life, error):
                    why = str(Restart.ERROR_FRAME)
            except RelayRefuses as error:
                why, reason = str(Restart.ERROR_FRAME), error
            except Dismissed:
                counters.reconnects[str(Restart.DISMISSED)] += 1
                continue
            except StreamsTorn as error:
                why, reason, pause = str(Restart.EPOCH), error, store
                lost = life.mark if isinstance(error, EntriesLost) else None
            except SchemaMismatch:
                raise
            except StoreError as error:
                why, reason, pause = str(Restart.STORE), error, store
            finally:
                counters.connected = False
            counters.reconnects[why] += 1
            counters.state = State.STORES if why == Restart.STORE else State.WAITING
            # Silence is no failed attempt: the timeout itself was the pause.
            delay = 0.0 if why == End.SILENT else pause.next(_dice())
            leave = isinstance(reason, UpstreamError) and life.speaks_against_relay(why)
            logger.log(
                # A trial that fails changes nothing.
                logging.WARNING if order.is_active(host) else logging.INFO,
                "%s; starting again in %.1f s %s",
                reason,
                max(delay, order.retry_seconds) if leave and order.is_strict else delay,
                log.fields(relay=host, cursor=counters.received_seq, why=why),
            )
            if leave:
                order.failed(host, why)
            await asyncio.sleep(delay)

    async def _new_generation(self, host: str, life: _Life, error: CursorInFuture) -> bool:
        """Begin the relay's next generation; False where that would not help, or not now."""
        if not life.asked or life.generation is None:
            return False
        try:
            async with self.stores() as stores:
                await starts.next_generation(stores, host, life.generation, life.asked, error.name)
        except StoreError as failure:
            logger.warning("%s", failure)  # the relay will refuse the cursor again
            return False
        return True

    @contextlib.asynccontextmanager
    async def stores(self) -> AsyncIterator[Stores]:
        """Connections to both stores, closed on leaving."""
        async with contextlib.AsyncExitStack() as stack:
            redis = await resp.RespConnection.open(self._settings.redis_url or "")
            stack.callback(redis.close)
            db = await postgres.connect(self._settings, self._name)
            stack.push_async_callback(_close, db)
            yield Stores(db, redis, self._keys, self._sql)

    async def _mend_torn(self) -> None:
        """Make the streams anew when an owner reports them torn; the chains then notice."""
        while True:
            with contextlib.suppress(StoreError):  # the chains say what is wrong
                async with self.stores() as stores:
                    while True:
                        async with postgres.translated_errors():
                            epoch = await stores.db.fetchval(self._sql["deployment_epoch"])
                        if epoch == "":
                            await epochs.ensure(stores)
                        await asyncio.sleep(TORN_POLL_SECONDS)
            await asyncio.sleep(1.0)

    async def _log_progress(self) -> None:
        """One line each ten seconds: what happened since the last one, and where it stands."""
        before = totals(self._counters)
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            now = totals(self._counters)
            done = {name: count - before[name] for name, count in now.items()}
            logger.info("ingested %s", log.fields(**done, **places(self._counters)))
            before = now


class _Life:
    """One life of a relay's chain: where it begins, and what it needs besides frames."""

    def __init__(
        self, role: FirehoseRole, host: str, upstream: Backoff, store: Backoff, lost: bytes | None
    ) -> None:
        self.asked: int | None = None
        self.generation: int | None = None
        self.mark: bytes | None = None
        self._brought_events = False
        self._role = role
        self._host = host
        self._upstream = upstream
        self._store = store
        self._lost = lost

    def speaks_against_relay(self, why: str) -> bool:
        """Whether an end for this reason is silence, or came before any event.

        A new generation is neither: the next life asks for all that the relay has.
        """
        return why == End.SILENT or not (self._brought_events or why == Restart.NEW_GENERATION)

    def _progress(self) -> None:
        self._brought_events = True
        self._upstream.reset()

    def _appended(self) -> None:
        order, counters = self._role._order, self._role._counters
        if not order.is_active(self._host):
            is_level = not is_behind(counters[self._host], counters[order.active])
            order.answered(self._host, is_level=is_level)

    async def live(self) -> None:
        """Begin, connect, and carry frames until something ends it."""
        role, host, counters = self._role, self._host, self._role._counters[self._host]
        ingester = role._settings.ingester
        counters.state = State.STORES
        async with role.stores() as stores:
            began = await starts.begin(
                stores,
                host,
                ingester.initial_cursor,
                follows=role._order.is_strict,
                lost=self._lost,
            )
        self.asked, self.generation, self.mark = began.cursor, began.generation, began.epoch.mark
        counters.generation, counters.received_seq = began.generation, began.cursor
        redis = await resp.RespConnection.open(role._settings.redis_url or "")
        try:
            appender = None
            if began.cursor is not None:
                appender = await self._appender(redis, began, began.cursor)
            self._store.reset()
            counters.state = State.CONNECTING
            logger.info("connecting %s", log.fields(relay=host, cursor=began.cursor))
            query = "" if began.cursor is None else f"?cursor={began.cursor}"
            url = f"{role._relays[host]}/xrpc/com.atproto.sync.subscribeRepos{query}"
            async with subscribe(
                url,
                silence_timeout=ingester.silence_timeout_seconds,
                buffer_bytes=SOCKET_BUFFER_BYTES,
            ) as subscription:
                counters.state, counters.connected = State.STREAMING, True
                if counters.last_frame_at is None:
                    counters.last_frame_at = time.monotonic()
                logger.info("connected %s", log.fields(relay=host, cursor=began.cursor))

                async def began_live(first_seq: int) -> Appender:
                    async with role.stores() as stores:
                        await starts.add_live(stores, host, first_seq)
                    return await self._appender(redis, began, first_seq)

                async def note_gap(after_seq: int, before_seq: int, why: str) -> None:
                    async with role.stores() as stores:
                        await starts.note_gap(
                            stores, host, began.generation, after_seq, before_seq, why
                        )

                await Chain(
                    host=host,
                    asked=began.cursor,
                    generation=began.generation,
                    shard_count=began.epoch.shard_count,
                    allow=list(role._settings.filter_collections),
                    settings=ingester,
                    counters=counters,
                    executor=role._executor,
                    progress=self._progress,
                    appended=self._appended,
                    is_wanted=partial(role._order.is_wanted, host),
                    covers=partial(reaches_back, role._counters)
                    if role._order.is_strict and began.cursor == 0
                    else None,
                    note_gap=note_gap,
                    began_live=began_live,
                    appender=appender,
                ).run(subscription)
        finally:
            redis.close()

    async def _appender(
        self, redis: resp.RespConnection, began: starts.Start, cursor: int
    ) -> Appender:
        role = self._role
        appender = Appender(
            redis, role._keys, streams.LIVE, self._host, began.epoch, began.generation, cursor
        )
        await appender.look()
        return appender


async def _close(db: asyncpg.Connection[Any]) -> None:
    with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await db.close(timeout=0.5)


def _dice() -> float:
    return random.random()  # noqa: S311 - jitter
