"""What the chains of a session share, and what stays of a host between two sessions."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass, field

from engine.adapters import resp
from engine.core import streams
from engine.core.backoff import Backoff
from engine.roles.firehose.append import Appender
from engine.roles.firehose.counters import RelayCounters
from engine.roles.firehose.epoch import Epoch
from engine.roles.labels.stream import Register
from engine.settings import LabelsSettings

CAP_SECONDS = 300.0
"""Longest pause before a labeler is tried again; many of those that declare themselves are gone."""


@dataclass
class Pipe:
    """What the chains of a session share."""

    redis: resp.RespConnection  # used under the lock: WATCH is per connection
    keys: streams.LabelKeys
    epoch: Epoch
    register: Register
    settings: LabelsSettings
    executor: Executor
    dialing: asyncio.Semaphore  # connections being made
    allow_private: bool
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def appender(self, host: str, generation: int, cursor: int) -> Appender:
        """An appender of one labeler's frames."""
        return Appender(self.redis, self.keys, streams.LABELS, host, self.epoch, generation, cursor)


@dataclass
class Known:
    """What stays of a host between two sessions."""

    counters: RelayCounters = field(default_factory=RelayCounters)
    backoff: Backoff = field(default_factory=lambda: Backoff(cap_seconds=CAP_SECONDS))
    is_read: bool = False  # False: its labelers went elsewhere
    named: bool = False  # by the settings, as a host or by a DID
    pending: bool = False  # frames are in hand, or everything is to be read again

    def report(self, now: float) -> dict[str, object]:
        """As JSON values; `now` is on the monotonic clock."""
        return {
            **self.counters.report(now),
            "named": self.named,
            "pending": self.pending,
            "failures": self.backoff.failures,
        }
