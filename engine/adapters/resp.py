"""The hot path to Redis: one raw RESP2 connection, requests pipelined in order.

redis-py packs commands in Python and awaits every reply; XADD and XREAD are the two hot paths
of the engine, so they send ready bytes here and read with hiredis. Topology, checks and
reports go through `engine.adapters.redis`.

What this module promises:

- Requests are answered in the order in which `execute` was called.
- An error reply is a value (`ReplyError`), also inside an array: the replies of one EXEC can be
  checked one by one. Only `command` raises it.
- When the connection is lost, everything outstanding gets `StoreUnavailable`: it may or may not
  have been executed. The connection is then of no further use; open another one.
- Sending waits while the socket does not drain; at most `MAX_OUTSTANDING` requests wait.

A blocking command (XREAD BLOCK) holds back everything behind it: give it a connection of its own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, cast

import hiredis
from redis.connection import SSLConnection, parse_url

from engine.errors import SettingsError, StoreError, StoreUnavailable

Argument = str | bytes | int | float

MAX_OUTSTANDING: Final = 1024
"""Requests without their replies; more than that is a caller that does not wait."""

WRITE_HIGH_WATER_BYTES: Final = 1 << 20
"""Above this many unsent bytes the next request waits for the socket."""

_NOTHING: Final = object()

_REFUSED_LOGIN = {"WRONGPASS", "NOAUTH", "NOPERM"}
_NOT_NOW = {"LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "BUSY", "READONLY"}


class ReplyError(StoreError):
    """An error that the server replied with. A value in lists of replies."""

    @property
    def code(self) -> str:
        """The first word: ``ERR``, ``OOM``, ``EXECABORT`` ..."""
        return str(self).partition(" ")[0]


def pack(*args: Argument) -> bytes:
    """One command as RESP bytes, ready to be joined with others."""
    return cast("bytes", hiredis.pack_command(args))  # type: ignore[arg-type]


class _Request:
    """One `execute` call: how many replies are still to come, and who waits for them."""

    __slots__ = ("future", "missing", "replies")

    def __init__(self, future: asyncio.Future[list[Any]], replies: int) -> None:
        self.future = future
        self.missing = replies
        self.replies: list[Any] = []


class RespConnection(asyncio.Protocol):
    """One connection. Made by `open`; used on one event loop."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(
            replyError=ReplyError, protocolError=hiredis.ProtocolError, notEnoughData=_NOTHING
        )
        self._requests: deque[_Request] = deque()
        self._lost: StoreUnavailable | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()
        self._where = "Redis"

    @classmethod
    async def open(cls, url: str, *, timeout_seconds: float = 5.0) -> RespConnection:
        """Connect, log in, select the database and see that the server answers.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py reads them.
            timeout_seconds: for all of it.

        Raises:
            StoreUnavailable: nobody there, or the server is still loading.
            SettingsError: the server refuses the login or the database number.
        """
        try:
            options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise SettingsError(f"REDIS_URL: {error}") from error
        loop = asyncio.get_running_loop()
        conn = cls()
        conn._where = f"Redis at {_address(options)}"
        try:
            async with asyncio.timeout(timeout_seconds):
                if "path" in options:
                    await loop.create_unix_connection(lambda: conn, options["path"])
                else:
                    secure = options.get("connection_class") is SSLConnection
                    await loop.create_connection(
                        lambda: conn,
                        options.get("host", "localhost"),
                        options.get("port", 6379),
                        ssl=_tls(options) if secure else None,
                    )
                await conn._greet(options)
        except TimeoutError as error:
            conn.close()
            raise StoreUnavailable(
                f"{conn._where} did not answer in {timeout_seconds:g} s"
            ) from error
        except OSError as error:
            conn.close()
            raise StoreUnavailable(f"{conn._where} cannot be reached: {error}") from error
        except BaseException:
            conn.close()
            raise
        return conn

    async def execute(
        self,
        payload: bytes | Sequence[bytes],
        replies: int,
        *,
        timeout_seconds: float | None = 30.0,
    ) -> list[Any]:
        """Send ready RESP bytes and wait for their replies.

        Args:
            payload: complete commands, in one piece or several.
            replies: how many commands they are, at least 1.
            timeout_seconds: without all of them by then the connection is given up (replies come
                in order, so a late one cannot be skipped); None waits for ever.

        Returns:
            One value a command: bytes, int, None, list, or `ReplyError`.

        Raises:
            StoreUnavailable: the connection is lost; whether the commands ran is unknown.
        """
        future = await self.start(payload, replies)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await future
        except TimeoutError:
            self._lose(StoreUnavailable(f"{self._where} did not answer in {timeout_seconds:g} s"))
            raise self._failure() from None

    async def start(
        self, payload: bytes | Sequence[bytes], replies: int
    ) -> asyncio.Future[list[Any]]:
        """Send like `execute`, and return what will hold the replies instead of waiting for it.

        Returns once the bytes are handed to the socket. The future may be dropped.
        """
        while not self._writable.is_set() and self._lost is None:
            await self._writable.wait()
        if self._lost is not None or self._transport is None:
            raise self._failure()
        if len(self._requests) >= MAX_OUTSTANDING:
            raise StoreError(f"{MAX_OUTSTANDING} requests wait for their replies already")
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        self._requests.append(_Request(future, replies))
        if isinstance(payload, bytes):
            self._transport.write(payload)
        else:
            self._transport.writelines(payload)
        return future

    async def command(self, *args: Argument) -> Any:
        """Run one command and return its reply; an error reply is raised.

        Raises:
            ReplyError: the server refused it.
            StoreUnavailable: the connection is lost, or the server is loading or read-only.
        """
        (reply,) = await self.execute(pack(*args), 1)
        return self.checked(reply)

    def checked(self, reply: Any) -> Any:
        """The reply itself, or its error raised."""
        if isinstance(reply, ReplyError):
            if reply.code in _NOT_NOW:
                raise StoreUnavailable(f"{self._where}: {reply}") from reply
            raise reply
        return reply

    @property
    def is_open(self) -> bool:
        """Whether requests can still be sent."""
        return self._lost is None and self._transport is not None

    def close(self) -> None:
        """Drop the connection. What is outstanding gets `StoreUnavailable`."""
        self._lose(StoreUnavailable(f"the connection to {self._where} was closed"))

    async def wait_closed(self) -> None:
        """Wait until the socket is gone after `close` or a loss."""
        if self._transport is not None:
            await self._closed.wait()

    async def _greet(self, options: dict[str, Any]) -> None:
        commands: list[bytes] = []
        if options.get("password") is not None:
            login = [options["username"]] if options.get("username") else []
            commands.append(pack("AUTH", *login, options["password"]))
        if options.get("db"):
            commands.append(pack("SELECT", options["db"]))
        commands.append(pack("PING"))
        for reply in await self.execute(commands, len(commands), timeout_seconds=None):
            if isinstance(reply, ReplyError):
                if reply.code in _REFUSED_LOGIN or "DB index" in str(reply):
                    raise SettingsError(f"REDIS_URL: {self._where} answers: {reply}") from reply
                if "AUTH" in str(reply):
                    raise SettingsError(f"REDIS_URL: {self._where} answers: {reply}") from reply
                raise StoreUnavailable(f"{self._where} answers: {reply}") from reply

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        if self._lost is not None:  # closed before it was made
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        reader, requests = self._reader, self._requests
        reader.feed(data)
        try:
            while True:
                reply = reader.gets(False)
                if reply is _NOTHING:
                    return
                if not requests:
                    raise hiredis.ProtocolError(f"a reply that nobody asked for: {reply!r:.80}")
                request = requests[0]
                request.replies.append(reply)
                request.missing -= 1
                if request.missing == 0:
                    requests.popleft()
                    if not request.future.done():
                        request.future.set_result(request.replies)
        except hiredis.ProtocolError as error:
            lost = StoreUnavailable(f"{self._where} does not speak RESP: {error}")
            lost.__cause__ = error
            self._lose(lost)

    def eof_received(self) -> bool:
        """Called by the loop; the transport closes itself."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        why = str(exc) if exc is not None else "closed by the server"
        lost = StoreUnavailable(f"the connection to {self._where} was lost: {why}")
        lost.__cause__ = exc
        self._lose(lost)
        self._closed.set()

    def pause_writing(self) -> None:
        """Called by the loop."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._writable.set()

    def _lose(self, why: StoreUnavailable) -> None:
        if self._lost is not None:
            return
        self._lost = why
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()
        while self._requests:
            future = self._requests.popleft().future
            if not future.done():
                future.set_exception(self._failure())

    def _failure(self) -> StoreUnavailable:
        """A fresh exception for each waiter: one object must not collect all their tracebacks."""
        if self._lost is None:
            return StoreUnavailable(f"{self._where} is not connected")
        failure = StoreUnavailable(str(self._lost))
        failure.__cause__ = self._lost.__cause__
        return failure


def _seen(future: asyncio.Future[list[Any]]) -> None:
    """A request whose waiter went away must not be reported as an unseen error."""
    if not future.cancelled():
        future.exception()


def _address(options: dict[str, Any]) -> str:
    """The server's address without anything secret."""
    if "path" in options:
        return str(options["path"])
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    """The TLS context that the URL's ``ssl_*`` parameters ask for; verified unless it says none."""
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    check = str(options.get("ssl_check_hostname", "true")).lower() not in ("false", "0", "no")
    context.check_hostname = check
    if str(options.get("ssl_cert_reqs", "required")).lower() == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
