"""What becomes of a repository after an attempt, by what its host answered."""

from __future__ import annotations

import pytest

from engine.core.hosts import Answer, PutOff
from engine.core.outcomes import Attempt, Outcome
from engine.roles.backfiller import endings
from engine.roles.backfiller.attempt import Verdict
from engine.roles.backfiller.job import Job

FAILED = Attempt(Outcome.TRANSIENT, "HTTP 500")


def job() -> Job:
    return Job("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", ["1-0"])


def test_a_busy_host_is_asked_again_and_then_costs_no_attempt() -> None:
    ours, busy = job(), Verdict(FAILED, Answer.BUSY)
    before = [endings.of_verdict(ours, busy) for _ in range(endings.BUSY_MAX - 1)]
    assert before == [None] * (endings.BUSY_MAX - 1)
    attempt = endings.of_verdict(ours, busy)
    assert attempt is not None
    end = endings.end_of(ours, attempt)
    assert not end.counts
    assert end.wait_seconds is not None
    assert endings.PUT_OFF_SECONDS <= end.wait_seconds <= 2 * endings.PUT_OFF_SECONDS


def test_a_host_that_does_not_answer_costs_an_attempt_in_the_end() -> None:
    ours = job()
    down = Verdict(Attempt(Outcome.TRANSIENT, "refused", counts=False), Answer.DOWN)
    before = [endings.of_verdict(ours, down) for _ in range(endings.DOWN_MAX - 1)]
    assert before == [None] * (endings.DOWN_MAX - 1)
    attempt = endings.of_verdict(ours, down)
    assert attempt is not None
    assert endings.end_of(ours, attempt).counts


def test_a_new_home_is_asked_at_once_however_often_the_old_one_was_busy() -> None:
    ours = job()
    moved = Verdict(Attempt(Outcome.MIGRATED, "elsewhere"), Answer.BUSY, ask_again=True)
    assert all(endings.of_verdict(ours, moved) is None for _ in range(2 * endings.BUSY_MAX))
    assert ours.busy == 0


def test_a_failed_attempt_waits_a_part_of_its_backoff() -> None:
    end = endings.end_of(job(), FAILED)
    assert end.counts
    assert end.wait_seconds is not None
    assert 0.5 <= end.wait_seconds <= 1.0


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.GONE, Outcome.TAKEN_DOWN])
def test_what_is_final_has_no_next_attempt(outcome: Outcome) -> None:
    end = endings.end_of(job(), Attempt(outcome))
    assert (end.wait_seconds, end.counts) == (None, False)


def test_the_last_attempt_has_no_next_one_whatever_it_came_to() -> None:
    end = endings.end_of(job(), FAILED, last=True)
    assert (end.wait_seconds, end.last) == (None, True)


@pytest.mark.parametrize(("parks", "counts"), [(endings.PARKS_COUNTED - 1, False), (99, True)])
def test_waiting_for_a_host_costs_attempts_only_once_it_is_gone(parks: int, counts: bool) -> None:
    end = endings.of_waiting(PutOff("https://pds.test", job(), 60.0, is_down=True), parks)
    assert (end.counts, end.wait_seconds, end.exact) == (counts, 60.0, True)


def test_waiting_in_a_long_line_is_no_outcome() -> None:
    end = endings.of_waiting(PutOff("https://pds.test", job(), 60.0, is_down=False), 99)
    assert (end.outcome, end.counts) == (None, False)
