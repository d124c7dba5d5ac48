"""Repositories that change commit by commit, as live entries and as slices of any state."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import libipld

from engine.core import wire
from tests.collections.commits import cid_of, cid_text, commit, op, tid

CREATED = "2026-11-21T17:00:00.000Z"
State = dict[str, bytes]
"""Record bytes by path."""


def slices(
    did: str, fetch_id: int, rev: str, state: State, rng: random.Random, *, notify: bool = True
) -> list[bytes]:
    """The entries of one fetch: slices cut anywhere, then the closing one."""
    paths = sorted(state, key=str.encode)
    cuts = sorted(rng.sample(range(len(paths) + 1), rng.randint(0, min(4, len(paths)))))
    ends = [*dict.fromkeys(cuts), len(paths)]
    # A slice ends at a key, its own last one or any before the next.
    bounds = [None, *(paths[end - 1] if end else "!" for end in ends[:-1]), None]
    made: list[wire.Entry] = []
    start = 0
    for place, end in enumerate(ends):
        records = [
            wire.SliceRecord(path, cid_of(state[path]), state[path]) for path in paths[start:end]
        ]
        start = end
        after, through = bounds[place], bounds[place + 1]
        made.append(wire.Slice(did, fetch_id, rev, after, through, [], 0, notify, records, []))
    root = cid_of(rev.encode())
    made.append(wire.Closing(did, fetch_id, rev, root, root, len(paths)))
    return [wire.encode(entry) for entry in made]


@dataclass
class Repo:
    """One repository: its commits, and what it held after each."""

    did: str
    rng: random.Random
    others: list[str]
    revs: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)

    def change(self, seq: int, path_number: int) -> None:
        """One more commit of a few ops; ``seq`` also orders the revs of all repositories."""
        state = dict(self.states[-1]) if self.states else {}
        ops = []
        for place in range(self.rng.randint(0, 4)):
            ops += self._op(state, path_number + place)
        rev = tid(seq)
        since = self.revs[-1] if self.revs else None
        self.entries.append(commit(self.did, seq, ops, rev=rev, since=since))
        self.revs.append(rev)
        self.states.append(state)

    def _op(self, state: State, number: int) -> list[wire.Op]:
        kind = self.rng.random()
        if state and kind < 0.3:
            path = self.rng.choice(sorted(state))
            del state[path]
            return [op("-", path)]
        updatable = [path for path in state if path.startswith("app.bsky.feed.post/")]
        if updatable and kind < 0.45:
            path = self.rng.choice(sorted(updatable))
            record = self._post(f"edited {number}")
            state[path] = libipld.encode_dag_cbor(record)
            return [op("~", path, state[path])]
        path, record = self._new(number)
        if path in state or self._occupied(state, path, record):
            return []
        state[path] = libipld.encode_dag_cbor(record)
        return [op("+", path, state[path])]

    def _new(self, number: int) -> tuple[str, dict[str, Any]]:
        # Few record keys: they are used again.
        rkey = tid(self.rng.randrange(40))
        other = self.rng.choice(self.others)
        match self.rng.randrange(4):
            case 0:
                subject = f"at://{other}/app.bsky.feed.post/{tid(self.rng.randrange(40))}"
                ref = {"uri": subject, "cid": cid_text(cid_of(b"x"))}
                return f"app.bsky.feed.like/{rkey}", {
                    "$type": "app.bsky.feed.like", "subject": ref, "createdAt": CREATED,
                }  # fmt: skip
            case 1:
                return f"app.bsky.graph.follow/{rkey}", {
                    "$type": "app.bsky.graph.follow", "subject": other, "createdAt": CREATED,
                }  # fmt: skip
            case _:
                return f"app.bsky.feed.post/{rkey}", self._post(f"post {number}")

    def _post(self, text: str) -> dict[str, Any]:
        return {"$type": "app.bsky.feed.post", "text": text, "createdAt": CREATED}

    def _occupied(self, state: State, path: str, record: dict[str, Any]) -> bool:
        """Whether another record has its unique key: then one of them has no row."""
        collection = path.split("/")[0]
        if collection == "app.bsky.feed.post":
            return False
        return any(
            libipld.decode_dag_cbor(block)["subject"] == record["subject"]
            for other, block in state.items()
            if other.startswith(f"{collection}/")
        )
