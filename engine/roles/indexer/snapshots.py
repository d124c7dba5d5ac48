"""Fetched repositories: what the database holds of their ranges, and which fetches count.

While ``repo.fetch_id`` names a snapshot on its way, live ops of the repository are noted in
``headrace.touched``. Whether it is, is learned before a batch is written; so the statement that
moves repositories on, and locks them, says what it found, and a batch that was folded by
something else is folded again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from engine import errors

if TYPE_CHECKING:
    import asyncpg

    from engine.collections.statements import Statements
    from engine.core import codec

UPSERT = "upsert_repos"
"""The statement that tells which of its repositories a snapshot of is on its way."""


class Outdated(Exception):
    """A snapshot was asked for, or ended, since the batch was prepared; nothing was written."""


async def resolve(
    conn: asyncpg.Connection[Any],
    lookups: dict[str, str],
    slices: codec.Fetched,
    before: codec.Changes | None = None,
) -> codec.Batch:
    """The batch that makes the database equal to these slices.

    Driver errors pass through.

    Args:
        conn: inside a transaction of the owner's, or beside it with what it writes in ``before``.
        lookups: statements by name.
        slices: not ``blocked`` by ``before``.
        before: changes that are being written.
    """
    answers = [
        (name, await conn.fetchval(lookups[name], *parameters))
        for name, parameters in await asyncio.to_thread(slices.wanted)
    ]
    return await asyncio.to_thread(slices.resolve, answers, before=before)


async def upsert(
    conn: asyncpg.Connection[Any],
    statements: Statements,
    parameters: list[str],
    fetches: dict[str, int],
) -> None:
    """Move repositories on; they are locked until the end of the transaction.

    Raises:
        Outdated: the snapshots on their way are not ``fetches``, by DID.
    """
    found = await conn.fetchval(statements.writes[UPSERT], *parameters)
    if not isinstance(found, str):
        raise errors.InvariantError(f"{UPSERT} answered {found!r}")
    if dict(orjson.loads(found)) != fetches:
        raise Outdated("a snapshot was asked for or ended meanwhile")
