"""Repositories to stream entries: the extension against ``libipld.decode_car``, and its memory.

Method. Input: exports made here out of a seed, records of the size and mix of the public network,
signed, blocks in the order in which a PDS streams them (commit, tree, records) and shuffled. On
one core, in CPU seconds of this process, the best of the rounds, for noise only ever adds:

- *prove*: ``read_repo`` from memory: every block hashed, commit, whole tree, every record there.
- *entries*: the same and all slices, as they go into the streams; from memory and from a file.
- *decode_car*: ``libipld`` makes Python objects of every block. It hashes nothing and looks at no
  tree, but nothing else in Python reads an export faster.

Small repositories (40 records) are proved and cut with and without their signature, the key
parsed each time. Memory is the highest resident memory of a process of its own that opens a
large export from a file, verifies it and makes every slice.

    python -m bench.repositories [--large-mb 200]

prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import libipld

from bench.measure import machine, resident_mib
from engine.core import codec
from engine.roles.backfiller.slices import SLICE_BYTES, SLICE_RECORDS
from tests.native import cars

SECRETS = {"ES256K": b"\x01" * 32, "ES256": b"\x02" * 32}
ROUNDS = 7
SMALL_RECORDS = 40
SMALL_COUNT = 400
MIX = (("app.bsky.feed.like", 3), ("app.bsky.feed.post", 1), ("app.bsky.graph.follow", 1))
WORDS = (
    "quick",
    "brown",
    "foxes",
    "jump",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "then",
    "some",
    "more",
)


def tid(number: int) -> str:
    """The record key of a moment."""
    digits = "234567abcdefghijklmnopqrstuvwxyz"
    value = (1_700_000_000_000_000 + number * 997) << 10
    return "".join(digits[value >> 5 * place & 31] for place in range(12, -1, -1))


def record(source: random.Random, collection: str) -> bytes:
    """One of about the size that it has in the network."""
    made = f"2026-01-01T00:{source.randrange(60):02}:{source.randrange(60):02}.000Z"
    did = f"did:plc:{source.getrandbits(120):024x}"[:32]
    fields: dict[str, object] = {"$type": collection, "createdAt": made}
    if collection.endswith("follow"):
        fields["subject"] = did
    elif collection.endswith("like"):
        cid = libipld.encode_cid(cars.cid_of(source.randbytes(8)))
        uri = f"at://{did}/app.bsky.feed.post/{tid(source.randrange(1 << 30))}"
        fields["subject"] = {"cid": cid, "uri": uri}
    else:
        fields |= {
            "text": " ".join(source.choices(WORDS, k=source.randrange(2, 40))),
            "langs": ["en"],
        }
    return libipld.encode_dag_cbor(fields)


def export(records: int, seed: int, algorithm: str = "ES256K", *, shuffled: bool = False) -> bytes:
    """A signed repository of so many records."""
    source = random.Random(seed)
    names = [collection for collection, weight in MIX for _ in range(weight)]
    collections = source.choices(names, k=records)
    held = {
        f"{collection}/{tid(number)}": record(source, collection)
        for number, collection in enumerate(collections)
    }
    keys = sorted(held)
    cids = {key: cars.cid_of(held[key]) for key in keys}
    data, nodes = codec.build_mst([(key, cids[key]) for key in keys])
    fields: dict[str, object] = {
        "did": f"did:plc:{seed:024}",
        "rev": tid(1 << 30),
        "data": data,
        "prev": None,
        "version": 3,
    }
    sig = codec.sign(algorithm, SECRETS[algorithm], libipld.encode_dag_cbor(fields))
    commit = libipld.encode_dag_cbor({**fields, "sig": b""})
    # Not by the library, which takes bytes that look like a CID for a link.
    commit = commit.replace(b"\x63sig\x40", b"\x63sig\x58\x40" + sig)
    blocks = [*reversed(nodes), *((cids[key], held[key]) for key in keys)]
    if shuffled:
        source.shuffle(blocks)
    root = cars.cid_of(commit)
    return cars.write(root, [(root, commit), *blocks])


def best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """CPU seconds of the best round."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def proved(place: bytes | Path) -> codec.Export:
    """An export that is whole."""
    found = codec.read_repo(place)
    if not isinstance(found, codec.Export):
        raise SystemExit(f"{found}")
    return found


def entries(found: codec.Export) -> int:
    """Make all of an export's entries; their bytes."""
    slices = found.slices(
        fetch_id=1, notify=True, collections=[], max_bytes=SLICE_BYTES, max_records=SLICE_RECORDS
    )
    return sum(len(entry) for _, entry in slices) + len(found.closing(1))


def rates(data: bytes, path: Path) -> dict[str, object]:
    """MB/s of one export, and how it compares."""
    path.write_bytes(data)
    size = len(data) / 1e6
    seconds = {
        "prove": best(lambda: proved(data)),
        "entries": best(lambda: entries(proved(data))),
        "entries_from_file": best(lambda: entries(proved(path))),
        "decode_car": best(lambda: libipld.decode_car(data), 3),
    }
    mb = {name: round(size / value, 1) for name, value in seconds.items()}
    found = proved(data)
    return {
        "bytes": len(data),
        "records": len(found),
        "nodes": found.nodes,
        "mb_per_second": mb,
        "prove_to_decode_car": round(seconds["decode_car"] / seconds["prove"], 2),
    }


def small() -> dict[str, object]:
    """Repositories a second that are small, as most are."""
    found: dict[str, object] = {}
    for algorithm, secret in SECRETS.items():
        key = codec.public_key(algorithm, secret)
        made = [export(SMALL_RECORDS, seed, algorithm) for seed in range(SMALL_COUNT)]

        def unsigned(made: list[bytes] = made) -> None:
            for data in made:
                entries(proved(data))

        def signed(made: list[bytes] = made, key: str = key) -> None:
            for data in made:
                repo = proved(data)
                if not repo.signed_by(key):
                    raise SystemExit("a signature that is none")
                entries(repo)

        found["bytes_mean"] = round(sum(map(len, made)) / len(made))
        found["unsigned_per_second"] = round(len(made) / best(unsigned))
        found[f"{algorithm}_per_second"] = round(len(made) / best(signed))
    return found


def hold(path: Path) -> dict[str, object]:
    """Everything that a backfiller does with a large export, and the memory that it took."""
    before, began = resident_mib(os.getpid()), time.process_time()
    repo = proved(path)
    if not repo.signed_by(codec.public_key("ES256K", SECRETS["ES256K"])):
        raise SystemExit("a signature that is none")
    size = entries(repo)
    return {
        "mib_before": before,
        "mib_peak": resident_mib(os.getpid()),
        "records": len(repo),
        "entry_bytes": size,
        "cpu_seconds": round(time.process_time() - began, 2),
    }


def large(megabytes: int, folder: Path) -> dict[str, object]:
    """Memory of a process that reads a large export, blocks in no order, from a file."""
    # About 330 bytes a record with its share of the tree.
    data = export(megabytes * 1_000_000 // 330, 7, shuffled=True)
    path = folder / "large.car"
    path.write_bytes(data)
    size = len(data)
    del data
    # A process with nothing of what was made here.
    command = [sys.executable, "-m", "bench.repositories", "--hold", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout)
    return {"bytes": size, **found}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large-mb", type=int, default=200)
    parser.add_argument("--hold", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hold:
        print(json.dumps(hold(arguments.hold)))
        return
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report: dict[str, object] = {"benchmark": "repositories", **machine()}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        report["ordered"] = rates(export(60_000, 3), folder / "ordered.car")
        report["shuffled"] = rates(export(60_000, 3, shuffled=True), folder / "shuffled.car")
        report["small"] = small()
        if arguments.large_mb:
            report["large"] = large(arguments.large_mb, folder)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
