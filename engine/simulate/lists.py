"""Lists in pages, as hosts and relays answer them; and what goes wrong with them on command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PAGE_MAX = 1000
"""``limit`` of ``listRepos`` and ``listHosts`` in their lexicons."""

Answer = Callable[[object, int], web.Response]


@dataclass
class Listing:
    """How one host answers ``listRepos``; levers for tests, which may change while it is served.

    ``asked`` are the requests so far: cursor and limit.
    """

    delay: float = 0.0  # seconds before each answer, also of who waits already
    status: int = 200  # of each answer; another one comes with ``headers``
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None  # instead of every page
    bad: Collection[str] = ()  # DIDs: a page that holds one of them is a 500
    next_cursor: Callable[[int], str | None] | None = None  # where a page ends -> its cursor
    suffix: str = ""  # behind the number in each cursor
    hidden: bool = False  # cursors are words, not numbers
    asked: list[tuple[str, int]] = field(default_factory=list)

    def cursor_of(self, place: int) -> str:
        """How the place in the list is written."""
        return f"at-{place:x}" if self.hidden else f"{place}{self.suffix}"

    def place_of(self, cursor: str) -> int:
        """The place that a cursor means; ValueError if it is none."""
        if self.hidden:
            return int(cursor.removeprefix("at-"), 16)
        return int(cursor.removesuffix(self.suffix))


LOOK_SECONDS = 0.01
"""How soon a delay that is changed is noticed."""


async def delayed(seconds: Callable[[], float]) -> None:
    """Wait so long; what is said meanwhile counts."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (left := began + seconds() - loop.time()) > 0:  # noqa: ASYNC110 - a lever is no event
        await asyncio.sleep(min(left, LOOK_SECONDS))
    await asyncio.sleep(0)


async def repos(
    request: web.Request, items: list[dict[str, Any]], listing: Listing, answer: Answer
) -> web.Response:
    """One page of ``listRepos``, or what the levers make of it."""
    cursor, limit = request.query.get("cursor", ""), request.query.get("limit", "500")
    listing.asked.append((cursor, int(limit) if limit.isdigit() else -1))
    await delayed(lambda: listing.delay)
    if listing.status != 200:
        response = answer({"error": "Disturbed", "message": "as asked"}, listing.status)
        response.headers.update(listing.headers)
        return response
    if listing.body is not None:
        return web.Response(body=listing.body, content_type="application/json")
    return page(request, "repos", items, 500, listing, answer)


def page(
    request: web.Request,
    name: str,
    items: list[dict[str, Any]],
    default: int,
    listing: Listing,
    answer: Answer,
) -> web.Response:
    """The part of a list that is asked for, and where the rest begins."""
    try:
        limit = int(request.query.get("limit", str(default)))
        cursor = request.query.get("cursor", "")
        start = listing.place_of(cursor) if cursor else 0
    except ValueError:
        return _refused("limit and cursor must be integers", answer)
    if not 1 <= limit <= PAGE_MAX or start < 0:
        return _refused(f"limit must be 1 to {PAGE_MAX}", answer)
    part, end = items[start : start + limit], start + limit
    if any(item.get("did") in listing.bad for item in part):
        return answer({"error": "InternalServerError", "message": "no root of a repository"}, 500)
    document: dict[str, Any] = {name: part}
    if listing.next_cursor is not None:
        document["cursor"] = listing.next_cursor(end)
    elif end < len(items):
        document["cursor"] = listing.cursor_of(end)
    return answer(document, 200)


def _refused(message: str, answer: Answer) -> web.Response:
    return answer({"error": "InvalidRequest", "message": message}, 400)
