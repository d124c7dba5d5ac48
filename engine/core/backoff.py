"""How long to wait before the next attempt. Pure: no clock and no dice.

The schedule doubles from `base_seconds` to `cap_seconds`; each delay is spread over its upper
half, so that many clients of one server that went away do not come back as one. Progress (for a
relay: a data frame, not a mere connection) starts it anew.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Backoff:
    """The schedule of one endless loop of attempts."""

    base_seconds: float = 0.5
    cap_seconds: float = 60.0
    failures: int = 0  # attempts since the last progress

    def next(self, jitter: float) -> float:
        """Seconds to wait before the next attempt; each call counts one failure.

        Args:
            jitter: a random number in [0, 1).
        """
        # 2.0**1024 overflows, and the cap is reached long before.
        whole = min(self.cap_seconds, self.base_seconds * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return whole * (0.5 + jitter / 2)

    def reset(self) -> None:
        """There was progress."""
        self.failures = 0
