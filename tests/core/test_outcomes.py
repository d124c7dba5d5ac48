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


@pytest.mark.parametrize(
    ("rev", "ahead"),
    [
        ("3jzfcijpj2z2a", False),
        ("3zzzzzzzzzzzz", True),
        ("", True),
        ("not a rev at", True),
        ("3jzfcijpj2z21", True),
        ("zjzfcijpj2z2a", True),
    ],
)
def test_a_rev_of_a_time_to_come_or_no_tid_is_ahead(rev: str, ahead: bool) -> None:
    assert outcomes.is_ahead(rev, NOW) is ahead


def test_a_rev_may_be_a_little_ahead() -> None:
    of_tid = 1_688_137_381.887007  # 3jzfcijpj2z2a
    assert not outcomes.is_ahead("3jzfcijpj2z2a", of_tid - outcomes.AHEAD_SECONDS + 1)
    assert outcomes.is_ahead("3jzfcijpj2z2a", of_tid - outcomes.AHEAD_SECONDS - 1)


def test_every_final_outcome_but_gone_has_a_word_for_the_account() -> None:
    without = {Outcome.OK, Outcome.EMPTY, Outcome.GONE}
    assert set(outcomes.STATUS_OF) == outcomes.FINAL - without
