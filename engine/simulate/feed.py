"""One log served over websockets, and what can go wrong with the serving of it."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import libipld
from aiohttp import web

from engine.simulate.network import Frames

SEND_AHEAD_BYTES = 256 * 1024
"""Frames are written in runs of this size before other tasks get a turn."""

RESTART_OVERLAP = 100
"""Frames from before its restart that a relay has under new numbers too."""

_OBSERVE_SECONDS = 0.05
_MARKS_MAX = 4096


@dataclass(kw_only=True)
class Feed:
    """A served log and its levers, which may be changed while it runs.

    ``rate`` is frames a second for each subscriber (0: as fast as the socket takes them). A
    subscriber that asks for frames before ``oldest_seq`` is told ``OutdatedCursor`` and gets
    what is left. Frames from the place ``hold_at`` on are held back for as long as it says so;
    with ``disconnect`` that cuts a relay off for a while. Off while 0: ``drop_every`` leaves out
    each frame whose place in the log is a multiple of it, whoever asks; ``disconnect_every``
    cuts the connection on which the n-th frame was sent, counted over all subscribers;
    ``lag_seconds`` sends each frame so long after it was there; ``restart_every`` closes all
    connections after each so many frames of the log and goes on with new numbers, from 1, in
    which the last ``RESTART_OVERLAP`` frames are there once more. Each of ``greetings`` is the
    first message of one of the next subscribers, and the last one where it is an error; with
    ``mute`` new subscribers' pings are not answered. ``faults`` counts what was done, by the
    names of ``faults.RELAY``.
    """

    rate: float = 0.0
    oldest_seq: int = 0
    hold_at: int | None = None
    drop_every: int = 0
    disconnect_every: int = 0
    lag_seconds: float = 0.0
    restart_every: int = 0
    greetings: list[bytes] = field(default_factory=list)
    mute: bool = False
    faults: Counter[str] = field(default_factory=Counter)
    connections: int = 0  # subscribers accepted since the start
    cursors: list[int | None] = field(default_factory=list)  # what each of them asked for
    sent: int = 0  # frames, over all of them
    _transports: set[asyncio.Transport] = field(default_factory=set)
    _grown: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _dropped_to: int = 0  # the place after the last one that was left out
    _life: int = 0  # of the numbers
    _floor: int = 0  # place of the oldest frame of this life
    _reached: int = 0  # place after the last frame ever sent
    _restarted_at: int = 0  # what that was when this life began
    _seen: list[tuple[int, float]] = field(default_factory=list)  # length of the log, since when

    def log(self) -> Frames:
        """What is served."""
        raise NotImplementedError

    def publish(self, frame: bytes) -> None:
        """Append a live frame to the log and wake every subscriber; from any thread."""
        self._call(self._publish, frame)

    def disconnect(self) -> None:
        """Cut every subscriber's connection without a closing handshake; from any thread."""
        self._call(self._disconnect)

    def restart_seq(self) -> None:
        """Forget all numbers after the last frame sent and begin again; from any thread."""
        self._call(self._restart)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        assert self._loop is not None, "the server is not running"
        self._loop.call_soon_threadsafe(function, *args)

    def _publish(self, frame: bytes) -> None:
        self.log().append(frame)
        self._observe()
        self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _disconnect(self) -> None:
        for transport in self._transports:
            transport.abort()

    def _restart(self) -> None:
        self._life += 1
        self._restarted_at = self._reached
        self._floor = max(self.log().first, self._reached - RESTART_OVERLAP)
        self.faults["seq-restart"] += 1
        self._wake()

    # -- a subscriber -------------------------------------------------------------------------

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        """Answer a subscription until one side ends it."""
        text = request.query.get("cursor")
        if text is not None and not text.isascii():
            return _refusal()
        try:
            cursor = None if text is None else int(text)
        except ValueError:
            return _refusal()
        socket = web.WebSocketResponse(compress=False, max_msg_size=1024, autoping=not self.mute)
        await socket.prepare(request)
        self.connections += 1
        self.cursors.append(cursor)
        transport = request.transport
        assert transport is not None  # uvloop's is no asyncio.Transport
        self._transports.add(transport)
        sender = asyncio.create_task(self._serve(socket, transport, cursor))
        try:
            async for _ in socket:  # answers pings; ends when the subscriber leaves
                pass
        finally:
            self._transports.discard(transport)
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sender
        return socket

    async def _serve(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport, cursor: int | None
    ) -> None:
        greeting = self.greetings.pop(0) if self.greetings else None
        if greeting is not None:
            await socket.send_bytes(greeting)
        is_over = greeting is not None and greeting.startswith(ERROR_HEAD)
        index = None if is_over else await self._start(socket, cursor)
        if index is None:
            await socket.close()
            return
        life, loop = self._life, asyncio.get_running_loop()
        due, unsent = loop.time(), 0
        while life == self._life:
            frames = self.log()
            if self._is_held(index) or not frames.more(index):
                with contextlib.suppress(TimeoutError):
                    # Whoever else serves this log may make it grow without telling.
                    async with asyncio.timeout(_OBSERVE_SECONDS):
                        await self._grown.wait()
                due = loop.time()
                continue
            if index < frames.first:
                await socket.send_bytes(message(-1, None, {"error": "ConsumerTooSlow"}))
                break
            if self.lag_seconds > 0 and not await self._old_enough(index, life):
                continue
            place, index = index, index + 1
            if not self._is_dropped(place):
                frame = self._numbered(frames[place])
                await socket.send_bytes(frame)
                unsent += len(frame)
                self.sent += 1
                if self.disconnect_every and self.sent % self.disconnect_every == 0:
                    self.faults["disconnect"] += 1
                    transport.abort()
                    return
            if life != self._life:
                break
            self._reached = max(self._reached, index)
            due_restart = self.restart_every and index % self.restart_every == 0
            if due_restart and index > self._restarted_at:
                self._restart()
                break
            if self.rate > 0:
                due += 1 / self.rate
                if (delay := due - loop.time()) > 0.001:
                    await asyncio.sleep(delay)
            elif unsent >= SEND_AHEAD_BYTES:
                unsent = 0
                await asyncio.sleep(0)
        await socket.close()

    async def _start(self, socket: web.WebSocketResponse, cursor: int | None) -> int | None:
        """Where a subscriber begins; None where it is refused."""
        frames = self.log()
        self._observe()
        if cursor is None:
            return len(frames)
        last = frames.last_seq if not self._life else frames.seq_at(self._reached - 1)
        cursor += self._offset()
        if cursor > last:
            await socket.send_bytes(message(-1, None, {"error": "FutureCursor"}))
            return None
        oldest = max(frames.first, self._floor)
        if self.oldest_seq:
            oldest = max(oldest, frames.after(self.oldest_seq - 1))
        if max(cursor, 0) < frames.seq_at(oldest - 1):
            body = {"name": "OutdatedCursor", "message": "Requested cursor exceeded limit"}
            await socket.send_bytes(message(1, "#info", body))
        return max(frames.after(cursor), oldest)

    # -- what goes wrong ----------------------------------------------------------------------

    def _is_held(self, place: int) -> bool:
        return self.hold_at is not None and place >= self.hold_at

    def _is_dropped(self, place: int) -> bool:
        if not self.drop_every or (place + 1) % self.drop_every:
            return False
        if place >= self._dropped_to:
            self._dropped_to = place + 1
            self.faults["drop"] += 1
        return True

    def _offset(self) -> int:
        """What the log's seqs are ahead of those that this life gives."""
        return self.log().seq_at(self._floor - 1) if self._life else 0

    def _numbered(self, frame: bytes) -> bytes:
        if not self._life:
            return frame
        try:
            header, body = libipld.decode_dag_cbor_multi(frame)
            numbered = {**body, "seq": body["seq"] - self._offset()}
        except Exception:  # garbage has no number; libipld has no common base class
            return frame
        return bytes(libipld.encode_dag_cbor(header) + libipld.encode_dag_cbor(numbered))

    async def _old_enough(self, index: int, life: int) -> bool:
        """Wait until the frame is as old as the lag; False if the subscription ended meanwhile."""
        loop = asyncio.get_running_loop()
        waited = False
        while life == self._life:
            self._observe()
            place = bisect_right(self._seen, index, key=lambda mark: mark[0])
            since = self._seen[place][1] if place < len(self._seen) else loop.time()
            if (delay := since + self.lag_seconds - loop.time()) <= 0:
                self.faults["lag"] += waited
                return True
            waited = True
            await asyncio.sleep(min(delay, _OBSERVE_SECONDS))
        return False

    def _observe(self) -> None:
        """Note when the log grew."""
        length = len(self.log())
        if not self._seen or length > self._seen[-1][0]:
            self._seen.append((length, asyncio.get_running_loop().time()))
            if len(self._seen) > _MARKS_MAX:
                del self._seen[: _MARKS_MAX // 2]


ERROR_HEAD = bytes(libipld.encode_dag_cbor({"op": -1}))
"""How every error frame begins."""


def message(op: int, kind: str | None, body: dict[str, Any]) -> bytes:
    """A frame of an event stream."""
    header: dict[str, Any] = {"op": op} if kind is None else {"op": op, "t": kind}
    return bytes(libipld.encode_dag_cbor(header) + libipld.encode_dag_cbor(body))


def _refusal() -> web.Response:
    body = {"error": "InvalidRequest", "message": "cursor must be an integer"}
    return web.json_response(body, status=400)
