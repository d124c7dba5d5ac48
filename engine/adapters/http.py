"""HTTP to strangers' servers: what they name may not reach inside, flood us or hold us up.

Every address is judged when the socket is made, after DNS and for each redirect,
so neither a literal address, nor a name that changes its mind, nor a redirect
leads to a private network. Redirects are followed by hand, bodies are counted
while they arrive, nothing is unpacked, cookies and environment proxies are unused.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver

from engine.adapters.spool import Body, Sink, Spool
from engine.errors import UpstreamError

MAX_REDIRECTS = 5
"""More than any honest server needs; each costs a connection."""

CONNECTIONS_PER_HOST = 8
"""Of one origin at a time, so that one slow host cannot take every slot."""

CONNECTIONS = 256
"""Open at a time; bounds sockets and their buffers."""

DNS_CACHE_SECONDS = 300

ERROR_BYTES = 64 * 1024
"""As much of an answer that is no success is kept by ``download``; the rest is not read."""

SLOWEST_BYTES_A_SECOND = 64 * 1024
"""A download may take its timeout, and longer only while it brings this much on average."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Response(msgspec.Struct, frozen=True):
    """An answer, read to its end. Any status: the caller knows what it means."""

    status: int
    body: bytes
    url: str  # after redirects
    headers: Mapping[str, str] = {}  # names in lower case


@dataclass(frozen=True)
class Download:
    """An answer whose body may be large. Whoever gets it closes ``body``."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: Body
    url: str  # after redirects


class Unreachable(UpstreamError):
    """No answer at all: the host's state, whatever was asked for."""


class TooLarge(UpstreamError):
    """An answer beyond the limit; asking again will not help."""


class ForbiddenAddress(OSError):
    """A connection that the guard refused."""


def is_public(address: str) -> bool:
    """Whether an IP address may be asked for a stranger's data."""
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            ip = inner
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    family, kind, proto, _, address = info
    if not is_public(str(address[0])):
        raise ForbiddenAddress(f"{address[0]} is not a public address")
    return socket.socket(family, kind, proto)


class Fetcher:
    """GET with limits. Build it with ``open_fetcher``; safe for many tasks at once."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        max_bytes: int = 1 << 20,
        timeout_seconds: float = 5.0,
    ) -> Response:
        """Fetch one URL, redirects included.

        Args:
            url: http or https.
            params: added to the URL's query.
            max_bytes: a longer body is an error; at most one read beyond it is held.
            timeout_seconds: for everything: DNS, connections, redirects and the body.

        Raises:
            UpstreamError: no answer within the limits. The message names the host.
        """
        with _translated(url, timeout_seconds):
            async with (
                asyncio.timeout(timeout_seconds),
                self._following(url, params) as (response, final),
            ):
                body = await _read(response, max_bytes)
                return Response(response.status, body, final, _headers(response))

    async def download(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        spool: Spool,
        max_bytes: int,
        timeout_seconds: float = 60.0,
    ) -> Download:
        """Fetch what may be large: into memory, or a file where ``spool`` says so.

        Nothing is unpacked. The body of an answer that is no success is cut at ``ERROR_BYTES``.

        Args:
            url: http or https.
            params: added to the URL's query.
            spool: where bodies go.
            max_bytes: a longer body is an error.
            timeout_seconds: for the head, redirects included, and for any silence; the body may
                take as long again, and longer while ``SLOWEST_BYTES_A_SECOND`` arrive.

        Raises:
            Unreachable: no answer, or none in time.
            TooLarge: the body is longer than allowed.
            UpstreamError: the body is cut off, too slow, or packed.
        """
        async with AsyncExitStack() as stack:
            with _translated(url, timeout_seconds, Unreachable):
                async with asyncio.timeout(timeout_seconds):
                    following = self._following(url, params)
                    response, final = await stack.enter_async_context(following)
            headers = _headers(response)
            is_success = 200 <= response.status < 300
            if is_success and headers.get("content-encoding", "identity") != "identity":
                raise UpstreamError("a packed answer, which was not asked for")
            limit = max_bytes if is_success else ERROR_BYTES
            with _translated(url, timeout_seconds):
                body = await _stream(response, spool, limit, timeout_seconds, is_success)
            return Download(response.status, headers, body, final)

    @asynccontextmanager
    async def _following(
        self, url: str, params: Mapping[str, str] | None
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, str]]:
        """The answer at the end of the redirects, and its URL as it was named."""
        for _ in range(MAX_REDIRECTS + 1):
            if urlsplit(url).scheme not in ("http", "https"):
                raise UpstreamError(f"not an http address: {url[:100]}")
            async with self._session.get(url, params=params, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    yield response, url
                    return
            url, params = urljoin(str(response.url), location), None
        raise UpstreamError(f"more than {MAX_REDIRECTS} redirects, last to {url[:100]}")


@contextmanager
def _translated(
    url: str, timeout_seconds: float, raised: type[UpstreamError] = UpstreamError
) -> Iterator[None]:
    """Every failure of the network as ``raised``; the message names the host."""
    host = url[:100]
    try:
        host = urlsplit(url).hostname or host
        yield
    except TimeoutError as error:
        raise raised(f"{host}: no answer within {timeout_seconds:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise raised(f"{host}: {_reason(error)}") from error


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    if (response.content_length or 0) > limit:
        raise TooLarge(f"an answer of {response.content_length} bytes, over {limit}")
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            raise TooLarge(f"an answer of more than {limit} bytes")
    return bytes(body)


async def _stream(
    response: aiohttp.ClientResponse, spool: Spool, limit: int, patience: float, is_whole: bool
) -> Body:
    """Read the body; ``is_whole``: one that is longer than ``limit`` is an error, else cut."""
    if is_whole and (response.content_length or 0) > limit:
        raise TooLarge(f"an answer of {response.content_length} bytes, over {limit}")
    loop = asyncio.get_running_loop()
    began = loop.time()
    with Sink(spool) as sink:
        async with asyncio.timeout(patience) as timeout:
            async for piece in response.content.iter_any():
                room = limit - sink.size
                if len(piece) > room and is_whole:
                    raise TooLarge(f"an answer of more than {limit} bytes")
                await sink.write(piece[:room])
                if sink.size >= limit and not is_whole:
                    break
                earned = began + patience + sink.size / SLOWEST_BYTES_A_SECOND
                timeout.reschedule(min(loop.time() + patience, earned))
        return await sink.body()


def _reason(error: BaseException) -> str:
    """The innermost words: aiohttp wraps the system's error once or twice."""
    cause = error.__cause__ or getattr(error, "os_error", None)
    if isinstance(cause, OSError) and not isinstance(error, ForbiddenAddress):
        return str(cause) or type(cause).__name__
    return str(error) or type(error).__name__


@asynccontextmanager
async def open_fetcher(
    *,
    allow_private: bool = False,
    resolver: AbstractResolver | None = None,
    connections: int = CONNECTIONS,
    connections_per_host: int = CONNECTIONS_PER_HOST,
) -> AsyncIterator[Fetcher]:
    """A fetcher on the running loop; its connections close with the context.

    Args:
        allow_private: turn the address guard off (``NETWORK_ALLOW_PRIVATE``).
        resolver: another source of addresses than the system's.
        connections: at a time, at most.
        connections_per_host: of one origin at a time, at most.
    """
    connector = aiohttp.TCPConnector(
        limit=connections,
        limit_per_host=connections_per_host,
        ttl_dns_cache=DNS_CACHE_SECONDS,
        dns_cache_max_size=10_000,
        resolver=resolver,
        socket_factory=None if allow_private else _guarded_socket,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        headers={"User-Agent": "headrace", "Accept-Encoding": "identity"},
    )
    async with session:
        yield Fetcher(session)
