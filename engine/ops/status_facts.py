"""What the two stores said, as it was read: from it ``ops.status`` makes a status."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from engine.core import streams
from engine.ops.backfill_status import Backfill
from engine.ops.label_status import LabelRows, LabelStream


class Gap(Struct):
    """Frames that a relay no longer served when they were asked for."""

    generation: int
    after_seq: int
    before_seq: int | None
    reason: str
    noted_at: str


class Identity(Struct):
    """Look-ups."""

    due: int = 0  # never tried, or to be tried now
    later: int = 0  # failed, to be tried again at a time to come


class Deletions(Struct):
    """Accounts called deleted whose rows are still there."""

    due: int = 0  # to be confirmed now, or confirmed
    later: int = 0  # their hosts did not say, to be asked again at a time to come


class SourceFacts(Struct):
    """The streams of one source, by shard."""

    streams: dict[int, tuple[int, str] | None] = msgspec.field(
        default_factory=dict
    )  # length, last id; None: no such stream
    added: dict[int, int] = msgspec.field(default_factory=dict)  # entries ever added
    oldest_waiting: dict[int, str] = msgspec.field(default_factory=dict)  # entry id
    events: dict[int, int] = msgspec.field(default_factory=dict)
    bytes: dict[int, int] = msgspec.field(default_factory=dict)


class RedisFacts(Struct):
    """What Redis said, in the order it was asked."""

    now: float = 0.0  # its clock, unix seconds: entry ids are of the same clock
    epoch: str = ""
    cursors: dict[str, int | None] = msgspec.field(default_factory=dict)  # by host
    sources: dict[str, SourceFacts] = msgspec.field(default_factory=dict)
    queue: int | None = None  # entries in the queue of repositories to fetch
    queue_taken: int | None = None  # of them, those that somebody fetches
    processes: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    labels: LabelStream = msgspec.field(default_factory=LabelStream)


class Position(Struct):
    """One shard's committed position."""

    shard: int
    epoch: str
    entry_id: str
    relays: dict[str, dict[str, int]]
    entries: int = 0  # committed in this epoch
    age_seconds: float | None = None  # since it was written


def waiting(position: Position | None, last_id: str | None, epoch: str) -> bool:
    """Whether the stream holds, or held, something that the position does not cover.

    A position of another epoch covers nothing of these streams.
    """
    same = position is not None and position.epoch == epoch
    return streams.is_beyond(last_id, position.entry_id if same and position else "0-0")


class RelayRow(Struct):
    """A relay and the generation of its seqs."""

    host: str
    generation: int
    first_seq: int


class PostgresFacts(Struct):
    """What Postgres said."""

    epoch: str = ""
    shard_count: int = 0
    relays: list[RelayRow] = msgspec.field(default_factory=list)
    positions: dict[str, list[Position]] = msgspec.field(default_factory=dict)  # by source
    owners: dict[int, str | None] = msgspec.field(default_factory=dict)
    gaps: dict[str, list[Gap]] = msgspec.field(default_factory=dict)
    identity: Identity = msgspec.field(default_factory=Identity)
    deletions: Deletions = msgspec.field(default_factory=Deletions)
    dead_letters: dict[str, int] = msgspec.field(default_factory=dict)
    resync: int = 0
    backfill: Backfill = msgspec.field(default_factory=Backfill)
    unsettled: int = 0
    labels: LabelRows = msgspec.field(default_factory=LabelRows)
