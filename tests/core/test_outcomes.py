"""What answers of hosts mean for a repository, its host and its next attempt."""

from __future__ import annotations

import pytest

from engine.core import outcomes
from engine.core.hosts import Answer, Told
from engine.core.outcomes import Outcome

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, b'{"error":"RepoNotFound"}', Outcome.GONE),
        (404, b'{"error":"RepoNotFound"}', Outcome.GONE),
        (400, b'{"error":"RepoTakendown"}', Outcome.TAKEN_DOWN),
        (400, b'{"error":"RepoSuspended"}', Outcome.SUSPENDED),
        (400, b'{"error":"RepoDeactivated","message":"x"}', Outcome.DEACTIVATED),
        (500, b'{"error":"RepoNotFound"}', Outcome.TRANSIENT),
        (400, b'{"error":"InvalidRequest"}', Outcome.TRANSIENT),
        (400, b"<html>", Outcome.TRANSIENT),
        (404, b"", Outcome.TRANSIENT),
        (403, b'["RepoNotFound"]', Outcome.TRANSIENT),
        (429, b'{"error":"RateLimitExceeded"}', Outcome.TRANSIENT),
    ],
)
def test_errors_of_get_repo(status: int, body: bytes, outcome: Outcome) -> None:
    attempt = outcomes.of_error(status, body)
    assert attempt.outcome is outcome
    assert str(status) in attempt.error


@pytest.mark.parametrize("status", [429, 503, 502, 504, 408, 522])
def test_a_host_that_is_busy_or_down_costs_the_repository_no_attempt(status: int) -> None:
    assert not outcomes.of_error(status, b"").counts


@pytest.mark.parametrize("status", [500, 400, 403, 501])
def test_another_failure_costs_an_attempt(status: int) -> None:
    assert outcomes.of_error(status, b"").counts


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, Answer.FINE),
        (400, Answer.FINE),
        (500, Answer.FINE),
        (429, Answer.BUSY),
        (503, Answer.BUSY),
        (502, Answer.DOWN),
        (504, Answer.DOWN),
        (525, Answer.DOWN),
    ],
)
def test_what_a_status_says_of_the_host(status: int, answer: Answer) -> None:
    assert outcomes.of_host(status) is answer


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, Told()),
        ({"retry-after": "7"}, Told(retry_seconds=7)),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, Told(retry_seconds=30)),
        ({"retry-after": "Fri, 15 Jan 2020 08:00:30 GMT"}, Told(retry_seconds=0)),
        ({"retry-after": "99999999"}, Told(retry_seconds=3600)),
        ({"retry-after": "soon"}, Told()),
        ({"retry-after": "-5"}, Told()),
        (
            {"ratelimit-remaining": "12", "ratelimit-reset": str(int(NOW) + 60)},
            Told(remaining=12, reset_seconds=60),
        ),
        (
            {"ratelimit-remaining": "12", "ratelimit-reset": "45"},
            Told(remaining=12, reset_seconds=45),
        ),
        (
            {"ratelimit-remaining": "0", "ratelimit-reset": "9e99"},
            Told(remaining=0),
        ),
        ({"ratelimit-remaining": "nan", "ratelimit-reset": "inf"}, Told()),
    ],
)
def test_what_headers_tell(headers: dict[str, str], told: Told) -> None:
    assert outcomes.told(headers, NOW) == told


def test_waits_double_up_to_their_bound_with_half_of_each_random() -> None:
    waits = [outcomes.retry_seconds(n, 1.0, 30.0, 0.999999) for n in range(1, 9)]
    assert waits == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30], rel=1e-3)
    assert outcomes.retry_seconds(3, 1.0, 30.0, 0.0) == 2.0
    assert outcomes.retry_seconds(10_000, 1.0, 30.0, 0.5) <= 30


def test_every_final_outcome_but_gone_has_a_word_for_the_account() -> None:
    without = {Outcome.OK, Outcome.EMPTY, Outcome.GONE}
    assert set(outcomes.STATUS_OF) == outcomes.FINAL - without
