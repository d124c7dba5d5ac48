"""Whose labels a stream may carry, and with which keys they are signed.

A labeler is named by its DID, whose document says where its stream is and which key signs. A
host that the settings name serves whoever's document names that host: its sources are
asked for as they come. A label of anybody else is foreign, and so no labeler speaks for another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine import log
from engine.adapters.identity import DidResolver, Unregistered
from engine.core import codec, streams, urls
from engine.core.identity import Labeler
from engine.errors import UpstreamError

logger = logging.getLogger(__name__)

REFRESHES = 3
"""Looks at documents for new keys in a row, for one host; then one each `REFRESH_SECONDS`."""

REFRESH_SECONDS = 30.0

SOURCES_MAX = 64
"""Sources of one host that is named by the settings; the labels of others are foreign."""


def url_of(labeler: Labeler) -> str:
    """The websocket address of a labeler's endpoint, without a path.

    Raises:
        UpstreamError: the document names no such address.
    """
    try:
        return urls.relay_url(labeler.endpoint)
    except ValueError as error:
        raise UpstreamError(f"the labeler's document: {error}") from error


def key_of(labeler: Labeler) -> str | None:
    """The ``did:key`` of a labeler; None if its document has none that can be used."""
    return None if labeler.key is None else codec.did_key(*labeler.key)


@dataclass
class Keyring:
    """The sources of one host.

    ``is_open``: the settings name the host, so its sources are found in what it sends.
    """

    host: str
    dids: DidResolver
    slots: asyncio.Semaphore  # look-ups at a time, over all hosts
    is_open: bool = False
    clock: Callable[[], float] = time.monotonic
    keys: dict[str, str | None] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    _left: float = float(REFRESHES)
    _at: float = field(default=float("-inf"))

    @property
    def closed(self) -> bool:
        """Whether no further source is accepted."""
        return not self.is_open or len(self.keys) + len(self.foreign) >= SOURCES_MAX

    async def look_up(self, did: str) -> Labeler:
        """What the DID's document says now.

        Raises:
            UpstreamError: nobody could tell, or it is no labeler.
        """
        async with self.slots:
            return await self.dids.labeler(did)

    def take(self, did: str, labeler: Labeler) -> None:
        """Use the key that a document names."""
        self.keys[did] = key_of(labeler)

    async def judge(self, did: str) -> None:
        """A source that was never met: accept it if its document names this host.

        Raises:
            UpstreamError: the directory could not be asked; its labels wait at the labeler.
        """
        try:
            labeler = await self.look_up(did)
            is_ours = streams.canonical_host(url_of(labeler)) == self.host
        except Unregistered:
            is_ours = False
        if is_ours:
            self.take(did, labeler)
        else:
            self.foreign.add(did)
            logger.warning(
                "a labeler sends labels that are not its own: they are refused %s",
                log.fields(labeler=self.host, src=did),
            )

    async def refresh(self, did: str) -> bool:
        """Look whether the labeler has another key by now; True if it has.

        Not more often than `REFRESH_SECONDS` allows: bad signatures would cost a request each.

        Raises:
            UpstreamError: the directory could not be asked.
        """
        now = self.clock()
        self._left = min(REFRESHES, self._left + (now - self._at) / REFRESH_SECONDS)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        before = self.keys.get(did)
        self.take(did, await self.look_up(did))
        if self.keys[did] == before:
            return False
        logger.info("the labeler has another key %s", log.fields(labeler=self.host, src=did))
        return True
