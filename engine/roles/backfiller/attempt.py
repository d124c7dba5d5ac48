"""One attempt: ask the host, prove what it gave, append it.

The order makes it safe. That a snapshot is wanted is committed before it is asked for, so that
every live op from then on is noted; nothing leaves before the whole snapshot is proved; the
closing entry and the end of the queue's entry are one MULTI. A process that dies anywhere leaves
the entry in the queue, and slices of a fetch that nobody waits for, which are skipped.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from engine import failpoints
from engine.adapters import http
from engine.adapters.identity import DirectoryAway, Unregistered
from engine.core import codec, hosts, outcomes, streams
from engine.core.outcomes import Attempt, Outcome
from engine.errors import UpstreamError
from engine.roles.backfiller.append import Appender, Done, account_entry
from engine.roles.backfiller.directory import Homeless
from engine.roles.backfiller.slices import Cut, append_export

if TYPE_CHECKING:
    from pathlib import Path

    from engine.adapters.spool import Body, Spool
    from engine.roles.backfiller.directory import Directory, Home
    from engine.roles.backfiller.job import Counters, Job
    from engine.roles.backfiller.ledger import Begun, Ledger
    from engine.settings import BackfillerSettings

GET_REPO = "/xrpc/com.atproto.sync.getRepo"

INLINE_BYTES = 128 * 1024
"""A smaller snapshot is proved at once: a thread would cost more than it."""

Answered = Callable[[hosts.Answer, hosts.Told], None]
"""Told once an attempt: the host is done with us, and this is what it said of itself."""


class Fetched(msgspec.Struct, frozen=True):
    """A repository that was appended whole, and the entry that left the queue with it, if any."""

    records: int
    data: str
    entry_id: str | None


class Verdict(msgspec.Struct, frozen=True):
    """What an attempt came to."""

    attempt: Attempt
    answer: hosts.Answer = hosts.Answer.FINE
    ask_again: bool = False  # the home that the job has now, at once
    fetched: Fetched | None = None


@dataclass
class Attempts:
    """Makes attempts; many at a time."""

    fetcher: http.Fetcher
    spool: Spool
    directory: Directory
    ledger: Ledger
    appender: Appender
    settings: BackfillerSettings
    counters: Counters
    queue_key: str
    cut: Cut
    wall_clock: Callable[[], float] = time.time

    async def make(self, job: Job, answered: Answered) -> Verdict:
        """Fetch a job's repository from its home, and append it.

        Raises:
            StoreError: Redis, Postgres or the disk failed.
        """
        begun = await self.ledger.begin(job.did)
        job.fetch_id = begun.fetch_id
        failpoints.passing("after_begin")
        try:
            response = await self.fetcher.download(
                f"{job.pds}{GET_REPO}",
                params={"did": job.did},
                spool=self.spool,
                max_bytes=self.settings.max_repo_bytes,
                timeout_seconds=self.settings.http_timeout_secs,
            )
        except UpstreamError as error:
            is_down = isinstance(error, http.Unreachable)
            answer = hosts.Answer.DOWN if is_down else hosts.Answer.FINE
            answered(answer, hosts.NOTHING_TOLD)
            return Verdict(Attempt(Outcome.TRANSIENT, str(error), counts=not is_down), answer)
        except BaseException:
            answered(hosts.Answer.FINE, hosts.NOTHING_TOLD)
            raise
        with response.body as body:
            answer = outcomes.of_host(response.status)
            answered(answer, outcomes.told(response.headers, self.wall_clock()))
            self.counters.bytes += body.size
            self.counters.spooled += body.path is not None
            if response.status == 200:
                return await self._take(job, begun, body)
            attempt = outcomes.of_error(response.status, body.data or b"")
        return await self._refused(job, attempt, answer, response.status)

    async def _refused(
        self, job: Job, attempt: Attempt, answer: hosts.Answer, status: int
    ) -> Verdict:
        """The host gave nothing; an account that may have left it is looked for."""
        if attempt.outcome in outcomes.ASK_THE_DIRECTORY or status == 404:
            elsewhere = await self._look_again(job)
            if elsewhere is not None:
                return elsewhere
            if attempt.outcome is Outcome.GONE and job.moved:
                # On its way: the document is there before the repository.
                attempt = Attempt(Outcome.MIGRATED, attempt.error)
        return Verdict(attempt, answer)

    async def _look_again(self, job: Job) -> Verdict | None:
        """Read the DID's document anew, once a job; None if its host is the one we asked."""
        if job.refreshed:
            return None
        job.refreshed = True
        before = job.pds
        try:
            job.home = await self.directory.home(job.did, fresh=True)
        except UpstreamError as error:
            return Verdict(of_directory(error))
        if job.pds == before:
            return None
        job.moved = True
        return Verdict(Attempt(Outcome.MIGRATED, f"from {before} to {job.pds}"), ask_again=True)

    async def _take(self, job: Job, begun: Begun, body: Body) -> Verdict:
        """Prove a snapshot, and append it."""
        source = body.data if body.data is not None else body.path
        assert source is not None
        export = await self.read(source, body.size)
        if isinstance(export, Verdict):
            return export
        wrong = self.why_not(job, begun, export) or await self.doubted(job, export)
        return wrong or await self.append(job, begun, export)

    async def read(self, source: bytes | Path, size: int) -> codec.Export | Verdict:
        """Prove that a snapshot of ``size`` bytes is whole and consistent."""
        if size <= INLINE_BYTES:
            export = codec.read_repo(source)
        else:
            export = await asyncio.to_thread(codec.read_repo, source)
        if not isinstance(export, codec.RepoFault):
            return export
        # Cut off, with nothing wrong in what is there: the next time it may come whole.
        outcome = Outcome.TRANSIENT if export.kind == "incomplete" else Outcome.POISON
        return Verdict(Attempt(outcome, f"{export.kind}: {export.detail}"))

    def why_not(self, job: Job, begun: Begun | None, export: codec.Export) -> Verdict | None:
        """Why it is not the DID's, or not of now; ``begun`` is None where no fetch is."""
        if export.did != job.did:
            return Verdict(Attempt(Outcome.POISON, f"the repository of {export.did[:100]}"))
        if export.rev is None or outcomes.is_ahead(export.rev, self.wall_clock()):
            return Verdict(Attempt(Outcome.POISON, f"no rev, or one to come: {export.rev}"))
        if begun is not None and begun.fetch_rev is not None and export.rev < begun.fetch_rev:
            self.counters.stale += 1
            words = f"a snapshot at {export.rev}, of which {begun.fetch_rev} is indexed"
            return Verdict(Attempt(Outcome.TRANSIENT, words))
        return None

    async def doubted(self, job: Job, export: codec.Export) -> Verdict | None:
        """Why the signature is not that of the DID's key, if so."""
        if self.settings.skip_signature_verification or self._signed(job.home, export):
            return None
        elsewhere = await self._look_again(job)
        if elsewhere is not None:
            return elsewhere
        if self._signed(job.home, export):
            return None
        has_key = job.home is not None and job.home.key is not None
        words = (
            "not signed by the key of the DID" if has_key else "the DID has no key to check with"
        )
        return Verdict(Attempt(Outcome.POISON, words))

    def _signed(self, home: Home | None, export: codec.Export) -> bool:
        return home is not None and home.key is not None and export.signed_by(home.key)

    async def append(self, job: Job, begun: Begun, export: codec.Export) -> Verdict:
        """Append a proved snapshot whole; with it the first of the job's entries is finished."""
        failpoints.passing("before_slices")
        if begun.active is False:
            # The last #account said otherwise; its host gives the repository.
            await self.tell(job.did, None)
        entry_id = job.entry_ids[0] if job.entry_ids else None
        done = Done(self.queue_key, streams.QUEUE_GROUP, entry_id) if entry_id else None
        carried = await append_export(self.appender, export, begun.fetch_id, self.cut, done)
        failpoints.passing("after_closing")
        self.counters.records += carried.records
        self.counters.filtered += carried.filtered
        self.counters.rejected += carried.rejected
        self.counters.slices += carried.slices
        records = len(export)
        fetched = Fetched(records, _text(export.data), entry_id)
        outcome = Outcome.OK if records else Outcome.EMPTY
        return Verdict(Attempt(outcome, counts=False), fetched=fetched)

    async def tell(self, did: str, status: str | None) -> None:
        """Have the owner of the account's row write its status; None: it is active.

        It goes the way of ``#account`` events, as of now: older ones have no effect after it.
        """
        self.counters.statuses += 1
        entry = account_entry(did, status, _instant(self.wall_clock()))
        await self.appender.append(did, [entry])


def _text(cid: bytes) -> str:
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def of_directory(error: UpstreamError) -> Attempt:
    """What it means for a repository that nobody could be found who has it."""
    if isinstance(error, Unregistered | Homeless):
        return Attempt(Outcome.GONE, str(error), counts=False)
    return Attempt(Outcome.TRANSIENT, str(error), counts=not isinstance(error, DirectoryAway))
