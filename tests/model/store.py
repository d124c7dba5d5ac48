"""Tables as dictionaries: what Postgres does for the model, and no more.

A row is a plain dictionary and never changed in place, so whoever holds one holds the old
version. Everything inside ``transaction`` is undone if it raises. Wall-clock values are the word
``NOW``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]

NOW = "NOW"
"""Stands for every value that the reference takes from its clock."""

_BY_URI = (
    "record", "post", "post_agg", "feed_item", "like", "repost", "follow", "actor_block", "list",
    "list_item", "list_block", "feed_generator", "starter_pack", "labeler", "profile",
    "thread_gate", "post_gate", "verification", "quote", "duplicate_record",
)  # fmt: skip

KEYS: dict[str, tuple[str, ...]] = dict.fromkeys(_BY_URI, ("uri",)) | {
    "actor": ("did",),
    "actor_sync": ("did",),
    "notification": ("id",),
    "op_thread_reply": ("rootUri", "uri"),
    "post_embed_external": ("postUri",),
    "post_embed_gallery_image": ("postUri", "position"),
    "post_embed_image": ("postUri", "position"),
    "post_embed_record": ("postUri", "embedUri"),
    "post_embed_video": ("postUri",),
    "profile_agg": ("did",),
}
"""Primary keys; the tables that events write."""

UNIQUE: dict[str, tuple[str, ...]] = {
    "like": ("subject", "creator"),
    "repost": ("creator", "subject"),
    "follow": ("creator", "subjectDid"),
    "actor_block": ("creator", "subjectDid"),
    "list_block": ("creator", "subjectUri"),
    "list_item": ("listUri", "subjectDid"),
    "thread_gate": ("postUri",),
    "post_gate": ("postUri",),
    "verification": ("subject", "creator"),
}


class Rejected(Exception):
    """The op is lost, with all that it did; its neighbours are not."""


def sort_at(row: Row) -> str:
    """The generated column: times are compared as text."""
    return min(str(row["createdAt"]), str(row["indexedAt"]))


class Tables:
    """All tables, empty at first."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, Row]] = {name: {} for name in KEYS}
        # (table, column) -> value -> keys; made when first asked for.
        self._indexes: dict[tuple[str, str], dict[Any, dict[Key, None]]] = {}
        self._undo: list[Callable[[], None]] = []
        self._ages: dict[tuple[str, Key], int] = {}
        self._next_age = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._undo.clear()
        try:
            yield
        except Rejected:
            while self._undo:
                self._undo.pop()()
            raise

    def get(self, table: str, *key: Any) -> Row | None:
        return self._rows[table].get(key)

    def all(self, table: str) -> list[Row]:
        return list(self._rows[table].values())

    def where(self, table: str, **equal: Any) -> list[Row]:
        """Rows with these values, oldest first."""
        column, value = next(iter(equal.items()))
        if (table, column) not in self._indexes:
            index: dict[Any, dict[Key, None]] = defaultdict(dict)
            for key, row in self._rows[table].items():
                index[row[column]][key] = None
            self._indexes[table, column] = index
        rows = self._rows[table]
        keys = self._indexes[table, column].get(value, ())
        return [
            row
            for key in sorted(keys, key=lambda key: self._ages[table, key])
            if all((row := rows[key])[name] == want for name, want in equal.items())
        ]

    def insert(self, table: str, row: Row) -> bool:
        """Insert or nothing: False if a unique key is taken."""
        _refuse_nul(table, row)
        self._next_age += 1
        if table == "notification":
            row = {"id": self._next_age, **row}
        key = _key(table, row)
        if key in self._rows[table]:
            return False
        unique = UNIQUE.get(table)
        if unique and self.where(table, **{name: row[name] for name in unique}):
            return False
        self._ages[table, key] = self._next_age
        self._put(table, key, row)
        self._undo.append(lambda: self._take(table, key))
        return True

    def update(self, table: str, row: Row, **values: Any) -> Row:
        """The new version of a row that is in the table."""
        key = _key(table, row)
        new = {**self._rows[table][key], **values}
        _refuse_nul(table, new)
        old = self._rows[table][key]
        self._take(table, key)
        self._put(table, key, new)

        def back() -> None:
            self._take(table, key)
            self._put(table, key, old)

        self._undo.append(back)
        return new

    def delete(self, table: str, row: Row) -> None:
        key = _key(table, row)
        old = self._rows[table][key]
        self._take(table, key)
        self._undo.append(lambda: self._put(table, key, old))

    def delete_where(self, table: str, **equal: Any) -> list[Row]:
        found = self.where(table, **equal)
        for row in found:
            self.delete(table, row)
        return found

    def _put(self, table: str, key: Key, row: Row) -> None:
        self._rows[table][key] = row
        for (name, column), index in self._indexes.items():
            if name == table:
                index[row[column]][key] = None

    def _take(self, table: str, key: Key) -> None:
        row = self._rows[table].pop(key)
        for (name, column), index in self._indexes.items():
            if name == table:
                del index[row[column]][key]


def _key(table: str, row: Row) -> Key:
    return tuple(row[name] for name in KEYS[table])


def _refuse_nul(table: str, row: Row) -> None:
    """Text cannot hold a NUL; the JSON text of a record has it escaped."""
    for value in row.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and "\0" in text:
                raise Rejected(f"NUL in {table}")
