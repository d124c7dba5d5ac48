"""Tables as dictionaries: what Postgres does for the fold in tests, and no more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.sql.catalogue import dataplane

Row = dict[str, Any]
Key = tuple[Any, ...]

_DEFAULTS = {"0": 0, "false": False}


class Exists(Exception):
    """A new row's unique key is taken."""


class Store:
    """All tables of a database, empty at first. A row is never changed in place."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self._undo: list[Callable[[], None]] = []

    def add(self, name: str, key: tuple[str, ...], unique: tuple[str, ...] = ()) -> None:
        self.tables[name] = Table(name, key, unique, self._undo)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is undone if it raises."""
        self._undo.clear()
        try:
            yield
        except BaseException:
            while self._undo:
                self._undo.pop()()
            raise


class Table:
    """Rows by primary key; without a key they are numbered."""

    def __init__(
        self,
        name: str,
        key: tuple[str, ...],
        unique: tuple[str, ...],
        undo: list[Callable[[], None]],
    ) -> None:
        self.name, self.key, self.unique = name, key, unique
        self.rows: dict[Key, Row] = {}
        self._ages: dict[Key, int] = {}
        self._undo = undo
        self._serial = 0
        # Columns -> values -> keys; made when first asked for.
        self._indexes: dict[tuple[str, ...], dict[Key, dict[Key, None]]] = {}
        self._empty: Row = {}
        self._generated: tuple[str, ...] = ()
        for column in dataplane()[name].columns.values():
            if column.generated:
                self._generated += (column.name,)
            elif not column.identity and "nextval" not in (column.default or ""):
                self._empty[column.name] = _DEFAULTS.get(column.default or "")

    def insert(self, values: Row) -> None:
        """One more row; what is not given has its default.

        Raises:
            Exists: the primary key or the other unique key is taken.
        """
        row = self._empty | values
        for name in self._generated:
            row[name] = min(row["createdAt"], row["indexedAt"])
        self._serial += 1
        key = tuple(row[name] for name in self.key) if self.key else (self._serial,)
        if key in self.rows:
            raise Exists(f"{self.name}: {key}")
        if self.unique and self.where(self.unique, tuple(row[name] for name in self.unique)):
            raise Exists(f"{self.name}: unique key of {key}")
        self._ages[key] = self._serial
        self._put(key, row)
        self._undo.append(lambda: self._take(key))

    def update(self, key: Key, values: Row) -> bool:
        """Set columns; whether the row was there."""
        old = self.rows.get(key)
        if old is None:
            return False
        self._replace(key, old | values)
        self._undo.append(lambda: self._replace(key, old))
        return True

    def delete(self, column: str, values: set[Any]) -> list[Row]:
        """Remove the rows with one of these values; what went."""
        gone = [row for value in sorted(values) for row in self.where((column,), (value,))]
        for row in gone:
            self._remove(row)
        return gone

    def get(self, *key: Any) -> Row | None:
        return self.rows.get(key)

    def where(self, columns: tuple[str, ...], values: Key) -> list[Row]:
        """Rows with these values, oldest first."""
        if columns not in self._indexes:
            index: dict[Key, dict[Key, None]] = defaultdict(dict)
            for key, row in self.rows.items():
                index[tuple(row[name] for name in columns)][key] = None
            self._indexes[columns] = index
        keys = self._indexes[columns].get(values, ())
        return [self.rows[key] for key in sorted(keys, key=self._ages.__getitem__)]

    def numbered(self, column: str, value: Any) -> list[tuple[int, Row]]:
        """The same by one column, of a table without a key: each with its number."""
        rows = self.where((column,), (value,))
        keys = [key for key in self._keys_of(rows[0]) if self.rows[key] in rows] if rows else []
        return [(key[0], self.rows[key]) for key in keys]

    def discard(self, number: int) -> None:
        """Remove a row by its number."""
        self._remove(self.rows[(number,)])

    def _remove(self, row: Row) -> None:
        (key,) = [key for key in self._keys_of(row) if self.rows[key] is row]
        age = self._ages[key]
        self._take(key)

        def back() -> None:
            self._ages[key] = age
            self._put(key, row)

        self._undo.append(back)

    def _keys_of(self, row: Row) -> list[Key]:
        if self.key:
            return [tuple(row[name] for name in self.key)]
        columns = next(iter(self._indexes))
        return list(self._indexes[columns][tuple(row[name] for name in columns)])

    def _replace(self, key: Key, row: Row) -> None:
        old = self.rows[key]
        self.rows[key] = row
        for columns, index in self._indexes.items():
            before, after = (tuple(each[name] for name in columns) for each in (old, row))
            if before != after:
                del index[before][key]
                index[after][key] = None

    def _put(self, key: Key, row: Row) -> None:
        self.rows[key] = row
        for columns, index in self._indexes.items():
            index[tuple(row[name] for name in columns)][key] = None

    def _take(self, key: Key) -> None:
        row = self.rows.pop(key)
        for columns, index in self._indexes.items():
            del index[tuple(row[name] for name in columns)][key]
