"""Where labels stand: labelers, the stream between, and what is missing. Pure.

Quiet labelers are normal. One has nothing more to send when it is connected and all that came is
indexed; whether nothing more comes is for the caller to judge, over time.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from engine.core import streams

ROLE = "labels"


class LabelGap(Struct):
    """Frames that a labeler no longer served when they were asked for."""

    generation: int
    after_seq: int
    before_seq: int
    noted_at: str


class Labeler(Struct):
    """One host of labelers. What its chain says is null where no labels role reads it."""

    state: str | None = None
    connected: bool | None = None
    named: bool | None = None  # by the settings; False: found by its record
    pending: bool | None = None  # frames are in hand that are not in the stream yet
    failures: int = 0  # since the last success
    generation: int | None = None
    received_seq: int | None = None  # of the last frame in the stream
    indexed_seq: int | None = None  # everything up to it is in Postgres
    last_frame_age: float | None = None  # seconds
    labels: int = 0  # that came, ever, whatever became of them
    rejected: int = 0  # of them
    unverified: int = 0  # taken without a signature that was checked and good
    letters_left_out: int = 0  # dead letters that were not kept
    notices: dict[str, int] = msgspec.field(default_factory=dict)
    gap_count: int = 0
    gaps: list[LabelGap] = msgspec.field(default_factory=list)  # the newest of all labelers


class Labels(Struct):
    """Labelers by host, and the stream that they share."""

    labelers: dict[str, Labeler] = msgspec.field(default_factory=dict)
    events: int = 0  # in the stream, committed ones not yet trimmed included
    bytes: int = 0
    waiting: bool = False  # something lies beyond what is committed
    unplaced: int | None = None  # labelers whose host is still asked for; null: no role tells
    discovered_at: float | None = None  # unix seconds of the last look for them; null: never


class LabelPosition(Struct):
    """One life of a labeler's seqs, as Postgres has it."""

    host: str
    generation: int
    seq: int
    outcomes: dict[str, int]
    unverified: int
    letters_left_out: int


class LabelRows(Struct):
    """What Postgres said."""

    epoch: str = ""
    entry_id: str = "0-0"
    positions: list[LabelPosition] = msgspec.field(default_factory=list)
    gap_counts: dict[str, int] = msgspec.field(default_factory=dict)  # by host
    gaps: list[tuple[str, int, int, int, str]] = msgspec.field(default_factory=list)


class LabelStream(Struct):
    """What Redis said; the cursors were read before Postgres, the rest after it."""

    cursors: dict[str, int | None] = msgspec.field(default_factory=dict)  # by host
    epoch: str = ""
    last_id: str | None = None  # null: no such stream
    events: int = 0
    bytes: int = 0


def assemble(
    told: LabelStream | None, known: LabelRows, processes: Iterable[Mapping[str, Any]]
) -> Labels:
    """Put the readings together.

    Args:
        told: None where Redis is away.
        known: empty where Postgres is away.
        processes: heartbeats, of any roles.
    """
    labels = Labels()
    if told is not None and known.epoch:  # without one there never was a stream
        committed = known.entry_id if told.epoch == known.epoch else "0-0"
        labels.waiting = streams.is_beyond(told.last_id, committed)
    for row in known.positions:
        labeler = labels.labelers.setdefault(row.host, Labeler())
        if row.generation >= (labeler.generation or 0):
            labeler.generation, labeler.indexed_seq = row.generation, row.seq
        labeler.labels += sum(row.outcomes.values())
        labeler.rejected += sum(
            count for outcome, count in row.outcomes.items() if outcome.startswith("rejected:")
        )
        labeler.unverified += row.unverified
        labeler.letters_left_out += row.letters_left_out
    for host, count in known.gap_counts.items():
        labels.labelers.setdefault(host, Labeler()).gap_count = count
    for host, generation, after, before, at in known.gaps:
        gap = LabelGap(generation, after, before, at)
        labels.labelers.setdefault(host, Labeler()).gaps.append(gap)
    for process in processes:
        if process.get("role") == ROLE:
            _take_report(labels, process)
    if told is not None:
        labels.events, labels.bytes = told.events, told.bytes
        for host, labeler in labels.labelers.items():
            cursor = told.cursors.get(host)
            labeler.received_seq = cursor
            if cursor is not None and not labels.waiting and labeler.indexed_seq is not None:
                labeler.indexed_seq = cursor
    return labels


def _take_report(labels: Labels, process: Mapping[str, Any]) -> None:
    labels.unplaced = process.get("unplaced")
    labels.discovered_at = process.get("discovered_at")
    said = process.get("labelers")
    for host, told in said.items() if isinstance(said, dict) else ():
        labeler = labels.labelers.setdefault(host, Labeler())
        for name in ("state", "connected", "named", "pending", "last_frame_age"):
            setattr(labeler, name, told.get(name))
        labeler.failures = told.get("failures", 0)
        labeler.notices = dict(told.get("notices") or {})


def caught_up(labels: Labels, roles: Container[str]) -> bool:
    """Whether every labeler that is read is connected, and all that came of it is indexed.

    One that the settings name must be reached. One that was found by its record may be gone for
    good: it does not count once it failed.

    Args:
        labels: as they stand.
        roles: asked for only where ``labels`` is among them.
    """
    if ROLE not in roles:
        return True
    read = [labeler for labeler in labels.labelers.values() if labeler.state is not None]
    return not labels.waiting and labels.unplaced == 0 and all(_is_quiet(each) for each in read)


def _is_quiet(labeler: Labeler) -> bool:
    if not labeler.connected:
        return labeler.named is False and labeler.failures > 0
    return (
        labeler.pending is False
        and labeler.generation is not None
        and labeler.received_seq in (None, labeler.indexed_seq)
    )


def lines(labels: Labels) -> list[str]:
    """For a person: a line for each host of labelers, one for each gap."""
    found = []
    for host, labeler in labels.labelers.items():
        notices = sorted(labeler.notices.items())
        found.append(
            f"labeler {host}: {labeler.state or 'not read'}, "
            f"received {_or_dash(labeler.received_seq)}, "
            f"indexed {_or_dash(labeler.indexed_seq)}, "
            f"{labeler.labels} labels, {labeler.rejected} rejected"
            + (f", {labeler.unverified} unverified" if labeler.unverified else "")
            + (
                f", {labeler.letters_left_out} dead letters not kept"
                if labeler.letters_left_out
                else ""
            )
            + (f", {labeler.gap_count} gaps" if labeler.gap_count else "")
            + "".join(f", {name} x{count}" for name, count in notices)
        )
        found += [
            f"  gap after {gap.after_seq} before {gap.before_seq}: the labeler no longer has them"
            for gap in labeler.gaps
        ]
    if labels.unplaced:
        found.append(f"labelers whose host is not known yet: {labels.unplaced}")
    return found


def progress(labels: Labels) -> list[str]:
    """For the line of progress."""
    if not labels.labelers:
        return []
    total = sum(labeler.labels for labeler in labels.labelers.values())
    return [f"{total} labels"]


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
