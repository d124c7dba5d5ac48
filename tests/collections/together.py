"""Several owners beside one another over one database of dictionaries, step by step as a seed says.

Each step is one look-up, or all that a transaction writes: so any look-up of one owner may come
before or after what another commits. What an owner does, and in which order, is what sessions,
writers and settlers do; locks are those of the statements that take them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias, TypeVar

from engine import lexicons
from engine.collections import to_plan
from engine.core import codec
from tests.collections import commits
from tests.collections.copying import read_array
from tests.collections.memory import Memory
from tests.collections.store import Exists

V = TypeVar("V")
Steps: TypeAlias = Generator[None, None, V]

PATIENCE = 200
"""Steps that an owner waits for a lock before it counts as deadlocked."""

PLAN = codec.Plan(to_plan().encode(), lexicons.documents())


class Deadlock(Exception):
    """The transaction is to be done again."""


@dataclass
class Database:
    """Everything, and who holds which post."""

    memory: Memory = field(default_factory=lambda: Memory(to_plan()))
    clock: int = 0
    """Transactions committed."""
    locks: dict[str, Owner] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def lock(self, uris: list[str | None], owner: Owner) -> Steps[None]:
        """Hold posts that are there until the end of the transaction."""
        posts = self.memory.tables["post"]
        for uri in uris:
            waited = 0
            while uri is not None and self.locks.get(uri, owner) is not owner:
                self.seen["waited"] += 1
                waited += 1
                if waited > PATIENCE:
                    raise Deadlock
                yield
            if uri is not None and posts.get(uri):
                self.locks[uri] = owner

    def release(self, owner: Owner) -> None:
        self.locks = {uri: holder for uri, holder in self.locks.items() if holder is not owner}


@dataclass
class Prepared:
    """A batch that was read, and its changes if they are known."""

    batch: codec.Batch
    changes: codec.Changes | None = None
    as_prepared: bool = False


@dataclass(eq=False)
class Owner:
    """The owner of one shard."""

    database: Database
    random: Random
    shard: int
    entries: list[bytes]
    others: list[Owner] = field(default_factory=list)
    said: int = 0
    """What it has not committed was looked up when so many transactions were."""
    waiting: dict[int, tuple[str, bool]] = field(default_factory=dict)
    waits_since: int = 0
    is_done: bool = False

    def run(self) -> Steps[None]:
        """Write everything, then turn for as long as the others may need it."""
        before: Prepared | None = None
        while self.entries or before is not None:
            looked, now = self.database.clock, self._read()
            writing = self._write(before) if before is not None else None
            if now is not None and (before is None or before.changes is not None):
                yield from self._prepare(now, before, writing)
            if writing is not None:
                yield from writing
                assert before is not None
                if now is not None and not before.as_prepared:
                    now.changes = None
            prepared = now is not None and now.changes is not None
            if (yield from self._turn(looked if prepared else None)) and now is not None:
                now.changes = None
            before = now
        self.is_done = True
        while True:
            yield from self._turn(None)
            yield

    def _read(self) -> Prepared | None:
        count = self.random.choice((1, 1, 2, 5))
        taken, self.entries = self.entries[:count], self.entries[count:]
        if not taken:
            return None
        held = dict(self.database.memory.held[self.shard])
        return Prepared(PLAN.decode([(self.shard, held, taken, False)], now=commits.NOW))

    def _prepare(
        self, now: Prepared, before: Prepared | None, writing: Steps[None] | None
    ) -> Steps[None]:
        """Look up, sometimes from before to after the batch before is written."""
        known = now.batch.known(
            trusting=True, together=True, before=before.changes if before else None
        )
        steps = self._learn(known)
        while True:
            turn = writing if writing is not None and self.random.random() < 0.5 else steps
            try:
                next(turn)
            except StopIteration:
                if turn is steps:
                    break
                writing = None
            yield
        if known.blocked:
            self.database.seen["blocked"] += 1
        else:
            now.changes = now.batch.fold(known, [])

    def _learn(self, known: codec.Known) -> Steps[None]:
        while not known.blocked and (wanted := known.wanted()):
            answers = []
            for name, arguments in wanted:
                if name == "lookup_judged":
                    yield from self.database.lock(read_array(arguments[0]), self)
                answers.append((name, self.database.memory.answers.lookup(name, arguments)))
                yield
            known.learn(answers)

    def _write(self, work: Prepared) -> Steps[None]:
        changes, trusting = work.changes, True
        work.as_prepared = changes is not None
        while True:
            try:
                if changes is None:
                    known = work.batch.known(trusting=trusting, together=True)
                    yield from self._learn(known)
                    changes = work.batch.fold(known, [])
                if (yield from self._is_fresh(changes)):
                    self._commit(changes)
                    return
                self.database.seen["stale"] += 1
            except Exists:
                assert trusting
                trusting = False
            except Deadlock:
                self.database.seen["deadlocks"] += 1
            self.database.release(self)
            changes, work.as_prepared = None, False

    def _is_fresh(self, changes: codec.Changes) -> Steps[bool]:
        posts, is_fresh = self.database.memory.tables["post"], True
        for name, arguments in changes.checks():
            assert name == "check_posts"
            uris, violates = map(read_array, arguments)
            yield from self.database.lock(uris, self)
            for uri, known in zip(uris, violates, strict=True):
                post = posts.get(uri)
                is_fresh &= post is None or bool(post["violatesThreadGate"]) == (known == "true")
        return is_fresh

    def _commit(self, changes: codec.Changes) -> None:
        self.database.memory.write(changes)
        self.database.clock += 1
        self.database.release(self)

    def _turn(self, looked: int | None) -> Steps[bool]:
        """As the settler does; whether something was settled."""
        memory, clock = self.database.memory, self.database.clock
        self.said = clock if looked is None else looked
        if not self.waiting:
            notes = memory.unsettled.items()
            self.waiting = {
                at: (uri, bad) for at, (shard, uri, bad) in notes if shard == self.shard
            }
            self.waits_since = clock
        if not self.waiting or any(other.said < self.waits_since for other in self.others):
            return False
        waiting, self.waiting = self.waiting, {}
        come = sorted({uri for uri, bad in waiting.values() if self._has_come(uri, bad)})
        settling = [(uri, memory.tables["record"].rows[(uri,)]["indexedAt"]) for uri in come]
        self.database.seen["noted"] += len(waiting)
        self.database.seen["settled"] += len(come)
        while settling:
            try:
                batch = PLAN.decode([], now=commits.NOW)
                known = batch.known(trusting=True, together=True, settling=settling)
                yield from self._learn(known)
                changes = batch.fold(known, [])
                self.database.seen["changed"] += bool(changes.statements())
                self._commit(changes)
                break
            except Deadlock:
                self.database.seen["deadlocks"] += 1
                self.database.release(self)
        for at in waiting:
            del memory.unsettled[at]
        return bool(come)

    def _has_come(self, uri: str, was_invalid: bool) -> bool:
        tables = self.database.memory.tables
        post = tables["post"].get(uri)
        is_invalid = was_invalid and post is not None and post["invalidReplyRoot"]
        return tables["record"].get(uri) is not None and not is_invalid


def write(
    entries: list[bytes], count: int, random: Random, owner: Callable[[bytes], int]
) -> Database:
    """Let ``count`` owners write all, until nothing is unsettled; the database."""
    database = Database()
    owners = [
        Owner(database, random, each, [entry for entry in entries if owner(entry) == each])
        for each in range(count)
    ]
    for each in owners:
        each.others = [other for other in owners if other is not each]
    running = [each.run() for each in owners]
    paces = [random.choice((1, 1, 5, 30)) for _ in owners]
    while database.memory.unsettled or not all(each.is_done for each in owners):
        for steps in random.choices(running, paces, k=8):
            next(steps)
    return database
