"""Listing one host, from the page it stands at: what is read is durable with the cursor behind it.

A page that fails is asked for again after 5, 10, 20 and then each 30 seconds, by whichever
lister claims the host then. Where the host is there and fails for the third time with the same
page, the page is cut down to the one repository that it cannot answer for, and that is
stepped over, noted in ``headrace.listing_gap``, and asked for again until it answers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from engine import log
from engine.core import listing as rules
from engine.core.listing import Page, Place, Stepping
from engine.errors import UpstreamError
from engine.roles.lister.lists import CUTTABLE, Fault, ListError, Lists, Spacing
from engine.roles.lister.store import Claim, Store
from engine.settings import ListerSettings

logger = logging.getLogger(__name__)

ROUNDS = 3
"""Failures of one page before it is cut down."""

EMPTY_PAGES = 100
"""With a cursor and nothing else, in a row: more is no list."""

MOST_REPOS, MOST_OF_RELAY = 1_000_000, 1 << 30
"""Of one host, unless its relay says that half as many are there."""


@dataclass
class Counters:
    """What the process listed since its start."""

    pages: int = 0
    repos: int = 0  # in them
    new: int = 0  # that nothing had told of
    refused: int = 0  # items that are no repository
    failed: int = 0  # requests
    gaps: int = 0  # repositories stepped over
    hosts: int = 0  # listings that came to their end
    told: int = 0  # accounts whose owners were told a status


class Listing:
    """The listing of one claimed host."""

    def __init__(
        self,
        claim: Claim,
        lists: Lists,
        store: Store,
        settings: ListerSettings,
        counters: Counters,
    ) -> None:
        """Prepare; ``run`` does it."""
        self._claim = claim
        self._cursor = claim.cursor
        self._listed = claim.listed
        self._failures = claim.failures
        self._lists = lists
        self._store = store
        self._settings = settings
        self._counters = counters
        self._spacing = Spacing(settings.spacing_ms / 1000)
        self._seen = {hash(self._cursor)}
        self._pages: set[int] = set()
        self._empty = 0
        most = MOST_OF_RELAY if claim.relay else MOST_REPOS
        self._most = max(most, 2 * (claim.accounts or 0))

    async def run(self) -> None:
        """List until the end or a failure; the claim is given back in the same transaction.

        Raises:
            StoreError: Postgres failed.
        """
        try:
            while not await self._keep(await self._page()):
                pass
        except ListError as failure:
            await self._fail(failure)

    async def _fail(self, failure: ListError) -> None:
        counts = failure.fault is not Fault.BUSY
        # A cursor that the host no longer takes would be refused for ever.
        anew = failure.fault is Fault.CURSOR and self._failures + 1 >= ROUNDS
        self._failures += counts
        wait = rules.wait_seconds(max(1, self._failures), failure.told)
        logger.log(
            logging.WARNING if self._failures == ROUNDS else logging.DEBUG,
            "the host cannot be listed %s",
            log.fields(host=self._claim.origin, error=failure, retry_in=wait),
        )
        await self._store.failed(self._claim, str(failure), wait, anew=anew, counts=counts)

    async def _get(self, cursor: str, limit: int) -> Page:
        async with self._spacing:
            try:
                return await self._lists.repos(self._claim.origin, cursor, limit)
            except UpstreamError:
                self._counters.failed += 1
                raise

    async def _page(self) -> Page:
        """The next page, cut down if it must be."""
        try:
            return await self._get(self._cursor, self._settings.page_size)
        except ListError as failure:
            if failure.fault not in CUTTABLE or self._failures + 1 < ROUNDS:
                raise
            if self._cursor:
                await self._get("", 1)  # does it list anything at all?
            elif failure.fault is Fault.SLOW:
                raise
            logger.info(
                "a page fails again and again: cutting it down %s",
                log.fields(host=self._claim.origin, cursor=self._cursor, error=failure),
            )
            return await self._cut_down()

    async def _cut_down(self) -> Page:
        """Come to the one repository that fails, keeping what is before it, and step over it."""
        window = self._settings.page_size  # the first that fails is among so many
        while True:
            limit = max(1, window // 2)
            await self._store.renew(self._claim)
            try:
                page = await self._get(self._cursor, limit)
            except ListError as failure:
                if failure.fault not in CUTTABLE:
                    raise
                if limit > 1:
                    window = limit
                    continue
                await self._step_over(failure)
                return await self._get(self._cursor, self._settings.page_size)
            if window == 1 or page.cursor is None:
                return page  # it answers after all
            if await self._keep(page):
                return Page([], None, 0)
            window = max(1, window - limit)

    async def _step_over(self, failure: ListError) -> None:
        place = Place.of(self._cursor)
        stepping = Stepping(place) if place is not None else None
        while place is not None and stepping is not None and stepping.next is not None:
            await self._store.renew(self._claim)
            try:
                await self._get(place.at(stepping.next), 1)
            except ListError as error:
                if error.fault not in CUTTABLE:
                    raise
                stepping.answered(False)
            else:
                stepping.answered(True)
        if place is None or stepping is None or stepping.found is None:
            await self._store.stuck(self._claim, self._cursor, str(failure))
            raise ListError(Fault.AWAY, f"cannot be stepped over: {failure}")
        until = place.at(stepping.found)
        await self._store.step(self._claim, self._cursor, until, str(failure))
        self._counters.gaps += 1
        logger.warning(
            "a repository cannot be listed, and is asked for again later %s",
            log.fields(host=self._claim.origin, after=self._cursor, until=until, error=failure),
        )
        self._move(until)

    def _move(self, cursor: str) -> None:
        self._cursor = cursor
        self._seen.add(hash(cursor))
        self._failures = 0

    async def _keep(self, page: Page) -> bool:
        """Make a page durable; True if it was the last one."""
        self._listed += len(page.repos)
        new = await self._store.page(self._claim, page, page.cursor or self._cursor)
        self._counters.pages += 1
        self._counters.repos += len(page.repos)
        self._counters.new += new
        self._counters.refused += page.refused
        cursor, odd = page.cursor, self._odd(page)
        if cursor is not None and not odd:
            self._move(cursor)
            return False
        self._counters.hosts += 1
        await self._store.done(self._claim, self._settings.interval_seconds, odd)
        logger.log(
            logging.WARNING if odd else logging.DEBUG,
            "listed %s",
            log.fields(host=self._claim.origin, repos=self._listed, ended=odd or "whole"),
        )
        return True

    def _odd(self, page: Page) -> str | None:
        """Why a list that claims to go on does not; None if all is well."""
        self._empty = 0 if page.repos else self._empty + 1
        fingerprint = hash(tuple(repo.did for repo in page.repos))
        again = bool(page.repos) and fingerprint in self._pages
        self._pages.add(fingerprint)
        if page.cursor is None:
            return None
        if hash(page.cursor) in self._seen:
            return "its cursor came again"
        if again:
            return "a page came again"
        if self._empty >= EMPTY_PAGES:
            return f"{EMPTY_PAGES} empty pages"
        if self._listed > self._most:
            return f"more than {self._most} repositories"
        return None
