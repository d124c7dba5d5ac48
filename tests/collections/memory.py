"""A database of dictionaries that does what a fold says: the fold's partner in tests.

It answers every look-up and does every statement as Postgres would, and takes no row that
Postgres would refuse.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.collections.declare import Plan, Table
from engine.core import codec
from tests.collections.answers import Answers
from tests.collections.copying import read_array, read_copy
from tests.collections.store import Exists, Row, Store

CLOCK = "NOW"
"""Stands for what is by the wall clock, in ``Memory.dump``."""

_BOOLEANS = {"true": True, "false": False, None: None}
_OTHERS = {
    "post_agg": ("uri",),
    "profile_agg": ("did",),
    "op_thread_reply": ("rootUri", "uri"),
    "actor": ("did",),
    "actor_sync": ("did",),
}
QUOTES_BY = {"delete_quote": "uri", "delete_quotes_of": "subject"}
"""Deletes that also count, and the column of their keys."""

OTHER_DELETES = {
    "delete_feed_items_of": ("feed_item", "postUri"),
    "delete_notifications_of": ("notification", "recordUri"),
}

Arrays = list[list[str | None]]


class Memory:
    """Every table that a fold writes, and what is held beside them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan.tables()
        self._store = Store()
        unique = {each.table.name: each.unique for each in plan.collections if each.table}
        for name, table in self._plan.items():
            self._store.add(name, table.key, unique.get(name, ()))
        for name, key in _OTHERS.items():
            self._store.add(name, key)
        self.tables = self._store.tables
        self.repos: dict[str, list[Any]] = {}
        self.due: dict[str, list[Any]] = {}
        self.deletions: dict[str | None, list[str | None]] = {}
        """Accounts called deleted; nobody confirms it here."""
        self.quote_count: Counter[str] = Counter()
        self.dead: list[Row] = []
        self.held: dict[int, dict[str, int]] = defaultdict(dict)
        self.counts: Counter[str] = Counter()
        """Ops by outcome."""
        self.distrusted = 0
        """Batches in which a create was of something that existed."""
        self.mutes: set[tuple[str, str]] = set()
        self.latest: dict[int, int] = {}
        """The latest T of a post or gate by shard, in milliseconds since 1970."""
        self.unsettled: dict[int, tuple[int, str, bool]] = {}
        """By number: shard, uri, whether it is a post with an invalid root."""
        self._noted = 0
        self.answers = Answers(self.tables, self.repos, self.due, self.mutes, self.latest)

    def write(self, changes: codec.Changes) -> None:
        """Do everything, in order, or nothing.

        Raises:
            Exists: a new row is there already.
        """
        counted = self.quote_count.copy()
        try:
            with self._store.transaction():
                self._write(changes)
        except Exists:
            self.quote_count = counted
            raise
        for shard, source, seq, counts in changes.tally():
            assert seq is not None
            assert seq >= self.held[shard].get(source, 0)
            self.held[shard][source] = seq
            self.counts.update(counts)

    def _write(self, changes: codec.Changes) -> None:
        for name, parameters in changes.deletes():
            keys = [key for key in read_array(parameters[0]) if key is not None]
            assert keys == _sorted(set(keys)), name
            if name in QUOTES_BY:
                for row in self.tables["quote"].delete(QUOTES_BY[name], set(keys)):
                    self.quote_count[row["subjectCid"]] -= 1
                continue
            if name == "delete_told":
                for number in keys:
                    self.tables["notification"].discard(int(number))
                continue
            own = name.removeprefix("delete_")
            table, column = OTHER_DELETES.get(name) or (own, self._plan[own].key[0])
            self.tables[table].delete(column, set(keys))
        for name, data, count in changes.copies():
            self._copy(self._plan[name], data, count)
        for name, parameters in changes.statements():
            arrays = [read_array(parameter) for parameter in parameters]
            STATEMENTS[name](self, arrays)

    def _copy(self, table: Table, data: bytes, count: int) -> None:
        names = [column.name for column in table.columns]
        read = read_copy(data, [column.type for column in table.columns])
        assert len(read) == count
        keys = []
        for values in read:
            row = dict(zip(names, values, strict=True))
            self.tables[table.name].insert(row)
            keys.append(tuple(row[name] for name in table.key))
        # Side rows of a post come in the order in which it has them.
        firsts = [key[:1] for key in keys]
        assert firsts == sorted(firsts, key=lambda key: [part.encode() for part in key])

    def resolve(self, handles: Callable[[str], str | None], dids: Iterable[str] = ()) -> None:
        """What the identity role does with all that is due, or with these DIDs.

        Args:
            handles: DID -> its handle if that points back; LookupError where nothing is found out.
            dids: in the order of the look-ups.
        """
        for did in list(dids or self.due):
            if did not in self.due:
                continue
            try:
                handle = handles(did)
            except LookupError:
                continue
            if handle is not None:
                for row in self.tables["actor"].where(("handle",), (handle,)):
                    self.tables["actor"].update((row["did"],), {"handle": None})
            at = self.due.pop(did)[1]
            self.tables["actor"].update((did,), {"handle": handle, "indexedAt": at})

    def dump(self, now: float) -> dict[str, list[Row]]:
        """Every row, whole; texts of the clock ``now`` are ``CLOCK``."""
        text = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        clock = text.replace("+00:00", "Z")

        def masked(row: Row) -> Row:
            return {name: CLOCK if value == clock else value for name, value in row.items()}

        return {name: list(map(masked, each.rows.values())) for name, each in self.tables.items()}


def _sorted(keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=str.encode)


def _rows(arrays: Arrays) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement that may not name a key twice, and names them in byte order."""
    rows = list(zip(*arrays, strict=True))
    keys = [str(row[0]) for row in rows]
    assert keys == _sorted(keys)
    return iter(rows)


def _update_record(memory: Memory, arrays: Arrays) -> None:
    columns = [c.name for c in memory._plan["record"].columns if c.name != "did"]
    for row in _rows(arrays):
        values = dict(zip(columns, row, strict=True))
        assert memory.tables["record"].update((row[0],), values)


def _upsert_repos(memory: Memory, arrays: Arrays) -> None:
    for did, *values in _rows(arrays):
        memory.repos[did] = [*values[:4], _BOOLEANS[values[4]], values[5]]


def _insert_actors(memory: Memory, arrays: Arrays) -> None:
    for did, time, status in _rows(arrays):
        memory.tables["actor"].insert({"did": did, "indexedAt": time, "upstreamStatus": status})


def _update_actor_status(memory: Memory, arrays: Arrays) -> None:
    for did, status in _rows(arrays):
        assert memory.tables["actor"].update((did,), {"upstreamStatus": status})


def _upsert_actor_sync(memory: Memory, arrays: Arrays) -> None:
    table = memory.tables["actor_sync"]
    for did, commit, rev in _rows(arrays):
        held = table.get(did)
        assert held is None or rev >= held["repoRev"]
        values = {"did": did, "commitCid": commit, "repoRev": rev}
        if not table.update((did,), values):
            table.insert(values)


def _upsert_identity_due(memory: Memory, arrays: Arrays) -> None:
    for did, seq, time, forced in _rows(arrays):
        due = memory.due.get(did)
        memory.due[did] = [int(seq), time, forced == "true" or bool(due and due[2])]


def _upsert_deletions(memory: Memory, arrays: Arrays) -> None:
    memory.deletions.update({did: asked for did, *asked in zip(*arrays, strict=True)})


def _insert_dead_letters(memory: Memory, arrays: Arrays) -> None:
    names = "source shard relay generation seq did path cid reason error raw".split()
    memory.dead.extend(dict(zip(names, row, strict=True)) for row in zip(*arrays, strict=True))


def _mark(column: str) -> Callable[[Memory, Arrays], None]:
    def mark(memory: Memory, arrays: Arrays) -> None:
        for uri, there in _rows(arrays):
            memory.tables["post"].update((uri,), {column: _BOOLEANS[there]})

    return mark


def _judge(*columns: str) -> Callable[[Memory, Arrays], None]:
    def judge(memory: Memory, arrays: Arrays) -> None:
        for uri, *flags in _rows(arrays):
            values = dict(zip(columns, (_BOOLEANS[flag] for flag in flags), strict=True))
            assert memory.tables["post"].update((uri,), values)

    return judge


def _advance_latest(memory: Memory, arrays: Arrays) -> None:
    for shard, millis in zip(*arrays, strict=True):
        at = int(shard or 0)
        memory.latest[at] = max(memory.latest.get(at, int(millis or 0)), int(millis or 0))


def _insert_unsettled(memory: Memory, arrays: Arrays) -> None:
    for shard, uri, invalid in zip(*arrays, strict=True):
        memory._noted += 1
        memory.unsettled[memory._noted] = (int(shard or 0), uri or "", invalid == "true")


def _delete_op_thread_replies(memory: Memory, arrays: Arrays) -> None:
    for root, uri, at in _rows(arrays):
        memory.tables["op_thread_reply"].update((root, uri), {"deletedAt": at})


def _insert_op_thread_replies(memory: Memory, arrays: Arrays) -> None:
    table = memory.tables["op_thread_reply"]
    for root, parent, uri, at in _rows(arrays):
        if table.get(root, uri) is None:
            table.insert({"rootUri": root, "parentUri": parent, "uri": uri, "deletedAt": at})
        elif at is not None:
            table.update((root, uri), {"deletedAt": at})


def _add(table: str, *columns: str) -> Callable[[Memory, Arrays], None]:
    def add(memory: Memory, arrays: Arrays) -> None:
        rows = memory.tables[table]
        for key, *counts in _rows(arrays):
            added = dict(zip(columns, map(int, counts), strict=True))
            held = rows.get(key)
            if held is None:
                rows.insert({rows.key[0]: key, **added})
            else:
                rows.update((key,), {name: held[name] + more for name, more in added.items()})

    return add


def _set_quote_counts(memory: Memory, arrays: Arrays) -> None:
    changed = {cid: int(count or 0) for cid, count in _rows(arrays[:2])}
    before = memory.quote_count.copy()
    memory.quote_count.update(changed)
    for uri, cid, count in _rows(arrays[2:]):
        assert cid in changed
        values = {"quoteCount": before[cid] + int(count)}
        assert memory.tables["post_agg"].update((uri,), values)


STATEMENTS: dict[str, Callable[[Memory, Arrays], None]] = {
    "update_record": _update_record,
    "upsert_repos": _upsert_repos,
    "insert_actors": _insert_actors,
    "update_actor_status": _update_actor_status,
    "upsert_actor_sync": _upsert_actor_sync,
    "upsert_identity_due": _upsert_identity_due,
    "upsert_deletions": _upsert_deletions,
    "insert_dead_letters": _insert_dead_letters,
    "mark_thread_gates": _mark("hasThreadGate"),
    "mark_post_gates": _mark("hasPostGate"),
    "judge_replies": _judge("invalidReplyRoot", "violatesThreadGate"),
    "judge_quotes": _judge("violatesEmbeddingRules"),
    "advance_latest": _advance_latest,
    "insert_unsettled": _insert_unsettled,
    "delete_op_thread_replies": _delete_op_thread_replies,
    "insert_op_thread_replies": _insert_op_thread_replies,
    "add_post_counts": _add("post_agg", "likeCount", "replyCount", "repostCount"),
    "add_profile_counts": _add("profile_agg", "followersCount", "followsCount", "postsCount"),
    "set_quote_counts": _set_quote_counts,
}


@dataclass(frozen=True)
class Done:
    """What one batch did."""

    changes: codec.Changes
    taken: dict[int, int]
    """Entries of each shard that were taken."""


def index(
    plan: codec.Plan,
    memory: Memory,
    shards: Iterable[tuple[int, list[bytes]]],
    *,
    now: float,
    cut: frozenset[int] = frozenset(),
    voided: Callable[[dict[int, int]], list[tuple[int, str]]] = lambda taken: [],
    trusting: bool = True,
) -> Done:
    """Decode, look up, fold and write one batch, as the indexer does.

    Args:
        now: unix seconds.
        cut: shards of which more waits.
        voided: what the database refuses, of the entries that are taken of each shard: the
            number of each op in the batch, and why.
        trusting: creates are believed, until one of them exists.
    """
    held = [(shard, dict(memory.held[shard]), list(e), shard in cut) for shard, e in shards]
    batch = plan.decode(held, now=now)
    taken = {shard: entries for shard, entries, *_ in batch.weights()}
    refused = voided(taken)
    while True:
        known = batch.known(trusting=trusting)
        while wanted := known.wanted():
            known.learn([(name, memory.answers.lookup(name, args)) for name, args in wanted])
        changes = batch.fold(known, refused)
        try:
            memory.write(changes)
            break
        except Exists:
            assert trusting, "everything was looked up"
            memory.distrusted += 1
            trusting = False
    assert sum(sum(counts.values()) for *_, counts in changes.tally()) == batch.ops
    return Done(changes, taken)
