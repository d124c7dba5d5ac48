"""Rows that Postgres refuses, and the ops that wrote them.

What can be decided before is decided in Rust; what is left depends on the server
(a key too long for an index after its compression, constraints of the operator's).
The first refusal ends the transaction. Then the rows are tried once more, part by
part, in a transaction that is rolled back: so all bad rows of a batch are known after
one round, however many there are, and nobody can slow an indexer down with them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import asyncpg

from engine.roles.indexer import copies

if TYPE_CHECKING:
    from engine.collections.statements import Statements
    from engine.core import codec

BAD_DATA = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""Errors of the data, not of the server: invalid text, a key that exists, a key too long."""

MIN_LINES, MAX_LINES = 4, 512
"""Rows tried at once: fewer after a bad one, behind which all are sent in vain, else more."""

_NUMBER = re.compile(r"\d+")


class Refused(Exception):
    """Postgres refused a row or a statement; nothing of the batch was written."""

    def __init__(
        self, message: str, changes: codec.Changes | None = None, *, exists: bool = False
    ) -> None:
        """``changes`` of which a row was refused; None for a statement.

        ``exists`` if one with its key is there already.
        """
        super().__init__(message)
        self.exists = exists
        self.message = message
        self.changes = changes
        self.ops: dict[int, str] = {}
        """The ops that wrote refused rows, with the server's words; filled by ``find``."""


def refused_line(context: str | None, table: str) -> int | None:
    """The line of a COPY that an error's context names, in whatever language the server speaks.

    The outermost context is the COPY: the table, then the line, then perhaps a column.
    """
    lines = (context or "").splitlines()
    line = _NUMBER.search(lines[-1].partition(table)[2]) if lines else None
    return int(line.group()) if line else None


async def find(
    conn: asyncpg.Connection[Any], statements: Statements, changes: codec.Changes
) -> dict[int, str]:
    """The ops whose rows Postgres refuses, with its words; nothing that is tried stays.

    A row that only fails beside another one of its part may be missed; it is then
    refused, and found, the next time.
    """
    refused: dict[int, str] = {}
    trial = conn.transaction()
    await trial.start()
    try:
        for name, parameters in changes.deletes():
            await conn.execute(statements.writes[name], *parameters)
        for copy, (table, _, count) in enumerate(changes.copies()):
            line, size = 1, MAX_LINES
            while line <= count:
                try:
                    async with conn.transaction():
                        part = changes.part(copy, line, size)
                        await copies.write(conn, statements, table, part)
                    line, size = line + size, min(MAX_LINES, 2 * size)
                except BAD_DATA as refusal:
                    at = refused_line(getattr(refusal, "context", None), table)
                    if at is None:
                        return refused
                    refused[changes.op_of(copy, line + at - 1)] = str(refusal)
                    line, size = line + at, max(MIN_LINES, size // 4)
    finally:
        if not conn.is_closed():
            await trial.rollback()
    refused.pop(-1, None)
    return refused
