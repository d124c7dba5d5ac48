"""What only history can tell: rows that the final repositories do not come to by themselves.

A recorded network's tables are what its log made, event by event. Fetched repositories hold
what is left in the end, so some rows differ for good. Which ones may is decided here, from the
log and the exports alone, by the records that a row tells of or is judged by:

=============  ==============================================================================
reason         evidence in the log
=============  ==============================================================================
``changed``    the record itself has more than one op: a row keeps what an earlier version
               told, or a tombstone of it; a deleted record left some behind
``rival``      a record with the same unique key has more than one op: who was first then is
               not who is first now
``subject``    the post that a feed item, quote or count is about was updated or deleted after
               it was named: that took others' rows of it away, or left a number standing
``judge``      what a verdict goes by (ancestors, root, gates, what a gate allows) has more
               than one op: verdicts are passed once, by what was there at that instant
``order``      what a verdict goes by came after it in the log, or is not older by its key, or
               is a follow or a list item, which reopen nothing
``unfetched``  one of these records is of a repository that no host gives out
``deleted``    who was told has deleted the account: what it was told by then went with it
=============  ==============================================================================

A row without any reason is a function of the repositories and must be the same. Of a post
only the verdicts may differ, for whatever reason.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.core import codec
from tests.model import uris
from tests.model.collections import COLLECTIONS
from tests.model.events import Account, Commit, Event
from tests.model.exported import Dates
from tests.model.stable import frozen
from tests.model.store import UNIQUE, Rejected, Row

Record = dict[str, Any]

_FOLLOW, _LIST_ITEM = "app.bsky.graph.follow", "app.bsky.graph.listitem"

VERDICTS = {"invalidReplyRoot", "violatesThreadGate", "violatesEmbeddingRules"} | {
    "hasThreadGate", "hasPostGate"
}  # fmt: skip


@dataclass(frozen=True)
class _Version:
    place: int
    """In the log."""
    time: str
    action: str
    record: Record


class History:
    """A log, and the records that are left of it in the exports of ``exported``.

    ``live``: the log was applied, too, in any order and as far as it came before each export.
    """

    def __init__(
        self, log: Sequence[Event], exported: Iterable[Event], *, live: bool = False
    ) -> None:
        self._live = live
        self._versions: dict[str, list[_Version]] = defaultdict(list)
        self._kept: dict[str, str] = {}  # uri -> T as a fetched record has it
        self._rivals: dict[tuple[str, ...], set[str]] = defaultdict(set)
        self._about: dict[str, set[str]] = defaultdict(set)  # uri or DID -> who is counted there
        self._dids: set[str] = set()
        self._deleted = {
            event.did
            for event in log
            if isinstance(event, Account) and event.status == "deleted" and not event.active
        }
        for place, (event, path, action, record) in enumerate(_ops(log)):
            uri = f"at://{event.did}/{path}"
            self._versions[uri].append(_Version(place, event.time, action, record))
            if (key := _unique_key(event.did, path, record)) is not None:
                self._rivals[key].add(uri)
            for about in _counted(event.did, path, record):
                self._about[about].add(uri)
        for event in exported:
            self._dids.add(event.did)
            if isinstance(event, Commit):
                self._kept |= {f"at://{event.did}/{op.path}": event.time for op in event.ops}

    def reasons(self, table: str, row: Row) -> set[str]:
        """Why this row may differ, empty if it may not."""
        match table:
            case "post" if row.keys() >= VERDICTS:
                uri = row["uri"]
                return self._own(uri) | self._verdicts(uri) | self._gate_flags(uri)
            case "op_thread_reply":
                return self._own(row["uri"])
            case "duplicate_record":
                return self._fetched(row["uri"]) | self._keys(row["uri"])
            case "feed_item" if row["type"] == "repost":
                return self._lost_subject(row["uri"], row["postUri"])
            case "quote":
                return self._lost_subject(row["uri"], row["subject"])
            case "notification":
                return self._notification(row)
            case "post_agg":
                return self._count(row["uri"])
            case "profile_agg":
                return self._count(row["did"])
            case "actor" | "actor_sync":
                return self._fetched(row["did"])
        return self._fetched(row["uri"] if "creator" in row or "cid" in row else row["postUri"])

    def _fetched(self, uri: str) -> set[str]:
        """Of a uri or a DID."""
        return set() if self._live or _host(uri) in self._dids else {"unfetched"}

    def _own(self, uri: str) -> set[str]:
        return self._fetched(uri) | ({"changed"} if len(self._versions[uri]) != 1 else set())

    def _keys(self, uri: str) -> set[str]:
        rivals = self._rivals_of(uri)
        return {"rival"} if any(len(self._versions[rival]) > 1 for rival in rivals) else set()

    def _notification(self, row: Row) -> set[str]:
        uri = row["recordUri"]
        found = self._own(uri) | self._keys(uri)
        if row["reason"] in ("reply", "quote"):
            found |= self._verdicts(uri)
        return found | ({"deleted"} if row["did"] in self._deleted else set())

    def _rivals_of(self, uri: str) -> set[str]:
        path = uri.split("/", 3)[3]
        keys = {_unique_key(_host(uri), path, each.record) for each in self._versions[uri]}
        return {rival for key in keys if key for rival in self._rivals[key]} - {uri}

    def _lost_subject(self, uri: str, subject: str) -> set[str]:
        """What is done to a post takes away the others' rows that name it by then."""
        found = self._fetched(uri)
        if subject in self._versions:
            found |= self._fetched(subject)
        named = self._versions[uri]
        since = named[-1].place if named else -1
        later = [each for each in self._versions.get(subject, ()) if each.place > since]
        return found | ({"subject"} if any(each.action != "create" for each in later) else set())

    def _verdicts(self, uri: str) -> set[str]:
        found: set[str] = set()
        for judge, judged in self._judges(uri, set()):
            versions = self._versions.get(judge)
            if not versions:
                continue
            found |= self._fetched(judge)
            if len(versions) > 1:
                found.add("judge")
            nsid = uris.collection(judge)
            is_before = versions[0].place < self._versions[judged][0].place
            is_older = is_before and max(self._times(judge)) < min(self._times(judged))
            if nsid in (_FOLLOW, _LIST_ITEM) or not is_older:
                found.add("order")
        return found

    def _times(self, uri: str) -> list[str]:
        """What T of a record may be."""
        kept = [self._kept.get(uri, "")] if uri in self._kept or not self._live else []
        return kept + [each.time for each in self._versions[uri] if self._live]

    def _gate_flags(self, uri: str) -> set[str]:
        """A post says of its own gates that they were there, or that they are gone."""
        found: set[str] = set()
        for gate in (uris.threadgate_of(uri), uris.postgate_of(uri)):
            versions = self._versions.get(gate, ())
            if len(versions) > 1:
                found.add("judge")
            if versions and versions[0].place < self._versions[uri][0].place:
                found.add("order")
        return found

    def _judges(self, uri: str, seen: set[str]) -> Iterable[tuple[str, str]]:
        """(record, the post judged by it), up all parents."""
        if uri in seen:
            return
        seen.add(uri)
        for version in self._versions.get(uri, ()):
            root, parent = _reply(version.record)
            if parent:
                yield from ((root, uri), (parent, uri))
                yield from self._gate(uri, root)
                yield from self._judges(parent, seen)
            for quoted, _ in _quoted(version.record):
                if _host(quoted) != _host(uri):
                    yield uris.postgate_of(quoted), uri

    def _gate(self, uri: str, root: str) -> Iterable[tuple[str, str]]:
        gate = uris.threadgate_of(root)
        yield gate, uri
        owner, replier = _host(root), _host(uri)
        for version in self._versions.get(gate, ()):
            for rule in version.record.get("allow") or ():
                keys: list[tuple[str, ...]] = [
                    (_FOLLOW, owner, replier),
                    (_FOLLOW, replier, owner),
                    (_LIST_ITEM, str(rule.get("list")), replier),
                ]
                for key in keys:
                    yield from ((allowed, uri) for allowed in self._rivals.get(key, ()))

    def _count(self, key: str) -> set[str]:
        """Numbers follow from the rows that they count."""
        found: set[str] = set()
        for uri in self._about.get(key, ()):
            found |= self._own(uri) | self._keys(uri)
            if uris.collection(uri) == uris.POST:
                found |= self._verdicts(uri)
                for version in self._versions[uri]:
                    for quoted, cid in _quoted(version.record):
                        if quoted == key:
                            found |= self._quotes(cid)
        return found

    def _quotes(self, cid: str) -> set[str]:
        """Quotes are counted by the CID that they name, whatever its uri."""
        found: set[str] = set()
        for quote in self._about.get(cid, ()):
            found |= self._own(quote)
            for version in self._versions[quote]:
                for subject, named in _quoted(version.record):
                    if named == cid:
                        found |= self._lost_subject(quote, subject)
        return found


@dataclass
class Compared:
    """Rows that a log made against those of the repositories that it left."""

    unexplained: list[tuple[str, str, Row]] = field(default_factory=list)
    """("missing" | "extra", table, row) without a reason."""
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many rows of a table differ for each reason; a row may have several."""
    bound: Counter[str] = field(default_factory=Counter)
    """By table, the log's rows of exported repositories that have no reason to differ."""


def compare(
    history: History, dates: Dates, logged: dict[str, list[Row]], fetched: dict[str, list[Row]]
) -> Compared:
    """Compare all columns of all rows; those of the log get the times that fetched records have."""
    found = Compared()
    for table, rows in logged.items():
        found.bound[table] = sum(not history.reasons(table, row) for row in rows)
        theirs, ours = [dates.put(table, row) for row in rows], fetched[table]
        _compare(found, history, table, theirs, ours)
        if table == "post":
            _compare(found, history, table, _without_verdicts(theirs), _without_verdicts(ours))
    return found


def _without_verdicts(posts: list[Row]) -> list[Row]:
    return [{name: post[name] for name in post.keys() - VERDICTS} for post in posts]


def _compare(
    found: Compared, history: History, table: str, theirs: list[Row], ours: list[Row]
) -> None:
    left, right = Counter(map(frozen, theirs)), Counter(map(frozen, ours))
    for word, rows in (("missing", left - right), ("extra", right - left)):
        for row in map(dict, rows.elements()):
            reasons = history.reasons(table, row)
            found.reasons.update((table, reason) for reason in reasons)
            if not reasons:
                found.unexplained.append((word, table, row))


def _ops(events: Iterable[Event]) -> Iterable[tuple[Event, str, str, Record]]:
    for event in events:
        for op in event.ops if isinstance(event, Commit) else ():
            record: Record = {}
            if op.block is not None:
                try:
                    record = json.loads(codec.record_json(op.block))
                except ValueError:
                    continue
            yield event, op.path, op.action, record


def _unique_key(did: str, path: str, record: Record) -> tuple[str, ...] | None:
    nsid = path.split("/")[0]
    table = COLLECTIONS[nsid].table if nsid in COLLECTIONS else ""
    if table not in UNIQUE:
        return None
    subject = record.get("post" if table.endswith("_gate") else "subject")
    name = str(subject["uri"] if isinstance(subject, dict) else subject)
    return (nsid, str(record.get("list")) if table == "list_item" else did, name)


def _counted(did: str, path: str, record: Record) -> Iterable[str]:
    """Where a record is counted: uris of posts, DIDs, CIDs of quoted posts."""
    match path.split("/")[0]:
        case "app.bsky.feed.like" | "app.bsky.feed.repost":
            subject = record.get("subject")
            if isinstance(subject, dict):
                yield str(subject.get("uri"))
        case "app.bsky.graph.follow":
            yield from (did, str(record.get("subject")))
        case uris.POST:
            yield did
            yield _reply(record)[1]
            for quoted, cid in _quoted(record):
                yield from (quoted, cid)


def _host(uri: str) -> str:
    """Of a uri, or the DID itself."""
    try:
        return uris.host(uri if uri.startswith("at:") else f"at://{uri}")
    except Rejected:
        return ""


def _reply(record: Record) -> tuple[str, str]:
    """(root, parent), empty if it is none."""
    match record.get("reply"):
        case {"root": {"uri": str(root)}, "parent": {"uri": str(parent)}}:
            return root, parent
    return "", ""


def _quoted(record: Record) -> list[tuple[str, str]]:
    """(uri, CID) of whatever an embed may quote."""
    embed = record.get("embed")
    parts = (embed, embed.get("record"), embed.get("media")) if isinstance(embed, dict) else ()
    found = []
    for part in parts:
        match part:
            case {"record": {"uri": str(uri), "cid": str(cid)}}:
                found.append((uri, cid))
    return found
