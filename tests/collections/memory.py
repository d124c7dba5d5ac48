"""A database of dictionaries that does what a fold says: the fold's partner in tests.

Its readers of PGCOPY and of array literals share nothing with the code that writes them.
"""

from __future__ import annotations

import json
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from engine.collections.declare import Plan, Table, Type
from engine.core import codec

Row = dict[str, Any]
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def read_copy(data: bytes, types: list[str]) -> list[list[Any]]:
    """The rows of a binary COPY; jsonb decoded, arrays as lists."""
    assert data.startswith(_HEADER)
    rows: list[list[Any]] = []
    at = len(_HEADER)
    while True:
        (fields,) = struct.unpack_from(">h", data, at)
        at += 2
        if fields == -1:
            assert at == len(data)
            return rows
        assert fields == len(types)
        row: list[Any] = []
        for kind in types:
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            if length == -1:
                row.append(None)
                continue
            row.append(_read_field(data[at : at + length], kind))
            at += length
        rows.append(row)


def _read_field(field: bytes, kind: str) -> Any:
    if kind == Type.JSONB:
        assert field[0] == 1
        return json.loads(field[1:])
    if kind not in (Type.TEXTS, Type.VARCHARS):
        return field.decode()
    dimensions, has_null, oid = struct.unpack_from(">iiI", field)
    assert (dimensions, has_null, oid) == (1, 0, 1043 if kind == Type.VARCHARS else 25)
    count, first = struct.unpack_from(">ii", field, 12)
    assert first == 1
    items, at = [], 20
    for _ in range(count):
        (length,) = struct.unpack_from(">i", field, at)
        items.append(field[at + 4 : at + 4 + length].decode())
        at += 4 + length
    assert at == len(field)
    return items


def read_array(literal: str) -> list[str | None]:
    """The elements of a one-dimensional array literal."""
    assert literal[0] == "{"
    assert literal[-1] == "}"
    items: list[str | None] = []
    at = 1
    while at < len(literal) - 1:
        if literal[at] == ",":
            at += 1
        elif literal.startswith("NULL", at):
            items.append(None)
            at += 4
        else:
            assert literal[at] == '"'
            at += 1
            item = []
            while literal[at] != '"':
                at += literal[at] == "\\"
                item.append(literal[at])
                at += 1
            items.append("".join(item))
            at += 1
    return items


class Memory:
    """Tables as dictionaries; unique keys checked as Postgres would."""

    def __init__(self, plan: Plan) -> None:
        self.tables: dict[str, dict[tuple[str, ...], Row]] = defaultdict(dict)
        self.repos: dict[str, list[Any]] = {}
        self.actors: dict[str, Row] = {}
        self.actor_sync: dict[str, tuple[str, str]] = {}
        self.due: dict[str, list[Any]] = {}
        self.dead: list[Row] = []
        self.held: dict[int, dict[str, int]] = defaultdict(dict)
        self.counts: Counter[str] = Counter()
        self._plan = plan.tables()
        self._unique = {
            collection.table.name: collection.unique
            for collection in plan.collections
            if collection.table
        }

    def key_of(self, table: Table, row: Row) -> tuple[str, ...]:
        return tuple(row[name] for name in table.key)

    def lookup(self, name: str, parameters: list[str]) -> str:
        """The answer to one look-up, as Postgres would give it."""
        arrays = [read_array(parameter) for parameter in parameters]
        keys = [key for key in arrays[0] if key is not None]
        name = name.removeprefix("lookup_")
        found: list[list[Any]]
        if name == "repos":
            found = [[did, *self.repos[did]] for did in keys if did in self.repos]
        elif name == "actors":
            found = [self._actor(did) for did in keys if did in self.actors]
        elif name.endswith("_key"):
            found = self._holders(name.removesuffix("_key"), list(zip(*arrays, strict=True)))
        else:
            rows, unique = self.tables[name], self._unique.get(name, ())
            held = [rows[(uri,)] for uri in keys if (uri,) in rows]
            found = [[row["uri"], *(row[column] for column in unique)] for row in held]
        return json.dumps(found)

    def _actor(self, did: str) -> list[Any]:
        actor = self.actors[did]
        due = self.due.get(did)
        return [did, actor["handle"] is not None, actor["indexedAt"], due and due[1]]

    def _holders(self, table: str, wanted: list[tuple[str | None, ...]]) -> list[list[Any]]:
        unique = self._unique[table]
        held = {tuple(row[c] for c in unique): row["uri"] for row in self.tables[table].values()}
        return [[*key, held[key]] for key in wanted if key in held]

    def write(self, changes: codec.Changes) -> None:
        """Do everything, in order."""
        for name, parameters in changes.deletes():
            table = self._plan[name.removeprefix("delete_")]
            gone = set(read_array(parameters[0]))
            rows = self.tables[table.name]
            for key in [key for key in rows if key[0] in gone]:
                del rows[key]
        for name, data, count in changes.copies():
            self._copy(self._plan[name], data, count)
        for name, parameters in changes.statements():
            arrays = [read_array(parameter) for parameter in parameters]
            getattr(self, f"_{name}")(zip(*arrays, strict=True))
        for shard, source, seq, counts in changes.tally():
            assert seq is not None
            assert seq >= self.held[shard].get(source, 0)
            self.held[shard][source] = seq
            self.counts.update(counts)

    def resolve(self, identities: dict[str, dict[str, Any]]) -> None:
        """What the identity role does with all that is due."""
        for did, (_, time, _) in list(self.due.items()):
            document = identities["plc"].get(did)
            if document is None:
                continue
            handle = document["alsoKnownAs"][0].removeprefix("at://").lower()
            found = identities["handles"].get(handle) == did
            self.actors[did] |= {"handle": handle if found else None, "indexedAt": time}
            del self.due[did]

    def _copy(self, table: Table, data: bytes, count: int) -> None:
        names = [column.name for column in table.columns]
        read = read_copy(data, [column.type for column in table.columns])
        assert len(read) == count
        keys = []
        rows = self.tables[table.name]
        unique = self._unique.get(table.name, ())
        held = {tuple(row[c] for c in unique) for row in rows.values()} if unique else set()
        for values in read:
            row = dict(zip(names, values, strict=True))
            key = self.key_of(table, row)
            assert key not in rows, f"{table.name}: {key} twice"
            other = tuple(row[column] for column in unique)
            assert not unique or other not in held, f"{table.name}: {other} twice"
            held.add(other)
            rows[key] = row
            keys.append(key)
        assert keys == sorted(keys, key=lambda key: tuple(part.encode() for part in key))

    def _update_record(self, rows: Iterable[tuple[str, ...]]) -> None:
        columns = [c.name for c in self._plan["record"].columns if c.name != "did"]
        for row in rows:
            self.tables["record"][(row[0],)].update(zip(columns, row, strict=True))

    def _upsert_repos(self, rows: Iterable[tuple[str, ...]]) -> None:
        for did, *values in rows:
            bools = {"true": True, "false": False, None: None}
            self.repos[did] = [*values[:4], bools[values[4]], values[5]]

    def _insert_actors(self, rows: Iterable[tuple[str, ...]]) -> None:
        for did, time, status in rows:
            assert did not in self.actors
            self.actors[did] = {"handle": None, "indexedAt": time, "upstreamStatus": status}

    def _update_actor_status(self, rows: Iterable[tuple[str, ...]]) -> None:
        for did, status in rows:
            self.actors[did]["upstreamStatus"] = status

    def _upsert_actor_sync(self, rows: Iterable[tuple[str, ...]]) -> None:
        for did, commit, rev in rows:
            assert rev >= self.actor_sync.get(did, ("", ""))[1]
            self.actor_sync[did] = (commit, rev)

    def _upsert_identity_due(self, rows: Iterable[tuple[str, ...]]) -> None:
        for did, seq, time, forced in rows:
            due = self.due.get(did)
            self.due[did] = [int(seq), time, forced == "true" or bool(due and due[2])]

    def _insert_dead_letters(self, rows: Iterable[tuple[str, ...]]) -> None:
        names = "source shard relay generation seq did path cid reason error raw".split()
        self.dead.extend(dict(zip(names, row, strict=True)) for row in rows)


def index(
    plan: codec.Plan,
    memory: Memory,
    shards: list[tuple[int, list[bytes]]],
    *,
    now: float,
    voided: list[tuple[int, str]] | None = None,
) -> codec.Changes:
    """Decode, look up, fold and write one batch."""
    batch = plan.decode([(s, dict(memory.held[s]), list(e)) for s, e in shards], now=now)
    known = {name: memory.lookup(name, parameters) for name, parameters in batch.lookups()}
    changes = batch.fold(known, voided or [])
    assert sum(sum(counts.values()) for *_, counts in changes.tally()) == batch.ops
    memory.write(changes)
    return changes
