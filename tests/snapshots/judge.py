"""What must be in the tables when a log and snapshots of its repositories came together.

Whatever the interleaving, each record of a repository is there as it was left, with all that
follows from it alone; and every row that is stable and has no history is the one that the log
alone makes (``tests.model.stable``, ``tests.model.history``). Only its times may be those of a
fetched record. Numbers are those of the rows that they count.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.model.exported import Dates, events_of, exports
from tests.model.golden import Network
from tests.model.history import VERDICTS, History
from tests.model.stable import frozen
from tests.model.store import Row

Tables = dict[str, list[Row]]

TIMES = {"indexedAt", "sortAt", "sortedAt"}


@dataclass
class Verdict:
    """Rows that differ."""

    wrong: list[tuple[str, str, Row]] = field(default_factory=list)
    """("missing" | "extra" | "time", table, row): those that may not."""
    free: Counter[str] = field(default_factory=Counter)
    """By table, those that history or the order may decide."""
    bound: int = 0
    """Rows of the log that may not differ."""

    def __str__(self) -> str:
        """Empty if nothing is wrong."""
        return "\n".join(map(str, [f"{len(self.wrong)} rows:", *self.wrong[:20]] * any(self.wrong)))


class Judge:
    """Knows a recorded network; what it was fed with was its log and its exports."""

    def __init__(self, recorded: Path) -> None:
        self.network = Network(recorded)
        repositories = exports(recorded)
        self.dids = {repository.did for repository in repositories}
        self._dates = Dates(repositories)
        self._history = History(self.network.events, events_of(repositories), live=True)
        self._logged = {
            table: {frozen(_timeless(row)): row for row in rows}
            for table, rows in self.network.rows.items()
        }

    def judge(self, tables: Tables) -> Verdict:
        """Compare all tables that events write."""
        found = Verdict()
        for table, rows in self.network.rows.items():
            found.bound += sum(self._is_bound(table, row) for row in rows)
            self._compare(found, table, rows, tables[table])
            if table == "post":
                self._compare(found, table, *map(_without_verdicts, (rows, tables[table])))
        self._check_times(found, tables["record"])
        wanted = counted(self.network.rows | {"post": tables["post"]})
        if (have := kept(tables)) != wanted:
            for column in wanted:
                odd = dict(have.get(column, Counter()).items() ^ wanted[column].items())
                found.wrong += [("extra", column, {"of": key}) for key in odd]
        return found

    def _compare(self, found: Verdict, table: str, theirs: list[Row], ours: list[Row]) -> None:
        left = Counter(frozen(_timeless(row)) for row in theirs)
        right = Counter(frozen(_timeless(row)) for row in ours)
        times = {row.get("uri"): row.get("indexedAt") for row in theirs}
        for word, rows in (("missing", left - right), ("extra", right - left)):
            for row in map(dict, rows.elements()):
                row["indexedAt"] = times.get(row.get("uri"), "")
                if self._is_bound(table, row):
                    found.wrong.append((word, table, row))
                else:
                    found.free[table] += 1

    def _is_bound(self, table: str, row: Row) -> bool:
        if table == "post" and not row.keys() >= VERDICTS:
            return True
        is_stable = self.network.stability.is_stable(table, row)
        return is_stable and not self._history.reasons(table, row)

    def _check_times(self, found: Verdict, records: list[Row]) -> None:
        """T is that of an op in the log, or of a fetched record."""
        said = {
            (f"at://{event.did}/{op.path}", event.time)
            for event in self.network.events
            for op in getattr(event, "ops", ())
        }
        for row in records:
            fetched: dict[str, Any] = self._dates.put("record", row)
            if (row["uri"], row["indexedAt"]) not in said and fetched != row:
                found.wrong.append(("time", "record", row))


@functools.cache
def judge_of(recorded: Path) -> Judge:
    """Made once a session."""
    return Judge(recorded)


def counted(tables: Tables) -> dict[str, Counter[str]]:
    """By column, how many rows there are for each uri or DID; but for quotes, which have a CID."""
    replies = [row for row in tables["post"] if not row["violatesThreadGate"]]
    return {
        "likeCount": Counter(row["subject"] for row in tables["like"]),
        "repostCount": Counter(row["subject"] for row in tables["repost"]),
        "replyCount": Counter(row["replyParent"] for row in replies if row["replyParent"]),
        "followersCount": Counter(row["subjectDid"] for row in tables["follow"]),
        "followsCount": Counter(row["creator"] for row in tables["follow"]),
        "postsCount": Counter(row["creator"] for row in tables["post"]),
    }


def kept(tables: Tables) -> dict[str, Counter[str]]:
    """The same numbers, as they are stored."""
    found: dict[str, Counter[str]] = {}
    for table, key in (("post_agg", "uri"), ("profile_agg", "did")):
        for row in tables[table]:
            for column in row.keys() - {key, "quoteCount", "bookmarkCount"}:
                found.setdefault(column, Counter())[row[key]] += row[column]
    return {column: +numbers for column, numbers in found.items()}


def _timeless(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in TIMES}


def _without_verdicts(posts: list[Row]) -> list[Row]:
    return [{name: post[name] for name in post.keys() - VERDICTS} for post in posts]
