"""``headrace schema``: make the data plane's tables, or say how a database differs from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from engine import errors
from engine.adapters import catalogue, postgres
from engine.collections import fit
from engine.sql import quoted
from engine.sql.catalogue import dataplane, dataplane_ddl

if TYPE_CHECKING:
    import asyncpg

_LOCK = 0x6865_6164_7261_6365
"""Advisory lock of everything that makes tables ("headrace" in ASCII)."""


@dataclass(frozen=True)
class SchemaReport:
    """What ``headrace schema check`` found."""

    schema: str
    server_version: str
    encoding: str
    tables: int
    """Tables of the reference that are there."""
    differences: list[fit.Difference]

    @property
    def writable(self) -> bool:
        """Whether the engine can write this database."""
        return all(each.severity is not fit.Severity.FATAL for each in self.differences)


async def create(conn: asyncpg.Connection[Any], schema: str) -> int:
    """Make every table of the data plane in a schema that holds none of them; tables made.

    One transaction: afterwards all of it is there and durable, or nothing is.
    The schema is created if it is absent, ``pg_trgm`` goes into public. The
    reference's migrations are recorded as done.

    Raises:
        SettingsError: tables of these names exist, the encoding is not UTF8, or ``pg_trgm``
            is missing or elsewhere.
        StoreError: Postgres refused, for example for lack of rights.
    """
    async with postgres.translated_errors(), conn.transaction():
        await conn.execute("SET LOCAL synchronous_commit = on")
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        encoding = await conn.fetchval("SHOW server_encoding")
        if encoding != "UTF8":
            raise errors.SettingsError(f"the database's encoding is {encoding}, it must be UTF8")
        existing = sorted((await catalogue.names(conn, schema)) & dataplane().keys())
        if existing:
            raise errors.SettingsError(
                f"schema {schema} already holds {len(existing)} of the tables, "
                f"{existing[0]} among them: `headrace schema check` compares it with what is needed"
            )
        if not await conn.fetchval("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL", schema):
            await conn.execute(f"CREATE SCHEMA {quoted(schema)}")
        await _ensure_trigrams(conn)
        await conn.execute(
            "SELECT set_config('search_path', $1, true)", f"{quoted(schema)}, public"
        )
        await conn.execute(dataplane_ddl())
    return len(dataplane())


async def _ensure_trigrams(conn: asyncpg.Connection[Any]) -> None:
    where = await conn.fetchval(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pg_trgm'"
    )
    if where is None:
        known = await conn.fetchval(
            "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'"
        )
        if not known:
            raise errors.SettingsError(
                "this Postgres lacks the extension pg_trgm: install its contrib package"
            )
        await conn.execute("CREATE EXTENSION pg_trgm SCHEMA public")
    elif where != "public":
        raise errors.SettingsError(
            f"the extension pg_trgm is in schema {where}, it must be in public: "
            "ALTER EXTENSION pg_trgm SET SCHEMA public"
        )


async def check(conn: asyncpg.Connection[Any], schema: str) -> SchemaReport:
    """Compare a database with what the engine needs; changes nothing, needs no rights.

    Raises:
        StoreError: Postgres cannot be asked.
    """
    found = await catalogue.read(conn, schema)
    async with postgres.translated_errors():
        version = await conn.fetchval("SHOW server_version")
        encoding = await conn.fetchval("SHOW server_encoding")
    differences = fit.compare(found)
    if encoding != "UTF8":
        differences.insert(
            0,
            fit.Difference(
                fit.Severity.FATAL, "(database)", f"encoding is {encoding}", "must be UTF8"
            ),
        )
    present = len(found.keys() & dataplane().keys())
    return SchemaReport(schema, version, encoding, present, differences)


def render_text(report: SchemaReport) -> str:
    """The report for people: what stops the engine first, then what is slow, then variants."""
    of = len(dataplane())
    lines = [
        f"schema {report.schema}, Postgres {report.server_version}: {report.tables} of {of} tables"
    ]
    titles = {
        fit.Severity.FATAL: "cannot be written:",
        fit.Severity.SLOW: "works, but slowly:",
        fit.Severity.FINE: "handled:",
    }
    for severity, title in titles.items():
        own = [each for each in report.differences if each.severity is severity]
        if own:
            lines += ["", title, *(f"  {each}" for each in own)]
    if not report.differences:
        lines.append("no difference from the reference")
    lines += ["", "writable" if report.writable else "not writable"]
    return "\n".join(lines)


def render_json(report: SchemaReport) -> bytes:
    """The report for programs."""
    return msgspec.json.encode(
        {
            "schema": report.schema,
            "server_version": report.server_version,
            "encoding": report.encoding,
            "tables": report.tables,
            "writable": report.writable,
            "differences": report.differences,
        }
    )
