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
   post             ``invalidReplyRoot`` of replies with X as parent; where that changes, of
                    their replies too, and so on down; ``violatesThreadGate`` of replies with
                    X as root (its mentions may allow them)
   threadgate       ``violatesThreadGate`` of replies whose root is the gate's
   postgate         ``violatesEmbeddingRules`` of the posts that quote the gate's post
   ===============  ==========================================================================

   The columns are written as an insert writes them: ``invalidReplyRoot`` and
   ``violatesThreadGate`` both, or both NULL; ``violatesEmbeddingRules`` true or NULL.
2. *Counts.* Where ``violatesThreadGate`` changed, replyCount of the reply's parent is made anew.
3. *Notifications.* For every post with a changed verdict, every reply below X (X among its four
   nearest ancestors) and every reply in X's thread if X is a gate: those that its insert would
   produce now are added, unless its recipient already has one of that post, or has muted
   the thread. A gate also takes away: what of the reply's (threadgate) or quoter's (postgate)
   reason the insert would not produce now goes. A post only adds.

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
    root: list[Row] = field(default_factory=list)
    quoted: list[Row] = field(default_factory=list)
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
        return Again(
            time,
            parent=later(tables.where("post", replyParent=uri)),
            root=later(tables.where("post", replyRoot=uri)),
            told=later(below),
        )
    if kind == uris.THREADGATE:
        roots = {post["replyRoot"] for post in tables.all("post") if post["replyRoot"]}
        gated = [root for root in sorted(roots) if uris.threadgate_of(root) == uri]
        found = [post for root in gated for post in tables.where("post", replyRoot=root)]
        return Again(time, root=later(found), told=later(found), takes="reply")
    if kind == uris.POSTGATE:
        embeds = [
            row for row in tables.all("post_embed_record")
            if uris.collection(row["embedUri"]) == uris.POST
            and uris.postgate_of(row["embedUri"]) == uri
        ]  # fmt: skip
        rows = [tables.get("post", row["postUri"]) for row in embeds]
        found = [post for post in rows if post is not None]
        return Again(time, quoted=later(found), told=later(found), takes="quote")
    return NOTHING


def judge_again(tables: Tables, mutes: Mutes, again: Again) -> int:
    """Do as the rule says; returns how many posts were concerned."""
    concerned = {post["uri"]: None for post in again.told}
    work = [(post["uri"], True, False) for post in again.parent]
    work += [(post["uri"], False, True) for post in again.root]
    while work:
        uri, reply, gate = work.pop(0)
        old = _now(tables, uri)
        new = posts.judge(tables, old, reply=reply, gate=gate)
        if bool(new["violatesThreadGate"]) != bool(old["violatesThreadGate"]):
            concerned[uri] = None
            aggregates.replies(tables, new["replyParent"])
        if bool(new["invalidReplyRoot"]) != bool(old["invalidReplyRoot"]):
            concerned[uri] = None
            below = tables.where("post", replyParent=uri)
            work += [(post["uri"], True, False) for post in below if is_late(again.time, post)]
    for post in again.quoted:
        posts.judge_quote(tables, post["uri"])
    for uri in concerned:
        _tell_again(tables, mutes, _now(tables, uri), again.takes)
    return len(concerned)


def _tell_again(tables: Tables, mutes: Mutes, post: Row, takes: str | None) -> None:
    wanted = posts.notifications(tables, post)
    for row in tables.where("notification", recordUri=post["uri"]):
        if row["reason"] == takes and not any(_same(row, want) for want in wanted):
            tables.delete("notification", row)
    held = {row["did"] for row in tables.where("notification", recordUri=post["uri"])}
    notifications.write(tables, mutes, [row for row in wanted if row["did"] not in held])


def _same(row: Row, other: Row) -> bool:
    return all(row[name] == other[name] for name in ("did", "reason", "reasonSubject"))


def _now(tables: Tables, uri: str) -> Row:
    post = tables.get("post", uri)
    assert post is not None
    return post
