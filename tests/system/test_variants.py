"""Databases as operators have them: written correctly, unaltered, or refused by name."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import libipld
import pytest
import redis

from engine.simulate import network as networks
from engine.simulate import server
from tests.system.deployment import Deployment
from tests.system.golden import differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

NETWORK = "golden-gates"
ARRAYS = ("post.langs", "post.tags")
"""Columns whose text form depends on their type, so they are compared by value."""

EXTRA_COLUMNS = (
    'ALTER TABLE actor ADD "accountEventAt" varchar',
    'ALTER TABLE actor ADD "handleResolveTries" integer NOT NULL DEFAULT 0',
    "ALTER TABLE post ADD note text",
    "ALTER TABLE record ADD number bigint GENERATED ALWAYS AS IDENTITY",
    "CREATE TABLE sub_state (service varchar PRIMARY KEY, cursor bigint NOT NULL)",
)
UNIQUE_NOTIFICATION = 'CREATE UNIQUE INDEX once ON notification (did, "recordUri", reason)'


def arrays_of(kind: str) -> tuple[str, ...]:
    return tuple(f"ALTER TABLE post ALTER {c} TYPE {kind} USING NULL" for c in ("langs", "tags"))


@pytest.mark.parametrize(
    "alterations",
    [
        (*arrays_of("varchar[]"), "ALTER TABLE record ADD rev varchar", *EXTRA_COLUMNS),
        (*arrays_of("text[]"), "ALTER TABLE record ADD rev text NOT NULL", UNIQUE_NOTIFICATION),
    ],
    ids=["varchar[], rev, extra columns", "text[], rev NOT NULL, unique notifications"],
)
async def test_operators_tables_are_written_unaltered(
    shared: Path,
    tmp_path: Path,
    database: str,
    redis_url: str,
    alterations: tuple[str, ...],
) -> None:
    conn = await asyncpg.connect(database)
    try:
        for alteration in alterations:
            await conn.execute(alteration)
        before = await columns(conn)
        run(shared, tmp_path, database, redis_url)
        assert await columns(conn) == before
        assert await langs_and_tags(conn) == expected_langs_and_tags(shared)
        await revs_are_the_commits(conn, shared)
    finally:
        await conn.close()
    assert differences(shared, NETWORK, database, ignore=ARRAYS) == ""


async def test_other_schemas_and_key_prefix(
    shared: Path, tmp_path: Path, empty_database: str, redis_url: str
) -> None:
    names = {
        "DATABASE_SCHEMA": "Bsky prod",
        "DATABASE_STATE_SCHEMA": "our-state",
        "REDIS_KEY_PREFIX": "prod:*[1]:",
    }
    made = command("schema", "create", names | {"DATABASE_URL": empty_database})
    assert made.returncode == 0, made.stderr
    run(shared, tmp_path, empty_database, redis_url, names)
    assert differences(shared, NETWORK, empty_database, schema=names["DATABASE_SCHEMA"]) == ""
    conn = await asyncpg.connect(empty_database)
    try:
        tables = await conn.fetch(
            "SELECT schemaname AS schema, count(*) AS tables FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') GROUP BY 1"
        )
    finally:
        await conn.close()
    assert {row["schema"] for row in tables} == {"Bsky prod", "our-state"}
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        keys = client.keys()
    assert len(keys) >= 16
    assert all(key.startswith(names["REDIS_KEY_PREFIX"]) for key in keys)


@pytest.mark.parametrize(
    "arguments", [("up", "--until-caught-up"), ("run", "indexer")], ids=["up", "run"]
)
async def test_a_column_that_cannot_be_filled_is_refused_by_name(
    database: str, redis_url: str, arguments: tuple[str, ...]
) -> None:
    conn = await asyncpg.connect(database)
    try:
        await conn.execute("ALTER TABLE post ADD mood integer NOT NULL")
    finally:
        await conn.close()
    ended = command(*arguments, {"DATABASE_URL": database, "REDIS_URL": redis_url})
    assert ended.returncode == 3
    assert "post: column mood is not in the reference, NOT NULL" in ended.stderr
    assert "Traceback" not in ended.stderr


def command(*words: str | Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`headrace WORDS`; the last one is the environment."""
    *arguments, environ = words
    assert isinstance(environ, Mapping)
    return subprocess.run(
        [sys.executable, "-m", "engine", *map(str, arguments)],
        env={"METRICS_PORT": "0", **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def run(
    shared: Path,
    tmp_path: Path,
    database: str,
    redis_url: str,
    extra: Mapping[str, str] | None = None,
) -> None:
    with server.serve_in_thread(networks.load(shared / NETWORK)) as relay:
        deployment = Deployment(
            relay.settings,
            database,
            redis_url,
            log=tmp_path / "up.log",
            extra=extra,
            arguments=["--until-caught-up"],
        )
        with deployment:
            assert deployment.wait(60) == 0, deployment.tail()


async def columns(conn: asyncpg.Connection[Any]) -> list[tuple[object, ...]]:
    rows = await conn.fetch(
        "SELECT table_name, column_name, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    assert len(rows) > 300
    return [tuple(row) for row in rows]


async def langs_and_tags(conn: asyncpg.Connection[Any]) -> dict[str, tuple[object, object]]:
    rows = await conn.fetch(
        "SELECT uri, to_jsonb(langs)::text AS langs, to_jsonb(tags)::text AS tags FROM post"
    )
    return {row["uri"]: (_value(row["langs"]), _value(row["tags"])) for row in rows}


def _value(text: str | None) -> object:
    return json.loads(text) if text else None


def expected_langs_and_tags(shared: Path) -> dict[str, tuple[object, object]]:
    with (shared / NETWORK / "tables" / "post.csv").open(newline="") as file:
        found = {
            row["uri"]: (_value(row["langs"]), _value(row["tags"])) for row in csv.DictReader(file)
        }
    assert sum(langs is not None for langs, _ in found.values()) > 20
    return found


async def revs_are_the_commits(conn: asyncpg.Connection[Any], shared: Path) -> None:
    """Each record has the rev of the last commit that wrote this version of it."""
    commits: dict[tuple[str, str], str] = {}
    frames = networks.load(shared / NETWORK).frames
    for index in range(len(frames)):
        try:
            _, body = libipld.decode_dag_cbor_multi(frames[index])
            for op in body["ops"]:
                if op["action"] != "delete":
                    cid = libipld.encode_cid(op["cid"])
                    commits[f"at://{body['repo']}/{op['path']}", cid] = body["rev"]
        except (ValueError, KeyError, TypeError):
            continue  # bad frames are part of the network
    rows = await conn.fetch("SELECT uri, cid, rev FROM record")
    wrong = [row for row in rows if row["rev"] != commits.get((row["uri"], row["cid"]))]
    assert len(rows) > 100
    assert not wrong[:5]
