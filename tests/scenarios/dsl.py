"""The words in which a scenario is written: actors, events, and what rows they leave behind.

A scenario is data: steps in order, the rows expected in the tables it is about, and the ops
that end as dead letters. Every DID and handle in it ends in ``-zzzz``, which each run of a
scenario replaces by a number of its own (``run.bind``): so any number of runs share one
database, and all rows of a run are found by its number.

Events are numbered from 1 in the order of the steps. Event ``n`` has the time ``T(n)`` and a
commit the rev ``R(n)``; the records' ``createdAt`` is before all of them unless given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.collections import commits

Record = dict[str, Any]
Rows = dict[str, list[Record]]

MARK = "-zzzz"
"""What a run's own number replaces."""

CREATED = "2026-11-21T17:00:00.000Z"
"""``createdAt`` of records, hence ``sortAt`` of what they make, unless they say otherwise."""

COLLECTIONS = {
    name.rpartition(".")[2].lower(): name
    for name in (
        "app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.feed.repost",
        "app.bsky.feed.generator", "app.bsky.feed.threadgate", "app.bsky.feed.postgate",
        "app.bsky.graph.follow", "app.bsky.graph.block", "app.bsky.graph.list",
        "app.bsky.graph.listitem", "app.bsky.graph.listblock", "app.bsky.graph.starterpack",
        "app.bsky.graph.verification", "app.bsky.actor.profile", "app.bsky.actor.status",
    )
} | {
    "labeler": "app.bsky.labeler.service",
    "notifications": "app.bsky.notification.declaration",
    "chat": "chat.bsky.actor.declaration",
    "germ": "com.germnetwork.declaration",
}  # fmt: skip
"""Short names of the 19 collections; a path may also name any collection in full."""


class Actor(str):
    """A DID; ``ALICE / "post/1"`` is the uri of a record of hers."""

    __slots__ = ()

    def __truediv__(self, path: str) -> str:
        return f"at://{self}/{full_path(path)}"

    @property
    def handle(self) -> str:
        return f"{self.removeprefix('did:plc:')}.test"


def _actors(names: str) -> list[Actor]:
    return [Actor(f"did:plc:{name}{MARK}") for name in names.split()]


ALICE, BOB, CAROL, DAN, ERIN, FRANK, GRACE, HEIDI = _actors(
    "alice bob carol dan erin frank grace heidi"
)


def full_path(path: str) -> str:
    """``post/1`` with its collection in full."""
    name, slash, rest = path.partition("/")
    return f"{COLLECTIONS.get(name, name)}{slash}{rest}"


def T(number: int) -> str:  # noqa: N802
    """The time of the n-th event."""
    return f"2026-11-21T18:{number // 60:02d}:{number % 60:02d}.000Z"


def R(number: int) -> str:  # noqa: N802
    """The rev of the n-th event, if it is a commit."""
    return commits.tid(1_000 * number)


def cid(name: str = "x") -> str:
    """The CID of some record that is not shown, the run's own."""
    return f"CID<{name}>"


def op_cid(event: int, op: int = 0) -> str:
    """The CID of the record in the given op (from 0) of the n-th event."""
    return f"OP<{event}.{op}>"


def commit_cid(event: int) -> str:
    """The CID of the n-th event's commit."""
    return f"COMMIT<{event}>"


# Steps: events first.


@dataclass(frozen=True)
class Op:
    action: str
    path: str
    record: Record | bytes | None = None  # None: a delete
    carried: bool = True  # whether the block is in the frame


@dataclass(frozen=True)
class Event:
    did: str
    at: str | None = None  # the time, if not T(n)


@dataclass(frozen=True)
class Commit(Event):
    ops: tuple[Op, ...] = ()
    rev: str | None = None  # if not R(n)
    body: Record = field(default_factory=dict)  # fields of the message to replace


@dataclass(frozen=True)
class Account(Event):
    active: bool = True
    status: str | None = None


@dataclass(frozen=True)
class Identity(Event):
    pass


@dataclass(frozen=True)
class Sync(Event):
    rev: str | None = None
    body: Record = field(default_factory=dict)


@dataclass(frozen=True)
class Again:
    """Deliver the events ``first`` to ``last`` once more, with new seqs."""

    first: int
    last: int


@dataclass(frozen=True)
class Sql:
    """What others write: done when all events before are committed, and none after."""

    statement: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolve:
    """The identity role looks up what is due of these DIDs."""

    aliases: dict[str, str | None]  # as their documents say; None: no document, or a useless one
    points: dict[str, str]  # where handles point to


@dataclass(frozen=True)
class Gone:
    """The host confirms that the account is deleted."""

    did: str


Step = Event | Again | Sql | Resolve | Gone


@dataclass(frozen=True)
class Scenario:
    """``rows`` is complete for the tables it names; of each row the columns that are given.

    ``TABLE@TEXT`` is only the rows of a table that hold the text somewhere.
    """

    id: str
    why: str
    steps: tuple[Step, ...]
    rows: Rows
    lost: Sequence[tuple[str | None, str]] = ()

    @property
    def entry(self) -> int:
        """Which hazard it is about: the number in the id."""
        return int(self.id.split("-")[0][1:])


def scenario(id: str, why: str, *steps: Step, lost: Any = (), **rows: list[Record]) -> Scenario:
    """``lost`` are all dead letters, in pairs: path (short; None for a whole event) and reason."""
    dead = [(path and full_path(path), reason) for path, reason in lost]
    return Scenario(id, why, steps, rows, dead)


def C(path: str, record: bytes | None = None, /, **fields: Any) -> Op:  # noqa: N802
    """A create; the fields stand beside ``$type`` and, unless given, ``createdAt``."""
    return _write("create", path, record, fields)


def U(path: str, record: bytes | None = None, /, **fields: Any) -> Op:  # noqa: N802
    """An update."""
    return _write("update", path, record, fields)


def D(path: str) -> Op:  # noqa: N802
    """A delete."""
    return Op("delete", full_path(path))


def _write(action: str, path: str, record: bytes | None, fields: Record) -> Op:
    path = full_path(path)
    base: Record = {"$type": path.partition("/")[0], "createdAt": CREATED}
    if path.startswith(COLLECTIONS["post"]):
        base["text"] = ""
    made = {name: value for name, value in (base | fields).items() if value is not ...}
    return Op(action, path, made if record is None else record)


def commit(
    did: str,
    *ops: Op,
    at: str | None = None,
    rev: str | None = None,
    was: int | None = None,
    **body: Any,
) -> Commit:
    """``was`` gives it time and rev of another place: an event that comes too late."""
    if was is not None:
        at, rev = T(was), R(was)
    return Commit(did, at, ops, rev, body)


def account(
    did: str, *, active: bool = False, status: str | None = None, at: str | None = None
) -> Account:
    return Account(did, at, active, status)


def identity(did: str, *, at: str | None = None) -> Identity:
    return Identity(did, at)


def sync(did: str, *, rev: str | None = None, at: str | None = None, **body: Any) -> Sync:
    return Sync(did, at, rev, body)


def again(first: int, last: int | None = None) -> Again:
    return Again(first, last or first)


def resolve(aliases: dict[str, str | None], points: dict[str, str] | None = None) -> Resolve:
    """Look up what is due; handles point back to who has them as an alias unless given."""
    if points is None:
        points = {alias.lower(): did for did, alias in aliases.items() if alias}
    return Resolve(aliases, points)


def mute(did: str, root: str) -> Sql:
    """``did`` mutes the thread of ``root``."""
    statement = 'INSERT INTO thread_mute ("rootUri", "mutedByDid", "createdAt") VALUES ($1, $2, $3)'
    return Sql(statement, (root, did, CREATED))


def unmute(did: str, root: str) -> Sql:
    return Sql('DELETE FROM thread_mute WHERE "rootUri" = $1 AND "mutedByDid" = $2', (root, did))


# Parts of records.


def ref(uri: str, named: str = "x") -> Record:
    """A strong reference; the CID is that of ``cid(named)``."""
    return {"uri": uri, "cid": cid(named)}


def reply(parent: str, root: str | None = None) -> Record:
    """The ``reply`` of a post; the root is the parent unless given."""
    return {"root": ref(root or parent), "parent": ref(parent)}


def quoting(uri: str, named: str = "x") -> Record:
    """An embed that quotes."""
    return {"$type": "app.bsky.embed.record", "record": ref(uri, named)}


def mentions(*dids: str) -> list[Record]:
    """Facets, one for each DID."""
    feature = "app.bsky.richtext.facet#mention"
    index = {"byteStart": 0, "byteEnd": 1}
    return [{"index": index, "features": [{"$type": feature, "did": did}]} for did in dids]


def blob(name: str = "blob", mime: str = "image/png") -> Record:
    return {"$type": "blob", "ref": blob_link(name), "mimeType": mime, "size": 9}


def blob_link(name: str) -> bytes:
    return b"\x01\x55\x12\x20" + name.encode().ljust(32, b".")


def blob_cid(name: str = "blob") -> str:
    return commits.cid_text(blob_link(name))
