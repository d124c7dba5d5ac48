"""One port that plays a relay, its hosts and labelers, the PLC and every handle's web server.

Everything a deployment asks the network for is answered from one ``Network``, so
a whole engine can be run against it and nothing leaves the machine. Frames go
out as they were recorded, byte for byte, unless a lever says otherwise.

Where a network has several PDSs, each has a loopback address of its own behind the
same port (127.0.0.2 and on, which Linux answers without being told), and so has each
labeler; the relay stays where it was asked to be. Documents and ``listHosts`` name these.
On another address than 127.0.0.1 everything is at that one, and all PDSs are one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from engine.simulate import directory, lists
from engine.simulate.feed import Feed
from engine.simulate.hostile import Misdeed
from engine.simulate.lists import Listing, delayed
from engine.simulate.network import Document, Frames, Network, endpoint

LOOPBACK = "127.0.0.1"

ADDRESSES_MAX = 200
"""More hosts than this share the relay's address."""

PORT_ATTEMPTS = 10
"""A free port of one address may be taken on another."""


@dataclass
class LabelFeed(Feed):
    """One labeler's log."""

    frames: Frames

    def log(self) -> Frames:
        """What is served."""
        return self.frames


@dataclass
class Server(Feed):
    """A served network: where it is, how it talks, and levers for tests.

    The levers of ``Feed`` are those of the relay. ``identity_delay`` is how long, in
    seconds, documents and handles take to be answered, those that wait already, too;
    ``identity_status`` answers them with that HTTP status instead. All of these, and
    ``network``, may be changed while it runs. ``addresses`` says where each PDS is, by the
    endpoint in the documents, and each labeler, by its DID; ``labelers`` are their logs with
    levers of their own, ``listings`` levers of each PDS' ``listRepos`` by its endpoint, the
    relay's by None.
    ``misdeeds`` are what hosts do instead of giving a DID's repository, or (``*``) any; ``asked``
    counts how often each was asked for. ``refusals`` are HTTP status and error with which hosts
    answer what they are asked of a DID's state; ``directory_asked`` are the times, on the loop's
    clock, at which documents of the PLC were asked for.
    """

    network: Network
    host: str = LOOPBACK
    port: int = 0
    identity_delay: float = 0.0
    identity_status: int = 200
    addresses: dict[str, str] = field(default_factory=dict)
    labelers: dict[str, LabelFeed] = field(default_factory=dict)
    listings: dict[str | None, Listing] = field(default_factory=dict)
    misdeeds: dict[str, Misdeed] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    directory_asked: list[float] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    def log(self) -> Frames:
        """What the relay serves."""
        return self.network.frames

    @property
    def url(self) -> str:
        """Base address of every service, without a trailing slash."""
        return self.url_of(None)

    def url_of(self, name: str | None) -> str:
        """Base address of a PDS, by its endpoint, or of a labeler, by its DID."""
        return f"http://{self.addresses.get(name or '', self.host)}:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """The environment that points a deployment at this network."""
        return {
            "INGESTER_RELAY_HOSTS": self.url,
            "PLC_URL": self.url,
            "PLC_REQUESTS_PER_SECOND": "10000",  # this directory has no limit
            "IDENTITY_HANDLE_RESOLVER": self.url,
            "NETWORK_ALLOW_PRIVATE": "true",
        }

    def application(self) -> web.Application:
        """The routes of every service."""
        app = web.Application(middlewares=[self._disturb_identity])
        xrpc = "/xrpc/com.atproto."
        app.router.add_get(xrpc + "sync.subscribeRepos", self.subscribe)
        app.router.add_get(xrpc + "label.subscribeLabels", self._subscribe_labels)
        app.router.add_get(xrpc + "sync.listRepos", self._list_repos)
        app.router.add_get(xrpc + "sync.listHosts", self._list_hosts)
        app.router.add_get(xrpc + "sync.getHostStatus", self._get_host_status)
        app.router.add_get(xrpc + "sync.getRepo", self._get_repo)
        app.router.add_get(xrpc + "sync.getLatestCommit", self._get_latest_commit)
        app.router.add_get(xrpc + "sync.getRepoStatus", self._get_repo_status)
        app.router.add_get(xrpc + "identity.resolveHandle", self._resolve_handle)
        app.router.add_get("/.well-known/atproto-did", self._atproto_did)
        app.router.add_get("/.well-known/did.json", self._did_web)
        app.router.add_get("/export", self._export)
        app.router.add_get("/{did:did:.+}", self._did_plc)
        return app

    # -- labelers ---------------------------------------------------------------------------

    async def _subscribe_labels(self, request: web.Request) -> web.StreamResponse:
        at = _host_name(request)
        for did, labeler in self.labelers.items():
            if did not in self.addresses or self.addresses[did] == at:
                return await labeler.subscribe(request)
        return _error(404, "NotFound", "no labeler here")

    # -- the hosts --------------------------------------------------------------------------

    def _pds(self, request: web.Request) -> str | None:
        """Which PDS is asked, by its endpoint in the documents; None is the relay."""
        at = _host_name(request)
        return next((name for name in self._hosts() if self.addresses.get(name) == at), None)

    def _hosts(self) -> list[str]:
        return [name for name in self.addresses if not name.startswith("did:")]

    def _statuses(self) -> list[Document]:
        names: list[str | None] = [*self._hosts()] or [None]
        return [
            {
                "hostname": self.url_of(name).removeprefix("http://"),
                "seq": self.network.frames.last_seq,
                "accountCount": len(self.network.listed(name)),
                "status": "active",
            }
            for name in names
        ]

    def _repo(self, request: web.Request) -> Document | None:
        """What ``listRepos`` of whoever is asked says of a DID."""
        did, here = request.query.get("did", ""), self._pds(request)
        return self.network.repo(did) if here in (None, self.network.host_of(did)) else None

    async def _list_repos(self, request: web.Request) -> web.Response:
        here = self._pds(request)
        listing = self.listings.setdefault(here, Listing())
        return await lists.repos(request, self.network.listed(here), listing, _json)

    async def _list_hosts(self, request: web.Request) -> web.Response:
        return lists.page(request, "hosts", self._statuses(), 200, Listing(), _json)

    async def _get_host_status(self, request: web.Request) -> web.Response:
        for status in self._statuses():
            if status["hostname"] == request.query.get("hostname"):
                return _json(status)
        return _error(400, "HostNotFound", "the relay knows no such host")

    async def _get_repo(self, request: web.Request) -> web.StreamResponse:
        did = request.query.get("did", "")
        here, home = self._pds(request), self.network.host_of(did)
        if here is None and home in self.addresses:
            # As relays do: they hold no repositories.
            raise web.HTTPFound(self.url_of(home) + request.path_qs)
        export = self.network.export(did) if here in (None, home) else None
        misdeed = self.misdeeds.get(did) or self.misdeeds.get("*")
        self.asked[did] += 1
        if misdeed is not None:
            true = export.read_bytes() if isinstance(export, Path) else export or b""
            return await misdeed(request, true)
        content_type = "application/vnd.ipld.car"
        if isinstance(export, bytes):
            return web.Response(body=export, content_type=content_type)
        if export is not None:
            return web.FileResponse(export, headers={"Content-Type": content_type})
        return self._no_repo(did)

    async def _get_latest_commit(self, request: web.Request) -> web.Response:
        did = request.query.get("did", "")
        if did in self.refusals:
            return _error(*self.refusals[did], "as the test asked")
        repo = self._repo(request)
        if repo is None or not repo.get("active", True):
            return self._no_repo(did)
        return _json({"cid": repo["head"], "rev": repo["rev"]})

    async def _get_repo_status(self, request: web.Request) -> web.Response:
        if (did := request.query.get("did", "")) in self.refusals:
            return _error(*self.refusals[did], "as the test asked")
        repo = self._repo(request)
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
            await delayed(lambda: self.identity_delay)
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
        self.directory_asked.append(asyncio.get_running_loop().time())
        document = self._document(did)
        if document is None:
            return web.json_response({"message": f"DID not registered: {did}"}, status=404)
        return _json(document)

    async def _export(self, request: web.Request) -> web.Response:
        """The directory's log."""
        query = request.query
        self.asked["/export"] += 1
        log = self.network.operations
        if log is None:
            ours = (self._document(did) for did in self.network.documents)
            log = directory.of_documents(each for each in ours if each is not None)
        body = directory.page(log, query.get("after", ""), int(query.get("count", directory.PAGE)))
        return web.Response(body=body, content_type="application/jsonlines")

    def _document(self, did: str) -> Document | None:
        """The DID's document with its PDS and labeler replaced by addresses of this server."""
        document = self.network.documents.get(did)
        if document is None or not isinstance(document.get("service"), list):
            return document
        ours = {"#atproto_pds": self.url_of(endpoint(document, "#atproto_pds"))}
        if did in self.labelers:
            ours["#atproto_labeler"] = self.url_of(did)
        services = [
            {**service, "serviceEndpoint": ours[name]}
            if isinstance(service, dict)
            and (name := "#" + str(service.get("id", "")).rpartition("#")[2]) in ours
            else service
            for service in document["service"]
        ]
        return {**document, "service": services}


@asynccontextmanager
async def serve(
    network: Network, host: str = LOOPBACK, port: int = 0, **levers: Any
) -> AsyncIterator[Server]:
    """Serve a network on the running event loop until the context ends.

    ``port`` 0 takes a free one; ``Server.url`` says which. ``levers`` are fields of ``Server``.
    A network may be served several times at once, by servers of different levers.
    """
    server = Server(network, host, port, **levers)
    server._loop = asyncio.get_running_loop()
    server._observe()
    server.labelers = {did: LabelFeed(frames) for did, frames in network.labels.items()}
    for labeler in server.labelers.values():
        labeler._loop = server._loop
    names = [*(hosts if len(hosts := network.hosts()) > 1 else []), *server.labelers]
    if host == LOOPBACK:
        addresses = (str(IPv4Address(host) + number) for number in range(1, ADDRESSES_MAX))
        server.addresses = dict(zip(names, addresses, strict=False))
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        server.port = await _listen(runner, [host, *server.addresses.values()], port)
        yield server
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, addresses: list[str], port: int) -> int:
    """Listen at the same port of every address; which."""
    for attempt in range(PORT_ATTEMPTS):
        sites: list[web.TCPSite] = []
        chosen = port
        try:
            for address in addresses:
                site = web.TCPSite(runner, address, chosen)
                await site.start()
                sites.append(site)
                chosen = chosen or int(runner.addresses[-1][1])
        except OSError:
            for site in sites:
                await site.stop()
            if port or attempt == PORT_ATTEMPTS - 1:
                raise
        else:
            break
    return chosen


@contextmanager
def serve_in_thread(
    network: Network, host: str = LOOPBACK, port: int = 0, **levers: Any
) -> Iterator[Server]:
    """As ``serve``, on an event loop of its own: for tests whose own loop may be blocked."""
    ready = threading.Event()
    result: list[Server | BaseException] = []
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        done = asyncio.Event()
        stop.append((asyncio.get_running_loop(), done))
        try:
            async with serve(network, host, port, **levers) as server:
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


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _error(status: int, name: str, message: str) -> web.Response:
    return _json({"error": name, "message": message}, status)
