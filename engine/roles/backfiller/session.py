"""A backfiller at work over one set of connections: take, find the home, wait for a turn, attempt.

Entries are taken from the queue into a window. Each waits there for the turn of its host; a task
pool makes the attempts, and nothing waits for a batch. Work whose host will not come to it soon
goes back: the time of its next attempt is stored, its entry leaves the queue, and whoever fills
the queue puts it in again. So a slot never sleeps, and a large or slow host holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from engine import failpoints, log
from engine.core import hosts as scheduling
from engine.core import outcomes
from engine.core.outcomes import Attempt, Outcome
from engine.errors import StoreError, UpstreamError
from engine.roles.backfiller import endings
from engine.roles.backfiller.attempt import Verdict, of_directory
from engine.roles.backfiller.job import Counters, Job

if TYPE_CHECKING:
    from engine.core.hosts import Answer, Hosts, PutOff, Told
    from engine.roles.backfiller.attempt import Attempts
    from engine.roles.backfiller.ledger import End
    from engine.roles.backfiller.queue import Item, Queue
    from engine.settings import BackfillerSettings

logger = logging.getLogger(__name__)

BLOCK_MS = 500
"""How long a read of an empty queue waits."""

CLAIM_SECONDS = 30.0
"""Between two looks at what silent backfillers left."""

ROOM_SECONDS = 0.1
"""Between two looks whether there is room for more that they left."""

HOLD_SECONDS = 60.0
"""Between two words that we still work on what we hold."""

LEAVE_SECONDS = 2.0
"""How long a stop may take to store what is known and to give the rest back."""

HOSTS_SECONDS = 5.0
"""Between two looks at which hosts others found down."""

SHED_SECONDS = 0.5
"""Between two looks at what would only wait."""

SOON_SECONDS = 10.0
"""What has its turn by then waits for it here."""

LOOKING = 64
"""DIDs whose homes are looked up at a time."""

LETTING_GO = 256
"""Entries that leave the queue at a time."""

DELIVERIES_MAX = 10
"""An entry that was taken more often and never finished ends processes: it is a dead letter."""


@dataclass
class Session:
    """The work until ``run`` ends. Built anew after every failure of a store."""

    queue: Queue
    hosts: Hosts[Job]
    attempts: Attempts
    settings: BackfillerSettings
    counters: Counters
    owed: dict[int, End]  # fetched and not yet told, by fetch; outlives the session
    jobs: dict[str, Job] = field(default_factory=dict)  # by DID
    running: int = 0
    _entries: set[str] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _looking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOOKING))
    _letting_go: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LETTING_GO))
    _broken: asyncio.Event = field(default_factory=asyncio.Event)
    _failure: BaseException | None = None
    _shed_at: float = -math.inf

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``. What is then in hand stays in the queue for whoever is first.

        Raises:
            StoreError: a store failed.
        """
        ledger = self.attempts.ledger
        steps = (
            ledger.beginning.run,
            ledger.ending.run,
            self._read,
            self._claim,
            self._dispatch,
            self._hold,
            self._learn_hosts,
        )
        for step in steps:
            self._start(step())
        for end in list(self.owed.values()):
            self._start(self._pay(end))
        waits = [asyncio.create_task(event.wait()) for event in (stop, self._broken)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*waits, *self._tasks):
                task.cancel()
            await asyncio.gather(*waits, *self._tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await ledger.end_all()
                await self.queue.leave(self._entries)
        except (TimeoutError, StoreError) as error:
            # Nothing is lost: it is taken over a little later.
            logger.warning("not everything in hand was given back: %s", str(error) or "no time")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._broken.set()

    # -- taking ------------------------------------------------------------------------------

    async def _read(self) -> None:
        await self.queue.prepare()
        while True:
            room = self.settings.batch_size - len(self.jobs)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            for item in await self.queue.read(room, BLOCK_MS):
                await self._take(item)

    async def _claim(self) -> None:
        """At once, and then ever again, through the whole queue."""
        while True:
            room = self.settings.batch_size - len(self.jobs)
            if room <= 0:
                await asyncio.sleep(ROOM_SECONDS)
                continue
            for item in await self.queue.claim(room):
                await self._take(item)
            if self.queue.is_claimed_through:
                await asyncio.sleep(CLAIM_SECONDS)

    async def _take(self, item: Item) -> None:
        if item.entry_id in self._entries:
            return
        self.counters.read += 1
        if not item.did:
            self.counters.bad_entries += 1
            await self.attempts.ledger.refuse(item.raw, "an entry of the queue without a DID")
            await self.queue.finish([item.entry_id])
            return
        self._entries.add(item.entry_id)
        job = self.jobs.get(item.did)
        if job is not None:
            job.entry_ids.append(item.entry_id)
            return
        job = self.jobs[item.did] = Job(item.did, [item.entry_id])
        if item.deliveries > DELIVERIES_MAX:
            words = f"taken {item.deliveries} times and never finished"
            end = endings.end_of(job, Attempt(Outcome.POISON, words), last=True)
            self._start(self._finish(job, end))
        else:
            self._start(self._find_home(job))

    async def _find_home(self, job: Job) -> None:
        try:
            async with self._looking:
                job.home = await self.attempts.directory.home(job.did)
        except UpstreamError as error:
            await self._finish(job, endings.end_of(job, of_directory(error)))
            return
        self._wait_for_turn(job)

    def _wait_for_turn(self, job: Job) -> None:
        assert job.pds is not None
        self.hosts.add(job.pds, job, _now())
        self._news.set()

    # -- attempts ----------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        while True:
            now = _now()
            self._begin_all(now)
            self._shed(now)
            wake = self.hosts.wake_at(now) if self.running < self.settings.concurrency else None
            wait = 1.0 if wake is None else min(1.0, max(0.0, wake - now))
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                continue
            self._news.clear()

    def _begin_all(self, now: float) -> None:
        while self.running < self.settings.concurrency:
            found = self.hosts.next(now)
            if found is None:
                return
            self.running += 1
            self._start(self._attempt(*found))

    def _shed(self, now: float) -> None:
        """Give back what would only wait; half of a full window, if all of it does."""
        if now - self._shed_at < SHED_SECONDS or not self.hosts.waiting:
            return
        self._shed_at = now
        is_full = len(self.jobs) >= self.settings.batch_size
        is_stuck = is_full and self.running < self.settings.concurrency
        keep = self.hosts.waiting // 2 if is_stuck else self.hosts.waiting
        for off in self.hosts.put_off(now, keep, soon=SOON_SECONDS):
            self._start(self._put_off(off))

    async def _attempt(self, host: str, job: Job) -> None:
        started, is_over = _now(), False

        def answered(answer: Answer, told: Told) -> None:
            nonlocal is_over
            is_over = True
            now = _now()
            if self.hosts.end(host, now, started, answer, told):
                seconds = self.hosts.pace(host).parked_until - now
                logger.warning(
                    "a host does not answer %s", log.fields(host=host, parked_seconds=seconds)
                )
                self._start(self.attempts.ledger.park(host, seconds, "it does not answer"))
            self._news.set()

        try:
            verdict = await self.attempts.make(job, answered)
        finally:
            self.running -= 1
            self._news.set()
            if not is_over:
                answered(scheduling.Answer.FINE, scheduling.NOTHING_TOLD)
        await self._judge(job, verdict)

    async def _judge(self, job: Job, verdict: Verdict) -> None:
        """What is to be done after an attempt."""
        self.counters.outcomes[verdict.attempt.outcome] += 1
        attempt = endings.of_verdict(job, verdict)
        if attempt is None:
            self._wait_for_turn(job)
            return
        status = outcomes.STATUS_OF.get(attempt.outcome)
        if status is not None:
            await self.attempts.tell(job.did, status)
        end = endings.end_of(job, attempt)
        fetched = verdict.fetched
        if fetched is None:
            await self._finish(job, end)
            return
        if fetched.entry_id is not None:
            self._forget(job, (fetched.entry_id,))
        end = msgspec.structs.replace(end, fetched=True, records=fetched.records, data=fetched.data)
        assert end.fetch_id is not None
        self.owed[end.fetch_id] = end
        await self._finish(job, end)
        self.owed.pop(end.fetch_id, None)

    async def _pay(self, end: End) -> None:
        """Store what an earlier session could not; its queue entry is gone."""
        await self.attempts.ledger.end(end)
        assert end.fetch_id is not None
        self.owed.pop(end.fetch_id, None)

    async def _put_off(self, off: PutOff[Job]) -> None:
        self.counters.put_off += 1
        parks = self.hosts.pace(off.host).parks if off.is_down else 0
        await self._finish(off.item, endings.of_waiting(off, parks))

    async def _finish(self, job: Job, end: End) -> None:
        """Store what became of a job, then let its entries go."""
        if await self.attempts.ledger.end(end):
            self.counters.dead += 1
            logger.warning(
                "given up %s",
                log.fields(did=end.did, outcome=end.outcome, error=end.error, host=end.host),
            )
        self.counters.done += 1
        failpoints.passing("before_finish")
        async with self._letting_go:
            await self.queue.finish(list(job.entry_ids))
        self._forget(job, tuple(job.entry_ids))

    def _forget(self, job: Job, entry_ids: tuple[str, ...]) -> None:
        """Its entries are no longer ours."""
        self._entries.difference_update(entry_ids)
        job.entry_ids = [each for each in job.entry_ids if each not in entry_ids]
        if not job.entry_ids and self.jobs.get(job.did) is job:
            del self.jobs[job.did]
            self._room.set()

    # -- upkeep ------------------------------------------------------------------------------

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(HOLD_SECONDS)
            await self.queue.hold(list(self._entries))

    async def _learn_hosts(self) -> None:
        while True:
            now = _now()
            for origin, seconds in await self.attempts.ledger.parked():
                self.hosts.park(origin, now + seconds, now)
            self.hosts.forget_idle(now)
            await asyncio.sleep(HOSTS_SECONDS)


_now: Callable[[], float] = lambda: asyncio.get_running_loop().time()  # noqa: E731
