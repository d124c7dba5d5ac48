"""One port that plays a relay, its hosts, the PLC directory and every handle's web server.

Everything a deployment asks the network for is answered from one ``Network``, so
a whole engine can be run against it and nothing leaves the machine. Frames go
out as they were recorded, byte for byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import libipld
import orjson
from aiohttp import web

from engine.simulate.network import Document, Network

SEND_AHEAD_BYTES = 256 * 1024
"""Frames are written in runs of this size before other tasks get a turn."""

REPOS_PAGE_MAX = 1000
"""``limit`` of ``listRepos`` in the lexicon."""


@dataclass
class Server:
    """A served network: where it is, how fast it talks, and levers for tests.

    ``rate`` is frames a second for each subscriber (0: as fast as the socket
    takes them). A subscriber that asks for frames before ``oldest_seq`` is told
    ``OutdatedCursor`` and gets what is left. ``identity_delay`` is how long, in
    seconds, documents and handles take to be answered; ``identity_status`` answers
    them with that HTTP status instead. All of these, and ``network``, may be changed
    while it runs.
    """

    network: Network
    rate: float = 0.0
    oldest_seq: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    identity_delay: float = 0.0
    identity_status: int = 200
    connections: int = 0  # subscribers accepted since the start
    cursors: list[int | None] = field(default_factory=list)  # what each of them asked for
    _transports: set[asyncio.Transport] = field(default_factory=set)
    _grown: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Base address of every service, without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """The environment that points a deployment at this network."""
        return {
            "INGESTER_RELAY_HOSTS": self.url,
            "PLC_URL": self.url,
            "IDENTITY_HANDLE_RESOLVER": self.url,
            "NETWORK_ALLOW_PRIVATE": "true",
        }

    def publish(self, frame: bytes) -> None:
        """Append a live frame to the log and wake every subscriber; from any thread."""
        self._call(self._publish, frame)

    def disconnect(self) -> None:
        """Cut every subscriber's connection without a closing handshake; from any thread."""
        self._call(self._disconnect)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        assert self._loop is not None, "the server is not running"
        self._loop.call_soon_threadsafe(function, *args)

    def _publish(self, frame: bytes) -> None:
        self.network.frames.append(frame)
        self._grown.set()
        self._grown = asyncio.Event()

    def _disconnect(self) -> None:
        for transport in self._transports:
            transport.abort()

    def application(self) -> web.Application:
        """The routes of every service."""
        app = web.Application(middlewares=[self._disturb_identity])
        xrpc = "/xrpc/com.atproto."
        app.router.add_get(xrpc + "sync.subscribeRepos", self._subscribe_repos)
        app.router.add_get(xrpc + "sync.listRepos", self._list_repos)
        app.router.add_get(xrpc + "sync.listHosts", self._list_hosts)
        app.router.add_get(xrpc + "sync.getRepo", self._get_repo)
        app.router.add_get(xrpc + "sync.getLatestCommit", self._get_latest_commit)
        app.router.add_get(xrpc + "sync.getRepoStatus", self._get_repo_status)
        app.router.add_get(xrpc + "identity.resolveHandle", self._resolve_handle)
        app.router.add_get("/.well-known/atproto-did", self._atproto_did)
        app.router.add_get("/.well-known/did.json", self._did_web)
        app.router.add_get("/{did:did:.+}", self._did_plc)
        return app

    # -- the relay --------------------------------------------------------------------------

    async def _subscribe_repos(self, request: web.Request) -> web.StreamResponse:
        text = request.query.get("cursor")
        if text is not None and not text.isascii():
            return _error(400, "InvalidRequest", "cursor must be an integer")
        try:
            cursor = None if text is None else int(text)
        except ValueError:
            return _error(400, "InvalidRequest", "cursor must be an integer")
        socket = web.WebSocketResponse(compress=False, max_msg_size=1024)
        await socket.prepare(request)
        self.connections += 1
        self.cursors.append(cursor)
        transport = request.transport
        assert transport is not None  # uvloop's is no asyncio.Transport
        self._transports.add(transport)
        sender = asyncio.create_task(self._send(socket, cursor))
        try:
            async for _ in socket:  # answers pings; ends when the subscriber leaves
                pass
        finally:
            self._transports.discard(transport)
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sender
        return socket

    async def _send(self, socket: web.WebSocketResponse, cursor: int | None) -> None:
        frames = self.network.frames
        if cursor is None:
            index = len(frames)
        elif cursor > frames.last_seq:
            await socket.send_bytes(_frame(-1, None, {"error": "FutureCursor"}))
            await socket.close()
            return
        else:
            if cursor + 1 < self.oldest_seq:
                body = {"name": "OutdatedCursor", "message": "Requested cursor exceeded limit"}
                await socket.send_bytes(_frame(1, "#info", body))
            index = frames.after(max(cursor, self.oldest_seq - 1))
        loop = asyncio.get_running_loop()
        due = loop.time()
        unsent = 0
        while True:
            while index >= len(frames):
                grown = self._grown
                await grown.wait()
                due = loop.time()
            frame = frames[index]
            index += 1
            await socket.send_bytes(frame)
            unsent += len(frame)
            if self.rate > 0:
                due += 1 / self.rate
                if (delay := due - loop.time()) > 0.001:
                    await asyncio.sleep(delay)
            elif unsent >= SEND_AHEAD_BYTES:
                unsent = 0
                await asyncio.sleep(0)

    # -- the hosts --------------------------------------------------------------------------

    async def _list_repos(self, request: web.Request) -> web.Response:
        try:
            limit = int(request.query.get("limit", "500"))
            start = int(request.query.get("cursor", "0"))
        except ValueError:
            return _error(400, "InvalidRequest", "limit and cursor must be integers")
        if not 1 <= limit <= REPOS_PAGE_MAX or start < 0:
            return _error(400, "InvalidRequest", f"limit must be 1 to {REPOS_PAGE_MAX}")
        page: Document = {"repos": self.network.repos[start : start + limit]}
        if start + limit < len(self.network.repos):
            page["cursor"] = str(start + limit)
        return _json(page)

    async def _list_hosts(self, request: web.Request) -> web.Response:
        host: Document = {
            "hostname": f"{self.host}:{self.port}",
            "seq": self.network.frames.last_seq,
            "accountCount": len(self.network.repos),
            "status": "active",
        }
        return _json({"hosts": [] if request.query.get("cursor") else [host]})

    async def _get_repo(self, request: web.Request) -> web.StreamResponse:
        did = request.query.get("did", "")
        if (path := self.network.car_path(did)) is not None:
            return web.FileResponse(path, headers={"Content-Type": "application/vnd.ipld.car"})
        return self._no_repo(did)

    async def _get_latest_commit(self, request: web.Request) -> web.Response:
        did = request.query.get("did", "")
        repo = self.network.repo(did)
        if repo is None or not repo.get("active", True):
            return self._no_repo(did)
        return _json({"cid": repo["head"], "rev": repo["rev"]})

    async def _get_repo_status(self, request: web.Request) -> web.Response:
        repo = self.network.repo(request.query.get("did", ""))
        if repo is None:
            return _error(400, "RepoNotFound", "Could not find repo")
        status: Document = {"did": repo["did"], "active": repo.get("active", True)}
        if status["active"]:
            status["rev"] = repo["rev"]
        elif "status" in repo:
            status["status"] = repo["status"]
        return _json(status)

    def _no_repo(self, did: str) -> web.Response:
        recorded = self.network.car_error(did)
        if recorded is None:
            return _error(400, "RepoNotFound", f"Could not find repo for DID: {did}")
        status, body = recorded
        return web.Response(status=status, text=body, content_type="application/json")

    # -- identity ---------------------------------------------------------------------------

    @web.middleware
    async def _disturb_identity(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not request.path.startswith("/xrpc/com.atproto.sync."):
            await asyncio.sleep(self.identity_delay)
            if self.identity_status != 200:
                return _error(self.identity_status, "Disturbed", "as the test asked")
        return await handler(request)

    async def _resolve_handle(self, request: web.Request) -> web.Response:
        did = self.network.handles.get(request.query.get("handle", "").lower())
        if did is None:
            return _error(400, "InvalidRequest", "Unable to resolve handle")
        return _json({"did": did})

    async def _atproto_did(self, request: web.Request) -> web.Response:
        did = self.network.handles.get(_host_name(request))
        return web.Response(text=did) if did else web.Response(status=404)

    async def _did_web(self, request: web.Request) -> web.Response:
        with_port = "did:web:" + request.host.lower().replace(":", "%3A")
        document = self._document(with_port) or self._document("did:web:" + _host_name(request))
        return _json(document) if document else web.Response(status=404)

    async def _did_plc(self, request: web.Request) -> web.Response:
        did = request.match_info["did"]
        document = self._document(did)
        if document is None:
            return web.json_response({"message": f"DID not registered: {did}"}, status=404)
        return _json(document)

    def _document(self, did: str) -> Document | None:
        """The DID's document with its PDS replaced by this server."""
        document = self.network.documents.get(did)
        if document is None or not isinstance(document.get("service"), list):
            return document
        services = [
            {**service, "serviceEndpoint": self.url}
            if isinstance(service, dict) and str(service.get("id", "")).endswith("#atproto_pds")
            else service
            for service in document["service"]
        ]
        return {**document, "service": services}


@asynccontextmanager
async def serve(
    network: Network,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    rate: float = 0.0,
    oldest_seq: int = 0,
) -> AsyncIterator[Server]:
    """Serve a network on the running event loop until the context ends.

    ``port`` 0 takes a free one; ``Server.url`` says which.
    """
    server = Server(network, rate, oldest_seq, host, port)
    server._loop = asyncio.get_running_loop()
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


@contextmanager
def serve_in_thread(
    network: Network,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    rate: float = 0.0,
    oldest_seq: int = 0,
) -> Iterator[Server]:
    """As ``serve``, on an event loop of its own: for tests whose own loop may be blocked."""
    ready = threading.Event()
    result: list[Server | BaseException] = []
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        done = asyncio.Event()
        stop.append((asyncio.get_running_loop(), done))
        try:
            context = serve(network, host, port, rate=rate, oldest_seq=oldest_seq)
            async with context as server:
                result.append(server)
                ready.set()
                await done.wait()
        except BaseException as error:
            result.append(error)
            ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    ready.wait()
    if not isinstance(result[0], Server):
        raise result[0]
    try:
        yield result[0]
    finally:
        loop, done = stop[0]
        loop.call_soon_threadsafe(done.set)
        thread.join()


def _host_name(request: web.Request) -> str:
    return request.host.rsplit(":", 1)[0].lower()


def _frame(op: int, kind: str | None, body: Document) -> bytes:
    header: Document = {"op": op} if kind is None else {"op": op, "t": kind}
    return libipld.encode_dag_cbor(header) + libipld.encode_dag_cbor(body)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _error(status: int, name: str, message: str) -> web.Response:
    return _json({"error": name, "message": message}, status)
