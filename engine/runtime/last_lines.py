"""What a process of ours said last: its stderr passed on to ours, the end of it kept.

A thread a process, so that a slow reader of our own log holds up that process, as if it wrote
there itself, and never the supervisor. Memory is bounded: ``KEPT_LINES`` lines of
``KEPT_CHARACTERS`` each, whatever the process writes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
from collections import deque

KEPT_LINES = 20
KEPT_CHARACTERS = 500

_READ_BYTES = 1 << 16

_ERROR = re.compile(r"\S+Z (?:ERROR|CRITICAL) \S+ (.*)")


class LastLines:
    """Passes on what a process writes to a pipe, line by line, and keeps the last lines.

    Give ``write_fd`` to the process as its stderr and call ``started`` once it has it.
    """

    def __init__(self, to: int = 2) -> None:
        """Open the pipe.

        Args:
            to: the file that all lines go on to; ours is the log.
        """
        self._read_fd, self.write_fd = os.pipe()
        self._to = to
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._thread = threading.Thread(target=self._pass_on, name="log", daemon=True)

    def started(self) -> None:
        """Close our copy of the writing end, so that the pipe ends with the process."""
        os.close(self.write_fd)
        self._thread.start()

    def finish(self, seconds: float = 1.0) -> list[str]:
        """The last lines of a process that has ended, oldest first.

        Args:
            seconds: how long to wait for the end of the pipe, which a process of the
                process may hold open.
        """
        self._thread.join(seconds)
        return list(self._lines)

    def _pass_on(self) -> None:
        rest = b""
        try:
            while chunk := os.read(self._read_fd, _READ_BYTES):
                whole, newline, rest = (rest + chunk).rpartition(b"\n")
                if not newline and len(rest) >= _READ_BYTES:  # a line without an end
                    whole, newline, rest = rest, b"\n", b""
                if newline:
                    self._take(whole + newline)
            if rest:
                self._take(rest + b"\n")
        finally:
            os.close(self._read_fd)

    def _take(self, lines: bytes) -> None:
        # Whole lines at once: those of several processes do not mix.
        for line in lines[:-1].split(b"\n")[-KEPT_LINES:]:
            self._lines.append(
                line[: 4 * KEPT_CHARACTERS].decode(errors="replace")[:KEPT_CHARACTERS]
            )
        view = memoryview(lines)
        with contextlib.suppress(OSError):  # nobody reads our log: the process works on
            while view:
                view = view[os.write(self._to, view) :]


def cause(lines: list[str]) -> str:
    """The line that says best why a process ended, in at most ``KEPT_CHARACTERS``.

    Its last error, with the last line of the traceback below where there is one; without
    an error, what it said last.
    """
    said = [line for line in lines if line.strip()]
    for place, line in reversed(list(enumerate(said))):
        if line.startswith("Traceback "):
            break
        if found := _ERROR.match(line):
            below = itertools.takewhile(lambda line: line[0].isspace(), said[place + 1 :])
            words = [found[1], *(line.strip() for line in list(below)[-1:])]
            return ": ".join(words)[:KEPT_CHARACTERS]
    return said[-1].strip() if said else ""
