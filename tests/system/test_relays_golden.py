"""Several relays of the recorded network, bad and good ones: its tables, or its rows but for
what no relay sent, and a mark on exactly the repositories that lost something.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from engine import simulate
from engine.simulate.network import Network
from engine.simulate.server import Server
from tests.system import accounts
from tests.system.deployment import Deployment, settle
from tests.system.golden import stable_differences
from tests.system.walk import Walk, walk

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(180)]

DROP_EVERY = 7
OPS = 9000
"""The network has more than so many."""


ALONE = (
    "record", "actor_sync", "actor", "list", "feed_generator", "starter_pack", "labeler", "profile",
    "post", "post_embed_image", "post_embed_gallery_image", "post_embed_external",
    "post_embed_record", "post_embed_video",
)  # fmt: skip
"""Tables whose rows come of one record, or of one repository's events."""

VERDICTS = {
    "invalidReplyRoot", "violatesThreadGate", "violatesEmbeddingRules", "hasThreadGate",
    "hasPostGate",
}  # fmt: skip
"""Columns of post that other records fill."""

UNSTABLE = (("actor", "indexedAt"), ("profile", "createdAt"))
"""An actor's is the time of its first event; a profile's may be the clock's."""


@contextmanager
def deployed(
    relays: list[Server], database: str, redis_url: str, log: Path, **extra: str
) -> Iterator[Deployment]:
    """A deployment that reads these relays, in this order."""
    hosts = ",".join(relay.settings["INGESTER_RELAY_HOSTS"] for relay in relays)
    settings = relays[0].settings | {"INGESTER_RELAY_HOSTS": hosts, **extra}
    with Deployment(settings, database, redis_url, indexers=2, log=log) as run:
        yield run


def host_of(relay: Server) -> str:
    return relay.url.partition("://")[2]


def reach(run: Deployment, relay: Server, place: int) -> None:
    """Wait until a relay's frames before this place are in the streams."""
    seq, host = relay.log().seq_at(place - 1), host_of(relay)
    run.wait_for(
        f"frames of {host} up to {place}",
        lambda status: status["relays"].get(host, {}).get("received_seq") == seq,
    )


async def marks(database: str) -> dict[str, str]:
    conn = await asyncpg.connect(database)
    try:
        rows = await conn.fetch("SELECT did, resync FROM headrace.repo WHERE resync IS NOT NULL")
    finally:
        await conn.close()
    return {row["did"]: row["resync"] for row in rows}


async def duplicates(database: str) -> int:
    conn = await asyncpg.connect(database)
    try:
        found = await conn.fetchval(
            "SELECT sum((r.value ->> 'duplicate')::bigint) FROM headrace.position p,"
            " jsonb_each(p.relays) r"
        )
    finally:
        await conn.close()
    return int(found or 0)


@pytest.fixture(scope="module")
def network(shared: Path) -> Network:
    return simulate.load(shared / "golden")


async def test_relays_cut_off_in_turn_make_the_tables_of_one(
    shared: Path, tmp_path: Path, database: str, redis_url: str, network: Network
) -> None:
    with (
        simulate.serve_in_thread(network, hold_at=700) as one,
        simulate.serve_in_thread(network, hold_at=300) as two,
        deployed([one, two], database, redis_url, tmp_path / "up.log") as run,
    ):
        reach(run, one, 700)
        reach(run, two, 300)  # it lags
        one.disconnect()
        two.hold_at = 1400
        reach(run, two, 1400)
        two.disconnect()
        one.hold_at = 2000
        reach(run, one, 2000)
        one.hold_at = two.hold_at = None
        settle(run, network.frames.last_seq)
        assert not run.says("Traceback")
    for relay, place in ((one, 700), (two, 1400)):
        assert relay.cursors == [0, network.frames.seq_at(place - 1)]
    assert stable_differences(shared, "golden", database) == ""
    assert await marks(database) == walk(network.frames).marks
    await accounts.add_up(database, redis_url, at_least=2 * OPS)
    first, second = accounts.received(redis_url).values()
    assert first == second
    assert await duplicates(database) > OPS - 100


@pytest.mark.slow
async def test_a_relay_that_drops_frames_and_lags_costs_nothing_beside_another(
    shared: Path, tmp_path: Path, database: str, redis_url: str, network: Network
) -> None:
    with (
        simulate.serve_in_thread(network, hold_at=0) as one,
        simulate.serve_in_thread(network, hold_at=0, drop_every=DROP_EVERY) as two,
        deployed([one, two], database, redis_url, tmp_path / "up.log") as run,
    ):
        for ahead, behind in ((500, 401), (1000, 898), (1500, 1399)):
            one.hold_at = ahead
            reach(run, one, ahead)
            two.hold_at = behind
            reach(run, two, behind)
        one.hold_at = None
        reach(run, one, len(network.frames))
        two.hold_at = None
        settle(run, network.frames.last_seq)
    assert two.faults["drop"] == len(network.frames) // DROP_EVERY
    assert stable_differences(shared, "golden", database) == ""
    assert await marks(database) == walk(network.frames).marks
    await accounts.add_up(database, redis_url, at_least=2 * OPS * 6 // 7)


@pytest.mark.slow
async def test_a_relay_in_the_place_of_a_silent_one_makes_the_same_tables(
    shared: Path, tmp_path: Path, database: str, redis_url: str, network: Network
) -> None:
    order = {"INGESTER_FAN_IN": "false", "INGESTER_SILENCE_TIMEOUT_SECONDS": "1"}
    with (
        simulate.serve_in_thread(network, hold_at=700) as one,
        simulate.serve_in_thread(network) as two,
        deployed([one, two], database, redis_url, tmp_path / "up.log", **order) as run,
    ):
        reach(run, one, 700)
        run.until_says(f"takes over relay={host_of(two)} instead_of={host_of(one)} why=silent")
        reach(run, two, len(network.frames))
        one.hold_at = None
        settle(run, network.frames.last_seq)
        active = [relay["active"] for relay in run.status()["relays"].values()]
        assert sorted(active) == [False, True]
    assert one.cursors[0] == two.cursors[0] == 0
    assert stable_differences(shared, "golden", database) == ""
    assert await marks(database) == walk(network.frames).marks
    await accounts.add_up(database, redis_url, at_least=2 * OPS)


async def test_what_one_relay_drops_is_marked_and_nothing_else_differs(
    shared: Path, tmp_path: Path, database: str, redis_url: str, network: Network
) -> None:
    with (
        simulate.serve_in_thread(network, drop_every=DROP_EVERY) as relay,
        deployed([relay], database, redis_url, tmp_path / "up.log") as run,
    ):
        settle(run, network.frames.last_seq)
    dropped = len(network.frames) // DROP_EVERY
    assert relay.faults["drop"] == dropped
    expected = walk(network.frames, drop_every=DROP_EVERY)
    whole = walk(network.frames).marks
    assert sum(did not in whole for did in expected.marks) >= 20
    assert await marks(database) == expected.marks
    await accounts.add_up(database, redis_url, at_least=OPS * 6 // 7)
    conn = await asyncpg.connect(database)
    try:
        compared = {
            table: await compare(conn, shared / "golden", table, expected) for table in ALONE
        }
        held = {row["uri"]: row["cid"] for row in await conn.fetch("SELECT uri, cid FROM record")}
    finally:
        await conn.close()
    assert compared["record"] > 3000
    assert compared["post"] > 1000
    assert compared["actor"] + compared["actor_sync"] > 40
    assert min(compared.values()) >= 1
    for uri in expected.touched:
        assert held.get(uri) in {*expected.arrived.get(uri, ()), None}
        if expected.arrived.get(uri, [None])[-1] is None:
            assert uri not in held


async def compare(conn: asyncpg.Connection, golden: Path, table: str, expected: Walk) -> int:
    """Compare the rows that no dropped frame could have changed; how many there are."""
    text = (golden / "tables" / f"{table}.csv").read_bytes().decode()
    concerns = {
        "actor": lambda row: "#account" in expected.lost.get(row["did"], ()),
        "actor_sync": lambda row: row["did"] in expected.stale,
    }.get(table, lambda row: (row.get("postUri") or row["uri"]) in expected.touched)
    ignored = {column for name, column in UNSTABLE if name == table} | VERDICTS
    columns = [name for name in next(csv.reader([text.partition("\n")[0]])) if name not in ignored]
    out = io.BytesIO()
    names = ", ".join(f'"{name}"' for name in columns)
    query = f'SELECT {names} FROM "{table}"'
    await conn.copy_from_query(query, output=out, format="csv", header=True)
    wanted = rows(text, columns, concerns)
    assert rows(out.getvalue().decode(), columns, concerns) == wanted, table
    return wanted.total()


def rows(
    text: str, columns: list[str], concerns: Callable[[Mapping[str, str]], bool]
) -> Counter[tuple[str, ...]]:
    """The rows of a CSV that a dropped frame does not concern."""
    csv.field_size_limit(sys.maxsize)
    found = csv.DictReader(io.StringIO(text, newline=""))
    return Counter(tuple(row[name] for name in columns) for row in found if not concerns(row))
