"""Named points at which a process ends or freezes itself, for tests of crashes.

Off unless ``HEADRACE_FAILPOINT=ROLE:POINT:PASS:ACTION`` is set: when a process of that role (or
name, ``indexer/1``; ``plc_import`` is the command) passes the point for the PASS-th time, it sends
itself SIGKILL (``kill``) or SIGSTOP (``stop``), at once, with whatever is open. Just before, it
writes the line ``failpoint POINT reached`` to stderr, so that a test can prove where it happened.

A process acts once, and the supervisor hands the variable only to the first process that it
starts of each kind, never to one that it starts again: no crash loop. Where a point is passed
nothing happens but the look at one variable.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass

from engine.errors import SettingsError

logger = logging.getLogger(__name__)

VARIABLE = "HEADRACE_FAILPOINT"

POINTS: dict[str, dict[str, str]] = {
    "firehose": {
        "before_append": "a batch is decoded, nothing of its MULTI is sent",
        "inside_append": "the MULTI is written to the socket, its answer not read",
        "after_append": "the answer of EXEC is checked, nothing else happened",
        "between_appends": "a batch is appended and counted, the next one not yet sent",
    },
    "backfiller": {
        "after_begin": "a fetch is announced in Postgres, its host not asked",
        "before_slices": "a repository is fetched and proved, nothing of it appended",
        "after_closing": "its closing entry is appended and its queue entry gone, no row tells it",
        "before_finish": "the row tells what became of an attempt, its queue entry is still there",
    },
    "labels": {
        "before_append": "a frame is decoded, nothing of its MULTI is sent",
        "inside_append": "the MULTI is written to the socket, its answer not read",
        "after_append": "the answer of EXEC is checked, nothing else happened",
        "after_read": "entries are read, their transaction not begun",
        "after_lock": "the transaction holds the row of the stream",
        "before_commit": "all written, COMMIT not sent",
        "after_commit": "COMMIT is answered, nothing else happened",
        "before_trim": "entries may go, none was trimmed",
        "after_trim": "entries are trimmed, nothing else happened",
    },
    "indexer": {
        "after_read": "a batch is read and decoded, its transaction not begun",
        "after_lock": "the transaction holds its shard rows",
        "before_copy": "folded, deletes done, no row copied",
        "inside_copy": "a chunk is sent to the server, the COPY is not done",
        "between_statements": "after one statement that writes, before whatever comes next",
        "before_positions": "all rows written, the positions not",
        "before_commit": "all written, COMMIT not sent",
        "after_commit": "COMMIT is answered, nothing else happened",
        "before_trim": "entries may go, none was trimmed",
        "after_trim": "entries are trimmed, nothing else happened",
        "inside_deletion": "rows of an account are deleted, nothing counted or committed",
    },
    "identity": {
        "after_rows": "a page of the directory's log is written, its cursor is not",
        "before_commit": "the cursor is written, too, COMMIT not sent",
        "after_commit": "COMMIT is answered, nothing else happened",
    },
    "plc_import": {
        "after_rows": "a piece of a file is written, how far the file is read is not",
        "before_commit": "all written, COMMIT not sent",
        "after_commit": "COMMIT is answered, nothing else happened",
    },
}
"""Role -> point -> what is done there, and what is not."""

ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass
class Failpoint:
    """What a process is asked to do to itself."""

    process: str
    """A role, or the name of one process of it."""
    point: str
    passes: int
    """Still to come, with the one at which it acts; above 0."""
    action: str

    @property
    def role(self) -> str:
        """The role that has the point."""
        return self.process.partition("/")[0]


_armed: Failpoint | None = None


def parse(text: str) -> Failpoint | None:
    """The value of the variable; None if it is empty.

    Raises:
        SettingsError: it is none; names the form and every point.
    """
    if not text.strip():
        return None
    process, point, passes, action = (*text.strip().split(":"), "", "", "", "")[:4]
    asked = Failpoint(process, point, int(passes) if passes.isdecimal() else 0, action)
    known = point in POINTS.get(asked.role, ())
    if text.count(":") != 3 or not known or asked.passes < 1 or action not in ACTIONS:
        points = "; ".join(f"{role}: {', '.join(names)}" for role, names in POINTS.items())
        raise SettingsError(
            f"{VARIABLE} = {text!r}: expected ROLE:POINT:PASS:ACTION, PASS from 1, "
            f"ACTION {' or '.join(ACTIONS)}; points of {points}"
        )
    return asked


def arm(text: str, process: str) -> None:
    """Have this process act, if the variable's value means it; else disarm.

    Args:
        text: the value.
        process: our name, a role or ``role/slot``.

    Raises:
        SettingsError: as ``parse``.
    """
    global _armed
    asked = parse(text)
    mine = asked is not None and asked.process in (process, process.partition("/")[0])
    _armed = asked if mine else None
    if _armed is not None:
        logger.warning(
            "failpoint armed: this process will %s itself at pass %d of %s; for tests only",
            _armed.action,
            _armed.passes,
            _armed.point,
        )


def passing(point: str) -> None:
    """Act here, if it is asked for; a SIGSTOP returns with the SIGCONT."""
    if _armed is not None:
        _pass(_armed, point)


async def passing_sent(point: str) -> None:
    """As ``passing``, where bytes were just written: they reach the kernel first."""
    if _armed is not None:
        await asyncio.sleep(0)  # the loop writes at the end of its turn
        _pass(_armed, point)


def _pass(asked: Failpoint, point: str) -> None:
    global _armed
    if point != asked.point:
        return
    asked.passes -= 1
    if asked.passes == 0:
        _armed = None
        os.write(2, f"failpoint {point} reached\n".encode())
        os.kill(os.getpid(), ACTIONS[asked.action])
