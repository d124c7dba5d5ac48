"""One log through the fold and through the slow model, however the fold's batches are cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from engine import lexicons
from engine.collections import to_plan
from engine.core import codec
from tests.collections import commits
from tests.collections.memory import Memory, index
from tests.model import events
from tests.model.events import Commit, Event, Op
from tests.model.model import Model
from tests.model.store import Row

HANDLES = ("one.example", "two.example", None)

PLAN = codec.Plan(to_plan().encode(), lexicons.documents())

Mutes = tuple[tuple[str, str], ...]


@dataclass
class Machine:
    """Both sides, and what was not yet given to them.

    Args:
        random: cuts, shards, refusals, look-ups of handles.
        mutes: thread mutes, from the start.
        trusting: whether the fold believes creates.
        refusing: the share of ops that the database refuses.
    """

    random: Random
    mutes: Mutes = ()
    trusting: bool = True
    refusing: float = 0.0
    shards: int = 3
    seen: Counter[str] = field(default_factory=Counter)
    """What the run met, to be asked that it met enough."""

    def __post_init__(self) -> None:
        self.memory = Memory(to_plan())
        self._handles: dict[str, str | None] = {}
        self.model = Model(self.mutes, resolve=self._resolve, now=commits.NOW)
        self._mute(self.mutes)

    def _resolve(self, did: str) -> str | None:
        return self._handles[did]

    def _mute(self, mutes: Mutes) -> None:
        self.memory.mutes.clear()
        self.memory.mutes.update(mutes)
        self.model.mute(mutes)

    def run(self, entries: list[bytes]) -> None:
        """The whole log, compared after every batch."""
        read = [(entry, event) for entry in entries if (event := events.read_entry(entry))]
        waiting: dict[int, list[tuple[bytes, Event]]] = {}
        for entry, event in read:
            waiting.setdefault(sum(event.did.encode()) % self.shards, []).append((entry, event))
        at = dict.fromkeys(waiting, 0)
        while any(at[shard] < len(waiting[shard]) for shard in waiting):
            self._batch(waiting, at)
            self._between()
            self.compare()

    def give(self, batches: list[list[bytes]]) -> None:
        """These batches, all in one shard, compared after each."""
        for entries in batches:
            index(PLAN, self.memory, [(0, entries)], now=commits.NOW, trusting=self.trusting)
            for entry in entries:
                event = events.read_entry(entry)
                assert event is not None
                self.model.apply(event)
            self.compare()

    def _batch(self, waiting: dict[int, list[tuple[bytes, Event]]], at: dict[int, int]) -> None:
        """Some of what waits in each shard, sometimes with what was delivered before."""
        rng = self.random
        starts, given = {}, {}
        for shard, queue in waiting.items():
            starts[shard] = max(0, at[shard] - rng.choice((0, 0, 0, 3)))
            given[shard] = queue[starts[shard] : at[shard] + rng.choice((1, 2, 5, 30))]
        cut = frozenset(
            shard for shard, queue in given.items()
            if queue and starts[shard] + len(queue) < len(waiting[shard])
        )  # fmt: skip
        ready: list[Event] = []

        def voided(taken: dict[int, int]) -> list[tuple[int, str]]:
            for shard, count in taken.items():
                fresh = given[shard][at[shard] - starts[shard] : count]
                ready.extend(event for _, event in fresh)
            ready.sort(key=lambda event: event.seq)
            return self._refused(ready)

        done = index(
            PLAN,
            self.memory,
            [(shard, [entry for entry, _ in queue]) for shard, queue in given.items()],
            now=commits.NOW,
            cut=cut,
            voided=voided,
            trusting=self.trusting,
        )
        for shard, count in done.taken.items():
            at[shard] = max(at[shard], starts[shard] + count)
        for event in ready:
            self.model.apply(event)
        self.seen["batches"] += 1
        self.seen["left for later"] += sum(map(len, given.values())) > sum(done.taken.values())

    def _refused(self, ready: list[Event]) -> list[tuple[int, str]]:
        """Numbers of refused ops; to the model they are ops that cannot be read."""
        numbers, number = [], 0
        for place, event in enumerate(ready):
            if not isinstance(event, Commit):
                continue
            ops = list(event.ops)
            for position, op in enumerate(ops):
                if "example" not in op.path and self.random.random() < self.refusing:
                    numbers.append((number, "refused"))
                    ops[position] = Op("create", op.path, op.cid or "bafkqaaa", b"\xff")
                number += 1
            ready[place] = replace(event, ops=ops)
        self.seen["refused"] += len(numbers)
        return numbers

    def _between(self) -> None:
        """What others write between two batches."""
        rng = self.random
        if rng.random() < 0.3:
            due = sorted(self.memory.due)
            chosen = rng.sample(due, min(len(due), 3))
            self._handles = {did: rng.choice(HANDLES) for did in chosen if rng.random() < 0.9}
            self.memory.resolve(self._resolve, chosen)
            for did in chosen:
                self.model.look_up(did)
            self._handles = {}
        if self.mutes and rng.random() < 0.1:
            self._mute(tuple(rng.sample(self.mutes, rng.randrange(len(self.mutes) + 1))))

    def compare(self) -> None:
        """Every row of every table, and what the fold remembers for itself."""
        wanted, got = self.model.tables(), self.memory.dump(commits.NOW)
        assert set(got) == set(wanted)
        wrong = {
            name: (_lines(rows), _lines(got[name]))
            for name, rows in wanted.items()
            if _lines(rows) != _lines(got[name])
        }
        assert not wrong, _told(wrong)
        quotes = Counter(row["subjectCid"] for row in got["quote"])
        assert +self.memory.quote_count == quotes
        assert min(self.memory.quote_count.values(), default=0) >= 0
        self._compare_lost()

    def _compare_lost(self) -> None:
        """As many ops were rejected, but for bad ones that would do nothing: a create of what
        there is, which the fold refuses for what it says and the model does not look at."""
        reasons = Counter(row["reason"] for row in self.memory.dead if row["path"])
        outcomes = self.model.outcomes
        lost = {word: n for word, n in outcomes.items() if word.startswith("rejected")}
        more = reasons.total() - sum(lost.values())
        assert 0 <= more <= reasons["bad_uri"] + reasons["key_occupied"], (reasons, lost)


def _lines(rows: list[Row]) -> Counter[tuple[Any, ...]]:
    return Counter(
        tuple(sorted((name, repr(value)) for name, value in row.items())) for row in rows
    )


def _told(wrong: dict[str, tuple[Counter[Any], Counter[Any]]]) -> str:
    """By table: rows of the model alone, rows of the fold alone."""
    found = []
    for name, (wanted, got) in wrong.items():
        for word, rows in (("model", wanted - got), ("fold", got - wanted)):
            found += [f"{name} {word}: {dict(row)}" for row in rows.elements()]
    return "\n".join(found)
