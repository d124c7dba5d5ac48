"""What lists say of accounts reaches whoever owns their rows: as an event, once it is confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.core import streams, wire
from engine.roles.indexer import IndexerRole
from engine.roles.lister import telling
from tests.fix_ingest import until
from tests.fix_lists import A, Lists, add, did, network, serving

SAID = {"takendown": "takendown", "suspended": "suspended", "odd": "deactivated"}


@pytest.fixture
async def lists(database: str, redis_url: str) -> AsyncIterator[Lists]:
    async with serving(database, redis_url, network(a=3, b=3)) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "LOOK_SECONDS", 0.05)


def who(number: int) -> str:
    return did(number, "off")


async def told(lists: Lists) -> list[wire.Account]:
    found: list[wire.Account] = []
    for shard in range(16):
        for _, fields in await lists.redis.xrange(f"{streams.BACKFILL}:{shard}"):
            entry = wire.decode(fields[b"event"])
            assert isinstance(entry, wire.Account)
            found.append(entry)
    return sorted(found, key=lambda entry: (entry.did, entry.time))


async def apply(lists: Lists) -> None:
    """As an indexer does with the last word of each account."""
    for entry in await told(lists):
        await lists.conn.execute(
            "UPDATE headrace.repo SET active = $2, status = $3, account_time = $4 WHERE did = $1",
            entry.did,
            entry.active,
            entry.status,
            entry.time,
        )


async def pending(lists: Lists) -> int:
    return int(await lists.value("SELECT count(*) FROM headrace.repo WHERE tell IS NOT NULL"))


async def test_status_of_a_list_is_told_as_of_the_list_and_until_it_is_applied(
    lists: Lists,
) -> None:
    for number, status in enumerate(SAID):
        add(lists.server.network, A, who(number), active=False, status=status)
    add(lists.server.network, A, who(8), active=False, status="deleted")
    add(lists.server.network, A, who(9), active=False, status="throttled")
    async with lists.running() as role:
        await until(lists.is_listed)
        await until(lambda: _count(lists, 3))
        entries = await told(lists)
        assert await pending(lists) == 3
        assert await lists.value("SELECT unfinished FROM headrace.census") >= 3
        await apply(lists)
        await until(lambda: _pending(lists, 0))
        assert role._counters.told == 3
    assert [(entry.did, entry.active, entry.status) for entry in entries] == [
        (who(number), False, status) for number, status in enumerate(SAID.values())
    ]
    row = await lists.repo(who(0))
    listed = row["listed_at"].strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    assert entries[0].time == listed
    assert (entries[0].generation, entries[0].seq) == (0, 0)


async def _count(lists: Lists, count: int) -> bool:
    return len(await told(lists)) == count


async def _pending(lists: Lists, count: int) -> bool:
    return await pending(lists) == count


async def test_a_status_that_is_known_is_not_told(lists: Lists) -> None:
    add(lists.server.network, A, who(0), active=False, status="suspended")
    await lists.conn.execute(
        "INSERT INTO headrace.repo (did, active, status, account_time) VALUES ($1, $2, $3, $4)",
        *(who(0), False, "suspended", "2025-01-01T00:00:00.000Z"),
    )
    async with lists.running():
        await until(lists.is_listed)
        assert await pending(lists) == 0
    assert await told(lists) == []
    assert (await lists.repo(who(0)))["listed_status"] == "suspended"


async def test_an_account_that_left_the_host_is_not_told_of(lists: Lists) -> None:
    add(lists.server.network, A, who(0), active=False, status="deactivated")
    add(lists.server.network, A, who(1), active=False, status="deactivated")
    add(lists.server.network, A, who(2), active=False, status="deactivated")
    await lists.conn.execute("UPDATE headrace.plc_log SET read_to = now(), current_at = now()")
    await lists.conn.executemany(
        "INSERT INTO headrace.plc (did, created_at, pds) VALUES ($1, now(), $2)",
        [(who(0), "https://elsewhere.test"), (who(1), lists.server.url_of(A))],
    )
    async with lists.running():
        await until(lists.is_listed)
        await until(lambda: _count(lists, 2))
        await until(lambda: _pending(lists, 2))
    assert [entry.did for entry in await told(lists)] == [who(1), who(2)]


async def test_what_cannot_be_confirmed_waits(lists: Lists) -> None:
    add(lists.server.network, A, who(0), active=False, status="deactivated")
    lists.server.identity_status = 503
    async with lists.running():
        await until(lists.is_listed)
        await asyncio.sleep(0.3)
        assert (await told(lists), await pending(lists)) == ([], 1)
        lists.server.identity_status = 200
        await until(lambda: _count(lists, 1))


async def test_active_again_is_told_where_the_list_had_said_otherwise(lists: Lists) -> None:
    add(lists.server.network, A, who(0), active=False, status="deactivated")
    async with lists.running():
        await until(lists.is_listed)
        await until(lambda: _count(lists, 1))
        await apply(lists)
        await until(lambda: _pending(lists, 0))
        lists.server.network.repos[-1] |= {"active": True}
        await lists.again()
        await until(lambda: _count(lists, 2))
        await apply(lists)
        await until(lambda: _pending(lists, 0))
    assert [entry.active for entry in await told(lists)] == [False, True]


async def test_a_loss_of_redis_has_it_told_again(lists: Lists) -> None:
    add(lists.server.network, A, who(0), active=False, status="deactivated")
    async with lists.running():
        await until(lists.is_listed)
        await until(lambda: _count(lists, 1))
        await lists.redis.flushdb()
        await until(lambda: _count(lists, 1))
    async with lists.running():
        # Another process cannot know whether the first one came to it.
        await until(lambda: _count(lists, 2))
        await apply(lists)
        await until(lambda: _pending(lists, 0))


async def test_a_later_event_makes_it_told(lists: Lists) -> None:
    add(lists.server.network, A, who(0), active=False, status="deactivated")
    async with lists.running():
        await until(lists.is_listed)
        await until(lambda: _count(lists, 1))
        later: Any = "2999-01-01T00:00:00Z"
        await lists.conn.execute(
            "UPDATE headrace.repo SET active = true, account_time = $2 WHERE did = $1",
            *(who(0), later),
        )
        await until(lambda: _pending(lists, 0))


async def test_a_relay_that_lists_for_no_known_host_is_believed(lists: Lists) -> None:
    lists.server.network.repos.append(
        {"did": who(0), "head": "x", "rev": "3l2222222222a", "active": False, "status": "takendown"}
    )
    async with lists.running():
        await until(lists.is_listed)
        await until(lambda: _count(lists, 1))
    assert (await lists.repo(who(0)))["host"] is None


async def test_the_actor_has_the_status_of_the_list(lists: Lists) -> None:
    """Through the streams and an indexer, into the row that the AppView reads."""
    add(lists.server.network, A, who(0), active=False, status="takendown")
    stop = asyncio.Event()
    async with lists.running():
        indexer = asyncio.create_task(IndexerRole("indexer/0", lists.settings()).run(stop))
        try:
            await until(lambda: _status(lists, "takendown"))
            await until(lambda: _pending(lists, 0))
        finally:
            stop.set()
            await indexer


async def _status(lists: Lists, status: str) -> bool:
    query = 'SELECT "upstreamStatus" FROM actor WHERE did = $1'
    return bool(await lists.value(query, who(0)) == status)
