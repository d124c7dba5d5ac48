"""Labels of one source that come through several streams: a moved labeler, an import.

Seqs of two streams cannot be compared, so between them the instant of ``cts`` decides, the
later or equal one winning; within one stream the later label wins whatever its ``cts``. Which
stream a label came through last is kept only where it is not the source's first: for most
sources, which have one stream, nothing is kept and nothing is looked up.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from engine.adapters import postgres
from engine.core import codec

IMPORTED = 0
"""The position of labels that were there before the first of ours."""

Row = tuple[str, str, str, str, bool, str, str | None, int]


def origin_key(src: str, uri: str, cid: str, val: str) -> bytes:
    """What a label's origin is found by."""
    return hashlib.sha256("\0".join((src, uri, cid, val)).encode()).digest()[:16]


@dataclass
class Sources:
    """Through which streams each source's labels came; used inside the writer's transactions."""

    db: asyncpg.Connection[Any]
    sql: dict[str, str]
    _positions: dict[str, set[int]] = field(default_factory=dict)
    _first: dict[str, int] = field(default_factory=dict)

    async def load(self) -> None:
        """As Postgres has it; also after a transaction that failed."""
        self._positions, self._first = {}, {}
        for row in await self.db.fetch(self.sql["label_sources"]):
            self._positions.setdefault(row["src"], set()).add(row["position"])
            if row["first"]:
                self._first[row["src"]] = row["position"]

    async def meet(self, found: set[tuple[str, int]]) -> set[str]:
        """Note streams that are new to their sources; the sources that have several."""
        for src, position in sorted(found):
            there = self._positions.setdefault(src, set())
            if position in there:
                continue
            if not there and await self.db.fetchval(self.sql["label_source_known"], src):
                await self._add(src, IMPORTED, first=True)
            await self._add(src, position, first=not there)
        return {src for src, _ in found if len(self._positions[src]) > 1}

    async def _add(self, src: str, position: int, *, first: bool) -> None:
        await self.db.execute(self.sql["label_source_add"], src, position, first)
        self._positions[src].add(position)
        if first:
            self._first[src] = position

    async def settle(self, rows: list[Row], ids: list[int]) -> dict[int, int]:
        """Write those that win; how many of each stream (by place) do not.

        Args:
            rows: in the order in which they came.
            ids: position of each stream, by place.
        """
        keys = {row[:4]: origin_key(*row[:4]) for row in rows}
        names = list(keys)
        columns = [[name[part] for name in names] for part in range(4)]
        answers = await self.db.fetch(
            self.sql["label_contested"], *columns, [keys[name] for name in names]
        )
        there = {row["key"]: (row["cts"], row["position"]) for row in answers}
        winners: dict[bytes, Row] = {}
        late: Counter[int] = Counter()
        for row in rows:
            key, position = keys[row[:4]], ids[row[7]]
            known = there.get(key)
            if known is not None:
                last = self._first[row[0]] if known[1] is None else known[1]
                if last != position and is_earlier(row[5], known[0]):
                    late[row[7]] += 1
                    continue
            there[key] = (row[5], position)
            winners[key] = row
        await self._write(winners, {key: ids[row[7]] for key, row in winners.items()})
        return dict(late)

    async def _write(self, winners: dict[bytes, Row], positions: dict[bytes, int]) -> None:
        rows = sorted(winners.values())
        columns = [
            postgres.array_literal(None if row[part] is None else str(row[part]) for row in rows)
            for part in range(7)
        ]
        await self.db.execute(self.sql["label_upsert"], *columns)
        is_first = {key: positions[key] == self._first[row[0]] for key, row in winners.items()}
        later = [key for key in winners if not is_first[key]]
        first = [key for key in winners if is_first[key]]
        await self.db.execute(
            self.sql["label_origin_set"], later, [positions[key] for key in later]
        )
        await self.db.execute(self.sql["label_origin_clear"], first)


def is_earlier(cts: str, known: str) -> bool:
    """Whether one time is before another; what is no time is before everything."""
    return (codec.datetime_instant(cts) or (-(1 << 62), 0)) < (
        codec.datetime_instant(known) or (-(1 << 62), 0)
    )
