"""Appending a batch: entries and cursor in one MULTI, every element of the reply checked.

The pipeline of one append::

    MULTI, XADD ... (every entry), HINCRBY events, HINCRBY bytes (every shard touched),
    HINCRBY received, SET cursor, EXEC,      WATCH epoch, GET epoch, HVALS events, HVALS bytes

The WATCH behind each EXEC guards the next one: it fails if the streams were made anew, or
Redis was flushed, in between. Streams are appended with NOMKSTREAM, so that a lost one answers
nil. Redis does not roll back: whenever an element fails, the cursor may have moved past an entry
that is not there, and the whole epoch counts as lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from engine import failpoints
from engine.adapters import resp
from engine.core import streams
from engine.errors import StoreError, StoreUnavailable, StreamsTorn
from engine.roles.firehose.epoch import Epoch

APPEND_SECONDS = 30.0
"""A server that does not answer an append in this time counts as away."""

_TAIL_REPLIES = 5  # EXEC, WATCH, GET, HVALS, HVALS


class StoreFull(StoreUnavailable):
    """Redis is at its memory limit. Nothing was appended; the same batch may be sent again."""


class EntriesLost(StreamsTorn):
    """An append failed in part: the epoch must be made anew."""


class Batch(Protocol):
    """Decoded frames, as ``codec.FrameBatch`` and ``codec.LabelBatch`` have them."""

    @property
    def ops(self) -> int:
        """Received, whatever becomes of them."""

    @property
    def last_seq(self) -> int | None:
        """The highest seq in it."""

    @property
    def entries_count(self) -> int:
        """How many commands ``xadd`` is."""

    def weights(self) -> list[tuple[int, int, int, int]]:
        """Shard, entries, events, bytes."""

    def xadd(self, stream: bytes) -> bytes:
        """RESP that appends every entry."""


B = TypeVar("B", bound=Batch)


@dataclass
class Sent(Generic[B]):
    """A batch on its way."""

    batch: B
    cursor: int
    replies: asyncio.Future[list[Any]]


class Appender:
    """Appends one relay's frames over a connection of its own. Not shared: WATCH is per connection.

    `cursor` is the seq of the last frame that is durably appended; `events` and `bytes` are what
    all streams of the source held when Redis last answered.
    """

    def __init__(
        self,
        redis: resp.RespConnection,
        keys: streams.Keys,
        source: str,
        host: str,
        epoch: Epoch,
        generation: int,
        cursor: int,
    ) -> None:
        self.cursor = cursor
        self.generation = generation
        self.events = 0
        self.bytes = 0
        self._redis = redis
        self._mark = epoch.mark
        self._stream = keys.stream(source, 0).removesuffix(":0").encode()
        self._events_key = keys.events(source)
        self._bytes_key = keys.bytes(source)
        self._received_key = keys.received(source, host)
        self._cursor_key = keys.cursor(source, host)
        self._look = b"".join(
            (
                resp.pack("WATCH", keys.epoch),
                resp.pack("GET", keys.epoch),
                resp.pack("HVALS", self._events_key),
                resp.pack("HVALS", self._bytes_key),
            )
        )

    async def look(self) -> None:
        """See that the epoch is still ours, guard the next append, and learn how full it is.

        Raises:
            StreamsTorn: the streams are no longer those of our epoch.
            StoreUnavailable: the connection is lost.
        """
        self._read_look(await self._redis.execute(self._look, _TAIL_REPLIES - 1))

    async def send(self, batch: B) -> Sent[B]:
        """Send one batch; call `finish` before sending the next.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        cursor = max(self.cursor, batch.last_seq or 0)
        count, commands = 3, [resp.pack("MULTI"), batch.xadd(self._stream)]
        for shard, _, events, size in batch.weights():
            commands.append(resp.pack("HINCRBY", self._events_key, shard, events))
            commands.append(resp.pack("HINCRBY", self._bytes_key, shard, size))
            count += 2
        commands.append(resp.pack("HINCRBY", self._received_key, self.generation, batch.ops))
        commands.append(resp.pack("SET", self._cursor_key, cursor))
        commands.append(resp.pack("EXEC") + self._look)
        replies = count + batch.entries_count + _TAIL_REPLIES
        failpoints.passing("before_append")
        sent = Sent(batch, cursor, await self._redis.start(commands, replies))
        await failpoints.passing_sent("inside_append")
        return sent

    async def finish(self, sent: Sent[Any]) -> None:
        """Wait for the reply; on return the batch and the cursor are durable together.

        Raises:
            StoreFull: Redis is at its memory limit; nothing happened, send it again later.
            StreamsTorn: the streams are no longer those of our epoch; nothing happened.
            EntriesLost: something may have been appended in part.
            StoreUnavailable: the connection is lost; whether it was appended is unknown.
        """
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                # Shielded: a cancelled chain still wants to know that the server is done with it.
                replies = await asyncio.shield(sent.replies)
        except TimeoutError as error:
            self._redis.close()
            raise StoreUnavailable(
                f"Redis did not answer an append in {APPEND_SECONDS:g} s"
            ) from error
        queued, result = replies[:-_TAIL_REPLIES], replies[-_TAIL_REPLIES]
        if isinstance(result, resp.ReplyError):
            raise refusal(queued, result)
        if result is None:
            raise StreamsTorn("the streams were made anew or lost before an append")
        for reply in result[: sent.batch.entries_count]:
            if not isinstance(reply, bytes):
                raise EntriesLost(f"an entry was not appended: {reply or 'its stream is gone'}")
        for reply in result[sent.batch.entries_count :]:
            if isinstance(reply, resp.ReplyError):
                raise EntriesLost(f"an append failed in part: {reply}")
        failpoints.passing("after_append")
        self.cursor = sent.cursor
        self._read_look(replies[-_TAIL_REPLIES + 1 :])

    def _read_look(self, replies: Sequence[Any]) -> None:
        watch, mark, events, size = (self._redis.checked(reply) for reply in replies)
        del watch
        if mark != self._mark:
            raise StreamsTorn("the streams are no longer those of our epoch")
        self.events = sum(map(int, events))
        self.bytes = sum(map(int, size))


def refusal(queued: Sequence[Any], result: resp.ReplyError) -> StoreError:
    """What a refused transaction means; nothing of it was executed."""
    causes = [reply for reply in queued if isinstance(reply, resp.ReplyError)]
    cause = causes[0] if causes else result
    error: StoreError
    if "OOM" in (cause.code, result.code) or "OOM" in str(result):
        error = StoreFull(f"Redis is full: {cause}")
    else:
        error = StoreUnavailable(f"Redis refuses an append: {cause}")
    error.__cause__ = cause
    return error
