"""An owner frozen inside its transaction: another one takes over, it neither writes nor blocks."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from engine import simulate
from tests.system.deployment import START_SECONDS, cut
from tests.system.scene import PATIENT_SECONDS, READY, WAITING, says_again, scene

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

SLOW = pytest.mark.slow

NETWORK = "golden-gates"
BATCHES = {"INGESTER_BATCH_SIZE": "32", "INDEXER_BATCH_SIZE": "64"}
"""Half the log is then a dozen batches at least, however fast or slow the machine is."""

BACKEND = """
SELECT a.pid, a.state, a.query, a.backend_xid IS NOT NULL AS writes,
       coalesce(c.bytes_processed, 0) AS copied
FROM pg_stat_activity a LEFT JOIN pg_stat_progress_copy c USING (pid)
WHERE a.wait_event = 'ClientRead'
  AND a.pid IN (SELECT backend_pid FROM headrace.shard WHERE owner LIKE 'indexer/0%')
"""
"""The owner's, as soon as it waits for its client."""


@pytest.mark.parametrize(
    ("point", "passes", "state", "words"),
    [
        pytest.param("inside_copy", 12, "active", "COPY ", id="inside_copy"),
        pytest.param(
            "between_statements", 12, "idle in transaction", "", marks=SLOW, id="between_statements"
        ),
        pytest.param(
            "before_commit", 5, "idle in transaction", "position", marks=SLOW, id="before_commit"
        ),
    ],
)
async def test_owner_frozen_in_its_transaction_is_replaced_and_neither_writes_nor_blocks(
    shared: Path,
    tmp_path: Path,
    database: str,
    redis_url: str,
    point: str,
    passes: int,
    state: str,
    words: str,
) -> None:
    half, rest = cut(simulate.load(shared / NETWORK))
    with scene(
        shared / NETWORK,
        database,
        redis_url,
        tmp_path / "up.log",
        served=half,
        extra=BATCHES,
    ) as it:
        owner = it.indexer(
            READY, failpoint=f"indexer:{point}:{passes}:stop", lease_seconds=PATIENT_SECONDS
        )
        owner.until_says(f"failpoint {point} reached")
        async with asyncio.timeout(START_SECONDS):
            while not (backends := await it.sql(BACKEND)):
                await asyncio.sleep(0.02)
        (backend,) = backends
        assert backend["state"] == state
        assert words in backend["query"]
        assert backend["writes"]
        assert (backend["copied"] > 0) == (point == "inside_copy")

        heir = it.indexer(READY)
        assert heir.says(f"ending its backend {backend['pid']}")
        assert await it.tokens() == {2}
        assert not await it.sql(
            "SELECT 1 FROM pg_stat_activity WHERE pid = $1::int", backend["pid"]
        )
        for frame in rest:
            it.relay.publish(frame)
        it.settle()
        rows = await it.sql("SELECT count(*), max(xmin::text::bigint) FROM record")

        waits = says_again(owner, WAITING)
        owner.signal(signal.SIGCONT)
        owner.until("waiting for its shards", waits)
        assert await it.sql("SELECT count(*), max(xmin::text::bigint) FROM record") == rows
        assert await it.tokens() == {2}
        owns = says_again(owner, READY)
        heir.stop()
        owner.until("owning its shards again", owns)
        await it.judge()
