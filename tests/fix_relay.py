"""A relay for tests: real websockets, frames of our making, misbehaviour on command.

Frames are `#identity` events unless a test brings its own; the seq of a frame decides which
cursor skips it. `scripts` replaces what the next connections see, one script a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import libipld
from aiohttp import WSCloseCode, web

PATH = "/xrpc/com.atproto.sync.subscribeRepos"


def frame(header: dict[str, object], body: dict[str, object]) -> bytes:
    """A websocket message: two DAG-CBOR values, one after the other."""
    return libipld.encode_dag_cbor(header) + libipld.encode_dag_cbor(body)


def identity(seq: int, did: str) -> bytes:
    time = f"2026-01-01T00:00:00.{seq % 1000:03d}Z"
    return frame({"op": 1, "t": "#identity"}, {"seq": seq, "did": did, "time": time})


def did(number: int) -> str:
    return f"did:plc:{number:024d}"


def info(name: str) -> bytes:
    return frame({"op": 1, "t": "#info"}, {"name": name, "message": "said the relay"})


def error(name: str) -> bytes:
    return frame({"op": -1}, {"error": name, "message": "said the relay"})


PACED_FRAMES = 50
"""With a rate, so many frames go out at once."""

Script = Callable[["Relay", web.WebSocketResponse, int | None], Awaitable[None]]


@dataclass
class Relay:
    """The relay's log, and what its subscribers did."""

    url: str = ""
    log: list[tuple[int, bytes]] = field(default_factory=list)
    did_of: dict[int, str] = field(default_factory=dict)  # by seq
    scripts: list[Script] = field(default_factory=list)
    cursors: list[int | None] = field(default_factory=list)  # asked for, one a connection
    sent: int = 0
    rate: float = 0.0  # frames a second that `serve` sends; 0: as fast as the socket takes
    sockets: list[web.WebSocketResponse] = field(default_factory=list)  # open ones
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def connected(self) -> int:
        return len(self.sockets)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    def fill(self, count: int, *, dids: int = 40) -> None:
        """Append identity events of a few DIDs, seq counted on by one."""
        start = self.log[-1][0] + 1 if self.log else 1
        for seq in range(start, start + count):
            self.add(seq, did(seq * 7919 % dids))

    def add(self, seq: int, whose: str) -> None:
        """Append one identity event."""
        self.log.append((seq, identity(seq, whose)))
        self.did_of[seq] = whose

    async def tell(self) -> None:
        """Wake subscribers that wait for more frames."""
        async with self.news:
            self.news.notify_all()

    async def serve(self, ws: web.WebSocketResponse, cursor: int | None) -> None:
        """What a good relay does: everything after the cursor, then what comes."""
        at = len(self.log) if cursor is None else 0
        while not ws.closed:
            for seq, data in self.log[at:]:
                at += 1
                if cursor is None or seq > cursor:
                    await self.send(ws, data)
                    if self.rate and self.sent % PACED_FRAMES == 0:
                        await asyncio.sleep(PACED_FRAMES / self.rate)
            async with self.news:
                if at == len(self.log):
                    await self.news.wait()

    async def send(self, ws: web.WebSocketResponse, data: bytes) -> None:
        await ws.send_bytes(data)
        self.sent += 1

    async def handle(self, request: web.Request) -> web.StreamResponse:
        cursor = int(request.query["cursor"]) if "cursor" in request.query else None
        self.cursors.append(cursor)
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        script = self.scripts.pop(0) if self.scripts else Relay.serve
        serving = asyncio.create_task(_quietly(script(self, ws, cursor)))
        try:
            await asyncio.sleep(0)  # who sees it connected may add frames: it has begun before
            self.sockets.append(ws)
            await ws.receive()  # a close; subscribers send nothing else
        finally:
            if ws in self.sockets:
                self.sockets.remove(ws)
            serving.cancel()
            await asyncio.wait([serving])
        return ws


async def _quietly(script: Awaitable[None]) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        await script


@contextlib.asynccontextmanager
async def running(relay: Relay, port: int = 0) -> AsyncIterator[Relay]:
    """Serve a relay on a port of loopback; its `url` is set."""
    app = web.Application()
    app.router.add_get(PATH, relay.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    assert site._server is not None
    relay.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield relay
    finally:
        await runner.cleanup()


# Misbehaviour: each makes a script for `Relay.scripts`.


def first(*messages: bytes | str, then: Script | None = None, close: bool = False) -> Script:
    """Send these before (or instead of) anything else."""

    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        for message in messages:
            if isinstance(message, str):
                await ws.send_str(message)
            else:
                await relay.send(ws, message)
        if close:
            await ws.close(code=WSCloseCode.POLICY_VIOLATION, message=b"go away")
            return
        await (then or Relay.serve)(relay, ws, cursor)

    return script


def close_after(count: int, *, abruptly: bool = False) -> Script:
    """Close the connection after so many frames."""

    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        asked = -1 if cursor is None else cursor
        for _, data in [item for item in relay.log if item[0] > asked][:count]:
            await relay.send(ws, data)
        if abruptly:
            transport = ws._req.transport if ws._req else None
            assert transport is not None
            transport.abort()
        else:
            await ws.close(code=WSCloseCode.SERVICE_RESTART, message=b"restarting")

    return script


def stall_after(count: int) -> Script:
    """Send so many frames, then nothing, with the connection open."""

    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        asked = -1 if cursor is None else cursor
        for _, data in [item for item in relay.log if item[0] > asked][:count]:
            await relay.send(ws, data)
        await asyncio.Event().wait()

    return script


def up_to(last: int) -> Script:
    """Send nothing beyond a seq, with the connection open."""

    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        for seq, data in relay.log:
            if (cursor or 0) < seq <= last:
                await relay.send(ws, data)
        await asyncio.Event().wait()

    return script


def repeat(count: int) -> Script:
    """Begin so many frames before the cursor."""

    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        await relay.serve(ws, max(0, (cursor or 0) - count))

    return script
