"""Keeps planned processes running: starts, watches, restarts, ends.

Each is a fresh ``python -m engine run ROLE ...``, the command that an operator
can type, logs through us (``last_lines``), and ends with us (``worker``). The supervisor
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
from typing import NamedTuple

from engine import failpoints, log
from engine.errors import CrashLoop
from engine.runtime import last_lines
from engine.runtime.last_lines import LastLines
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
    # A crash of native code has last lines too.
    command = [sys.executable, "-P", "-X", "faulthandler", "-m", "engine"]
    return [*command, "--config", config] if config else command


CRASH_LOOP_DEATHS = 6
"""So many failures in a row, each before HEALTHY_SECONDS, are a bug and no accident: give up.

A store or relay that is away is waited for inside the role, and a kill is not its failure.
"""

CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
"""Signals by which a process ends itself."""


class _Running(NamedTuple):
    process: asyncio.subprocess.Process
    words: LastLines

    async def ended(self) -> tuple[int, list[str]]:
        """Exit code and last lines, once it is gone."""
        code = await self.process.wait()
        return code, await asyncio.to_thread(self.words.finish)


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
        self._running: dict[str, _Running] = {}
        self._killed = False

    @property
    def names(self) -> list[str]:
        """Names of the processes, in the order in which they start."""
        return [spec.name for spec in self._specs]

    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        return {name: running.process.pid for name, running in self._running.items()}

    async def run(self) -> int:
        """Keep all of them running; returns when one ends in a way that no restart mends.

        Returns:
            That process' exit code, or that of ``CrashLoop``. Cancel to end the keeping; the
            processes stay: ``stop`` them.
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
        for process, _ in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(which)

    async def _gone(self) -> None:
        for name, running in list(self._running.items()):
            code, _ = await running.ended()
            self._running.pop(name, None)
            logger.info("ended %s", log.fields(process=name, exit=_code_word(code)))

    async def _keep(self, spec: ProcessSpec) -> int:
        loop = asyncio.get_running_loop()
        pause, failures, environ = FIRST_PAUSE_SECONDS, 0, dict(self._environ)
        while True:
            started = loop.time()
            running = await self._start(spec, environ)
            environ.pop(failpoints.VARIABLE, None)  # else it would end the next one too
            code, lines = await running.ended()
            del self._running[spec.name]
            lived = loop.time() - started
            said = {"process": spec.name, "exit": _code_word(code), "said": last_lines.cause(lines)}
            if code in FINAL_CODES:
                logger.error("a process cannot go on %s", log.fields(**said))
                return code
            if lived >= HEALTHY_SECONDS:
                pause, failures = FIRST_PAUSE_SECONDS, 0
            failures += code > 0 or -code in CRASHES
            if failures >= CRASH_LOOP_DEATHS:
                logger.error(
                    "a process fails again and again, giving up %s",
                    log.fields(**said, times=failures),
                )
                for line in lines:
                    logger.error("last line of %s: %s", spec.name, line)
                return CrashLoop.exit_code
            logger.error(
                "a process ended, starting it again %s",
                log.fields(**said, lived=lived, pause=pause),
            )
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _start(self, spec: ProcessSpec, environ: Mapping[str, str]) -> _Running:
        words = LastLines()
        try:
            # A group of its own: Ctrl-C in a terminal is for us, we tell the processes.
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *spec.arguments,
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                stderr=words.write_fd,
                process_group=0,
            )
        finally:
            words.started()
        self._running[spec.name] = running = _Running(process, words)
        logger.debug("started %s", log.fields(process=spec.name, pid=process.pid))
        return running


def _code_word(code: int) -> str:
    """``3``, or the name of the signal that ended it."""
    return str(code) if code >= 0 else signal.Signals(-code).name
