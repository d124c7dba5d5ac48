"""Late referents: what is judged again when something arrives that others had named before.

The reference judges a reply or a quote once, by what it holds at that instant; what comes
later is never seen. Where events of different repositories arrive out of order, that loses
replies for good. Hence the project's rule:

A post, threadgate or postgate X is *late* for a post Q if X's record comes in where there was
none (by a create, or by an update of what was never seen), Q's rows are there already, and the
T of X is before the T of Q (``indexedAt``, compared as instants; equal or unreadable times are
not late). Everything below concerns only posts for which X is late.

1. *Verdicts.* Each is passed again, as of now, on those posts into whose verdict X enters, and
   no other verdict is touched:

   ===============  ==========================================================================
   X                verdicts
   ===============  ==========================================================================
   post             ``invalidReplyRoot`` of replies with X as parent. Where that changes,
                    ``violatesThreadGate`` as well (the gate may have come while the reply hung
                    on nothing, and a root's mentions may allow), and so on with their replies
   threadgate       ``violatesThreadGate`` of the thread's replies: whatever hangs on the gate's
                    post over any number of parents, and names it as its root
   postgate         ``violatesEmbeddingRules`` of the posts that have a quote of the gate's post
   ===============  ==========================================================================

   The columns are written as an insert writes them: ``invalidReplyRoot`` and
   ``violatesThreadGate`` both, or both NULL; ``violatesEmbeddingRules`` true or NULL.
   All of this is found by the keys that the data plane has: parents of posts, subjects of
   quotes. Nothing is known of a thread's replies over a parent that never came.
2. *Counts.* Where ``violatesThreadGate`` changed, replyCount of the reply's parent is made anew.
3. *Notifications.* For every post with a changed verdict, every reply below X (X among its four
   nearest ancestors) and every reply or quote that a gate X concerns: those that its insert would
   produce now are added, unless the recipient already has one of that post, or has muted
   the thread. A gate also takes away what the insert would not produce now: a threadgate among
   the replies', a postgate among the quotes'. So does a verdict that turns to violating. A post
   by itself only adds.

Nothing else is done: ``indexedAt``, feed items, quotes, OP threads and own flags stay. The
insert of X tells about its replies what the reference tells, but not of those judged again here.

Updates of what was there, deletes, follows and list items reopen nothing. In a log whose T never
goes backwards nothing is ever late, so one relay in order yields the reference's rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.model import aggregates, notifications, posts, uris
from tests.model.notifications import Mutes
from tests.model.store import Row, Tables


@dataclass
class Again:
    """Which posts X is late for, and how X enters their verdicts."""

    time: str = ""
    parent: list[Row] = field(default_factory=list)
    gated: list[Row] = field(default_factory=list)
    quoting: list[Row] = field(default_factory=list)
    told: list[Row] = field(default_factory=list)
    takes: str | None = None  # the reason of which a gate takes notifications away


NOTHING = Again()


def instant(time: str) -> datetime | None:
    """An ISO time to the millisecond, as the reference's clock has it."""
    try:
        read = datetime.fromisoformat(time)
    except ValueError:
        return None
    read = read if read.tzinfo else read.replace(tzinfo=UTC)
    return read.replace(microsecond=read.microsecond // 1000 * 1000)


def is_late(time: str, post: Row) -> bool:
    ours, theirs = instant(time), instant(post["indexedAt"])
    return ours is not None and theirs is not None and ours < theirs


def named_by(tables: Tables, uri: str, time: str) -> Again:
    """The posts that a record new at ``uri`` is late for."""

    def later(found: list[Row]) -> list[Row]:
        return [post for post in found if post["uri"] != uri and is_late(time, post)]

    kind = uris.collection(uri)
    if kind == uris.POST:
        below = [post for depth, post in posts.descendants(tables, uri) if depth < posts.DEPTH]
        children = tables.where("post", replyParent=uri)
        return Again(time, parent=later(children), told=later(below))
    post = uri.replace(f"/{kind}/", f"/{uris.POST}/", 1)
    if kind == uris.THREADGATE:
        gated = later([reply for reply in _thread(tables, post) if reply["replyRoot"] == post])
        return Again(time, gated=gated, told=gated, takes="reply")
    if kind == uris.POSTGATE:
        rows = [tables.get("post", row["uri"]) for row in tables.where("quote", subject=post)]
        quoting = later([row for row in rows if row is not None])
        return Again(time, quoting=quoting, told=quoting, takes="quote")
    return NOTHING


def _thread(tables: Tables, root: str) -> list[Row]:
    """All that hangs on a post, which itself need not be there."""
    found: dict[str, Row] = {}
    work = [root]
    while work:
        for reply in tables.where("post", replyParent=work.pop(0)):
            if reply["uri"] not in found:
                found[reply["uri"]] = reply
                work.append(reply["uri"])
    return list(found.values())


def judge_again(tables: Tables, mutes: Mutes, again: Again) -> int:
    """Do as the rule says; returns how many posts were concerned."""
    concerned = {post["uri"]: {again.takes} for post in again.told}
    work = [post["uri"] for post in again.parent]
    while work:
        old = _now(tables, work.pop(0))
        new = posts.judge(tables, old, reply=True, gate=False)
        if bool(new["invalidReplyRoot"]) == bool(old["invalidReplyRoot"]):
            continue
        concerned.setdefault(old["uri"], set())
        _judge_by_gate(tables, new, concerned)
        below = tables.where("post", replyParent=old["uri"])
        work += [post["uri"] for post in below if is_late(again.time, post)]
    for post in again.gated:
        _judge_by_gate(tables, _now(tables, post["uri"]), concerned)
    for post in again.quoting:
        posts.judge_quote(tables, post["uri"])
    for uri, takes in concerned.items():
        _tell_again(tables, mutes, _now(tables, uri), takes)
    return len(concerned)


def _judge_by_gate(tables: Tables, old: Row, concerned: dict[str, set[str | None]]) -> None:
    new = posts.judge(tables, old, reply=False, gate=True)
    if bool(new["violatesThreadGate"]) != bool(old["violatesThreadGate"]):
        aggregates.replies(tables, new["replyParent"])
        if new["violatesThreadGate"]:
            concerned[new["uri"]].add("reply")


def _tell_again(tables: Tables, mutes: Mutes, post: Row, takes: set[str | None]) -> None:
    wanted = posts.notifications(tables, post)
    for row in tables.where("notification", recordUri=post["uri"]):
        if row["reason"] in takes and not any(_same(row, want) for want in wanted):
            tables.delete("notification", row)
    held = {row["did"] for row in tables.where("notification", recordUri=post["uri"])}
    notifications.write(tables, mutes, [row for row in wanted if row["did"] not in held])


def _same(row: Row, other: Row) -> bool:
    return all(row[name] == other[name] for name in ("did", "reason", "reasonSubject"))


def _now(tables: Tables, uri: str) -> Row:
    post = tables.get("post", uri)
    assert post is not None
    return post
