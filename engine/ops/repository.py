"""A repository's export read with ``libipld`` and plain Python, independent of the extension.

It is the second opinion: everything that the extension proves before a record is believed is
looked at here once more, by other code, and all that is wrong is listed and not only the first.
Slow, and the whole export is in memory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import libipld

_KEY = re.compile(r"[a-zA-Z0-9_~.:-]+/[a-zA-Z0-9_~.:-]+")
MAX_KEY = 1024
MAX_LAYER = 128


@dataclass(frozen=True)
class Leaf:
    """One record's place in the tree."""

    key: str
    cid: bytes


@dataclass(frozen=True)
class Node:
    """One block of the tree, with what is below it in key order."""

    cid: bytes
    layer: int
    parts: list[Node | Leaf]

    def leaves(self) -> Iterator[Leaf]:
        """Those below, in key order."""
        for part in self.parts:
            if isinstance(part, Leaf):
                yield part
            else:
                yield from part.leaves()

    def count(self) -> int:
        """Nodes from here down."""
        return 1 + sum(part.count() for part in self.parts if isinstance(part, Node))


@dataclass
class Repository:
    """What was found, and what is wrong with it: nothing, if ``problems`` is empty."""

    size: int
    blocks: dict[bytes, bytes] = field(default_factory=dict)  # by CID in binary form
    root: bytes | None = None
    commit: dict[str, Any] = field(default_factory=dict)
    tree: Node | None = None
    problems: list[str] = field(default_factory=list)

    def leaves(self) -> list[Leaf]:
        """Every record that the tree names, in key order."""
        return list(self.tree.leaves()) if self.tree else []

    def signed(self) -> bytes:
        """What the commit's signature signs."""
        unsigned = {key: value for key, value in self.commit.items() if key != "sig"}
        return libipld.encode_dag_cbor(unsigned)


def read(data: bytes) -> Repository:
    """Read an export and look at all of it: hashes, commit, tree, records. Never raises for it."""
    found = Repository(len(data))
    _blocks(data, found)
    if found.root is None:
        found.problems.append("no root")
        return found
    commit = _decode(found, found.root, "commit")
    if not isinstance(commit, dict):
        return found
    found.commit = commit
    _commit(found)
    data_cid = commit.get("data")
    if isinstance(data_cid, bytes):
        found.tree = _Walk(found).node(data_cid, None)
        for leaf in found.leaves():
            if leaf.cid not in found.blocks:
                found.problems.append(f"record {leaf.key}: block {text(leaf.cid)} is missing")
    return found


def text(cid: bytes) -> str:
    """A CID as people write it; hexadecimal where it is none."""
    try:
        return str(libipld.encode_cid(cid))
    except Exception:  # a stranger's bytes: libipld has no common base class
        return cid.hex()


def _blocks(data: bytes, found: Repository) -> None:
    at, is_header = 0, True
    while at < len(data) or is_header:
        begin = at
        length, at = _varint(data, at)
        if length is None or at + length > len(data):
            found.problems.append(f"cut inside of the section at byte {begin}")
            return
        section, at = data[at : at + length], at + length
        if is_header:
            is_header = False
            _header(section, found)
        elif (split := _split(section)) is None:
            found.problems.append(f"the section at byte {begin} does not begin with a known CID")
        else:
            cid, block, digest = split
            if digest != cid[4:]:
                found.problems.append(f"block {text(cid)} does not match its CID")
            found.blocks[cid] = block


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            return None, at
        value, at = value | (data[at] & 0x7F) << shift, at + 1
        if data[at - 1] < 0x80:
            return value, at
    return None, at


def _split(section: bytes) -> tuple[bytes, bytes, bytes] | None:
    """CID, block and the hash that the CID should hold."""
    if section[2:4] == b"\x12\x20" and len(section) >= 36:
        return section[:36], section[36:], hashlib.sha256(section[36:]).digest()
    if section[2:4] == b"\x13\x40" and len(section) >= 68:
        return section[:68], section[68:], hashlib.sha512(section[68:]).digest()
    return None


def _header(section: bytes, found: Repository) -> None:
    try:
        header: Any = libipld.decode_dag_cbor(section)
        roots = header["roots"]
        if header["version"] != 1:
            found.problems.append(f"CAR version {header['version']}")
        found.root = roots[0] if roots and isinstance(roots[0], bytes) else None
    except Exception as error:  # as above
        found.problems.append(f"CAR header: {error}")


def _decode(found: Repository, cid: bytes, what: str) -> Any:
    block = found.blocks.get(cid)
    if block is None:
        found.problems.append(f"{what} {text(cid)} is missing")
        return None
    try:
        return libipld.decode_dag_cbor(block)
    except Exception as error:  # as above
        found.problems.append(f"{what} {text(cid)}: {error}")
        return None


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "did": str,
    "data": bytes,
    "sig": bytes,
    "version": int,
}


def _commit(found: Repository) -> None:
    commit = found.commit
    for name, kind in _FIELDS.items():
        if not isinstance(commit.get(name), kind):
            found.problems.append(f"commit field {name} is absent or malformed")
    version = commit.get("version")
    if version not in (2, 3):
        found.problems.append(f"commit version {version!r}")
    if version == 3 and not re.fullmatch(
        r"[234567abcdefghij][234567a-z]{12}", str(commit.get("rev"))
    ):
        found.problems.append("commit field rev is absent or malformed")


class _Walk:
    """Goes through the tree in key order; what is wrong is noted, and the rest still looked at."""

    def __init__(self, found: Repository) -> None:
        self._found = found
        self._last = ""
        self._seen: set[bytes] = set()

    def node(self, cid: bytes, expected: int | None) -> Node | None:
        """The subtree; ``expected`` is the layer that its parent leaves to it."""
        if cid in self._seen:
            self._note(cid, "is named twice")
            return None
        self._seen.add(cid)
        raw = _decode(self._found, cid, "tree node")
        if raw is None:
            return None
        try:
            entries = self._entries(cid, raw)
            left = raw["l"]
        except (TypeError, KeyError, ValueError, IndexError) as error:
            self._note(cid, f"has not the shape of a node: {error!r}")
            return None
        layer = _height(entries[0][0]) if entries else expected
        if layer is None:
            if left is not None:
                self._note(cid, "is a root that only leads downwards")
            return Node(cid, 0, [])
        if expected not in (None, layer):
            self._note(cid, f"is in layer {layer}, not in {expected}")
            return None
        if not entries and left is None:
            self._note(cid, "is without content")
        parts: list[Node | Leaf] = []
        self._below(left, layer, parts)
        for key, value, right in entries:
            if _height(key) != layer:
                self._note(cid, f"holds {key}, which belongs into layer {_height(key)}")
            if key <= self._last:
                self._note(cid, f"holds {key} behind {self._last}")
            self._last = key
            parts.append(Leaf(key, value))
            self._below(right, layer, parts)
        return Node(cid, layer, parts)

    def _below(self, cid: bytes | None, layer: int, parts: list[Node | Leaf]) -> None:
        if cid is None:
            return
        if layer == 0:
            self._note(cid, "is below layer 0")
            return
        node = self.node(cid, layer - 1)
        if node is not None:
            parts.append(node)

    def _entries(self, cid: bytes, raw: Any) -> list[tuple[str, bytes, bytes | None]]:
        if set(raw) != {"e", "l"}:
            raise ValueError(f"fields {sorted(raw)}")
        entries: list[tuple[str, bytes, bytes | None]] = []
        previous = ""
        for entry in raw["e"]:
            shared, suffix = entry["p"], entry["k"].decode("ascii")
            if set(entry) != {"k", "p", "t", "v"} or not isinstance(entry["v"], bytes):
                raise ValueError(f"entry of fields {sorted(entry)}")
            if not 0 <= shared <= len(previous):
                raise ValueError(f"prefix of {shared} of {previous!r}")
            key = previous[:shared] + suffix
            if previous[shared : shared + 1] == suffix[:1] != "":
                self._note(cid, f"does not share all of the begin of {key}")
            if not _KEY.fullmatch(key) or len(key) > MAX_KEY:
                self._note(cid, f"holds {key!r}, which is no record path")
            entries.append((key, entry["v"], entry["t"]))
            previous = key
        return entries

    def _note(self, cid: bytes, what: str) -> None:
        self._found.problems.append(f"tree node {text(cid)} {what}")


def _height(key: str) -> int:
    number = int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")
    return (256 - number.bit_length()) // 2
