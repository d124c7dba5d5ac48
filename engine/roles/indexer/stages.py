"""Where an indexer's time goes, by stage: for the heartbeat and the benchmarks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class Stage(StrEnum):
    """What an indexer does with a batch, in this order."""

    DECODE = "decode"  # beside the writing of the batch before
    WAIT = "wait"  # for entries to come, or to be decoded
    LOCK = "lock"
    KNOWN_ROWS = "known_rows"  # this and the next beside the writing of the batch before
    FOLD = "fold"
    DELETE = "delete"
    COPY = "copy"
    STATEMENTS = "statements"
    AGGREGATES = "aggregates"
    POSITIONS = "positions"
    COMMIT = "commit"
    UPKEEP = "upkeep"


class Stages:
    """Seconds spent in each stage since the start."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(Stage, 0.0)

    @contextmanager
    def __call__(self, stage: Stage) -> Iterator[None]:
        """Count the body's wall-clock time, also when it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, started)

    def add(self, stage: Stage, started: float) -> None:
        """Count the time since ``started``, a reading of ``time.perf_counter``."""
        self.seconds[stage] += time.perf_counter() - started

    def report(self) -> dict[str, float]:
        """Seconds by stage, rounded to milliseconds."""
        return {str(stage): round(seconds, 3) for stage, seconds in self.seconds.items()}
