"""One labeler's host: websocket, decoder, append; again and again, whatever happens.

A life begins at the cursor and ends with the first thing that goes wrong; then the pause grows,
up to `pipe.CAP_SECONDS`. What goes wrong at a labeler is its chain's business alone. A store that
fails is everybody's: it ends the session of the role.

Frames are appended one small batch at a time over a connection that all chains share; while the
stream is full nothing is taken from any socket, and labels wait at their labelers.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engine import log
from engine.adapters.identity import Unregistered
from engine.adapters.websocket import Subscription, SubscriptionEnded, subscribe
from engine.core import codec, streams
from engine.errors import UpstreamError
from engine.roles.firehose.append import Appender, StoreFull
from engine.roles.firehose.backpressure import Backpressure
from engine.roles.firehose.chain import CursorInFuture, RelayRefuses
from engine.roles.firehose.counters import Restart, State
from engine.roles.labels.keyring import Keyring, url_of
from engine.roles.labels.pipe import Known, Pipe

if TYPE_CHECKING:
    from engine.core.codec import LabelBatch

logger = logging.getLogger(__name__)

STEADY_SECONDS = 60.0
"""A connection that lasted so long was a good one, though nothing may have come."""

SOCKET_BUFFER_BYTES = 1 << 20
BATCH_FRAMES, BATCH_BYTES = 1000, 1 << 20
INLINE_BYTES = 16 << 10
"""Fewer bytes than this are decoded on the loop."""

FULL_POLL_SECONDS = 0.1
FULL_STORE_SECONDS = 0.5

RESET_FRAMES, RESET_SECONDS = 200, 30.0
"""So many frames, or so long, without one beyond the cursor asked for: the labeler counts anew."""


class Moved(UpstreamError):
    """No labeler is left at this host."""


@dataclass
class Chain:
    """One host of labelers; `run` is called once a session."""

    host: str
    url: str
    pipe: Pipe
    ring: Keyring
    known: Known
    is_trusted: bool  # named by the settings as a host, which may be in a private network
    moved: Callable[[str], None]  # a DID whose document names another host by now

    def __post_init__(self) -> None:
        """Nothing is open yet."""
        self._again = False
        self._opened: Subscription | None = None

    async def run(self) -> None:
        """Keep the labeler's stream going until no labeler is left at the host.

        Raises:
            StoreError: a store failed; the session is over.
        """
        counters, backoff = self.known.counters, self.known.backoff
        while True:
            began = time.monotonic()
            try:
                await self._live()
            except Moved:
                return
            except SubscriptionEnded as error:
                why, reason = str(error.end), str(error)
            except CursorInFuture as error:
                why, reason = str(Restart.NEW_GENERATION), str(error)
                await self._next_generation(error.name)
            except RelayRefuses as error:
                why, reason = str(Restart.ERROR_FRAME), str(error)
            except UpstreamError as error:
                why, reason = "identity", str(error)
            finally:
                counters.connected = False
            if time.monotonic() - began >= STEADY_SECONDS:
                backoff.reset()  # silence is no failure
            counters.reconnects[why] += 1
            counters.state = State.WAITING
            delay = backoff.next(random.random())  # noqa: S311 - jitter
            logger.log(
                # Labelers that are gone for good stay quiet in the log, too.
                logging.WARNING if backoff.failures <= 3 else logging.DEBUG,
                "%s; starting again in %.1f s %s",
                reason,
                delay,
                log.fields(labeler=self.host, cursor=counters.received_seq, why=why),
            )
            await asyncio.sleep(delay)

    async def join(self, did: str, key: str | None) -> None:
        """Carry another labeler's labels too; what the host said of it before comes again."""
        if did in self.ring.keys:
            return
        self.ring.keys[did] = key
        self.ring.foreign.discard(did)
        if not await self.pipe.register.accepts(self.host, did):
            # A quiet labeler may say nothing for hours: its connection ends now.
            self._again = self.known.pending = True
            if self._opened is not None:
                self._opened.close()

    async def _next_generation(self, reason: str) -> None:
        counters = self.known.counters
        if counters.generation is not None:
            await self.pipe.register.next_generation(
                self.host, counters.generation, reason, self.ring.keys
            )

    async def _look_around(self) -> None:
        """The documents of this host's labelers, as they are now."""
        for did in list(self.ring.keys):
            try:
                labeler = await self.ring.look_up(did)
            except Unregistered:
                raise
            except UpstreamError as error:  # what was known is believed a little longer
                logger.info("%s %s", error, log.fields(labeler=self.host, did=did))
                continue
            if streams.canonical_host(url_of(labeler)) == self.host:
                self.ring.take(did, labeler)
            else:
                del self.ring.keys[did]
                if not self.ring.is_open:
                    self.moved(did)
        if not self.ring.keys and not self.ring.is_open:
            raise Moved(f"no labeler is at {self.host} any more")

    async def _live(self) -> None:
        """Begin, connect, and carry frames until something ends it."""
        pipe, counters = self.pipe, self.known.counters
        counters.state = State.CONNECTING
        if counters.generation is not None:  # the first time they were just read
            await self._look_around()
        self._again = self.known.pending = False
        generation, cursor = await pipe.register.begin(self.host, self.ring.keys)
        counters.generation, counters.received_seq = generation, cursor
        appender = pipe.appender(self.host, generation, cursor)
        pressure = Backpressure(self.host, pipe.settings, counters, kind="labeler")
        url = f"{self.url}/xrpc/com.atproto.label.subscribeLabels?cursor={cursor}"
        async with pipe.dialing:
            subscription = subscribe(
                url,
                silence_timeout=pipe.settings.silence_timeout_seconds,
                pong_timeout=pipe.settings.pong_timeout_seconds,
                buffer_bytes=SOCKET_BUFFER_BYTES,
                guarded=not (pipe.allow_private or self.is_trusted),
            )
            opened = await subscription.__aenter__()
        try:
            counters.state, counters.connected = State.STREAMING, True
            logger.info("connected %s", log.fields(labeler=self.host, cursor=cursor))
            self._opened = opened
            await _Life(self, appender, pressure, generation, cursor).carry(opened)
        finally:
            self._opened = None
            pressure.end()
            await subscription.__aexit__(None, None, None)

    @property
    def must_begin_again(self) -> bool:
        """Whether the labeler is to be read anew, in another generation."""
        return self._again


@dataclass
class _Life:
    """One connection's frames."""

    chain: Chain
    appender: Appender
    pressure: Backpressure
    generation: int
    asked: int

    def __post_init__(self) -> None:
        self._behind = 0
        self._behind_since: float | None = None
        self._gap = False
        self._text_before = self.chain.known.counters.text_frames

    async def carry(self, subscription: Subscription) -> None:
        """Frames into the stream, until something ends; the reason is the exception."""
        pipe, known = self.chain.pipe, self.chain.known
        counters = known.counters
        async with pipe.lock:
            await self.appender.look()
        while True:
            if self.chain.must_begin_again:
                raise RelayRefuses("Reread", "another labeler came to this host")
            await self._wait_while_full()
            known.pending = subscription.waiting_bytes > 0 or self.chain.must_begin_again
            frames = await subscription.take(BATCH_FRAMES, BATCH_BYTES)
            known.pending = True
            counters.text_frames = self._text_before + subscription.text_frames
            counters.last_frame_at = time.monotonic()
            counters.frames += len(frames)
            counters.bytes += sum(map(len, frames))
            batch = await self._judged(frames)
            await self._heed_notices(batch)
            if batch.last_seq is not None:
                await self._check_order(frames, batch.last_seq)
            if batch.entries_count:
                async with pipe.lock:
                    await self._append(batch)
                self._count(batch)
            self._heed_errors(batch)

    async def _judged(self, frames: list[bytes]) -> LabelBatch:
        """Decode; ask for sources that are not known, and once for keys that may be old."""
        ring = self.chain.ring
        asked: set[str] = set()
        while True:
            batch = await self._decode(frames)
            if batch.unknown:
                for did in batch.unknown:
                    await ring.judge(did)
                continue
            doubted = [src for src in batch.unverified if src not in asked]
            asked.update(doubted)
            renewed = [await ring.refresh(src) for src in doubted]
            if not any(renewed):
                return batch

    async def _decode(self, frames: list[bytes]) -> LabelBatch:
        chain, ring = self.chain, self.chain.ring
        decode = partial(
            codec.decode_labels,
            frames,
            host=chain.host,
            generation=self.generation,
            keys=dict(ring.keys),
            foreign=set(ring.foreign),
            closed=ring.closed,
            check=chain.pipe.settings.signatures,
        )
        if sum(map(len, frames)) < INLINE_BYTES:
            return decode()
        return await asyncio.get_running_loop().run_in_executor(chain.pipe.executor, decode)

    async def _heed_notices(self, batch: LabelBatch) -> None:
        chain = self.chain
        for kind, name, message in batch.notices:
            chain.known.counters.note(name)
            if kind == "info":
                logger.warning(
                    "the labeler says %s",
                    log.fields(labeler=chain.host, name=name, message=message),
                )
                # Also where all was asked for: what the labeler said first is missing.
                self._gap = self._gap or name == "OutdatedCursor"

    def _heed_errors(self, batch: LabelBatch) -> None:
        for kind, name, message in batch.notices:
            if kind == "error":
                if name == "FutureCursor" and self.asked:
                    raise CursorInFuture(name, message)
                raise RelayRefuses(name, message)

    async def _check_order(self, frames: list[bytes], last_seq: int) -> None:
        """Note what is missing; notice a labeler that counts anew without saying so."""
        if last_seq > self.appender.cursor:
            self._behind = 0
            if self._gap:
                self._gap = False
                first = self._first_seq(frames)
                if first > self.asked + 1:  # some say so whenever all is asked for
                    register = self.chain.pipe.register
                    await register.note_gap(self.chain.host, self.generation, self.asked, first)
            return
        now = time.monotonic()
        self._behind_since = self._behind_since or now
        self.chain.known.counters.backwards += 1
        self._behind += len(frames)
        long = now - self._behind_since >= RESET_SECONDS
        if self._behind >= RESET_FRAMES or (long and self.appender.cursor == self.asked):
            raise CursorInFuture(
                "SequenceReset", f"{self._behind} frames came, none beyond {self.appender.cursor}"
            )

    def _first_seq(self, frames: list[bytes]) -> int:
        seqs = (
            codec.decode_labels(
                [frame], host="", generation=1, keys={}, foreign=set(), closed=True, check="off"
            ).last_seq
            for frame in frames
        )
        return next(seq for seq in seqs if seq is not None)

    async def _append(self, batch: LabelBatch) -> None:
        """The batch and the cursor, durable together; sent again as long as Redis is full.

        The last reply on this connection, whoever asked, said that the epoch is ours.
        """
        while True:
            sent = await self.appender.send(batch)
            try:
                await self.appender.finish(sent)
            except StoreFull as error:
                self.pressure.refused(error)
                await asyncio.sleep(FULL_STORE_SECONDS)
                await self.appender.look()
                continue
            self.pressure.settle(self.appender)
            return

    def _count(self, batch: LabelBatch) -> None:
        counters, known = self.chain.known.counters, self.chain.known
        if batch.last_seq is not None:
            known.backoff.reset()
        counters.received_seq = self.appender.cursor
        counters.batches += 1
        counters.ops += batch.ops
        counters.counts.update(batch.counts)
        for reason, (labels, detail) in batch.rejected.items():
            counters.rejected_ops += labels
            if not counters.rejected[reason]:
                logger.warning(
                    "labels rejected, kept as dead letters %s",
                    log.fields(labeler=self.chain.host, reason=reason, detail=detail[:200]),
                )
            counters.rejected[reason] += labels

    async def _wait_while_full(self) -> None:
        pressure, appender = self.pressure, self.appender
        while pressure.is_full(appender):
            pressure.full(appender)
            await asyncio.sleep(FULL_POLL_SECONDS)
            async with self.chain.pipe.lock:
                await appender.look()
        pressure.settle(appender)
