"""What one lister of a deployment does for all: the queue, the hosts, the gaps, the census."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from engine import log, sql
from engine.adapters import postgres, resp
from engine.adapters.identity import DidResolver
from engine.core import listing as rules
from engine.core import urls
from engine.roles.lister.feeder import Counters as Fed
from engine.roles.lister.feeder import Feeder
from engine.roles.lister.listing import ROUNDS, Counters
from engine.roles.lister.lists import ListError, Lists, Spacing
from engine.roles.lister.store import Gap, Store
from engine.roles.lister.telling import Teller
from engine.settings import Settings

logger = logging.getLogger(__name__)

PLACE = "lister of the queue"
"""Who holds it leads."""

PLACE_SECONDS = 1.0
"""How long it stays empty when the lister that has it ends."""

GAP_SECONDS = 5.0
"""Between two looks for gaps that are due."""

GAP_FIRST_SECONDS, GAP_LONGEST_SECONDS = 30.0, 3600.0
"""Until a gap is asked for again: after the first failure, and at most."""

GAP_LIMIT = 100
"""Repositories asked for at a time inside of a gap."""

CENSUS_SECONDS = 10.0
"""Between two counts, where they are fast; counting takes a twentieth of the time at most."""

HOST_PAGES = 10_000
"""Of a relay's list of hosts: more is no list."""


@dataclass
class Leading:
    """Whether this process leads, and how it stands."""

    at_work: bool = False
    queue_length: int | None = None


class Lead:
    """The work of the one that leads; all others wait for its place."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        lists: Lists,
        store: Store,
        dids: DidResolver,
        counters: Counters,
        fed: Fed,
    ) -> None:
        """Prepare; nothing is opened before ``run``."""
        self._name = name
        self._settings = settings
        self._lists = lists
        self._store = store
        self._dids = dids
        self._counters = counters
        self._fed = fed
        self._relays = [urls.http_url(relay) for relay in settings.ingester.relay_hosts]
        self.leading = Leading()

    async def run(self) -> None:
        """Wait for the place, then lead for ever.

        Raises:
            StoreError: a store failed; the place is free.
        """
        place = sql.load("place", state=self._settings.database_state_schema)
        conn = await postgres.connect(self._settings, self._name)
        tasks: list[asyncio.Task[None]] = []
        try:
            while True:
                async with postgres.translated_errors():
                    if await conn.fetchval(place["place_take"], PLACE):
                        break
                await asyncio.sleep(PLACE_SECONDS)
            logger.info("leading: the queue is ours to fill")
            self.leading.at_work = True
            redis = await resp.RespConnection.open(self._settings.redis_url or "")
            try:
                feeder = Feeder(conn, redis, self._settings, self._fed)
                await self._add_hosts()
                teller = Teller(self._settings, self._store, self._dids, self._counters)
                jobs = [self._feed(feeder), self._ask_gaps(), self._count(), teller.run()]
                jobs += [self._name_hosts(relay) for relay in self._relays]
                tasks += [asyncio.create_task(job) for job in jobs]
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                redis.close()
        finally:
            self.leading = Leading()
            conn.terminate()  # first: a cancelled statement would wait for the server
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _add_hosts(self) -> None:
        await self._store.add_relays(self._relays)
        named = [rules.NamedHost(host, None, None) for host in self._settings.lister.hosts]
        if named:
            await self._store.add_hosts(named, "settings")

    async def _feed(self, feeder: Feeder) -> None:
        while True:
            await feeder.check()
            self.leading.queue_length = feeder.length
            longest = self._settings.lister.queue_check_seconds
            await asyncio.sleep(feeder.pause_seconds(longest))

    async def _name_hosts(self, relay: str) -> None:
        """Ask a relay which hosts there are, again and again."""
        failures = 0
        while True:
            try:
                count = await self._read_hosts(relay)
            except ListError as failure:
                failures += 1
                self._counters.failed += 1
                if failures == ROUNDS:
                    await self._store.named(relay)  # nobody waits for it any longer
                wait = rules.wait_seconds(failures, failure.told)
                said = log.fields(relay=relay, error=failure, retry_in=wait)
                logger.log(
                    logging.WARNING if failures == 1 else logging.DEBUG,
                    "the relay does not say which hosts there are %s",
                    said,
                )
            else:
                failures, wait = 0, self._settings.lister.hosts_interval_seconds
                await self._store.named(relay)
                logger.info("hosts named %s", log.fields(relay=relay, hosts=count))
            await asyncio.sleep(wait)

    async def _read_hosts(self, relay: str) -> int:
        spacing = Spacing(self._settings.lister.spacing_ms / 1000)
        cursor, count, seen = "", 0, {""}
        for _ in range(HOST_PAGES):
            async with spacing:
                page = await self._lists.hosts(relay, cursor, self._settings.lister.page_size)
            others = [host for host in page.hosts if host.origin not in self._relays]
            await self._store.add_hosts(others, relay)
            count += len(others)
            if page.cursor is None or page.cursor in seen:
                break
            seen.add(cursor := page.cursor)
        return count

    async def _ask_gaps(self) -> None:
        """Ask again for what was stepped over."""
        while True:
            for gap in await self._store.gaps():
                try:
                    await self._ask_gap(gap)
                except ListError as failure:
                    self._counters.failed += 1
                    wait = min(GAP_LONGEST_SECONDS, GAP_FIRST_SECONDS * 2.0 ** min(gap.attempts, 9))
                    await self._store.gap_failed(gap, str(failure), wait)
                else:
                    await self._store.gap_done(gap)
                    said = log.fields(host=gap.origin, after=gap.after)
                    logger.info("what could not be listed is listed now %s", said)
            await asyncio.sleep(GAP_SECONDS)

    async def _ask_gap(self, gap: Gap) -> None:
        spacing = Spacing(self._settings.lister.spacing_ms / 1000)
        cursor, seen = gap.after, {gap.after}
        while True:
            async with spacing:
                page = await self._lists.repos(gap.origin, cursor, GAP_LIMIT)
            self._counters.new += await self._store.repos(gap.origin, page, relay=gap.relay)
            self._counters.repos += len(page.repos)
            if page.cursor is None or page.cursor in seen or rules.is_past(page.cursor, gap.until):
                return
            seen.add(cursor := page.cursor)

    async def _count(self) -> None:
        while True:
            began = time.monotonic()
            await self._store.keep_census()
            await asyncio.sleep(max(CENSUS_SECONDS, 20 * (time.monotonic() - began)))
