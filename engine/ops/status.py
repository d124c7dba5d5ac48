"""What is received, what is indexed, and who is at work: one reading of both stores.

``indexed_seq`` of a relay is the seq up to which everything it sent is in Postgres. It is read in
an order that makes it a promise: the relay's cursor in Redis first, then every
shard's position in Postgres, then the last id of every stream. A shard with nothing
beyond its position holds everything up to that cursor; another holds what its position says.
The lowest shard decides.

A store that is away is named in ``errors``; what it would have said is null or
empty. Reading costs a few round trips and no scan, whatever the size of the tables
(``dead_letters`` counts a table that is small as long as all is well).
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from engine.core import streams
from engine.ops import backfill_status, label_status
from engine.ops.backfill_status import Backfill
from engine.ops.label_status import Labels
from engine.ops.status_facts import (
    Deletions,
    Gap,
    Identity,
    Position,
    PostgresFacts,
    RedisFacts,
    RelayRow,
    SourceFacts,
    waiting,
)

_OF_SHARDS = ("firehose", "indexer", "backfiller")
"""Roles that fill or read the shards; without any of them these need not even be there."""


class Relay(Struct):
    """One relay: how far it is received and how far it is indexed."""

    received_seq: int | None = None  # of the last frame in the streams
    indexed_seq: int | None = None  # everything up to it is in Postgres
    generation: int | None = None
    lag_seconds: float | None = None  # age in the streams of the oldest frame not indexed; 0: none
    connected: bool | None = None  # null where no ingester tells
    active: bool | None = None  # False: stands by for another of the list; null as above
    last_time: str | None = None  # of the last frame, as the relay says
    notices: dict[str, int] = msgspec.field(default_factory=dict)
    gaps: list[Gap] = msgspec.field(default_factory=list)


class Shard(Struct):
    """One shard of a source."""

    entries: int | None = None  # in the stream, kept ones included
    events: int | None = None
    bytes: int | None = None
    last_id: str | None = None  # the newest entry's
    committed_id: str | None = None  # rows of everything up to it are committed
    waiting: bool = False  # something lies beyond the committed entry
    lag_entries: int | None = None  # entries beyond it
    lag_seconds: float | None = None  # age in the stream of the oldest of them; 0: none
    progress_seconds: float | None = None  # since the position was last written
    owner: str | None = None


class Stream(Struct):
    """One source over its shards."""

    events: int = 0
    bytes: int = 0
    entries: int = 0
    shards: dict[str, Shard] = msgspec.field(default_factory=dict)


class Status(Struct):
    """Everything. ``relays``, ``streams`` and ``processes`` are keyed by name."""

    at: float = 0.0  # unix seconds
    relays: dict[str, Relay] = msgspec.field(default_factory=dict)
    streams: dict[str, Stream] = msgspec.field(default_factory=dict)
    processes: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    identity: Identity = msgspec.field(default_factory=Identity)
    deletions: Deletions = msgspec.field(default_factory=Deletions)
    dead_letters: dict[str, int] = msgspec.field(default_factory=dict)  # by reason
    resync: int = 0  # repositories to fetch again
    backfill: Backfill = msgspec.field(default_factory=Backfill)
    labels: Labels = msgspec.field(default_factory=Labels)
    unsettled: int = 0  # posts and gates that another indexer may have missed
    errors: list[str] = msgspec.field(default_factory=list)


def assemble(redis: RedisFacts | None, postgres: PostgresFacts | None, hosts: list[str]) -> Status:
    """Put the readings together; pure.

    Args:
        redis: None where Redis is away.
        postgres: None where Postgres is away.
        hosts: canonical names of the relays in the settings, for as long as neither Postgres
            nor an ingester names any.
    """
    status = Status(at=time.time())
    told = redis or RedisFacts()
    known = postgres or PostgresFacts()
    status.processes = told.processes
    status.identity = known.identity
    status.deletions = known.deletions
    status.dead_letters = known.dead_letters
    status.resync = known.resync
    status.unsettled = known.unsettled
    status.backfill = known.backfill
    status.backfill.queue, status.backfill.queue_taken = told.queue, told.queue_taken
    status.labels = label_status.assemble(
        told.labels if redis else None, known.labels, told.processes.values()
    )
    for source in dict.fromkeys((streams.LIVE, *known.positions)):
        status.streams[source] = _stream(source, told, known, has_redis=redis is not None)
    stream = status.streams[streams.LIVE]
    rows = {row.host: row for row in known.relays}
    reported = {host for process in told.processes.values() for host in process.get("relays", ())}
    for host in sorted({*rows, *reported} or hosts):
        status.relays[host] = _relay(host, rows.get(host), told, known, stream)
    if redis is None:
        for relay in status.relays.values():
            relay.lag_seconds = None
    return status


def _stream(source: str, told: RedisFacts, known: PostgresFacts, *, has_redis: bool) -> Stream:
    positions = {position.shard: position for position in known.positions.get(source, [])}
    said = told.sources.get(source, SourceFacts())
    shards: dict[str, Shard] = {}
    for number in sorted({*said.streams, *positions}):
        length, last_id = said.streams.get(number) or (None, None)
        position = positions.get(number)
        late = has_redis and waiting(position, last_id, told.epoch)
        oldest = said.oldest_waiting.get(number)
        shards[str(number)] = Shard(
            entries=length,
            events=said.events.get(number, 0) if has_redis else None,
            bytes=said.bytes.get(number, 0) if has_redis else None,
            last_id=last_id,
            committed_id=position.entry_id if position else None,
            waiting=late,
            lag_entries=_lag_entries(said.added.get(number), position, told.epoch),
            lag_seconds=_age(oldest, told.now) if late else (0.0 if has_redis else None),
            progress_seconds=position.age_seconds if position else None,
            owner=known.owners.get(number),
        )
    return Stream(
        events=sum(said.events.values()),
        bytes=sum(said.bytes.values()),
        entries=sum(shard.entries or 0 for shard in shards.values()),
        shards=shards,
    )


def _lag_entries(added: int | None, position: Position | None, epoch: str) -> int | None:
    if added is None or position is None or position.epoch != epoch:
        return added
    return max(0, added - position.entries)


def _age(entry_id: str | None, now: float) -> float | None:
    if entry_id is None:
        return None
    return round(max(0.0, now - streams.id_parts(entry_id)[0] / 1000), 3)


def _relay(
    host: str, row: RelayRow | None, told: RedisFacts, known: PostgresFacts, stream: Stream
) -> Relay:
    relay = Relay(received_seq=told.cursors.get(host), gaps=known.gaps.get(host, []))
    for process in told.processes.values():
        _take_report(relay, process, host)
    if row is None:
        return relay
    relay.generation = row.generation
    relay.indexed_seq = indexed_seq(
        row, relay.received_seq, known.positions.get(streams.LIVE, []), stream
    )
    relay.lag_seconds = max((s.lag_seconds or 0.0 for s in stream.shards.values()), default=0.0)
    return relay


def indexed_seq(
    row: RelayRow, received: int | None, positions: list[Position], stream: Stream
) -> int:
    """The seq up to which everything of this relay is in Postgres.

    Args:
        row: the relay; a shard that never saw it counts as its first seq.
        received: its cursor, read before everything else; None where Redis does not know it.
        positions: one a shard.
        stream: the shards, with what lies beyond each position.
    """
    key = f"{row.host}/{row.generation}"
    lowest: int | None = None
    for position in positions:
        held = position.relays.get(key, {}).get("seq", row.first_seq)
        shard = stream.shards.get(str(position.shard))
        covered = shard is not None and shard.last_id is not None and not shard.waiting
        seq = received if covered and received is not None else held
        lowest = seq if lowest is None else min(lowest, seq)
    return row.first_seq if lowest is None else lowest


def _take_report(relay: Relay, process: Mapping[str, object], host: str) -> None:
    """What the ingester's heartbeat says about this relay."""
    relays = process.get("relays")
    said = relays.get(host) if isinstance(relays, dict) else None
    if not isinstance(said, dict):
        return
    if isinstance(said.get("connected"), bool):
        relay.connected = said["connected"]
    if isinstance(said.get("active"), bool):
        relay.active = said["active"]
    if isinstance(said.get("last_time"), str):
        relay.last_time = said["last_time"]
    notices = said.get("notices")
    if isinstance(notices, dict):
        relay.notices = {str(name): int(count) for name, count in notices.items()}


def caught_up(status: Status, hosts: Iterable[str], roles: Container[str] = _OF_SHARDS[:2]) -> bool:
    """Whether everything received is indexed and settled, and no identity or deletion is due.

    With the lister among the roles every host that answers is listed, too; with the backfiller
    every repository has its outcome, and what was fetched is indexed. With the labels role every
    labeler is connected, and what it sent is indexed.

    True only where both stores answered and every one of these relays was reached, those apart
    that stand by for another; a relay that was given up does not count. Silence of the relays is
    for the caller to judge, over time.
    """
    relays = [status.relays.get(host, Relay()) for host in hosts]
    return (
        not status.errors
        and all(_all_indexed(relay) for relay in relays if relay.active is not False)
        and not (relays and all(relay.active is False for relay in relays))
        and not (any(role in roles for role in _OF_SHARDS) and _has_waiting(status))
        and status.identity.due == 0
        and status.deletions.due == 0
        and status.unsettled == 0
        and backfill_status.caught_up(status.backfill, roles)
        and label_status.caught_up(status.labels, roles)
    )


def _has_waiting(status: Status) -> bool:
    return any(
        shard.waiting for source in status.streams.values() for shard in source.shards.values()
    )


def _all_indexed(relay: Relay) -> bool:
    return (
        relay.connected is True
        and relay.generation is not None
        and relay.received_seq in (None, relay.indexed_seq)
    )


def render_json(status: Status) -> bytes:
    """One JSON document, for programs."""
    return orjson.dumps(msgspec.to_builtins(status))


def render_text(status: Status) -> str:
    """A few lines for a person."""
    lines = []
    for host, relay in status.relays.items():
        connected = {True: "connected", False: "not connected", None: "no ingester"}
        standby = ", stands by" if relay.active is False else ""
        lines.append(
            f"relay {host}: {connected[relay.connected]}{standby}, "
            f"received {_or_dash(relay.received_seq)}, "
            f"indexed {_or_dash(relay.indexed_seq)}, lag {_or_dash(relay.lag_seconds)} s"
            + "".join(f", {name} x{count}" for name, count in sorted(relay.notices.items()))
        )
        lines += [
            f"  gap after {gap.after_seq} before {_or_dash(gap.before_seq)}: {gap.reason}"
            for gap in relay.gaps
        ]
    for name, stream in status.streams.items():
        late = sum(shard.waiting for shard in stream.shards.values())
        lines.append(
            f"stream {name}: {stream.events} events, {stream.bytes} bytes, "
            f"{late} of {len(stream.shards)} shards with something to index"
        )
    lines += label_status.lines(status.labels)
    for name, process in status.processes.items():
        lines.append(
            f"process {name}: {process.get('state')}, host {process.get('host')}, "
            f"pid {process.get('pid')}, "
            f"core {_or_dash(process.get('core'))}, heard {process.get('age', 0):.1f} s ago"
            + "".join(f", {name} is {state}" for name, state in _late(process).items())
        )
    lines.append(f"identities: {status.identity.due} due, {status.identity.later} later")
    lines.append(f"deletions: {status.deletions.due} due, {status.deletions.later} later")
    letters = ", ".join(f"{reason} {count}" for reason, count in status.dead_letters.items())
    lines.append(f"dead letters: {letters or 'none'}")
    lines.append(f"repositories to fetch again: {status.resync}")
    lines += backfill_status.lines(status.backfill)
    lines += [f"error: {error}" for error in status.errors]
    return "\n".join(lines)


def _late(process: Mapping[str, Any]) -> dict[str, str]:
    """Of a supervisor: its processes that are not ready, with their states."""
    late = process.get("not_ready")
    return late if isinstance(late, dict) else {}


def progress_line(status: Status) -> str:
    """One line of progress, for a terminal."""
    parts = [
        f"{host} {_or_dash(relay.indexed_seq)}/{_or_dash(relay.received_seq)}"
        for host, relay in status.relays.items()
    ]
    waiting_events = sum(stream.events for stream in status.streams.values())
    parts.append(f"{waiting_events} events in streams")
    parts.append(f"{status.identity.due} identities due")
    if status.deletions.due:
        parts.append(f"{status.deletions.due} deletions due")
    parts += backfill_status.progress(status.backfill)
    parts += label_status.progress(status.labels)
    letters = sum(status.dead_letters.values())
    if letters:
        parts.append(f"{letters} dead letters")
    parts += [f"({error})" for error in status.errors]
    return "  ".join(parts)


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
