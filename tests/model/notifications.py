"""Who is told what.

A notification is a row without a natural key: the rows of one op are deduplicated by that op,
never against rows that exist. The only filter is thread mutes. An op that loses all its
notifications to them is indexed without any.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.model import uris
from tests.model.store import NOW, Row, Tables

Mutes = frozenset[tuple[str, str]]
"""(DID that muted, uri of the thread's root)."""


def notification(
    did: str, reason: str, about: Row, subject: str | None = None, sort_at: str | None = None
) -> Row:
    """A row that tells ``did`` of the record behind ``about``."""
    return {
        "did": did,
        "author": about["creator"],
        "recordUri": about["uri"],
        "recordCid": about["cid"],
        "reason": reason,
        "reasonSubject": subject,
        "sortAt": about["sortAt"] if sort_at is None else sort_at,
    }


def of_subject(reason: str, row: Row) -> list[Row]:
    """A like or repost tells the subject's author, and whose repost led there.

    Nothing at all if the subject is the author's own.
    """
    to = uris.host(row["subject"])
    if to == row["creator"]:
        return []
    told = [notification(to, reason, row, row["subject"])]
    if row["via"]:
        reposter = uris.host(row["via"])
        if reposter != row["creator"]:
            told.append(notification(reposter, f"{reason}-via-repost", row, row["via"]))
    return told


def of_follow(row: Row) -> list[Row]:
    return [notification(row["subjectDid"], "follow", row)]


def of_verification(row: Row) -> list[Row]:
    return [notification(row["subject"], "verified", row, sort_at=row["sortedAt"])]


def of_lost_verification(row: Row) -> list[Row]:
    return [notification(row["subject"], "unverified", row, sort_at=NOW)]


def of_profile(row: Row) -> list[Row]:
    pack = row["joinedViaStarterPackUri"]
    if not pack:
        return []
    to = uris.host(pack)
    return [notification(to, "starterpack-joined", row, pack, sort_at=row["indexedAt"])]


def is_muted(tables: Tables, mutes: Mutes, told: Row) -> bool:
    """Whether the recipient muted the thread of the subject, if that is a post we have."""
    subject = told["reasonSubject"]
    if not subject or subject.startswith("did:"):
        return False
    post = tables.get("post", subject)
    return post is not None and (told["did"], post["replyRoot"] or post["uri"]) in mutes


def write(tables: Tables, mutes: Mutes, told: Iterable[Row]) -> None:
    for row in [row for row in told if not is_muted(tables, mutes, row)]:
        tables.insert("notification", row)
