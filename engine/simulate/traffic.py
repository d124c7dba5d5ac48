"""What accounts of a simulated network do, as the frames of its relay and of its labelers.

Time inside is simulated and lies in the past: about two seconds pass with every
commit, from 2025 on. All chance comes from one seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from engine.simulate import accounts, records
from engine.simulate.accounts import Account
from engine.simulate.faults import Damage
from engine.simulate.labels import Labeler
from engine.simulate.records import Scene
from engine.simulate.repository import Write, message
from engine.simulate.writes import DECLARATIONS, MIX, Clock, Writer

OPS_PER_ARRIVAL = 40
"""Between two new accounts, in a network without an end."""

ACCOUNT_SHARE, LABEL_SHARE = 0.002, 0.03
"""Of steps: those that change an account, those that labels follow on."""

_STAGE = (
    *("follow", "post", "list", "listitem", "threadgate", "postgate", "generator"),
    *("starterpack", "listblock", "verification", "block", "like", "repost", "foreign"),
)
"""What the first account does early, so that even a tiny network has every collection."""


class Outlet(Protocol):
    """Where it all goes, in order."""

    def frame(self, frame: bytes) -> None:
        """Take the relay's next message."""

    def labels_frame(self, did: str, frame: bytes) -> None:
        """Take a labeler's next message."""

    def identity(self, account: Account, old_handle: str) -> None:
        """Notice that an account's document changed."""


class Traffic:
    """One run. ``ops`` None never ends."""

    def __init__(
        self,
        outlet: Outlet,
        seed: int,
        accounts_count: int,
        ops: int | None,
        faults: Mapping[str, int],
        mix: Mapping[str, float] = MIX,
    ) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.accounts = [accounts.make(seed, number) for number in range(accounts_count)]
        self.arrived: list[Account] = []
        self.clock = Clock()
        self.damage = Damage(faults, random.Random(f"{seed} faults"))  # noqa: S311
        self.ops = self.commits = self.frames = self.labels = self.seq = 0
        handles = {account.did: account.handle for account in self.accounts}
        self._scene = Scene(self.dice, list(handles), handles)
        self._writer = Writer(self._scene, self.dice, self.clock, self._frame)
        self._labelers = [
            Labeler(account.did, account.label_key, self.dice)
            for account in self.accounts
            if account.label_key is not None
        ]
        self._outlet = outlet
        self._mix = mix
        self._wanted_ops = ops
        spacing = OPS_PER_ARRIVAL if ops is None else ops / accounts_count / 2
        self._spacing = min(spacing, OPS_PER_ARRIVAL)

    def steps(self) -> Iterator[None]:
        """Do one thing at a time: a few frames each."""
        kinds, weights = list(self._mix), list(self._mix.values())
        while self._goes_on():
            number = len(self.arrived)
            if number < len(self.accounts) and self.ops >= self._spacing * (number - 3):
                self._arrive(self.accounts[number])
            else:
                author = self.arrived[int(number * self.dice.random() ** 1.3)]
                if not author.active:
                    self._return(author)
                elif self.dice.random() < ACCOUNT_SHARE:
                    self._change(author)
                count = 1 if self.dice.random() < 0.85 else self.dice.randrange(2, 6)
                if author.active:
                    self._commit(author, self.dice.choices(kinds, weights, k=count))
                if self.dice.random() < LABEL_SHARE:
                    self._label()
            yield
        self._leave()
        yield

    def _goes_on(self) -> bool:
        if self._wanted_ops is None:
            return True
        return self.ops < self._wanted_ops or len(self.arrived) < len(self.accounts)

    # -- events -----------------------------------------------------------------------------

    def _arrive(self, account: Account) -> None:
        self.arrived.append(account)
        self._event("#identity", account.did, handle=account.handle)
        self._event("#account", account.did, active=True)
        self._send(account, [])  # hosts begin with an empty commit
        self._sync(account)
        writer, now = self._writer, self.clock.now()
        record = records.profile(self._scene, account.name, now)
        self._send(account, [writer.put("app.bsky.actor.profile/self", record)])
        if account.label_key is not None:
            self._declare(account, "app.bsky.labeler.service")
        if len(self.arrived) == 3:
            for kind in _STAGE:
                self._commit(self.arrived[0], [kind])
            for collection in DECLARATIONS:
                self._declare(self.arrived[0], collection)

    def _declare(self, account: Account, collection: str) -> None:
        record = records.declaration(self._scene, collection, self.clock.now())
        self._send(account, [self._writer.put(f"{collection}/self", record)])

    def _change(self, account: Account) -> None:
        """A new handle, or a pause that ends when the account is up again."""
        if self.dice.random() < 0.5 and account.active:
            self._rename(account, f"n{self.seq}-{account.name[-30:]}.example.test")
        else:
            self._status(account, "deactivated")

    def _return(self, account: Account) -> None:
        self._status(account, None)
        self._event("#identity", account.did, handle=account.handle)
        self._sync(account)

    def _rename(self, account: Account, handle: str) -> None:
        old, account.handle = account.handle, handle
        self._scene.handles[account.did] = handle
        self._outlet.identity(account, old)
        self._event("#identity", account.did, handle=handle)

    def _leave(self) -> None:
        """Events that change accounts; nothing is written by those that left."""
        for account in self.arrived:
            if not account.active:
                self._return(account)
        renamed, returned, deactivated, taken, deleted = self.accounts[-5:]
        self._rename(renamed, f"renamed-{renamed.handle}")
        self._status(returned, "deactivated")
        self._return(returned)
        self._status(deactivated, "deactivated")
        self._status(taken, "takendown")
        self._status(deleted, "deleted")

    def _status(self, account: Account, status: str | None) -> None:
        account.active, account.status = status is None, status
        extra = {} if status is None else {"status": status}
        self._event("#account", account.did, active=account.active, **extra)

    def _sync(self, account: Account) -> None:
        self.clock.tick()
        self._frame(account.repo.sync(self._next_seq(), self.clock.now()))

    def _event(self, kind: str, did: str, **fields: Any) -> None:
        self.clock.tick()
        body = {"seq": self._next_seq(), "did": did, "time": self.clock.now(), **fields}
        self._frame(message(kind, body))

    def _label(self) -> None:
        count = self.dice.randrange(1, 5)
        targets = [post for _ in range(count) if (post := self._scene.some_post()) is not None]
        if targets:
            labeler = self.dice.choice(self._labelers)
            frame = labeler.frame(targets, self.clock.now())
            self._outlet.labels_frame(labeler.did, frame)
            self.labels += len(targets)

    def _commit(self, account: Account, kinds: list[str]) -> None:
        writes: dict[str, Write] = {}
        for kind in kinds:
            write = self._writer.make(account, kind)
            if write is not None:
                writes.setdefault(write.path, write)
        if writes:
            self._send(account, list(writes.values()))

    def _send(self, account: Account, writes: list[Write]) -> None:
        self.clock.tick(self.dice.randrange(4_000_000))
        now = self.clock.now()
        draft = account.repo.commit(writes, self.clock.rev(), self._next_seq(), now)
        self.damage(draft)
        self._frame(draft.frame())
        self.ops += len(writes)
        self.commits += 1

    def _frame(self, frame: bytes) -> None:
        self._outlet.frame(frame)
        self.frames += 1

    def _next_seq(self) -> int:
        self.seq += 1 if self.dice.random() < 0.98 else 2  # relays skip numbers too
        return self.seq
