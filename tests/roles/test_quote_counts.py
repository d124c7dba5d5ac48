"""Quotes that a database held before us are counted, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from engine.adapters import postgres
from engine.roles.indexer import tables
from engine.settings import Settings

pytestmark = pytest.mark.services

ADD_QUOTES = """
    INSERT INTO quote (uri, cid, subject, "subjectCid", "createdAt", "indexedAt")
    SELECT 'at://did:web:a/app.bsky.feed.post/' || $1 || n, 'c', 'at://did:web:b/p/1', $1, 't', 't'
    FROM generate_series(1, $2) AS n"""


@pytest.fixture
def settings(database: str) -> Settings:
    return Settings(database_url=database)


@pytest.fixture
async def conn(settings: Settings) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await postgres.connect(settings, "test/0")
    await connection.execute(ADD_QUOTES, "often", 3)
    await connection.execute(ADD_QUOTES, "once", 1)
    yield connection
    await connection.close()


async def _counted(conn: asyncpg.Connection[Any]) -> dict[str, int]:
    return {row["cid"]: row["quotes"] for row in await conn.fetch("TABLE headrace.quote_count")}


async def test_quotes_from_before_us_are_counted_by_cid(
    conn: asyncpg.Connection[Any], settings: Settings
) -> None:
    await tables.count_quotes(conn, settings)
    assert await _counted(conn) == {"often": 3, "once": 1}


async def test_once_counted_they_are_not_counted_again(
    conn: asyncpg.Connection[Any], settings: Settings
) -> None:
    await tables.count_quotes(conn, settings)
    await conn.execute(ADD_QUOTES, "later", 2)
    await tables.count_quotes(conn, settings)
    assert await _counted(conn) == {"often": 3, "once": 1}


async def test_indexers_that_start_together_count_once(
    conn: asyncpg.Connection[Any], settings: Settings
) -> None:
    others = [await postgres.connect(settings, f"test/{number}") for number in range(1, 4)]
    try:
        await asyncio.gather(*(tables.count_quotes(each, settings) for each in others))
        assert await _counted(conn) == {"often": 3, "once": 1}
    finally:
        for each in others:
            await each.close()
