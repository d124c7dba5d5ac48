"""Our own tables: ordered migrations, and the rows that a deployment starts with.

Every start of any process comes through ``ensure_state``, so it must be cheap
when nothing is to be done and safe when many processes start at once.
"""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from engine import errors, sql
from engine.adapters import postgres
from engine.core import streams

if TYPE_CHECKING:
    import asyncpg

logger = logging.getLogger(__name__)

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True)
class Migration:
    """One file of ``engine/sql/state``."""

    number: int
    name: str
    text: str


@dataclass(frozen=True)
class State:
    """What a deployment is, once its tables are there."""

    deployment_id: str
    shard_count: int
    applied: tuple[str, ...]
    """Migrations that this call applied."""


def migrations() -> list[Migration]:
    """All migrations in order, numbered from 1 without a gap."""
    found = sorted(
        (
            Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
            for file in files("engine.sql").joinpath("state").iterdir()
            if (match := _FILE.fullmatch(file.name))
        ),
        key=lambda each: each.number,
    )
    if [each.number for each in found] != list(range(1, len(found) + 1)):
        raise errors.InvariantError("migrations are not numbered without a gap")
    return found


async def ensure_state(conn: asyncpg.Connection[Any], schema: str, shard_count: int) -> State:
    """Make our schema as this version needs it; durable on return.

    One transaction under an advisory lock: of processes that start together one
    works and the others find it done; a crash in the middle leaves what was before.

    Args:
        conn: with the right to create a schema, unless it exists.
        schema: DATABASE_STATE_SCHEMA.
        shard_count: SHARD_COUNT, for a new deployment; one that exists keeps its own.

    Raises:
        SchemaMismatch: the tables were made by a newer version.
    """
    statements = sql.load("state", state=schema)
    async with postgres.translated_errors(), conn.transaction():
        await conn.execute("SET LOCAL synchronous_commit = on")
        await conn.execute(statements["state_lock"], f"headrace {schema}")
        applied = await _migrate(conn, schema, statements, migrations())
        await conn.execute(statements["deployment_insert"], secrets.token_hex(8), shard_count)
        deployment = await conn.fetchrow(statements["deployment"])
        assert deployment is not None
        if deployment["shard_count"] != shard_count:
            logger.warning(
                "SHARD_COUNT is %d, but this deployment has %d shards and keeps them: "
                "`headrace reshard` changes the number",
                shard_count,
                deployment["shard_count"],
            )
            shard_count = deployment["shard_count"]
        await conn.execute(statements["shards_insert"], shard_count)
        await conn.execute(statements["positions_insert"], list(streams.SOURCES), shard_count)
    return State(deployment["deployment_id"], shard_count, applied)


async def _migrate(
    conn: asyncpg.Connection[Any],
    schema: str,
    statements: dict[str, str],
    known: list[Migration],
) -> tuple[str, ...]:
    if not await conn.fetchval("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL", schema):
        await conn.execute(statements["schema_create"])
    await conn.execute(statements["migration_table"])
    done = {row["number"]: row["name"] for row in await conn.fetch(statements["migrations"])}
    names = {each.number: each.name for each in known}
    foreign = sorted(number for number, name in done.items() if names.get(number) != name)
    if foreign:
        raise errors.SchemaMismatch(
            f"schema {schema} holds the migration {foreign[0]:04d}_{done[foreign[0]]} of another "
            "version of Headrace: upgrade this one"
        )
    pending = [each for each in known if each.number not in done]
    if pending:
        # Unqualified names in a migration are ours and nobody else's.
        before = await conn.fetchval("SHOW search_path")
        await conn.execute("SELECT set_config('search_path', $1, true)", sql.quoted(schema))
        for each in pending:
            await conn.execute(each.text)
            await conn.execute(statements["migration_insert"], each.number, each.name)
        await conn.execute("SELECT set_config('search_path', $1, true)", before)
    return tuple(f"{each.number:04d}_{each.name}" for each in pending)
