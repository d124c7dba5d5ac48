"""Asking hosts for their lists, one page at a time; what they may answer is bounded here."""

from __future__ import annotations

import asyncio
import time
from enum import Enum

from engine.adapters import http
from engine.core import hosts, listing, outcomes
from engine.errors import UpstreamError
from engine.settings import ListerSettings

REPOS = "/xrpc/com.atproto.sync.listRepos"
HOSTS = "/xrpc/com.atproto.sync.listHosts"


class Fault(Enum):
    """What a failure says, and so what helps."""

    AWAY = "away"
    """Nobody answers, or not with what was asked for: wait."""
    BUSY = "busy"
    """Too many requests: wait; it does not count as a failure."""
    PAGE = "page"
    """The host is there and cannot answer for this page: a smaller one may do."""
    SLOW = "slow"
    """No answer in time: that of a smaller page may come."""
    CURSOR = "cursor"
    """The host does not take the request; a cursor that it gave may have become invalid."""


CUTTABLE = frozenset({Fault.PAGE, Fault.SLOW})
"""Faults that a smaller page may not have."""


class ListError(UpstreamError):
    """A page that could not be read."""

    def __init__(self, fault: Fault, text: str, told: float | None = None) -> None:
        super().__init__(text)
        self.fault = fault
        self.told = told  # seconds, where the host says when to come back


class Lists:
    """Pages of any host. Whoever asks one host waits between two requests with ``Spacing``."""

    def __init__(self, fetcher: http.Fetcher, settings: ListerSettings) -> None:
        """Ask with this fetcher, within these limits."""
        self._fetcher = fetcher
        self._timeout = settings.timeout_seconds

    async def repos(self, origin: str, cursor: str, limit: int) -> listing.Page:
        """One page of a host's repositories.

        Raises:
            ListError: there is none.
        """
        body = await self._get(origin + REPOS, cursor, limit)
        try:
            return listing.read_page(body, time.time())
        except UpstreamError as error:
            raise ListError(Fault.PAGE, str(error)) from error

    async def hosts(self, relay: str, cursor: str, limit: int) -> listing.HostPage:
        """One page of the hosts that a relay knows.

        Raises:
            ListError: there is none.
        """
        body = await self._get(relay + HOSTS, cursor, limit)
        try:
            return listing.read_hosts(body, plain=relay.startswith("http:"))
        except UpstreamError as error:
            raise ListError(Fault.PAGE, str(error)) from error

    async def _get(self, url: str, cursor: str, limit: int) -> bytes:
        params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        try:
            answer = await self._fetcher.get(
                url, params=params, max_bytes=listing.PAGE_BYTES, timeout_seconds=self._timeout
            )
        except UpstreamError as error:
            fault = Fault.PAGE if isinstance(error, http.TooLarge) else Fault.AWAY
            if isinstance(error.__cause__, TimeoutError):
                fault = Fault.SLOW
            raise ListError(fault, str(error)) from error
        if answer.status == 200:
            return answer.body
        text = outcomes.of_error(answer.status, answer.body).error
        told = outcomes.told(answer.headers, time.time()).retry_seconds
        raise ListError(_fault(answer.status), text, told)


def _fault(status: int) -> Fault:
    host = outcomes.of_host(status)
    if host is hosts.Answer.BUSY:
        return Fault.BUSY
    if status == 400:
        return Fault.CURSOR
    has_failed = status >= 500 and status != 501 and host is hosts.Answer.FINE
    return Fault.PAGE if has_failed else Fault.AWAY


class Spacing:
    """Requests to one host, a while apart."""

    def __init__(self, seconds: float) -> None:
        """At least this long from the end of one to the begin of the next."""
        self._seconds = seconds
        self._next_at = 0.0

    async def __aenter__(self) -> None:
        """Wait for the turn."""
        await asyncio.sleep(max(0.0, self._next_at - asyncio.get_running_loop().time()))

    async def __aexit__(self, *_: object) -> None:
        """The request is over."""
        self._next_at = asyncio.get_running_loop().time() + self._seconds
