"""One simulated repository: records, tree, commits, and the frames that announce them.

Trees are real: node blocks, roots and ``prevData`` are what a PDS would publish.
**Commits are not signed**: ``sig`` is 64 zero bytes, which no verifier accepts.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import libipld

from engine.core import codec

NO_SIGNATURE = bytes(64)
_TID_LETTERS = "234567abcdefghijklmnopqrstuvwxyz"


def cid_of(block: bytes, content: int = 0x71) -> bytes:
    """Binary CID of a block: version 1, SHA-256; DAG-CBOR, or 0x55 for raw bytes."""
    return bytes((1, content, 0x12, 32)) + hashlib.sha256(block).digest()


def tid(microseconds: int, clock: int = 0) -> str:
    """A TID: 53 bits of microseconds since 1970 and 10 bits that tell clocks apart."""
    number = microseconds << 10 | clock & 1023
    return "".join(_TID_LETTERS[number >> shift & 31] for shift in range(60, -1, -5))


def encode(value: object) -> bytes:
    """DAG-CBOR. Bytes that are a binary CID become a link."""
    return bytes(libipld.encode_dag_cbor(value))


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
class Repository:
    """The state of one account's repository at its host."""

    did: str
    records: dict[str, bytes] = field(default_factory=dict)  # path -> block
    rev: str | None = None
    root: bytes | None = None  # of the tree
    head: bytes = b""  # CID of the last commit
    _paths: list[str] = field(default_factory=list)  # sorted
    _cids: dict[str, bytes] = field(default_factory=dict)
    _nodes: dict[bytes, bytes] = field(default_factory=dict)
    _commit: bytes = b""

    def commit(self, writes: list[Write], rev: str, seq: int, time: str) -> bytes:
        """Apply writes as one commit; its frame.

        The frame's CAR holds the commit, the tree nodes that are new, and the
        records, as a host sends them.
        """
        ops: list[dict[str, Any]] = []
        carried: list[tuple[bytes, bytes]] = []
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
                carried.append((cid, write.record))
        since, previous = self.rev, self.root
        fresh = self._seal(rev)
        body: dict[str, Any] = {
            "seq": seq,
            "repo": self.did,
            "time": time,
            "rev": rev,
            "since": since,
            "commit": self.head,
            "blocks": car(self.head, [(self.head, self._commit), *fresh, *carried]),
            "ops": ops,
            "blobs": [],
            "rebase": False,
            "tooBig": False,
        }
        if previous is not None:
            body["prevData"] = previous
        return message("#commit", body)

    def sync(self, rev: str, seq: int, time: str) -> bytes:
        """State the repository's head anew, as after its creation; the frame."""
        self._seal(rev)
        blocks = car(self.head, [(self.head, self._commit)])
        body = {"seq": seq, "did": self.did, "time": time, "rev": rev, "blocks": blocks}
        return message("#sync", body)

    def export(self) -> bytes:
        """The whole repository as ``getRepo`` returns it: commit, nodes, records."""
        records = ((self._cids[path], self.records[path]) for path in self._paths)
        return car(self.head, [(self.head, self._commit), *self._nodes.items(), *records])

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

    def _seal(self, rev: str) -> list[tuple[bytes, bytes]]:
        """Build the tree and the commit over it; the nodes that are new."""
        self.root, nodes = codec.build_mst([(path, self._cids[path]) for path in self._paths])
        fresh = [(cid, block) for cid, block in nodes if cid not in self._nodes]
        self._nodes = dict(nodes)
        self.rev = rev
        self._commit = encode(
            {
                "did": self.did,
                "version": 3,
                "data": self.root,
                "rev": rev,
                "prev": None,
                "sig": NO_SIGNATURE,
            }
        )
        self.head = cid_of(self._commit)
        return fresh
