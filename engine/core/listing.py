"""Lists of repositories and hosts as strangers answer them: read, bounded, and stepped through.

Pure. One bad item costs that item, never its page. A cursor is opaque, except where a host cannot
answer for one repository and it must be stepped over: then what looks like a number is taken for
one, for there is no other way to name the place behind it (``Place``).
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from msgspec import Struct

from engine.core import codec, urls
from engine.errors import UpstreamError

PAGE_BYTES = 8 << 20
"""Of one answer; a thousand repositories are a quarter of a megabyte."""

CURSOR_CHARACTERS = 2048
"""A longer cursor is none."""

DID_CHARACTERS = 300
"""Longer ones than any host name allows would not fit an index."""

FUTURE_SECONDS = 300.0
"""A rev further ahead is no rev: it would stay the newest for ever."""

STATUS_OUTCOMES = {
    "takendown": "taken_down",
    "suspended": "suspended",
    "deactivated": "deactivated",
    "deleted": "gone",
}
"""What a status says of a repository that is then not fetched."""

FETCHED_STATUSES = frozenset({"desynchronized", "throttled"})
"""What a relay says of itself; the repository may well be at its host."""

_TID = "234567abcdefghijklmnopqrstuvwxyz"
_PLACE = re.compile(r"(\d{1,18})((?:::|__|\.\.).*)?", re.DOTALL)
_PLAIN = re.compile(r"[^\0\ud800-\udfff]*")


class Listed(Struct, frozen=True):
    """One repository as a list has it."""

    did: str
    rev: str | None
    status: str | None  # None: active
    outcome: str | None  # that follows without a fetch; None: it is fetched


class Page(Struct, frozen=True):
    """A part of a list of repositories; each DID once."""

    repos: list[Listed]
    cursor: str | None  # None: there is no more
    refused: int  # items that are none


class NamedHost(Struct, frozen=True):
    """A host as a relay knows it."""

    origin: str
    accounts: int | None
    status: str | None


class HostPage(Struct, frozen=True):
    """A part of a relay's list of hosts."""

    hosts: list[NamedHost]
    cursor: str | None
    refused: int


def tid_at(seconds: float) -> str:
    """The first rev of an instant, seconds since 1970."""
    number = max(0, int(seconds * 1e6)) << 10
    return "".join(_TID[number >> shift & 31] for shift in range(60, -1, -5))


def read_page(body: bytes, now: float) -> Page:
    """Read an answer to ``com.atproto.sync.listRepos``.

    Args:
        body: as it came.
        now: seconds since 1970; revs of the future are dropped.

    Raises:
        UpstreamError: it is no such answer.
    """
    document, items = _list(body, "repos")
    latest = tid_at(now + FUTURE_SECONDS)
    found: dict[str, Listed] = {}
    refused = 0
    for item in items:
        repo = _repo(item, latest)
        if repo is None:
            refused += 1
        else:
            found[repo.did] = repo
    return Page(list(found.values()), _cursor(document), refused)


def _repo(item: Any, latest: str) -> Listed | None:
    did = item.get("did") if isinstance(item, dict) else None
    if not isinstance(did, str) or not is_known_did(did):
        return None
    rev = item.get("rev")
    if not isinstance(rev, str) or not codec.check_syntax("tid", rev) or rev > latest:
        rev = None
    if item.get("active", True) is not False:
        return Listed(did, rev, None, None)
    said = item.get("status")
    status = said if isinstance(said, str) and said in _STATUSES else "inactive"
    if status in FETCHED_STATUSES:
        return Listed(did, rev, status, None)
    return Listed(did, rev, status, STATUS_OUTCOMES.get(status, "deactivated"))


_STATUSES = FETCHED_STATUSES | STATUS_OUTCOMES.keys()


def is_known_did(did: str) -> bool:
    """Whether it is a DID of a method that the network uses."""
    return (
        did.startswith(("did:plc:", "did:web:"))
        and len(did) <= DID_CHARACTERS
        and codec.check_syntax("did", did)
    )


def read_hosts(body: bytes, *, plain: bool) -> HostPage:
    """Read an answer to ``com.atproto.sync.listHosts``.

    Args:
        body: as it came.
        plain: the hosts are asked without TLS, as the relay is.

    Raises:
        UpstreamError: it is no such answer.
    """
    document, items = _list(body, "hosts")
    found: dict[str, NamedHost] = {}
    refused = 0
    for item in items:
        name = item.get("hostname") if isinstance(item, dict) else None
        try:
            origin = urls.origin(name if isinstance(name, str) else "", plain=plain)
        except ValueError:
            refused += 1
            continue
        accounts, status = item.get("accountCount"), item.get("status")
        found[origin] = NamedHost(
            origin,
            accounts if type(accounts) is int and 0 <= accounts < 1 << 62 else None,
            status if isinstance(status, str) and re.fullmatch(r"\w{1,32}", status) else None,
        )
    return HostPage(list(found.values()), _cursor(document), refused)


def _list(body: bytes, name: str) -> tuple[dict[str, Any], list[Any]]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamError(f"an answer that is no JSON: {error}") from error
    items = document.get(name) if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise UpstreamError(f"an answer without a list of {name}")
    return document, items


def _cursor(document: dict[str, Any]) -> str | None:
    cursor = document.get("cursor")
    if type(cursor) is int:
        cursor = str(cursor)
    if not isinstance(cursor, str) or not cursor:
        return None
    if len(cursor) > CURSOR_CHARACTERS or not _PLAIN.fullmatch(cursor):
        raise UpstreamError("a cursor that cannot be kept")
    return cursor


class Place(Struct, frozen=True):
    """A cursor that orders by number: ``123``, or a time and what comes behind it."""

    number: int
    rest: str = ""

    @classmethod
    def of(cls, cursor: str) -> Place | None:
        """The place of a cursor; None where it does not look like one. The empty one is 0."""
        match = _PLACE.fullmatch(cursor or "0")
        return cls(int(match[1]), match[2] or "") if match else None

    def at(self, number: int) -> str:
        """The cursor of another place in the same list."""
        return f"{number}{self.rest}"


FARTHEST = 1 << 44
"""How far behind a place a list may go on: milliseconds of 500 years, in microseconds half one."""


class Stepping:
    """Finds the next place at which a list goes on, behind one at which it fails.

    Doubles the distance until the list answers, then halves it down to the very place: what is
    stepped over is what fails, and nothing else. ``next`` is the place to ask for; None
    when it is found (``found``) or there is none (``found`` is None).
    """

    def __init__(self, place: Place) -> None:
        self._fails = place.number
        self._first = place.number
        self._answers: int | None = None
        self._distance = 1

    @property
    def found(self) -> int | None:
        """The first place that answers, once ``next`` is None."""
        return self._answers

    @property
    def next(self) -> int | None:
        """Which place to ask now."""
        if self._answers is None:
            return self._first + self._distance if self._distance <= FARTHEST else None
        if self._answers - self._fails <= 1:
            return None
        return (self._fails + self._answers) // 2

    def answered(self, answers: bool) -> None:
        """What became of ``next``."""
        place = self.next
        if place is None:
            raise ValueError("nothing was asked")
        if answers:
            self._answers = place
        else:
            self._fails = place
            if self._answers is None:
                self._distance *= 2


def is_past(cursor: str | None, until: str) -> bool:
    """Whether a list that stands at ``cursor`` has come as far as ``until``; None is its end."""
    if cursor is None or cursor == until:
        return True
    here, there = Place.of(cursor), Place.of(until)
    return here is not None and there is not None and here.number >= there.number


WAITS_SECONDS = (5.0, 10.0, 20.0, 30.0)
"""After the first, second, ... failure in a row; the last one repeats for ever."""


def wait_seconds(failures: int, told: float | None = None) -> float:
    """How long a host that failed so often is left alone.

    Args:
        failures: in a row, at least 1.
        told: what the host itself asks for, if it does.
    """
    ours = WAITS_SECONDS[min(failures, len(WAITS_SECONDS)) - 1]
    return ours if told is None else max(ours, told)
