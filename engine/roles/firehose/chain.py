"""One relay's chain: websocket, buffer, decoder, append.

A chain has one life: it begins at the cursor in the stores and ends with the first member that
ends, whatever the reason. What was in memory is dropped then, and the next life begins at the
stored cursor again; so nothing that failed needs repairing, and memory is never believed after
Redis was away.

Inside a life: one batch is appended while the next, if frames wait already, is decoded. Nothing
lingers: a batch is what waits. While the streams are full nothing is taken, the buffer fills,
the socket is not read, and the relay waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engine import failpoints, log
from engine.adapters.websocket import Subscription
from engine.core import codec
from engine.errors import UpstreamError
from engine.roles.firehose.append import Appender, Sent, StoreFull
from engine.roles.firehose.backpressure import Backpressure
from engine.roles.firehose.counters import RelayCounters
from engine.settings import IngesterSettings

if TYPE_CHECKING:
    from engine.core.codec import FrameBatch

logger = logging.getLogger(__name__)

BATCH_BYTES = 4 << 20
"""Frames decoded and appended at once: large enough to be cheap, small enough to hold three."""

INLINE_BYTES = 64 << 10
"""Fewer bytes than this are decoded on the loop: a hop to a thread costs more than they do."""

LOOK_SECONDS = 1.0
"""A silent relay's chain looks at the epoch this often: a FLUSHALL must not go unnoticed."""

FULL_POLL_SECONDS = 0.1

FULL_STORE_SECONDS = 0.5
"""Pause before a batch is sent again to a Redis that is at its memory limit."""

RESET_FRAMES, RESET_SECONDS = 200, 30.0
"""So many frames, or so long, without one beyond the cursor asked for: the relay counts anew.
Not every relay says FutureCursor."""

FINISH_SECONDS = 1.5
"""What an append in flight is given when the chain is cancelled."""


class RelayRefuses(UpstreamError):
    """The relay sent an error frame, after which it closes."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if message else name)
        self.name = name


class CursorInFuture(RelayRefuses):
    """The relay's seqs are below our cursor: it counts anew."""


class Dismissed(UpstreamError):
    """Another relay is read instead; everything that was sent to Redis is answered."""


@dataclass
class Chain:
    """One life of one relay's chain; `run` is called once."""

    host: str
    asked: int | None  # cursor in the URL; None for live
    generation: int
    shard_count: int
    allow: list[str]
    settings: IngesterSettings
    counters: RelayCounters
    executor: Executor
    progress: Callable[[], None]  # a data frame came
    appended: Callable[[], None]  # and is durable, and counted
    is_wanted: Callable[[], bool]  # False: end with `Dismissed`
    covers: Callable[[str | None], bool] | None  # of the first event's time; None: no question
    note_gap: Callable[[int, int, str], Awaitable[None]]  # after seq, before seq, reason
    began_live: Callable[[int], Awaitable[Appender]]  # first seq
    appender: Appender | None  # None until the first frame of a live start

    def __post_init__(self) -> None:
        """Nothing was seen yet."""
        self._pressure = Backpressure(self.host, self.settings, self.counters)
        self._sent: Sent[FrameBatch] | None = None
        self._highest = self.asked or 0
        self._seen = 0  # frames, of this connection
        self._behind = 0  # of them, those since the highest seq rose
        self._seen_since: float | None = None
        self._gap_after: int | None = None
        self._unplaced: list[bytes] = []
        self._rejections_logged_at = float("-inf")
        self._text_before = 0

    async def run(self, subscription: Subscription) -> None:
        """Carry frames until something ends; the reason is the exception.

        Cancelled, it waits a moment for the append in flight, whose outcome is in the stores.
        """
        self._text_before = self.counters.text_frames
        try:
            while True:
                await self._step(subscription)
        finally:
            self._pressure.end()
            if self._sent is not None:
                await asyncio.wait([self._sent.replies], timeout=FINISH_SECONDS)

    async def _step(self, subscription: Subscription) -> None:
        await self._heed_dismissal()
        if self._sent is None:
            await self._wait_while_full()
            frames = await self._take(subscription)
        else:
            frames = subscription.take_waiting(self.settings.batch_size, BATCH_BYTES)
        self.counters.text_frames = self._text_before + subscription.text_frames
        if frames:
            self._count_arrival(frames)
            frames = self._unplaced + frames
            batch = await self._decode(frames)
        await self._finish()
        if not frames:
            return
        appender = await self._prepare(frames, batch)
        if appender is not None and (batch.ops or batch.entries_count or batch.last_seq):
            await self._wait_while_full()
            self._sent = await appender.send(batch)
        await self._heed_errors(batch)

    async def _take(self, subscription: Subscription) -> list[bytes]:
        """The next frames; while there are none, see now and then that the epoch still holds."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    return await subscription.take(self.settings.batch_size, BATCH_BYTES)
            await self._heed_dismissal()
            if self.appender is not None:
                await self.appender.look()
                self._pressure.settle(self.appender)

    def _count_arrival(self, frames: list[bytes]) -> None:
        self.counters.last_frame_at = time.monotonic()
        self.counters.frames += len(frames)
        self.counters.bytes += sum(map(len, frames))

    async def _decode(self, frames: list[bytes]) -> FrameBatch:
        decode = partial(
            codec.decode_frames,
            frames,
            relay=self.host,
            generation=self.generation,
            shards=self.shard_count,
            allow=self.allow,
        )
        if sum(map(len, frames)) < INLINE_BYTES:
            return decode()
        return await asyncio.get_running_loop().run_in_executor(self.executor, decode)

    async def _prepare(self, frames: list[bytes], batch: FrameBatch) -> Appender | None:
        """Everything that must be written down before this batch is appended."""
        for kind, name, message in batch.notices:
            self.counters.note(name)
            if kind == "info":
                logger.warning(
                    "the relay says %s", log.fields(relay=self.host, name=name, message=message)
                )
                if name == "OutdatedCursor" and self.asked:
                    self._gap_after = self.asked
        if batch.rejected:
            self._note_rejected(batch)
        if batch.last_seq is None:
            if self.appender is None and batch.ops:
                self._keep_unplaced(frames)
            return self.appender
        self._unplaced = []
        self.progress()
        self._check_order(frames, batch.last_seq)
        if self._gap_after is not None or self.covers is not None:
            await self._note_gap(frames)
        if self.appender is None:
            self.appender = await self.began_live(self._first_event(frames)[0] - 1)
        return self.appender

    async def _note_gap(self, frames: list[bytes]) -> None:
        """The first events came: write down what is, or may be, missing before them."""
        seq, at = self._first_event(frames)
        if self._gap_after is not None:
            await self.note_gap(self._gap_after, seq, "OutdatedCursor")
        elif self.covers is not None and not self.covers(at):
            await self.note_gap(self.asked or 0, seq, "TakeOver")
        self._gap_after = self.covers = None

    def _keep_unplaced(self, frames: list[bytes]) -> None:
        """Frames without a seq at a live start wait for one that has it: a rewind must know it."""
        self._unplaced = frames
        if len(frames) > self.settings.batch_size or sum(map(len, frames)) > BATCH_BYTES:
            raise RelayRefuses("NoSeq", f"{len(frames)} frames came, none with a readable seq")

    def _first_event(self, frames: list[bytes]) -> tuple[int, str | None]:
        """Seq and time of the first frame that has a seq; the caller knows that one has."""
        for frame in frames:
            batch = codec.decode_frames(
                [frame], relay=self.host, generation=self.generation, shards=1, allow=[]
            )
            if batch.last_seq is not None:
                return batch.last_seq, batch.last_time
        raise AssertionError("no frame has a seq")

    def _check_order(self, frames: list[bytes], last_seq: int) -> None:
        """Count a seq that falls; notice a relay that counts anew without saying so."""
        now = time.monotonic()
        self._seen += len(frames)
        if self._seen_since is None:
            self._seen_since = now
        if last_seq > self._highest:
            self._highest, self._behind = last_seq, 0
            return
        self.counters.backwards += 1
        self._behind += len(frames)
        if self.asked and self._highest == self.asked:
            long = now - self._seen_since >= RESET_SECONDS
            if self._seen >= RESET_FRAMES or long:
                raise CursorInFuture(
                    "SequenceReset", f"{self._seen} frames came, none beyond {self.asked}"
                )
        elif self._behind >= RESET_FRAMES:
            # Owners take what is not beyond the highest for repetitions. Asking for what follows
            # it makes the relay say whether it counts anew, or only repeated itself.
            raise RelayRefuses(
                "SequenceFell", f"{self._behind} frames came, none beyond {self._highest}"
            )

    def _note_rejected(self, batch: FrameBatch) -> None:
        for _, reason, _ in batch.rejected:
            self.counters.rejected[reason] += 1
        now = time.monotonic()
        if now - self._rejections_logged_at >= 10.0:
            self._rejections_logged_at = now
            _, reason, detail = batch.rejected[0]
            logger.warning(
                "frames rejected, kept as dead letters %s",
                log.fields(
                    relay=self.host, count=len(batch.rejected), reason=reason, detail=detail[:200]
                ),
            )

    async def _heed_errors(self, batch: FrameBatch) -> None:
        for kind, name, message in batch.notices:
            if kind == "error":
                await self._finish()
                if name == "FutureCursor":
                    raise CursorInFuture(name, message)
                raise RelayRefuses(name, message)

    async def _heed_dismissal(self) -> None:
        if not self.is_wanted():
            await self._finish()
            raise Dismissed("another relay is read instead")

    async def _finish(self) -> None:
        """Wait for the append in flight; sent again as long as Redis is full."""
        appender = self.appender
        while self._sent is not None:
            assert appender is not None
            sent = self._sent
            try:
                await appender.finish(sent)
            except StoreFull as error:
                self._sent = None
                self._pressure.refused(error)
                await asyncio.sleep(FULL_STORE_SECONDS)
                self._sent = await appender.send(sent.batch)
                continue
            self._sent = None
            self._pressure.settle(appender)
            self._count_appended(sent)
            failpoints.passing("between_appends")

    def _count_appended(self, sent: Sent[FrameBatch]) -> None:
        counters, batch = self.counters, sent.batch
        counters.received_seq = sent.cursor
        counters.batches += 1
        counters.ops += batch.ops
        counters.counts.update(batch.counts)
        counters.filtered += batch.counts.get("filtered", 0)
        counters.rejected_ops += batch.counts.get("rejected", 0)
        if batch.last_time is not None:
            counters.last_time = batch.last_time
            self.appended()

    async def _wait_while_full(self) -> None:
        appender, pressure = self.appender, self._pressure
        if appender is None:
            return
        while pressure.is_full(appender):
            pressure.full(appender)
            await asyncio.sleep(FULL_POLL_SECONDS)
            await self._heed_dismissal()
            await appender.look()
        pressure.settle(appender)
