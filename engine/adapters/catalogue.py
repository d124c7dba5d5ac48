"""Reading what a database really looks like: needs no right but to connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import errors, sql
from engine.adapters import postgres
from engine.collections import fit
from engine.sql.catalogue import Catalogue, Column, Key, Table

if TYPE_CHECKING:
    import asyncpg


async def read(conn: asyncpg.Connection[Any], schema: str) -> Catalogue:
    """Every table of a schema, in one read-only transaction; empty if there is no such schema."""
    statements = sql.load("catalogue", state="")
    async with (
        postgres.translated_errors(),
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        await conn.execute(
            "SELECT set_config('search_path', $1, true)", f"{sql.quoted(schema)}, public"
        )
        columns = await conn.fetch(statements["catalogue_columns"], schema)
        constraints = await conn.fetch(statements["catalogue_constraints"], schema)
        indexes = await conn.fetch(statements["catalogue_indexes"], schema)
    found: Catalogue = {}
    for row in columns:
        table = found.setdefault(row["table"], Table(row["table"]))
        fields = {name: value for name, value in row.items() if name != "table"}
        table.columns[row["name"]] = Column(**fields)
    for row in constraints:
        if row["table"] in found:
            found[row["table"]].constraints[row["name"]] = row["definition"]
    for name, table in found.items():
        own = [row for row in indexes if row["table"] == name]
        found[name] = Table(
            name,
            table.columns,
            table.constraints,
            {row["name"]: row["definition"] for row in own if not row["of_constraint"]},
            tuple(
                Key(row["name"], tuple(row["columns"]), row["partial"])
                for row in own
                if row["is_unique"]
            ),
            tuple(row["name"] for row in own if not row["is_valid"]),
        )
    return found


async def names(conn: asyncpg.Connection[Any], schema: str) -> set[str]:
    """Names of a schema's tables and views; the caller translates errors."""
    rows = await conn.fetch(sql.load("catalogue", state="")["catalogue_names"], schema)
    return {row["name"] for row in rows}


async def variants(conn: asyncpg.Connection[Any], schema: str) -> dict[str, str | bool]:
    """How this database differs from the reference in what we write, for ``to_plan``.

    Raises:
        SchemaMismatch: it cannot be written as it is; the message names each reason.
    """
    found = await read(conn, schema)
    fatal = [each for each in fit.compare(found) if each.severity is fit.Severity.FATAL]
    if fatal:
        reasons = "; ".join(str(each) for each in fatal)
        raise errors.SchemaMismatch(f"schema {schema} cannot be written: {reasons}")
    return fit.variants(found)
