"""A slow model of the data plane: every event becomes its rows, one op after another.

It shares no rule with the engine. It reads like the reference's indexer run serially: validate,
insert or nothing, judge, count over all rows, tell; an op that fails is undone as a whole. It
differs from the reference where the project does, always on the side of keeping data:

* an op whose notifications are all muted is indexed without them (``notifications``);
* a post with an empty images embed is indexed (``posts``);
* late referents are judged again (``late``: the rule stands there);
* an undecodable record costs its op, not its commit (``processor``);
* a commit not newer than the last applied one is a duplicate, and an account or identity event
  not newer than the last of its kind (here);
* an actor row exists from a DID's first event on, and keeps a status that comes before any
  commit (``accounts``);
* an account's deletion leaves no stale rows or counts (``accounts``).

Where the reference leaves a choice open the model makes one: of duplicates with the same
``indexedAt`` the one with the smaller uri is promoted. It does not know the limit of index keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from engine.core import codec
from tests.model import accounts
from tests.model.events import Account, Commit, Event, Identity, Op, Sync
from tests.model.late import instant
from tests.model.processor import Processor
from tests.model.store import KEYS, Rejected, Row, Tables

_TOLERANCE = timedelta(minutes=5)
_DIGITS = "234567abcdefghijklmnopqrstuvwxyz"
_INACTIVE = ("takendown", "suspended", "deactivated")


def _unresolved(did: str) -> str | None:
    raise LookupError(did)


class Model:
    """The whole state; ``apply`` events in order, then read ``tables``.

    Args:
        mutes: (DID, uri of a thread's root) pairs.
        resolve: What look-ups of handles answer; without it every look-up fails.
        is_hosted: Whether a DID's host still has its repository when a deletion is announced.
        now: The clock, seconds since 1970; None lets nothing be from the future.
    """

    def __init__(
        self,
        mutes: Iterable[tuple[str, str]] = (),
        resolve: accounts.Resolve = _unresolved,
        is_hosted: Callable[[str], bool] = lambda did: False,
        now: float | None = None,
    ) -> None:
        self._tables = Tables()
        self._processor = Processor(self._tables, frozenset(mutes))
        self._accounts = accounts.Accounts(self._tables, resolve)
        self._is_hosted = is_hosted
        self._latest = None if now is None else datetime.fromtimestamp(now, UTC) + _TOLERANCE
        self._revs: dict[str, str] = {}
        self._times: dict[tuple[str, type[Event]], str] = {}
        self.outcomes: Counter[str] = Counter()
        """Ops applied, duplicate, and rejected by reason."""

    @property
    def judged_again(self) -> int:
        """How many times a post was judged again because of something late."""
        return self._processor.judged_again

    def tables(self) -> dict[str, list[Row]]:
        """Every table, empty ones too, in the data plane's columns but for a notification's id."""
        found = {name: self._tables.all(name) for name in KEYS}
        found["notification"] = [
            {name: value for name, value in row.items() if name != "id"}
            for row in found["notification"]
        ]
        return found

    def mute(self, mutes: Iterable[tuple[str, str]]) -> None:
        """From now on these threads are muted, and no others."""
        self._processor.mutes = frozenset(mutes)

    def look_up(self, did: str) -> None:
        """Try once more what is due for a DID."""
        self._accounts.look_up(did)

    def has_record(self, uri: str) -> bool:
        return self._tables.get("record", uri) is not None

    def apply(self, event: Event) -> None:
        """Apply one event, after all that came before."""
        match event:
            case Commit():
                self._commit(event)
            case Sync():
                self._sync(event)
            case Identity():
                if self._is_repeated(event):
                    return
                self._accounts.touch(event.did, event.time, is_forced=True)
            case Account():
                self._account(event)

    def _commit(self, event: Commit) -> None:
        if not self._is_rev_acceptable(event.rev):
            self.outcomes["rejected: rev"] += len(event.ops)
            return
        if event.rev <= self._revs.get(event.did, ""):
            self.outcomes["duplicate"] += len(event.ops)
            return
        self._revs[event.did] = event.rev
        ops = [op for op in event.ops if _says_something(op)]
        if ops:
            self._move(event)
        for op in ops:
            try:
                self._processor.apply(event.did, event.time, op)
                self.outcomes["applied"] += 1
            except Rejected as reason:
                self.outcomes[f"rejected: {reason}"] += 1

    def _sync(self, event: Sync) -> None:
        if self._is_rev_acceptable(event.rev) and event.rev >= self._revs.get(event.did, ""):
            self._revs[event.did] = event.rev
            self._move(event)

    def _move(self, event: Commit | Sync) -> None:
        self._tables.delete_where("actor_sync", did=event.did)
        row = {"did": event.did, "commitCid": event.cid, "repoRev": event.rev}
        self._tables.insert("actor_sync", row)
        self._accounts.touch(event.did, event.time, is_forced=False)

    def _account(self, event: Account) -> None:
        if self._is_repeated(event):
            return
        known = event.status in (None, "deleted", *_INACTIVE)
        if known and event.active:
            self._accounts.ensure(event.did, event.time)
            self._accounts.set_status(event.did, None)
        elif event.status in _INACTIVE:
            self._accounts.ensure(event.did, event.time)
            self._accounts.set_status(event.did, event.status)
        elif event.status == "deleted":
            if not self._is_hosted(event.did):
                self._accounts.delete(event.did, self._processor)
        elif event.status is not None:
            self._accounts.ensure(event.did, event.time)

    def _is_repeated(self, event: Event) -> bool:
        if instant(event.time) is None:
            return True
        if isinstance(event, Account) and event.status is None and not event.active:
            return True  # says nothing, and is not remembered
        key = (event.did, type(event))
        if not accounts.is_newer(event.time, self._times.get(key), self._latest):
            return True
        self._times[key] = event.time
        return False

    def _is_rev_acceptable(self, rev: str) -> bool:
        if not codec.check_syntax("tid", rev):
            return False
        value = 0
        for letter in rev:
            value = value << 5 | _DIGITS.index(letter)
        at = datetime.fromtimestamp((value >> 10) / 1e6, UTC)
        return self._latest is None or at <= self._latest


def _says_something(op: Op) -> bool:
    return op.action == "delete" or (
        op.action in ("create", "update") and op.cid is not None and op.block is not None
    )
