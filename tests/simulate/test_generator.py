"""A generated network is deterministic, well-formed, and holds what it promises."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import libipld
import pytest

from engine import collections, lexicons, simulate
from engine.core import codec
from engine.errors import SettingsError
from engine.simulate import repository
from engine.simulate.network import Network

OPS = 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network")
    simulate.generate(path, seed=7, ops=OPS)
    return path


@pytest.fixture(scope="module")
def network(folder: Path) -> Network:
    return simulate.load(folder)


def bodies(network: Network, kind: str) -> list[dict[str, Any]]:
    found = []
    for index in range(len(network.frames)):
        try:
            header, body = libipld.decode_dag_cbor_multi(network.frames[index])
        except ValueError:
            continue
        if header["t"] == kind:
            found.append(body)
    return found


def blocks_of(car: bytes) -> dict[bytes, bytes]:
    """The blocks of a CAR as bytes, each checked against its CID."""

    def varint(at: int) -> tuple[int, int]:
        number = shift = 0
        while True:
            byte = car[at]
            number, shift, at = number | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return number, at

    length, at = varint(0)
    at += length
    blocks = {}
    while at < len(car):
        length, at = varint(at)
        cid, block = car[at : at + 36], car[at + 36 : at + length]
        assert cid[4:] == hashlib.sha256(block).digest()
        blocks[cid] = block
        at += length
    return blocks


def test_the_same_arguments_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    simulate.generate(tmp_path / "a", seed=7, ops=OPS)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(names) > 20
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (folder / name).read_bytes(), name
    simulate.generate(tmp_path / "b", seed=8, ops=OPS)
    assert (tmp_path / "b" / "frames.bin").read_bytes() != (folder / "frames.bin").read_bytes()


def test_every_collection_and_every_event_occurs_in_the_real_mix(network: Network) -> None:
    ops: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    for body in bodies(network, "#commit"):
        for op in body["ops"]:
            ops[op["path"].partition("/")[0]] += 1
            actions[op["action"]] += 1
    total = sum(ops.values())
    indexed = {collection.nsid for collection in collections.COLLECTIONS}
    assert len(indexed) == 19
    assert indexed <= set(ops)
    assert sum(ops[nsid] for nsid in ops if nsid not in indexed) > 5
    assert OPS <= total < OPS + 10
    assert 0.5 < ops["app.bsky.feed.like"] / total < 0.7
    assert actions["delete"] > 30
    assert actions["update"] > 5
    statuses = {body.get("status") for body in bodies(network, "#account")}
    assert statuses == {None, "deactivated", "takendown", "deleted"}
    assert len(bodies(network, "#identity")) > 20
    assert len(bodies(network, "#sync")) > 20


def test_records_are_valid_but_for_a_few(network: Network) -> None:
    catalog = codec.Lexicons(lexicons.documents())
    faults: Counter[str] = Counter()
    checked = missing = 0
    for body in bodies(network, "#commit"):
        blocks = blocks_of(body["blocks"])
        for op in body["ops"]:
            collection = op["path"].partition("/")[0]
            if op["cid"] is None or collection not in catalog.record_types:
                continue
            if op["cid"] not in blocks:
                missing += 1
                continue
            checked += 1
            if fault := catalog.validate(collection, blocks[op["cid"]]):
                faults[fault] += 1
    assert checked > OPS / 2
    assert 0 < sum(faults.values()) + missing < OPS / 50


def test_commits_form_chains_over_real_trees(network: Network) -> None:
    heads: dict[str, dict[str, Any]] = {}
    checked = 0
    for body in bodies(network, "#sync"):
        (block,) = blocks_of(body["blocks"]).values()
        heads[body["did"]] = libipld.decode_dag_cbor(block)
    for body in bodies(network, "#commit"):
        commit = libipld.decode_dag_cbor(blocks_of(body["blocks"])[body["commit"]])
        before = heads[body["repo"]]
        assert body["since"] == before["rev"] < body["rev"] == commit["rev"]
        assert body["prevData"] == before["data"]
        assert commit["did"] == body["repo"]
        assert commit["sig"] == repository.NO_SIGNATURE
        heads[body["repo"]] = commit
        checked += 1
    assert checked > OPS / 2


def test_exports_hold_what_the_frames_left(network: Network) -> None:
    records: dict[str, dict[str, bytes]] = {}
    for body in bodies(network, "#commit"):
        held = records.setdefault(body["repo"], {})
        for op in body["ops"]:
            assert op.get("prev") == held.get(op["path"])
            if op["cid"] is None:
                del held[op["path"]]
            else:
                held[op["path"]] = op["cid"]
    exported = 0
    for repo in network.repos:
        path = network.car_path(repo["did"])
        if path is None:
            assert network.car_error(repo["did"]) is not None
            continue
        car = path.read_bytes()
        blocks = blocks_of(car)
        header, _ = libipld.decode_car(car)
        commit = libipld.decode_dag_cbor(blocks[header["roots"][0]])
        root, nodes = codec.build_mst(sorted(records[repo["did"]].items()))
        assert commit["data"] == root
        assert commit["rev"] == repo["rev"]
        assert {cid for cid, _ in nodes} | set(records[repo["did"]].values()) <= set(blocks)
        exported += 1
    assert exported > 15


def test_identities_resolve_but_for_a_few(network: Network) -> None:
    found = Counter(
        network.handles.get(document["alsoKnownAs"][0].removeprefix("at://")) == did
        for did, document in network.documents.items()
    )
    assert found[True] > 20
    assert found[False] >= 1


def test_a_folder_that_is_not_empty_is_left_alone(folder: Path) -> None:
    with pytest.raises(SettingsError, match="not empty"):
        simulate.generate(folder)


def test_too_few_accounts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="accounts"):
        simulate.generate(tmp_path / "n", accounts=3)


def test_tid_orders_like_time_and_is_a_tid() -> None:
    dice = random.Random(3)
    times = sorted(dice.randrange(1 << 52) for _ in range(200))
    tids = [repository.tid(time, clock=5) for time in times]
    assert tids == sorted(tids)
    assert all(codec.check_syntax("tid", one) for one in tids)
