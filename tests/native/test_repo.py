"""Repository exports: real ones, old ones, a recorded network's, and damaged ones."""

from __future__ import annotations

import itertools
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import libipld
import pytest

from engine.core import codec
from tests.native import cars

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
RECORDINGS = ["golden", "golden-gates"]

# What is in ../shared/interop/repos: version, rev, records, nodes of each whole export.
WHOLE = {
    "bafyreieovfuizojpw3zresz7sx3nk4trm2by23pt5rxbey3jme4uo5ogiu.car": (2, None, 6, 2),
    "fakermaker.repo.car": (2, None, 142, 33),
    "greenground.repo.car": (3, "3k67up3j7hf2x", 2, 1),
    "paul_staging.repo.car": (2, None, 185, 51),
}
# The documents of the first two belong to the repository; greenground's key does, although
# the document is that of another DID. The fourth key made none of the signatures.
SIGNED_BY = {
    "paul_staging.repo.car": "paul_staging.didDoc.json",
    "greenground.repo.car": "greenground.didDoc.json",
}


def interop(shared: Path, name: str) -> bytes:
    return (shared / "interop/repos" / name).read_bytes()


def whole(export: bytes) -> codec.Export:
    repo = codec.read_repo(export)
    assert isinstance(repo, codec.Export), repo
    return repo


def fault(export: bytes) -> codec.RepoFault:
    repo = codec.read_repo(export)
    assert isinstance(repo, codec.RepoFault)
    return repo


def atproto_key(document: dict[str, Any]) -> str:
    for method in document["verificationMethod"]:
        if method["id"].endswith("#atproto"):
            key = codec.did_key(method["type"], method["publicKeyMultibase"])
            assert key is not None
            return key
    raise AssertionError("no key")


def interop_keys(shared: Path) -> dict[str, str]:
    paths = (shared / "interop/repos").glob("*.didDoc.json")
    return {path.name: atproto_key(json.loads(path.read_bytes())) for path in paths}


@cache
def exports(recording: Path) -> dict[str, bytes]:
    """DID -> export, of every repository that has one."""
    paths = sorted((recording / "cars").glob("*.car"))
    return {path.stem.replace("_", ":", 2): path.read_bytes() for path in paths}


def recorded_keys(recording: Path) -> dict[str, str]:
    identities = json.loads((recording / "identities.json").read_bytes())["plc"]
    return {did: atproto_key(document) for did, document in identities.items()}


# Real exports


def test_real_exports_are_whole(shared: Path) -> None:
    found = {}
    for name in WHOLE:
        repo = whole(interop(shared, name))
        found[name] = (repo.version, repo.rev, len(repo), repo.nodes)
    assert found == WHOLE


def test_real_exports_are_signed_by_the_documents_that_belong_to_them(shared: Path) -> None:
    keys = interop_keys(shared)
    assert len(keys) == 4
    matches = {
        (name, document)
        for name in WHOLE
        for document, key in keys.items()
        if whole(interop(shared, name)).signed_by(key)
    }
    assert matches == set(SIGNED_BY.items())


def test_old_p256_commits_count_only_with_a_low_s(shared: Path) -> None:
    """fakermaker's export has its whole history, signed before high S became invalid."""
    key = interop_keys(shared)["fakermaker.didDoc.json"]
    assert key.startswith("did:key:zDn")
    low = high = 0
    for _, block in cars.parse(interop(shared, "fakermaker.repo.car")).blocks:
        commit: Any = libipld.decode_dag_cbor(block)
        if "sig" not in commit:
            continue
        r, s = commit["sig"][:32], int.from_bytes(commit["sig"][32:], "big")
        is_low = s <= P256_ORDER // 2
        low, high = low + is_low, high + (not is_low)
        negated = r + (P256_ORDER - s).to_bytes(32, "big")
        message = cars.signed_part(block)
        assert codec.verify_signature(key, message, commit["sig"]) == is_low
        assert codec.verify_signature(key, message, negated) == (not is_low)
    assert low >= 40
    assert high >= 40


def test_a_slice_of_a_repository_is_incomplete(shared: Path) -> None:
    slice_ = interop(shared, "repo_slice.car")
    assert fault(slice_).kind == "incomplete"
    record = json.loads(interop(shared, "repo_slice_record.json"))
    blocks = cars.parse(slice_).by_cid
    block = blocks[libipld.decode_multibase(record["cid"])[1]]
    assert libipld.decode_dag_cbor(block) == record["value"]


def test_records_on_their_own_are_no_repository(shared: Path) -> None:
    for name in ("feedpost_record.cbor", "post_richtext_link.cbor"):
        record = interop(shared, name)
        assert libipld.decode_dag_cbor(record)["$type"] == "app.bsky.feed.post"
        assert fault(record).kind in {"car", "incomplete"}


# A recorded network


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_exports_are_whole_and_signed(shared: Path, name: str) -> None:
    recording = shared / name
    keys = recorded_keys(recording)
    heads = {repo["did"]: repo for repo in json.loads((recording / "listRepos.json").read_bytes())}
    assert len(exports(recording)) >= 25
    for did, export in exports(recording).items():
        repo = whole(export)
        assert (repo.did, repo.rev) == (did, heads[did]["rev"])
        assert libipld.encode_cid(repo.cid) == heads[did]["head"]
        assert repo.signed_by(keys[did])
        assert not repo.signed_by(codec.public_key("ES256K", b"\x01" * 32))
        assert not repo.signed_by("no key")


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_exports_hold_what_the_commits_left(shared: Path, name: str) -> None:
    """Every operation of the stream, applied in order, gives the leaves of each export."""
    recording = shared / name
    left: dict[str, dict[str, bytes]] = {did: {} for did in exports(recording)}
    for body in cars.frames(recording):
        for op in body.get("ops", []):
            records = left.setdefault(body["repo"], {})
            records.pop(op["path"], None)
            if op["action"] != "delete":
                records[op["path"]] = op["cid"]
    total = 0
    for did, export in exports(recording).items():
        leaves = whole(export).leaves()
        assert [key for key, _, _ in leaves] == sorted(left[did])
        assert {key: cid for key, cid, _ in leaves} == left[did]
        assert all(cars.cid_of(record) == cid for _, cid, record in leaves)
        total += len(leaves)
    assert total >= 3_000


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_trees_are_what_their_leaves_build(shared: Path, name: str) -> None:
    for export in exports(shared / name).values():
        repo = whole(export)
        root, blocks = codec.build_mst([(key, cid) for key, cid, _ in repo.leaves()])
        assert root == repo.data
        assert len(blocks) == repo.nodes
        assert dict(blocks).items() <= cars.parse(export).by_cid.items()


def test_the_signed_bytes_are_the_commit_without_its_signature(shared: Path) -> None:
    for export in exports(shared / "golden").values():
        repo = whole(export)
        block = cars.parse(export).by_cid[repo.cid]
        assert repo.signed == cars.signed_part(block)
        commit: Any = libipld.decode_dag_cbor(block)
        fields = {
            "did": repo.did,
            "rev": repo.rev,
            "sig": repo.sig,
            "data": repo.data,
            "prev": repo.prev,
            "version": repo.version,
        }
        assert fields == commit


# Damage


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_cut_at_any_block_boundary_is_incomplete(shared: Path, name: str) -> None:
    cuts = 0
    for export in exports(shared / name).values():
        for end in cars.parse(export).ends[:-1]:
            assert fault(export[:end]).kind == "incomplete"
            cuts += 1
    assert cuts >= 4_000


def test_a_cut_inside_of_a_block_is_incomplete(shared: Path) -> None:
    source = random.Random(32)
    export = min(exports(shared / "golden").values(), key=len)
    for end in sorted(source.sample(range(len(export)), min(len(export), 500))):
        assert fault(export[:end]).kind == "incomplete"


def test_any_block_may_be_the_one_that_is_missing(shared: Path) -> None:
    export = sorted(exports(shared / "golden").values(), key=len)[20]
    starts = cars.parse(export).ends
    needed = whole(export)
    assert len(starts) > 50
    for start, end in itertools.pairwise(starts):
        assert fault(export[:start] + export[end:]).kind == "incomplete"
    assert len(needed) > 0


def test_the_order_of_the_blocks_does_not_matter(shared: Path) -> None:
    source = random.Random(33)
    export = sorted(exports(shared / "golden").values(), key=len)[20]
    ends = cars.parse(export).ends
    sections = [export[a:b] for a, b in itertools.pairwise(ends)]
    expected = whole(export).leaves()
    for _ in range(20):
        source.shuffle(sections)
        shuffled = export[: ends[0]] + b"".join([*sections, sections[0]])
        assert whole(shuffled).leaves() == expected


def test_flipped_bytes_are_faults(shared: Path) -> None:
    """Nothing that is damaged passes, but for header bytes that carry no meaning."""
    source, faults = random.Random(34), 0
    kinds = set()
    recording = shared / "golden"
    exports_by_size = sorted(exports(recording).items(), key=lambda item: len(item[1]))
    keys = recorded_keys(recording)
    for did, export in exports_by_size[:12]:
        original = whole(export)
        header = cars.parse(export).ends[0]
        for _ in range(400):
            damaged = bytearray(export)
            place = source.randrange(len(damaged))
            damaged[place] ^= source.randrange(1, 256)
            repo = codec.read_repo(bytes(damaged))
            if isinstance(repo, codec.RepoFault):
                kinds.add(repo.kind)
                faults += 1
                continue
            assert place < header
            assert repo.cid == original.cid
            assert repo.leaves() == original.leaves()
            assert repo.signed_by(keys[did])
    assert faults >= 4_000
    assert {"hash", "car", "incomplete"} <= kinds


def test_random_bytes_are_faults() -> None:
    source = random.Random(35)
    for _ in range(5_000):
        fault(source.randbytes(source.randrange(200)))
