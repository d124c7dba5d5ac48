"""The data plane's tables: made as the reference has them, and compared with any database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from engine.adapters import catalogue, embedded
from engine.errors import SettingsError
from engine.ops import schema
from engine.ops.schema_state import ensure_state
from engine.sql.catalogue import Catalogue, dataplane

Connection = asyncpg.Connection


@pytest.fixture
async def conn(database: str) -> AsyncIterator[Connection[Any]]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[Connection[Any]]:
    connection = await asyncpg.connect(empty_database)
    yield connection
    await connection.close()


def as_specified(found: Catalogue) -> dict[str, Any]:
    """A catalogue in the form of the recorded one."""
    return {
        name: {
            "columns": [
                {
                    "name": column.name,
                    "type": column.type,
                    "not_null": column.not_null,
                    "default": column.default,
                    "generated": column.generated,
                }
                for column in table.columns.values()
            ],
            "constraints": named(table.constraints),
            "indexes": named(table.indexes),
        }
        for name, table in found.items()
        if not name.startswith("kysely_")
    }


def named(definitions: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "definition": text} for name, text in sorted(definitions.items())]


def by_name(items: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(items, key=lambda item: item["name"])


async def test_created_tables_equal_the_recorded_catalogue(
    conn: Connection[Any], shared: Path
) -> None:
    recorded = json.loads((shared / "spec" / "schema-catalogue.json").read_text())
    for table in recorded["tables"].values():
        table["constraints"] = by_name(table["constraints"])
        table["indexes"] = by_name(table["indexes"])
    made = as_specified(await catalogue.read(conn, "public"))
    assert made.keys() == recorded["tables"].keys()
    assert len(made) == 53
    for name, table in recorded["tables"].items():
        assert made[name] == table, name


async def test_recorded_rows_and_migrations_are_there(conn: Connection[Any], shared: Path) -> None:
    recorded = json.loads((shared / "spec" / "schema-catalogue.json").read_text())
    names = await conn.fetch("SELECT name FROM kysely_migration ORDER BY timestamp, name")
    assert [row["name"] for row in names] == sorted(recorded["migrations"])
    assert len(names) == 59
    lock = await conn.fetchrow("SELECT id, is_locked FROM kysely_migration_lock")
    assert tuple(lock or ()) == ("migration_lock", 0)
    rows = await conn.fetch("SELECT name, value FROM view_param")
    assert sorted(map(list, rows)) == sorted(recorded["seed_rows"]["view_param"])
    view = await conn.fetch(
        "SELECT attname || ' ' ||"
        " replace(format_type(atttypid, -1), 'character varying', 'varchar')"
        " FROM pg_attribute WHERE attrelid = 'algo_whats_hot_view'::regclass AND attnum > 0"
        " ORDER BY attnum"
    )
    expected = recorded["materialized_views"]["algo_whats_hot_view"]["columns"]
    assert [row[0] for row in view] == expected


async def test_oldest_supported_postgres_makes_the_same_tables(short_dir: Path) -> None:
    binaries = Path("/usr/lib/postgresql/15/bin")
    if not await asyncio.to_thread(binaries.is_dir):
        pytest.skip("Postgres 15 is not installed here")
    settings = embedded.Postgres.FAST_AND_LOSSY
    with embedded.Postgres(short_dir / "15", settings=settings, bin_dir=binaries) as server:
        connection = await asyncpg.connect(server.url)
        await schema.create(connection, "public")
        report = await schema.check(connection, "public")
        made = await catalogue.read(connection, "public")
        await ensure_state(connection, "headrace", 4)
        await connection.close()
    assert report.server_version.startswith("15.")
    assert report.differences == []
    assert as_specified(made) == as_specified(dataplane())


async def test_definitions_read_from_the_ddl_equal_what_postgres_made(
    conn: Connection[Any],
) -> None:
    made = await catalogue.read(conn, "public")
    expected = dataplane()
    assert made.keys() == expected.keys()
    for name, table in expected.items():
        assert made[name].columns == table.columns
        assert list(made[name].columns) == list(table.columns)
        assert made[name].constraints == table.constraints
        assert made[name].indexes == table.indexes
        keys = {(key.name, key.columns) for key in made[name].keys}
        assert keys == {(key.name, key.columns) for key in table.keys}


async def test_fresh_database_has_no_difference(conn: Connection[Any]) -> None:
    report = await schema.check(conn, "public")
    assert report.differences == []
    assert report.writable
    assert "no difference" in schema.render_text(report)


async def test_another_schema_is_created_and_equals_public(empty: Connection[Any]) -> None:
    assert await schema.create(empty, "bsky") == len(dataplane())
    report = await schema.check(empty, "bsky")
    assert report.differences == []
    assert await empty.fetchval("SHOW search_path") == '"$user", public'
    where = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pg_trgm'"
    assert await empty.fetchval(where) == "public"
    with pytest.raises(SettingsError, match="already holds"):
        await schema.create(empty, "bsky")
