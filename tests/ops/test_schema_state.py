"""Our own tables: migrations add up, run once, together, and not by half."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from engine.adapters import catalogue
from engine.errors import SchemaMismatch, StoreError
from engine.ops import schema_state
from engine.ops.schema_state import Migration, ensure_state, migrations

TABLES = {
    *("deployment", "shard", "position", "relay", "relay_gap", "repo"),
    *("label_stream", "label_position", "label_source", "label_origin", "label_gap"),
    *("identity_due", "dead_letter", "migration", "indexer", "quote_count", "deletion", "latest"),
    *("plc", "plc_log", "plc_import"),
    *("touched", "stale", "host", "listing_gap", "queue", "census", "host_census", "unsettled"),
    *("seat", "status_due"),
}


@pytest.fixture
async def conn(empty_database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(empty_database)
    yield connection
    await connection.close()


async def test_first_start_makes_tables_and_rows(conn: asyncpg.Connection[Any]) -> None:
    state = await ensure_state(conn, "headrace", 4)
    assert state.applied[0] == "0001_initial"
    assert len(state.applied) == len(migrations())
    assert await catalogue.names(conn, "headrace") == TABLES
    assert await catalogue.names(conn, "public") == set()
    shards = await conn.fetch("SELECT shard FROM headrace.shard ORDER BY shard")
    assert [row["shard"] for row in shards] == [0, 1, 2, 3]
    positions = await conn.fetch("SELECT source, shard, entry_id FROM headrace.position")
    assert {tuple(row) for row in positions} == {
        (source, n, "0-0") for source in ("firehose_live", "firehose_backfill") for n in range(4)
    }
    assert await conn.fetchval("SHOW search_path") == '"$user", public'


async def test_second_start_changes_nothing(conn: asyncpg.Connection[Any]) -> None:
    first = await ensure_state(conn, "headrace", 4)
    await conn.execute("UPDATE headrace.position SET entries = 7")
    again = await ensure_state(conn, "headrace", 4)
    assert again.applied == ()
    assert again.deployment_id == first.deployment_id
    assert len(first.deployment_id) == 16
    assert await conn.fetchval("SELECT min(entries) FROM headrace.position") == 7


async def test_two_deployments_share_a_database(conn: asyncpg.Connection[Any]) -> None:
    one = await ensure_state(conn, "one", 2)
    other = await ensure_state(conn, 'Other "2"', 3)
    assert one.deployment_id != other.deployment_id
    assert await catalogue.names(conn, 'Other "2"') == TABLES


async def test_starts_at_once_agree(empty_database: str) -> None:
    async def start() -> schema_state.State:
        connection = await asyncpg.connect(empty_database)
        try:
            return await ensure_state(connection, "headrace", 8)
        finally:
            await connection.close()

    states = await asyncio.gather(*(start() for _ in range(6)))
    assert len({state.deployment_id for state in states}) == 1
    assert sum(bool(state.applied) for state in states) == 1


async def test_a_deployment_keeps_its_shards_and_says_so(
    conn: asyncpg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    await ensure_state(conn, "headrace", 4)
    assert (await ensure_state(conn, "headrace", 8)).shard_count == 4
    assert "SHARD_COUNT is 8, but this deployment has 4 shards" in caplog.text
    assert await conn.fetchval("SELECT count(*) FROM headrace.shard") == 4


async def test_migration_that_fails_leaves_what_was_before(
    conn: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrations()
    broken = [
        *known,
        Migration(len(known) + 1, "good", "CREATE TABLE extra (n integer)"),
        Migration(len(known) + 2, "bad", "CREATE TABLE other (n integer); SELECT 1 / 0"),
    ]
    await ensure_state(conn, "headrace", 4)
    with monkeypatch.context() as patch:
        patch.setattr(schema_state, "migrations", lambda: broken)
        with pytest.raises(StoreError, match="division by zero"):
            await ensure_state(conn, "headrace", 4)
    assert await catalogue.names(conn, "headrace") == TABLES
    assert (await ensure_state(conn, "headrace", 4)).applied == ()


async def test_process_killed_in_the_middle_leaves_nothing(empty_database: str) -> None:
    doomed = await asyncpg.connect(empty_database)
    watcher = await asyncpg.connect(empty_database)
    try:
        transaction = doomed.transaction()
        await transaction.start()
        await ensure_state(doomed, "headrace", 4)
        assert await catalogue.names(doomed, "headrace") == TABLES
        doomed.terminate()
        state = await ensure_state(watcher, "headrace", 4)
        assert len(state.applied) == len(migrations())
    finally:
        await watcher.close()


async def test_tables_of_a_newer_version_are_refused(conn: asyncpg.Connection[Any]) -> None:
    await ensure_state(conn, "headrace", 4)
    await conn.execute("INSERT INTO headrace.migration VALUES (9000, 'from_the_future')")
    with pytest.raises(SchemaMismatch, match=r"9000_from_the_future.*upgrade"):
        await ensure_state(conn, "headrace", 4)


async def test_account_that_may_not_make_a_schema_uses_one_made_for_it(
    conn: asyncpg.Connection[Any],
) -> None:
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute(
        "CREATE ROLE headrace_test_owner; CREATE SCHEMA mine AUTHORIZATION headrace_test_owner;"
        "SET LOCAL ROLE headrace_test_owner"
    )
    with pytest.raises(SchemaMismatch, match="permission denied"):
        await ensure_state(conn, "headrace", 2)
    assert (await ensure_state(conn, "mine", 2)).shard_count == 2
    await transaction.rollback()
