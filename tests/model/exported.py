"""Recorded exports as the events that a backfill makes of them, read without the engine.

Every record is created once, at the instant of its key if that is a TID not later than the
snapshot, else at that of the snapshot's rev. Each repository comes as a whole, in key order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import libipld

from engine.core import codec
from tests.collections.commits import tid
from tests.model.events import Commit, Event, Op, Sync, cid_text, raw_blocks
from tests.model.store import NOW, Row

_DIGITS = "234567abcdefghijklmnopqrstuvwxyz"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Exported:
    """A repository at one rev; ``records`` are (path, CID, block) in key order."""

    did: str
    rev: str
    commit: str
    records: list[tuple[str, str, bytes]]

    def time_of(self, path: str) -> str:
        """T of a record."""
        rkey = path.split("/")[1]
        is_older = codec.check_syntax("tid", rkey) and rkey <= self.rev
        return instant(rkey if is_older else self.rev)


def exports(golden: Path) -> list[Exported]:
    return [read(path.read_bytes()) for path in sorted((golden / "cars").glob("*.car"))]


def read(car: bytes) -> Exported:
    head, blocks = libipld.decode_car(car)
    raw = raw_blocks(car)
    root = head["roots"][0]
    commit: Any = blocks[root]
    records = [
        (path, cid_text(cid), raw[cid]) for path, cid in _leaves(blocks, commit["data"])
    ]  # fmt: skip
    return Exported(commit["did"], commit["rev"], cid_text(root), records)


def _leaves(blocks: dict[bytes, Any], node: bytes) -> Iterator[tuple[str, bytes]]:
    if blocks[node]["l"]:
        yield from _leaves(blocks, blocks[node]["l"])
    key = b""
    for entry in blocks[node]["e"]:
        key = key[: entry["p"]] + entry["k"]
        yield key.decode(), entry["v"]
        if entry["t"]:
            yield from _leaves(blocks, entry["t"])


def instant(of: str) -> str:
    """That of a TID, as a fetched record's T is written."""
    value = 0
    for digit in of:
        value = value << 5 | _DIGITS.index(digit)
    at = _EPOCH + timedelta(milliseconds=(value >> 10) // 1000)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def events_of(repositories: Iterable[Exported]) -> list[Event]:
    """What a backfill of these is to the model: no order but that inside each of them."""
    made: list[Event] = []

    def base(repo: Exported, time: str) -> dict[str, Any]:
        return {"did": repo.did, "seq": len(made) + 1, "time": time, "cid": repo.commit}

    for repo in repositories:
        made.append(Sync(**base(repo, instant(repo.rev)), rev=tid(len(made) + 1)))
        for path, cid, block in repo.records:
            ops = [Op("create", path, cid, block)]
            made.append(Commit(**base(repo, repo.time_of(path)), rev=tid(len(made) + 1), ops=ops))
        made.append(Sync(**base(repo, instant(repo.rev)), rev=repo.rev))
    return made


class Dates:
    """The times of fetched records, to be put where a log has others."""

    def __init__(self, repositories: Iterable[Exported]) -> None:
        self._times: dict[str, str] = {}
        self._sorted: dict[str, str] = {}
        for repo in repositories:
            self._times[repo.did] = instant(repo.rev)
            for path, _, block in repo.records:
                uri, time = f"at://{repo.did}/{path}", repo.time_of(path)
                self._times[uri] = self._sorted[uri] = time
                if (created := _created_at(block)) is not None:
                    self._sorted[uri] = min(created, time)

    def put(self, table: str, row: Row) -> Row:
        """The row as it is if its record was fetched, if its record was."""
        match table:
            case "notification":
                of = row["recordUri"]
                is_told_at_once = row["reason"] == "starterpack-joined"
                dated = {"sortAt": self._times if is_told_at_once else self._sorted}
                if row["reason"] == "unverified":
                    return row
            case "actor":
                # Of who has no export it is the instant at which a list told the status.
                return row | {"indexedAt": self._times.get(row["did"], NOW)}
            case _:
                of = row.get("uri")
                dated = {"indexedAt": self._times, "sortAt": self._sorted}
                dated["sortedAt"] = self._sorted
        found = {name: dates[of] for name, dates in dated.items() if name in row and of in dates}
        return row | found


def _created_at(block: bytes) -> str | None:
    try:
        created = json.loads(codec.record_json(block)).get("createdAt")
    except ValueError:
        return None
    return codec.normalize_datetime(created) if isinstance(created, str) else None
