"""What an attempt means for its repository: another turn, or an end that is stored."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from engine.core import outcomes
from engine.core.hosts import Answer
from engine.core.outcomes import Attempt, Outcome
from engine.roles.backfiller.ledger import End

if TYPE_CHECKING:
    from engine.core.hosts import PutOff
    from engine.roles.backfiller.attempt import Verdict
    from engine.roles.backfiller.job import Job

BUSY_MAX, DOWN_MAX = 5, 3
"""So many such answers in a row, and a repository goes to the end of a longer line."""

PUT_OFF_SECONDS = 30.0
"""The least time for which it then does."""

PARKS_COUNTED = 3
"""A host that was left alone so often in a row is gone: then it costs its repositories attempts."""


def of_verdict(job: Job, verdict: Verdict) -> Attempt | None:
    """The attempt as it is stored; None: the job waits for another turn at its home.

    Counts in the job how often its host was busy or down.
    """
    if verdict.ask_again:
        return None
    attempt = verdict.attempt
    if verdict.answer is Answer.BUSY:
        job.busy += 1
        if job.busy < BUSY_MAX:
            return None
        return Attempt(attempt.outcome, attempt.error, counts=False)  # never final
    if verdict.answer is Answer.DOWN:
        job.down += 1
        if job.down < DOWN_MAX:
            return None
        # Its host may be well, and only this one be too much for it.
        return Attempt(attempt.outcome, attempt.error, counts=True)
    return attempt


def end_of(job: Job, attempt: Attempt, *, last: bool = False) -> End:
    """An attempt's end, with the wait for the next one; ``last``: there is none in any case."""
    is_final = attempt.outcome in outcomes.FINAL
    counts = attempt.counts and not is_final
    wait: float | None = None
    if not is_final and not last:
        # Seconds where it is put off; where it counts, the part of the wait that is random.
        wait = random.uniform(0.5, 1.0) if counts else PUT_OFF_SECONDS * random.uniform(1, 2)  # noqa: S311
    return End(
        did=job.did,
        fetch_id=job.fetch_id,
        outcome=attempt.outcome,
        error=attempt.error,
        host=job.pds,
        wait_seconds=wait,
        counts=counts,
        last=last,
    )


def of_waiting(off: PutOff[Job], parks: int) -> End:
    """The end of a wait without an attempt; its host was left alone ``parks`` times in a row."""
    return End(
        did=off.item.did,
        fetch_id=off.item.fetch_id,
        outcome=Outcome.TRANSIENT if off.is_down else None,
        error="its host does not answer" if off.is_down else "",
        host=off.host,
        wait_seconds=off.seconds,
        counts=off.is_down and parks >= PARKS_COUNTED,
        exact=True,
    )
