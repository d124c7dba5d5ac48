"""One process of one role: build, run, close. What ``headrace run ROLE`` is.

The only place where settings become objects. TERM and INT ask the role to stop;
it has ``ROLE_STOP_SECONDS``, then the process ends anyway, which is safe at any
moment: what is not committed is read again. A second signal kills at once, unless
it is the echo of the first (``ECHO_SECONDS``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from types import FrameType
from typing import Protocol

import msgspec
import uvloop

from engine import failpoints, log
from engine.adapters import place
from engine.core import streams
from engine.errors import HeadraceError
from engine.runtime import heartbeat, services
from engine.runtime.plan import ALONE, ProcessSpec, check_role
from engine.settings import SUPERVISOR_VARIABLE, Loaded, Settings

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""From the signal to the end, under full load."""

ROLE_STOP_SECONDS = STOP_SECONDS - 0.5
"""The role's share of it: the rest is for saying what did not stop, before a supervisor kills."""

ECHO_SECONDS = 0.5
"""Signals within this time are one: ``timeout`` sends to its process and to the group."""

THREADS = 8
"""For work beside the loop; the crate's calls let the interpreter go."""

NICE = 10
"""How far what nobody waits for stands back. Threads beside the loop do: the loop feeds Postgres,
whose time is the dearer one."""

STANDING_BACK = frozenset({"lister", "backfiller", "identity"})
"""Roles that do as a whole: where cores are short, what happens now comes before the past and
before names."""

_PR_SET_PDEATHSIG = 1


class Role(Protocol):
    """One process' job."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; return with everything closed."""

    def report(self) -> Mapping[str, object]:
        """What its heartbeat tells ``headrace status``; cheap, for it is called often."""


def build(spec: ProcessSpec, settings: Settings) -> Role:
    """The role's object. Imports only what this role needs."""
    check_role(spec.role)
    if spec.role == "firehose":
        from engine.roles.firehose import FirehoseRole

        return FirehoseRole(spec.shared_name, settings)
    if spec.role == "lister":
        from engine.roles.lister import ListerRole

        return ListerRole(spec.shared_name, settings)
    if spec.role == "backfiller":
        from engine.roles.backfiller import BackfillerRole

        return BackfillerRole(spec.shared_name, settings)
    if spec.role == "labels":
        from engine.roles.labels import LabelsRole

        return LabelsRole(spec.shared_name, settings)
    if spec.role == "identity":
        from engine.roles.identity import IdentityRole

        return IdentityRole(spec.shared_name, settings)
    from engine.roles.indexer import IndexerRole

    return IndexerRole(spec.shared_name, settings)


def main(spec: ProcessSpec, loaded: Loaded) -> int:
    """Run one role in this process until it is told to stop.

    Returns:
        The exit code: 0 after a signal, else the error's.
    """
    settings = loaded.settings
    log.setup(spec.name, settings.log_level)
    _end_with_supervisor()
    # Under a supervisor everything was said once already, by it.
    alone = SUPERVISOR_VARIABLE not in os.environ
    if alone:
        services.tell(loaded.notices)
        if settings.roles and spec.role not in settings.roles:
            logger.warning(
                "the role asked for is not among those of the settings %s",
                log.fields(role=spec.role, roles=",".join(settings.roles)),
            )
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""), spec.name)
        check_role(spec.role)
        beside = _pin(spec.core)
        if spec.role in STANDING_BACK and hasattr(os, "setpriority"):
            _stand_back(0)
        return uvloop.run(_run(spec, services.with_urls(settings), alone, beside))
    except HeadraceError as error:
        logger.error("stopped by an error %s", log.fields(error=type(error).__name__, text=error))
        return error.exit_code
    except Exception:
        logger.exception("stopped by an unexpected error, which is a bug")
        return 1


async def _run(spec: ProcessSpec, settings: Settings, alone: bool, cores: Set[int]) -> int:
    """``cores``: where threads beside the loop may run."""
    asyncio.get_running_loop().set_default_executor(
        ThreadPoolExecutor(
            THREADS, thread_name_prefix="beside", initializer=_go_aside, initargs=(cores,)
        )
    )
    stop = asyncio.Event()
    reason = _stop_on_signals(stop)
    ready = asyncio.ensure_future(services.wait_ready(settings, spec.shared_name, tells=alone))
    told = asyncio.ensure_future(stop.wait())
    await asyncio.wait((ready, told), return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        logger.info("stopped before Redis and Postgres answered %s", log.fields(reason=reason()))
        return 0
    told.cancel()
    ready.result()
    role = build(spec, settings)
    logger.info("started %s", log.fields(pid=os.getpid(), core=spec.core, slot=spec.slot))
    # In its place, or it would speak under the name of who has the place.
    async with _place(spec, settings), _heartbeat(spec, role, settings):
        await role.run(stop)
    if not stop.is_set():
        logger.error("the role ended although nobody asked it to")
        return 1
    logger.info("stopped %s", log.fields(reason=reason()))
    return 0


def _go_aside(cores: Set[int]) -> None:
    """Let this thread wait where the loop could run, and run where another core is idle."""
    if sys.platform == "linux":  # elsewhere the number is a process'
        _stand_back(threading.get_native_id())
        os.sched_setaffinity(0, cores)


def _stand_back(which: int) -> None:
    """Lower a thread's priority; 0: this one's. Who runs us may have lowered it further."""
    nice = max(NICE, os.getpriority(os.PRIO_PROCESS, which))
    os.setpriority(os.PRIO_PROCESS, which, nice)


def _heartbeat(
    spec: ProcessSpec, role: Role, settings: Settings
) -> AbstractAsyncContextManager[None]:
    key = streams.Keys(settings.redis_key_prefix).process(spec.shared_name)
    facts = msgspec.structs.asdict(spec)
    return heartbeat.kept(settings.redis_url or "", key, facts, role.report)


def _place(spec: ProcessSpec, settings: Settings) -> AbstractAsyncContextManager[None]:
    """The role's place in the deployment, for roles that must be alone."""
    return place.held(settings, spec.role) if spec.role in ALONE else contextlib.nullcontext()


class _Reason:
    text = "unknown"

    def __call__(self) -> str:
        return self.text


def _stop_on_signals(stop: asyncio.Event) -> _Reason:
    """Set `stop` on TERM or INT; afterwards the next one that is no echo kills."""
    loop = asyncio.get_running_loop()
    reason = _Reason()
    told_at = 0.0

    def on_next(which: int, frame: FrameType | None) -> None:
        del frame
        if time.monotonic() - told_at >= ECHO_SECONDS:
            signal.signal(which, signal.SIG_DFL)
            os.kill(os.getpid(), which)

    def on_signal(which: signal.Signals) -> None:
        nonlocal told_at
        reason.text, told_at = which.name, time.monotonic()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, on_next)  # not the loop's, which itself may be what hangs
        logger.info("stopping %s", log.fields(reason=which.name))
        # A thread, for the loop itself may be what hangs.
        timer = threading.Timer(ROLE_STOP_SECONDS, _end_anyway, (loop,))
        timer.daemon = True
        timer.start()
        stop.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, on_signal, each)
    return reason


def _end_anyway(loop: asyncio.AbstractEventLoop) -> None:
    try:
        logger.error("did not stop within %.1f s: ending; nothing is lost", ROLE_STOP_SECONDS)
        for task in asyncio.all_tasks(loop):
            task.print_stack()  # of all threads, only this one is sure to run
        sys.stderr.flush()
    finally:  # nobody may be left to read it
        os._exit(1)


def _pin(core: int | None) -> set[int]:
    """Keep the loop on its core; the cores that there were."""
    if not hasattr(os, "sched_setaffinity"):
        return set()
    cores = os.sched_getaffinity(0)
    if core is None:
        return cores
    try:
        os.sched_setaffinity(0, {core})
    except OSError as error:
        logger.warning("not pinned %s", log.fields(core=core, error=error.strerror))
    return cores


def _end_with_supervisor() -> None:
    """Have the kernel send TERM when the supervisor's main thread ends, however it ends."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE, "")
    if not supervisor.isdigit() or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(supervisor):  # it ended before we asked
        os._exit(0)
