"""A recorded network by backfill alone, no firehose: the rows that its repositories come to.

They are compared twice, every column of every table that events write:

- With what the log made. What differs must have a reason that is read from the log and the
  exports alone (``tests.model.history`` names them); a row without one must be there. Times are
  those that fetched records have (``tests.model.exported``), since no export tells when something
  was seen; of a post nothing but the verdicts may differ, whatever the reasons.
- With what the slow model makes of the exported records, without any history. There every row
  is the same, but for those that depend on which repository came first (``tests.model.stable``).

So whatever has a reason to differ from the log is what the final repositories come to, and
nothing else.
"""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from engine import simulate
from tests.model.events import Account
from tests.model.exported import Dates, events_of, exports
from tests.model.golden import Network, resolver
from tests.model.history import History, compare
from tests.model.model import Model
from tests.model.stable import Stability, differing
from tests.model.store import NOW, Row
from tests.snapshots.judge import counted, kept
from tests.system import golden
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(180)]

BOUND = {"golden": 21_000, "golden-gates": 10_000}
"""At least so many rows of the log have no reason to differ."""
NETWORKS = ["golden", pytest.param("golden-gates", marks=pytest.mark.slow)]

LISTED = "2026-11-22T00:00:00.000Z"
Tables = dict[str, list[Row]]


async def fetched(
    network: simulate.Network, tmp_path: Path, database: str, redis_url: str
) -> Tables:
    """All tables after a backfill that ended by itself."""
    with (
        simulate.serve_in_thread(network) as server,
        Deployment(
            server.settings,
            database,
            redis_url,
            log=tmp_path / "up.log",
            arguments=(
                *("--roles", "lister,backfiller,indexer,identity"),
                "--until-caught-up",
            ),
        ) as run,
    ):
        assert run.process is not None
        assert run.process.wait(120) == 0, run.tail()
    return undated(await golden.rows(database), network)


def undated(tables: Tables, network: simulate.Network) -> Tables:
    """Who is only listed has the instant of the listing."""
    listed = {repo["did"] for repo in network.repos if not repo.get("active", True)}
    actors = [
        row | {"indexedAt": NOW} if row["did"] in listed else row for row in tables["actor"]
    ]  # fmt: skip
    return tables | {"actor": actors}


@pytest.mark.parametrize("name", NETWORKS)
async def test_backfill_alone_makes_the_rows_of_the_repositories(
    shared: Path, tmp_path: Path, database: str, redis_url: str, name: str
) -> None:
    network = simulate.load(shared / name)
    repositories = exports(shared / name)
    rows = await fetched(network, tmp_path, database, redis_url)
    conn = await asyncpg.connect(database)
    try:
        outcomes = await conn.fetch("SELECT outcome, count(*) FROM headrace.repo GROUP BY outcome")
    finally:
        await conn.close()
    ok = {"ok": len(repositories)}
    assert dict(map(tuple, outcomes)) == ok | {"taken_down": 1, "deactivated": 1}

    logged = golden.network(shared / name)
    records = events_of(repositories)
    history = History(logged.events, records)
    found = compare(history, Dates(repositories), logged.rows, rows)
    shown = "\n".join(map(str, found.unexplained[: golden.SHOWN]))
    assert found.unexplained == [], f"{len(found.unexplained)} rows differ:\n{shown}"
    print(name, found.bound.total(), "rows are bound; others differ for", dict(found.reasons))
    assert found.bound.total() > BOUND[name]
    assert {reason for _, reason in found.reasons} == {
        "changed", "rival", "subject", "judge", "order", "unfetched", "deleted",
    }  # fmt: skip

    dids = {repository.did for repository in repositories}
    of_log = {
        table: [row for row in logged.rows[table] if row["creator"] in dids]
        for table in ("like", "repost", "follow")
    }
    # Verdicts may differ, so replies are counted by ours.
    assert kept(rows) == counted(of_log | {"post": rows["post"]})

    # Who is not fetched is listed: so every actor is there, with handle and status.
    assert [reason for table, reason in found.reasons if table == "actor"] == []

    wanted = undated(alone(logged, network), network)
    wrong, unstable = differing(Stability(records), wanted, rows)
    assert wrong == []
    print("by which repository came first differ", dict(unstable))
    assert set(unstable) <= {"post", "notification", "post_agg"}


def alone(logged: Network, network: simulate.Network) -> Tables:
    """What the model makes of the exported records, and of what the list says of the others."""
    model = Model(resolve=resolver(logged.path))
    for event in events_of(exports(logged.path)):
        model.apply(event)
    for repo in network.repos:
        if not repo.get("active", True):
            status = str(repo["status"])
            model.apply(Account(str(repo["did"]), 0, LISTED, active=False, status=status))
    return model.tables()
