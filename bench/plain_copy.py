"""The denominator: the rows of a finished run, written by COPY and nothing else.

Method. When a run has ended, its rows stand in the data plane's tables. Every row is put where
its record came in the log (``Order``): rows with a record's uri at the op that wrote it last,
rows of a DID at the first event of the repository, numbers of a post that nobody wrote at the
first record about it. The log is cut into batches of 5,000 ops; the rows of each batch and table
become one binary COPY payload, in log order, before anything is timed. Then the tables are
emptied, a checkpoint is made, and as many connections as the run had indexers, with the session
settings of the engine, take one batch after the other: one transaction each, all of its
tables by COPY. Nothing is looked up, decoded, judged, updated or deleted.

What the engine keeps for itself (schema ``headrace``) is not copied: it belongs to what the run
costs. Nor is what the database makes by itself: generated columns and serial numbers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import asyncpg

from bench.inputs import Order
from bench.measure import Cpu, Progress
from engine.adapters import postgres
from engine.settings import Settings
from engine.sql import quoted

BATCH_OPS = 5000

KEYS = ("uri", "postUri", "recordUri", "did", "creator")
"""Columns by which a row finds its place; the first that a table has."""

MADE_BEFORE = ("kysely_migration", "kysely_migration_lock", "view_param")
"""Tables whose rows come with the schema."""

_TABLES = """
SELECT c.relname AS table,
    array_agg(a.attname ORDER BY a.attnum) AS columns,
    array_agg(a.attname ORDER BY a.attnum) FILTER (
        WHERE a.attgenerated = '' AND a.attidentity = ''
            AND coalesce(pg_get_expr(d.adbin, d.adrelid), '') NOT LIKE 'nextval(%'
    ) AS written
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
GROUP BY c.relname ORDER BY c.relname
"""

_PLACES = """
CREATE SCHEMA bench;
CREATE UNLOGGED TABLE bench.uri (key text NOT NULL, n integer NOT NULL);
CREATE UNLOGGED TABLE bench.did (key text NOT NULL, n integer NOT NULL);
"""

_PLACES_OF_SUBJECTS = """
CREATE INDEX ON bench.uri (key) INCLUDE (n);
CREATE INDEX ON bench.did (key) INCLUDE (n);
ANALYZE bench.uri, bench.did;
INSERT INTO bench.uri
SELECT subject, min(at.n) FROM (
    SELECT subject, uri FROM "like" UNION ALL SELECT subject, uri FROM repost
    UNION ALL SELECT "replyParent", uri FROM post WHERE "replyParent" IS NOT NULL
    UNION ALL SELECT subject, uri FROM quote
) AS about JOIN bench.uri AS at ON at.key = about.uri
WHERE NOT EXISTS (SELECT FROM bench.uri WHERE key = subject)
GROUP BY subject;
"""


@dataclass
class Payload:
    """One COPY: some rows of a table."""

    table: str
    columns: list[str]
    data: bytes


@dataclass
class Rows:
    """The rows of a run, batch by batch."""

    batches: list[list[Payload]]
    tables: dict[str, int] = field(default_factory=dict)
    """Rows of each."""
    unplaced: int = 0
    """Rows whose record is not in the log; they are in the first batch."""


@dataclass
class Copied:
    """What the copying took."""

    seconds: float
    cpu: dict[str, float]
    bytes: int
    progress: Progress
    """In ops of the log."""


async def gathered(url: str, order: Order) -> Rows:
    """All rows of the data plane, as payloads in memory; the tables stay as they are."""
    conn = await asyncpg.connect(url, server_settings={"work_mem": "256MB"})
    try:
        await conn.execute(_PLACES)
        for kind, places in (("uri", order.uris), ("did", order.dids)):
            await conn.copy_records_to_table(kind, schema_name="bench", records=places.items())
        await conn.execute(_PLACES_OF_SUBJECTS)
        rows = Rows([[] for _ in range(order.ops // BATCH_OPS + 1)])
        for table in await conn.fetch(_TABLES):
            if table["table"] in MADE_BEFORE:
                continue
            await _gather(conn, table["table"], table["columns"], table["written"], rows)
        await conn.execute("DROP SCHEMA bench CASCADE")
        return rows
    finally:
        await conn.close()


async def _gather(
    conn: asyncpg.Connection, table: str, columns: list[str], written: list[str], rows: Rows
) -> None:
    if not await conn.fetchval(f"SELECT EXISTS (SELECT FROM {quoted(table)})"):
        return
    key = next((name for name in KEYS if name in columns), None)
    if key is None:
        raise SystemExit(f"no order is known for the rows of {table}")
    places = "did" if key in ("did", "creator") else "uri"
    listed = ", ".join(quoted(name) for name in written)
    await conn.execute(
        f"CREATE UNLOGGED TABLE bench.rows AS SELECT at.n AS bench_n, t.ctid AS bench_at, t.*"
        f" FROM {quoted(table)} AS t LEFT JOIN bench.{places} AS at ON at.key = t.{quoted(key)}"
    )
    await conn.execute(f"CREATE INDEX ON bench.rows ((coalesce(bench_n, 0) / {BATCH_OPS}))")
    await conn.execute("ANALYZE bench.rows")
    count, unplaced = await conn.fetchrow(
        "SELECT count(*), count(*) FILTER (WHERE bench_n IS NULL) FROM bench.rows"
    ) or (0, 0)
    rows.tables[table] = count
    rows.unplaced += unplaced
    for number, batch in enumerate(rows.batches):
        out = bytearray()

        async def collect(data: bytes, out: bytearray = out) -> None:
            out.extend(data)

        status: str = await conn.copy_from_query(
            f"SELECT {listed} FROM bench.rows WHERE coalesce(bench_n, 0) / {BATCH_OPS} = {number}"
            " ORDER BY bench_n, bench_at",
            output=collect,
            format="binary",
        )
        if status != "COPY 0":
            batch.append(Payload(table, written, bytes(out)))
    await conn.execute("DROP TABLE bench.rows")


async def copied(url: str, server_pid: int, rows: Rows, connections: int) -> Copied:
    """Empty the tables and write the rows; every table has them again afterwards."""
    settings = Settings(database_url=url)
    writers = [await postgres.connect(settings, f"bench {n}") for n in range(connections)]
    names = ", ".join(quoted(table) for table in rows.tables)
    await writers[0].execute(f"TRUNCATE {names}")
    await writers[0].execute("CHECKPOINT")
    queue = iter(rows.batches)
    cpu = Cpu({"postgres": server_pid})
    client, started = time.process_time(), time.monotonic()
    progress = Progress([0.0], [0])
    await asyncio.gather(*(_write(writer, queue, progress, started) for writer in writers))
    seconds = time.monotonic() - started
    used = cpu.used() | {"client": round(time.process_time() - client, 2)}
    for table, count in rows.tables.items():
        found = await writers[0].fetchval(f"SELECT count(*) FROM {quoted(table)}")
        if found != count:
            raise SystemExit(f"{table}: {found} rows copied of {count}")
    for writer in writers:
        await writer.close()
    size = sum(len(payload.data) for batch in rows.batches for payload in batch)
    return Copied(seconds, used, size, progress)


async def _write(
    conn: asyncpg.Connection, queue: Iterator[list[Payload]], progress: Progress, started: float
) -> None:
    for batch in queue:
        async with conn.transaction():
            for payload in batch:
                await postgres.copy_in(conn, "public", payload.table, payload.columns, payload.data)
        progress.add(time.monotonic() - started, progress.ops[-1] + BATCH_OPS)
