"""Names of everything Headrace keeps in Redis, and which shard a DID lives in.

Key catalogue (each behind ``REDIS_KEY_PREFIX``; ``{s}`` is a shard number):

===============================  ======  ====================================================
key                              type    meaning
===============================  ======  ====================================================
firehose_live:{s}                stream  live events; one field ``event``: a wire entry
firehose_live:cursor:{host}      string  seq of the relay's last appended frame (decimal)
firehose_live:received:{host}    hash    generation -> ops received, moved with the cursor
firehose_live:events             hash    shard -> events in its stream
firehose_live:bytes              hash    shard -> entry bytes in its stream
firehose_backfill:{s}            stream  slices of fetched repositories; one field ``event``
firehose_backfill:events         hash    shard -> events in its stream
firehose_backfill:bytes          hash    shard -> entry bytes in its stream
repo_backfill                    stream  repositories to fetch: a work queue of one group; one
                                         field ``repo``: JSON with ``did`` and ``host``
headrace:queue                   string  which feeder has seen this queue; absent = queue lost
did:key:{did}, did:pds:{did}     string  signing key and host of a DID, for a day
label_live:0                     stream  labels; one field ``event``: a frame of a labeler
label_live:cursor:{host}         string  seq of the labeler's last appended frame (decimal)
label_live:received:{host}       hash    generation -> labels received, moved with the cursor
label_live:events, :bytes        hash    ``0`` -> labels and entry bytes in the stream
label_live:epoch                 string  as ``headrace:epoch``, of this stream alone
headrace:directory:{host}        hash    ``free``, ``paused``: microseconds of Redis' clock, when
                                         the next turn at it is, and until when there is none
headrace:epoch                   string  deployment id, ``:``, epoch; absent = streams lost
headrace:process:{name}          string  JSON heartbeat of one process, expires by itself
===============================  ======  ====================================================

This module knows no client and no server.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

LIVE = "firehose_live"
"""Source of live events."""

BACKFILL = "firehose_backfill"
"""Source of fetched repositories: a slice or closing entry is in the same shard as its DID's
live events."""

SOURCES = (LIVE, BACKFILL)
"""Sources that have a stream, and a position, in every shard."""

QUEUE = "repo_backfill"
"""The queue of repositories to fetch."""

QUEUE_GROUP = "repo_backfill_group"
"""Who fetches them, all of them together."""

QUEUE_FIELD = "repo"
"""The field of a queue's entry: ``{"did": ..., "host": origin or null, ...}`` as JSON."""

LABELS = "label_live"
"""Source of labels: one stream, with an epoch of its own."""


def shard_of(did: str, shard_count: int) -> int:
    """The shard of a DID: the first 8 bytes of its SHA-256, big-endian, modulo the count.

    Stable for ever: it is mirrored in Rust and changes only with ``reshard``.
    """
    return int.from_bytes(hashlib.sha256(did.encode()).digest()[:8], "big") % shard_count


def id_parts(entry_id: str) -> tuple[int, int]:
    """An entry id as a pair that compares as Redis compares ids."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def id_after(entry_id: str) -> str:
    """The smallest id greater than this one."""
    milliseconds, sequence = id_parts(entry_id)
    return f"{milliseconds}-{sequence + 1}"


def is_beyond(last_id: str | None, entry_id: str) -> bool:
    """Whether a stream with this last id holds, or held, something after an entry.

    A stream that is gone (None) hides what it held.
    """
    return last_id is None or id_parts(last_id) > id_parts(entry_id)


def canonical_host(host: str) -> str:
    """A relay's name in keys and reports: no scheme, no trailing slash, lower case."""
    return host.strip().split("://", 1)[-1].rstrip("/").lower()


@dataclass(frozen=True)
class Keys:
    """The keys of one deployment in one Redis."""

    prefix: str = ""

    def stream(self, source: str, shard: int) -> str:
        """The stream of one shard of a source."""
        return f"{self.prefix}{source}:{shard}"

    def cursor(self, source: str, host: str) -> str:
        """The resume position of one upstream host."""
        return f"{self.prefix}{source}:cursor:{canonical_host(host)}"

    def received(self, source: str, host: str) -> str:
        """Ops received from one host, by generation."""
        return f"{self.prefix}{source}:received:{canonical_host(host)}"

    def events(self, source: str) -> str:
        """Events now in each shard's stream."""
        return f"{self.prefix}{source}:events"

    def bytes(self, source: str) -> str:
        """Entry bytes now in each shard's stream."""
        return f"{self.prefix}{source}:bytes"

    @property
    def queue(self) -> str:
        """The queue of repositories to fetch."""
        return f"{self.prefix}{QUEUE}"

    @property
    def queue_mark(self) -> str:
        """Which feeder has seen the queue that is here."""
        return f"{self.prefix}headrace:queue"

    def did_key(self, did: str) -> str:
        """The signing key in a DID's document, for a day."""
        return f"{self.prefix}did:key:{did}"

    def did_pds(self, did: str) -> str:
        """The host in a DID's document, for a day."""
        return f"{self.prefix}did:pds:{did}"

    def directory(self, url: str) -> str:
        """When the next turn at a directory of DIDs is."""
        return f"{self.prefix}headrace:directory:{canonical_host(url)}"

    @property
    def epoch(self) -> str:
        """The mark that these streams are the ones Postgres knows."""
        return f"{self.prefix}headrace:epoch"

    def process(self, name: str) -> str:
        """The heartbeat of one process."""
        return f"{self.prefix}headrace:process:{name}"


class LabelKeys(Keys):
    """The keys as the labels' stream has them: its epoch is its own."""

    @property
    def epoch(self) -> str:
        """The mark that the stream of labels is the one Postgres knows."""
        return f"{self.prefix}{LABELS}:epoch"
