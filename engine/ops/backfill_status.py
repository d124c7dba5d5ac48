"""Where backfill stands: the census of repositories and hosts, and the queue. Pure.

The census is one scan of ``headrace.repo``. While the table is small it is counted when it is
asked for; else the lister that leads counts it now and then, and ``age_seconds`` says when.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec
from msgspec import Struct


class Backfill(Struct):
    """Repositories and hosts, counted. Each stage counts those that came so far, ever."""

    known: int = 0
    queued: int = 0  # handed out, or about to be, as the table says
    fetching: int = 0
    fetched: int = 0  # their last snapshot is in the streams, or was
    verified: int = 0
    indexed: int = 0  # a snapshot of them, wholly
    unfinished: int = 0  # without an outcome, or with something still to be done now
    failed: dict[str, int] = msgspec.field(default_factory=dict)  # by outcome
    age_seconds: float | None = None  # of all of these; null: never counted
    complete: bool = True  # False: hosts were listed since they were counted
    hosts: int = 0  # that are listed for repositories
    listed_hosts: int = 0  # at least once
    hosts_due: int = 0  # that answer, and are to be listed now
    unreachable_hosts: int = 0
    listing_gaps: int = 0  # places where a host cannot list a repository
    relays: int = 0  # that name hosts
    queue: int | None = None  # entries in the queue; null where it was not asked
    queue_taken: int | None = None  # of them, those in somebody's hands


def caught_up(backfill: Backfill, roles: Container[str]) -> bool:
    """Whether listing is done, and whether nothing is left to be fetched and indexed.

    Args:
        backfill: as it stands.
        roles: only what these do is asked for: ``lister``, ``backfiller``.
    """
    if "lister" in roles and (backfill.hosts_due or not backfill.relays + backfill.hosts):
        return False
    if "backfiller" in roles:
        # Somebody has to say what is needed: without a lister only the queue tells.
        if backfill.queue != 0:
            return False
        if "lister" in roles and (backfill.unfinished or not backfill.complete):
            return False
    return True


def lines(backfill: Backfill) -> list[str]:
    """For a person; nothing where backfill never was."""
    if not backfill.hosts and not backfill.relays and not backfill.known:
        return []
    failed = ", ".join(f"{name} {count}" for name, count in sorted(backfill.failed.items()))
    age = backfill.age_seconds
    counted = "" if not age or age < 1 else f" (counted {age:.0f} s ago)"
    stages = ("known", "queued", "fetching", "fetched", "verified", "indexed", "unfinished")
    return [
        "repositories: "
        + ", ".join(f"{getattr(backfill, name)} {name}" for name in stages)
        + counted,
        f"repositories that failed: {failed or 'none'}",
        f"hosts: {backfill.hosts} known, {backfill.listed_hosts} listed, "
        f"{backfill.hosts_due} to be listed, {backfill.unreachable_hosts} unreachable, "
        f"{backfill.listing_gaps} listing gaps",
        f"queue: {'-' if backfill.queue is None else backfill.queue} to fetch, "
        f"{'-' if backfill.queue_taken is None else backfill.queue_taken} of them taken",
    ]


def progress(backfill: Backfill) -> list[str]:
    """For the line of progress."""
    if not backfill.hosts and not backfill.relays:
        return []
    return [
        f"{backfill.indexed}/{backfill.known} repositories",
        f"{backfill.hosts_due} hosts to list",
    ]
