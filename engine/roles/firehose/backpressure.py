"""When the streams are full, and what is said about it: once on entering, once on leaving.

Two things make the ingester wait: more events or bytes in the streams of the source than the
high water marks allow, and a Redis at its memory limit, which refuses a whole batch.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

from engine import log
from engine.roles.firehose.append import Appender
from engine.roles.firehose.counters import RelayCounters, State

logger = logging.getLogger(__name__)

RESUME_SHARE = 0.9
"""Backpressure ends below this share of the high water marks."""

CALM_SECONDS = 2.0
"""A Redis at its memory limit takes a batch now and then; after this long without a refusal it
has room again."""


class Marks(Protocol):
    """The high water marks of a source."""

    @property
    def high_water_mark(self) -> int:
        """In events."""

    @property
    def high_water_bytes(self) -> int:
        """In bytes of entries."""


@dataclass
class Backpressure:
    """Whether one relay, or labeler, is made to wait, and since when."""

    host: str
    settings: Marks
    counters: RelayCounters
    kind: str = "relay"
    _since: float | None = field(default=None, init=False)
    _refused_at: float = field(default=float("-inf"), init=False)

    def is_full(self, appender: Appender) -> bool:
        """Whether nothing may be appended now; less is needed to begin again than to stop."""
        share = 1.0 if self._since is None else RESUME_SHARE
        return (
            appender.events >= self.settings.high_water_mark * share
            or appender.bytes >= self.settings.high_water_bytes * share
        )

    def full(self, appender: Appender) -> None:
        """The streams hold as much as they may."""
        self._begin(f"{appender.events} events, {appender.bytes} bytes in the streams")

    def refused(self, error: Exception) -> None:
        """Redis is at its memory limit."""
        self._refused_at = time.monotonic()
        self._begin(str(error))

    def settle(self, appender: Appender) -> None:
        """Something was appended, or there was nothing to append: it may be over."""
        calm = time.monotonic() - self._refused_at > CALM_SECONDS
        if self._since is not None and calm and not self.is_full(appender):
            self.end()

    def end(self) -> None:
        """The relay is read again, or the chain ended."""
        if self._since is None:
            return
        seconds = time.monotonic() - self._since
        self._since = None
        self.counters.state = State.STREAMING
        self.counters.backpressure_seconds += seconds
        logger.info("backpressure ends %s", log.fields(**{self.kind: self.host}, seconds=seconds))

    def _begin(self, why: str) -> None:
        if self._since is None:
            self._since = time.monotonic()
            self.counters.state = State.FULL
            self.counters.backpressure += 1
            logger.warning("backpressure begins %s", log.fields(**{self.kind: self.host}, why=why))
