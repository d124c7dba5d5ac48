"""Appending fetched repositories to the shard streams, no faster than they are indexed.

Slices of one fetch go in one after another, each when the one before it is durable; fetches do
not wait for one another. What waits at a moment is one transaction::

    MULTI, XADD ... (every entry), HINCRBY events, HINCRBY bytes (every shard touched),
    XACK, XDEL (every fetch that ends), EXEC,   WATCH epoch, GET epoch, HVALS events, HVALS bytes

As with the live streams, the WATCH behind each EXEC guards the next one, and streams are appended
with NOMKSTREAM: nothing goes into streams that are not those of our epoch. A fetch whose slices
lie in two epochs would never be closed; so an appender belongs to one epoch and ends with it.

Nothing is dropped: while the streams hold as much as they may, or Redis is at its memory limit,
whoever appends waits, and goes on by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import log
from engine.adapters import resp
from engine.core import streams, wire
from engine.errors import StoreError, StreamsTorn
from engine.roles.firehose.append import StoreFull, refusal
from engine.roles.firehose.backpressure import RESUME_SHARE

logger = logging.getLogger(__name__)

APPEND_SECONDS = 30.0
"""A server that does not answer an append in this time counts as away."""

POLL_SECONDS = 0.5
"""Between two looks at streams that are full."""

APPEND_BYTES = 4 << 20
"""Entries in one transaction; a larger one goes alone. Redis answers nobody else meanwhile."""

_TAIL_REPLIES = 5  # EXEC, WATCH, GET, HVALS, HVALS

Entry = tuple[int, bytes]
"""What it weighs against the high water mark in events, and its bytes."""


NO_RELAY = "backfill"
"""Who says it, where an entry is from no relay: its generation is 0, and it has no seq."""


def account_entry(did: str, status: str | None, time: str) -> Entry:
    """What has the owner of an account's row write its status as of ``time``; None: active."""
    account = wire.Account(
        relay=NO_RELAY,
        generation=0,
        seq=0,
        did=did,
        time=time,
        active=status is None,
        status=status,
    )
    return wire.weight(account), wire.encode(account)


@dataclass(frozen=True)
class Marks:
    """What the streams of the source may hold, all shards and all backfillers together."""

    events: int
    bytes: int


@dataclass(frozen=True)
class Done:
    """An entry of the work queue that is finished when the entries with it are durable."""

    key: str
    group: str
    entry_id: str


@dataclass
class _Append:
    """Entries of one fetch on their way."""

    shard: int
    entries: Sequence[Entry]
    done: Done | None
    replies: asyncio.Future[None]
    events: int = field(init=False)
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.events = sum(events for events, _ in self.entries)
        self.bytes = sum(len(entry) for _, entry in self.entries)


class Appender:
    """Appends over a connection of its own; any number of tasks may use it at once.

    ``events`` and ``bytes`` are what the streams held when Redis last answered; ``waits`` counts
    how often they were full, ``waited_seconds`` how long. After a failure it is of no further use.
    """

    def __init__(
        self,
        redis: resp.RespConnection,
        keys: streams.Keys,
        mark: bytes,
        shard_count: int,
        marks: Marks,
    ) -> None:
        """``mark`` is the epoch that Postgres names, as the epoch key must hold it."""
        self.events = 0
        self.bytes = 0
        self.waits = 0
        self.waited_seconds = 0.0
        self._redis = redis
        self._keys = keys
        self._mark = mark
        self._shard_count = shard_count
        self._marks = marks
        self._promised_events = 0  # on the way, not yet counted in the streams
        self._promised_bytes = 0
        self._is_guarded = False
        self._full_since: float | None = None
        self._room: asyncio.Task[None] | None = None
        self._waiting: deque[_Append] = deque()
        self._sending: asyncio.Task[None] | None = None
        look = [("WATCH", keys.epoch), ("GET", keys.epoch)]
        look += [("HVALS", keys.events(streams.BACKFILL)), ("HVALS", keys.bytes(streams.BACKFILL))]
        self._look = b"".join(resp.pack(*command) for command in look)

    @property
    def is_full(self) -> bool:
        """Whether appends wait now."""
        return self._full_since is not None

    async def append(self, did: str, entries: Sequence[Entry], done: Done | None = None) -> None:
        """Append entries of one fetch; on return they are durable in Redis, in this order.

        Waits first, however long, while the streams are full. The entries of a DID must be
        appended one call after another. With the last of them, the closing entry, the entry
        of the work queue is finished in the same transaction. Cancelled, it may or may not
        have appended.

        Raises:
            StreamsTorn: the streams are no longer those of our epoch: nothing more of a fetch
                that was begun in it may be appended. Whether these entries were is unknown.
            StoreUnavailable: the connection is lost; whether they were appended is unknown.
        """
        shard = streams.shard_of(did, self._shard_count)
        replies: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        append = _Append(shard, entries, done, replies)
        await self._wait_for_room()
        self._promise(append, 1)
        self._waiting.append(append)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        await replies

    async def close(self) -> None:
        """Stop what is under way; whoever waits is cancelled. The connection is the caller's."""
        tasks = [task for task in (self._room, self._sending) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail(asyncio.CancelledError())

    # Room

    def _has_room(self, share: float) -> bool:
        events = self.events + self._promised_events
        size = self.bytes + self._promised_bytes
        return events < self._marks.events * share and size < self._marks.bytes * share

    def _promise(self, append: _Append, times: int) -> None:
        self._promised_events += times * append.events
        self._promised_bytes += times * append.bytes

    async def _wait_for_room(self) -> None:
        if not self._is_guarded:
            await self.look()
        while self.is_full or not self._has_room(1.0):
            # One looks for all, and each who was woken looks whether another was faster.
            if self._room is None:
                self._room = asyncio.create_task(self._poll())
            await asyncio.shield(self._room)

    async def _poll(self) -> None:
        """Look until there is room again."""
        why = f"{self.events} events, {self.bytes} bytes in the streams"
        with self._waited(why):
            try:
                while True:
                    await asyncio.sleep(POLL_SECONDS)
                    await self.look()
                    if self._has_room(RESUME_SHARE):
                        return
            finally:
                self._room = None

    @contextlib.contextmanager
    def _waited(self, why: str) -> Iterator[None]:
        """Say once that the streams are full, and once that they are no longer."""
        if self._full_since is not None:
            yield
            return
        self._full_since = began = time.monotonic()
        self.waits += 1
        logger.warning("backpressure begins %s", log.fields(source=streams.BACKFILL, why=why))
        try:
            yield
        finally:
            self._full_since = None
            seconds = time.monotonic() - began
            self.waited_seconds += seconds
            said = log.fields(source=streams.BACKFILL, seconds=seconds)
            logger.info("backpressure ends %s", said)

    async def look(self) -> None:
        """See that the epoch is ours, guard the next append, and learn how full it is.

        Raises:
            StreamsTorn: the epoch is another.
        """
        self._read_look(await self._redis.execute(self._look, _TAIL_REPLIES - 1))

    def _read_look(self, replies: Sequence[Any]) -> None:
        _, mark, events, size = (self._redis.checked(reply) for reply in replies)
        if mark != self._mark:
            raise StreamsTorn("the streams are not those of the epoch that Postgres names")
        self.events = sum(map(int, events))
        self.bytes = sum(map(int, size))
        self._is_guarded = True

    # Sending

    async def _send_all(self) -> None:
        """Send what waits, one transaction after another, until nothing does."""
        taken: list[_Append] = []
        try:
            while self._waiting:
                taken = self._take()
                await self._send(taken)
                for append in taken:
                    self._promise(append, -1)
                    if not append.replies.done():
                        append.replies.set_result(None)
                taken = []
        except Exception as error:
            self._waiting.extendleft(reversed(taken))
            self._fail(error)
        except asyncio.CancelledError:
            self._waiting.extendleft(reversed(taken))
            raise
        finally:
            self._sending = None

    def _take(self) -> list[_Append]:
        taken: list[_Append] = []
        size = 0
        while self._waiting and (not taken or size + self._waiting[0].bytes <= APPEND_BYTES):
            append = self._waiting.popleft()
            if append.replies.cancelled():
                self._promise(append, -1)
                continue
            size += append.bytes
            taken.append(append)
        return taken

    async def _send(self, appends: Sequence[_Append]) -> None:
        """Append these in one transaction; where Redis is full, as soon as it has room."""
        if not appends or await self._send_once(appends):
            return
        with self._waited("Redis is at its memory limit"):
            while True:
                await asyncio.sleep(POLL_SECONDS)
                if await self._send_once(appends):
                    return

    async def _send_once(self, appends: Sequence[_Append]) -> bool:
        """Whether they are appended; False: Redis has no room, and nothing happened."""
        commands = self._commands(appends)
        count = sum(len(append.entries) for append in appends)
        replies = await self._redis.execute(
            [*commands, self._look],
            len(commands) + _TAIL_REPLIES - 1,
            timeout_seconds=APPEND_SECONDS,
        )
        queued, result = replies[: len(commands) - 1], replies[len(commands) - 1]
        if isinstance(result, resp.ReplyError):
            error = refusal(queued, result)
            if not isinstance(error, StoreFull):
                raise error
            self._read_look(replies[-_TAIL_REPLIES + 1 :])
            return False
        if result is None:
            raise StreamsTorn("the streams were made anew or lost before an append")
        for reply in result[:count]:
            if not isinstance(reply, bytes):
                raise StreamsTorn(f"an entry was not appended: {reply or 'its stream is gone'}")
        for reply in result[count:]:
            if isinstance(reply, resp.ReplyError):
                raise StreamsTorn(f"an append failed in part: {reply}")
        self._read_look(replies[-_TAIL_REPLIES + 1 :])
        return True

    def _commands(self, appends: Sequence[_Append]) -> list[bytes]:
        keys, weights = self._keys, dict[int, tuple[int, int]]()
        commands = [resp.pack("MULTI")]
        for append in appends:
            stream = keys.stream(streams.BACKFILL, append.shard)
            events, size = weights.get(append.shard, (0, 0))
            weights[append.shard] = (events + append.events, size + append.bytes)
            for _, entry in append.entries:
                commands.append(resp.pack("XADD", stream, "NOMKSTREAM", "*", "event", entry))
        for shard, (events, size) in sorted(weights.items()):
            commands.append(resp.pack("HINCRBY", keys.events(streams.BACKFILL), shard, events))
            commands.append(resp.pack("HINCRBY", keys.bytes(streams.BACKFILL), shard, size))
        for done in filter(None, (append.done for append in appends)):
            commands.append(resp.pack("XACK", done.key, done.group, done.entry_id))
            commands.append(resp.pack("XDEL", done.key, done.entry_id))
        commands.append(resp.pack("EXEC"))
        return commands

    def _fail(self, error: BaseException) -> None:
        """Give everybody who waits an exception of their own."""
        while self._waiting:
            append = self._waiting.popleft()
            self._promise(append, -1)
            replies = append.replies
            if isinstance(error, asyncio.CancelledError):
                replies.cancel()
            elif not replies.done():
                failure = type(error)(str(error)) if isinstance(error, StoreError) else error
                replies.set_exception(failure)
