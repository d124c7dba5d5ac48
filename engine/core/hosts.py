"""Whom to ask next: fairness among hosts, and as much of each as it can bear. Pure.

Time is an argument everywhere (``now``, seconds on any clock that only goes forward); nothing
here knows a socket. A host is asked by three rules at once:

- *concurrency*: at most ``Pace.limit`` requests at a time. It grows by one for each round of
  answers and is halved when the host says "too many" without saying when (additive increase,
  multiplicative decrease).
- *tokens*: where the host tells what is left of its rate limit, what is left is spread evenly
  until the limit begins anew, and nothing is asked when nothing is left.
- *parking*: a host that cannot be reached again and again is left alone, longer each time, and
  then asked once to see.

Hosts with work are served in turn, so that one with a million repositories holds up nobody.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Answer(Enum):
    """What a request says about its host, whatever it says about the repository."""

    FINE = "fine"
    BUSY = "busy"
    """Too many requests, or not now: never the repository's fault, never final."""
    DOWN = "down"
    """No connection, no answer in time, or a gateway's word for that."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the rules."""

    concurrency_first: float = 4.0
    concurrency_max: float = 10.0
    reserve: int = 2
    """Of the tokens that a host tells are left, so many are not used: others ask from here too."""
    pause_first_seconds: float = 1.0
    pause_max_seconds: float = 60.0
    down_after: int = 5
    """Failures in a row that park a host."""
    park_first_seconds: float = 60.0
    park_max_seconds: float = 3600.0


@dataclass(frozen=True)
class Told:
    """What the headers of an answer say; seconds from the answer on."""

    retry_seconds: float | None = None
    remaining: int | None = None
    reset_seconds: float | None = None


NOTHING_TOLD = Told()


@dataclass
class Pace:
    """How one host is asked."""

    limits: Limits
    limit: float
    running: int = 0
    not_before: float = 0.0
    parked_until: float = 0.0
    parks: int = 0
    failures: int = 0  # in a row
    seconds: float = 0.5  # a request takes, on average
    _remaining: int | None = None
    _reset_at: float = 0.0
    _slowed_at: float = 0.0
    _pause: float = 0.0
    _next_at: float = 0.0

    def start_at(self, now: float) -> float:
        """When the next request may begin, as far as time decides; ``now`` or earlier: at once."""
        if self._remaining is not None and now >= self._reset_at:
            self._remaining, self._next_at = None, 0.0  # a new window: it will tell
        at = max(self.not_before, self.parked_until, self._next_at)
        if self._remaining is not None and self._remaining <= self.limits.reserve:
            at = max(at, self._reset_at)
        return at

    @property
    def is_full(self) -> bool:
        """Whether one of its requests must end before another begins."""
        return self.running >= max(1, int(self.limit))

    def is_parked(self, now: float) -> bool:
        """Whether it is left alone because it cannot be reached."""
        return now < self.parked_until

    def interval(self, now: float) -> float:
        """Seconds between two requests that this host bears, as far as is known."""
        spread = 0.0
        if self._remaining is not None:
            left = max(1, self._remaining - self.limits.reserve)
            spread = max(0.0, self._reset_at - now) / left
        return max(spread, self.seconds / max(1.0, self.limit))

    def begin(self, now: float) -> None:
        """A request begins."""
        self.running += 1
        if self._remaining is not None:
            left = self._remaining - self.limits.reserve
            self._next_at = now + (self._reset_at - now) / max(1, left)
            self._remaining -= 1

    def end(self, now: float, started: float, answer: Answer, told: Told) -> None:
        """A request that began at ``started`` ends."""
        self.running -= 1
        self._count(told, now)
        if answer is Answer.DOWN:
            self._fail(now, started)
            return
        self.failures, self.parks, self.parked_until = 0, 0, 0.0
        if answer is Answer.BUSY:
            self._slow(now, started, told)
            return
        self.seconds += 0.2 * (now - started - self.seconds)
        self._pause = 0.0
        if told.retry_seconds is not None:
            self.not_before = max(self.not_before, now + told.retry_seconds)
        self.limit = min(self.limits.concurrency_max, self.limit + 1.0 / max(1.0, self.limit))

    def _count(self, told: Told, now: float) -> None:
        if told.remaining is None or told.reset_seconds is None:
            return
        reset_at, left = now + max(0.0, told.reset_seconds), max(0, told.remaining)
        is_same = self._remaining is not None and abs(reset_at - self._reset_at) <= 1.5
        # Answers come out of order, and those under way are not counted in all of them.
        if is_same and self._remaining is not None:
            self._remaining = min(self._remaining, left)
        else:
            self._remaining, self._reset_at = max(0, left - self.running), reset_at

    def _slow(self, now: float, started: float, told: Told) -> None:
        waits = [told.retry_seconds] if told.retry_seconds is not None else []
        if not waits and told.remaining == 0 and told.reset_seconds is not None:
            waits.append(told.reset_seconds)
        if waits:
            self.not_before = max(self.not_before, now + max(waits))
            return
        if started >= self._slowed_at:  # one round of requests slows it once
            self.limit = max(1.0, self.limit / 2)
            self._slowed_at = now
            first, longest = self.limits.pause_first_seconds, self.limits.pause_max_seconds
            self._pause = min(longest, self._pause * 2 or first)
        self.not_before = max(self.not_before, now + self._pause)

    def _fail(self, now: float, started: float) -> None:
        if self.parks and started < self.parked_until:
            return  # it was under way when the host was parked: that is known already
        self.failures += 1
        if self.failures < (1 if self.parks else self.limits.down_after):
            return
        first, longest = self.limits.park_first_seconds, self.limits.park_max_seconds
        self.parked_until = now + min(longest, first * 2.0 ** min(self.parks, 30))
        self.parks += 1
        self.limit = 1.0  # afterwards one request sees whether it is back


@dataclass
class _Host(Generic[T]):
    name: str
    pace: Pace
    waiting: deque[T] = field(default_factory=deque)
    placed: bool = False  # in the ring or among the timed
    line_end: float = 0.0  # when what was put off so far is served


@dataclass(frozen=True)
class PutOff(Generic[T]):
    """Work that is given back, for its host will not come to it soon."""

    host: str
    item: T
    seconds: float
    """When its turn would be, from now."""
    is_down: bool


class Hosts(Generic[T]):
    """Work waiting by host, and the state of every host met.

    Each item that ``next`` gives out is ended by one ``end``.
    """

    def __init__(self, limits: Limits, *, longest_put_off_seconds: float = 3600.0) -> None:
        self._limits = limits
        self._longest = longest_put_off_seconds
        self._hosts: dict[str, _Host[T]] = {}
        self._ring: deque[_Host[T]] = deque()
        self._timed: list[tuple[float, int, _Host[T]]] = []
        self._numbers = itertools.count()
        self.waiting = 0
        self.running = 0

    def add(self, host: str, item: T, now: float) -> None:
        """Put work at the end of its host's line."""
        found = self._host(host)
        found.waiting.append(item)
        self.waiting += 1
        self._place(found, now)

    def next(self, now: float) -> tuple[str, T] | None:
        """The work to begin now, of the host whose turn it is; None if all must wait."""
        while self._timed and self._timed[0][0] <= now:
            self._ring.append(heapq.heappop(self._timed)[2])
        while self._ring:
            host = self._ring.popleft()
            host.placed = False
            if not host.waiting or host.pace.is_full or host.pace.start_at(now) > now:
                self._place(host, now)
                continue
            item = host.waiting.popleft()
            self.waiting -= 1
            self.running += 1
            host.pace.begin(now)
            self._place(host, now)
            return host.name, item
        return None

    def end(
        self, host: str, now: float, started: float, answer: Answer, told: Told = NOTHING_TOLD
    ) -> bool:
        """A request is over.

        Returns:
            Whether the host is parked by this very answer.
        """
        found = self._hosts[host]
        was = found.pace.parked_until
        found.pace.end(now, started, answer, told)
        self.running -= 1
        self._place(found, now)
        return found.pace.parked_until > max(was, now)

    def park(self, host: str, until: float, now: float) -> None:
        """Another process found this host down; ``until`` in the past does nothing."""
        pace = self._host(host).pace
        if until > max(now, pace.parked_until):
            pace.parked_until, pace.parks, pace.limit = until, max(1, pace.parks), 1.0

    def wake_at(self, now: float) -> float | None:
        """When time alone makes more work possible; None if only an answer or new work can."""
        if self._ring:
            return now
        return self._timed[0][0] if self._timed else None

    def put_off(self, now: float, keep: int, *, soon: float = 0.0) -> list[PutOff[T]]:
        """Give back work that would only wait.

        That is all of hosts that are parked, and then of those with the longest lines, from their
        ends, until ``keep`` are left; but not what has its turn within ``soon`` seconds. The times
        follow each host's pace, so that work comes back about when its turn is.
        """
        found: list[PutOff[T]] = []
        for host in self._hosts.values():
            if host.waiting and host.pace.is_parked(now):
                found += self._give_back(host, 0, now)
        if self.waiting <= keep:
            return found
        busy = [host for host in self._hosts.values() if host.waiting]
        for host in sorted(busy, key=lambda each: len(each.waiting), reverse=True):
            surplus = self.waiting - max(0, keep)
            if surplus <= 0:
                break
            ready = max(0.0, soon - max(0.0, host.pace.start_at(now) - now))
            stay = max(len(host.waiting) - surplus, int(ready / host.pace.interval(now)))
            found += self._give_back(host, stay, now)
        return found

    def pace(self, host: str) -> Pace:
        """How a host is asked; for reports and tests."""
        return self._host(host).pace

    def parked(self, now: float) -> list[tuple[str, float]]:
        """Hosts that are left alone, with the seconds left."""
        return [
            (host.name, host.pace.parked_until - now)
            for host in self._hosts.values()
            if host.pace.is_parked(now)
        ]

    def forget_idle(self, now: float, most: int = 10_000) -> None:
        """Keep no more hosts than that: those without work and trouble are the first to go."""
        if len(self._hosts) <= most:
            return
        idle = [
            name
            for name, host in self._hosts.items()
            if not host.waiting and not host.pace.running and host.pace.start_at(now) <= now
        ]
        for name in idle[: len(self._hosts) - most]:
            del self._hosts[name]

    def abandon(self) -> None:
        """Whoever worked is gone: nothing waits and nothing is under way; what was learnt stays."""
        for host in self._hosts.values():
            host.waiting.clear()
            host.pace.running = 0
            host.line_end = 0.0
        self.waiting = self.running = 0

    def _host(self, name: str) -> _Host[T]:
        host = self._hosts.get(name)
        if host is None:
            host = _Host(name, Pace(self._limits, self._limits.concurrency_first))
            self._hosts[name] = host
        return host

    def _place(self, host: _Host[T], now: float) -> None:
        """Where it belongs: in the ring, among those that time will free, or nowhere."""
        if host.placed or not host.waiting or host.pace.is_full:
            return
        host.placed = True
        at = host.pace.start_at(now)
        if at <= now:
            self._ring.append(host)
        else:
            heapq.heappush(self._timed, (at, next(self._numbers), host))

    def _give_back(self, host: _Host[T], stay: int, now: float) -> list[PutOff[T]]:
        """All but the first ``stay`` of its line."""
        is_down = host.pace.is_parked(now)
        each = host.pace.interval(now)
        line = max(host.line_end, host.pace.start_at(now), now) + (0 if is_down else stay * each)
        items = [host.waiting.pop() for _ in range(len(host.waiting) - stay)][::-1]
        self.waiting -= len(items)
        found = []
        for item in items:
            line = min(line + each, now + self._longest)
            found.append(PutOff(host.name, item, line - now, is_down))
        host.line_end = line if items else host.line_end
        return found
