"""``headrace car``: it says of every export what the extension says, by other code."""

from __future__ import annotations

import base64
import itertools
import json
import random
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import libipld
import msgspec
import pytest

from engine import cli, settings, simulate
from engine.core import codec
from engine.errors import SettingsError, UpstreamError
from engine.ops import car, ecdsa, repository
from tests.native import cars
from tests.native.test_repo import RECORDINGS, exports, recorded_keys


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_exports_are_read_alike(shared: Path, name: str) -> None:
    count = 0
    for did, export in exports(shared / name).items():
        found, native = repository.read(export), codec.read_repo(export)
        assert isinstance(native, codec.Export)
        assert found.problems == []
        assert found.commit["did"] == native.did == did
        assert (found.root, found.commit["data"]) == (native.cid, native.data)
        assert found.signed() == native.signed
        assert found.tree is not None
        assert (found.tree.count(), len(found.blocks)) == (native.nodes, native.blocks)
        leaves = [(leaf.key, leaf.cid, found.blocks[leaf.cid]) for leaf in found.leaves()]
        assert leaves == native.leaves()
        count += len(leaves)
    assert count >= 3_000


def test_damaged_exports_are_refused_alike(shared: Path) -> None:
    """Whatever is cut, left out, doubled or changed: either both find it wrong, or neither."""
    source, wrong, whole = random.Random(37), 0, 0
    small = sorted(exports(shared / "golden").values(), key=len)[5:15]
    for _ in range(600):
        export = source.choice(small)
        ends = cars.parse(export).ends
        sections = [export[a:b] for a, b in itertools.pairwise(ends)]
        kind = source.randrange(5)
        if kind == 0:
            del sections[source.randrange(len(sections))]
        elif kind == 1:
            source.shuffle(sections)
        elif kind == 2:
            sections.append(source.choice(sections))
        damaged = bytearray(export[: ends[0]] + b"".join(sections))
        if kind == 3:
            damaged[source.randrange(ends[0], len(damaged))] ^= 1 << source.randrange(8)
        elif kind == 4:
            del damaged[source.randrange(1, len(damaged)) :]
        native = codec.read_repo(bytes(damaged))
        problems = repository.read(bytes(damaged)).problems
        assert bool(problems) == isinstance(native, codec.RepoFault), (kind, problems, native)
        wrong, whole = wrong + bool(problems), whole + (not problems)
    assert wrong >= 200
    assert whole >= 150


def test_trees_of_another_shape_are_wrong() -> None:
    """Each rule of the tree, in a repository whose hashes are all right."""
    paths = [f"a.b.c/{number:03}" for number in range(60)]
    cid = cars.cid_of(b"\xa0")
    root, nodes = codec.build_mst([(path, cid) for path in paths])
    blocks = dict(nodes)

    def problems(change: Callable[[Any], object]) -> list[str]:
        node: Any = libipld.decode_dag_cbor(blocks[root])
        change(node)
        changed = libipld.encode_dag_cbor(node)
        data = cars.cid_of(changed)
        commit = libipld.encode_dag_cbor(
            {
                "did": "did:plc:abcdefghijklmnopqrstuvwx",
                "rev": "3k2222222222a",
                "data": data,
                "prev": None,
                "version": 3,
                "sig": b"s" * 64,
            }
        )
        content = {**blocks, data: changed, cid: b"\xa0", cars.cid_of(commit): commit}
        export = cars.write(cars.cid_of(commit), content.items())
        found = repository.read(export).problems
        assert isinstance(codec.read_repo(export), codec.RepoFault) == bool(found)
        return found

    assert problems(lambda node: None) == []
    for change, words in (
        (lambda node: node["e"][0].update(k=b"a.b.c/000"), "layer"),
        (lambda node: node["e"][0].update(k=b"no path"), "record path"),
        (lambda node: node["e"][0].update(p=5), "shape"),
        (lambda node: node["e"][0].pop("t"), "shape"),
        (lambda node: node.update(x=1), "shape"),
        (lambda node: node["e"].append(dict(node["e"][-1], p=0)), "behind"),
        (lambda node: node.update(l=node["e"][0]["t"]), "twice"),
        (lambda node: node.update(l=cid), "shape"),
        (lambda node: node.update(l=cars.cid_of(b"absent")), "missing"),
        (lambda node: node["e"][0].update(v=cars.cid_of(b"absent")), "missing"),
    ):
        assert any(words in problem for problem in problems(change)), words


def test_signatures_are_judged_as_the_vectors_say(shared: Path) -> None:
    vectors = json.loads((shared / "interop/vectors/crypto/signature-fixtures.json").read_bytes())
    verdicts = []
    for vector in vectors:
        message, signature = (
            base64.b64decode(vector[name] + "==") for name in ("messageBase64", "signatureBase64")
        )
        key = ecdsa.did_key(vector["didDocSuite"], vector["publicKeyMultibase"])
        assert key == vector["publicKeyDid"]
        verdicts.append(ecdsa.verify(vector["publicKeyDid"], message, signature))
    assert verdicts == [vector["validSignature"] for vector in vectors]
    assert set(verdicts) == {True, False}


@pytest.mark.parametrize("algorithm", ["ES256K", "ES256"])
def test_signatures_of_both_curves_are_judged_as_the_extension_does(algorithm: str) -> None:
    source = random.Random(38)
    for _ in range(10):
        secret, message = source.randbytes(32), source.randbytes(100)
        key = codec.public_key(algorithm, secret)
        signature = bytearray(codec.sign(algorithm, secret, message))
        assert ecdsa.verify(key, message, bytes(signature))
        assert not ecdsa.verify(key, message + b"x", bytes(signature))
        signature[source.randrange(64)] ^= 1
        assert not ecdsa.verify(key, message, bytes(signature))
    assert not ecdsa.verify("did:key:none", b"", bytes(64))


def test_the_command_shows_and_judges_a_file(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    did, export = max(exports(shared / "golden").items(), key=lambda item: len(item[1]))
    path = tmp_path / "export.car"
    path.write_bytes(export)
    key = recorded_keys(shared / "golden")[did]
    shown = ["car", str(path), "--tree", "--records", "--verify", "--key", key]
    assert cli.main(shown) == 0
    out = capsys.readouterr().out
    assert f"valid, by {key}" in out
    assert "nothing is wrong" in out
    leaves = repository.read(export).leaves()
    assert all(out.count(f"{leaf.key}  {repository.text(leaf.cid)}") == 2 for leaf in leaves)
    assert '"$type":"app.bsky.feed.post"' in out
    other = codec.public_key("ES256K", b"\x01" * 32)
    assert cli.main(["car", str(path), "--verify", "--key", other]) == 1
    assert f"NOT valid, by {other}" in capsys.readouterr().out
    path.write_bytes(export[:-100])
    assert cli.main(["car", str(path)]) == 1
    assert "WRONG: cut inside of the section" in capsys.readouterr().out
    assert cli.main(["car", str(tmp_path / "absent.car")]) == 2


@pytest.fixture
async def network(shared: Path, tmp_path: Path) -> AsyncIterator[settings.Settings]:
    """The recorded network, served; one account's repository is another's."""
    folder = tmp_path / "network"
    shutil.copytree(shared / "golden", folder, ignore=shutil.ignore_patterns("tables"))
    first, second, *_ = sorted((folder / "cars").glob("*.car"))
    shutil.copy(first, second)
    async with simulate.serve(simulate.load(folder)) as server:
        yield settings.load(environ={"PLC_URL": server.url, "NETWORK_ALLOW_PRIVATE": "true"})


async def test_a_did_is_fetched_from_its_host_and_judged_by_its_document(
    network: settings.Settings, shared: Path
) -> None:
    dids = sorted(exports(shared / "golden"))
    wanted = car.Wanted(dids[0], verify=True)
    found = await car.inspect(network, wanted)
    assert car.exit_code(found) == 0, list(car.render(found, wanted))
    assert found.repository.size == len(exports(shared / "golden")[dids[0]])
    swapped = await car.inspect(network, car.Wanted(dids[1], verify=True))
    assert swapped.repository.problems == [f"the repository is that of {dids[0]}"]
    assert car.exit_code(swapped) == 1
    with pytest.raises(UpstreamError, match="no such DID"):
        await car.inspect(network, car.Wanted("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"))
    with pytest.raises(SettingsError, match="No such file"):
        await car.inspect(network, car.Wanted("absent.car"))


async def test_a_mirror_is_asked_where_the_directory_fails(
    network: settings.Settings, shared: Path
) -> None:
    away = msgspec.structs.replace(
        network, plc_url="http://127.0.0.1:1", plc_mirrors=(network.plc_url,)
    )
    did = min(exports(shared / "golden"))
    assert car.exit_code(await car.inspect(away, car.Wanted(did, verify=True))) == 0
