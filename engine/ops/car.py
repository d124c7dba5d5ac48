"""``headrace car``: what is in a repository and whether it is whole, not by the extension's code.

The signature is judged by the key of the DID's document, asked for now; that of a repository whose
DID was given is fetched from its host, as a backfiller would fetch it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libipld
import orjson

from engine.adapters import http
from engine.adapters import identity as resolvers
from engine.adapters.spool import Spool
from engine.core import identity
from engine.errors import SettingsError, UpstreamError
from engine.ops import ecdsa, repository
from engine.ops.repository import Leaf, Node, Repository
from engine.settings import Settings

MAX_BYTES = 4 << 30
"""A repository beyond this is not inspected: all of it would be in memory."""

BODY_BYTES = 16 << 20
"""A larger download waits on disk until it is whole."""

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Wanted:
    """What to look at and what to show."""

    place: str  # a file or a DID
    tree: bool = False
    records: bool = False
    verify: bool = False
    key: str | None = None  # the did:key to judge the signature by, instead of the document's


@dataclass(frozen=True)
class Inspection:
    """One repository, looked at."""

    repository: Repository
    signature: str | None = None  # what is to be said of it; None: nobody asked
    is_good: bool = True  # of the signature


async def inspect(settings: Settings, wanted: Wanted) -> Inspection:
    """Read a file, or fetch the repository of a DID from its host; look at all of it.

    Raises:
        SettingsError: there is no such file.
        UpstreamError: the DID or its repository cannot be had.
        StoreError: the Redis of the settings gives no turn at the directory.
    """
    async with AsyncExitStack() as stack:
        fetcher = await stack.enter_async_context(
            http.open_fetcher(allow_private=settings.network.allow_private)
        )
        dids = resolvers.DidResolver.of(settings, fetcher, TIMEOUT_SECONDS)
        stack.callback(dids.close)
        network = _Network(fetcher, dids)
        if wanted.place.startswith("did:"):
            data = await network.export(wanted.place)
        else:
            data = await asyncio.to_thread(_read_file, wanted.place)
        found = repository.read(data)
        did = found.commit.get("did")
        if wanted.place.startswith("did:") and did != wanted.place:
            found.problems.append(f"the repository is that of {did}")
        inspection = Inspection(found)
        if wanted.verify and found.commit:
            try:
                key = wanted.key or await network.key(str(did))
            except UpstreamError as error:
                return replace(inspection, signature=f"not judged: {error}", is_good=False)
            return _judge(inspection, key)
        return inspection


def exit_code(inspection: Inspection) -> int:
    """0, or 1 where anything is wrong."""
    return 0 if inspection.is_good and not inspection.repository.problems else 1


def render(inspection: Inspection, wanted: Wanted) -> Iterator[str]:
    """What was found, line by line."""
    found = inspection.repository
    leaves = found.leaves()
    yield from _summary(found, leaves)
    if inspection.signature:
        yield f"signature    {inspection.signature}"
    if wanted.tree and found.tree:
        yield ""
        yield from _tree(found.tree, 0)
    if wanted.records:
        yield ""
        for leaf in leaves:
            yield f"{leaf.key}  {repository.text(leaf.cid)}  {_json(found, leaf)}"
    yield ""
    yield from (f"WRONG: {problem}" for problem in found.problems)
    yield "nothing is wrong" if not exit_code(inspection) else f"{len(found.problems)} problems"


class _Network:
    def __init__(self, fetcher: http.Fetcher, dids: resolvers.DidResolver) -> None:
        self._fetcher = fetcher
        self._dids = dids

    async def export(self, did: str) -> bytes:
        """The repository of a DID, from the host that its document names."""
        host = await self._dids.pds(did)
        if host is None:
            raise UpstreamError(f"the document of {did} names no host")
        with tempfile.TemporaryDirectory(prefix="headrace-car-") as folder:
            spool = Spool(Path(folder) / "spool", body_bytes=BODY_BYTES, all_bytes=BODY_BYTES)
            answer = await self._fetcher.download(
                host + "/xrpc/com.atproto.sync.getRepo",
                params={"did": did},
                spool=spool,
                max_bytes=MAX_BYTES,
                timeout_seconds=TIMEOUT_SECONDS,
            )
            with answer.body as body:
                data = body.data if body.path is None else _read_file(str(body.path))
        if answer.status != 200:
            said = identity.error_of_xrpc(data or b"") or ""
            raise UpstreamError(f"{host} answered {answer.status} {said}".rstrip())
        return data or b""

    async def key(self, did: str) -> str:
        """The key that the DID's document names now, as a ``did:key``."""
        document = await self._dids.resolve(did)
        key = ecdsa.did_key(document.key_type, document.key)
        if key is None:
            raise UpstreamError(f"the document of {did} holds no key of the protocol")
        return key


def _read_file(place: str) -> bytes:
    try:
        return Path(place).read_bytes()
    except OSError as error:
        raise SettingsError(f"{place}: {error.strerror or error}") from error


def _judge(inspection: Inspection, key: str) -> Inspection:
    found = inspection.repository
    sig = found.commit.get("sig")
    good = isinstance(sig, bytes) and ecdsa.verify(key, found.signed(), sig)
    return replace(
        inspection, signature=f"{'valid' if good else 'NOT valid'}, by {key}", is_good=good
    )


def _summary(found: Repository, leaves: list[Leaf]) -> Iterator[str]:
    commit = found.commit
    shown = {
        "did": commit.get("did"),
        "rev": commit.get("rev"),
        "version": commit.get("version"),
        "commit": repository.text(found.root) if found.root else None,
        "tree": repository.text(commit["data"]) if isinstance(commit.get("data"), bytes) else None,
        "bytes": found.size,
        "blocks": len(found.blocks),
        "nodes": found.tree.count() if found.tree else 0,
        "layers": found.tree.layer + 1 if found.tree else 0,
        "records": len(leaves),
    }
    for name, value in shown.items():
        yield f"{name:12} {'-' if value is None else value}"
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for leaf in leaves:
        collection = leaf.key.partition("/")[0]
        counts[collection] += 1
        sizes[collection] += len(found.blocks.get(leaf.cid, b""))
    for collection, count in sorted(counts.items()):
        yield f"  {collection:40} {count:>9} records {sizes[collection]:>12} bytes"


def _tree(node: Node, depth: int) -> Iterator[str]:
    indent = "  " * depth
    yield f"{indent}layer {node.layer}  {repository.text(node.cid)}"
    for part in node.parts:
        if isinstance(part, Leaf):
            yield f"{indent}  {part.key}  {repository.text(part.cid)}"
        else:
            yield from _tree(part, depth + 1)


def _json(found: Repository, leaf: Leaf) -> str:
    block = found.blocks.get(leaf.cid)
    if block is None:
        return "missing"
    try:
        return orjson.dumps(libipld.decode_dag_cbor(block), default=_plain).decode()
    except Exception as error:  # a stranger's bytes: libipld has no common base class
        return f"not a record: {error}"


def _plain(value: Any) -> Any:
    """Links and bytes, which ``libipld`` does not tell apart, by what they look like."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} in a record")
    if len(value) == 36 and value[0] == 1 and value[2:4] == b"\x12\x20":
        return {"$link": repository.text(value)}
    return {"$bytes": value.hex()}
