"""Where backfill stands: counted in the tables, told in words, and when it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from engine import sql
from engine.core.streams import QUEUE_GROUP, Keys
from engine.ops import backfill_status, status
from engine.ops.backfill_status import Backfill
from engine.ops.status import Status
from engine.ops.status_reader import StatusReader
from engine.settings import Settings

BOTH = ("lister", "backfiller", "indexer", "identity")


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    made = await asyncpg.connect(database, server_settings={"search_path": "headrace"})
    yield made
    await made.close()


@pytest.fixture
async def reader(database: str, redis_url: str) -> AsyncIterator[StatusReader]:
    made = StatusReader(Settings(database_url=database, redis_url=redis_url))
    yield made
    await made.close()


async def test_status_counts_repositories_hosts_and_the_queue(
    reader: StatusReader, conn: asyncpg.Connection[Any], redis_url: str
) -> None:
    await conn.execute(
        "INSERT INTO repo (did, outcome, queued_at, data, backfilled_rev, fetched_at) VALUES"
        " ('did:a', 'ok', NULL, 'bafy', '3a', now()), ('did:b', NULL, now(), NULL, NULL, NULL),"
        " ('did:c', 'gone', NULL, NULL, NULL, NULL)"
    )
    await conn.execute(
        "INSERT INTO host (origin, found_by, relay, failures, done_at, next_at) VALUES"
        " ('https://r', 'settings', true, 0, now(), 'infinity'),"
        " ('https://p', 'r', false, 9, NULL, now()), ('https://q', 'r', false, 0, NULL, now())"
    )
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.xgroup_create(Keys().queue, QUEUE_GROUP, "0", mkstream=True)
        for _ in range(3):
            await client.xadd(Keys().queue, {"repo": b"{}"})
        await client.xreadgroup(QUEUE_GROUP, "somebody", {Keys().queue: ">"}, count=1)
    found = await reader.collect()
    assert found.errors == []
    assert found.backfill == Backfill(
        known=3,
        queued=1,
        fetched=1,
        verified=1,
        indexed=1,
        unfinished=1,
        failed={"gone": 1},
        age_seconds=0.0,
        hosts=2,
        hosts_due=2,
        unreachable_hosts=1,
        relays=1,
        queue=3,
        queue_taken=1,
    )
    text = status.render_text(found)
    assert "repositories: 3 known, 1 queued, 0 fetching, 1 fetched, 1 verified, 1 indexed" in text
    assert "repositories that failed: gone 1" in text
    assert "hosts: 2 known, 0 listed, 2 to be listed, 1 unreachable, 0 listing gaps" in text
    assert "queue: 3 to fetch, 1 of them taken" in text


async def test_large_table_is_not_scanned_for_the_status(
    reader: StatusReader, conn: asyncpg.Connection[Any]
) -> None:
    await conn.execute(
        "INSERT INTO repo (did, outcome_error) SELECT 'did:' || n, repeat(md5(n::text), 60)"
        " FROM generate_series(1, 9000) AS n"
    )
    assert await conn.fetchval("SELECT pg_relation_size('repo')") > 16 << 20
    found = (await reader.collect()).backfill
    assert (found.known, found.age_seconds, found.complete) == (0, None, False)
    await conn.execute(sql.load("lister", state="headrace")["census_keep"])
    found = (await reader.collect()).backfill
    assert found.known == 9000
    assert found.age_seconds is not None


async def test_kept_census_is_old_once_a_host_was_listed(
    reader: StatusReader, conn: asyncpg.Connection[Any]
) -> None:
    await conn.execute(
        "INSERT INTO repo (did, outcome_error) SELECT 'did:' || n, repeat(md5(n::text), 60)"
        " FROM generate_series(1, 9000) AS n"
    )
    await conn.execute("INSERT INTO host (origin, found_by, done_at) VALUES ('h', 'x', now())")
    keep = sql.load("lister", state="headrace")["census_keep"]
    await conn.execute(keep)
    assert (await reader.collect()).backfill.complete
    await conn.execute("UPDATE host SET done_at = now()")
    assert not (await reader.collect()).backfill.complete
    await conn.execute(keep)
    assert (await reader.collect()).backfill.complete


async def test_what_waits_for_a_host_that_is_down_is_not_waited_for(
    reader: StatusReader, conn: asyncpg.Connection[Any]
) -> None:
    await conn.execute("INSERT INTO repo (did, host) VALUES ('did:a', 'https://p')")
    await conn.execute("INSERT INTO host (origin, found_by) VALUES ('https://p', 'x')")
    assert (await reader.collect()).backfill.unfinished == 1
    await conn.execute("UPDATE host SET parked_until = now() + interval '1 hour'")
    found = (await reader.collect()).backfill
    assert (found.unfinished, found.hosts_due, found.unreachable_hosts) == (0, 0, 1)


DONE = {"hosts": 5, "relays": 1, "queue": 0, "known": 9, "age_seconds": 0.0}


@pytest.mark.parametrize(
    ("fields", "roles", "done"),
    [
        ({}, BOTH, True),
        ({"unfinished": 1}, BOTH, False),
        ({"queue": 1}, BOTH, False),
        ({"queue": None}, BOTH, False),
        ({"hosts_due": 1}, BOTH, False),
        ({"complete": False}, BOTH, False),
        ({"hosts": 0, "relays": 0}, BOTH, False),
        ({"unreachable_hosts": 5, "listing_gaps": 3, "failed": {"gone": 2}}, BOTH, True),
        ({"unfinished": 1, "queue": 1}, ("lister",), True),
        ({"hosts_due": 1}, ("lister",), False),
        ({"hosts_due": 1, "unfinished": 1}, ("backfiller", "indexer"), True),
        ({"queue": 1}, ("backfiller",), False),
        ({"queue": 1, "hosts_due": 1, "unfinished": 1}, ("firehose", "indexer"), True),
    ],
    ids=str,
)
def test_when_backfill_is_done(fields: dict[str, Any], roles: tuple[str, ...], done: bool) -> None:
    backfill = Backfill(**(DONE | fields))
    assert backfill_status.caught_up(backfill, roles) is done
    assert status.caught_up(Status(backfill=backfill), [], roles) is done


def test_deployment_without_backfill_says_nothing_of_it() -> None:
    assert backfill_status.lines(Backfill()) == []
    assert backfill_status.progress(Backfill()) == []
