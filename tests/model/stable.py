"""Stable rows: those that every order of arrival yields, as long as each repository keeps its own.

A row is stable if every record that it is judged by never exists in the input, or has exactly one
version there, a create, older than the row. What a row is judged by:

=====================  ====================================================================
row                    judged by
=====================  ====================================================================
a reply                its parent, if that is there also the parent's ancestors in the same
                       way; its root; its thread's gate; if that has rules about follows or
                       lists, the follows and list items that would matter
a quoting post         the gates of the posts of others that any version of it quotes
feed item of a repost  the posts that any version of it reposts, if they are another's
quote                  the quoted post, if it is another's
notification           the post that tells it, as above (but a mention: by nothing); with thread
                       mutes of its recipient also the post that it is about
post_agg               replyCount: the gates of all replies; quoteCount: every quote must name the
                       same CID, that CID no other uri, and the post has no second version
=====================  ====================================================================

All else (records, follows, likes, duplicates, embeds, OP threads, statuses, other counts) follows
from one repository alone and is always stable.

Where this is stricter than "one version, older", ``late`` would find no way to the row:

* parents that are no posts, and follows and list items that a gate names, must not exist at
  all, for none of them reopens a verdict;
* in a thread with a gate a reply must hang on the root: each parent is an accepted post that
  names the same root, up to the root, which is no reply;
* a post that quotes under a gate must have a single quote, and the quoted post no second version.

An account's deletion counts as another version of all its records, and what it was told is
unstable. Times are compared as in ``late``. Commits that a rev makes duplicates are no input.
Handles that several DIDs claim are not looked at: give each to one.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core import codec
from tests.model import uris
from tests.model.events import Account, Commit, Event
from tests.model.late import instant
from tests.model.model import Model
from tests.model.store import Rejected, Row

_FOLLOW_RULES = {"followerRule", "followingRule"}


@dataclass(frozen=True)
class _Version:
    time: str
    action: str
    cid: str | None
    record: dict[str, Any]


class Stability:
    """What an input, given in its own order, says about rows: those it yields, or any other."""

    def __init__(self, events: Iterable[Event], mutes: Iterable[tuple[str, str]] = ()) -> None:
        self._versions: dict[str, list[_Version]] = defaultdict(list)
        self._deleted: set[str] = set()
        self._follows: set[tuple[str, str]] = set()
        self._list_items: set[tuple[str, str]] = set()
        self._replies: dict[str, set[str]] = defaultdict(set)
        self._quotes: dict[str, set[tuple[str, str]]] = defaultdict(set)  # uri -> (quote, cid)
        self._quoted_cids: dict[str, set[str]] = defaultdict(set)  # cid -> uris
        self._muting = {did for did, _ in mutes}
        self._accepted: set[str] = set()
        model = Model()
        revs: dict[str, str] = {}
        for event in events:
            model.apply(event)
            if isinstance(event, Account) and event.status == "deleted" and not event.active:
                self._deleted.add(event.did)
            if isinstance(event, Commit) and event.rev > revs.get(event.did, ""):
                revs[event.did] = event.rev
                self._read(event)
                written = [f"at://{event.did}/{op.path}" for op in event.ops]
                self._accepted.update(filter(model.has_record, written))

    def is_stable(self, table: str, row: Row) -> bool:
        """Whether this row, by its key, must be the same in every order."""
        match table:
            case "post":
                return self._is_post_stable(row["uri"], row["indexedAt"])
            case "feed_item":
                return row["type"] == "post" or all(
                    self._is_left_alone(subject, row["uri"])
                    for subject in self._subjects(row["uri"])
                )
            case "quote":
                return self._is_left_alone(row["subject"], row["uri"])
            case "notification":
                return self._is_notification_stable(row)
            case "post_agg":
                return self._is_reply_count_stable(row["uri"]) and self._is_quote_count_stable(
                    row["uri"]
                )
        return True

    def _read(self, event: Commit) -> None:
        for op in event.ops:
            uri = f"at://{event.did}/{op.path}"
            record: dict[str, Any] = {}
            if op.block is not None:
                try:
                    record = json.loads(codec.record_json(op.block))
                except ValueError:
                    continue
            self._versions[uri].append(_Version(event.time, op.action, op.cid, record))
            match op.path.split("/")[0]:
                case "app.bsky.graph.follow":
                    self._follows.add((event.did, str(record.get("subject"))))
                case "app.bsky.graph.listitem":
                    item = (str(record.get("list")), str(record.get("subject")))
                    self._list_items.add(item)
                case uris.POST:
                    _, parent = _reply(record)
                    self._replies[parent].add(uri)
                    for quoted, cid in filter(lambda quote: _is_post(quote[0]), _quoted(record)):
                        self._quotes[quoted].add((uri, cid))
                        self._quoted_cids[cid].add(quoted)

    def _is_settled(self, uri: str, time: str) -> bool:
        """Never there, or created once and before ``time``."""
        versions = self._versions.get(uri)
        if not versions:
            return True
        ours, theirs = instant(versions[0].time), instant(time)
        is_older = ours is not None and theirs is not None and ours < theirs
        return is_older and self._is_created_once(uri)

    def _is_created_once(self, uri: str) -> bool:
        versions = self._versions.get(uri, [])
        did = uri.removeprefix("at://").split("/")[0]
        return [version.action for version in versions] == ["create"] and did not in self._deleted

    def _is_left_alone(self, post: str, by: str) -> bool:
        """Whether nothing can remove what others hang on a post."""
        if _host(post) == _host(by):
            return True
        return post not in self._versions or self._is_created_once(post)

    def _subjects(self, uri: str) -> set[str]:
        """What any version of a repost reposts."""
        subjects = [version.record.get("subject") for version in self._versions.get(uri, [])]
        return {str(subject["uri"]) for subject in subjects if isinstance(subject, dict)}

    def _is_post_stable(self, uri: str, time: str) -> bool:
        return self._is_reply_stable(uri, time) and self._is_quoting_stable(uri, time)

    def _is_reply_stable(self, uri: str, time: str) -> bool:
        return all(
            self._is_gate_verdict_stable(uri, root, time) and self._is_line_stable(uri, time)
            for root, parent in self._replies_of(uri)
            if parent
        )

    def _is_line_stable(self, uri: str, time: str, below: tuple[str, ...] = ()) -> bool:
        """Ancestors up to the first that never exists."""
        for root, parent in self._replies_of(uri):
            if parent not in self._versions or not parent:
                continue
            if not _is_post(parent) or parent in (uri, *below):
                return False
            if not self._is_settled(parent, time) or not self._is_settled(root, time):
                return False
            above = self._versions[parent][0].time
            if not self._is_line_stable(parent, above, (*below, uri)):
                return False
        return True

    def _is_gate_verdict_stable(
        self, uri: str, root: str, time: str, *, is_hiding: bool = False
    ) -> bool:
        """Whether the verdict by a thread's gate is; ``is_hiding`` asks for hidden replies too."""
        owner, replier = _host(root), _host(uri)
        if not _is_post(root):
            return root not in self._versions
        if not self._is_settled(root, time):
            return False
        gate = root.replace(f"/{uris.POST}/", f"/{uris.THREADGATE}/", 1)
        if gate not in self._versions or (owner == replier and not is_hiding):
            return True
        if not self._is_settled(gate, time) or not self._hangs_on(uri, root, time):
            return False
        allow = self._versions[gate][0].record.get("allow")
        for rule in allow if isinstance(allow, list) else []:
            name = rule.get("$type", "").partition("#")[2]
            follows = {(owner, replier), (replier, owner)} & self._follows
            if name in _FOLLOW_RULES and follows:
                return False
            if name == "listRule" and (rule.get("list"), replier) in self._list_items:
                return False
        return True

    def _hangs_on(self, uri: str, root: str, time: str, below: tuple[str, ...] = ()) -> bool:
        """Whether a thread's gate can find a reply, and a missing parent the gate."""
        if any(_reply(version.record)[1] for version in self._versions.get(root, [])):
            return False
        replies = self._replies_of(uri)
        for named, parent in replies:
            if named != root or parent in (uri, *below):
                return False
            if parent == root:
                continue
            if not {root, parent} <= self._accepted:
                return False
            if not _is_post(parent) or not self._is_settled(parent, time):
                return False
            above = self._versions[parent][0].time
            if not self._hangs_on(parent, root, above, (*below, uri)):
                return False
        return bool(replies)

    def _is_quoting_stable(self, uri: str, time: str) -> bool:
        for version in self._versions.get(uri, []):
            quoted = _quoted(version.record)
            gates = [uris.postgate_of(to) for to, _ in quoted if _host(to) != _host(uri)]
            if not any(gate in self._versions for gate in gates):
                continue
            if len(quoted) > 1 or not self._is_settled(gates[0], time):
                return False
            if not self._is_left_alone(quoted[0][0], uri):
                return False
        return True

    def _is_notification_stable(self, row: Row) -> bool:
        if row["did"] in self._deleted or row["author"] in self._deleted:
            return False
        subject, uri = row["reasonSubject"], row["recordUri"]
        is_told_of_post = (
            row["reason"] in ("reply", "quote", "like", "repost") or "via" in row["reason"]
        )
        if row["did"] in self._muting and is_told_of_post and subject in self._versions:
            return False
        if row["reason"] not in ("reply", "quote"):
            return True
        times = [v.time for v in self._versions.get(uri, []) if v.cid == row["recordCid"]]
        if not times or not self._is_quoting_stable(uri, times[0]):
            return False
        return row["reason"] == "quote" or (
            self._is_reply_stable(uri, times[0])
            and all(
                self._is_gate_verdict_stable(uri, root, times[0], is_hiding=True)
                for root, _ in self._replies_of(uri)
            )
        )

    def _is_reply_count_stable(self, uri: str) -> bool:
        return all(
            self._is_gate_verdict_stable(reply, root, version.time)
            for reply in self._replies.get(uri, ())
            for version in self._versions[reply]
            for root, parent in [_reply(version.record)]
            if parent == uri
        )

    def _is_quote_count_stable(self, uri: str) -> bool:
        cids = {cid for _, cid in self._quotes.get(uri, ())}
        if not cids:
            return True
        alone = len(cids) == 1 and all(self._quoted_cids[cid] == {uri} for cid in cids)
        return alone and (uri not in self._versions or self._is_created_once(uri))

    def _replies_of(self, uri: str) -> set[tuple[str, str]]:
        """(root, parent) of every version of a post that is a reply."""
        found = {_reply(version.record) for version in self._versions.get(uri, [])}
        return {(root, parent) for root, parent in found if parent}


def _is_post(uri: str) -> bool:
    return uri.split("/")[3:4] == [uris.POST]


def _host(uri: str) -> str:
    try:
        return uris.host(uri)
    except Rejected:
        return ""


def _reply(record: dict[str, Any]) -> tuple[str, str]:
    """(root, parent), empty if it is none."""
    match record.get("reply"):
        case {"root": {"uri": str(root)}, "parent": {"uri": str(parent)}}:
            return root, parent
    return "", ""


def _quoted(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(uri, CID) of whatever an embed may quote."""
    embed = record.get("embed")
    found = []
    if isinstance(embed, dict):
        for part in (embed, embed.get("record"), embed.get("media")):
            match part:
                case {"record": {"uri": str(uri), "cid": str(cid)}}:
                    found.append((uri, cid))
    return found


def differing(
    stability: Stability, wanted: dict[str, list[Row]], got: dict[str, list[Row]]
) -> tuple[list[tuple[str, str, Row]], Counter[str]]:
    """Rows that are only on one side: the stable ones, and how many others of each table.

    Tables are compared as multisets. A stable row comes as ("missing" | "extra", table, row).
    """
    stable: list[tuple[str, str, Row]] = []
    unstable: Counter[str] = Counter()
    for table, rows in wanted.items():
        left, right = Counter(map(frozen, rows)), Counter(map(frozen, got[table]))
        for word, found in (("missing", left - right), ("extra", right - left)):
            for row in map(dict, found.elements()):
                if stability.is_stable(table, row):
                    stable.append((word, table, row))
                else:
                    unstable[table] += 1
    return stable, unstable


def frozen(row: Row) -> tuple[tuple[str, Any], ...]:
    """A row that can be counted."""
    items = ((name, row[name]) for name in sorted(row))
    return tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in items)


def mixed(events: Sequence[Event], rng: random.Random) -> list[Event]:
    """Another order: repositories against one another, each in its own order.

    Sometimes a repository comes as a whole, as in a backfill; sometimes all are shuffled.
    """
    queues: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        queues[event.did].append(event)
    turns = [event.did for event in events]
    if rng.random() < 0.5:
        rng.shuffle(turns)
    else:
        places = {did: rng.random() for did in queues}
        turns.sort(key=places.__getitem__)
    left = {did: iter(queue) for did, queue in queues.items()}
    return [next(left[did]) for did in turns]
