"""What an operator should hear once at start about the settings they gave."""

from __future__ import annotations

import operator
from collections.abc import Mapping

from msgspec import Struct

from engine.settings import predecessor
from engine.settings.predecessor import Fate
from engine.settings.sections import Settings

LOW_MARK_EVENTS = 10_000
"""A high water mark below it makes the ingester wait for every batch of the indexers."""

SMALL_BATCH_ENTRIES = 1000
"""Below it a transaction costs more than the rows in it."""

MEMORY_FACTOR = 1.5
"""Redis' memory for the entries of a stream, per byte of entries."""


class Notice(Struct, frozen=True):
    """One line for the log."""

    variable: str
    warns: bool  # else it informs
    text: str


def notices(
    settings: Settings, sources: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[Notice, ...]:
    """What there is to say; pure.

    Args:
        settings: the effective ones.
        sources: where each came from, by declared name.
        environ: the environment; empty variables count as not set.
    """
    found = [*_of_values(settings)]
    for variable in predecessor.TABLE:
        name = variable.name
        if not environ.get(name, "").strip() or variable.fate == Fate.HONOURED:
            continue
        if variable.fate != Fate.MAPPED:
            found.append(Notice(name, True, f"{variable.fate}: {variable.reason}"))
        elif name in sources[variable.target].split(" and "):
            value = operator.attrgetter(variable.target)(settings)
            text = value if isinstance(value, str) else ",".join(value)
            found.append(
                Notice(name, False, f"read as {variable.target.replace('.', '_').upper()}={text}")
            )
        else:
            by = variable.target.replace(".", "_").upper()
            says = (
                "nothing for us in it" if sources[variable.target] == "default" else f"{by} is set"
            )
            found.append(Notice(name, False, f"without effect: {says}"))
    return tuple(found)


def _of_values(settings: Settings) -> list[Notice]:
    found = []
    mark = settings.ingester.high_water_mark
    if mark < LOW_MARK_EVENTS:
        found.append(
            Notice(
                "INGESTER_HIGH_WATER_MARK",
                True,
                f"{mark} events are so few that relays are read in fits and starts; use "
                f"{LOW_MARK_EVENTS} or more: memory is bounded by INGESTER_HIGH_WATER_BYTES",
            )
        )
    size = settings.indexer.batch_size
    if size < SMALL_BATCH_ENTRIES:
        found.append(
            Notice(
                "INDEXER_BATCH_SIZE",
                True,
                f"at most {size} entries a transaction make indexing slow; better not set: "
                "a batch is what waits, and INDEXER_BATCH_BYTES bounds it",
            )
        )
    return found


def memory_notice(settings: Settings, max_memory: int) -> Notice | None:
    """Whether the marks fit the memory that Redis may use; 0 means it has no limit.

    A Redis at its limit refuses entries, and the ingester waits: nothing is lost, but nobody
    chose that limit, and `headrace status` is blind meanwhile.
    """
    mark = settings.ingester.high_water_bytes
    needed = int(mark * MEMORY_FACTOR)
    if not 0 < max_memory < needed:
        return None
    return Notice(
        "INGESTER_HIGH_WATER_BYTES",
        True,
        f"{mark} bytes of entries need about {needed} bytes in Redis, whose maxmemory is "
        f"{max_memory}: lower the one to {int(max_memory / MEMORY_FACTOR)} or raise the other",
    )


class ConnectionLimits(Struct, frozen=True):
    """What Postgres says about connections; a negative limit is none."""

    most: int  # max_connections
    reserved: int  # of them, for superusers and their like
    of_role: int  # CONNECTION LIMIT of the user that we are
    of_database: int
    in_use: int  # by others, now

    @property
    def allowed(self) -> int:
        """How many we could have if nobody else had any."""
        limits = (self.most - self.reserved, self.of_role, self.of_database)
        return min(limit for limit in limits if limit >= 0)


def connections_refusal(
    planned: int, indexers: int, each: int, limits: ConnectionLimits
) -> str | None:
    """Why so many connections can never be had, and what to do; None where they can.

    Args:
        planned: of all processes of this machine.
        indexers: how many of these are indexers.
        each: connections of an indexer.
        limits: of the server.
    """
    missing = planned - limits.allowed
    if missing <= 0:
        return None
    cures = []
    if planned > limits.most - limits.reserved:
        cures.append(f"set max_connections of Postgres to {planned + limits.reserved} or more")
    if planned > limits.of_role >= 0:
        cures.append(f"give the user a CONNECTION LIMIT of {planned} or more")
    if planned > limits.of_database >= 0:
        cures.append(f"give the database a CONNECTION LIMIT of {planned} or more")
    text = f"{planned} connections are planned and Postgres allows {limits.allowed}: "
    text += " and ".join(cures)
    fewer = (indexers * each - missing) // each
    if fewer > 0:
        text += f", or set INDEXER_PROCESSES to {fewer} or less"
    return text


def connections_notice(planned: int, limits: ConnectionLimits) -> Notice | None:
    """Whether others leave enough connections; what they hold now they may let go of soon."""
    free = limits.most - limits.reserved - limits.in_use
    if planned <= free:
        return None
    needed = planned + limits.in_use + limits.reserved
    return Notice(
        "DATABASE_URL",
        True,
        f"{planned} connections are planned, and of the {limits.most} of Postgres {limits.in_use} "
        f"are in use and {limits.reserved} reserved: processes will wait for those that are "
        f"missing; set max_connections to {needed} or more, or lower INDEXER_PROCESSES",
    )
