"""One simulated repository: records, tree, commits, and the frames that announce them.

Trees, signatures, ``prevData`` and proofs are what a PDS would publish (sync 1.1 of the
repository specification): each frame can be verified on its own, and each export as a whole.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import libipld

from engine.core import codec
from engine.simulate.keys import Key

_TID_LETTERS = "234567abcdefghijklmnopqrstuvwxyz"


def cid_of(block: bytes, content: int = 0x71) -> bytes:
    """Binary CID of a block: version 1, SHA-256; DAG-CBOR, or 0x55 for raw bytes."""
    return bytes((1, content, 0x12, 32)) + hashlib.sha256(block).digest()


def tid(microseconds: int, clock: int = 0) -> str:
    """A TID: 53 bits of microseconds since 1970 and 10 bits that tell clocks apart."""
    number = microseconds << 10 | clock & 1023
    return "".join(_TID_LETTERS[number >> shift & 31] for shift in range(60, -1, -5))


class Plain(bytes):
    """Bytes that are no link, even if they begin like a CID: one signature in some thousand."""


def encode(value: object) -> bytes:
    """DAG-CBOR. Bytes that are, or begin with, a binary CID become a link."""
    return bytes(libipld.encode_dag_cbor(value))


def encode_plain(value: object) -> bytes:
    """DAG-CBOR, with `Plain` bytes as what they are."""
    if isinstance(value, Plain):
        return _head(2, len(value)) + value
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(encode_plain(one) for one in value)
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: (len(name.encode()), name.encode()))
        parts = [encode(name) + encode_plain(value[name]) for name in names]
        return _head(5, len(parts)) + b"".join(parts)
    return encode(value)


def _head(major: int, length: int) -> bytes:
    if length < 24:
        return bytes((major << 5 | length,))
    if length < 256:
        return bytes((major << 5 | 24, length))
    return bytes((major << 5 | 25,)) + length.to_bytes(2, "big")


def car(root: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A CAR of version 1 with one root."""
    header = encode({"roots": [root], "version": 1})
    parts = [_varint(len(header)), header]
    for cid, block in blocks:
        parts += (_varint(len(cid) + len(block)), cid, block)
    return b"".join(parts)


def message(kind: str, body: dict[str, Any]) -> bytes:
    """A ``subscribeRepos`` frame."""
    return encode({"op": 1, "t": kind}) + encode(body)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


@dataclass(frozen=True)
class Write:
    """One op to commit. ``record`` is None for a delete."""

    path: str
    record: bytes | None
    present: bool = True  # False: the frame names the record but does not carry it


@dataclass
class Draft:
    """A commit about to be announced; what may be damaged on its way."""

    body: dict[str, Any]  # of the frame, but for `commit` and `blocks`
    fields: dict[str, Any]  # of the commit block
    blocks: dict[bytes, bytes]  # without the commit
    records: list[bytes]  # those of `blocks` that are records
    earlier: tuple[str, bytes] | None  # rev and tree of the commit before the one before
    key: Key

    def frame(self) -> bytes:
        """The ``#commit`` message."""
        block = encode_plain(self.fields)
        cid = cid_of(block)
        blocks = car(cid, [(cid, block), *self.blocks.items()])
        return message("#commit", {**self.body, "commit": cid, "blocks": blocks})

    def announce_rev(self, microseconds: int) -> None:
        """Say another rev, in the commit and the frame alike, and sign it."""
        self.body["rev"] = self.fields["rev"] = tid(microseconds)
        self.fields = _signed(self.fields, self.key)


def _signed(fields: dict[str, Any], key: Key) -> dict[str, Any]:
    unsigned = {name: value for name, value in fields.items() if name != "sig"}
    return {**unsigned, "sig": Plain(key.sign(encode(unsigned)))}


@dataclass
class Repository:
    """The state of one account's repository at its host."""

    did: str
    key: Key
    records: dict[str, bytes] = field(default_factory=dict)  # path -> block
    rev: str | None = None
    root: bytes | None = None  # of the tree
    head: bytes = b""  # CID of the last commit
    _paths: list[str] = field(default_factory=list)  # sorted
    _cids: dict[str, bytes] = field(default_factory=dict)
    _nodes: dict[bytes, bytes] = field(default_factory=dict)
    _commit: dict[str, Any] = field(default_factory=dict)
    _earlier: tuple[str, bytes] | None = None

    def commit(self, writes: list[Write], rev: str, seq: int, time: str) -> Draft:
        """Apply writes as one commit; what its frame says.

        The CAR holds the tree nodes that are new, the proof of every op, and the
        records, as a host sends them.
        """
        ops: list[dict[str, Any]] = []
        carried: dict[bytes, bytes] = {}
        for write in writes:
            old = self._cids.get(write.path)
            cid = None if write.record is None else cid_of(write.record)
            action = "delete" if cid is None else "update" if old else "create"
            op: dict[str, Any] = {"action": action, "path": write.path, "cid": cid}
            if old is not None:
                op["prev"] = old
            ops.append(op)
            self._set(write.path, cid, write.record)
            if cid is not None and write.record is not None and write.present:
                carried[cid] = write.record
        since, previous, earlier = self.rev, self.root, self._earlier
        shown = self._seal(rev)
        shown |= {cid: self._nodes[cid] for cid in self._proof([op["path"] for op in ops])}
        body: dict[str, Any] = {
            "seq": seq,
            "repo": self.did,
            "time": time,
            "rev": rev,
            "since": since,
            "ops": ops,
            "blobs": [],
            "rebase": False,
            "tooBig": False,
        }
        if previous is not None:
            body["prevData"] = previous
        return Draft(body, dict(self._commit), shown | carried, list(carried), earlier, self.key)

    def sync(self, seq: int, time: str) -> bytes:
        """State the repository's head, as after its creation or a return; the frame."""
        blocks = car(self.head, [(self.head, encode_plain(self._commit))])
        body = {"seq": seq, "did": self.did, "time": time, "rev": self.rev, "blocks": blocks}
        return message("#sync", body)

    def export(self) -> bytes:
        """The whole repository as ``getRepo`` returns it: commit, nodes, records."""
        records = ((self._cids[path], self.records[path]) for path in self._paths)
        commit = (self.head, encode_plain(self._commit))
        return car(self.head, [commit, *self._nodes.items(), *records])

    def _set(self, path: str, cid: bytes | None, record: bytes | None) -> None:
        if cid is None or record is None:
            if self._cids.pop(path, None) is not None:
                del self._paths[bisect_left(self._paths, path)]
                del self.records[path]
            return
        if path not in self._cids:
            insort(self._paths, path)
        self._cids[path] = cid
        self.records[path] = record

    def _seal(self, rev: str) -> dict[bytes, bytes]:
        """Build the tree and the commit over it; the nodes that are new."""
        if self.rev is not None and self.root is not None:
            self._earlier = (self.rev, self.root)
        self.root, nodes = codec.build_mst([(path, self._cids[path]) for path in self._paths])
        # The root comes last, and stays even where an earlier tree had it too.
        fresh = {cid: block for cid, block in nodes if cid not in self._nodes or cid == self.root}
        self._nodes = dict(nodes)
        self.rev = rev
        unsigned = {
            "did": self.did,
            "version": 3,
            "data": self.root,
            "rev": rev,
            "prev": None,
        }
        self._commit = _signed(unsigned, self.key)
        self.head = cid_of(encode_plain(self._commit))
        return fresh

    def _proof(self, paths: list[str]) -> list[bytes]:
        assert self.root is not None
        proof = codec.mst_proof(self.root, list(self._nodes.items()), paths)
        assert isinstance(proof, list), proof  # the tree is our own
        return proof
