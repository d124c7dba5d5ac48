"""Keeps planned processes running: starts, watches, restarts, ends.

Each is a fresh ``python -m engine run ROLE ...``, the command that an operator
can type, inherits stderr for its log, and ends with us (``worker``). The supervisor
holds no data: whatever dies, Postgres knows where to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from engine import failpoints, log
from engine.runtime.plan import ProcessSpec
from engine.runtime.worker import STOP_SECONDS
from engine.settings import SUPERVISOR_VARIABLE

logger = logging.getLogger(__name__)

FINAL_CODES = {2, 3, 70}
"""Exit codes after which a restart would only fail again: settings, schema, a broken invariant."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0

HEALTHY_SECONDS = 60.0
"""A process that lived this long starts again without having to wait as for a repeated failure."""


def headrace_command(config: str | None) -> list[str]:
    """The command line of this very installation, whatever lies in the working directory."""
    command = [sys.executable, "-P", "-m", "engine"]
    return [*command, "--config", config] if config else command


CRASH_LOOP_DEATHS = 6
"""So many failures in a row, each before HEALTHY_SECONDS, are a bug and no accident: give up.

A store or relay that is away is waited for inside the role, and a kill is not its failure.
"""


class Children:
    """The processes of one plan."""

    def __init__(
        self, specs: Sequence[ProcessSpec], command: Sequence[str], environ: Mapping[str, str]
    ) -> None:
        """Prepare; ``run`` starts them.

        Args:
            specs: the plan.
            command: what `ProcessSpec.arguments` follow; see `headrace_command`.
            environ: their environment, which carries the settings.
        """
        self._specs = specs
        self._command = list(command)
        self._environ = {**environ, SUPERVISOR_VARIABLE: str(os.getpid())}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._killed = False

    @property
    def names(self) -> list[str]:
        """Names of the processes, in the order in which they start."""
        return [spec.name for spec in self._specs]

    async def run(self) -> int:
        """Keep all of them running; returns when one ends in a way that no restart mends.

        Returns:
            That process' exit code. Cancel to end the keeping; the processes stay: ``stop`` them.
        """
        keepers = [asyncio.create_task(self._keep(spec), name=spec.name) for spec in self._specs]
        try:
            done, _ = await asyncio.wait(keepers, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def stop(self) -> bool:
        """TERM to all, ``STOP_SECONDS`` for all together, then KILL. Returns when all are gone.

        Returns:
            Whether they ended by themselves.
        """
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._gone()
        except TimeoutError:
            logger.error(
                "killing what did not stop %s",
                log.fields(seconds=STOP_SECONDS, processes=",".join(self._running)),
            )
            self.kill()
            await self._gone()
        return not self._killed

    def kill(self) -> None:
        """KILL what is left, at once."""
        self._killed = True
        self._signal(signal.SIGKILL)

    def _signal(self, which: signal.Signals) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(which)

    async def _gone(self) -> None:
        for name, process in list(self._running.items()):
            code = await process.wait()
            self._running.pop(name, None)
            logger.info("ended %s", log.fields(process=name, exit=_code_word(code)))

    async def _keep(self, spec: ProcessSpec) -> int:
        loop = asyncio.get_running_loop()
        pause, failures, environ = FIRST_PAUSE_SECONDS, 0, dict(self._environ)
        while True:
            started = loop.time()
            # A group of its own: Ctrl-C in a terminal is for us, we tell the processes.
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *spec.arguments,
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                process_group=0,
            )
            self._running[spec.name] = process
            environ.pop(failpoints.VARIABLE, None)  # else it would end the next one too
            logger.debug("started %s", log.fields(process=spec.name, pid=process.pid))
            code = await process.wait()
            del self._running[spec.name]
            lived = loop.time() - started
            if code in FINAL_CODES:
                logger.error("a process cannot go on %s", log.fields(process=spec.name, exit=code))
                return code
            if lived >= HEALTHY_SECONDS:
                pause, failures = FIRST_PAUSE_SECONDS, 0
            failures += code > 0
            if failures >= CRASH_LOOP_DEATHS:
                logger.error(
                    "a process fails again and again, giving up %s",
                    log.fields(process=spec.name, exit=code, times=failures),
                )
                return code
            logger.error(
                "a process ended, starting it again %s",
                log.fields(process=spec.name, exit=_code_word(code), lived=lived, pause=pause),
            )
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _code_word(code: int) -> str:
    """``3``, or the name of the signal that ended it."""
    return str(code) if code >= 0 else signal.Signals(-code).name
