"""Connections to Postgres, planned and allowed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from engine import settings
from engine.errors import SettingsError
from engine.runtime import budget
from engine.runtime.plan import ProcessSpec, plan
from engine.settings import advice
from engine.settings.advice import ConnectionLimits


def limits(
    most: int, in_use: int = 0, of_role: int = -1, of_database: int = -1
) -> ConnectionLimits:
    return ConnectionLimits(most, 3, of_role, of_database, in_use)


def indexers(count: int) -> list[ProcessSpec]:
    return [ProcessSpec("indexer", slot, None, "h") for slot in range(count)]


def test_planned_is_the_sum_by_role() -> None:
    chosen = settings.load(
        environ={"INGESTER_RELAY_HOSTS": "a.example,b.example,c.example", "INDEXER_PROCESSES": "5"}
    )
    assert budget.planned(plan(chosen, [0], host="h"), chosen) == {
        "up": 1,
        "firehose": 5,
        "lister": 4,
        "backfiller": 3,
        "indexer": 10,
        "identity": 5,
    }


def test_every_built_role_has_its_number() -> None:
    assert set(budget.WORKING) == set(settings.BUILT)


@pytest.mark.parametrize(
    ("planned", "found", "words"),
    [
        (97, limits(100), None),
        (98, limits(100), "98 connections are planned and Postgres allows 97: set max_connections "
         "of Postgres to 101 or more, or set INDEXER_PROCESSES to 49 or less"),
        (160, limits(100), "160 connections are planned and Postgres allows 97: set "
         "max_connections of Postgres to 163 or more"),
        (10, limits(100, of_role=9), "10 connections are planned and Postgres allows 9: give "
         "the user a CONNECTION LIMIT of 10 or more, or set INDEXER_PROCESSES to 49 or less"),
        (10, limits(100, of_role=10, of_database=0), "10 connections are planned and Postgres "
         "allows 0: give the database a CONNECTION LIMIT of 10 or more, or set INDEXER_PROCESSES "
         "to 40 or less"),
    ],
)  # fmt: skip
def test_refused_is_what_can_never_be(
    planned: int, found: ConnectionLimits, words: str | None
) -> None:
    assert advice.connections_refusal(planned, 50, 1, found) == words


def test_others_that_leave_too_little_are_a_warning() -> None:
    assert advice.connections_notice(50, limits(100, in_use=47)) is None
    notice = advice.connections_notice(50, limits(100, in_use=48))
    assert notice is not None
    assert notice.warns
    assert "set max_connections to 101 or more" in notice.text


async def test_check_tells_the_sum_and_what_is_allowed(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    chosen = settings.load(environ={"DATABASE_URL": database})
    await budget.check(chosen, indexers(3))
    [line] = [text for text in caplog.messages if text.startswith("Postgres connections ")]
    assert line.startswith("Postgres connections planned=7 up=1 indexer=6 allowed=97 reserved=3 ")


async def test_check_counts_the_connections_of_others(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever they are: other tests' connections to the same server count, too."""
    chosen = settings.load(environ={"DATABASE_URL": database})
    others = [await asyncpg.connect(database) for _ in range(10)]
    try:
        await budget.check(chosen, indexers(45))
    finally:
        for each in others:
            await each.close()
    [said] = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert "91 connections are planned, and of the 100 of Postgres" in said


@asynccontextmanager
async def ordinary_user(database: str, options: str) -> AsyncIterator[str]:
    """The same database for a user that is no superuser."""
    conn = await asyncpg.connect(database)
    try:
        await conn.execute(f"CREATE ROLE headrace_budget LOGIN {options}")
        yield database.replace("postgres@", "headrace_budget@", 1)
        await conn.execute("DROP ROLE headrace_budget")
    finally:
        await conn.close()


async def test_check_refuses_what_the_role_may_not(database: str) -> None:
    async with ordinary_user(database, "CONNECTION LIMIT 5") as url:
        chosen = settings.load(environ={"DATABASE_URL": url})
        await budget.check(chosen, indexers(2))
        with pytest.raises(SettingsError, match="CONNECTION LIMIT of 7 or more, or set INDEXER"):
            await budget.check(chosen, indexers(3))


async def test_check_counts_alike_for_an_ordinary_user(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def counted(url: str) -> int:
        caplog.clear()
        await budget.check(settings.load(environ={"DATABASE_URL": url}), [])
        return int(caplog.messages[0].rpartition("used_by_others=")[2])

    async with ordinary_user(database, "") as url, asyncio.timeout(20):
        # Of the server's own processes only the replication launcher has a user. Backends of
        # earlier tests may just be ending.
        while await counted(url) - await counted(database) not in (0, 1):
            await asyncio.sleep(0.05)
