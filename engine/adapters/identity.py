"""Who a DID is and what a handle points to: PLC, did:web, DNS, https, or an XRPC resolver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from engine.adapters import pace as paces
from engine.adapters.http import Fetcher
from engine.core import identity, outcomes
from engine.core.identity import Identity, Keeper
from engine.errors import UpstreamError

if TYPE_CHECKING:
    from engine.settings import Settings

DOCUMENT_LIMIT_BYTES = 256 * 1024
"""Real documents have one or two KiB; more is an attack or a mistake."""

EXPORT_LINE_BYTES = 16 * 1024
"""Of the directory's log, on average at most: an operation has up to 7,500 bytes of DAG-CBOR."""

EXPORT_SECONDS = 25.0
"""A page of the log may take longer than a document by this."""

PATIENCE_SECONDS = 1.0
"""Whose turn at a directory is further away than this asks the next one, if there is one."""

REST_SECONDS_FIRST, REST_SECONDS_MAX = 1.0, 60.0
"""A directory that fails is passed over so long at first, and at most."""


class Unregistered(UpstreamError):
    """The directory, or the host of a did:web, answered that there is no such DID."""


class Refused(UpstreamError):
    """A server wants nothing to do with the question; asking another one will not help."""


class DirectoryAway(UpstreamError):
    """No PLC directory answers; that says nothing about the DID."""


class LogPage(msgspec.Struct, frozen=True):
    """A part of the directory's log: JSON lines."""

    body: bytes
    by_directory: bool  # else by a mirror, which may lag


class Busy(UpstreamError):
    """A directory that has too much to do, and what it says of when it has not."""

    def __init__(self, status: int, retry_seconds: float | None) -> None:
        super().__init__(f"HTTP {status} for the DID document")
        self.retry_seconds = retry_seconds


class DidResolver:
    """Reads DID documents from the directory and from did:web hosts."""

    def __init__(
        self,
        fetcher: Fetcher,
        plc_url: str,
        timeout_seconds: float = 5.0,
        *,
        mirrors: Sequence[str] = (),
        pace: paces.Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask the directory at ``plc_url``, and ``mirrors`` of it while that one is in trouble.

        Each is asked when ``pace`` gives a turn, and not at all while it says that it is too much;
        None: at any time. Waiting for a turn is not part of the timeout. ``pace`` becomes ours.
        """
        self._fetcher = fetcher
        self._timeout = timeout_seconds
        self._directories = [_Directory(url) for url in (plc_url, *mirrors)]
        self._pace = pace
        self._clock = clock

    @classmethod
    def of(
        cls,
        settings: Settings,
        fetcher: Fetcher,
        timeout_seconds: float | None = None,
    ) -> DidResolver:
        """Ask as the settings say: directory, mirrors, pace; ``IDENTITY_TIMEOUT_SECONDS`` each.

        Close it: it may hold a connection to Redis.
        """
        timeout = settings.identity.timeout_seconds if timeout_seconds is None else timeout_seconds
        return cls(
            fetcher,
            settings.plc_url,
            timeout,
            mirrors=settings.plc_mirrors,
            pace=paces.of(settings),
        )

    def close(self) -> None:
        """Ask no more; whoever still waits for a turn gets `StoreError`."""
        if self._pace is not None:
            self._pace.close()

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
        async with aclosing(self._in_turn()) as directories:
            async for directory in directories:
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

    async def _in_turn(self) -> AsyncGenerator[_Directory, None]:
        """Those that are well, the directory first, each when it is our turn there."""
        now = self._clock()
        at_work = [each for each in self._directories if each.rests_until <= now]
        at_work = at_work or self._directories[:1]
        for directory in at_work:
            if await self._turn(directory, is_last=directory is at_work[-1]):
                yield directory

    async def _document(self, did: str) -> bytes:
        if not did.startswith("did:plc:"):
            return await self._ask(identity.document_url(did, ""))
        pages = {each.url: identity.document_url(did, each.url) for each in self._directories}
        failure: UpstreamError | None = None
        async with aclosing(self._in_turn()) as directories:
            async for directory in directories:
                try:
                    body = await self._ask(pages[directory.url])
                except Refused:
                    raise
                except Unregistered as error:
                    if directory is self._directories[0]:
                        raise
                    failure = error  # a mirror may lag
                except UpstreamError as error:
                    failure = error
                    await self._rest(directory, error)
                else:
                    directory.failures = 0
                    return body
        raise DirectoryAway(f"no directory answers: {failure}") from failure

    async def _turn(self, directory: _Directory, *, is_last: bool) -> bool:
        """Take a turn; of our tasks, whoever came first goes first. False: it is too far away."""
        if self._pace is None:
            return True
        async with directory.line:
            while wait := await self._pace.take(directory.url):  # a pause may begin meanwhile
                if wait > PATIENCE_SECONDS and not is_last:
                    return False
                await asyncio.sleep(wait)
        return True

    async def _rest(self, directory: _Directory, error: UpstreamError) -> None:
        now = self._clock()
        directory.fail(now)
        if self._pace is not None and isinstance(error, Busy):
            rest = directory.rests_until - now
            told = error.retry_seconds
            await self._pace.pause(directory.url, rest if told is None else told)

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
        if response.status in (429, 503):
            told = outcomes.told(response.headers, time.time())
            raise Busy(response.status, told.retry_seconds)
        if response.status != 200:
            error = UpstreamError if doubt(response.status) else Refused
            raise error(f"HTTP {response.status} for the DID document")
        return response.body


@dataclass
class _Directory:
    """A PLC directory or a mirror of one."""

    url: str
    failures: int = 0  # in a row
    rests_until: float = 0.0
    line: asyncio.Lock = field(default_factory=asyncio.Lock)  # of those who wait for a turn

    def fail(self, now: float) -> None:
        """It is not asked for a while, longer each time, while there is another one.

        What was asked before it failed and fails as well is no further failure.
        """
        if now < self.rests_until:
            return
        self.failures += 1
        longer = REST_SECONDS_FIRST * 2.0 ** min(self.failures - 1, 10)
        self.rests_until = now + min(REST_SECONDS_MAX, longer)


def doubt(status: int) -> str | None:
    """A server's own trouble is no answer; a refusal is one."""
    return f"HTTP {status}" if status >= 500 or status in (408, 425, 429) else None
