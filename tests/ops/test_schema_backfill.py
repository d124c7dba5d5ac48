"""The tables of backfill: live commits stay cheap, ranges are of bytes, the census adds up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest

from engine import sql

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def _live_commit(conn: asyncpg.Connection[Any], rev: str) -> None:
    """What an indexer writes of a repository with each batch that has a commit of it."""
    statement = sql.load("indexer", state="headrace")["upsert_repos"]
    array = [f"{{{value}}}" for value in (DID, rev, "NULL", rev, rev, "true", "NULL")]
    await conn.execute(statement, *array)


async def test_live_commit_moves_no_index_entry(conn: asyncpg.Connection[Any]) -> None:
    await conn.execute(
        "INSERT INTO headrace.repo (did, host, listed_rev, wanted, queued_at, fetch_id,"
        " next_attempt_at) VALUES ($1, 'https://pds.example', '3a', 'listed', now(), 1, now())",
        DID,
    )
    for number in range(20):
        await _live_commit(conn, f"3k{number:02}")
    await conn.execute("SELECT pg_stat_force_next_flush()")
    row = await conn.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
        " WHERE schemaname = 'headrace' AND relname = 'repo'"
    )
    assert row is not None
    assert tuple(row) == (20, 20)


async def test_repository_known_by_live_commits_is_counted_and_wanted(
    conn: asyncpg.Connection[Any],
) -> None:
    await _live_commit(conn, "3k00")
    row = await conn.fetchrow("SELECT * FROM headrace.repo")
    assert row is not None
    assert row["first_seen_at"] is not None
    assert row["attempts"] == 0
    unfetched = await conn.fetchval(
        "SELECT count(*) FROM headrace.repo"
        " WHERE backfilled_rev IS NULL AND outcome IS NULL AND queued_at IS NULL"
    )
    assert unfetched == 1


async def test_touched_uris_are_in_the_order_of_keys_in_a_tree(
    conn: asyncpg.Connection[Any],
) -> None:
    paths = ["app.bsky.feed.post/B", "app.bsky.feed.post/a", "app.bsky.feed.post/_", "a.b/~"]
    uris = [f"at://{DID}/{path}" for path in paths]
    await conn.executemany(
        "INSERT INTO headrace.touched VALUES ($1, $2, '3k00')", [(DID, uri) for uri in uris]
    )
    found = await conn.fetch(
        "SELECT uri FROM headrace.touched WHERE did = $1 AND uri > $2 ORDER BY uri", DID, uris[0]
    )
    expected = sorted((uri for uri in uris if uri > uris[0]), key=str.encode)
    assert [row["uri"] for row in found] == expected
    async with conn.transaction():
        await conn.execute("SET LOCAL enable_seqscan = off")
        plan = await conn.fetchval(
            "EXPLAIN (FORMAT JSON) SELECT * FROM headrace.touched"
            f" WHERE did = '{DID}' AND uri > 'at://a' AND uri <= 'at://b'"
        )
    assert "(uri > 'at://a'::text)" in orjson.dumps(orjson.loads(plan)).decode()
    assert "Index Cond" in plan


async def test_unknown_outcome_is_refused(conn: asyncpg.Connection[Any]) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await conn.execute("INSERT INTO headrace.repo (did, outcome) VALUES ($1, 'odd')", DID)


async def test_census_counts_each_stage(conn: asyncpg.Connection[Any]) -> None:
    await conn.execute(
        """INSERT INTO headrace.repo
        (did, outcome, queued_at, fetch_id, fetched_at, data, backfilled_rev, next_attempt_at,
         resync, wanted) VALUES
        ('did:a', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        ('did:b', NULL, now(), NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        ('did:c', NULL, now(), 1, NULL, NULL, NULL, NULL, NULL, NULL),
        ('did:d', 'ok', NULL, 2, now(), 'bafy', NULL, NULL, NULL, NULL),
        ('did:e', 'ok', NULL, NULL, now(), 'bafy', '3a', NULL, NULL, NULL),
        ('did:f', 'empty', NULL, NULL, now(), 'bafy', '3a', NULL, 'gap', NULL),
        ('did:g', 'gone', NULL, NULL, NULL, NULL, NULL, NULL, 'gap', NULL),
        ('did:h', 'gone', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'enqueued'),
        ('did:i', 'transient', NULL, NULL, NULL, NULL, NULL, now(), NULL, NULL)"""
    )
    await conn.execute(
        "INSERT INTO headrace.host (origin, found_by, relay, failures, done_at) VALUES"
        " ('https://r', 'settings', true, 0, now()), ('https://p', 'r', false, 3, NULL),"
        " ('https://q', 'r', false, 2, now())"
    )
    row = await conn.fetchrow("SELECT * FROM headrace.census")
    assert row is not None
    found = dict(row)
    assert orjson.loads(found.pop("failed")) == {"gone": 2, "transient": 1}
    assert found == {
        **{"known": 9, "queued": 2, "fetching": 1, "fetched": 3, "verified": 3, "indexed": 2},
        "unfinished": 7,
    }
    row = await conn.fetchrow("SELECT * FROM headrace.host_census")
    assert row is not None
    assert dict(row) == {
        **{"relays": 1, "hosts": 2, "listed_hosts": 1, "unreachable_hosts": 1},
        **{"hosts_due": 2, "listing_gaps": 0},
    }


async def test_census_of_nothing_is_zeros(conn: asyncpg.Connection[Any]) -> None:
    row = await conn.fetchrow("SELECT * FROM headrace.census")
    assert row is not None
    found = dict(row)
    assert found.pop("failed") == "{}"
    assert set(found.values()) == {0}


async def test_queue_has_one_row(conn: asyncpg.Connection[Any]) -> None:
    assert await conn.fetchval("SELECT epoch FROM headrace.queue") == ""
    with pytest.raises(asyncpg.UniqueViolationError):
        await conn.execute("INSERT INTO headrace.queue DEFAULT VALUES")
