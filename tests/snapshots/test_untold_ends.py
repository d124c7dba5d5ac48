"""A backfiller that died before it could say that a fetch ended: the closing entry says it."""

from __future__ import annotations

import random

import pytest

from engine.adapters import postgres
from engine.core import streams
from engine.settings import Settings
from tests.collections.commits import tid
from tests.snapshots.harness import Owner, append, drain, empty_logs
from tests.snapshots.repos import Repo, slices

pytestmark = pytest.mark.services

DID = "did:plc:a"


@pytest.mark.parametrize(
    ("outcome", "queued", "ends", "is_queued"),
    [
        (None, "now() - interval '1 minute'", "ok", False),
        # Told already.
        ("empty", "NULL", "empty", False),
        # Somebody asked for it once more: its entry is another one, and still there.
        (None, "now() + interval '1 minute'", "ok", True),
    ],
)
async def test_the_closing_entry_ends_what_nobody_told(
    database: str, outcome: str | None, queued: str, ends: str, is_queued: bool
) -> None:
    rng, logs = random.Random(1), empty_logs()
    repo = Repo(DID, rng, ["did:plc:b"])
    repo.change(50, 10)
    conn = await postgres.connect(Settings(database_url=database), "test/control")
    try:
        await conn.execute("UPDATE headrace.deployment SET epoch = 'e'")
        await conn.execute(
            "INSERT INTO headrace.repo"
            " (did, fetch_id, last_attempt_at, outcome, fetched_at, queued_at)"
            f" VALUES ($1, 1, now(), $2, CASE WHEN $2::text IS NOT NULL THEN now() END, {queued})",
            DID,
            outcome,
        )
        for entry in slices(DID, 1, tid(50), repo.states[-1], rng):
            append(logs, streams.BACKFILL, DID, entry)
        owner = await Owner.begin(database, logs, rng)
        await drain(owner)
        await owner.end(killed=False)
        row = await conn.fetchrow("SELECT * FROM headrace.repo")
    finally:
        await conn.close()
    assert row is not None
    assert (row["fetch_id"], row["backfilled_rev"], row["outcome"]) == (None, tid(50), ends)
    assert row["fetched_at"] is not None
    assert (row["queued_at"] is not None) == is_queued
