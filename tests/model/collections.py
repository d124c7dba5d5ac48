"""The 19 collections: what an insert and a delete of each do beside the record.

``insert`` is insert-or-nothing and returns the row if it came in; ``delete`` returns the row
that went. The generic order of things around them is the processor's.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.model import aggregates, notifications, posts, uris
from tests.model.rows import Written, row_of
from tests.model.store import UNIQUE, Rejected, Row, Tables


class Plain:
    """One row a record; nobody is told, nothing is counted."""

    is_validated = True

    def __init__(
        self,
        table: str,
        *,
        told: Callable[[Row], list[Row]] | None = None,
        count: Callable[[Tables, Row], None] | None = None,
        only_self: bool = False,
    ) -> None:
        self.table = table
        self._told = told
        self._count = count
        self._only_self = only_self

    def insert(self, tables: Tables, written: Written) -> Row | None:
        if self._only_self and written.rkey != "self":
            return None
        row = row_of(self.table, written)
        return row if tables.insert(self.table, row) else None

    def delete(self, tables: Tables, uri: str) -> Row | None:
        return next(iter(tables.delete_where(self.table, uri=uri)), None)

    def occupant(self, tables: Tables, written: Written) -> str | None:
        """The uri of the row that holds the record's unique key."""
        unique = UNIQUE.get(self.table)
        if unique is None:
            return None
        row = row_of(self.table, written)
        found = tables.where(self.table, **{name: row[name] for name in unique})
        return found[0]["uri"] if found else None

    def told_of_insert(self, tables: Tables, row: Row) -> list[Row]:
        return self._told(row) if self._told else []

    def told_of_delete(self, tables: Tables, old: Row, new: Row | None) -> tuple[list[Row], bool]:
        """What to tell, and whether the old notifications of the record go."""
        return [], self._told is not None and new is None

    def count(self, tables: Tables, row: Row) -> None:
        if self._count:
            self._count(tables, row)


class Post(Plain):
    def insert(self, tables: Tables, written: Written) -> Row | None:
        return posts.insert(tables, written)

    def delete(self, tables: Tables, uri: str) -> Row | None:
        return posts.delete(tables, uri)

    def told(self, tables: Tables, row: Row, judged_again: set[str]) -> list[Row]:
        return posts.notifications_of_insert(tables, row, judged_again)

    def told_of_insert(self, tables: Tables, row: Row) -> list[Row]:
        return self.told(tables, row, set())

    def told_of_delete(self, tables: Tables, old: Row, new: Row | None) -> tuple[list[Row], bool]:
        return ([] if new is None else self.told_of_insert(tables, new)), True


class Repost(Plain):
    """A repost is in the feed even if it is the second one of its subject."""

    def insert(self, tables: Tables, written: Written) -> Row | None:
        row = row_of(self.table, written)
        inserted = tables.insert(self.table, row)
        item = {name: row[name] for name in ("uri", "cid", "sortAt")}
        item |= {"type": "repost", "postUri": row["subject"], "originatorDid": row["creator"]}
        tables.insert("feed_item", item)
        return row if inserted else None

    def delete(self, tables: Tables, uri: str) -> Row | None:
        tables.delete_where("feed_item", uri=uri)
        return super().delete(tables, uri)


class ListItem(Plain):
    def insert(self, tables: Tables, written: Written) -> Row | None:
        if uris.host(written.record["list"]) != written.did:
            raise Rejected("Creator of listitem does not match creator of list")
        return super().insert(tables, written)


class Gate(Plain):
    """A gate says so on its post, if that is there."""

    def __init__(self, table: str, flag: str) -> None:
        super().__init__(table)
        self._flag = flag

    def insert(self, tables: Tables, written: Written) -> Row | None:
        post = written.record["post"]
        if (uris.host(post), uris.rkey(post)) != (written.did, written.rkey):
            raise Rejected("Creator and rkey of gate does not match its post")
        inserted = super().insert(tables, written)
        self._mark(tables, post, value=True)
        return inserted

    def delete(self, tables: Tables, uri: str) -> Row | None:
        deleted = super().delete(tables, uri)
        if deleted is not None:
            self._mark(tables, deleted["postUri"], value=False)
        return deleted

    def _mark(self, tables: Tables, uri: str, *, value: bool) -> None:
        post = tables.get("post", uri)
        if post is not None:
            tables.update("post", post, **{self._flag: value})


class Profile(Plain):
    def told_of_delete(self, tables: Tables, old: Row, new: Row | None) -> tuple[list[Row], bool]:
        return [], False


class Verification(Plain):
    """Whoever is no longer vouched for is told, even when something else takes the place."""

    def told_of_delete(self, tables: Tables, old: Row, new: Row | None) -> tuple[list[Row], bool]:
        return notifications.of_lost_verification(old), False


class RecordOnly(Plain):
    """No row of its own. With rkey ``self`` every step claims to have succeeded."""

    def __init__(self, *, is_validated: bool = True) -> None:
        super().__init__("")
        self.is_validated = is_validated

    def insert(self, tables: Tables, written: Written) -> Row | None:
        return _claimed(written.uri)

    def delete(self, tables: Tables, uri: str) -> Row | None:
        return _claimed(uri)


def _claimed(uri: str) -> Row | None:
    return {"uri": uri} if uris.rkey(uri) == "self" else None


def _of_subject(reason: str) -> Callable[[Row], list[Row]]:
    return lambda row: notifications.of_subject(reason, row)


COLLECTIONS: dict[str, Plain] = {
    "app.bsky.feed.post": Post("post", count=aggregates.posts),
    "app.bsky.feed.like": Plain("like", told=_of_subject("like"), count=aggregates.likes),
    "app.bsky.feed.repost": Repost("repost", told=_of_subject("repost"), count=aggregates.reposts),
    "app.bsky.graph.follow": Plain(
        "follow", told=notifications.of_follow, count=aggregates.follows
    ),
    "app.bsky.graph.block": Plain("actor_block"),
    "app.bsky.graph.list": Plain("list"),
    "app.bsky.graph.listitem": ListItem("list_item"),
    "app.bsky.graph.listblock": Plain("list_block"),
    "app.bsky.feed.generator": Plain("feed_generator"),
    "app.bsky.graph.starterpack": Plain("starter_pack"),
    "app.bsky.labeler.service": Plain("labeler", only_self=True),
    "app.bsky.actor.profile": Profile("profile", told=notifications.of_profile, only_self=True),
    "app.bsky.feed.threadgate": Gate("thread_gate", "hasThreadGate"),
    "app.bsky.feed.postgate": Gate("post_gate", "hasPostGate"),
    "app.bsky.graph.verification": Verification("verification", told=notifications.of_verification),
    "app.bsky.actor.status": RecordOnly(),
    "app.bsky.notification.declaration": RecordOnly(),
    "com.germnetwork.declaration": RecordOnly(),
    "chat.bsky.actor.declaration": RecordOnly(is_validated=False),
}
