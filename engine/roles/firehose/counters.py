"""What one relay did since the process started: for the heartbeat, the log and metrics."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from engine.adapters.websocket import End

MAX_NOTICE_NAMES = 32
"""Names of notices counted one by one; the protocol knows half a dozen."""


class State(StrEnum):
    """What a relay's chain is doing."""

    STARTING = "starting"
    STORES = "waiting for stores"  # Redis or Postgres is away
    CONNECTING = "connecting"
    STREAMING = "streaming"
    FULL = "backpressure"
    WAITING = "waiting to reconnect"
    STANDBY = "standby"  # another relay of the list is read


class Restart(StrEnum):
    """Why a chain began anew where the websocket was not the reason; `End` has the others."""

    STORE = "store"  # Redis or Postgres failed
    EPOCH = "epoch"  # the streams were lost or made anew
    ERROR_FRAME = "error_frame"  # the relay said why it will not go on
    NEW_GENERATION = "new_generation"  # the relay's seqs started anew
    DISMISSED = "dismissed"  # a preferred relay is read instead


@dataclass
class RelayCounters:
    """Counts never go down; `reconnects` and the like are keyed by closed sets of words."""

    state: State = State.STARTING
    connected: bool = False
    generation: int | None = None
    received_seq: int | None = None  # of the last frame durably appended
    last_time: str | None = None  # of that frame, as the relay says
    last_frame_at: float | None = None  # on the monotonic clock
    frames: int = 0
    bytes: int = 0
    text_frames: int = 0
    batches: int = 0
    ops: int = 0  # appended; filtered and rejected ones included
    filtered: int = 0
    rejected_ops: int = 0
    backwards: int = 0  # times that the seq fell inside a connection
    backpressure: int = 0  # times that it was entered
    backpressure_seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)  # appended, as the decoder names them
    rejected: Counter[str] = field(default_factory=Counter)  # frames, by reason
    notices: Counter[str] = field(default_factory=Counter)  # by name
    reconnects: Counter[str] = field(
        default_factory=lambda: Counter({str(word): 0 for word in (*End, *Restart)})
    )

    def note(self, name: str) -> None:
        """Count a notice. Names are a stranger's words: few and short ones are kept."""
        name = name[:64]
        known = name in self.notices or len(self.notices) < MAX_NOTICE_NAMES
        self.notices[name if known else "other"] += 1

    def report(self, now: float) -> dict[str, object]:
        """As JSON values; `now` is on the monotonic clock."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        at = values.pop("last_frame_at")
        values["last_frame_age"] = None if at is None else round(now - at, 3)
        values["backpressure_seconds"] = round(self.backpressure_seconds, 3)
        return {
            name: dict(value) if isinstance(value, Counter) else value
            for name, value in values.items()
        }


def totals(relays: Mapping[str, RelayCounters]) -> dict[str, int]:
    """Frames read, and ops written, filtered and rejected, of all relays together."""
    all_ops = sum(c.ops for c in relays.values())
    filtered = sum(c.filtered for c in relays.values())
    rejected = sum(c.rejected_ops for c in relays.values())
    return {
        "read": sum(c.frames for c in relays.values()),
        "written": all_ops - filtered - rejected,
        "filtered": filtered,
        "rejected": rejected,
    }


def places(relays: Mapping[str, RelayCounters]) -> dict[str, str]:
    """Where each relay is, ``HOST/GENERATION:SEQ``, and its state, for one line of the log."""
    return {
        "position": ",".join(
            f"{host}/{c.generation}:{c.received_seq}"
            for host, c in relays.items()
            if c.received_seq is not None
        ),
        "state": ",".join(dict.fromkeys(str(c.state) for c in relays.values())),
    }


def reaches_back(relays: Mapping[str, RelayCounters], first: str | None) -> bool:
    """Whether a relay whose oldest event has this time begins where the others had come to.

    True where nothing was read before. What was read before this process started has no known
    time here, and counts as not reached; so does a time that is none.
    """
    read = [c for c in relays.values() if c.received_seq or c.last_time]
    known = [at for c in read if (at := _instant(c.last_time)) is not None]
    began = _instant(first)
    return not read or (bool(known) and began is not None and began <= max(known))


def is_behind(relay: RelayCounters, other: RelayCounters) -> bool:
    """Whether a relay's last event is older than the other's; False where that has no time."""
    there = _instant(other.last_time)
    here = _instant(relay.last_time)
    return there is not None and (here is None or here < there)


def _instant(time: str | None) -> float | None:
    """Seconds since 1970; None where a relay's word for a time is none."""
    try:
        return datetime.fromisoformat(time or "").timestamp()
    except (ValueError, OverflowError):
        return None
