"""Lists of strangers: read whatever they hold, and stepped through where one item fails."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from engine.core import listing, urls
from engine.core.listing import Listed, NamedHost, Place, Stepping
from engine.errors import UpstreamError

NOW = 1_750_000_000.0
REV = listing.tid_at(NOW - 60)
DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


def page(*repos: Any, **more: Any) -> bytes:
    return orjson.dumps({"repos": list(repos), **more})


def test_rev_of_an_instant_is_a_tid_in_the_order_of_time() -> None:
    assert listing.tid_at(0) == "2222222222222"
    instants = sorted(random.Random(1).uniform(0, 4e9) for _ in range(200))
    assert [listing.tid_at(at) for at in instants] == sorted(map(listing.tid_at, instants))


def test_repositories_are_read() -> None:
    found = listing.read_page(page({"did": DID, "rev": REV, "head": "x"}, cursor="7"), NOW)
    assert found.repos == [Listed(DID, REV, None, None)]
    assert (found.cursor, found.refused) == ("7", 0)


@pytest.mark.parametrize(
    ("status", "listed"),
    [
        ("takendown", ("takendown", "taken_down")),
        ("suspended", ("suspended", "suspended")),
        ("deactivated", ("deactivated", "deactivated")),
        ("deleted", ("deleted", "gone")),
        ("desynchronized", ("desynchronized", None)),
        ("throttled", ("throttled", None)),
        ("x" * 5000, ("inactive", "deactivated")),
        (None, ("inactive", "deactivated")),
        (7, ("inactive", "deactivated")),
    ],
)
def test_status_of_what_is_not_active(status: Any, listed: tuple[str, str | None]) -> None:
    body = page({"did": DID, "rev": REV, "active": False, "status": status})
    (repo,) = listing.read_page(body, NOW).repos
    assert (repo.status, repo.outcome) == listed


def test_bad_item_costs_itself_only() -> None:
    bad: list[Any] = [None, 1, [], {}, {"did": 7}, {"did": "did:plc:"}, {"did": "did:key:zabc"}]
    bad += [{"did": "did:web:" + "a" * 400}, {"did": "did:plc:\0"}, {"did": "nothing"}]
    found = listing.read_page(page(*bad, {"did": DID, "rev": REV}), NOW)
    assert [repo.did for repo in found.repos] == [DID]
    assert found.refused == len(bad)


@pytest.mark.parametrize(
    "rev", [None, 5, "", "nope", REV + "2", "3" * 12, listing.tid_at(NOW + 301)]
)
def test_rev_that_is_none_is_no_rev(rev: Any) -> None:
    (repo,) = listing.read_page(page({"did": DID, "rev": rev}), NOW).repos
    assert repo.rev is None


def test_did_that_is_listed_twice_is_there_once() -> None:
    found = listing.read_page(page({"did": DID}, {"did": DID, "rev": REV}), NOW)
    assert found.repos == [Listed(DID, REV, None, None)]


@pytest.mark.parametrize("cursor", [None, "", [], {}, True, 1.5])
def test_cursor_that_is_none_is_the_end(cursor: Any) -> None:
    assert listing.read_page(page(cursor=cursor), NOW).cursor is None


def test_cursor_may_be_a_number() -> None:
    assert listing.read_page(page(cursor=12), NOW).cursor == "12"


@pytest.mark.parametrize("cursor", ["x" * 2049, "a\0b"])
def test_cursor_that_cannot_be_kept_is_an_error(cursor: str) -> None:
    with pytest.raises(UpstreamError, match="cursor"):
        listing.read_page(page(cursor=cursor), NOW)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"repos": 1}', b'{"repos": [', b"\xff", b"[" * 100_000]
)
def test_what_is_no_list_is_an_error(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        listing.read_page(body, NOW)
    with pytest.raises(UpstreamError):
        listing.read_hosts(body, plain=False)


def test_hosts_are_read() -> None:
    hosts: list[Any] = [
        {"hostname": "One.example", "accountCount": 5, "status": "active"},
        {"hostname": "two.example:8443", "accountCount": -1, "status": "x y"},
        *({"hostname": name} for name in ("", "a/b", "u@h", "a b", "h:99999", 5, "ftp://h")),
        7,
    ]
    found = listing.read_hosts(orjson.dumps({"hosts": hosts, "cursor": "c"}), plain=False)
    assert found.hosts == [
        NamedHost("https://one.example", 5, "active"),
        NamedHost("https://two.example:8443", None, None),
    ]
    assert (found.cursor, found.refused) == ("c", 8)


@pytest.mark.parametrize(
    ("text", "plain", "origin"),
    [
        ("pds.example", False, "https://pds.example"),
        ("pds.example", True, "http://pds.example"),
        ("https://PDS.example:443/", False, "https://pds.example"),
        ("http://localhost:2583", False, "http://localhost:2583"),
        ("[::1]:80", True, "http://[::1]"),
    ],
)
def test_origin_is_one_spelling(text: str, plain: bool, origin: str) -> None:
    assert urls.origin(text, plain=plain) == origin
    assert urls.origin(origin) == origin


@pytest.mark.parametrize("cursor", ["abc", "12x", "-1", "1" * 19, "1.5"])
def test_opaque_cursor_has_no_place(cursor: str) -> None:
    assert Place.of(cursor) is None


@pytest.mark.parametrize("cursor", ["17", "1699999999999::did:plc:x", "3__b", "3..b", "0"])
def test_cursor_with_a_number_has_a_place(cursor: str) -> None:
    place = Place.of(cursor)
    assert place is not None
    assert place.at(place.number) == cursor


def test_stepping_finds_the_very_next_place_that_answers() -> None:
    dice = random.Random(7)
    for _ in range(500):
        first, hole = dice.randrange(10**12), dice.choice([1, 2, 3, 7, 1000, 86_400_000])
        stepping, asked = Stepping(Place(first)), 0
        while (place := stepping.next) is not None:
            assert place > first
            stepping.answered(place >= first + hole)
            asked += 1
        assert stepping.found == first + hole
        assert asked <= 2 * hole.bit_length() + 2


def test_stepping_gives_up_where_nothing_answers() -> None:
    stepping = Stepping(Place(5))
    for _ in range(100):
        if stepping.next is None:
            break
        stepping.answered(False)
    assert stepping.next is None
    assert stepping.found is None


@pytest.mark.parametrize(
    ("cursor", "until", "past"),
    [
        (None, "5", True),
        ("5", "5", True),
        ("6", "5", True),
        ("4", "5", False),
        ("4::x", "5::y", False),
        ("x", "5", False),
    ],
)
def test_whether_a_list_is_past_a_place(cursor: str | None, until: str, past: bool) -> None:
    assert listing.is_past(cursor, until) is past


def test_waits_grow_to_half_a_minute_and_stay() -> None:
    assert [listing.wait_seconds(n) for n in (1, 2, 3, 4, 5, 1000)] == [5, 10, 20, 30, 30, 30]
    assert listing.wait_seconds(1, 120.0) == 120
    assert listing.wait_seconds(4, 1.0) == 30
