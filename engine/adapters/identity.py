"""Who a DID is and what a handle points to: PLC, did:web, DNS, https, or an XRPC resolver."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import msgspec

from engine.adapters.http import Fetcher
from engine.core import identity
from engine.core.identity import Identity, Keeper
from engine.errors import UpstreamError

if TYPE_CHECKING:
    from engine.settings import Settings

DOCUMENT_LIMIT_BYTES = 256 * 1024
"""Real documents have one or two KiB; more is an attack or a mistake."""

HANDLE_LIMIT_BYTES = 16 * 1024
"""A well-known answer is one DID; some servers pad it with a page."""

EXPORT_LINE_BYTES = 16 * 1024
"""Of the directory's log, on average at most: an operation has up to 7,500 bytes of DAG-CBOR."""

EXPORT_SECONDS = 25.0
"""A page of the log may take longer than a document by this."""

REST_SECONDS_MAX = 60.0
"""A directory that fails is passed over for a second at first, and never longer than this."""

WELL_KNOWN = "https://{handle}/.well-known/atproto-did"


class Unregistered(UpstreamError):
    """The directory, or the host of a did:web, answered that there is no such DID."""


class Refused(UpstreamError):
    """A server wants nothing to do with the question; asking another one will not help."""


class DirectoryAway(UpstreamError):
    """No PLC directory answers; that says nothing about the DID."""


class Answer(msgspec.Struct, frozen=True):
    """What asking for a handle brought."""

    did: str | None
    failure: str | None = None  # why a source could not be asked; None: the answer is certain


class LogPage(msgspec.Struct, frozen=True):
    """A part of the directory's log: JSON lines."""

    body: bytes
    by_directory: bool  # else by a mirror, which may lag


class HandleResolver(Protocol):
    """Turns a handle into a DID."""

    async def resolve(self, handle: str) -> Answer:
        """The handle's DID as it is now; nothing is cached. Never raises for the network."""


class DidResolver:
    """Reads DID documents from the directory and from did:web hosts."""

    def __init__(
        self,
        fetcher: Fetcher,
        plc_url: str,
        timeout_seconds: float = 5.0,
        *,
        mirrors: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask the directory at ``plc_url``, and ``mirrors`` of it while that one is in trouble."""
        self._fetcher = fetcher
        self._timeout = timeout_seconds
        self._directories = [_Directory(url) for url in (plc_url, *mirrors)]
        self._clock = clock

    @classmethod
    def of(
        cls, settings: Settings, fetcher: Fetcher, timeout_seconds: float | None = None
    ) -> DidResolver:
        """Ask the directory and the mirrors of the settings; ``IDENTITY_TIMEOUT_SECONDS`` each."""
        timeout = settings.identity.timeout_seconds if timeout_seconds is None else timeout_seconds
        return cls(fetcher, settings.plc_url, timeout, mirrors=settings.plc_mirrors)

    async def resolve(self, did: str) -> Identity:
        """The DID's document as it is now; nothing is cached.

        Raises:
            Unregistered: there is no such DID, or it is no more.
            UpstreamError: not reachable now, or a document that the network cannot use.
        """
        return identity.parse_document(did, await self._document(did))

    async def labeler(self, did: str) -> identity.Labeler:
        """Where the DID's labels are, and their key, as its document says now; not cached.

        Raises:
            Unregistered: there is no such DID, or it is no more.
            UpstreamError: not reachable now, or not a labeler's document.
        """
        return identity.labeler_of_document(did, await self._document(did))

    async def pds(self, did: str) -> str | None:
        """The host that the DID's document names now; None if it names none.

        Raises:
            Unregistered: there is no such DID, or it is no more.
            UpstreamError: not reachable now, or no document of this DID.
        """
        return identity.pds_of_document(did, await self._document(did))

    async def keeper(self, did: str) -> Keeper:
        """Host and key in the DID's document as it is now; nothing is cached.

        Raises:
            Unregistered: there is no such DID, or it is no more.
            UpstreamError: not reachable now, or no document of this DID.
        """
        return identity.keeper_of_document(did, await self._document(did))

    async def export(self, after: str, count: int) -> LogPage:
        """Operations of the directory's log after an instant, the oldest first.

        Raises:
            UpstreamError: neither the directory nor a mirror gives it.
        """
        failure: UpstreamError | None = None
        for directory in self._at_work():
            try:
                body = await self._ask(
                    f"{directory.url.rstrip('/')}/export",
                    params={"after": after, "count": str(count)},
                    max_bytes=count * EXPORT_LINE_BYTES,
                    timeout_seconds=self._timeout + EXPORT_SECONDS,
                )
            except UpstreamError as error:  # which may be all that a mirror of documents has
                failure = error
            else:
                return LogPage(body, directory is self._directories[0])
        raise DirectoryAway(f"no directory gives its log: {failure}") from failure

    def _at_work(self) -> list[_Directory]:
        now = self._clock()
        at_work = [each for each in self._directories if each.rests_until <= now]
        return at_work or self._directories[:1]

    async def _document(self, did: str) -> bytes:
        if not did.startswith("did:plc:"):
            return await self._ask(identity.document_url(did, ""))
        urls = {each.url: identity.document_url(did, each.url) for each in self._directories}
        failure: UpstreamError | None = None
        for directory in self._at_work():
            try:
                body = await self._ask(urls[directory.url])
            except Refused:
                raise
            except Unregistered as error:
                if directory is self._directories[0]:
                    raise
                failure = error  # a mirror may lag
            except UpstreamError as error:
                failure = error
                directory.fail(self._clock())
            else:
                directory.failures = 0
                return body
        raise DirectoryAway(f"no directory answers: {failure}") from failure

    async def _ask(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        max_bytes: int = DOCUMENT_LIMIT_BYTES,
        timeout_seconds: float | None = None,
    ) -> bytes:
        response = await self._fetcher.get(
            url,
            params=params,
            max_bytes=max_bytes,
            timeout_seconds=timeout_seconds or self._timeout,
        )
        if response.status in (404, 410):
            raise Unregistered(f"no such DID (HTTP {response.status})")
        if response.status != 200:
            error = UpstreamError if _doubt(response.status) else Refused
            raise error(f"HTTP {response.status} for the DID document")
        return response.body


@dataclass
class _Directory:
    """A PLC directory or a mirror of one."""

    url: str
    failures: int = 0  # in a row
    rests_until: float = 0.0

    def fail(self, now: float) -> None:
        """It is not asked for a while, longer each time."""
        self.failures += 1
        self.rests_until = now + min(REST_SECONDS_MAX, 2.0 ** min(self.failures, 10) / 2)


class Hosting:
    """Asks where an account lives today, and whether it does."""

    def __init__(self, dids: DidResolver, fetcher: Fetcher, timeout_seconds: float = 5.0) -> None:
        self._dids = dids
        self._fetcher = fetcher
        self._timeout = timeout_seconds

    async def is_hosted(self, did: str) -> bool:
        """Whether the host that the DID's document names now has a repository of it.

        Without a document, or without a host in it, nobody has one.

        Raises:
            UpstreamError: nobody could tell: a server did not answer, or said something
                else than yes or ``RepoNotFound``.
        """
        try:
            pds = await self._dids.pds(did)
        except Unregistered:
            return False
        if pds is None:
            return False
        response = await self._fetcher.get(
            pds + "/xrpc/com.atproto.sync.getLatestCommit",
            params={"did": did},
            max_bytes=HANDLE_LIMIT_BYTES,
            timeout_seconds=self._timeout,
        )
        if response.status == 200:
            return True
        error = identity.error_of_xrpc(response.body)
        if error == "RepoNotFound":
            return False
        raise UpstreamError(f"{pds} answered {response.status} {error or ''}".rstrip())


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
        return Answer(None, _doubt(response.status))


class XrpcHandleResolver:
    """Asks one trusted service for every handle (``IDENTITY_HANDLE_RESOLVER``)."""

    def __init__(self, fetcher: Fetcher, url: str, timeout_seconds: float = 5.0) -> None:
        self._fetcher = fetcher
        self._url = url.rstrip("/") + "/xrpc/com.atproto.identity.resolveHandle"
        self._timeout = timeout_seconds

    async def resolve(self, handle: str) -> Answer:
        """The handle's DID as the service knows it."""
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
        return Answer(None, _doubt(response.status))


def handle_resolver(fetcher: Fetcher, url: str, timeout_seconds: float) -> HandleResolver:
    """The resolver that the setting ``IDENTITY_HANDLE_RESOLVER`` asks for."""
    if url:
        return XrpcHandleResolver(fetcher, url, timeout_seconds)
    return NetworkHandleResolver(fetcher, timeout_seconds)


_IMPOSSIBLE = (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel)


def _doubt(status: int) -> str | None:
    """A server's own trouble is no answer; a refusal is one."""
    return f"HTTP {status}" if status >= 500 or status in (408, 425, 429) else None


def _system_resolver() -> dns.asyncresolver.Resolver | None:
    """The system's name servers; None where the system names none, so that https is left."""
    try:
        return dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return None
