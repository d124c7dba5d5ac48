"""The engine on a network that is made while it reads: what two bad relays lose is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import libipld
import pytest

from engine import lexicons, simulate
from engine.core import codec
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]

OPS = 1500


DROP_EVERY = 7
MARKED = "SELECT did FROM headrace.repo WHERE resync = 'since_mismatch'"
DELETED = "SELECT did FROM headrace.repo WHERE status = 'deleted'"


def expected(network: simulate.Synthetic) -> tuple[dict[str, str], set[str]]:
    """uri -> CID of every record that hosts hold in the end, and the uris of the bad ones."""
    catalog = codec.Lexicons(lexicons.documents())
    records: dict[str, str] = {}
    bad: set[str] = set()
    for account in network._accounts.values():
        repo = codec.read_repo(account.repo.export())
        assert isinstance(repo, codec.Export), repo
        for path, cid, record in repo.leaves():
            collection = path.partition("/")[0]
            uri = f"at://{account.did}/{path}"
            records[uri] = libipld.encode_cid(cid)
            if collection in catalog.record_types and catalog.validate(collection, record):
                bad.add(uri)
    return records, bad


def has_sent_all(server: simulate.Server, network: simulate.Synthetic) -> bool:
    return network.counts["ops"] >= OPS and server._reached == len(network.frames)


def is_done(status: dict[str, Any], host: str, network: simulate.Synthetic) -> bool:
    """Whether one relay's last frame is indexed and no stream holds another's."""
    indexed = [relay.get("indexed_seq") for name, relay in status["relays"].items() if host in name]
    entries = [stream.get("entries") for stream in status["streams"].values()]
    return indexed == [network.frames.last_seq] and set(entries) == {0}


async def test_relays_that_lag_drop_break_off_and_count_anew_lose_nothing_unnoticed(
    tmp_path: Path, database: str, redis_url: str
) -> None:
    network = simulate.Synthetic(9, ops=OPS)
    with (
        simulate.serve_in_thread(network, rate=400, disconnect_every=400, hold_at=600) as one,
        simulate.serve_in_thread(
            network, rate=400, drop_every=7, restart_every=500, lag_seconds=2.0
        ) as other,
    ):
        hosts = ",".join(each.settings["INGESTER_RELAY_HOSTS"] for each in (one, other))
        settings = one.settings | {"INGESTER_RELAY_HOSTS": hosts}
        with Deployment(settings, database, redis_url, indexers=2, log=tmp_path / "up.log") as run:
            run.until("the one that drops is ahead", lambda: other._reached >= 650, 60)
            one.rate, one.hold_at = 0, None
            run.until("the network's end", lambda: has_sent_all(other, network), 60)
            host = one.url.removeprefix("http://")
            run.wait_for("all of it", lambda status: is_done(status, host, network), 60)
    assert one.faults["disconnect"] >= 2
    assert other.faults["drop"] >= 150
    assert other.faults["lag"] >= 1
    records, bad = expected(network)
    conn = await asyncpg.connect(database)
    try:
        held = {row["uri"]: row["cid"] for row in await conn.fetch("SELECT uri, cid FROM record")}
        marked = {row["did"] for row in await conn.fetch(MARKED)}
        deleted = {row["did"] for row in await conn.fetch(DELETED)}
    finally:
        await conn.close()
    assert len(held) > OPS / 2
    assert len(deleted) < len(network.documents) / 10
    # How long the one that drops was ahead is the machine's affair; mostly it lags behind.
    assert len(set(network.documents) - marked - deleted) >= 5
    wrong = set(held.items()) - set(records.items())
    absent = {
        uri
        for uri in set(records) - set(held) - bad
        if uri.split("/")[3].startswith(("app.bsky.", "chat.bsky.actor.", "com.germnetwork."))
    }
    # A frame that the one relay left out, when it was ahead of the other, breaks a chain.
    assert {uri.split("/")[2] for uri, _ in wrong} <= marked
    print(len(marked), "of", len(network.documents), "are marked")
    unmarked = {uri for uri in absent if uri.split("/")[2] not in marked | deleted}
    # What remains are records that their frames do not carry, or that stand in a wrong place.
    assert len(unmarked) <= OPS / 200, unmarked


def chains(network: simulate.Synthetic) -> tuple[set[str], set[str]]:
    """DIDs whose chain is broken without every n-th frame, and all that lost one."""
    revs: dict[str, str] = {}
    broken: set[str] = set()
    lost: set[str] = set()
    for place in range(len(network.frames)):
        try:
            header, body = libipld.decode_dag_cbor_multi(network.frames[place])
        except ValueError:
            continue
        if header["t"] not in ("#commit", "#sync"):
            continue
        did = body.get("repo") or body["did"]
        if (place + 1) % DROP_EVERY == 0:
            lost.add(did)
            continue
        if header["t"] == "#commit" and body["since"] != revs.get(did):
            broken.add(did)
        if header["t"] == "#sync" and body["rev"] != revs.get(did):
            broken.add(did)
        revs[did] = body["rev"]
    return broken, lost


async def test_every_chain_that_a_relay_broke_is_marked(
    tmp_path: Path, database: str, redis_url: str
) -> None:
    network = simulate.Synthetic(10, accounts=150, ops=OPS)
    with (
        simulate.serve_in_thread(network, drop_every=DROP_EVERY) as relay,
        Deployment(relay.settings, database, redis_url, log=tmp_path / "up.log") as run,
    ):
        run.until("the network's end", lambda: has_sent_all(relay, network), 60)
        host = relay.url.removeprefix("http://")
        run.wait_for("all of it", lambda status: is_done(status, host, network), 60)
    broken, lost = chains(network)
    records, bad = expected(network)
    conn = await asyncpg.connect(database)
    try:
        held = {row["uri"]: row["cid"] for row in await conn.fetch("SELECT uri, cid FROM record")}
        marks = await conn.fetch("SELECT did, resync FROM headrace.repo WHERE resync IS NOT NULL")
    finally:
        await conn.close()
    found = {row["did"] for row in marks if row["resync"] != "record_missing"}
    missing = {row["did"] for row in marks} - found
    assert found | (broken & missing) == broken
    assert len(broken) > 50
    assert len(lost) > len(broken)
    whole = set(network.documents) - lost - missing
    assert len(whole) > 10
    wanted = {uri: cid for uri, cid in records.items() if uri.split("/")[2] in whole}
    kept = {uri: cid for uri, cid in held.items() if uri.split("/")[2] in whole}
    assert kept.items() <= wanted.items()
    indexed = ("app.bsky.", "chat.bsky.actor.", "com.germnetwork.")
    absent = [u for u in set(wanted) - set(kept) - bad if u.split("/")[3].startswith(indexed)]
    assert len(absent) <= OPS / 200, absent
    assert len(kept) > 50
