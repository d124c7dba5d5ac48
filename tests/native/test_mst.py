"""Trees: built, proved and taken back, against vectors and a recorded network."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libipld
import pytest

from engine.core import codec
from tests.native import cars

Blocks = list[tuple[bytes, bytes]]
Operation = tuple[str, bytes | None, bytes | None]

EMPTY_ROOT = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"


def cid(text: str) -> bytes:
    base, data = libipld.decode_multibase(text)
    assert base == "b"
    return data


def commits(path: Path) -> Iterator[dict[str, Any]]:
    """Every ``#commit`` of a recorded network that has a predecessor."""
    for body in cars.frames(path):
        # Only a repository's first commit, which is empty, has none.
        if "ops" in body and body.get("prevData"):
            yield body
        elif "ops" in body:
            assert body["ops"] == []


def proof_fixtures(shared: Path) -> list[dict[str, Any]]:
    path = shared / "interop/vectors/firehose/commit-proof-fixtures.json"
    found: list[dict[str, Any]] = json.loads(path.read_bytes())
    assert len(found) >= 6
    return found


def fixture_trees(fixture: dict[str, Any]) -> tuple[bytes, bytes, Blocks, list[Operation]]:
    """Root before, root after, nodes after, operations."""
    leaf = cid(fixture["leafValue"])
    before = sorted(fixture["keys"])
    after = sorted(set(before) - set(fixture["dels"]) | set(fixture["adds"]))
    old_root, _ = codec.build_mst([(key, leaf) for key in before])
    new_root, blocks = codec.build_mst([(key, leaf) for key in after])
    adds: list[Operation] = [(key, leaf, None) for key in fixture["adds"]]
    dels: list[Operation] = [(key, None, leaf) for key in fixture["dels"]]
    return old_root, new_root, blocks, adds + dels


def test_roots_of_the_proof_vectors(shared: Path) -> None:
    for fixture in proof_fixtures(shared):
        old_root, new_root, _, _ = fixture_trees(fixture)
        assert old_root == cid(fixture["rootBeforeCommit"]), fixture["comment"]
        assert new_root == cid(fixture["rootAfterCommit"]), fixture["comment"]


def test_covering_proofs_of_the_proof_vectors(shared: Path) -> None:
    for fixture in proof_fixtures(shared):
        _, root, blocks, operations = fixture_trees(fixture)
        proof = codec.mst_proof(root, blocks, [key for key, _, _ in operations])
        assert not isinstance(proof, codec.RepoFault)
        assert set(proof) == {cid(text) for text in fixture["blocksInProof"]}, fixture["comment"]


def test_the_proof_vectors_invert_from_their_proofs_alone(shared: Path) -> None:
    for fixture in proof_fixtures(shared):
        old_root, root, blocks, operations = fixture_trees(fixture)
        listed = {cid(text) for text in fixture["blocksInProof"]}
        proof = [block for block in blocks if block[0] in listed]
        assert len(proof) == len(listed)
        assert codec.invert_mst(root, proof, operations) == old_root, fixture["comment"]


def test_a_proof_that_lacks_a_node_is_incomplete_or_enough(shared: Path) -> None:
    incomplete = 0
    for fixture in proof_fixtures(shared):
        old_root, root, blocks, operations = fixture_trees(fixture)
        listed = {cid(text) for text in fixture["blocksInProof"]}
        proof = [block for block in blocks if block[0] in listed]
        for lost in range(len(proof)):
            result = codec.invert_mst(root, proof[:lost] + proof[lost + 1 :], operations)
            if isinstance(result, codec.RepoFault):
                assert result.kind == "incomplete"
                incomplete += 1
            else:
                assert result == old_root
    assert incomplete >= 10


def test_every_recorded_commit_inverts_to_its_previous_data(shared: Path) -> None:
    inverted = operations_seen = 0
    for name in ("golden", "golden-gates"):
        for body in commits(shared / name):
            car = cars.parse(body["blocks"])
            commit: Any = libipld.decode_dag_cbor(car.by_cid[body["commit"]])
            operations = [(op["path"], op.get("cid"), op.get("prev")) for op in body["ops"]]
            before = codec.invert_mst(commit["data"], car.blocks, operations)
            assert before == body["prevData"], (body["seq"], before)
            inverted += 1
            operations_seen += len(operations)
    assert inverted >= 3_000
    assert operations_seen >= 10_000


def test_a_commit_with_a_changed_operation_does_not_invert(shared: Path) -> None:
    """What the operations claim decides the root, so no lie about them goes unseen."""
    source, lies = random.Random(21), 0
    for body in itertools.islice(commits(shared / "golden"), 400):
        car = cars.parse(body["blocks"])
        commit: Any = libipld.decode_dag_cbor(car.by_cid[body["commit"]])
        operations = [(op["path"], op.get("cid"), op.get("prev")) for op in body["ops"]]
        place = source.randrange(len(operations))
        path, after, before = operations[place]
        if after == before:  # a put of the same record: without it the tree is the same
            continue
        another = cars.cid_of(source.randbytes(8))
        for lie in ([], [(path, another, before)], [(path, after, another)]):
            changed = operations[:place] + lie + operations[place + 1 :]
            assert codec.invert_mst(commit["data"], car.blocks, changed) != body["prevData"]
            lies += 1
    assert lies >= 1_000


def test_the_tree_does_not_depend_on_how_it_came_to_be() -> None:
    """Inverting a thousand random commits leads through the roots that building gives."""
    source = random.Random(22)
    entries: dict[str, bytes] = {}
    root, _ = codec.build_mst([])
    assert root == cid(EMPTY_ROOT)
    for _ in range(1_000):
        before = dict(entries)
        for _ in range(source.randrange(1, 6)):
            if entries and source.random() < 0.45:
                del entries[source.choice(sorted(entries))]
            else:
                key = f"com.example.record/{source.randrange(400):03d}"
                entries[key] = cars.cid_of(source.randbytes(8))
        keys = before.keys() | entries.keys()
        changed = [key for key in keys if before.get(key) != entries.get(key)]
        if not changed:
            continue
        operations = [(key, entries.get(key), before.get(key)) for key in changed]
        new_root, blocks = codec.build_mst(sorted(entries.items()))
        proof = codec.mst_proof(new_root, blocks, changed)
        assert not isinstance(proof, codec.RepoFault)
        sent = [block for block in blocks if block[0] in set(proof)]
        assert codec.invert_mst(new_root, sent, operations) == root
        root = new_root


def test_nodes_are_canonical_for_another_codec() -> None:
    entries = [(f"com.example.record/{n:05d}", cars.cid_of(b"%d" % n)) for n in range(2_000)]
    root, blocks = codec.build_mst(entries)
    assert blocks[-1][0] == root
    for key, block in blocks:
        assert cars.cid_of(block) == key
        assert libipld.encode_dag_cbor(libipld.decode_dag_cbor(block)) == block


@pytest.mark.parametrize(
    "keys",
    [["a/b", "a/a"], ["a/a", "a/a"], [""], ["a"], ["a/"], ["/a"], ["a/b/c"], ["a/b c"], ["a/\xfc"]],
)
def test_keys_that_no_tree_can_hold_are_refused(keys: list[str]) -> None:
    leaf = cars.cid_of(b"leaf")
    with pytest.raises(ValueError, match="key"):
        codec.build_mst([(key, leaf) for key in keys])


def test_a_bad_cid_is_refused() -> None:
    with pytest.raises(ValueError, match="CID"):
        codec.build_mst([("a/b", b"\x01\x71\x12")])


def test_blocks_that_do_not_match_their_cids_are_a_fault() -> None:
    leaf = cars.cid_of(b"leaf")
    root, blocks = codec.build_mst([("a/b", leaf)])
    changed = [(key, block[:-1] + b"\xf7") for key, block in blocks]
    result = codec.invert_mst(root, changed, [("a/b", leaf, None)])
    assert isinstance(result, codec.RepoFault)
    assert result.kind == "hash"


def test_random_nodes_are_faults() -> None:
    """Whatever bytes stand in a node, the outcome is a fault or a root, never an exception."""
    source = random.Random(23)
    leaf = cars.cid_of(b"leaf")
    entries = [(f"com.example.record/{n:03d}", leaf) for n in range(60)]
    _, blocks = codec.build_mst(entries)
    node = max((block for _, block in blocks), key=len)
    faults = 0
    for _ in range(5_000):
        damaged = bytearray(node)
        for _ in range(source.randrange(1, 4)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        block = bytes(damaged)[: source.choice([len(node), source.randrange(len(node))])]
        root = cars.cid_of(block)
        result = codec.invert_mst(root, [*blocks, (root, block)], [])
        faults += isinstance(result, codec.RepoFault)
    assert faults >= 2_500
