from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.core.backoff import Backoff


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(base_seconds=1, cap_seconds=60)
    delays = [backoff.next(jitter=1.0) for _ in range(9)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_progress_starts_the_schedule_anew() -> None:
    backoff = Backoff(base_seconds=1, cap_seconds=60)
    for _ in range(5):
        backoff.next(jitter=0.5)
    backoff.reset()
    assert backoff.next(jitter=1.0) == 1


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_delay_is_always_in_the_upper_half_of_its_step(failures: int, jitter: float) -> None:
    backoff = Backoff(base_seconds=0.5, cap_seconds=60, failures=failures)
    step = min(60.0, 0.5 * 2.0 ** min(failures, 64))
    assert step / 2 <= backoff.next(jitter) <= step
    assert backoff.failures == failures + 1
