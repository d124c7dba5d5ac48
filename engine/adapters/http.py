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
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver

from engine.errors import UpstreamError

MAX_REDIRECTS = 5
"""More than any honest server needs; each costs a connection."""

CONNECTIONS_PER_HOST = 8
"""Of one origin at a time, so that one slow host cannot take every slot."""

CONNECTIONS = 256
"""Open at a time; bounds sockets and their buffers."""

DNS_CACHE_SECONDS = 300

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Response(msgspec.Struct, frozen=True):
    """An answer, read to its end. Any status: the caller knows what it means."""

    status: int
    body: bytes
    url: str  # after redirects


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
        host = url[:100]
        try:
            host = urlsplit(url).hostname or host
            async with asyncio.timeout(timeout_seconds):
                return await self._follow(url, params, max_bytes)
        except TimeoutError as error:
            raise UpstreamError(f"{host}: no answer within {timeout_seconds:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamError(f"{host}: {_reason(error)}") from error

    async def _follow(self, url: str, params: Mapping[str, str] | None, limit: int) -> Response:
        for _ in range(MAX_REDIRECTS + 1):
            if urlsplit(url).scheme not in ("http", "https"):
                raise UpstreamError(f"not an http address: {url[:100]}")
            async with self._session.get(url, params=params, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    return Response(response.status, await _read(response, limit), url)
            url, params = urljoin(str(response.url), location), None
        raise UpstreamError(f"more than {MAX_REDIRECTS} redirects, last to {url[:100]}")


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    if (response.content_length or 0) > limit:
        raise UpstreamError(f"an answer of {response.content_length} bytes, over {limit}")
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            raise UpstreamError(f"an answer of more than {limit} bytes")
    return bytes(body)


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
) -> AsyncIterator[Fetcher]:
    """A fetcher on the running loop; its connections close with the context.

    Args:
        allow_private: turn the address guard off (``NETWORK_ALLOW_PRIVATE``).
        resolver: another source of addresses than the system's.
    """
    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS,
        limit_per_host=CONNECTIONS_PER_HOST,
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
