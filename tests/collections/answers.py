"""The look-ups of a fold, answered from tables that are dictionaries."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tests.collections.copying import read_array
from tests.collections.store import Row, Table

_HEIGHT = 5
_POST = (
    "uri", "cid", "sortAt", "replyParent", "replyRoot", "invalidReplyRoot", "violatesThreadGate",
)  # fmt: skip
_LATE = (*_POST, "violatesEmbeddingRules", "indexedAt")
_DUPLICATE = ("uri", "cid", "duplicateOf", "indexedAt")

Found = list[list[Any]]


class Answers:
    """Answers as Postgres gives them.

    Args:
        tables: the data plane's.
        repos: DID -> the other columns of ``headrace.repo``.
        due: DID -> seq, time, forced.
        mutes: (DID, uri of a root).
    """

    def __init__(
        self,
        tables: dict[str, Table],
        repos: dict[str, list[Any]],
        due: dict[str, list[Any]],
        mutes: set[tuple[str, str]],
        latest: dict[int, int],
    ) -> None:
        self._latest_of = latest
        self._tables, self._repos, self._due, self._mutes = tables, repos, due, mutes
        self.asked: Counter[str] = Counter()
        """How many keys were looked up, by look-up."""
        self.named: dict[str, Callable[..., Found]] = {
            "repos": self._repo_rows,
            "actors": self._actors,
            "fetches": lambda _: [],  # nothing is fetched here
            "posts": self._posts,
            "post_chain": self._post_chain,
            "post_tree": self._post_tree,
            "own_posts": self._own_posts,
            "quoted": self._quoted,
            "feed_items": self._feed_items,
            "duplicates": self._duplicates,
            "candidates": self._candidates,
            "texts": self._texts,
            "some_mutes": self._some_mutes,
            "mutes": self._mutes_of,
            "latest": self._latest,
            "thread": self._thread,
            "quoting": self._quoting,
            "told": self._told,
            "judged": self._judged,
        }

    def lookup(self, name: str, parameters: list[str]) -> str:
        """The answer to one look-up: a JSON array of row arrays."""
        arrays = [[key for key in read_array(text) if key is not None] for text in parameters]
        assert all(len(set(zip(*arrays, strict=True))) == len(keys) for keys in arrays)
        self.asked[name] += len(arrays[0]) if arrays else 1
        short = name.removeprefix("lookup_")
        one = self.named.get(short)
        if one is not None:
            return json.dumps(one(*arrays))
        if short.endswith("_key"):
            return json.dumps(self._holders(self._tables[short.removesuffix("_key")], arrays))
        table = self._tables[short]
        columns = ("uri",) if short == "record" else ("uri", "cid", *table.unique)
        return json.dumps(_columns(self._rows(short, arrays[0]), columns))

    def _rows(self, table: str, uris: Iterable[str]) -> list[Row]:
        rows = self._tables[table].rows
        return [rows[(uri,)] for uri in uris if (uri,) in rows]

    @staticmethod
    def _holders(table: Table, arrays: list[list[str]]) -> Found:
        found = []
        for key in zip(*arrays, strict=True):
            found += [[*key, row["uri"]] for row in table.where(table.unique, key)]
        return found

    def _repo_rows(self, dids: list[str]) -> Found:
        return [[did, *self._repos[did]] for did in dids if did in self._repos]

    def _actors(self, dids: list[str]) -> Found:
        found = [row for did in dids if (row := self._tables["actor"].get(did))]
        return [
            [
                row["did"],
                row["handle"] is not None,
                row["indexedAt"],
                self._due[row["did"]][1] if row["did"] in self._due else None,
            ]
            for row in found
        ]

    def _posts(self, uris: list[str]) -> Found:
        return _columns(self._rows("post", uris), _POST)

    def _post_chain(self, uris: list[str]) -> Found:
        found, level = [], self._rows("post", uris)
        for _ in range(_HEIGHT):
            found += level
            parents = dict.fromkeys(row["replyParent"] for row in level)
            level = self._rows("post", [uri for uri in parents if uri is not None])
        return _columns(found, _POST)

    def _post_tree(self, uris: list[str]) -> Found:
        found: list[Row] = []
        for _ in range(_HEIGHT):
            level = [
                row for uri in uris for row in self._tables["post"].where(("replyParent",), (uri,))
            ]
            found += level
            uris = list(dict.fromkeys(row["uri"] for row in level))
        return _columns(found, _POST)

    def _latest(self) -> Found:
        return [[max(self._latest_of.values(), default=None)]]

    def _thread(self, uris: list[str]) -> Found:
        found: dict[str, Row] = {}
        work = list(uris)
        while work:
            for row in self._tables["post"].where(("replyParent",), (work.pop(),)):
                if row["uri"] not in found:
                    found[row["uri"]] = row
                    work.append(row["uri"])
        return _columns(found.values(), _LATE)

    def _quoting(self, uris: list[str]) -> Found:
        found: Found = []
        for uri in uris:
            for quote in self._tables["quote"].where(("subject",), (uri,)):
                for row in _columns(self._rows("post", [quote["uri"]]), _LATE):
                    found.append([uri, quote["subjectCid"], row])
        return found

    def _judged(self, uris: list[str]) -> Found:
        return _columns(self._rows("post", uris), _LATE)

    def _told(self, uris: list[str]) -> Found:
        columns = ("recordUri", "did", "reason", "reasonSubject")
        table = self._tables["notification"]
        return [
            [str(number), *(row[name] for name in columns)]
            for uri in uris
            for number, row in table.numbered("recordUri", uri)
        ]

    def _own_posts(self, uris: list[str]) -> Found:
        found: Found = []
        for uri in uris:
            embeds = self._tables["post_embed_record"].where(("postUri",), (uri,))
            quote = self._tables["quote"].get(uri)
            if embeds or quote:
                embed = [embeds[0][name] for name in ("embedUri", "embedCid")] if embeds else []
                own = [quote[name] for name in ("subject", "subjectCid")] if quote else []
                found.append([uri, *(embed or [None, None]), *(own or [None, None])])
        return found

    def _quoted(self, uris: list[str], others: list[str]) -> Found:
        found: Found = []
        for uri, but in zip(uris, others, strict=True):
            quotes = self._tables["quote"].where(("subject",), (uri,))
            known = set(read_array(but))  # to the batch before, which is being written
            counts = Counter(row["subjectCid"] for row in quotes if row["uri"] not in known)
            found += [[uri, cid, count] for cid, count in counts.items()]
        return found

    def _feed_items(self, uris: list[str]) -> Found:
        return _columns(self._rows("feed_item", uris), ("uri", "postUri"))

    def _duplicates(self, uris: list[str]) -> Found:
        return _columns(self._rows("duplicate_record", uris), _DUPLICATE)

    def _candidates(self, uris: list[str]) -> Found:
        found: Found = []
        for uri in uris:
            for loser in self._tables["duplicate_record"].where(("duplicateOf",), (uri,)):
                record = self._tables["record"].get(loser["uri"]) or {}
                told = [record.get(name) for name in ("cid", "json", "indexedAt")]
                found.append([*(loser[name] for name in _DUPLICATE), *told])
        return found

    def _texts(self, uris: list[str]) -> Found:
        return _columns(self._rows("record", uris), ("uri", "json"))

    def _some_mutes(self) -> Found:
        mutes = sorted(self._mutes, key=lambda mute: (mute[1], mute[0]))
        return [list(mute) for mute in mutes[:1000]]

    def _mutes_of(self, dids: list[str], roots: list[str]) -> Found:
        pairs = zip(dids, roots, strict=True)
        return [list(pair) for pair in pairs if pair in self._mutes]


def _columns(rows: Iterable[Row], names: tuple[str, ...]) -> Found:
    return [[row[name] for name in names] for row in rows]
