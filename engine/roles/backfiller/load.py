"""Repositories that are files already: proved and appended as those that hosts send.

For an operator with a folder of exports. What is the same as for a fetched one: the checks, the
signature by the key of the DID's document, the fetch that Postgres is told of before anything
is appended, the slices, the marks. What is not: nobody is asked for the repository, and a file that
cannot be used says nothing about its DID; it is named, and the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine import log
from engine.core.outcomes import Attempt, Outcome
from engine.errors import SettingsError, UpstreamError
from engine.roles.backfiller import directory as directories
from engine.roles.backfiller import opening
from engine.roles.backfiller.attempt import Verdict, of_directory
from engine.roles.backfiller.job import Counters, Job
from engine.roles.backfiller.ledger import End

if TYPE_CHECKING:
    from engine.roles.backfiller.attempt import Attempts
    from engine.settings import Settings

logger = logging.getLogger(__name__)

IN_MEMORY_BYTES = 16 << 20
"""A smaller file is read at once; of a larger one only the places of its blocks are held."""

REPORT_SECONDS = 10.0


@dataclass
class Loaded:
    """What became of the files."""

    repositories: int = 0
    records: int = 0
    filtered: int = 0
    rejected: int = 0
    bytes: int = 0
    refused: list[tuple[Path, str]] = field(default_factory=list)  # with the reason


def files(folder: Path) -> Iterator[Path]:
    """The ``*.car`` of a folder and its folders, in the order of their names."""
    yield from sorted(folder.rglob("*.car"))


async def run(settings: Settings, name: str, folder: Path) -> Loaded:
    """Load a folder into a deployment; see `load`.

    Raises:
        SettingsError: there is no file in it.
    """
    paths = await asyncio.to_thread(lambda: list(files(folder)))
    if not paths:
        raise SettingsError(f"{folder}: no *.car in it")
    async with AsyncExitStack() as stack:
        counters, lookups = Counters(), directories.Counters()
        opened = await opening.open_attempts(stack, settings, name, counters, lookups)
        return await load(opened.attempts, paths, settings.backfiller.concurrency)


async def load(attempts: Attempts, paths: Iterable[Path], concurrency: int) -> Loaded:
    """Prove and append every file; on return all that could be used is durable in Redis.

    Files of the same DID may be among them: the fetch begun last counts, and an older snapshot
    than what is indexed is refused. Running it again is harmless.

    Raises:
        StoreError: Redis or Postgres failed. What was appended whole stays so; run it again.
    """
    found = Loaded()
    waiting = iter(paths)

    async def work() -> None:
        for path in waiting:
            reason = await _one(attempts, path, found)
            if reason is not None:
                found.refused.append((path, reason))
                logger.warning("not loaded %s", log.fields(file=path, reason=reason))

    async with _telling(found):
        ledger = attempts.ledger
        steps = [asyncio.create_task(step.run()) for step in (ledger.beginning, ledger.ending)]
        workers = [asyncio.create_task(work()) for _ in range(concurrency)]
        try:
            everything = asyncio.gather(*workers)
            ends: list[asyncio.Future[Any]] = [everything, *steps]
            # A statement that fails would leave the workers waiting for its result.
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for step in steps:
                if step.done():
                    step.result()
            await everything
        finally:
            for task in (*workers, *steps):
                task.cancel()
            await asyncio.gather(*workers, *steps, return_exceptions=True)
    return found


async def _one(attempts: Attempts, path: Path, found: Loaded) -> str | None:
    """Load one file; why it could not be, or None."""
    try:
        verdict, job, size = await _judged(attempts, path)
    except OSError as error:
        return str(error)
    if verdict.fetched is None:
        if job is not None and job.fetch_id is not None:
            # How its DID stands is not for this file to say: its host is asked.
            await attempts.ledger.end(End(did=job.did, fetch_id=job.fetch_id, wait_seconds=0.0))
        return verdict.attempt.error
    assert job is not None
    await attempts.ledger.end(
        End(
            did=job.did,
            fetch_id=job.fetch_id,
            outcome=verdict.attempt.outcome,
            host=job.pds,
            fetched=True,
            records=verdict.fetched.records,
            data=verdict.fetched.data,
        )
    )
    found.repositories += 1
    found.bytes += size
    found.records = attempts.counters.records
    found.filtered = attempts.counters.filtered
    found.rejected = attempts.counters.rejected
    return None


async def _judged(attempts: Attempts, path: Path) -> tuple[Verdict, Job | None, int]:
    """What a file is, its DID as a job, its size; appended if nothing is wrong with it."""
    size = await asyncio.to_thread(os.path.getsize, path)
    source = path if size > IN_MEMORY_BYTES else await asyncio.to_thread(path.read_bytes)
    export = await attempts.read(source, size)
    if isinstance(export, Verdict):
        return export, None, size
    job = Job(export.did, [])
    # Everything that can be known without a fetch first: a fetch that is begun is to end well.
    wrong = attempts.why_not(job, None, export) or await _stranger(attempts, job)
    wrong = wrong or await attempts.doubted(job, export)
    if wrong is not None:
        return wrong, job, size
    begun = await attempts.ledger.begin(job.did)
    job.fetch_id = begun.fetch_id
    # That its host says nothing of the account, a file cannot know.
    begun = msgspec.structs.replace(begun, active=None)
    wrong = attempts.why_not(job, begun, export)
    if wrong is None:
        try:
            return await attempts.append(job, begun, export), job, size
        except OSError as error:
            wrong = Verdict(Attempt(Outcome.POISON, str(error)))
    return wrong, job, size


async def _stranger(attempts: Attempts, job: Job) -> Verdict | None:
    """Find out whose key must have signed; why that cannot be known, if so."""
    if attempts.settings.skip_signature_verification:
        return None
    try:
        job.home = await attempts.directory.home(job.did)
    except UpstreamError as error:
        attempt = of_directory(error)
        return Verdict(Attempt(Outcome.TRANSIENT, attempt.error, counts=False))
    return None


@asynccontextmanager
async def _telling(found: Loaded) -> AsyncIterator[None]:
    async def tell() -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            _say(found)

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    _say(found)


def _say(found: Loaded) -> None:
    values = {name: getattr(found, name) for name in ("repositories", "records", "filtered")}
    said = log.fields(**values, rejected=found.rejected, refused=len(found.refused))
    logger.info("loaded %s", said)
