"""Take out what is of a deleted account and what speaks of it: confirmed, in order, in steps.

A deletion is durable from the commit of its ``#account`` event on (``deletion``): no
message asks for it that could be lost. The identity role confirms it; then the owner of the
DID's shard deletes, between two batches, by itself: all rows of all shards, counts by what was
really deleted. It waits until every shard holds what its relay had sent before that event,
so that nothing older is written afterwards; no batch waits for anything.

Steps are transactions of bounded size. Before the first one an event of the DID that was applied
meanwhile calls the deletion off. From then on it is finished whatever comes, and before any
further batch of the shard, by the next owner if this one ends: so the DID's events see either
all of its rows or none.

What others wrote about the DID and did not address to it stays: likes, replies, follows.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from engine import errors, failpoints, log
from engine.adapters import postgres

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.collections.removal import Removal
    from engine.collections.statements import Statements
    from engine.roles.indexer.lease import Lease

logger = logging.getLogger(__name__)

STEP_ROWS = 1_000
"""Records, and notifications of either kind, in one transaction: well below a second of locks."""

ROUND_SECONDS = 0.25
"""After this much time no further deletion is begun: the streams wait."""

PAGE = 20
"""Deletions read at a time."""

PATIENCE = datetime.timedelta(hours=1)
"""How long a deletion waits for shards that do not get on: their owner, or a relay, is gone."""

MAX_REPLAYS = 10
"""Deadlocks in a row: owners of other shards touch the same posts and profiles."""

_CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_PLACES = {
    "likeCount": 0, "replyCount": 1, "repostCount": 2,
    "followersCount": 0, "followsCount": 1, "postsCount": 2,
}  # fmt: skip
"""Where a count stands in the parameters of its statement."""


@dataclass
class _Counts:
    """Differences by key, as one step makes them."""

    tables: dict[str, dict[str, list[int]]] = field(
        default_factory=lambda: {"post_agg": {}, "profile_agg": {}}
    )
    cids: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Quotes by the CID they name."""

    def add(self, table: str, column: str, key: str, difference: int) -> None:
        """0 has the row made if it is missing."""
        counts = self.tables[table].setdefault(key, [0, 0, 0])
        counts[_PLACES[column]] += difference

    def literals(self, table: str) -> list[str]:
        """Parameters of the table's statement, by key in byte order; none if nothing changed."""
        rows = sorted(self.tables[table].items())
        columns = zip(*((key, *map(str, counts)) for key, counts in rows), strict=True)
        return [postgres.array_literal(column) for column in columns]


@dataclass
class Deleter:
    """Deletes for the owner of some shards, on its connection."""

    conn: asyncpg.Connection
    lease: Lease
    statements: Statements
    sql: dict[str, str]
    """Of ``deletions.sql``."""
    removals: dict[str, Removal]
    source: str
    step_rows: int = STEP_ROWS

    async def finish(self) -> None:
        """End what a former owner began; before the first batch.

        Raises:
            LeaseLost, StoreError: the next owner goes on.
        """
        async with postgres.translated_errors():
            for row in await self._ready():
                if row["started"]:
                    await self.delete(row["did"])

    async def work(self, renew: Callable[[], Awaitable[None]]) -> int:
        """Delete what is ready, for a while, and say how many; what is begun is finished.

        Args:
            renew: called between steps; keeps the lease if that is due.

        Raises:
            LeaseLost, StoreError: what was begun is finished by the next owner.
        """
        until = time.monotonic() + ROUND_SECONDS
        deleted = 0
        async with postgres.translated_errors():
            for row in await self._ready():
                deleted += await self.delete(row["did"], renew)
                if time.monotonic() >= until:
                    break
        return deleted

    async def _ready(self) -> list[asyncpg.Record]:
        return await self.conn.fetch(
            self.sql["deletion_ready"], self.lease.shards, self.source, PATIENCE, PAGE
        )

    async def delete(self, did: str, renew: Callable[[], Awaitable[None]] | None = None) -> bool:
        """Delete one account, unless something was applied after its deletion; whether it was.

        On return its rows are gone, or stay, and its deletion is no more. Nothing waits here
        for other shards.
        """
        async with self.conn.transaction():
            await self.lease.lock()
            if await self.conn.fetchval(self.sql["deletion_begin"], did) is None:
                await self.conn.execute(self.sql["deletion_end"], did)
                logger.info("deletion called off %s", log.fields(did=did))
                return False
        conflicts = 0
        while True:
            try:
                async with self.conn.transaction():
                    done = await self._step(did)
            except _CONFLICTS as conflict:
                conflicts += 1
                if conflicts > MAX_REPLAYS:
                    raise errors.StoreError(f"{conflicts} conflicts in a row") from conflict
                continue
            conflicts = 0
            if done:
                logger.info("account deleted %s", log.fields(did=did))
                return True
            if renew is not None:
                await renew()

    async def _step(self, did: str) -> bool:
        """A transaction's worth; whether it was the last."""
        await self.lease.lock()
        records = await self.conn.fetch(self.sql["deletion_records"], did, self.step_rows)
        if records:
            await self._remove(did, sorted(row["uri"] for row in records))
        if len(records) == self.step_rows:
            return False
        for way in ("by", "to"):
            gone = await self.conn.execute(
                self.sql[f"deletion_notifications_{way}"], did, self.step_rows
            )
            if int(gone.split()[-1]) == self.step_rows:
                return False
        await self._remove_actor(did)
        await self.conn.execute(self.sql["deletion_end"], did)
        return True

    async def _remove_actor(self, did: str) -> None:
        ordered = await self.conn.fetchval(self.sql["is_ordered_by_bytes"])
        name = "deletion_op_threads" + ("" if ordered else "_unordered")
        await self.conn.execute(self.sql[name], f"at://{did}", f"at://{did}/", f"at://{did}0")
        for name in ("actor", "actor_sync", "identity_due", "fetch"):
            await self.conn.execute(self.sql[f"deletion_{name}"], did)

    async def _remove(self, did: str, uris: list[str]) -> None:
        """The records with all their rows, others' rows about them, and what they counted for."""
        counts = _Counts()
        quoted: dict[str, str] = {}
        groups: dict[str, list[str]] = defaultdict(list)
        for uri in uris:
            groups[uri.split("/")[3]].append(uri)
        for nsid, group in groups.items():
            removal = self.removals.get(nsid)
            if removal is None:
                continue
            which = postgres.array_literal(group)
            if removal.is_post:
                quoted |= await self._remove_posts(did, which, counts)
            if removal.take is not None:
                for row in await self.conn.fetch(removal.take, which):
                    for count in removal.counts:
                        counts.add(count.table, count.column, row[count.key], -1)
            for name in removal.deletes:
                await self._write(name, which)
        every = postgres.array_literal(uris)
        await self._write("delete_duplicate_record", every)
        await self._write("delete_record", every)
        failpoints.passing("inside_deletion")
        await self._count(counts, quoted)

    async def _remove_posts(self, did: str, which: str, counts: _Counts) -> dict[str, str]:
        """Posts, feed items and quotes of them; what they quoted, with the CID they named."""
        embedded = await self.conn.fetch(self.sql["deletion_embedded"], which)
        await self._write("delete_feed_items_of", which)
        for name in ("deletion_quotes_by", "deletion_quotes_of"):
            for row in await self.conn.fetch(self.sql[name], which):
                counts.cids[row["cid"]] -= row["quotes"]
        for row in await self.conn.fetch(self.sql["deletion_posts"], which):
            counts.add("profile_agg", "postsCount", did, -row["posts"])
            if row["parent"] is not None:
                counts.add("post_agg", "replyCount", row["parent"], -row["replies"])
        quoted = dict(sorted((row["uri"], row["cid"]) for row in embedded))
        for uri, cid in quoted.items():
            counts.add("post_agg", "likeCount", uri, 0)
            counts.cids[cid] += 0
        return quoted

    async def _count(self, counts: _Counts, quoted: dict[str, str]) -> None:
        """Numbers last, in the order in which every writer takes them."""
        if posts := counts.literals("post_agg"):
            await self._write("add_post_counts", *posts)
        if counts.cids:
            cids = sorted(counts.cids)
            uris = sorted(quoted)
            # What quotes a CID is counted as of the end of this step.
            await self._write(
                "set_quote_counts",
                postgres.array_literal(cids),
                postgres.array_literal(str(counts.cids[cid]) for cid in cids),
                postgres.array_literal(uris),
                postgres.array_literal(quoted[uri] for uri in uris),
                postgres.array_literal(str(counts.cids[quoted[uri]]) for uri in uris),
                "{}",
                "{}",
            )
        if profiles := counts.literals("profile_agg"):
            await self._write("add_profile_counts", *profiles)

    async def _write(self, name: str, *parameters: Any) -> None:
        await self.conn.execute(self.statements.writes[name], *parameters)
