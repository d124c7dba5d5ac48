"""What crosses Redis: the envelope of a stream entry, declared once.

An entry is one version byte followed by one MessagePack array. The array
starts with the kind (the struct's tag), then the fields in the order below.
Rust mirrors this file in ``native/src/entry.rs``; golden bytes in
``tests/golden/entries`` are written by each side and read by the other.

A new field goes at the end with a default; a changed meaning needs a new
version. A reader that meets an unknown version stops (``UnknownEnvelope``): the
entry is from a newer producer, not bad data. CIDs are in binary form.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

VERSION = 1
"""First byte of every entry."""


class Action(IntEnum):
    """What an op does to its record."""

    CREATE = 0
    UPDATE = 1
    DELETE = 2


class Reason(StrEnum):
    """Why an op, event or frame was rejected: a closed set, mirrored in Rust.

    The words are what an operator meets in ``dead_letter.reason``, in metrics
    and in logs. Order is the wire code.
    """

    BAD_HEADER = "bad_header"
    BAD_BODY = "bad_body"
    BAD_FIELD = "bad_field"
    TOO_BIG = "too_big"
    TOO_MANY_OPS = "too_many_ops"
    BAD_CAR = "bad_car"
    BAD_BLOCK_HASH = "bad_block_hash"
    UNKNOWN_ACTION = "unknown_action"
    BAD_PATH = "bad_path"
    MISSING_BLOCK = "missing_block"
    BAD_CBOR = "bad_cbor"
    INVALID_RECORD = "invalid_record"
    UNSAFE_INTEGER = "unsafe_integer"
    NUL_IN_TEXT = "nul_in_text"
    BAD_URI = "bad_uri"
    CREATOR_MISMATCH = "creator_mismatch"
    GATE_MISMATCH = "gate_mismatch"
    KEY_OCCUPIED = "key_occupied"
    REV_IN_FUTURE = "rev_in_future"
    BAD_STATUS = "bad_status"
    REFUSED_BY_DATABASE = "refused_by_database"
    BAD_SIGNATURE = "bad_signature"
    FOREIGN_SOURCE = "foreign_source"


class Op(msgspec.Struct, frozen=True, array_like=True):
    """One change of one record."""

    action: int  # Action
    path: str  # collection/rkey, as the relay sent it
    cid: bytes | None  # of the new record; None for a delete
    prev: bytes | None  # CID that the op replaces, where the relay sent it
    record: bytes | None  # the record's original DAG-CBOR block; None for a delete


class RejectedOp(msgspec.Struct, frozen=True, array_like=True):
    """One op that the ingester could not carry; its siblings are unharmed."""

    reason: int  # position in Reason
    path: str
    cid: bytes | None


class Block(msgspec.Struct, frozen=True, array_like=True):
    """One block carried for verification downstream (commit, MST nodes)."""

    cid: bytes
    data: bytes


class Commit(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One commit of one repository, ops in commit order."""

    relay: str  # canonical host
    generation: int  # of the relay's seq numbers, counted from 1
    seq: int
    did: str
    time: str  # the frame's time, verbatim
    rev: str
    since: str | None  # rev of the previous commit as the relay says
    commit: bytes  # CID of the signed commit
    data: bytes | None  # CID of the MST root; None if the commit block is absent
    prev_data: bytes | None
    part: int  # 0-based; a commit is one entry, hence part 0 of 1
    parts: int
    filtered: int  # ops left out by the collection filter
    ops: list[Op]
    rejected: list[RejectedOp]
    blocks: list[Block]  # empty until commits are verified downstream


class Sync(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The repository is now at this rev, whatever came before."""

    relay: str
    generation: int
    seq: int
    did: str
    time: str
    rev: str
    commit: bytes  # the single root of the frame's CAR
    blocks: list[Block]


class Identity(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Look the DID's document and handle up again."""

    relay: str
    generation: int
    seq: int
    did: str
    time: str
    handle: str | None  # a hint that nothing relies on


class Account(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The account's status at its host."""

    relay: str
    generation: int
    seq: int
    did: str
    time: str
    active: bool
    status: str | None


class RejectedFrame(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A frame that could not be read, on its way to the dead letters.

    It goes to the shard of its DID, or of the relay's host where no DID was
    readable.
    """

    relay: str
    generation: int
    seq: int | None
    did: str | None
    reason: int  # position in Reason
    detail: str
    ops: int  # how many ops it stands for in the accounts, at least 1
    raw: bytes  # the frame, cut at RAW_LIMIT_BYTES


class SliceRecord(msgspec.Struct, frozen=True, array_like=True):
    """One record of a repository's snapshot."""

    path: str  # collection/rkey: its key in the tree
    cid: bytes
    record: bytes  # the original DAG-CBOR block


class Slice(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """What a fetched repository holds in one range of its keys, in ascending key order.

    The slices of one fetch come in key order and adjoin: the first begins without ``after``,
    the last ends without ``through``, and one `Closing` follows them. A repository without
    records is one empty slice.
    """

    did: str
    fetch_id: int  # of the fetch that ``headrace.repo`` waits for; others are skipped
    rev: str  # of the snapshot
    after: str | None  # the range begins behind this key; None: at the first
    through: str | None  # and ends with this one; None: with the last
    collections: list[str]  # the allow-list that was applied; empty: everything
    filtered: int  # records of the range that it left out
    notify: bool  # whether its records tell their notifications
    records: list[SliceRecord]
    rejected: list[RejectedOp]  # records that could not be carried


class Closing(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Every slice of a fetch is before this entry: the repository was then at this rev."""

    did: str
    fetch_id: int
    rev: str
    commit: bytes  # CID of the signed commit
    data: bytes  # CID of the MST root
    records: int  # leaves of the tree, those left out by an allow-list too


RAW_LIMIT_BYTES = 256 * 1024
"""A dead letter keeps this much of a frame: enough to study, too little to flood the stream."""

Event = Commit | Sync | Identity | Account | RejectedFrame
"""What a relay's frames become: entries of the live streams."""

Entry = Event | Slice | Closing

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


def weight(entry: Entry) -> int:
    """Events an entry counts for in stream lengths and high water marks.

    That is its ops, or a slice's records, but one at least.
    """
    match entry:
        case Commit():
            return max(1, len(entry.ops))
        case Slice():
            return max(1, len(entry.records))
        case _:
            return 1


def encode(entry: Entry) -> bytes:
    """One stream entry as bytes."""
    return bytes((VERSION,)) + _encoder.encode(entry)


def decode(data: bytes) -> Entry:
    """Read one stream entry.

    For tools and tests: the indexer reads entries in Rust.

    Raises:
        ValueError: an unknown version, or bytes that are not an entry.
    """
    if not data or data[0] != VERSION:
        found = data[0] if data else None
        raise ValueError(f"entry version {found}, this build reads {VERSION}")
    return _decoder.decode(memoryview(data)[1:])
