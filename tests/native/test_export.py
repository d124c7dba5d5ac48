"""Exports read from files, and exports cut into the entries that carry them to the indexers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import libipld
import pytest

from engine.core import codec, wire
from tests.native import cars
from tests.native.test_repo import RECORDINGS, exports, interop, recorded_keys, whole

DID = "did:plc:abcdefghijklmnopqrstuvwx"
Slices = Iterator[tuple[wire.Slice, int]]


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_file_is_read_as_its_bytes_are(shared: Path, name: str) -> None:
    count = 0
    for path in sorted((shared / name / "cars").glob("*.car")):
        from_file = codec.read_repo(path)
        assert isinstance(from_file, codec.Export), from_file
        from_bytes = whole(path.read_bytes())
        assert from_file.leaves() == from_bytes.leaves()
        assert (from_file.length, from_file.blocks) == (from_bytes.length, from_bytes.blocks)
        assert from_file.signed_by(recorded_keys(shared / name)[from_file.did])
        count += 1
    assert count >= 20


def test_a_file_cut_at_a_block_boundary_is_incomplete(shared: Path, tmp_path: Path) -> None:
    source = random.Random(36)
    path = tmp_path / "cut.car"
    for export in source.sample(list(exports(shared / "golden").values()), 10):
        ends = cars.parse(export).ends[:-1]
        for end in source.sample(ends, min(len(ends), 20)):
            path.write_bytes(export[:end])
            repo = codec.read_repo(path)
            assert isinstance(repo, codec.RepoFault)
            assert repo.kind == "incomplete"


def test_a_file_that_is_not_there_is_no_fault_of_a_repository(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        codec.read_repo(tmp_path / "absent.car")
    with pytest.raises(OSError, match="directory"):
        codec.read_repo(tmp_path)


def test_a_file_that_changes_under_its_reader_raises(shared: Path, tmp_path: Path) -> None:
    export = sorted(exports(shared / "golden").values(), key=len)[20]
    path = tmp_path / "changed.car"
    path.write_bytes(export)
    repo = codec.read_repo(path)
    assert isinstance(repo, codec.Export)
    path.write_bytes(bytes(len(export)))
    with pytest.raises(OSError, match="changed"):
        list(sliced(repo))


def sliced(repo: codec.Export, *, collections: Sequence[str] = (), limit: int = 20_000) -> Slices:
    slices = repo.slices(
        fetch_id=5, notify=True, collections=list(collections), max_bytes=limit, max_records=100
    )
    for events, entry in slices:
        part = wire.decode(entry)
        assert isinstance(part, wire.Slice)
        assert events == wire.weight(part)
        assert (part.did, part.rev, part.fetch_id) == (repo.did, repo.rev, 5)
        yield part, len(entry)
    assert slices.records + slices.filtered + slices.rejected == len(repo)


@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize(
    "collections", [[], ["app.bsky.feed.*", "app.bsky.actor.profile"], ["x.y"]]
)
def test_slices_adjoin_and_hold_what_the_list_admits(
    shared: Path, name: str, collections: list[str]
) -> None:
    count = 0
    for export in exports(shared / name).values():
        repo = whole(export)
        leaves = repo.leaves()
        prefixes = [each.removesuffix("*") for each in collections] or [""]
        after, held = None, []
        for part, size in sliced(repo, collections=collections):
            assert part.after == after
            assert part.collections == collections
            assert part.rejected == []
            assert len(part.records) == 1 or size < 21_000
            after = part.through
            inside = [
                leaf
                for leaf in leaves
                if (part.after or "") < leaf[0] and (after is None or leaf[0] <= after)
            ]
            own = [leaf for leaf in inside if leaf[0].startswith(tuple(prefixes))]
            assert [(each.path, each.cid, each.record) for each in part.records] == own
            assert part.filtered == len(inside) - len(own)
            held += inside
            count += 1
        assert after is None
        assert held == leaves
    assert count >= 20


def test_a_record_that_no_commit_could_carry_is_rejected() -> None:
    paths = ["a.b.c/large", "a.b.c/small", "a.b.d/another"]
    records = [libipld.encode_dag_cbor({"x": "y" * size}) for size in (2_000_001, 1_000, 1_900_000)]
    cids = [cars.cid_of(record) for record in records]
    data, nodes = codec.build_mst(list(zip(paths, cids, strict=True)))
    fields = {"did": DID, "rev": "3k2222222222a", "data": data, "prev": None, "version": 3}
    signed = libipld.encode_dag_cbor(fields)
    key = b"\x01" * 32
    commit = libipld.encode_dag_cbor({**fields, "sig": codec.sign("ES256K", key, signed)})
    root = cars.cid_of(commit)
    blocks = [(root, commit), *nodes, *zip(cids, records, strict=True)]
    repo = whole(cars.write(root, blocks))
    assert repo.signed_by(codec.public_key("ES256K", key))
    parts = [part for part, _ in sliced(repo)]
    rejected = [op for part in parts for op in part.rejected]
    assert rejected == [
        wire.RejectedOp(list(wire.Reason).index(wire.Reason.TOO_BIG), *leaf)
        for leaf in [(paths[0], cids[0])]
    ]
    assert [each.path for part in parts for each in part.records] == paths[1:]


def test_an_old_commit_without_a_rev_has_no_slices(shared: Path) -> None:
    repo = whole(interop(shared, "fakermaker.repo.car"))
    with pytest.raises(ValueError, match="no rev"):
        list(sliced(repo))
    with pytest.raises(ValueError, match="no rev"):
        repo.closing(5)
