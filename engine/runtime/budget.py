"""Connections to Postgres: how many the processes of a plan hold, and whether there are so many.

No pool grows with the load: each role has a fixed number of connections, so their sum is known
before the first process starts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from engine import log, sql
from engine.adapters import postgres
from engine.errors import InvariantError, SettingsError
from engine.roles import backfiller, identity, lister
from engine.runtime import services
from engine.runtime.plan import ALONE, ProcessSpec
from engine.settings import Settings, advice
from engine.settings.advice import ConnectionLimits

logger = logging.getLogger(__name__)

OURS = 1
"""Of ``headrace up`` itself: the status."""

WORKING: dict[str, Callable[[Settings], int]] = {
    # One that looks for torn streams; each relay one whenever it begins anew.
    "firehose": lambda settings: 1 + len(settings.ingester.relay_hosts),
    "lister": lambda settings: lister.CONNECTIONS,
    "backfiller": lambda settings: backfiller.CONNECTIONS,
    # One that writes, one that finds labelers and where to begin.
    "labels": lambda settings: 2,
    "indexer": lambda settings: 2,
    "identity": lambda settings: identity.CONNECTIONS,
}
"""How many a process of a role has at a time, at most, to do its work."""


def planned(specs: Iterable[ProcessSpec], settings: Settings) -> dict[str, int]:
    """Connections by role, all processes of it together; pure."""
    found = {"up": OURS}
    for spec in specs:
        # Who must be alone holds its place on a connection of its own.
        count = WORKING[spec.role](settings) + (spec.role in ALONE)
        found[spec.role] = found.get(spec.role, 0) + count
    return found


async def check(settings: Settings, specs: Sequence[ProcessSpec]) -> None:
    """Log the sum and what Postgres allows; warn where others leave too little of it.

    Raises:
        SettingsError: Postgres would never have so many for us; the message says what to change.
        StoreError: Postgres failed.
    """
    by_role = planned(specs, settings)
    conn = await postgres.connect(settings, "up")
    try:
        statements = sql.load("budget", state=settings.database_state_schema)
        async with postgres.translated_errors():
            row = await conn.fetchrow(statements["limits"])
    finally:
        conn.terminate()
    if row is None:
        raise InvariantError("nobody is connected to nothing")
    limits = ConnectionLimits(**row)
    total = sum(by_role.values())
    logger.info(
        "Postgres connections %s",
        log.fields(
            planned=total,
            **by_role,
            allowed=limits.allowed,
            reserved=limits.reserved,
            used_by_others=limits.in_use,
        ),
    )
    indexers = sum(spec.role == "indexer" for spec in specs)
    each = WORKING["indexer"](settings)
    refusal = advice.connections_refusal(total, indexers, each, limits)
    if refusal is not None:
        raise SettingsError(refusal)
    notice = advice.connections_notice(total, limits)
    if notice is not None:
        services.tell([notice])
