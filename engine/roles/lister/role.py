"""The lister's process: hosts listed side by side, and the lead where it is ours.

Any number of listers share the hosts, each of which is claimed by one at a time. What a page
says and the cursor behind it are one transaction, so a crash repeats one page of each host
at most. One of the listers leads (``lead``).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from engine import errors, log, sql
from engine.adapters import http, postgres
from engine.adapters.identity import DidResolver
from engine.roles.keep_trying import KeepTrying, pause
from engine.roles.lister.feeder import Counters as Fed
from engine.roles.lister.lead import Lead
from engine.roles.lister.listing import Counters, Listing
from engine.roles.lister.lists import Lists
from engine.roles.lister.store import RENEW_SECONDS, Claim, ClaimLost, Store

if TYPE_CHECKING:
    import asyncpg

    from engine.settings import Settings

logger = logging.getLogger(__name__)

WRITERS = 3
"""Connections for pages: a page is written in milliseconds and asked for in tenths of seconds."""

CONNECTIONS = WRITERS + 1
"""One more for the place of the lead, over which the queue is fed."""

POLL_SECONDS = 0.5
"""How late a host that is due is noticed by an idle lister."""

FAILING_SHARE = 4
"""Hosts that fail have at most one in so many of the slots: the others wait for nobody."""

STOP_SECONDS = 1.0
"""How long a stop waits for the database before it cuts the connections."""


class ListerRole(KeepTrying):
    """Lists what is due until it is stopped.

    Pages under way at the stop are dropped; they are asked for again.
    """

    LINE, PROGRESS = "lists", "pages"

    def __init__(self, name: str, settings: Settings) -> None:
        """Prepare; nothing is opened before ``run``."""
        super().__init__()
        self._name = name
        self._settings = settings
        self._counters = Counters()
        self._fed = Fed()
        self._lead: Lead | None = None
        self._held: dict[asyncio.Task[None], Claim] = {}

    def report(self) -> dict[str, object]:
        """What the heartbeat tells: state, hosts in hand, who leads, counters since the start."""
        leading = self._lead.leading if self._lead is not None else None
        return {
            "state": self._state,
            "hosts": len(self._held),
            "leads": leading is not None and leading.at_work,
            "queue": leading.queue_length if leading is not None else None,
            "counters": dataclasses.asdict(self._counters),
            "fed": dataclasses.asdict(self._fed),
        }

    async def _session(self, stop: asyncio.Event) -> None:
        settings = self._settings
        async with AsyncExitStack() as stack:
            fetcher = await stack.enter_async_context(
                http.open_fetcher(allow_private=settings.network.allow_private)
            )
            conns: list[asyncpg.Connection[Any]] = []
            idle: postgres.Borrowable = asyncio.Queue()
            for _ in range(WRITERS):
                conns.append(await postgres.connect(settings, self._name))
                stack.callback(conns[-1].terminate)
                idle.put_nowait(conns[-1])
            lists = Lists(fetcher, settings.lister)
            store = Store(idle, settings.database_state_schema, settings.lister.grace_seconds)
            await store.release(self._name)
            dids = DidResolver.of(settings, fetcher)
            stack.callback(dids.close)
            self._lead = Lead(self._name, settings, lists, store, dids, self._counters, self._fed)
            leading = asyncio.create_task(self._lead.run())
            listing = asyncio.create_task(self._list(stop, lists, store))
            renewing = asyncio.create_task(self._renew(store))
            logger.info("ready")
            self._state = "running"
            try:
                works = (leading, listing, renewing)
                await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
                for task in works:
                    if task.done():
                        task.result()
            finally:
                tasks = [leading, listing, renewing, *self._held]
                # First the connections: a cancelled transaction would wait for the server.
                for conn in conns:
                    conn.terminate()
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._held = {}
                if stop.is_set():
                    await self._give_back()

    async def _list(self, stop: asyncio.Event, lists: Lists, store: Store) -> None:
        """Keep the slots busy; raises what ended one of them."""
        concurrency = self._settings.lister.concurrency
        while not stop.is_set():
            for task in [task for task in self._held if task.done()]:
                del self._held[task]
                with contextlib.suppress(ClaimLost):
                    task.result()
            failing = sum(claim.failures >= 3 for claim in self._held.values())
            claim = None
            if len(self._held) < concurrency:
                may_fail = failing < max(1, concurrency // FAILING_SHARE)
                claim = await store.claim(self._name, failing=may_fail)
            if claim is None:
                await self._until_free(stop)
                continue
            listing = Listing(claim, lists, store, self._settings.lister, self._counters)
            self._held[asyncio.create_task(listing.run())] = claim

    async def _renew(self, store: Store) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await store.renew_all(self._name)

    async def _until_free(self, stop: asyncio.Event) -> None:
        """Wait until a listing ends, or for a while."""
        told = asyncio.create_task(pause(stop, POLL_SECONDS))
        await asyncio.wait((told, *self._held), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        await asyncio.gather(told, return_exceptions=True)

    async def _give_back(self) -> None:
        """Leave the hosts to others at once, if the database answers; else their claims run out."""
        release = sql.load("lister", state=self._settings.database_state_schema)["host_release"]
        try:
            async with asyncio.timeout(STOP_SECONDS):
                conn = await postgres.connect(self._settings, self._name)
                try:
                    async with postgres.translated_errors():
                        await conn.execute(release, self._name)
                finally:
                    conn.terminate()
        except (errors.StoreError, TimeoutError) as error:
            logger.debug("claims are not given back %s", log.fields(error=error))

    def _counts(self) -> dict[str, int]:
        return {
            "pages": self._counters.pages,
            "repos": self._counters.repos,
            "new": self._counters.new,
            "hosts_done": self._counters.hosts,
            "failed": self._counters.failed,
            "queued": self._fed.queued,
        }

    def _places(self) -> dict[str, object]:
        leading = self._lead.leading if self._lead is not None else None
        length = leading.queue_length if leading is not None else None
        return {"hosts": len(self._held), "queue": "-" if length is None else length}
