"""Hosts that fail, lie or never end: each costs itself only, and what can be listed is."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from engine.core import listing as rules
from engine.roles.lister import lead, listing
from engine.simulate.lists import Listing
from tests.fix_ingest import until
from tests.fix_lists import REV, A, B, Lists, did, network, serving

SIZES = {"a": 40, "b": 20}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are tried again soon."""
    monkeypatch.setattr(rules, "WAITS_SECONDS", (0.05, 0.05, 0.05, 0.1))
    monkeypatch.setattr(lead, "GAP_SECONDS", 0.1)
    monkeypatch.setattr(lead, "GAP_FIRST_SECONDS", 0.1)
    monkeypatch.setattr(lead, "GAP_LONGEST_SECONDS", 0.2)


@pytest.fixture
async def lists(database: str, redis_url: str, quick: None) -> AsyncIterator[Lists]:
    async with serving(database, redis_url, network(**SIZES), LISTER_PAGE_SIZE="10") as made:
        yield made


_PLACES = itertools.count(100, 10)


async def _gaps(lists: Lists) -> int:
    return int(await lists.value("SELECT count(*) FROM headrace.listing_gap"))


@pytest.mark.parametrize(
    "bad", [0, 17, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 10, 19, 39))]
)
async def test_page_that_always_fails_is_cut_down_to_the_one_repository(
    lists: Lists, bad: int
) -> None:
    lists.listing(A).bad = {did(bad, "a")}
    async with lists.running() as role:
        await until(lambda: lists.is_listed(A, B), why="listed around the bad one")
        said: Any = role.report()
        others = {did(number, "a") for number in range(40)} - {did(bad, "a")}
        assert others <= await lists.known(A)
        gap = await lists.conn.fetchrow("SELECT * FROM headrace.listing_gap")
        assert gap is not None
        assert (int(gap["after_cursor"] or 0), int(gap["until_cursor"])) == (bad, bad + 1)
        assert "HTTP 500" in gap["last_error"]
        assert said["counters"]["gaps"] == 1
        whole = [cursor for cursor, limit in lists.listing(A).asked if limit == 10]
        assert whole.count(str(bad - bad % 10) if bad >= 10 else "") >= 3
        # It is asked for until it answers.
        lists.listing(A).bad = ()
        await until(lambda: _no_gap(lists), why="listed at last")
    assert did(bad, "a") in await lists.known(A)


async def _no_gap(lists: Lists) -> bool:
    return await _gaps(lists) == 0


async def test_several_bad_ones_are_each_stepped_over(lists: Lists) -> None:
    bad = {did(number, "a") for number in (3, 4, 5, 21, 38)}
    lists.listing(A).bad = bad
    lists.listing(A).suffix = "::did:plc:x"
    async with lists.running():
        await until(lambda: lists.is_listed(A), seconds=30)
    assert len(await lists.known(A) - bad) == 35
    assert await _gaps(lists) == 3  # neighbours are one gap


async def test_gap_is_asked_for_no_more_than_it_must(lists: Lists) -> None:
    lists.listing(A).bad = {did(5, "a")}
    async with lists.running():
        await until(lambda: lists.is_listed(A))
        await until(lambda: _tried(lists, 2))
    gap = await lists.conn.fetchrow("SELECT * FROM headrace.listing_gap")
    assert gap is not None
    assert gap["attempts"] >= 2


async def _tried(lists: Lists, times: int) -> bool:
    return bool(await lists.value("SELECT max(attempts) >= $1 FROM headrace.listing_gap", times))


async def test_page_is_cut_down_only_after_three_rounds(lists: Lists) -> None:
    """A host that fails twice is asked for the same page as before."""
    lists.listing(A).status = 500
    async with lists.running():
        await until(lambda: len(lists.listing(A).asked) >= 2)
        lists.listing(A).status = 200
        await until(lambda: lists.is_listed(A))
    assert {limit for _, limit in lists.listing(A).asked} == {10}
    assert await _gaps(lists) == 0
    assert (await lists.host(A))["failures"] == 0


async def test_list_with_words_for_cursors_cannot_be_stepped_and_waits(lists: Lists) -> None:
    lists.listing(A).hidden = True
    lists.listing(A).bad = {did(15, "a")}
    async with lists.running():
        await until(lambda: lists.is_listed(B))
        await until(lambda: _stuck(lists))
        assert len(await lists.known(A)) >= 15
        lists.listing(A).bad = ()
        await until(lambda: lists.is_listed(A))
    assert len(await lists.known(A)) == 40
    assert await _gaps(lists) == 0


async def _stuck(lists: Lists) -> bool:
    return bool(
        await lists.value("SELECT count(*) FROM headrace.listing_gap WHERE until_cursor = ''")
    )


async def test_host_that_fails_is_called_unreachable_and_holds_up_nobody(lists: Lists) -> None:
    lists.listing(A).status = 404
    async with lists.running():
        await until(lambda: lists.is_listed(B, None))
        await until(lambda: _failed(lists, A, 5))
        census = await lists.conn.fetchrow("SELECT * FROM headrace.host_census")
        assert census is not None
        assert census["unreachable_hosts"] == 1
        assert "404" in (await lists.host(A))["last_error"]
        lists.listing(A).status = 200
        await until(lambda: lists.is_listed(A))
    assert len(await lists.known(A)) == 40


async def _failed(lists: Lists, pds: str, times: int) -> bool:
    return bool((await lists.host(pds))["failures"] >= times)


async def test_host_that_is_busy_is_left_alone_as_long_as_it_says(lists: Lists) -> None:
    lists.listing(A).status = 429
    lists.listing(A).headers = {"Retry-After": "3600"}
    async with lists.running():
        await until(lambda: lists.is_listed(B))
        await until(lambda: _parked(lists))
    row = await lists.host(A)
    assert (row["failures"], len(lists.listing(A).asked)) == (0, 1)


async def _parked(lists: Lists) -> bool:
    return bool(
        await lists.value(
            "SELECT parked_until > now() + interval '50 minutes' FROM headrace.host"
            " WHERE origin = $1",
            lists.server.url_of(A),
        )
    )


async def test_cursor_that_a_host_no_longer_takes_begins_the_list_anew(lists: Lists) -> None:
    await lists.conn.execute(
        "INSERT INTO headrace.host (origin, found_by, cursor, began_at, listed)"
        " VALUES ($1, 'x', 'long ago', now(), 7)",
        lists.server.url_of(A),
    )
    async with lists.running():
        await until(lambda: lists.is_listed(A))
    assert [cursor for cursor, _ in lists.listing(A).asked][:4] == ["long ago"] * 3 + [""]
    assert len(await lists.known(A)) == 40
    assert (await lists.host(A))["listed"] == 40


@pytest.mark.parametrize(
    ("levers", "said"),
    [
        ({"next_cursor": lambda _: "10"}, "cursor came again"),
        ({"next_cursor": lambda _: f"{next(_PLACES)}"}, "empty"),
    ],
    ids=["the same cursor", "pages of nothing"],
)
async def test_list_that_never_ends_is_ended(
    lists: Lists, monkeypatch: pytest.MonkeyPatch, levers: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(listing, "EMPTY_PAGES", 10)
    lists.server.listings[A] = Listing(**levers)
    async with lists.running():
        await until(lambda: lists.is_listed(A, B))
    assert said in (await lists.host(A))["last_error"]
    assert len(lists.listing(A).asked) < 30


async def test_list_that_gives_the_same_page_for_ever_is_ended(lists: Lists) -> None:
    numbers = itertools.count()
    pages = iter(lambda: orjson.dumps(_page(next(numbers))), None)
    lists.server.listings[A] = Endless(pages)
    async with lists.running():
        await until(lambda: lists.is_listed(A, B))
    assert "a page came again" in (await lists.host(A))["last_error"]


def _page(number: int) -> dict[str, Any]:
    return {"repos": [{"did": did(1, "same"), "rev": REV}], "cursor": f"c{number}"}


async def test_list_of_ever_new_repositories_is_ended(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_REPOS", 500)
    numbers = itertools.count()

    def flood() -> bytes:
        number = next(numbers)
        repos = [{"did": did(number * 100 + each, "flood"), "rev": REV} for each in range(100)]
        return orjson.dumps({"repos": repos, "cursor": str(number)})

    lists.server.listings[A] = Endless(iter(flood, None))
    async with lists.running():
        await until(lambda: lists.is_listed(A, B))
    assert "more than 500" in (await lists.host(A))["last_error"]
    assert await lists.value("SELECT count(*) FROM headrace.repo") < 1000


class Endless(Listing):
    """A list whose pages are made as they are asked for."""

    def __init__(self, pages: Any) -> None:
        super().__init__()
        self._pages = pages

    def __getattribute__(self, name: str) -> Any:
        if name == "body":
            return next(self._pages)
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>not today</html>",
        b"{}",
        b'{"repos": 5}',
        b'{"repos": [' + b"0," * 5_000_000 + b"0]}",
    ],
    ids=["html", "no list", "no array", "huge"],
)
async def test_answer_that_is_no_list_is_a_failure_of_the_host(lists: Lists, body: bytes) -> None:
    lists.listing(A).body = body
    async with lists.running():
        await until(lambda: lists.is_listed(B, None))
        await until(lambda: _failed(lists, A, 1))
    assert await lists.known(A) == {did(number, "a") for number in range(40)} - await _homeless(
        lists
    )


async def _homeless(lists: Lists) -> set[str]:
    rows = await lists.conn.fetch("SELECT did FROM headrace.repo WHERE host IS NULL")
    return {row["did"] for row in rows}


async def test_slow_host_is_given_up_in_time(lists: Lists) -> None:
    lists.listing(A).delay = 3600.0
    async with lists.running(LISTER_TIMEOUT_SECONDS="0.2"):
        await until(lambda: lists.is_listed(B, None))
        await until(lambda: _failed(lists, A, 3))
    assert "no answer within 0.2 s" in (await lists.host(A))["last_error"]


async def test_private_address_is_not_asked(lists: Lists) -> None:
    async with lists.running(NETWORK_ALLOW_PRIVATE="false"):
        await until(lambda: _relay_failed(lists))
    assert lists.server.listings == {}
    row = await lists.host(None)
    assert "not a public address" in row["last_error"]


async def _relay_failed(lists: Lists) -> bool:
    return bool(await lists.value("SELECT max(failures) >= 1 FROM headrace.host"))


async def test_item_that_is_none_does_not_cost_its_page(lists: Lists) -> None:
    listed: list[Any] = [None, {"did": "did:plc:x y"}, {"did": did(7, "good"), "rev": "no rev"}]
    lists.listing(B).body = orjson.dumps({"repos": listed})
    async with lists.running() as role:
        await until(lambda: lists.is_listed(B))
        said: Any = role.report()
    assert said["counters"]["refused"] == 2
    row = await lists.repo(did(7, "good"))
    assert (row["host"], row["listed_rev"]) == (lists.server.url_of(B), None)
