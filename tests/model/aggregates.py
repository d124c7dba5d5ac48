"""Counts, each made anew over all rows whenever something that it counts was touched."""

from __future__ import annotations

from tests.model.store import Row, Tables


def _set(tables: Tables, table: str, key: str, column: str, count: int) -> None:
    """Make the row if there is none, and touch no other column."""
    row = tables.get(table, key)
    if row is not None:
        tables.update(table, row, **{column: count})
    elif table == "post_agg":
        counts = dict.fromkeys(
            ("likeCount", "replyCount", "repostCount", "quoteCount", "bookmarkCount"), 0
        )
        tables.insert(table, {"uri": key, **counts, column: count})
    else:
        counts = dict.fromkeys(("followersCount", "followsCount", "postsCount"), 0)
        tables.insert(table, {"did": key, **counts, column: count})


def likes(tables: Tables, row: Row) -> None:
    uri = row["subject"]
    _set(tables, "post_agg", uri, "likeCount", len(tables.where("like", subject=uri)))


def reposts(tables: Tables, row: Row) -> None:
    uri = row["subject"]
    _set(tables, "post_agg", uri, "repostCount", len(tables.where("repost", subject=uri)))


def follows(tables: Tables, row: Row) -> None:
    to, by = row["subjectDid"], row["creator"]
    followers = len(tables.where("follow", subjectDid=to))
    _set(tables, "profile_agg", to, "followersCount", followers)
    _set(tables, "profile_agg", by, "followsCount", len(tables.where("follow", creator=by)))


def posts(tables: Tables, row: Row) -> None:
    if row["replyParent"]:
        replies(tables, row["replyParent"])
    by = row["creator"]
    _set(tables, "profile_agg", by, "postsCount", len(tables.where("post", creator=by)))


def replies(tables: Tables, parent: str) -> None:
    """Replies that violate the thread's gate do not count."""
    counted = [
        reply for reply in tables.where("post", replyParent=parent)
        if not reply["violatesThreadGate"]
    ]  # fmt: skip
    _set(tables, "post_agg", parent, "replyCount", len(counted))


def quotes(tables: Tables, uri: str, cid: str) -> None:
    """Counted by the CID that is quoted, whatever uri the quotes name."""
    _set(tables, "post_agg", uri, "quoteCount", len(tables.where("quote", subjectCid=cid)))
