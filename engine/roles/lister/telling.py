"""Telling the owners of accounts what lists say of them: a part of the lister that leads.

``active=false`` in a host's list is the account's status upstream, and no reason to fetch it. The
row of an actor is its shard's owner's to write, so the status goes there as an ``#account``
event of no relay, as of the moment at which it was listed: what relays said later stays, what they
said before has no effect any more. It is told again, after a loss of Redis or of this process,
until the owner has applied it, or one that is newer: that alone is what Postgres calls told.

An account may have left the host that lists it so: nothing is told that is not said by the host
which the DID's document names, as the directory's log told it or the directory says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine import log, sql
from engine.adapters import imported, resp
from engine.adapters.identity import Unregistered
from engine.core import streams, urls
from engine.errors import StreamsTorn, UpstreamError
from engine.roles.backfiller.append import Appender, Marks, account_entry
from engine.roles.firehose import epoch as epochs

if TYPE_CHECKING:
    from engine.adapters.identity import DidResolver
    from engine.roles.lister.listing import Counters
    from engine.roles.lister.store import Store, Untold
    from engine.settings import Settings

logger = logging.getLogger(__name__)

AT_A_TIME = 5000
"""Told and not yet applied, at most."""

LOOKUPS = 16
"""Documents asked for at a time."""

LOOK_SECONDS = 1.0
"""Between two looks at what is applied, while something is not."""


class Teller:
    """Tells until it is cancelled."""

    def __init__(
        self, settings: Settings, store: Store, dids: DidResolver, counters: Counters
    ) -> None:
        """Prepare; nothing is opened before there is something to tell."""
        self._settings = settings
        self._dids = dids
        self._plc = imported.statements(settings.database_state_schema)
        self._store = store
        self._counters = counters

    async def run(self) -> None:
        """Tell, for ever.

        Raises:
            StoreError: a store failed.
        """
        while True:
            if await self._store.untold(1):
                with contextlib.suppress(StreamsTorn):  # told anew in the next epoch
                    await self._tell_all()
            await asyncio.sleep(self._settings.lister.queue_check_seconds)

    async def _tell_all(self) -> None:
        """In one epoch of the streams, until there is nothing that is not applied."""
        async with AsyncExitStack() as stack:
            appender = await self._appender(stack)
            told: set[tuple[str, str, datetime]] = set()
            while some := await self._store.untold(AT_A_TIME):
                new = await self._confirmed([each for each in some if _key(each) not in told])
                told = {_key(each) for each in some if _key(each) in told} | set(map(_key, new))
                await asyncio.gather(*(_tell(appender, each) for each in new))
                self._counters.told += len(new)
                if new:
                    logger.info("told what lists say %s", log.fields(accounts=len(new)))
                await asyncio.sleep(LOOK_SECONDS)
                await appender.look()
                await self._store.told(some, [_instant(each.listed_at) for each in some])

    async def _confirmed(self, some: list[Untold]) -> list[Untold]:
        """Those of them that are for their host to say; what is not is forgotten."""
        max_age = self._settings.identity.plc_max_age_seconds
        async with self._store.connection() as conn:
            known = await imported.look_up(conn, self._plc, [each.did for each in some], max_age)
        asking = asyncio.Semaphore(LOOKUPS)

        async def is_theirs(said: Untold) -> bool | None:
            if said.host is None:  # a relay's word, where no host is known
                return True
            try:
                if said.did in known:
                    pds = known[said.did].pds
                else:
                    async with asking:
                        pds = await self._dids.pds(said.did)
                return pds is not None and urls.origin(pds) == said.host
            except (Unregistered, ValueError):
                return False
            except UpstreamError as error:
                logger.debug("not told yet %s", log.fields(did=said.did, error=error))
                return None  # at the next look

        answers = await asyncio.gather(*map(is_theirs, some))
        others = [said for said, answer in zip(some, answers, strict=True) if answer is False]
        if others:
            await self._store.untell(others)
        return [said for said, answer in zip(some, answers, strict=True) if answer]

    async def _appender(self, stack: AsyncExitStack) -> Appender:
        settings, ours = self._settings, self._settings.backfiller
        redis = await resp.RespConnection.open(settings.redis_url or "")
        stack.callback(redis.close)
        keys = streams.Keys(settings.redis_key_prefix)
        statements = sql.load("firehose", state=settings.database_state_schema)
        async with self._store.connection() as conn:
            epoch = await epochs.ensure(epochs.Stores(conn, redis, keys, statements))
        marks = Marks(ours.firehose_stream_high_water_mark, ours.high_water_bytes)
        appender = Appender(redis, keys, epoch.mark, epoch.shard_count, marks)
        stack.push_async_callback(appender.close)
        return appender


async def _tell(appender: Appender, said: Untold) -> None:
    status = None if said.tell == "active" else said.tell
    await appender.append(said.did, [account_entry(said.did, status, _instant(said.listed_at))])


def _key(said: Untold) -> tuple[str, str, datetime]:
    return said.did, said.tell, said.listed_at


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
