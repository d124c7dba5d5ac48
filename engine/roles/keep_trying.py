"""Working through every failure of the stores: what most roles are made of.

A role works in sessions. A session opens what it needs, believes nothing from an earlier one
and ends with the first failure of a store; then there is a pause, and the next session starts
from what the stores hold. So there is no repair path beside the start path. Between the sessions
and during them the role says every ten seconds what it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping

from engine import errors, log
from engine.core import backoff

REPORT_SECONDS = 10.0
"""Between two lines of progress."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0


class KeepTrying(ABC):
    """One process' job in sessions, until it is stopped.

    ``_state`` is what the heartbeat tells: ``starting``, then what a session says, ``waiting``
    in a pause, ``stopping`` at the end.
    """

    LINE: str
    """How the line of progress begins."""

    PROGRESS: str
    """The count that only grows while the stores answer: then a failure is a first one again."""

    def __init__(self) -> None:
        self._state = "starting"
        # The lines are the role's own, not this module's.
        self._logger = logging.getLogger(type(self).__module__)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``, through every failure of the stores and the network.

        Raises:
            SettingsError: the operator must change something.
            SchemaMismatch: the database cannot be written as it is.
            UnknownEnvelope: a newer producer writes to these streams.
        """
        delays = backoff.Backoff(
            base_seconds=FIRST_PAUSE_SECONDS, cap_seconds=LONGEST_PAUSE_SECONDS
        )
        reporting = asyncio.create_task(self._log_progress())
        try:
            while not stop.is_set():
                before = self._counts()[self.PROGRESS]
                try:
                    await self._session(stop)
                except errors.SchemaMismatch:
                    raise
                except errors.StoreError as failure:
                    self._state = "waiting"
                    if self._counts()[self.PROGRESS] > before:
                        delays.reset()
                    delay = delays.next(random.random())  # noqa: S311 - jitter
                    self._logger.warning("%s; starting again in %.1f s", failure, delay)
                    await pause(stop, delay)
        finally:
            self._state = "stopping"
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting

    @abstractmethod
    async def _session(self, stop: asyncio.Event) -> None:
        """Work until ``stop``, or return earlier to begin anew at once.

        Raises:
            StoreError: a store failed; everything of this session is closed.
        """

    @abstractmethod
    def _counts(self) -> Mapping[str, int]:
        """What was done since the start, for the line of progress, which shows differences."""

    def _places(self) -> Mapping[str, object]:
        """Where it stands now, for the same line."""
        return {}

    async def _log_progress(self) -> None:
        before = self._counts()
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            now = self._counts()
            done = {name: count - before[name] for name, count in now.items()}
            said = log.fields(**done, **self._places(), state=self._state)
            self._logger.info("%s %s", self.LINE, said)
            before = now


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait this long, or until ``stop``."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
