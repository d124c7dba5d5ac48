"""The queue holds what the table says is needed, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest

from engine.adapters import resp
from engine.errors import StoreUnavailable
from engine.roles.lister import feeder
from engine.roles.lister.feeder import Counters, Feeder
from engine.simulate import Network
from tests.fix_lists import KEYS, REV, Lists, did, serving

HOSTS = [f"https://{name}.test" for name in "abcd"]


class Feeding:
    """A feeder and what it works on."""

    def __init__(self, lists: Lists, conn: asyncpg.Connection[Any]) -> None:
        self.lists = lists
        self.conn = conn
        self.counters = Counters()
        self.redis: resp.RespConnection | None = None
        self.feeder: Feeder

    async def anew(self, **more: str) -> Feeder:
        """A feeder that knows nothing of an earlier one."""
        await self.close()
        settings = self.lists.settings(**more)
        self.redis = await resp.RespConnection.open(self.lists.redis_url)
        self.feeder = Feeder(self.conn, self.redis, settings, self.counters)
        return self.feeder

    async def close(self) -> None:
        if self.redis is not None:
            self.redis.close()
            await self.redis.wait_closed()

    async def add(self, count: int, hosts: Sequence[str | None], **fields: Any) -> list[str]:
        """Repositories of hosts in turn."""
        names = [did(number, "q") for number in range(count)]
        rows = [(name, hosts[number % len(hosts)], REV) for number, name in enumerate(names)]
        await self.conn.executemany(
            "INSERT INTO headrace.repo (did, host, listed_rev) VALUES ($1, $2, $3)", rows
        )
        for column, value in fields.items():
            await self.conn.execute(f"UPDATE headrace.repo SET {column} = $1", value)
        return names

    async def state(self) -> tuple[int, int]:
        """How many the table calls queued, and how many are in the queue."""
        marked = await self.lists.value(
            "SELECT count(*) FROM headrace.repo WHERE queued_at IS NOT NULL"
        )
        return marked, len(await self.lists.queued())


@pytest.fixture
async def feeding(database: str, redis_url: str) -> AsyncIterator[Feeding]:
    conn = await asyncpg.connect(database)
    async with serving(database, redis_url, Network()) as lists:
        made = Feeding(lists, conn)
        await made.anew()
        yield made
        await made.close()
    await conn.close()


async def test_what_was_never_fetched_is_queued_once(feeding: Feeding) -> None:
    names = await feeding.add(30, [*HOSTS, None])
    for _ in range(3):
        await feeding.feeder.check()
    queued = await feeding.lists.queue()
    assert sorted(entry["did"] for entry in queued) == names
    assert {entry["host"] for entry in queued} == {*HOSTS, None}
    assert {entry["rev"] for entry in queued} == {REV}
    assert feeding.counters.queued == 30


async def test_neighbours_in_the_queue_are_of_different_hosts(feeding: Feeding) -> None:
    await feeding.add(400, HOSTS)
    await feeding.feeder.check()
    hosts = [entry["host"] for entry in await feeding.lists.queue()]
    assert len(hosts) == 400
    assert all(one != other for one, other in itertools.pairwise(hosts))


async def test_small_hosts_do_not_wait_for_a_large_one(feeding: Feeding) -> None:
    await feeding.add(3000, HOSTS[:1])
    for number, host in enumerate(HOSTS[1:]):
        await feeding.conn.execute(
            "INSERT INTO headrace.repo (did, host) VALUES ($1, $2)", did(number, "small"), host
        )
    feeder = await feeding.anew(LISTER_QUEUE_FILL="100", LISTER_QUEUE_RESUME="50")
    await feeder.check()
    queue = await feeding.lists.queue()
    assert {entry["host"] for entry in queue} == set(HOSTS)
    assert len(queue) == 100


async def test_queue_is_filled_to_the_mark_and_again_when_it_is_short(feeding: Feeding) -> None:
    await feeding.add(1000, HOSTS)
    feeder = await feeding.anew(LISTER_QUEUE_FILL="300", LISTER_QUEUE_RESUME="100")
    await feeder.check()
    assert await feeding.state() == (300, 300)
    seen = set(await feeding.lists.take(150))
    await feeder.check()
    assert await feeding.state() == (150, 150)
    seen |= set(await feeding.lists.take(60))
    await feeder.check()
    assert await feeding.state() == (300, 300)
    while await feeding.lists.queued():
        seen |= set(await feeding.lists.take(250))
        await feeder.check()
    assert len(seen) == 1000
    assert feeding.counters.queued == 1000


async def test_high_water_mark_holds_for_the_queue_too(feeding: Feeding) -> None:
    await feeding.add(100, HOSTS)
    feeder = await feeding.anew(INGESTER_HIGH_WATER_MARK="40")
    await feeder.check()
    assert await feeding.state() == (40, 40)


async def test_what_was_asked_for_does_not_wait_for_a_short_queue(feeding: Feeding) -> None:
    await feeding.add(100, HOSTS)
    feeder = await feeding.anew(LISTER_QUEUE_FILL="60", LISTER_QUEUE_RESUME="10")
    await feeder.check()
    await feeding.lists.take(10)
    await feeding.conn.execute(
        "INSERT INTO headrace.repo (did, wanted, backfilled_rev) VALUES ($1, 'enqueued', '3a')",
        did(1, "asked"),
    )
    await feeder.check()
    assert (await feeding.lists.queued())[-1] == did(1, "asked")
    assert await feeding.state() == (51, 51)
    assert (await feeding.lists.repo(did(1, "asked")))["wanted"] is None


@pytest.mark.parametrize(
    ("fields", "queued"),
    [
        ({"resync": "since"}, True),
        ({"resync": "since", "outcome": "ok", "backfilled_rev": "3a"}, True),
        ({"resync": "since", "outcome": "gone"}, False),
        ({"resync": "since", "outcome": "ok", "fetch_id": 5}, False),
        ({"outcome": "gone"}, False),
        ({"outcome": "ok", "backfilled_rev": "3a"}, False),
        ({"outcome": "ok", "fetch_id": 5}, False),
        ({"wanted": "enqueued", "outcome": "ok", "backfilled_rev": "3a"}, True),
    ],
    ids=str,
)
async def test_what_is_needed_is_queued(
    feeding: Feeding, fields: dict[str, Any], queued: bool
) -> None:
    await feeding.add(1, HOSTS, **fields)
    await feeding.feeder.check()
    await feeding.feeder.check()
    assert len(await feeding.lists.queued()) == int(queued)


async def test_what_is_put_off_is_queued_when_it_is_due(feeding: Feeding) -> None:
    await feeding.add(2, HOSTS, outcome="transient")
    await feeding.conn.execute(
        "UPDATE headrace.repo SET next_attempt_at = now() + CASE did WHEN $1"
        " THEN interval '-1 s' ELSE interval '1 hour' END",
        did(1, "q"),
    )
    await feeding.feeder.check()
    assert await feeding.lists.queued() == [did(1, "q")]
    assert (await feeding.lists.repo(did(1, "q")))["next_attempt_at"] is None


async def test_put_off_before_its_first_attempt_is_not_queued_early(feeding: Feeding) -> None:
    await feeding.add(3, [*HOSTS, None])
    await feeding.conn.execute(
        "UPDATE headrace.repo SET next_attempt_at = now() + interval '1 hour'"
    )
    async with asyncio.timeout(30):
        await feeding.feeder.check()
    assert await feeding.lists.queued() == []


async def test_repositories_of_a_parked_host_wait(feeding: Feeding) -> None:
    await feeding.add(10, HOSTS[:2])
    await feeding.conn.execute(
        "INSERT INTO headrace.host (origin, found_by, parked_until)"
        " VALUES ($1, 'x', now() + interval '1 hour')",
        HOSTS[0],
    )
    await feeding.feeder.check()
    assert {entry["host"] for entry in await feeding.lists.queue()} == {HOSTS[1]}
    await feeding.conn.execute("UPDATE headrace.host SET parked_until = now()")
    await feeding.feeder.check()
    assert await feeding.state() == (10, 10)


@pytest.mark.parametrize("restarted", [False, True])
async def test_queue_that_is_thrown_away_is_made_again(feeding: Feeding, restarted: bool) -> None:
    await feeding.add(50, HOSTS)
    await feeding.feeder.check()
    await feeding.lists.redis.flushdb()
    if restarted:
        await feeding.anew()
    for _ in range(3):
        await feeding.feeder.check()
    assert await feeding.state() == (50, 50)
    assert feeding.counters.lost == 50
    groups = await feeding.lists.redis.xinfo_groups(KEYS.queue)
    assert [group["name"] for group in groups] == [b"repo_backfill_group"]


async def test_entry_that_is_gone_is_made_again_and_the_others_left(feeding: Feeding) -> None:
    names = await feeding.add(20, HOSTS)
    await feeding.feeder.check()
    entries = await feeding.lists.redis.xrange(KEYS.queue)
    before = await feeding.lists.queued()
    await feeding.lists.redis.xdel(KEYS.queue, entries[3][0])
    await feeding.anew()
    for _ in range(3):
        await feeding.feeder.check()
    assert sorted(await feeding.lists.queued()) == names
    assert (await feeding.lists.queued())[-1] == before[3]
    assert feeding.counters.lost == 1


async def test_attempt_that_ended_between_queue_and_row_is_not_repeated(feeding: Feeding) -> None:
    """The entry goes a moment before the row says so; then the row alone tells."""
    await feeding.add(2, HOSTS)
    await feeding.feeder.check()
    await feeding.conn.execute("UPDATE headrace.repo SET last_attempt_at = now(), outcome = 'gone'")
    await feeding.lists.redis.delete(KEYS.queue, KEYS.queue_mark)
    for _ in range(3):
        await feeding.feeder.check()
    assert await feeding.state() == (0, 0)


async def test_feeder_that_died_between_row_and_queue_loses_nothing(feeding: Feeding) -> None:
    await feeding.add(5, HOSTS, queued_at=None)
    await feeding.conn.execute("UPDATE headrace.repo SET queued_at = now()")
    for _ in range(3):
        await feeding.feeder.check()
    assert await feeding.state() == (5, 5)


async def test_lost_streams_bring_back_what_was_fetched_and_not_indexed(feeding: Feeding) -> None:
    names = await feeding.add(4, HOSTS)
    await feeding.conn.execute("UPDATE headrace.deployment SET epoch = 'one'")
    await feeding.feeder.check()
    assert await feeding.lists.take(4) != []
    # One is indexed, one is fetched and not indexed, one is being fetched, one failed for good.
    for name, fields in zip(
        names,
        (
            "fetch_id = NULL",
            "fetch_id = 7, fetched_at = now(), outcome = 'ok', backfilled_rev = NULL",
            "fetch_id = 8, fetched_at = NULL, outcome = NULL, backfilled_rev = NULL",
            "outcome = 'gone', backfilled_rev = NULL",
        ),
        strict=True,
    ):
        await feeding.conn.execute(f"UPDATE headrace.repo SET {fields} WHERE did = $1", name)
    await feeding.feeder.check()
    assert await feeding.lists.queued() == []
    await feeding.conn.execute("UPDATE headrace.deployment SET epoch = 'two'")
    await feeding.feeder.check()
    assert sorted(await feeding.lists.queued()) == names[1:3]
    assert (await feeding.lists.repo(names[1]))["fetch_id"] is None
    assert await feeding.lists.value("SELECT epoch FROM headrace.queue") == "two"
    assert feeding.counters.swept == 2


async def test_new_epoch_leaves_what_is_in_the_queue(feeding: Feeding) -> None:
    await feeding.add(10, HOSTS)
    await feeding.conn.execute("UPDATE headrace.deployment SET epoch = 'one'")
    await feeding.feeder.check()
    await feeding.conn.execute("UPDATE headrace.deployment SET epoch = 'two'")
    await feeding.feeder.check()
    assert await feeding.state() == (10, 10)
    assert feeding.counters.queued == 10


async def test_rows_that_somebody_works_on_are_not_waited_for(
    feeding: Feeding, database: str
) -> None:
    names = await feeding.add(10, HOSTS)
    indexer = await asyncpg.connect(database)
    try:
        transaction = indexer.transaction()
        await transaction.start()
        await indexer.execute("SELECT FROM headrace.repo WHERE did = $1 FOR UPDATE", names[4])
        async with asyncio.timeout(30):
            await feeding.feeder.check()
        assert await feeding.state() == (9, 9)
        await transaction.rollback()
        await feeding.feeder.check()
        assert await feeding.state() == (10, 10)
    finally:
        await indexer.close()


async def test_full_redis_refuses_and_nothing_is_lost(feeding: Feeding) -> None:
    await feeding.add(20, HOSTS)
    await feeding.feeder._adopt()
    used = (await feeding.lists.redis.info("memory"))["used_memory"]
    await feeding.lists.redis.config_set("maxmemory", used // 2)
    try:
        with pytest.raises(StoreUnavailable, match="refuses"):
            await feeding.feeder.check()
    finally:
        await feeding.lists.redis.config_set("maxmemory", 0)
    assert await feeding.state() == (0, 0)
    await feeding.feeder.check()
    assert await feeding.state() == (20, 20)


async def test_entries_pushed_by_hand_do_no_harm(feeding: Feeding) -> None:
    await feeding.add(3, HOSTS)
    for value in (b"{", b"[]", b'{"did": 5}', b'{"did": "did:plc:byhand"}'):
        await feeding.lists.redis.xadd(KEYS.queue, {"repo": value})
    await feeding.lists.redis.xadd(KEYS.queue, {"other": "x"})
    await feeding.feeder.check()
    assert await feeding.lists.redis.xlen(KEYS.queue) == 8


async def test_chunks_add_up(feeding: Feeding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder, "CHUNK", 7)
    monkeypatch.setattr(feeder, "HOSTS_AT_ONCE", 3)
    names = await feeding.add(100, [*HOSTS, None])
    await feeding.feeder.check()
    assert sorted(await feeding.lists.queued()) == names
    await feeding.lists.redis.flushdb()
    for _ in range(2):
        await feeding.feeder.check()
    assert sorted(await feeding.lists.queued()) == names


async def test_queue_that_is_emptied_fast_is_looked_at_sooner(feeding: Feeding) -> None:
    await feeding.add(600, HOSTS)
    made = await feeding.anew(LISTER_QUEUE_FILL="300", LISTER_QUEUE_RESUME="100")
    await made.check()
    assert made.pause_seconds(3600.0) == 300 - 100 / 2  # as if one a second were taken
    made._checked_at -= 10
    await feeding.lists.take(150)  # fifteen a second, or nearly
    await made.check()
    assert 100 / 15 <= made.pause_seconds(3600.0) < 100 / 10
    assert made.pause_seconds(5.0) == 5.0
    await feeding.lists.take(100)
    await made.check()
    while await feeding.lists.take(200):
        await made.check()
    assert (made.length, made.pause_seconds(5.0)) == (0, 5.0)  # there is no more
