"""Kill -9 at every named point of the product, in the middle of the log: the same tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import failpoints, simulate
from tests.system import accounts
from tests.system.deployment import cut, deployed, settle
from tests.system.golden import differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

NETWORK = "golden-gates"
BATCHES = {"INGESTER_BATCH_SIZE": "32", "INDEXER_BATCH_SIZE": "64"}
"""Half the log is then a dozen batches at least, however fast or slow the machine is."""

PASS = 5
PASSES = {"inside_copy": 12, "between_statements": 12, "before_trim": 1, "after_trim": 1}
"""Several chunks and statements to a transaction; half the log may be trimmed all at once."""

ALWAYS = {"inside_copy", "before_commit", "after_commit"}
"""The others are run by `make faults`."""

POINTS = [
    pytest.param(role, point, id=point, marks=() if point in ALWAYS else pytest.mark.slow)
    for role, points in failpoints.POINTS.items()
    if role in ("firehose", "indexer")  # the others do nothing here, and have tests of their own
    for point in points
    if point != "inside_deletion"  # no account goes here: tests/system/test_deletion.py
]


@pytest.mark.parametrize(("role", "point"), POINTS)
async def test_kill_9_at_this_point_leaves_the_same_tables(
    shared: Path, tmp_path: Path, database: str, redis_url: str, role: str, point: str
) -> None:
    network = simulate.load(shared / NETWORK)
    half, rest = cut(network)
    asked = f"{role}:{point}:{PASSES.get(point, PASS)}:kill"
    environment = {**BATCHES, failpoints.VARIABLE: asked}
    with deployed(
        half, tmp_path / "up.log", database, redis_url, indexers=1, extra=environment
    ) as (
        run,
        relay,
    ):
        run.until_says(f"failpoint {point} reached")
        for frame in rest:
            relay.publish(frame)
        settle(run, network.frames.last_seq)
    log = run.log.read_text()
    for words in ("failpoint armed", f'exit=SIGKILL said="failpoint {point} reached"'):
        assert log.count(words) == 1, words
    assert differences(shared, NETWORK, database) == ""
    await accounts.add_up(database, redis_url, at_least=3001)
