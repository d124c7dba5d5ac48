"""Turns keep to their rate, whatever pauses come between."""

from __future__ import annotations

import random

import pytest

from engine.core.pacing import PAUSE_SECONDS_MAX, Turns


@pytest.mark.parametrize("seed", range(20))
def test_no_second_has_more_turns_than_the_rate(seed: int) -> None:
    rng = random.Random(seed)
    turns, now = Turns(10.0), 0.0
    taken: list[float] = []
    while len(taken) < 500:
        if rng.random() < 0.02:
            turns.pause(now, rng.random())
        wait = turns.wait_seconds(now)
        if wait == 0:
            turns.take(now)
            taken.append(now)
        now += wait or rng.choice([0.0, 0.01, 3.0])
    for at in taken:
        assert len([other for other in taken if at <= other < at + 0.999]) <= 10


def test_an_idle_time_is_not_saved_up() -> None:
    turns = Turns(2.0)
    assert turns.wait_seconds(1000.0) == 0
    turns.take(1000.0)
    assert turns.wait_seconds(1000.0) == pytest.approx(0.5)


def test_a_pause_holds_up_and_has_an_end() -> None:
    turns = Turns(2.0)
    turns.pause(5.0, 1e9)
    assert turns.wait_seconds(5.0) == PAUSE_SECONDS_MAX
    turns.pause(5.0, 1.0)
    assert turns.wait_seconds(5.0) == PAUSE_SECONDS_MAX
