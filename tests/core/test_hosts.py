"""The scheduler of hosts, with a clock that the tests move."""

from __future__ import annotations

import itertools
import random

import pytest

from engine.core.hosts import Answer, Hosts, Limits, Told

LIMITS = Limits()


class Clock:
    """Hosts, and the requests under way, at a time of the test's choosing."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.hosts: Hosts[int] = Hosts(limits)
        self.now = 1000.0
        self.running: list[tuple[str, int, float]] = []

    def add(self, host: str, *items: int) -> None:
        for item in items:
            self.hosts.add(host, item, self.now)

    def start(self) -> list[tuple[str, int]]:
        """Everything that may begin now."""
        begun = []
        while (found := self.hosts.next(self.now)) is not None:
            begun.append(found)
            self.running.append((*found, self.now))
        return begun

    def end(self, answer: Answer = Answer.FINE, told: Told | None = None, count: int = 1) -> None:
        """The oldest requests end."""
        for _ in range(count):
            host, _, started = self.running.pop(0)
            self.hosts.end(host, self.now, started, answer, told or Told())

    def end_all(self, answer: Answer = Answer.FINE, told: Told | None = None) -> None:
        self.end(answer, told, len(self.running))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_host_gets_no_more_requests_at_a_time_than_its_limit(clock: Clock) -> None:
    clock.add("a", *range(20))
    assert len(clock.start()) == LIMITS.concurrency_first
    assert clock.start() == []
    clock.end()
    assert len(clock.start()) == 1


def test_hosts_are_served_in_turn(clock: Clock) -> None:
    clock.add("large", *range(100))
    clock.add("small", 1)
    clock.add("other", 2, 3)
    assert [host for host, _ in clock.start()][:4] == ["large", "small", "other", "large"]


def test_work_of_a_host_keeps_its_order(clock: Clock) -> None:
    clock.add("a", *range(50))
    seen = []
    while clock.hosts.waiting:
        seen += [item for _, item in clock.start()]
        clock.now += 1
        clock.end_all()
    assert seen == list(range(50))


def test_a_busy_large_host_never_holds_up_another(clock: Clock) -> None:
    clock.add("large", *range(1000))
    clock.start()
    clock.add("small", 7)
    assert clock.start() == [("small", 7)]


def test_good_answers_raise_the_limit_to_its_bound(clock: Clock) -> None:
    clock.add("a", *range(5000))
    for _ in range(100):
        clock.start()
        clock.now += 0.1
        clock.end_all()
    assert clock.hosts.pace("a").limit == LIMITS.concurrency_max
    assert len(clock.start()) == LIMITS.concurrency_max


def test_too_many_without_headers_halves_the_limit_once_a_round(clock: Clock) -> None:
    clock.add("a", *range(100))
    clock.hosts.pace("a").limit = 8.0
    assert len(clock.start()) == 8
    clock.now += 1
    clock.end_all(Answer.BUSY)  # eight refusals of one round are one reason
    assert clock.hosts.pace("a").limit == 4.0


def test_after_too_many_without_headers_there_is_a_pause_that_doubles(clock: Clock) -> None:
    clock.add("a", *range(100))
    waits = []
    for _ in range(9):
        assert clock.start()
        clock.now += 0.5
        clock.end_all(Answer.BUSY)
        assert clock.start() == []
        wake = clock.hosts.wake_at(clock.now)
        assert wake is not None
        waits.append(wake - clock.now)
        clock.now = wake
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_one_good_answer_ends_the_growth_of_pauses(clock: Clock) -> None:
    clock.add("a", *range(100))
    for answer in (Answer.BUSY, Answer.BUSY, Answer.FINE, Answer.BUSY):
        clock.start()
        clock.now += 0.5
        clock.end_all(answer)
        wait = (clock.hosts.wake_at(clock.now) or 0) - clock.now
        clock.now += max(wait, 0)
    assert wait == LIMITS.pause_first_seconds


def test_retry_after_is_kept_to_and_no_limit_is_halved(clock: Clock) -> None:
    clock.add("a", *range(10))
    clock.start()
    before = clock.hosts.pace("a").limit
    clock.end_all(Answer.BUSY, Told(retry_seconds=30))
    clock.now += 29.9
    assert clock.start() == []
    clock.now += 0.1
    assert clock.start()
    assert clock.hosts.pace("a").limit == before


def test_a_refusal_that_says_when_the_limit_begins_anew_waits_until_then(clock: Clock) -> None:
    clock.add("a", *range(10))
    clock.start()
    clock.end_all(Answer.BUSY, Told(remaining=0, reset_seconds=120))
    clock.now += 119
    assert clock.start() == []
    clock.now += 1
    assert clock.start()


def test_what_is_left_of_a_rate_limit_is_spread_until_it_begins_anew(clock: Clock) -> None:
    clock.add("a", *range(1000))
    clock.start()
    clock.now += 0.1
    clock.end(told=Told(remaining=102 + LIMITS.reserve + 3, reset_seconds=100))
    begun = []
    end = clock.now + 99
    while (wake := clock.hosts.wake_at(clock.now)) is not None and wake < end:
        clock.now = max(clock.now, wake)
        count = len(clock.start())
        begun += [clock.now] * count
        clock.now += 0.01
        clock.end_all()
    assert 95 <= len(begun) <= 105
    gaps = [after - before for before, after in itertools.pairwise(begun[1:])]
    assert min(gaps) > 0.8
    assert max(gaps) < 1.2


def test_nothing_is_asked_with_no_tokens_left_and_all_of_it_afterwards(clock: Clock) -> None:
    clock.add("a", *range(100))
    clock.start()
    clock.end_all(told=Told(remaining=1, reset_seconds=50))
    assert clock.start() == []
    assert clock.hosts.wake_at(clock.now) == clock.now + 50
    clock.now += 50
    assert len(clock.start()) > 3


def test_answers_out_of_order_never_give_tokens_back(clock: Clock) -> None:
    clock.add("a", *range(100))
    clock.start()
    clock.end(told=Told(remaining=10, reset_seconds=100))
    clock.end(told=Told(remaining=40, reset_seconds=100))  # an answer that was on its way longer
    started = 0
    for _ in range(99):
        clock.now += 1
        started += len(clock.start())
    assert started <= 10


def test_requests_under_way_are_counted_against_a_new_window(clock: Clock) -> None:
    clock.add("a", *range(100))
    assert len(clock.start()) == 4
    clock.end(told=Told(remaining=3 + LIMITS.reserve, reset_seconds=60))
    assert clock.start() == []  # three under way may have used the three that are left


def test_failures_in_a_row_park_a_host(clock: Clock) -> None:
    clock.add("a", *range(100))
    for number in range(LIMITS.down_after):
        assert not clock.hosts.pace("a").is_parked(clock.now), number
        clock.start()
        clock.now += 1
        clock.end(Answer.DOWN)
    assert clock.hosts.pace("a").is_parked(clock.now)
    assert clock.start() == []
    assert clock.hosts.parked(clock.now) == [("a", LIMITS.park_first_seconds)]


def test_an_answer_between_failures_starts_the_count_anew(clock: Clock) -> None:
    clock.add("a", *range(100))
    for _ in range(10):
        for answer in [Answer.DOWN] * (LIMITS.down_after - 1) + [Answer.FINE]:
            clock.start()
            clock.now += 0.1
            clock.end(answer)
    assert clock.hosts.parked(clock.now) == []


def test_a_parked_host_is_asked_once_to_see(clock: Clock) -> None:
    clock.add("a", *range(100))
    parks = []
    for _ in range(LIMITS.down_after - 1):
        clock.start()
        clock.now += 0.1
        clock.end(Answer.DOWN)
    for _ in range(9):
        clock.start()
        clock.now += 0.1
        clock.end_all(Answer.DOWN)
        ((_, seconds),) = clock.hosts.parked(clock.now)
        parks.append(seconds)
        clock.now += seconds
        assert len(clock.start()) == 1
    assert parks == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600, 3600])


def test_failures_of_requests_from_before_the_park_do_not_lengthen_it(clock: Clock) -> None:
    clock.hosts.pace("a").limit = 10.0
    clock.add("a", *range(100))
    assert len(clock.start()) == 10
    clock.now += 1
    clock.end_all(Answer.DOWN)
    assert clock.hosts.parked(clock.now) == [("a", LIMITS.park_first_seconds)]


def test_a_host_that_is_back_gets_its_concurrency_by_and_by(clock: Clock) -> None:
    clock.add("a", *range(1000))
    for _ in range(LIMITS.down_after):
        clock.start()
        clock.now += 0.1
        clock.end(Answer.DOWN)
    clock.end_all(Answer.DOWN)
    clock.now += LIMITS.park_first_seconds
    counts = []
    for _ in range(30):
        counts.append(len(clock.start()))
        clock.now += 0.1
        clock.end_all()
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[-1] > 4


def test_the_answer_that_parks_a_host_says_so_once(clock: Clock) -> None:
    clock.add("a", *range(100))
    clock.start()
    said = []
    for _ in range(LIMITS.down_after + 3):
        clock.start()
        clock.now += 0.1
        if clock.running:
            host, _, started = clock.running.pop(0)
            said.append(clock.hosts.end(host, clock.now, started, Answer.DOWN))
    assert said.count(True) == 1


def test_another_process_may_park_a_host(clock: Clock) -> None:
    clock.add("a", 1)
    clock.hosts.park("a", clock.now + 30, clock.now)
    assert clock.start() == []
    clock.hosts.park("a", clock.now - 5, clock.now)  # long ago: nothing
    clock.now += 30
    assert clock.start() == [("a", 1)]


def test_everything_of_a_parked_host_is_put_off_until_it_is_looked_at(clock: Clock) -> None:
    clock.add("down", *range(10))
    clock.add("fine", *range(100, 110))
    clock.hosts.park("down", clock.now + 60, clock.now)
    off = clock.hosts.put_off(clock.now, keep=100)
    assert {each.host for each in off} == {"down"}
    assert [each.item for each in off] == list(range(10))
    assert all(each.seconds >= 60 for each in off)
    assert all(each.is_down for each in off)
    assert clock.hosts.waiting == 10


def test_the_longest_lines_are_put_off_from_their_ends(clock: Clock) -> None:
    clock.add("large", *range(90))
    clock.add("small", *range(100, 110))
    off = clock.hosts.put_off(clock.now, keep=50)
    assert {each.host for each in off} == {"large"}
    assert [each.item for each in off] == list(range(40, 90))
    assert clock.hosts.waiting == 50


def test_what_is_put_off_comes_back_at_the_pace_of_its_host(clock: Clock) -> None:
    clock.add("a", *range(1000))
    off = clock.hosts.put_off(clock.now, keep=100)
    pace = LIMITS.concurrency_first / clock.hosts.pace("a").seconds
    assert off[0].seconds == pytest.approx(101 / pace)
    assert off[-1].seconds == pytest.approx(1000 / pace)
    later = [5000, 5001]
    clock.add("a", *later)
    again = clock.hosts.put_off(clock.now, keep=100)
    assert again[-1].seconds > off[-1].seconds  # behind those put off before


def test_what_has_its_turn_soon_is_not_put_off(clock: Clock) -> None:
    clock.add("a", *range(1000))
    pace = LIMITS.concurrency_first / clock.hosts.pace("a").seconds
    off = clock.hosts.put_off(clock.now, keep=0, soon=10)
    assert off[0].item == 10 * pace
    assert off[0].seconds > 10
    assert clock.hosts.put_off(clock.now, keep=0, soon=10) == []


def test_soon_is_not_before_the_host_may_be_asked(clock: Clock) -> None:
    clock.add("a", *range(100))
    clock.hosts.next(clock.now)
    clock.hosts.end("a", clock.now, clock.now, Answer.BUSY, Told(retry_seconds=60))
    assert len(clock.hosts.put_off(clock.now, keep=0, soon=10)) == 99


def test_nothing_is_put_off_for_longer_than_the_bound(clock: Clock) -> None:
    clock.add("a", *range(100_000))
    off = clock.hosts.put_off(clock.now, keep=0)
    assert max(each.seconds for each in off) == 3600.0


def test_nothing_is_put_off_while_there_is_room(clock: Clock) -> None:
    clock.add("a", *range(10))
    assert clock.hosts.put_off(clock.now, keep=10) == []


def test_what_is_abandoned_is_gone_and_what_was_learnt_stays(clock: Clock) -> None:
    clock.add("a", *range(10))
    clock.add("b", 20, 21)
    assert clock.start()
    clock.hosts.park("b", clock.now + 60, clock.now)
    clock.hosts.abandon()
    assert (clock.hosts.waiting, clock.hosts.running) == (0, 0)
    assert clock.start() == []
    clock.add("a", *range(10))
    clock.add("b", 22)
    assert {host for host, _ in clock.start()} == {"a"}
    assert clock.hosts.parked(clock.now) == [("b", 60)]


def test_idle_hosts_are_forgotten_but_not_those_in_trouble() -> None:
    clock = Clock()
    for number in range(50):
        clock.add(f"h{number}", number)
    clock.start()
    clock.end_all()
    clock.hosts.park("h3", clock.now + 60, clock.now)
    clock.add("h4", 1)
    clock.hosts.forget_idle(clock.now, most=2)
    assert clock.hosts.parked(clock.now) == [("h3", 60)]
    assert clock.start() == [("h4", 1)]


@pytest.mark.parametrize("seed", range(30))
def test_any_course_of_events_gives_every_item_once_and_keeps_to_the_rules(seed: int) -> None:
    dice = random.Random(seed)
    clock = Clock()
    hosts = [f"h{number}" for number in range(dice.randrange(1, 8))]
    done: list[int] = []
    total, added = 400, 0
    for _ in range(200_000):
        if len(done) == total:
            break
        if added < total and dice.random() < 0.3:
            clock.add(dice.choice(hosts), added)
            added += 1
        for host, _ in clock.start():
            pace = clock.hosts.pace(host)
            assert pace.running <= max(1, int(max(pace.limit, LIMITS.concurrency_max)))
            assert clock.now >= pace.parked_until
            assert clock.now >= pace.not_before
        if clock.running and dice.random() < 0.6:
            clock.running.sort(key=lambda _: dice.random())
            _, item, _ = clock.running[0]
            answer = dice.choices(list(Answer), (8, 1, 1))[0]
            told = dice.choice(
                [
                    None,
                    Told(retry_seconds=dice.random() * 5),
                    Told(remaining=dice.randrange(50), reset_seconds=dice.random() * 20),
                ]
            )
            clock.end(answer, told)
            done.append(item)
        if dice.random() < 0.05:
            for off in clock.hosts.put_off(clock.now, keep=dice.randrange(50)):
                assert 0 <= off.seconds <= 3600
                clock.hosts.add(off.host, off.item, clock.now)
        clock.now += dice.random()
        if not clock.running and (wake := clock.hosts.wake_at(clock.now)) is not None:
            clock.now = max(clock.now, wake)
    assert sorted(done) == list(range(total))
    assert (clock.hosts.waiting, clock.hosts.running) == (0, 0)
