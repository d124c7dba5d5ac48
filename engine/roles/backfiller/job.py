"""One repository on its way through a backfiller, and what is counted about all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.roles.backfiller.directory import Home


@dataclass(eq=False)
class Job:
    """A DID taken from the queue, until its entries are finished."""

    did: str
    entry_ids: list[str]
    home: Home | None = None
    refreshed: bool = False  # its document was read anew in the course of this job
    moved: bool = False  # and named another host
    fetch_id: int | None = None  # of the fetch begun last
    busy: int = 0  # answers that its host has no time
    down: int = 0  # times that its host did not answer

    @property
    def pds(self) -> str | None:
        """Its host, once it is known."""
        return self.home.pds if self.home is not None else None


@dataclass
class Counters:
    """What the process did since it started; for the heartbeat and the log."""

    read: int = 0  # entries of the queue
    done: int = 0  # repositories that reached an end
    outcomes: Counter[str] = field(default_factory=Counter)  # of attempts
    put_off: int = 0
    dead: int = 0
    bytes: int = 0  # fetched
    records: int = 0  # appended
    filtered: int = 0  # left out before they were decoded
    rejected: int = 0
    slices: int = 0
    spooled: int = 0  # bodies that went to a file
    stale: int = 0  # snapshots older than what is indexed
    statuses: int = 0  # told to the accounts' actors
    bad_entries: int = 0
