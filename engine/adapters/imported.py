"""Documents that the directory's log told us: looked up before the directory is asked.

A "no" never comes from here. A DID without a row, with a tombstone, without a host, or whose
document an event called changed, is asked for; so is everything while the log is not known up
to a recent time (``IDENTITY_PLC_MAX_AGE_SECONDS``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine import sql
from engine.adapters import postgres
from engine.core.plc import Operation

if TYPE_CHECKING:
    import asyncpg

MOST = 500
"""DIDs in one statement."""


def statements(state_schema: str) -> dict[str, str]:
    """Of ``engine/sql/plc.sql``."""
    return sql.load("plc", state=state_schema)


async def take(
    conn: asyncpg.Connection[Any], named: dict[str, str], operations: Sequence[Operation]
) -> None:
    """Write a page's operations, the last of each DID in DID order, in the caller's transaction."""
    if operations:
        columns = zip(*((o.did, o.created_at, o.handle, o.key, o.pds) for o in operations))  # noqa: B905
        await conn.execute(named["plc_take"], *(list(column) for column in columns))


async def copy(
    conn: asyncpg.Connection[Any], named: dict[str, str], operations: Sequence[Operation]
) -> None:
    """The same of very many, by COPY; ``plc_buffer`` was executed on the connection."""
    rows = [(o.did, o.created_at, o.handle, o.key, o.pds) for o in operations]
    await conn.copy_records_to_table("plc_new", schema_name="pg_temp", records=rows)
    await conn.execute(named["plc_merge"])


async def look_up(
    conn: asyncpg.Connection[Any], named: dict[str, str], dids: Sequence[str], max_age: float
) -> dict[str, Operation]:
    """What may be believed of these; ``max_age`` is in seconds.

    Raises:
        StoreError: Postgres failed.
    """
    async with postgres.translated_errors():
        rows = await conn.fetch(named["plc_look_up"], list(dids), max_age)
    return {row["did"]: Operation(**dict(row)) for row in rows}


@dataclass
class Imported:
    """Look-ups of many tasks over one connection: those that wait are one statement."""

    conn: asyncpg.Connection[Any]
    state_schema: str
    max_age_seconds: float
    _waiting: dict[str, asyncio.Future[Operation | None]] = field(default_factory=dict)
    _asking: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._sql = statements(self.state_schema)

    async def operation(self, did: str) -> Operation | None:
        """What may be believed of a DID, if anything.

        Raises:
            StoreError: Postgres failed.
        """
        future = self._waiting.get(did)
        if future is None:
            future = self._waiting[did] = asyncio.get_running_loop().create_future()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(future)

    async def _ask(self) -> None:
        while self._waiting:
            asked = {did: self._waiting.pop(did) for did in list(self._waiting)[:MOST]}
            try:
                found = await look_up(self.conn, self._sql, list(asked), self.max_age_seconds)
            except BaseException as error:
                for future in asked.values():
                    if not future.done():
                        future.set_exception(error)
                        future.exception()  # whoever waits has it
                if not isinstance(error, Exception):
                    raise
            else:
                for did, future in asked.items():
                    if not future.done():
                        future.set_result(found.get(did))
