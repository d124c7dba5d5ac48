"""What this database is written with: the compiled plan and its statements.

Read from the catalogue at the start of every ownership, because operators alter
tables while an indexer waits for its turn.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import collections, lexicons, sql
from engine.adapters import catalogue
from engine.collections import removal, statements
from engine.core import codec

if TYPE_CHECKING:
    import asyncpg

    from engine.collections.statements import Statements
    from engine.settings import Settings


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tables:
    """Everything that turns entries into rows of one database."""

    plan: codec.Plan
    statements: Statements
    sql: dict[str, str]
    """Statements about shards and positions, by name."""
    deletions: dict[str, str]
    """Statements that take a deleted account out, by name."""
    settling: dict[str, str]
    """Statements about what is unsettled, by name."""
    removals: dict[str, removal.Removal]
    """How rows of each collection go."""


async def load(conn: asyncpg.Connection[Any], settings: Settings) -> Tables:
    """Read the catalogue and compile the plan for it.

    Raises:
        SchemaMismatch: the tables cannot be written as they are; names each reason.
        StoreError: Postgres failed.
    """
    variants = await catalogue.variants(conn, settings.database_schema)
    plan = collections.to_plan(variants)
    return Tables(
        plan=codec.Plan(plan.encode(), lexicons.documents()),
        statements=statements.build(plan, settings.database_schema, settings.database_state_schema),
        sql=sql.load("shards", state=settings.database_state_schema),
        deletions=sql.load("deletions", state=settings.database_state_schema),
        settling=sql.load("settling", state=settings.database_state_schema),
        removals=removal.of_plan(plan),
    )


async def count_quotes(conn: asyncpg.Connection[Any], settings: Settings) -> None:
    """Know how often each CID is quoted, also in a database that held quotes before us.

    Cheap once it is known. Before any of our quotes is written, so before shards are claimed:
    the data plane counts quotes by CID and has no index on it.

    Raises:
        StoreError: Postgres failed.
    """
    state = settings.database_state_schema
    statements = sql.load("quote_count", state=state)
    async with conn.transaction():
        await conn.execute(statements["quote_count_lock"], f"headrace {state} quote_count")
        done = await conn.execute(statements["quote_count_fill"])
    counted = int(done.rpartition(" ")[2])
    if counted:
        logger.info("counted the quotes that were here before: they name %d CIDs", counted)
