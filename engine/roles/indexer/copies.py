"""Write the rows of a fold into their tables.

Straight by COPY; where an operator's own unique index may refuse rows of ours that the
reference would not have, by way of a temporary table, and they give way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.adapters import postgres

if TYPE_CHECKING:
    import asyncpg

    from engine.collections.statements import Statements


async def write(
    conn: asyncpg.Connection[Any], statements: Statements, table: str, payload: bytes
) -> int:
    """Write a complete binary COPY; the rows it held. Part of the caller's transaction.

    Driver errors pass through: a refused row's line is in the error's ``context``.

    Raises:
        StoreUnavailable: the connection was lost.
    """
    way = statements.giving_way.get(table)
    if way is None:
        return await postgres.copy_in(conn, *statements.copies[table], payload)
    await conn.execute(way.prepare)
    _, _, columns = statements.copies[table]
    rows = await postgres.copy_in(conn, "pg_temp", way.table, columns, payload)
    await conn.execute(way.insert)
    return rows
