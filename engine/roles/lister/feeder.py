"""The queue of repositories to fetch: filled from ``headrace.repo``, and brought in line with it.

The table says what is needed, the queue says what is handed out; what the table calls queued and
the queue does not hold is lost and handed out again. So the queue can be thrown away at any time.
An entry is written after its row is marked: a crash in between leaves a row that the next look
finds lost, never work that nobody knows of. One process of a deployment does this.

Nobody waits for the feeder and it for nobody: rows that are locked are left for the next time.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from engine import errors, log, sql
from engine.adapters import postgres, resp
from engine.core import streams
from engine.settings import Settings

logger = logging.getLogger(__name__)

CHUNK = 2000
"""Repositories put into the queue in one MULTI: two hundred kilobytes."""

HOSTS_AT_ONCE = 250
"""Of which a chunk is mixed, so that neighbours in the queue are of different hosts."""

LOOK_SECONDS = 600.0
"""Between two comparisons of queue and table where nothing hints at a loss."""


SHORTEST_PAUSE_SECONDS = 0.25
"""Between two looks, however fast the queue is emptied."""


@dataclass
class Counters:
    """What the feeder did since the start of the process."""

    queued: int = 0
    asked: int = (
        0  # of them, those that were asked for, due again, or of which something is missing
    )
    lost: int = 0  # queued and not in the queue
    swept: int = 0  # unfinished when the streams were lost


class Feeder:
    """Fills the queue over one connection to each store; not shared."""

    def __init__(
        self,
        conn: asyncpg.Connection[Any],
        redis: resp.RespConnection,
        settings: Settings,
        counters: Counters,
    ) -> None:
        """Believe nothing: the first ``check`` compares queue and table."""
        self._conn = conn
        self._redis = redis
        self._sql = sql.load("queue", state=settings.database_state_schema)
        keys = streams.Keys(settings.redis_key_prefix)
        self._stream, self._mark_key = keys.queue, keys.queue_mark
        self._mark = secrets.token_hex(8).encode()
        lister = settings.lister
        self._fill = min(lister.queue_fill, settings.ingester.high_water_mark)
        self._resume = min(lister.queue_resume, self._fill - 1)
        self._counters = counters
        self.is_filling = True
        self.length = 0
        self._checked_at = 0.0  # when the length was last seen
        self._taken_a_second = 0.0  # since the look before
        self._looked_at = float("-inf")
        self._suspects: dict[str, Any] = {}  # DID -> since when it is queued, at the last look
        self._hosts: deque[str] = deque()
        self._after: dict[str, str] = {}  # host -> the last DID taken of it
        self._homeless_after = self._resync_after = ""
        self._barren = False  # since the hosts were last read nothing was put in

    async def check(self) -> None:
        """One look: repair what was lost, then fill up to the mark.

        Raises:
            StoreError: a store failed; the queue may hold less than the table says.
        """
        before, since = self.length, self._checked_at
        await self._repair()
        now = time.monotonic()
        self._taken_a_second = max(0, before - self.length) / max(0.001, now - since)
        if self.length >= self._fill:
            self._turn(filling=False)
        elif self.length <= self._resume:
            self._turn(filling=True)
        await self._feed_asked()
        self._barren = False
        while self.is_filling and self.length < self._fill and await self._feed_new():
            pass
        if self.length >= self._fill:
            self._turn(filling=False)
        self._checked_at = time.monotonic()

    def pause_seconds(self, longest: float) -> float:
        """When to look again: before the queue is half as short as where it is filled again."""
        if self.length <= self._resume:  # all that is needed is in it
            return longest
        soon = (self.length - self._resume / 2) / max(1.0, self._taken_a_second)
        return min(longest, max(SHORTEST_PAUSE_SECONDS, soon))

    def _turn(self, *, filling: bool) -> None:
        if filling != self.is_filling:
            self.is_filling = filling
            said = "filling again" if filling else "full"
            logger.info("the queue: %s %s", said, log.fields(length=self.length))

    # -- what was lost --------------------------------------------------------------------------

    async def _repair(self) -> None:
        """Compare queue and table where there is a reason to."""
        async with postgres.translated_errors():
            row = await self._conn.fetchrow(self._sql["queue_epochs"])
        if row is None:
            raise errors.SchemaMismatch("there is no deployment in the database")
        commands = [resp.pack("XLEN", self._stream), resp.pack("GET", self._mark_key)]
        replies = await self._redis.execute(commands, 2)
        self.length, mark = (self._redis.checked(reply) for reply in replies)
        is_new = bool(row["streams"]) and row["streams"] != row["queue"]
        is_due = time.monotonic() - self._looked_at >= LOOK_SECONDS
        if mark != self._mark:
            await self._adopt()
        if is_new or mark != self._mark or is_due or self._suspects:
            await self._look(is_new)
            self._looked_at = time.monotonic()
        if is_new:
            async with postgres.translated_errors():
                await self._conn.execute(self._sql["queue_epoch_set"], row["streams"])

    async def _adopt(self) -> None:
        """Make the stream and its group if they are gone, and mark this Redis as seen."""
        commands = [
            resp.pack("XGROUP", "CREATE", self._stream, streams.QUEUE_GROUP, "0", "MKSTREAM"),
            resp.pack("SET", self._mark_key, self._mark),
        ]
        made, marked = await self._redis.execute(commands, 2)
        if not (isinstance(made, resp.ReplyError) and made.code == "BUSYGROUP"):
            self._redis.checked(made)
        self._redis.checked(marked)

    async def _look(self, is_new: bool) -> None:
        """Find what the table calls unfinished and the queue does not hold.

        In the same epoch it must be missing at two looks: an attempt that ends leaves the queue a
        moment before its row says so.
        """
        rows = await self._unfinished()
        held = await self._held()
        lost = [row for row in rows if row["did"] not in held]
        if is_new:
            await self._write("queue_swept", [row["did"] for row in lost])
            self._counters.swept += len(lost)
            self._suspects = {}
        else:
            queued = {row["did"]: row["queued_at"] for row in lost if row["queued_at"] is not None}
            sure = [did for did, since in queued.items() if self._suspects.get(did) == since]
            await self._write("queue_lost", sure, [queued[did] for did in sure])
            self._counters.lost += len(sure)
            self._suspects = {did: queued[did] for did in queued.keys() - set(sure)}
            lost = sure
        if lost:
            why = "the streams were lost" if is_new else "entries are gone from the queue"
            logger.warning("queued again %s", log.fields(why=why, repositories=len(lost)))

    async def _unfinished(self) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = []
        after = ""
        while True:
            async with postgres.translated_errors():
                rows = await self._conn.fetch(self._sql["queue_unfinished"], after, CHUNK)
            found += rows
            if len(rows) < CHUNK:
                return found
            after = rows[-1]["did"]

    async def _held(self) -> set[str]:
        """Every DID in the queue."""
        held: set[str] = set()
        start = "-"
        while True:
            entries = await self._redis.command("XRANGE", self._stream, start, "+", "COUNT", CHUNK)
            for _, fields in entries:
                did = queued_did(fields)
                if did is not None:
                    held.add(did)
            if len(entries) < CHUNK:
                return held
            start = f"({entries[-1][0].decode()}"

    async def _write(self, name: str, dids: list[str], *columns: list[Any]) -> None:
        for start in range(0, len(dids), CHUNK):
            parts = [column[start : start + CHUNK] for column in (dids, *columns)]
            async with postgres.translated_errors():
                await self._conn.execute(self._sql[name], *parts)

    # -- what is put in -------------------------------------------------------------------------

    async def _feed_asked(self) -> None:
        """What somebody asked for, what is due again, and what live commits found missing.

        These do not wait for the queue to run low.
        """
        for name in ("queue_asked", "queue_due"):
            while self.length < self._fill:
                room = min(CHUNK, self._fill - self.length)
                dids = await self._dids(name, room)
                count = await self._put(dids)
                self._counters.asked += count
                if len(dids) < room or not count:
                    break
        while self.length < self._fill:
            room = min(CHUNK, self._fill - self.length)
            dids = await self._dids("queue_resync", self._resync_after, room)
            self._counters.asked += await self._put(dids)
            self._resync_after = dids[-1] if len(dids) == room else ""
            if not self._resync_after:
                break

    async def _feed_new(self) -> bool:
        """Put one mixed chunk of repositories that were never fetched; False if there is none."""
        room = min(CHUNK, self._fill - self.length)
        if not self._hosts:
            if self._barren:
                return False
            self._hosts.extend(await self._dids("queue_hosts"))
            homeless = await self._dids("queue_homeless", self._homeless_after, room)
            self._homeless_after = homeless[-1] if len(homeless) == room else ""
            self._barren = not await self._put(homeless)
            if not self._hosts:
                return not self._barren
            room = min(CHUNK, self._fill - self.length)
            if room <= 0:
                return True
        hosts = [self._hosts.popleft() for _ in range(min(HOSTS_AT_ONCE, len(self._hosts)))]
        each = -(-room // len(hosts))
        async with postgres.translated_errors():
            rows = await self._conn.fetch(
                self._sql["queue_new"], hosts, [self._after.get(host, "") for host in hosts], each
            )
        by_host: dict[str, list[str]] = {host: [] for host in hosts}
        for row in rows:
            by_host[row["host"]].append(row["did"])
        mixed = _in_turn(list(by_host.values()))[:room]
        taken = set(mixed)
        for host, dids in by_host.items():
            mine = [did for did in dids if did in taken]
            if mine:
                self._after[host] = mine[-1]
            if len(mine) == each or len(mine) < len(dids):
                self._hosts.append(host)  # it has more
            else:
                self._after.pop(host, None)
        if await self._put(mixed):
            self._barren = False
        return True

    async def _dids(self, name: str, *arguments: Any) -> list[str]:
        async with postgres.translated_errors():
            return [row[0] for row in await self._conn.fetch(self._sql[name], *arguments)]

    async def _put(self, dids: list[str]) -> int:
        """Mark the rows, then append their entries; how many they are.

        Raises:
            StoreUnavailable: Redis is away or full; what it refused is marked as not queued.
        """
        if not dids:
            return 0
        async with postgres.translated_errors():
            rows = await self._conn.fetch(self._sql["queue_mark"], dids)
        marked = {row["did"]: row for row in rows}
        chosen = [marked[did] for did in dict.fromkeys(dids) if did in marked]
        if not chosen:
            return 0
        commands = [resp.pack("MULTI")]
        commands += [
            resp.pack("XADD", self._stream, "*", streams.QUEUE_FIELD, entry(row)) for row in chosen
        ]
        commands += [resp.pack("EXEC"), resp.pack("XLEN", self._stream)]
        *_, done, length = await self._redis.execute(commands, len(commands))
        if not isinstance(done, list) or any(isinstance(each, resp.ReplyError) for each in done):
            await self._write("queue_refused", [row["did"] for row in chosen])
            raise errors.StoreUnavailable(f"Redis refuses entries of the queue: {done}")
        self.length = self._redis.checked(length)
        self._counters.queued += len(chosen)
        return len(chosen)


def entry(row: Any) -> bytes:
    """One entry of the queue, as its readers know it from before."""
    return orjson.dumps(
        {
            "did": row["did"],
            "host": row["host"],
            "rev": row["listed_rev"],
            "status": None,
            "active": True,
        }
    )


def queued_did(fields: list[bytes] | None) -> str | None:
    """The DID of an entry; None where it cannot be read."""
    pairs = dict(zip(fields[::2], fields[1::2], strict=False)) if fields else {}
    try:
        document = orjson.loads(pairs.get(streams.QUEUE_FIELD.encode(), b""))
    except orjson.JSONDecodeError:
        return None
    did = document.get("did") if isinstance(document, dict) else None
    return did if isinstance(did, str) else None


def _in_turn(lists: list[list[str]]) -> list[str]:
    """The first of each, then the second of each, and so on."""
    longest = max((len(each) for each in lists), default=0)
    return [each[place] for place in range(longest) for each in lists if place < len(each)]
