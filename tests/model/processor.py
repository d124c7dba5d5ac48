"""One op after another: the order of things that all collections share."""

from __future__ import annotations

import json

from engine import lexicons
from engine.core import codec
from tests.model import late, notifications, uris
from tests.model.collections import COLLECTIONS, Plain, Post
from tests.model.events import Op
from tests.model.notifications import Mutes
from tests.model.rows import Written
from tests.model.store import Rejected, Row, Tables

_lexicons = codec.Lexicons(lexicons.documents())


class Processor:
    """Applies single ops; each is a transaction of its own, lost as a whole if it fails."""

    def __init__(self, tables: Tables, mutes: Mutes) -> None:
        self._tables = tables
        self.mutes = mutes
        self.judged_again = 0
        """How many posts a late referent reopened."""

    def apply(self, did: str, time: str, op: Op) -> None:
        """One op of an event of ``time``.

        Raises:
            Rejected: the op is lost; nothing has changed.
        """
        collection = COLLECTIONS.get(op.path.split("/")[0])
        if collection is None:
            return
        uri = f"at://{did}/{op.path}"
        uris.host(uri)  # refuses what cannot be taken apart
        with self._tables.transaction():
            if op.action == "delete":
                self.delete(collection, uri)
                return
            written = _read(collection, uri, time, op)
            if op.action == "create":
                self._create(collection, written)
            else:
                self._update(collection, written)

    def _create(self, collection: Plain, written: Written) -> None:
        tables = self._tables
        uri = written.uri
        record = {
            "uri": uri,
            "cid": written.cid,
            "did": written.did,
            "json": written.json,
            "indexedAt": written.time,
            "takedownRef": None,
            "tags": None,
        }
        is_new = tables.insert("record", record)
        row = collection.insert(tables, written)
        if row is not None:
            again = late.named_by(tables, uri, written.time) if is_new else late.NOTHING
            collection.count(tables, row)
            if isinstance(collection, Post):
                told = collection.told(tables, row, {post["uri"] for post in again.told})
            else:
                told = collection.told_of_insert(tables, row)
            notifications.write(tables, self.mutes, told)
            self.judged_again += late.judge_again(tables, self.mutes, again)
            return
        occupant = collection.occupant(tables, written)
        if occupant is not None and occupant != uri:
            row = {"uri": uri, "cid": written.cid, "duplicateOf": occupant}
            tables.insert("duplicate_record", row | {"indexedAt": written.time})

    def _update(self, collection: Plain, written: Written) -> None:
        tables = self._tables
        uri = written.uri
        new = {"cid": written.cid, "indexedAt": written.time}
        for row in tables.where("record", uri=uri):
            tables.update("record", row, json=written.json, **new)
        occupant = collection.occupant(tables, written)
        for row in tables.where("duplicate_record", uri=uri):
            if occupant is None:
                tables.delete("duplicate_record", row)
            else:
                tables.update("duplicate_record", row, duplicateOf=occupant, **new)
        old = collection.delete(tables, uri)
        if old is None:
            self._create(collection, written)
            return
        collection.count(tables, old)
        inserted = collection.insert(tables, written)
        if inserted is None:
            raise Rejected("Record update failed: removed from index but could not be replaced")
        collection.count(tables, inserted)
        self._tell_of_delete(collection, old, inserted)

    def delete(self, collection: Plain, uri: str) -> None:
        """Remove a record; the oldest of its duplicates takes its place."""
        tables = self._tables
        tables.delete_where("record", uri=uri)
        tables.delete_where("duplicate_record", uri=uri)
        old = collection.delete(tables, uri)
        if old is None:
            return
        collection.count(tables, old)
        promoted = self._promote(collection, uri)
        self._tell_of_delete(collection, old, promoted)

    def _promote(self, collection: Plain, uri: str) -> Row | None:
        """The duplicate keeps its own row among the duplicates, and the others theirs."""
        tables = self._tables
        duplicates = [
            row for row in tables.where("duplicate_record", duplicateOf=uri)
            if tables.get("record", row["uri"])
        ]  # fmt: skip
        if not duplicates:
            return None
        first = min(duplicates, key=lambda row: (row["indexedAt"], row["uri"]))
        record = tables.get("record", first["uri"])
        assert record is not None
        written = Written(
            record["uri"],
            record["cid"],
            record["indexedAt"],
            json.loads(record["json"]),
            record["json"],
        )
        promoted = collection.insert(tables, written)
        if promoted is not None:
            collection.count(tables, promoted)
        return promoted

    def _tell_of_delete(self, collection: Plain, old: Row, new: Row | None) -> None:
        told, are_old_gone = collection.told_of_delete(self._tables, old, new)
        if are_old_gone:
            self._tables.delete_where("notification", recordUri=old["uri"])
        notifications.write(self._tables, self.mutes, told)


def _read(collection: Plain, uri: str, time: str, op: Op) -> Written:
    """The record of an op, if it is one that the collection takes."""
    assert op.cid is not None
    assert op.block is not None
    nsid = op.path.split("/")[0]
    try:
        text = codec.record_json(op.block).decode()
    except ValueError as error:
        raise Rejected(f"undecodable: {error}") from error
    if collection.is_validated:
        wrong = _lexicons.validate(nsid, op.block)
        if wrong is not None:
            raise Rejected(f"invalid: {wrong}")
    return Written(uri, op.cid, time, json.loads(text), text)
