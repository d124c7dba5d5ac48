"""No statement scans a table that grows, whatever the planner knows of the table."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from engine import sql
from engine.adapters import postgres
from engine.collections import removal, statements, to_plan
from engine.settings import Settings

pytestmark = pytest.mark.services

STATE = "headrace"
SMALL = {
    *("deployment", "shard", "relay", "position", "latest", "deletion", "unsettled"),
    "pg_database",
}
"""Tables whose size does not depend on the network's, or that hold only what is under way."""

PAGES = {"identity_pick", "status_pick", "identity_forget_seats", "lookup_some_mutes"}
"""They read a page in the order of an index."""

WHOLE = {"deletion_op_threads_unordered", "quote_count_fill"}
"""They are known to read a table whole."""

KNOWN = ("empty", "analysed while empty", "never analysed", "analysed")


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await postgres.connect(Settings(database_url=database), "test/0")
    yield connection
    await connection.close()


FILLED = {
    "post": """uri, cid, creator, text, "replyParent", "replyRoot", "createdAt", "indexedAt"
        SELECT 'at://a/p/' || n, 'c', 'd', 't', 'at://a/p/' || n / 2, 'at://a/p/1', 't', 't'""",
    "quote": """uri, cid, subject, "subjectCid", "createdAt", "indexedAt"
        SELECT 'at://a/p/' || n, 'c', 'at://a/p/' || n / 2, 'c', 't', 't'""",
    "post_embed_record": """"postUri", "embedUri", "embedCid"
        SELECT 'at://a/p/' || n, 'at://a/p/' || n / 2, 'c'""",
    "feed_item": """uri, cid, type, "postUri", "originatorDid", "sortAt"
        SELECT 'at://a/r/' || n, 'c', 'repost', 'at://a/p/' || n / 2, 'd', 't'""",
    "notification": """did, author, "recordUri", "recordCid", reason, "sortAt"
        SELECT 'd' || n, 'd', 'at://a/p/' || n, 'c', 'reply', 't'""",
    "duplicate_record": """uri, cid, "duplicateOf", "indexedAt"
        SELECT 'at://a/l/' || n, 'c', 'at://a/l/' || n / 2, 't'""",
    "op_thread_reply": """"rootUri", "parentUri", uri
        SELECT 'at://a/p/' || n / 9, 'at://a/p/' || n / 2, 'at://a/p/' || n""",
    "post_agg": "uri SELECT 'at://a/p/' || n",
    "profile_agg": "did SELECT 'd' || n",
    "thread_mute": """"mutedByDid", "rootUri", "createdAt" SELECT 'd', 'at://a/p/' || n, 't'""",
    f"{STATE}.quote_count": "cid, quotes SELECT 'c' || n, 1",
}
"""Columns and a row of each table that several records make."""


async def fill(conn: asyncpg.Connection[Any], rows: int) -> None:
    """Rows in the tables that differ most in width; the others stay as they are."""
    for table, made in FILLED.items():
        await conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        columns, _, values = made.partition("SELECT")
        await conn.execute(
            f"INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, $1::int) n",
            rows,
        )
    for table in ("record", '"like"', "actor", f"{STATE}.repo", f"{STATE}.identity_due"):
        await conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    await conn.execute(
        """INSERT INTO record (uri, cid, did, json, "indexedAt")
        SELECT 'at://a/b/' || n, 'c', 'd', repeat('x', 300), 't'
        FROM generate_series(1, $1::int) n""",
        rows,
    )
    await conn.execute(
        """INSERT INTO "like" (uri, cid, creator, subject, "subjectCid", "createdAt", "indexedAt")
        SELECT 'at://a/l/' || n, 'c', 'd', n, 'c', 't', 't' FROM generate_series(1, $1::int) n""",
        rows,
    )
    for table, columns in (("actor", 'did, "indexedAt"'), (f"{STATE}.repo", "did, rev")):
        await conn.execute(
            f"INSERT INTO {table} ({columns}) SELECT n, 't' FROM generate_series(1, $1::int) n",
            rows,
        )
    await conn.execute(
        f"""INSERT INTO {STATE}.identity_due (did, seq, time, forced)
        SELECT n, n, 't', false FROM generate_series(1, $1::int) n""",
        rows,
    )


def reads(node: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Table, kind of node, and whether keys lead it."""
    if "Relation Name" in node or "Index Name" in node:
        by_key = "Index Cond" in node or node["Node Type"] == "Bitmap Heap Scan"
        yield node.get("Relation Name", node.get("Index Name", "")), node["Node Type"], by_key
    for child in node.get("Plans", ()):
        yield from reads(child)


def literal(text: str, number: int) -> str:
    """An array literal that the parameter's cast takes."""
    cast = re.search(rf"\(\${number}::text\)::(\w+)\[\]", text)
    words = {"boolean": "t", "bigint": "1", "integer": "1", "bytea": ""}
    word = words.get(cast[1], "x") if cast else "x"
    return "{" + ",".join([f'"{word}"'] * 50) + "}"


async def plan_of(conn: asyncpg.Connection[Any], text: str) -> dict[str, Any]:
    prepared = await conn.prepare(text)
    types = [parameter.name for parameter in prepared.get_parameters()]
    values: list[Any] = []
    for number, kind in enumerate(types, 1):
        if kind.endswith("[]"):
            values.append([])
        elif kind in ("int4", "int8", "float8"):
            values.append(1)
        elif kind == "interval":
            values.append(datetime.timedelta(1))
        elif "pg_lsn" in text:
            values.append("0/0")
        else:
            values.append(literal(text, number))
    found = await conn.fetchval(f"EXPLAIN (FORMAT json) {text}", *values)
    plan: dict[str, Any] = json.loads(found)[0]["Plan"]
    return plan


@pytest.mark.parametrize("known", KNOWN)
async def test_no_statement_scans_a_table_that_grows(
    conn: asyncpg.Connection[Any], known: str
) -> None:
    if known == "analysed while empty":
        await conn.execute("ANALYZE")
    if known != "empty":
        await fill(conn, 20_000)
    if known == "analysed":
        await conn.execute("ANALYZE")
    built = statements.build(to_plan(), "public", STATE)
    texts = built.lookups | built.writes
    texts |= (
        sql.load("identity", state=STATE)
        | sql.load("quote_count", state=STATE)
        | sql.load("deletions", state=STATE)
        | sql.load("settling", state=STATE)
        | sql.load("statuses", state=STATE)
    )
    texts |= {f"take_{nsid}": r.take for nsid, r in removal.of_plan(to_plan()).items() if r.take}
    seen = 0
    for name, text in texts.items():
        if name in WHOLE:
            continue
        for table, kind, by_key in reads(await plan_of(conn, text)):
            ordered = name in PAGES and kind.startswith("Index")
            modified = kind == "ModifyTable"
            assert modified or by_key or ordered or table in SMALL, f"{name}: {kind} of {table}"
            seen += not modified
    assert seen > 60
