"""Recorded networks for the model, and the comparison with what they must become."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.model import events
from tests.model.accounts import Resolve
from tests.model.model import Model
from tests.model.stable import Stability
from tests.model.store import Row


class Network:
    """A recorded network: its log, the rows that it becomes, and which of them are stable."""

    def __init__(self, golden: Path) -> None:
        self.path = golden
        self.name = golden.name
        self.events = events_of(golden)
        self._resolve = resolver(golden)
        identities = json.loads((golden / "identities.json").read_text())
        self.points: dict[str, str] = identities["handles"]
        """Where handles point to."""
        self.aliases: dict[str, str | None] = {
            did: str(document["alsoKnownAs"][0]).removeprefix("at://")
            for did, document in identities["plc"].items()
        }
        """The handle in each DID's document."""

    @cached_property
    def stability(self) -> Stability:
        return Stability(self.events)

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """What the log becomes in its own order."""
        return self.become(self.events)

    def become(self, log: Iterable[events.Event]) -> dict[str, list[Row]]:
        model = Model(resolve=self._resolve)
        for event in log:
            model.apply(event)
        return model.tables()


def events_of(golden: Path) -> list[events.Event]:
    read = [events.read_frame(frame) for frame in events.frames(golden / "frames.bin")]
    return [event for event in read if event is not None]


def resolver(golden: Path) -> Resolve:
    """What the recorded directory answers."""
    identities = json.loads((golden / "identities.json").read_text())

    def resolve(did: str) -> str | None:
        document = identities["plc"][did]
        handle = str(document["alsoKnownAs"][0]).removeprefix("at://").lower()
        return handle if identities["handles"].get(handle) == did else None

    return resolve


def expected(golden: Path, table: str) -> tuple[list[str], Counter[tuple[str | None, ...]]]:
    """Columns and rows, as text; a table without a file is empty."""
    path = golden / "tables" / f"{table}.csv"
    if not path.exists():
        return [], Counter()
    header, *rows = _read_csv(path.read_bytes().decode())
    return [str(name) for name in header], Counter(rows)


_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\n]*))([,\n])')


def _read_csv(text: str) -> Iterator[tuple[str | None, ...]]:
    """What COPY ... CSV printed; unlike the csv module it tells NULL from empty text."""
    row: list[str | None] = []
    at = 0
    while at < len(text):
        field = _FIELD.match(text, at)
        assert field is not None, text[at : at + 80]
        quoted, plain, end = field.groups()
        row.append(plain or None if quoted is None else quoted.replace('""', '"'))
        if end == "\n":
            yield tuple(row)
            row = []
        at = field.end()


def printed(value: Any) -> str | None:
    """A value as COPY prints it."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return None if value is None else str(value)


def differences(
    golden: Path, tables: dict[str, list[Row]]
) -> dict[str, tuple[list[Any], list[Any]]]:
    """Of each table that differs: what is missing, what is too much."""
    wrong: dict[str, tuple[list[Any], list[Any]]] = {}
    for table, rows in tables.items():
        columns, want = expected(golden, table)
        if not columns:
            if rows:
                wrong[table] = ([], [tuple(map(printed, row.values())) for row in rows])
            continue
        assert all(set(row) == set(columns) for row in rows), (table, columns, rows[0])
        got = Counter(tuple(printed(row[name]) for name in columns) for row in rows)
        if got != want:
            wrong[table] = (list((want - got).elements()), list((got - want).elements()))
    return wrong
