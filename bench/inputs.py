"""What the benchmarks index: synthetic networks of two mixes, made once and kept.

A folder's name holds its mix, size and seed and a digest of the generator, so that another
generator never answers for this one. Making 300,000 ops takes minutes, a benchmark seconds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import libipld

from engine import simulate
from engine.simulate.network import Network
from engine.simulate.writes import MIX

CACHE = Path(os.environ.get("DATA_DIR") or Path.home() / ".cache" / "headrace") / "bench"
"""Outside of the repository; beside the embedded servers' data where DATA_DIR says so."""

GOLDEN: Mapping[str, float] = {
    "like": 30.1,
    "post": 22.0,
    "follow": 12.7,
    "delete": 8.8,
    "repost": 7.3,
    "listitem": 3.6,
    "foreign": 2.8,
    "update": 2.4,
    "block": 1.9,
    "declaration": 1.9,
    "list": 1.2,
    "verification": 0.9,
    "generator": 0.8,
    "starterpack": 0.7,
    "threadgate": 0.7,
    "listblock": 0.6,
    "postgate": 0.5,
    "bad": 0.3,
}
"""Counted in the recorded network that the rows are checked against: few likes, much to judge."""

MIXES = {"network": MIX, "golden": GOLDEN}
"""The first is about what the public network sends."""


@dataclass(frozen=True)
class Order:
    """When in the log each row's record and repository came, in ops from 0."""

    uris: dict[str, int]
    """Where a record was written last."""
    dids: dict[str, int]
    """Where a repository was heard of first."""
    ops: int
    """Identity, account and sync events count one each."""


def synthetic(mix: str, ops: int, seed: int, cache: Path = CACHE, *, cars: bool = False) -> Path:
    """The folder of a network of at least so many ops, made now unless it is there.

    ``cars``: with its repositories, one file each.
    """
    folder = cache / f"{mix}-{ops}-{seed}-{_generator()}{'-cars' * cars}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
    try:
        started = time.monotonic()
        simulate.generate(partial, ops=ops, seed=seed, mix=MIXES[mix])
        if not cars:
            shutil.rmtree(partial / "cars")  # nobody asks for them
        partial.rename(folder)
        print(f"made {folder.name} in {time.monotonic() - started:.0f} s", flush=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder


def order_of(network: Network) -> Order:
    """Read every frame as a relay's other consumers would: by ``libipld``."""
    uris: dict[str, int] = {}
    dids: dict[str, int] = {}
    ops = 0
    for index in range(len(network.frames)):
        try:
            body = libipld.decode_dag_cbor_multi(network.frames[index])[1]
            did = body.get("repo") or body["did"]
        except Exception:  # part of the input: libipld has no common base class
            continue
        dids.setdefault(did, ops)
        if "ops" not in body:
            ops += 1
        for op in body.get("ops", ()):
            if op["action"] != "delete":
                uris[f"at://{did}/{op['path']}"] = ops
            ops += 1
    return Order(uris, dids, ops)


def _generator() -> str:
    sources = sorted(Path(simulate.__file__).parent.glob("*.py"))
    mixes = repr(sorted(GOLDEN.items())).encode()
    digest = hashlib.sha256(mixes + b"".join(path.read_bytes() for path in sources))
    return digest.hexdigest()[:10]
