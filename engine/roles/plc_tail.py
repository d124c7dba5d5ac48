"""Reading the end of the directory's log: a part of the identity role.

An import (``headrace plc import``) brings what was; this brings what is new, from where the
imported file ends. A page's operations and the cursor behind them are one transaction. The
cursor is a time, so a mirror can go on where the directory does not answer; numbers of
operations (``seq``) are each server's own. A page that cannot be had is asked for again, later and
later; a line that cannot be read costs itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine import errors, failpoints, log
from engine.adapters import imported, postgres, remembered
from engine.core import plc
from engine.core.backoff import Backoff

if TYPE_CHECKING:
    from engine.adapters import resp
    from engine.adapters.identity import DidResolver
    from engine.core.streams import Keys

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 1.0
"""From page to page while there is more; the directory allows about 500 requests in 5 minutes."""

RETRY_FIRST_SECONDS = 5.0
"""After a request that failed; longer each time, up to five minutes."""

NAMED = 3
"""Lines of a page that cannot be read and are named in the log; the others are counted."""


@dataclass
class Counters:
    """What the process did since it started; for the heartbeat."""

    pages: int = 0
    operations: int = 0
    bad: int = 0
    failed: int = 0  # requests
    read_to: str | None = None  # the cursor


@dataclass
class Tail:
    """Reads on until it is cancelled."""

    resolver: DidResolver
    idle: postgres.Borrowable
    state_schema: str
    interval_seconds: float
    counters: Counters
    redis: resp.RespConnection | None = None
    keys: Keys | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        self._sql = imported.statements(self.state_schema)

    async def run(self) -> None:
        """Read, for ever.

        Raises:
            StoreError: Postgres or Redis failed.
        """
        delays = Backoff(base_seconds=RETRY_FIRST_SECONDS, cap_seconds=300.0)
        while True:
            async with postgres.borrowed(self.idle) as conn, postgres.translated_errors():
                after = await conn.fetchval(self._sql["plc_cursor"])
            if after is None:
                await asyncio.sleep(self.interval_seconds)
                continue
            try:
                page = await self.resolver.export(plc.instant(after), plc.PAGE)
            except errors.UpstreamError as failure:
                self.counters.failed += 1
                wait = delays.next(random.random())  # noqa: S311 - jitter
                told = log.fields(error=str(failure), retry_in=wait)
                logger.warning("the directory's log cannot be read %s", told)
                await asyncio.sleep(wait)
                continue
            delays.reset()
            is_full = await self._take(after, page.body, page.by_directory)
            await asyncio.sleep(REQUEST_SECONDS if is_full else self.interval_seconds)

    async def _take(self, after: datetime, body: bytes, by_directory: bool) -> bool:
        """Keep a page; whether there is more."""
        lines = [line for line in body.split(b"\n") if line.strip()]
        operations, bad = await asyncio.to_thread(_read, lines, self.clock())
        times = [operation.created_at for operation in operations]
        cursor = plc.next_after(after, times, len(lines), self.clock())
        is_full = len(lines) >= plc.PAGE and cursor > after
        last = plc.last_of_each(operations)
        at_end = by_directory and not is_full
        if self.redis is not None and self.keys is not None:
            # First: who is killed in between forgets again. What is asked for meanwhile is new.
            await remembered.forget(self.redis, self.keys, [each.did for each in last])
        async with (
            postgres.borrowed(self.idle) as conn,
            postgres.translated_errors(),
            conn.transaction(),
        ):
            await imported.take(conn, self._sql, last)
            failpoints.passing("after_rows")
            await conn.execute(self._sql["plc_move"], after, cursor, at_end)
            failpoints.passing("before_commit")
        failpoints.passing("after_commit")
        counters = self.counters
        counters.pages += 1
        counters.operations += len(operations)
        counters.bad += len(bad)
        counters.read_to = plc.instant(cursor)
        for reason, line in bad[:NAMED]:
            told = log.fields(
                reason=reason, line=line[:200].decode("utf-8", "replace"), of=len(bad)
            )
            logger.warning("a line of the directory's log cannot be read %s", told)
        return is_full


def _read(lines: list[bytes], now: datetime) -> tuple[list[plc.Operation], list[tuple[str, bytes]]]:
    operations: list[plc.Operation] = []
    bad: list[tuple[str, bytes]] = []
    for line in lines:
        try:
            operation = plc.read_line(line, now)
        except plc.BadLine as error:
            bad.append((str(error), line))
        else:
            if operation is not None:
                operations.append(operation)
    return operations, bad
