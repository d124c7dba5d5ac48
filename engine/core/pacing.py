"""Turns that come no faster than a rate.

Pure: time is an argument, in seconds on a clock that only goes forward.
"""

from __future__ import annotations

from dataclasses import dataclass

PAUSE_SECONDS_MAX = 300.0
"""Longer than this nobody is made to wait, whatever they are told."""


@dataclass
class Turns:
    """No two turns are closer than ``1 / per_second``; none is taken while it pauses.

    What was not used is not saved up: after a quiet hour there is no burst.
    """

    per_second: float
    _next: float = float("-inf")

    def wait_seconds(self, now: float) -> float:
        """How long to wait before a turn may be taken; 0: now."""
        return max(0.0, self._next - now)

    def take(self, now: float) -> None:
        """A turn is taken, at a time when ``wait_seconds`` was 0."""
        self._next = max(self._next, now + 1.0 / self.per_second)

    def pause(self, now: float, seconds: float) -> None:
        """No turn before so many seconds have passed."""
        self._next = max(self._next, now + min(seconds, PAUSE_SECONDS_MAX))
