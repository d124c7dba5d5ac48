"""Databases of operators: what differs is handled by name or refused by name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from engine import collections
from engine.adapters import catalogue
from engine.collections import fit
from engine.collections.fit import Severity
from engine.errors import SchemaMismatch, SettingsError
from engine.ops import schema
from engine.sql.catalogue import dataplane

REFERENCE = {
    "post.langs": "jsonb",
    "post.tags": "jsonb",
    "record.rev": False,
    "notification.unique": False,
}

HANDLED = [
    # what an operator did; table; part of the difference; variants that change
    (
        "ALTER TABLE post ALTER langs TYPE varchar[] USING NULL",
        ("post", "column langs is character varying[], not jsonb"),
        {"post.langs": "character varying[]"},
    ),
    (
        "ALTER TABLE post ALTER tags TYPE text[] USING NULL",
        ("post", "column tags is text[], not jsonb"),
        {"post.tags": "text[]"},
    ),
    (
        "ALTER TABLE record ADD rev varchar",
        ("record", "column rev is not in the reference"),
        {"record.rev": True},
    ),
    (
        "ALTER TABLE record ADD rev text NOT NULL",
        ("record", "column rev is not in the reference"),
        {"record.rev": True},
    ),
    (
        'CREATE UNIQUE INDEX once ON notification (did, "recordUri", reason)',
        ("notification", "unique index once on (did, recordUri, reason) is not in the reference"),
        {"notification.unique": True},
    ),
    (
        'ALTER TABLE actor ADD "accountEventAt" varchar',
        ("actor", "column accountEventAt is not in the reference"),
        {},
    ),
    (
        'ALTER TABLE actor ADD "handleResolveTries" integer NOT NULL DEFAULT 0',
        ("actor", "column handleResolveTries is not in the reference"),
        {},
    ),
    (
        "CREATE TABLE sub_state (service varchar PRIMARY KEY, cursor bigint NOT NULL)",
        ("sub_state", "table is not in the reference"),
        {},
    ),
    (
        "ALTER TABLE record ADD n bigint GENERATED ALWAYS AS IDENTITY",
        ("record", "column n is not in the reference"),
        {},
    ),
    (
        "CREATE INDEX mine ON post (cid) WHERE tags IS NOT NULL",
        ("post", "index mine is not in the reference"),
        {},
    ),
    (
        'CREATE UNIQUE INDEX twice ON actor_block ("subjectDid", creator)',
        ("actor_block", "unique index twice on (subjectDid, creator) is not in the reference"),
        {},
    ),
    (
        "ALTER TABLE post ALTER text TYPE text",
        ("post", "column text is text, not character varying"),
        {},
    ),
    (
        'ALTER TABLE profile_agg ALTER "postsCount" TYPE integer',
        ("profile_agg", "column postsCount is integer, not bigint"),
        {},
    ),
    ("ALTER TABLE record DROP tags", ("record", "column tags is missing"), {}),
    ("DROP TABLE draft", ("draft", "table is missing"), {}),
    ("ALTER TABLE draft ADD must integer NOT NULL", ("draft", "column must is not in"), {}),
    ("ALTER TABLE record ALTER cid DROP NOT NULL", ("record", "column cid may be NULL"), {}),
    (
        "ALTER TABLE record ADD CONSTRAINT short CHECK (length(uri) < 999)",
        ("record", "constraint short is not in the reference"),
        {},
    ),
]

REFUSED = [
    ("ALTER TABLE record ADD must integer NOT NULL", "column must is not in the reference, NOT"),
    ("ALTER TABLE record ADD rev bigint NOT NULL", "column rev is not in the reference, NOT NULL"),
    ("ALTER TABLE record ALTER json TYPE jsonb USING json::jsonb", "column json is jsonb, not"),
    ("ALTER TABLE post ALTER langs TYPE bytea USING NULL", "column langs is bytea, not jsonb"),
    ('ALTER TABLE "like" DROP via', "like: column via is missing"),
    ('ALTER TABLE post ALTER "sortAt" DROP EXPRESSION', "column sortAt is not generated"),
    ('ALTER TABLE post ALTER "replyRoot" SET NOT NULL', "column replyRoot is NOT NULL"),
    ('ALTER TABLE post_agg ALTER "likeCount" DROP DEFAULT', "column likeCount has no default"),
    ("ALTER TABLE notification ALTER id DROP DEFAULT", "column id has no default"),
    ("DROP TABLE follow", "follow: table is missing"),
    ("DROP TABLE thread_mute", "thread_mute: table is missing"),
    ("ALTER TABLE repost DROP CONSTRAINT repost_unique_subject", "no unique key on (creator, sub"),
    ("CREATE UNIQUE INDEX odd ON post (cid)", "unique index odd on (cid) is not in the reference"),
    ("ALTER TABLE actor RENAME TO actors", "actor: table is missing"),
]


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def test_reference_needs_no_variant(conn: asyncpg.Connection[Any]) -> None:
    assert await catalogue.variants(conn, "public") == REFERENCE


@pytest.mark.parametrize(("change", "difference", "changed"), HANDLED, ids=[h[0] for h in HANDLED])
async def test_variant_is_named_and_handled(
    conn: asyncpg.Connection[Any],
    change: str,
    difference: tuple[str, str],
    changed: dict[str, str | bool],
) -> None:
    await conn.execute(change)
    report = await schema.check(conn, "public")
    assert report.writable
    table, words = difference
    assert len(report.differences) == 1
    [found] = report.differences
    assert found.table == table
    assert found.what.startswith(words)
    assert found.severity is Severity.FINE
    assert found.handling
    variants = await catalogue.variants(conn, "public")
    assert variants == REFERENCE | changed
    collections.to_plan(variants)  # knows every type that is called fine


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[r[0] for r in REFUSED])
async def test_what_cannot_be_written_is_refused_by_name(
    conn: asyncpg.Connection[Any], change: str, words: str
) -> None:
    await conn.execute(change)
    with pytest.raises(SchemaMismatch) as refused:
        await catalogue.variants(conn, "public")
    assert words in str(refused.value)
    assert refused.value.exit_code == 3
    report = await schema.check(conn, "public")
    assert not report.writable
    assert "cannot be written:" in schema.render_text(report)


async def test_missing_index_is_slow_but_not_fatal(conn: asyncpg.Connection[Any]) -> None:
    await conn.execute("DROP INDEX record_did_idx")
    report = await schema.check(conn, "public")
    assert [each.severity for each in report.differences] == [Severity.SLOW]
    assert "record_did_idx" in str(report.differences[0])
    assert report.writable


async def test_renamed_key_and_index_are_the_same_key_and_index(
    conn: asyncpg.Connection[Any],
) -> None:
    await conn.execute("ALTER INDEX record_did_idx RENAME TO by_did")
    await conn.execute("ALTER TABLE repost RENAME CONSTRAINT repost_unique_subject TO other")
    await conn.execute("ALTER TABLE follow DROP CONSTRAINT follow_unique_subject")
    await conn.execute('CREATE UNIQUE INDEX pair ON follow ("subjectDid", creator)')
    assert (await schema.check(conn, "public")).differences == []


async def test_empty_schema_names_what_to_do(conn: asyncpg.Connection[Any]) -> None:
    report = await schema.check(conn, "nowhere")
    assert report.tables == 0
    assert not report.writable
    assert "`headrace schema create`" in schema.render_text(report)


async def test_report_as_json_lists_every_difference(conn: asyncpg.Connection[Any]) -> None:
    await conn.execute("ALTER TABLE record ADD rev varchar; DROP TABLE follow")
    report = json.loads(schema.render_json(await schema.check(conn, "public")))
    assert report["writable"] is False
    assert {(each["severity"], each["table"]) for each in report["differences"]} == {
        ("fine", "record"),
        ("fatal", "follow"),
    }


async def test_check_needs_no_rights_but_to_connect(conn: asyncpg.Connection[Any]) -> None:
    # Roles belong to the server, so it goes with the transaction.
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("CREATE ROLE headrace_test_reader; SET LOCAL ROLE headrace_test_reader")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with conn.transaction():
            await conn.execute("SELECT FROM record")
    found = await catalogue.names(conn, "public")
    assert len(found) > 53
    await transaction.rollback()


async def test_creating_over_existing_tables_is_refused_and_changes_nothing(
    conn: asyncpg.Connection[Any],
) -> None:
    await conn.execute("CREATE SCHEMA half; CREATE VIEW half.post AS SELECT 1 AS uri")
    with pytest.raises(SettingsError, match="already holds 1 of the tables, post among them"):
        await schema.create(conn, "half")
    assert await catalogue.names(conn, "half") == {"post"}


async def test_trigrams_elsewhere_are_refused(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute("CREATE SCHEMA ext; CREATE EXTENSION pg_trgm SCHEMA ext")
        with pytest.raises(SettingsError, match="ALTER EXTENSION pg_trgm SET SCHEMA public"):
            await schema.create(connection, "public")
        assert await catalogue.names(connection, "public") == set()
    finally:
        await connection.close()


def test_every_used_column_is_one_of_the_reference() -> None:
    expected = dataplane()
    used = fit.used_columns()
    assert len(used) >= 30
    for table, columns in used.items():
        assert columns <= expected[table].columns.keys(), table
