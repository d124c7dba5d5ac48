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
from engine.simulate import repository, traffic, writes
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


def events(network: Network) -> list[tuple[str, dict[str, Any]]]:
    """Every frame that can be read."""
    found = []
    for index in range(network.frames.first, len(network.frames)):
        try:
            header, body = libipld.decode_dag_cbor_multi(network.frames[index])
        except ValueError:
            continue
        found.append((header["t"], body))
    return found


def bodies(network: Network, kind: str) -> list[dict[str, Any]]:
    return [body for found, body in events(network) if found == kind]


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


def key_of(network: Network, did: str, name: str = "#atproto") -> str:
    for method in network.documents[did]["verificationMethod"]:
        if method["id"] == did + name:
            key = codec.did_key(method["type"], method["publicKeyMultibase"])
            assert key is not None
            return key
    raise AssertionError("no key")


def test_every_commit_verifies(network: Network) -> None:
    """Signature, chain, and inversion of the tree to the one before, from the frame alone."""
    heads: dict[str, dict[str, Any]] = {}
    checked: Counter[str] = Counter()
    for kind, body in events(network):
        if kind not in ("#commit", "#sync"):
            continue
        did = body["repo"] if kind == "#commit" else body["did"]
        blocks = blocks_of(body["blocks"])
        (root,) = libipld.decode_car(body["blocks"])[0]["roots"]
        commit: Any = libipld.decode_dag_cbor(blocks[root])
        assert (commit["did"], commit["rev"]) == (did, body["rev"])
        key = key_of(network, did)
        unsigned = {name: value for name, value in commit.items() if name != "sig"}
        assert codec.verify_signature(key, repository.encode(unsigned), commit["sig"])
        checked[key[:11]] += 1
        checked[kind] += 1
        before = heads.get(did)
        if kind == "#sync":
            assert before == commit
        elif before is None:
            assert (body["since"], body["ops"], body.get("prevData")) == (None, [], None)
        else:
            assert body["commit"] == root
            assert body["since"] == before["rev"] < body["rev"]
            operations = [(op["path"], op["cid"], op.get("prev")) for op in body["ops"]]
            inverted = codec.invert_mst(commit["data"], list(blocks.items()), operations)
            assert inverted == body["prevData"] == before["data"]
            checked.update(op["action"] for op in body["ops"])
        heads[did] = commit
    assert checked["#commit"] > OPS / 2
    assert checked["#sync"] > 20
    assert min(checked["create"], checked["update"], checked["delete"]) > 5
    assert checked["did:key:zQ3"] > OPS / 4  # secp256k1
    assert checked["did:key:zDn"] > OPS / 10  # P-256


def test_exports_verify_and_hold_what_the_frames_left(network: Network) -> None:
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
    for entry in network.repos:
        path = network.export(entry["did"])
        if not isinstance(path, Path):
            assert network.car_error(entry["did"]) is not None
            continue
        repo = codec.read_repo(path.read_bytes())
        assert isinstance(repo, codec.Export), repo
        assert (repo.did, repo.rev) == (entry["did"], entry["rev"])
        assert libipld.encode_cid(repo.cid) == entry["head"]
        assert repo.signed_by(key_of(network, entry["did"]))
        assert {key: cid for key, cid, _ in repo.leaves()} == records[entry["did"]]
        exported += 1
    assert exported > 15


def test_labels_are_signed_and_some_are_taken_back(network: Network) -> None:
    seen: Counter[str] = Counter()
    standing: set[tuple[str, str, str | None, str]] = set()
    for did, frames in network.labels.items():
        key = key_of(network, did, "#atproto_label")
        for index in range(len(frames)):
            header, body = libipld.decode_dag_cbor_multi(frames[index])
            assert (header, body["seq"]) == ({"op": 1, "t": "#labels"}, index + 1)
            for label in body["labels"]:
                unsigned = {name: value for name, value in label.items() if name != "sig"}
                assert codec.verify_signature(key, repository.encode(unsigned), label["sig"])
                assert (label["ver"], label["src"]) == (1, did)
                about = (did, label["uri"], label.get("cid"), label["val"])
                assert not label.get("neg") or about in standing
                standing.add(about)
                seen.update(label.keys())
    assert len(network.labels) == 2
    assert seen["sig"] > 30
    assert min(seen["neg"], seen["exp"], seen["cid"]) >= 2


def test_accounts_pause_and_return_and_change_their_handles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traffic, "ACCOUNT_SHARE", 0.05)
    network = simulate.Synthetic(5, accounts=30, ops=700)
    while network.advance():
        pass
    kinds = Counter(
        (kind, body.get("status")) for kind, body in events(network) if kind == "#account"
    )
    assert kinds[("#account", "deactivated")] >= 5
    renamed = [d for d in network.documents.values() if d["alsoKnownAs"][0].startswith("at://n")]
    assert renamed


def test_repositories_stop_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "RECORDS_MAX", 20)
    network = simulate.Synthetic(5, accounts=10, ops=2500, window_bytes=100_000)
    while network.advance():
        pass
    for entry in network.listed():
        export = network.export(entry["did"])
        if export is not None:
            repo = codec.read_repo(export)
            assert isinstance(repo, codec.Export)
            assert len(repo) < 30
    assert 0 < network.frames.first < len(network.frames)


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


def test_a_signature_that_begins_like_a_cid_stays_a_signature() -> None:
    sig = bytes((1, 0x71, 0x12, 32)) + bytes(60)
    linked = repository.encode({"sig": sig})
    plain = repository.encode_plain({"v": [3, None], "sig": repository.Plain(sig)})
    assert b"\xd8\x2a" in linked
    assert plain == b"\xa2\x61v\x82\x03\xf6\x63sig\x58\x40" + sig


def test_plain_encoding_is_that_of_the_library_where_there_is_nothing_plain() -> None:
    value = {"did": "did:x", "b": list(range(40)), "aa": {"k" * 300: 1, "é": True}, "c": b"x"}
    assert repository.encode_plain(value) == repository.encode(value)


def test_tid_orders_like_time_and_is_a_tid() -> None:
    dice = random.Random(3)
    times = sorted(dice.randrange(1 << 52) for _ in range(200))
    tids = [repository.tid(time, clock=5) for time in times]
    assert tids == sorted(tids)
    assert all(codec.check_syntax("tid", one) for one in tids)
