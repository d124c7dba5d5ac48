"""What a handle points to: DNS, https, or an XRPC resolver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import msgspec

from engine.adapters.http import Fetcher
from engine.adapters.identity import doubt
from engine.core import identity, urls
from engine.errors import UpstreamError

HANDLE_LIMIT_BYTES = 16 * 1024
"""A well-known answer is one DID; some servers pad it with a page."""

WELL_KNOWN = "https://{handle}/.well-known/atproto-did"


class Answer(msgspec.Struct, frozen=True):
    """What asking for a handle brought."""

    did: str | None
    failure: str | None = None  # why a source could not be asked; None: the answer is certain


class HandleResolver(Protocol):
    """Turns a handle into a DID."""

    async def resolve(self, handle: str) -> Answer:
        """The handle's DID as it is now; nothing is cached. Never raises for the network."""


class NetworkHandleResolver:
    """DNS TXT first, then https; a "no" of the first never skips the second."""

    def __init__(
        self,
        fetcher: Fetcher,
        timeout_seconds: float = 5.0,
        *,
        resolver: dns.asyncresolver.Resolver | None = None,
        well_known: str = WELL_KNOWN,
    ) -> None:
        """Ask the system's name servers, or those of ``resolver``."""
        self._fetcher = fetcher
        self._timeout = timeout_seconds
        self._dns = resolver or _system_resolver()
        self._well_known = well_known

    async def resolve(self, handle: str) -> Answer:
        """The handle's DID. A host name is asked for; anything else resolves to nothing."""
        if not identity.is_resolvable(handle):
            return Answer(None)
        by_dns = await self._txt(handle)
        if by_dns.did is not None:
            return by_dns
        by_https = await self._https(handle)
        if by_https.did is not None:
            return by_https
        return Answer(None, by_dns.failure or by_https.failure)

    async def _txt(self, handle: str) -> Answer:
        if self._dns is None:
            return Answer(None)
        try:
            name = dns.name.from_text(f"_atproto.{handle}.")
            found = await self._dns.resolve(
                name, dns.rdatatype.TXT, search=False, lifetime=self._timeout
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return Answer(None)
        except dns.resolver.NoNameservers as error:
            return Answer(None, f"DNS: {error}")
        except dns.exception.Timeout:
            return Answer(None, f"DNS: no answer within {self._timeout:g} s")
        except dns.exception.DNSException as error:  # a name that DNS cannot carry
            return Answer(None, None if isinstance(error, _IMPOSSIBLE) else f"DNS: {error}")
        except OSError as error:
            return Answer(None, f"DNS: {error}")
        texts = [
            b"".join(record.strings).decode("utf-8", "replace")
            for record in found
            if hasattr(record, "strings")
        ]
        return Answer(identity.did_of_txt(texts))

    async def _https(self, handle: str) -> Answer:
        url = self._well_known.format(handle=handle)
        try:
            response = await self._fetcher.get(
                url, max_bytes=HANDLE_LIMIT_BYTES, timeout_seconds=self._timeout
            )
        except UpstreamError as error:
            return Answer(None, str(error))
        if response.status == 200:
            return Answer(identity.did_of_well_known(response.body))
        return Answer(None, doubt(response.status))


class XrpcHandleResolver:
    """Asks one trusted service for every handle (``IDENTITY_HANDLE_RESOLVER``)."""

    def __init__(self, fetcher: Fetcher, url: str, timeout_seconds: float = 5.0) -> None:
        self._fetcher = fetcher
        self._url = url.rstrip("/") + "/xrpc/com.atproto.identity.resolveHandle"
        self._timeout = timeout_seconds

    async def resolve(self, handle: str) -> Answer:
        """The handle's DID as the service knows it; what is no host name is not asked for."""
        if not identity.is_resolvable(handle):
            return Answer(None)
        try:
            response = await self._fetcher.get(
                self._url,
                params={"handle": handle},
                max_bytes=HANDLE_LIMIT_BYTES,
                timeout_seconds=self._timeout,
            )
        except UpstreamError as error:
            return Answer(None, str(error))
        if response.status == 200:
            return Answer(identity.did_of_xrpc(response.body))
        return Answer(None, doubt(response.status))


def handle_resolver(
    fetcher: Fetcher, url: str, timeout_seconds: float, name_servers: Sequence[str] = ()
) -> HandleResolver:
    """The resolver that the setting ``IDENTITY_HANDLE_RESOLVER`` asks for."""
    if url:
        return XrpcHandleResolver(fetcher, url, timeout_seconds)
    asking = _resolver_at(name_servers) if name_servers else None
    return NetworkHandleResolver(fetcher, timeout_seconds, resolver=asking)


_IMPOSSIBLE = (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel)


def _resolver_at(name_servers: Sequence[str]) -> dns.asyncresolver.Resolver:
    """These name servers, ``ADDRESS:PORT`` each, as the settings have them."""
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [
        dns.nameserver.Do53Nameserver(*urls.address_and_port(name, 53)) for name in name_servers
    ]
    return resolver


def _system_resolver() -> dns.asyncresolver.Resolver | None:
    """The system's name servers; None where the system names none, so that https is left."""
    try:
        return dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return None
