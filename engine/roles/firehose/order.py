"""Which relays are read: all of the list at once, or the first that answers.

With fan-in every relay is read always. Without it the list is an order of preference: one relay
is *active*, at first the first. When it falls silent or ends a connection without one event (it
cannot be reached, refuses, has only errors), the next one is; after the last comes the
first again. Relays that are preferred to the active one are tried again now and then by simply
being read beside it, which costs nothing but duplicates. A relay that was away for hours has
hours to repeat, so it becomes the active one only when it is level with the one that is, or
when that one fails; the other is let go once its last append is answered.

A store that is away or full says nothing about a relay and changes nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

from engine import log

logger = logging.getLogger(__name__)


class Order:
    """Says whose turn it is; used on one event loop, by one task a relay."""

    def __init__(self, hosts: Sequence[str], *, fan_in: bool, retry_seconds: float) -> None:
        """Begin with the first of `hosts`, which are distinct and in order of preference.

        Args:
            hosts: canonical names; a single one is always active.
            fan_in: all are.
            retry_seconds: pause between two trials of a preferred relay.
        """
        self.is_strict = not fan_in and len(hosts) > 1
        self.retry_seconds = retry_seconds
        self._places = {host: place for place, host in enumerate(hosts)}
        self._hosts = list(hosts)
        self._active = 0
        self._answering: set[str] = set()  # trials that bring events
        self._retry_at = dict.fromkeys(hosts, float("-inf"))
        self._changed = asyncio.Event()

    def is_active(self, host: str) -> bool:
        """Whether this relay is one that events are expected of."""
        return not self.is_strict or self._places[host] == self._active

    def is_wanted(self, host: str) -> bool:
        """Whether this relay, if it is being read, may go on: it is active or preferred."""
        return not self.is_strict or self._places[host] <= self._active

    @property
    def active(self) -> str:
        """The relay that is read, where there is an order; else the first."""
        return self._hosts[self._active]

    async def turn(self, host: str) -> None:
        """Wait until this relay is active, or is preferred and due for a trial."""
        self._answering.discard(host)
        while not self.is_active(host):
            pause = None
            if self.is_wanted(host):
                pause = self._retry_at[host] - time.monotonic()
                if pause <= 0:
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    def answered(self, host: str, *, is_level: bool) -> None:
        """Events of this relay are appended: it takes back its place if it is preferred.

        `is_level` says that it has come as far as the active one.
        """
        if self.is_active(host) or not self.is_wanted(host):
            return
        self._answering.add(host)
        if is_level:
            instead_of = self._activate(host)
            logger.info(
                "a preferred relay answers again: it is read, the other stands by %s",
                log.fields(relay=host, instead_of=instead_of),
            )

    def failed(self, host: str, why: str) -> None:
        """This relay fell silent or gave no event; if it was active, another one is.

        That is the most preferred of those that are just being tried and bring events, or the
        next one.
        """
        if not self.is_strict:
            return
        self._answering.discard(host)
        self._retry_at[host] = time.monotonic() + self.retry_seconds
        if self.is_active(host):
            following = self._hosts[(self._active + 1) % len(self._hosts)]
            self._activate(min(self._answering, key=self._places.__getitem__, default=following))
            logger.warning(
                "the relay is passed over: the next one takes over %s",
                log.fields(relay=self.active, instead_of=host, why=why),
            )

    def _activate(self, host: str) -> str:
        """Make another relay the active one; the name of the one that was."""
        before, self._active = self.active, self._places[host]
        self._answering.discard(host)
        self._changed.set()
        self._changed = asyncio.Event()
        return before
