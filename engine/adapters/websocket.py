"""One websocket subscription: frames as bytes, bounded, with the reason of its end.

picows hands out views that are valid inside its callback only, so each frame is copied once,
here. What has arrived waits in a buffer of `buffer_bytes`; above it the socket is not read until
half of it is free, and TCP makes the relay wait.

Alive means data: a relay that answers pings but sends no frame is a zombie, so the silence
watchdog counts binary frames only, and only while the socket is read. Pings are sent to keep
middleboxes from dropping the connection. Where silence is normal for hours (labelers), a second
watchdog waits for any sign of life, pongs included; it too rests while the socket is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any, Final, NoReturn

import picows
import picows.url

from engine.adapters.http import is_public
from engine.errors import UpstreamError

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 16 << 20
"""The protocol allows 5 MB a frame. A little more is taken, so that an oversized frame becomes a
counted rejection behind us and not an endless reconnect at the same cursor."""

PING_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0


class End(StrEnum):
    """Why a subscription ended: a closed set, used in status and metrics."""

    CONNECT = "connect"  # no connection: address, network or TLS
    REFUSED = "refused"  # the HTTP answer was not an upgrade
    CLOSED = "closed"  # the other side said close
    LOST = "lost"  # the connection broke
    SILENT = "silent"  # no frame, or no sign of life, for longer than the timeout
    TOO_BIG = "too_big"  # a message above MAX_MESSAGE_BYTES
    PROTOCOL = "protocol"  # not websocket as the RFC has it


class SubscriptionEnded(UpstreamError):
    """The subscription is over; every frame that arrived was taken before this is raised."""

    def __init__(self, end: End, detail: str) -> None:
        super().__init__(f"{end}: {detail}" if detail else str(end))
        self.end = end
        self.detail = detail


class Subscription(picows.WSListener):
    """An open subscription. Made by `subscribe`; used on one event loop by one taker."""

    def __init__(
        self, silence_timeout: float, buffer_bytes: int, pong_timeout: float | None = None
    ) -> None:
        self.text_frames = 0  # bad: this stream is binary
        self.pauses = 0  # how often the socket was left unread
        self._silence_timeout = silence_timeout
        self._pong_timeout = pong_timeout
        self._ping_seconds = min(PING_SECONDS, (pong_timeout or PING_SECONDS) / 3)
        self._buffer_bytes = buffer_bytes
        self._transport: picows.WSTransport | None = None
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._parts: list[bytes] = []  # of a fragmented message
        self._parts_size = 0
        self._joining = False
        self._in_text = False
        self._paused = False
        self._last_data = self._last_sign = time.monotonic()
        self._ended: SubscriptionEnded | None = None
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._next_ping = self._last_data + self._ping_seconds

    @property
    def waiting_bytes(self) -> int:
        """Bytes that arrived and were not taken yet."""
        return self._size

    @property
    def is_paused(self) -> bool:
        """Whether the socket is left unread because the buffer is full."""
        return self._paused

    async def take(self, max_frames: int, max_bytes: int) -> list[bytes]:
        """Wait until a frame is there, then return what waits, in order, as far as it fits.

        One frame is returned even if it is larger than `max_bytes`.

        Raises:
            SubscriptionEnded: the subscription is over and everything was taken.
        """
        while not self._frames:
            if self._ended is not None:
                raise self._ended
            self._news.clear()
            await self._news.wait()
        return self.take_waiting(max_frames, max_bytes)

    def take_waiting(self, max_frames: int, max_bytes: int) -> list[bytes]:
        """Like `take`, but returns an empty list at once where nothing waits."""
        frames, size = self._frames, 0
        taken: list[bytes] = []
        while frames and len(taken) < max_frames:
            if taken and size + len(frames[0]) > max_bytes:
                break
            frame = frames.popleft()
            size += len(frame)
            taken.append(frame)
        self._size -= size
        if self._paused and self._size <= self._buffer_bytes // 2:
            self._resume()
        return taken

    def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        self._end(End.CLOSED, "by us")
        if self._transport is not None:
            if not self._transport.is_disconnected and not self._transport.is_close_frame_sent:
                self._transport.send_close(picows.WSCloseCode.GOING_AWAY)
            self._transport.disconnect()

    # picows.WSListener

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """Called by picows."""
        self._transport = transport
        self._watch()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Called by picows."""
        kind = frame.msg_type
        self._last_sign = time.monotonic()
        if kind == picows.WSMsgType.BINARY and frame.fin and not self._joining:
            self._add(frame.get_payload_as_bytes())
        elif kind in (
            picows.WSMsgType.BINARY,
            picows.WSMsgType.TEXT,
            picows.WSMsgType.CONTINUATION,
        ):
            self._join(frame)
        elif kind == picows.WSMsgType.CLOSE:
            self._end_by_us(transport)  # or it only answers what we said
            code = frame.get_close_code()
            self._end(End.CLOSED, f"{code} {frame.get_close_message()!r:.200}")
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """Called by picows."""
        self._end_by_us(transport)
        self._end(End.LOST, "")

    def _end_by_us(self, transport: picows.WSTransport) -> None:
        """If we said close because of what came, that is the reason."""
        handshake: Any = transport.close_handshake  # None without a close; the stub hides it
        sent = None if handshake is None else handshake.sent
        if sent is not None and sent.code == picows.WSCloseCode.MESSAGE_TOO_BIG:
            self._end(End.TOO_BIG, sent.reason)
        elif sent is not None and sent.code not in (
            picows.WSCloseCode.OK,
            picows.WSCloseCode.GOING_AWAY,
        ):
            self._end(End.PROTOCOL, sent.reason)

    def _join(self, frame: picows.WSFrame) -> None:
        """A text frame, or a part of a fragmented message."""
        if self._joining != (frame.msg_type == picows.WSMsgType.CONTINUATION):
            self._fail(picows.WSCloseCode.PROTOCOL_ERROR, End.PROTOCOL, "fragments out of order")
        if not self._joining:
            self._in_text = frame.msg_type == picows.WSMsgType.TEXT
            self._joining = True
        if not self._in_text:
            self._parts.append(frame.get_payload_as_bytes())
            self._parts_size += frame.payload_size
            if self._parts_size > MAX_MESSAGE_BYTES:
                self._fail(
                    picows.WSCloseCode.MESSAGE_TOO_BIG,
                    End.TOO_BIG,
                    f"fragments of {self._parts_size} bytes",
                )
        if not frame.fin:
            return
        if self._in_text:
            self.text_frames += 1
        else:
            self._add(b"".join(self._parts))
        self._parts, self._parts_size, self._joining = [], 0, False

    def _fail(self, code: picows.WSCloseCode, end: End, detail: str) -> NoReturn:
        """Out of `on_ws_frame`: picows then sends the close and disconnects."""
        self._end(end, detail)
        raise picows.WSProtocolError(code, detail)

    def _add(self, message: bytes) -> None:
        if self._ended is not None:
            return
        self._frames.append(message)
        self._size += len(message)
        self._last_data = time.monotonic()
        self._news.set()
        if self._size > self._buffer_bytes and not self._paused:
            self._paused = True
            self.pauses += 1
            assert self._transport is not None
            self._transport.underlying_transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        self._last_data = self._last_sign = time.monotonic()
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.underlying_transport.resume_reading()

    def _watch(self) -> None:
        """Look at the clock a few times per silence timeout: ping, or give up."""
        if self._ended is not None or self._transport is None:
            return
        now = time.monotonic()
        if not self._paused and now - self._last_data >= self._silence_timeout:
            self._end(End.SILENT, f"no frame for {self._silence_timeout:g} s")
            self._transport.disconnect(graceful=False)
            return
        patience = self._pong_timeout
        if patience is not None and not self._paused and now - self._last_sign >= patience:
            self._end(End.SILENT, f"no answer to a ping for {patience:g} s")
            self._transport.disconnect(graceful=False)
            return
        if now >= self._next_ping:
            self._next_ping = now + self._ping_seconds
            self._transport.send_ping()
        delay = min(self._silence_timeout / 4, self._ping_seconds / 4, 1.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._watch)

    def _end(self, end: End, detail: str) -> None:
        """The first reason stands."""
        if self._ended is None:
            self._ended = SubscriptionEnded(end, detail)
            self._news.set()
            if self._timer is not None:
                self._timer.cancel()


@contextlib.asynccontextmanager
async def subscribe(
    url: str,
    *,
    silence_timeout: float,
    buffer_bytes: int,
    tls: ssl.SSLContext | None = None,
    pong_timeout: float | None = None,
    guarded: bool = False,
) -> AsyncIterator[Subscription]:
    """Open a subscription; it is closed on leaving.

    Args:
        url: ``ws://`` or ``wss://``, with its query.
        silence_timeout: seconds without a binary frame after which it ends.
        buffer_bytes: above this many waiting bytes the socket is not read. One read of the
            socket and one message may come on top.
        tls: instead of the default context, which verifies the certificate and the host's name.
        pong_timeout: seconds without anything, pongs included, after which it ends; None: nobody
            waits for pongs.
        guarded: only public addresses are connected to, as for requests to strangers.

    Raises:
        SubscriptionEnded: no connection (`End.CONNECT`) or no upgrade (`End.REFUSED`).
    """
    subscription = Subscription(silence_timeout, buffer_bytes, pong_timeout)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await picows.ws_connect(
                lambda: subscription,
                url,
                ssl_context=tls,
                websocket_handshake_timeout=CONNECT_SECONDS,
                max_frame_size=MAX_MESSAGE_BYTES,
                extra_headers={"User-Agent": "headrace"},
                logger_name=_QUIET,
                socket_factory=_public_socket if guarded else None,
            )
    except picows.WSHandshakeError as error:
        status = f"HTTP {int(error.response.status)}" if error.response is not None else str(error)
        raise SubscriptionEnded(End.REFUSED, status) from error
    except TimeoutError as error:
        raise SubscriptionEnded(End.CONNECT, f"no answer in {CONNECT_SECONDS:g} s") from error
    except (OSError, picows.WSError, ValueError) as error:
        raise SubscriptionEnded(End.CONNECT, str(error) or type(error).__name__) from error
    try:
        yield subscription
    finally:
        subscription.close()
        transport = subscription._transport
        if transport is not None:
            # The loop must not be left with a half-closed socket; nor may a peer hold us up.
            with contextlib.suppress(TimeoutError, picows.WSError):
                async with asyncio.timeout(0.5):
                    await transport.wait_disconnected()
            if not transport.is_disconnected:
                transport.disconnect(graceful=False)


async def _public_socket(url: picows.url.WSParsedURL) -> socket.socket:
    """A socket that is connected to a public address of the host: judged after DNS."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(str(url.host), int(url.port), type=socket.SOCK_STREAM)
    failure = OSError(f"{url.host} has no public address")
    for family, kind, proto, _, address in found:
        if not is_public(str(address[0])):
            continue
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


_QUIET = logging.getLogger("engine.adapters.websocket.picows")
_QUIET.setLevel(logging.CRITICAL)  # what it would say is in the reason of the end
