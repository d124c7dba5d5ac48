"""The lister finds every repository once, from page to page, and knows what its hosts say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.core import listing as rules
from tests.fix_ingest import until
from tests.fix_lists import LATER, REV, A, B, Lists, add, did, network, serving

SIZES = {"a": 57, "b": 23}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are tried again soon."""
    monkeypatch.setattr(rules, "WAITS_SECONDS", (0.05, 0.05, 0.05, 0.1))


@pytest.fixture
async def lists(database: str, redis_url: str, quick: None) -> AsyncIterator[Lists]:
    async with serving(database, redis_url, network(**SIZES), LISTER_PAGE_SIZE="10") as made:
        yield made


async def test_every_host_is_listed_and_the_relay_too(lists: Lists) -> None:
    alone = did(1, "relayonly")
    lists.server.network.repos.append({"did": alone, "rev": REV, "head": "x"})
    async with lists.running() as role:
        await until(lists.is_listed, why="all hosts listed")
        said: Any = role.report()
    assert await lists.known(A) == {did(number, "a") for number in range(57)}
    assert await lists.known(B) == {did(number, "b") for number in range(23)}
    assert (await lists.repo(alone))["host"] is None
    assert await lists.value("SELECT count(*) FROM headrace.repo") == 81
    assert said["counters"]["new"] == 81
    assert said["counters"]["repos"] >= 81 + 80
    row = await lists.host(A)
    assert (row["accounts"], row["listed"], row["failures"], row["cursor"]) == (57, 57, 0, "")


async def test_pages_are_asked_for_in_order_and_once(lists: Lists) -> None:
    async with lists.running():
        await until(lists.is_listed)
    asked = [cursor for cursor, _ in lists.listing(A).asked]
    assert asked == ["", "10", "20", "30", "40", "50"]
    assert {limit for _, limit in lists.listing(A).asked} == {10}


async def test_listing_goes_on_where_another_lister_stopped(lists: Lists) -> None:
    lists.listing(A).delay = 0.05
    async with lists.running() as first:
        await until(lambda: len(lists.listing(A).asked) >= 3)
        del first
    before = [cursor for cursor, _ in lists.listing(A).asked]
    async with lists.running():
        await until(lists.is_listed)
    after = [cursor for cursor, _ in lists.listing(A).asked][len(before) :]
    assert after[0] in (before[-1], str(10 * len(before)))
    assert await lists.value("SELECT count(*) FROM headrace.repo") == 80


async def test_listers_share_hosts_and_no_page_is_asked_for_twice(
    database: str, redis_url: str
) -> None:
    sizes = dict.fromkeys("abcdefgh", 40)
    async with serving(database, redis_url, network(**sizes), LISTER_PAGE_SIZE="5") as lists:
        for name in sizes:
            lists.listing(f"https://{name}.test").delay = 0.05
        few = {"LISTER_CONCURRENCY": "2"}
        async with lists.running(**few) as one, lists.running(**few) as other:
            await until(lists.is_listed)
            said: list[Any] = [one.report(), other.report()]
        for name in sizes:
            asked = [cursor for cursor, _ in lists.listing(f"https://{name}.test").asked]
            assert len(asked) == len(set(asked)) == 8
        assert all(each["counters"]["pages"] > 8 for each in said)
        assert [each["leads"] for each in said].count(True) == 1
        assert await lists.value("SELECT count(*) FROM headrace.repo") == 320


async def test_largest_hosts_are_listed_first(database: str, redis_url: str) -> None:
    sizes = {"a": 5, "b": 50, "c": 20}
    async with serving(database, redis_url, network(**sizes), LISTER_CONCURRENCY="1") as lists:
        async with lists.running():
            await until(lists.is_listed)
        rows = await lists.conn.fetch(
            "SELECT accounts FROM headrace.host WHERE NOT relay ORDER BY done_at"
        )
        relay_last = await lists.value(
            "SELECT relay FROM headrace.host ORDER BY done_at DESC LIMIT 1"
        )
    assert [row["accounts"] for row in rows] == [50, 20, 5]
    assert relay_last


async def test_inactive_account_is_a_status_and_no_fetch(lists: Lists) -> None:
    said = {"takendown": "taken_down", "suspended": "suspended", "deactivated": "deactivated"}
    said |= {"deleted": "gone", "odd": "deactivated"}
    for number, status in enumerate(said):
        add(lists.server.network, A, did(number, "off"), active=False, status=status)
    add(lists.server.network, A, did(9, "off"), active=False, status="throttled")
    async with lists.running():
        await until(lists.is_listed)
        await until(lambda: _has(lists, 81))
    for number, (status, outcome) in enumerate(said.items()):
        row = await lists.repo(did(number, "off"))
        assert row["outcome"] == outcome
        assert row["listed_status"] == ("inactive" if status == "odd" else status)
    assert (await lists.repo(did(9, "off")))["outcome"] is None
    queued = set(await lists.queued())
    assert len(queued) == 81
    assert not queued & {did(number, "off") for number in range(5)}


async def _has(lists: Lists, count: int) -> bool:
    return len(set(await lists.queued())) == count


async def test_account_that_is_active_again_is_fetched(lists: Lists) -> None:
    add(lists.server.network, A, did(0, "off"), active=False, status="deactivated")
    async with lists.running():
        await until(lists.is_listed)
        assert (await lists.repo(did(0, "off")))["outcome"] == "deactivated"
        lists.server.network.repos[-1] |= {"active": True}
        await lists.again()
        await until(lambda: _has(lists, 81))
    row = await lists.repo(did(0, "off"))
    assert (row["outcome"], row["listed_status"]) == (None, None)


async def test_moved_account_belongs_to_the_host_that_calls_it_active(lists: Lists) -> None:
    moved = did(0, "moved")
    add(lists.server.network, A, moved, active=False, status="deactivated")
    async with lists.running():
        await until(lists.is_listed)
        assert (await lists.repo(moved))["host"] == lists.server.url_of(A)
        await lists.conn.execute(
            "UPDATE headrace.host SET next_at = now(), done_at = NULL WHERE NOT relay"
        )
        lists.server.network.documents[moved] = {}
        del lists.server.network.repos[-1]
        add(lists.server.network, B, moved)
        await until(lambda: lists.is_listed(A, B))
    row = await lists.repo(moved)
    assert (row["host"], row["outcome"]) == (lists.server.url_of(B), None)


async def test_host_does_not_speak_for_what_is_elsewhere(lists: Lists) -> None:
    """One host calls another's account taken down; its owner's word stands."""
    victim = did(3, "a")
    async with lists.running():
        await until(lists.is_listed)
        listed = {"did": victim, "rev": REV, "active": False, "status": "takendown"}
        lists.listing(B).body = b'{"repos": [%s]}' % _json(listed)
        await lists.again()
        await until(lists.is_listed)
    row = await lists.repo(victim)
    assert (row["host"], row["listed_status"]) == (lists.server.url_of(A), None)
    assert row["outcome"] is None


def _json(value: object) -> bytes:
    import orjson

    return orjson.dumps(value)


async def test_relisting_finds_what_live_commits_did_not_bring(lists: Lists) -> None:
    behind, level, ahead = (did(number, "a") for number in range(3))
    async with lists.running():
        await until(lists.is_listed)
        await until(lambda: _has(lists, 80))
        await lists.take(80)
        await lists.conn.execute("UPDATE headrace.repo SET rev = $2 WHERE did = $1", level, LATER)
        for repo in lists.server.network.repos[:2]:
            repo["rev"] = LATER
        far = rules.tid_at(4e9)
        lists.server.network.repos[2]["rev"] = far
        await lists.again()
        await until(lists.is_listed)
        await until(lambda: _has(lists, 1))
    assert await lists.queued() == [behind]
    assert (await lists.repo(behind))["listed_rev"] == LATER
    assert (await lists.repo(ahead))["listed_rev"] == REV


async def test_rev_within_the_grace_is_left_to_live_commits(lists: Lists) -> None:
    import time

    async with lists.running():
        await until(lists.is_listed)
        await until(lambda: _has(lists, 80))
        await lists.take(80)
        lists.server.network.repos[0]["rev"] = rules.tid_at(time.time() - 600)
        lists.server.network.repos[1]["rev"] = LATER
        await lists.again()
        await until(lists.is_listed)
        await until(lambda: _has(lists, 1))
    assert await lists.queued() == [did(1, "a")]


async def test_listing_again_writes_nothing_where_nothing_changed(lists: Lists) -> None:
    async with lists.running():
        await until(lists.is_listed)
        await until(lambda: _has(lists, 80))
        before = await lists.conn.fetch("SELECT did, xmin::text FROM headrace.repo ORDER BY did")
        await lists.again()
        await until(lists.is_listed)
        after = await lists.conn.fetch("SELECT did, xmin::text FROM headrace.repo ORDER BY did")
    assert before == after


async def test_repository_known_by_live_commits_gets_its_host(lists: Lists) -> None:
    await lists.conn.execute(
        "INSERT INTO headrace.repo (did, rev) VALUES ($1, $2)", did(1, "a"), REV
    )
    async with lists.running():
        await until(lists.is_listed)
    row = await lists.repo(did(1, "a"))
    assert (row["host"], row["rev"]) == (lists.server.url_of(A), REV)


async def test_hosts_of_the_settings_are_listed_without_a_relay(
    database: str, redis_url: str, quick: None
) -> None:
    async with serving(database, redis_url, network(a=3, b=3)) as lists:
        lists.variables |= {
            "LISTER_HOSTS": lists.server.url_of(A),
            "INGESTER_RELAY_HOSTS": "http://127.0.0.1:9",
        }
        async with lists.running():
            await until(lambda: lists.is_listed(A))
        assert len(await lists.known()) == 3


async def test_banned_hosts_are_not_listed(lists: Lists) -> None:
    await lists.conn.execute(
        "INSERT INTO headrace.host (origin, found_by, status) VALUES ($1, 'x', 'banned')",
        "http://127.0.0.1:9",
    )
    async with lists.running():
        await until(lists.is_listed)
    row = await lists.conn.fetchrow("SELECT * FROM headrace.host WHERE status = 'banned'")
    assert row is not None
    assert (row["listing"], row["failures"]) == (0, 0)


async def test_claim_that_was_taken_over_writes_nothing(lists: Lists) -> None:
    lists.listing(A).delay = 3600.0
    async with lists.running() as role:
        await until(lambda: bool(lists.listing(A).asked))
        await lists.conn.execute(
            "UPDATE headrace.host SET token = token + 1, claimed_by = 'other',"
            " claimed_until = now() + interval '1 hour' WHERE origin = $1",
            lists.server.url_of(A),
        )
        await until(lambda: lists.is_listed(B))
        lists.listing(A).delay = 0.0
        await until(lambda: role.report()["hosts"] == 0)
    assert (await lists.host(A))["cursor"] == ""
    assert await lists.known(A) == set()
