"""DIDs: revs, handles, statuses, deletion."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from tests.model import uris
from tests.model.collections import COLLECTIONS
from tests.model.late import instant
from tests.model.processor import Processor
from tests.model.store import Row, Tables

Resolve = Callable[[str], str | None]
"""DID -> its handle in lower case if that points back, else None; LookupError on failure."""

_STALE = timedelta(hours=24)
_STALE_WITHOUT_HANDLE = timedelta(hours=1)
_COLUMNS = (
    "handle takedownRef upstreamStatus ageAssuranceStatus ageAssuranceLastInitiatedAt "
    "ageAssuranceAccess ageAssuranceCountryCode ageAssuranceRegionCode"
).split()


class Accounts:
    """The actor table and what is remembered of each DID."""

    def __init__(self, tables: Tables, resolve: Resolve) -> None:
        self._tables = tables
        self._resolve = resolve
        self._due: dict[str, str] = {}

    def ensure(self, did: str, time: str) -> None:
        """Any event but a deletion makes a row."""
        if self._tables.get("actor", did) is None:
            self.touch(did, time, is_forced=False)

    def touch(self, did: str, time: str, *, is_forced: bool) -> None:
        """Look the handle up if the last look-up is old, as of ``time``.

        One that fails leaves the row alone and is tried again at the DID's next event.
        """
        row = self._tables.get("actor", did)
        if row is None:
            row = dict.fromkeys(_COLUMNS) | {"did": did, "indexedAt": time}
            self._tables.insert("actor", row | {"trustedVerifier": False})
            self._due[did] = time
        elif is_forced or self._is_stale(row, time):
            self._due[did] = time
        self.look_up(did)

    def _is_stale(self, row: Row, time: str) -> bool:
        due = self._due.get(row["did"])
        then, now = instant(due or row["indexedAt"]), instant(time)
        limit = _STALE if due or row["handle"] is not None else _STALE_WITHOUT_HANDLE
        return then is not None and now is not None and now - then > limit

    def look_up(self, did: str) -> None:
        """Do what is due for a DID; a contended handle goes to who asked last."""
        if did not in self._due:
            return
        try:
            handle = self._resolve(did)
        except LookupError:
            return
        if handle is not None:
            for other in self._tables.where("actor", handle=handle):
                self._tables.update("actor", other, handle=None)
        row = self._tables.get("actor", did)
        assert row is not None
        self._tables.update("actor", row, handle=handle, indexedAt=self._due.pop(did))

    def set_status(self, did: str, status: str | None) -> None:
        row = self._tables.get("actor", did)
        assert row is not None
        self._tables.update("actor", row, upstreamStatus=status)

    def delete(self, did: str, processor: Processor) -> None:
        """Remove an account as if it had deleted every record, and all that speaks of it.

        What others wrote stays: their likes, replies, follows, verifications. Every count is
        what it would be had the account never been there; its own aggregate rows stay
        for what others still have there.
        """
        tables = self._tables
        for record in tables.where("record", did=did):
            processor.delete(COLLECTIONS[uris.collection(record["uri"])], record["uri"])
        for table, column in (("notification", "author"), ("notification", "did")):
            tables.delete_where(table, **{column: did})
        for row in tables.all("op_thread_reply"):
            if uris.host(row["uri"]) == did:
                tables.delete("op_thread_reply", row)
        for row in tables.all("duplicate_record"):
            if uris.host(row["uri"]) == did:
                tables.delete("duplicate_record", row)
        tables.delete_where("actor", did=did)
        tables.delete_where("actor_sync", did=did)
        self._due.pop(did, None)


def is_newer(time: str, last: str | None, latest: datetime | None) -> bool:
    """Whether an event comes after the last of its kind.

    A time from the future silences only itself, not all that comes after.
    """
    if last is None:
        return True
    now, known = instant(time), instant(last)
    if now is None or known is None or now > known:
        return True
    return now < known and latest is not None and known > latest
