"""What a fold says, done by a real Postgres."""

from __future__ import annotations

import base64
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from engine import lexicons
from engine.adapters import postgres
from engine.collections import statements, to_plan
from engine.core import codec, wire
from engine.settings import Settings
from tests.collections import commits
from tests.collections.memory import Memory, index
from tests.collections.test_fold_golden import ALLOW, NOW, SHARDS, frames_of

STATE = "headrace"
A = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
T_LATER = "2026-11-21T18:00:01Z"
Shards = list[tuple[int, list[bytes]]]

pytestmark = pytest.mark.services


class Refused(Exception):
    """Postgres refused a row; ``op`` wrote it."""

    def __init__(self, op: int, message: str) -> None:
        super().__init__(message)
        self.op = op


class Indexer:
    """The least that does what a fold says."""

    def __init__(
        self, conn: asyncpg.Connection[Any], variants: dict[str, str | bool] | None = None
    ) -> None:
        self.conn = conn
        self.declared = to_plan(variants)
        self.plan = codec.Plan(self.declared.encode(), lexicons.documents())
        self.statements = statements.build(self.declared, "public", STATE)
        self.held: dict[int, dict[str, int]] = {}

    async def index(
        self, shards: Shards, *, voided: list[tuple[int, str]] | None = None
    ) -> codec.Changes:
        held = [(shard, self.held.get(shard, {}), entries, False) for shard, entries in shards]
        batch = self.plan.decode(held, now=NOW)
        async with self.conn.transaction():
            known = batch.known(trusting=True)
            while wanted := known.wanted():
                answers = [
                    (name, await self.conn.fetchval(self.statements.lookups[name], *parameters))
                    for name, parameters in wanted
                ]
                known.learn(answers)
            changes = batch.fold(known, voided or [])
            gone: Counter[str] = Counter()
            for name, parameters in changes.deletes():
                for row in await self.conn.fetch(self.statements.writes[name], *parameters):
                    gone[row["cid"]] += row["quotes"]
            for copy, (table, data, count) in enumerate(changes.copies()):
                await self._copy(changes, copy, table, data, count)
            for name, parameters in changes.statements():
                if name == "set_quote_counts":
                    counts = (gone.keys(), map(str, gone.values()))
                    parameters += map(postgres.array_literal, counts)
                await self.conn.execute(self.statements.writes[name], *parameters)
        for shard, source, seq, _ in changes.tally():
            assert seq is not None
            self.held.setdefault(shard, {})[source] = seq
        return changes

    async def _copy(
        self, changes: codec.Changes, copy: int, table: str, data: bytes, count: int
    ) -> None:
        try:
            rows = await postgres.copy_in(self.conn, *self.statements.copies[table], data)
        except asyncpg.PostgresError as error:
            line = re.search(r"line (\d+)", error.context or "")
            assert line
            raise Refused(changes.op_of(copy, int(line[1])), str(error)) from error
        assert rows == count

    async def rows(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        names = ", ".join(f'"{name}"' for name in columns) or "1"
        return [tuple(row) for row in await self.conn.fetch(f'SELECT {names} FROM "{table}"')]

    async def dead(self) -> list[asyncpg.Record]:
        return await self.conn.fetch("SELECT * FROM headrace.dead_letter ORDER BY id")


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await postgres.connect(Settings(database_url=database), "test/0")
    await connection.set_type_codec(
        "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
    )
    yield connection
    await connection.close()


VARIANTS: list[dict[str, str | bool]] = [
    {},
    {"post.langs": "varchar[]", "post.tags": "text[]", "record.rev": True},
]


@pytest.mark.golden
@pytest.mark.parametrize("variants", VARIANTS, ids=["reference", "variants"])
async def test_postgres_holds_what_a_dictionary_holds(
    conn: asyncpg.Connection[Any], shared: Path, variants: dict[str, str | bool]
) -> None:
    """Look-ups, COPY and statements of every table, over batches cut anywhere."""
    if variants:
        for column in ("langs varchar[]", "tags text[]"):
            name = column.split()[0]
            await conn.execute(f"ALTER TABLE post DROP COLUMN {name}, ADD COLUMN {column}")
        await conn.execute("ALTER TABLE record ADD COLUMN rev varchar NOT NULL")
    indexer = Indexer(conn, variants)
    memory = Memory(indexer.declared)
    frames = frames_of(shared / "golden")
    entries = codec.decode_frames(
        frames, relay="relay.test", generation=1, shards=SHARDS, allow=ALLOW
    ).entries()
    rng = random.Random(3)
    at = 0
    while at < len(entries):
        size = rng.choice([1, 20, 100, 300])
        shards: dict[int, list[bytes]] = {}
        for shard, entry in entries[at : at + size]:
            shards.setdefault(shard, []).append(entry)
        await indexer.index(list(shards.items()))
        index(indexer.plan, memory, list(shards.items()), now=NOW)
        at += size
    compared = 0
    for table, held in memory.tables.items():
        names = list(next(iter(held.rows.values()), {}))
        rows = [tuple(row[name] for name in names) for row in held.rows.values()]
        assert sorted(map(repr, await indexer.rows(table, names))) == sorted(map(repr, rows)), table
        compared += len(rows)
    assert compared > 20_000
    repos = await conn.fetch(
        "SELECT did, rev, resync, account_time, identity_time, active, status FROM headrace.repo"
    )
    assert {row["did"]: list(row)[1:] for row in repos} == memory.repos
    due = await conn.fetch("SELECT did, seq, time, forced FROM headrace.identity_due")
    assert {row[0]: list(row)[1:] for row in due} == memory.due
    quotes = await conn.fetch("SELECT cid, quotes FROM headrace.quote_count")
    assert {row[0]: row[1] for row in quotes} == dict(memory.quote_count)
    columns = ("path", "reason", "error", "cid")
    letters = [repr([row[name] for name in columns]) for row in await indexer.dead()]
    assert sorted(letters) == sorted(repr([row[name] for name in columns]) for row in memory.dead)
    assert len(letters) > 100


def like(to: str) -> dict[str, Any]:
    return {
        "$type": "app.bsky.feed.like",
        "subject": {"uri": to, "cid": commits.cid_text(commits.cid_of(b"x"))},
        "createdAt": commits.TIME,
    }


async def test_a_row_that_postgres_refuses_is_named_and_voided(
    conn: asyncpg.Connection[Any],
) -> None:
    """A key too long for the index, beside good neighbours."""
    long = "at://did:plc:b/app.bsky.feed.post/1#/" + base64.b32encode(
        random.Random(1).randbytes(4_500)
    ).decode().rstrip("=")
    paths = [f"app.bsky.feed.like/{rkey}" for rkey in "123"]
    targets = ["at://did:plc:b/app.bsky.feed.post/1", long, "at://did:plc:b/app.bsky.feed.post/3"]
    ops = [commits.op("+", path, like(to)) for path, to in zip(paths, targets, strict=True)]
    shards: Shards = [(0, [commits.commit(A, 1, ops)])]
    indexer = Indexer(conn)
    with pytest.raises(Refused) as refused:
        await indexer.index(shards)
    assert refused.value.op == 1
    changes = await indexer.index(shards, voided=[(1, str(refused.value))])
    assert changes.tally()[0][3] == {"applied": 2, "rejected:refused_by_database": 1}
    assert [row[0][-1] for row in sorted(await indexer.rows("like", ["subject"]))] == ["1", "3"]
    assert len(await indexer.rows("record", ["uri"])) == 2
    (letter,) = await indexer.dead()
    assert (letter["path"], letter["reason"]) == (paths[1], "refused_by_database")
    assert letter["raw"] == ops[1].record
    assert "index row" in letter["error"]


async def test_an_update_keeps_what_is_not_ours(conn: asyncpg.Connection[Any]) -> None:
    path = "app.bsky.feed.like/1"
    indexer = Indexer(conn)
    first, second = (like(f"at://did:plc:b/app.bsky.feed.post/{each}") for each in "12")
    await indexer.index([(0, [commits.commit(A, 1, [commits.op("+", path, first)])])])
    await conn.execute("UPDATE record SET \"takedownRef\" = 'kept'")
    entry = commits.commit(A, 2, [commits.op("~", path, second)], since=commits.tid(1))
    await indexer.index([(0, [entry])])
    (row,) = await conn.fetch('SELECT "takedownRef", json FROM record')
    assert row["takedownRef"] == "kept"
    assert row["json"].count("feed.post/2") == 1
    ops = [commits.op("-", path), commits.op("+", path, first)]
    await indexer.index([(0, [commits.commit(A, 3, ops, since=commits.tid(2))])])
    assert await conn.fetchval('SELECT "takedownRef" FROM record') is None


async def test_the_last_event_asks_for_a_look_up_whatever_relay_it_comes_from(
    conn: asyncpg.Connection[Any],
) -> None:
    indexer = Indexer(conn)
    for relay, seq, time in [("a.test", 900, "2026-11-21T18:00:00Z"), ("b.test", 7, T_LATER)]:
        identity = wire.Identity(relay, 1, seq, A, time, None)
        await indexer.index([(0, [wire.encode(identity)])])
        await conn.execute("UPDATE headrace.identity_due SET attempts = 3")
    await indexer.index([(0, [commits.commit(A, 8, [], relay="b.test", time=T_LATER)])])
    due = await conn.fetchrow("SELECT seq, time, forced, attempts FROM headrace.identity_due")
    assert tuple(due or ()) == (7, T_LATER, True, 3)


async def test_dead_letters_keep_bytes_and_words(conn: asyncpg.Connection[Any]) -> None:
    """Whatever stands in path, error and record: quotes, backslashes, NUL."""
    bad = {"$type": "app.bsky.feed.like", "subject": 'a"\\\0', "createdAt": "never"}
    path = 'app.bsky.feed.like/"\\{,}'
    indexer = Indexer(conn)
    op = commits.op("+", path, bad)
    broken = commits.op("+", "app.bsky.feed.like/2", b'\xa1\x00\xff\\"')
    await indexer.index([(0, [commits.commit(A, 1, [op, broken])])])
    first, second = await indexer.dead()
    assert (first["path"], first["reason"], first["raw"]) == (path, "invalid_record", op.record)
    assert first["cid"] == commits.cid_text(op.cid or b"")
    assert (second["reason"], second["raw"]) == ("bad_cbor", broken.record)
    assert await conn.fetchval("SELECT resync FROM headrace.repo") == "record_missing"
    assert await conn.fetchval("SELECT count(*) FROM actor_sync") == 1
