"""Rows that Postgres refuses: which they are, and that they cost only their own ops."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from engine.adapters import postgres
from engine.core import streams
from engine.roles.indexer import lease as leases
from engine.roles.indexer import position as positions
from engine.roles.indexer import refusals, tables, writer
from engine.roles.indexer.reader import ShardEntries
from engine.roles.indexer.stages import Stages
from engine.settings import Settings
from tests.collections import commits

RNG = random.Random(5)


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ("COPY post_gate, line 12", 12),
        ("COPY post_gate, line 12, column postUri", 12),
        ("COPY post_gate, Zeile 12, Spalte postUri", 12),
        ("post_gateのCOPY、12 行目、列 c2", 12),
        ("PL/pgSQL function f1() line 3 at RAISE\nCOPY post_gate, line 12", 12),
        ("something else", None),
        ("", None),
        (None, None),
    ],
)
def test_the_line_is_found_in_any_language(context: str | None, line: int | None) -> None:
    assert refusals.refused_line(context, "post_gate") == line


@pytest.fixture
async def indexing(database: str) -> AsyncIterator[writer.Writer]:
    """A writer that owns shard 0."""
    settings = Settings(database_url=database)
    conn = await postgres.connect(settings, "test/0")
    await conn.execute("UPDATE headrace.deployment SET epoch = 'e'")
    built = await tables.load(conn, settings)

    async def share() -> list[int]:
        return [0]

    lease = await leases.claim(conn, built.sql, "test/0", share)
    held = await positions.load(conn, built.sql, streams.LIVE, lease.shards)
    yield writer.Writer(
        conn=conn,
        lease=lease,
        plan=built.plan,
        statements=built.statements,
        sql=built.sql,
        source=streams.LIVE,
        positions={shard: position.in_epoch("e") for shard, position in held.items()},
        clock=time.time,
        stages=Stages(),
    )
    await conn.close()


def incompressible(count: int) -> str:
    return base64.b32encode(RNG.randbytes(count)).decode().rstrip("=")


def like(number: int, *, rkey: str = "", fragment: str = "") -> bytes:
    """A commit of one like; a long rkey is refused in ``record``, a long subject in ``like``."""
    record = {
        "$type": "app.bsky.feed.like",
        "subject": {
            "uri": f"at://did:plc:b/app.bsky.feed.post/{number}{fragment}",
            "cid": commits.cid_text(commits.cid_of(b"x")),
        },
        "createdAt": commits.TIME,
    }
    op = commits.op("+", f"app.bsky.feed.like/{number}{rkey}", record)
    return commits.commit(f"did:plc:{number:024d}", number + 1, [op])


async def write(indexing: writer.Writer, entries: list[bytes]) -> writer.Committed:
    ids = [b"%d-1" % (number + 1) for number in range(len(entries))]
    batch = [ShardEntries(0, ids, entries)]
    return await indexing.write(await indexing.decode(batch))


async def numbers(conn: asyncpg.Connection[Any], table: str) -> set[int]:
    rows = await conn.fetch(f"SELECT uri FROM {table}")
    return {int(row["uri"].rpartition("/")[2]) for row in rows}


@pytest.mark.services
async def test_all_refused_rows_of_a_batch_are_found_in_one_round(
    indexing: writer.Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = []

    async def counted(*arguments: Any) -> dict[int, str]:
        rounds.append(await refusals.find(*arguments))
        return rounds[-1]

    monkeypatch.setattr(writer, "find", counted)
    numbered = list(range(1_500))
    bad = set(RNG.sample(numbered, 90)) | {700, 701, 702}
    entries = []
    for number in numbered:
        if number not in bad:
            entries.append(like(number))
        elif number % 2:
            entries.append(like(number, fragment="#/" + incompressible(2_500)))
        else:
            entries.append(like(number, rkey="/" + incompressible(2_500)))
    done = await write(indexing, entries)
    assert [len(found) for found in rounds] == [len(bad)]
    assert (done.entries, done.ops, done.refused) == (1_500, 1_500, len(bad))
    good = set(numbered) - bad
    assert await numbers(indexing.conn, '"like"') == good
    assert await numbers(indexing.conn, "record") == good
    letters = await indexing.conn.fetch("SELECT did, reason, error FROM headrace.dead_letter")
    assert {int(row["did"][-24:]) for row in letters} == bad
    assert {row["reason"] for row in letters} == {"refused_by_database"}
    assert all("index row" in row["error"] for row in letters)
    outcomes = indexing.positions[0].relays["relay.test/1"]
    assert outcomes["applied"] == len(good)
    assert outcomes["rejected:refused_by_database"] == len(bad)


@pytest.mark.services
async def test_a_refused_statement_costs_the_ops_of_one_entry(indexing: writer.Writer) -> None:
    """No line names the row: the batch is cut until one entry is left."""
    await indexing.conn.execute(
        "ALTER TABLE record ADD CONSTRAINT short CHECK (length(json) < 1000) NOT VALID"
    )
    await write(indexing, [like(number) for number in range(8)])
    entries = []
    for number in range(8):
        record = {"$type": "app.bsky.feed.like", "createdAt": commits.TIME}
        record |= {"subject": {"uri": f"at://did:plc:b/a.b.c/{number}", "cid": "bafkqaaa"}}  # type: ignore[dict-item]
        if number == 5:
            record["note"] = "x" * 1_000
        op = commits.op("~", f"app.bsky.feed.like/{number}", record)
        did = f"did:plc:{number:024d}"
        entries.append(commits.commit(did, 100 + number, [op], since=commits.tid(number + 1)))
    done = await write(indexing, entries)
    assert done.entries == 8
    (letter,) = await indexing.conn.fetch("SELECT did, error FROM headrace.dead_letter")
    assert letter["did"].endswith("5")
    assert "short" in letter["error"]
    changed = await indexing.conn.fetch("SELECT uri FROM record WHERE json LIKE '%a.b.c%'")
    assert len(changed) == 7
