"""What became of a repository that was asked for, and when it is asked for again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

import msgspec

from engine.core import codec, hosts, identity, listing


class Outcome(StrEnum):
    """Of the last attempt: the word in ``headrace.repo.outcome``. The first six are final."""

    OK = "ok"
    EMPTY = "empty"
    """As ok; the repository has no record."""
    GONE = "gone"
    """Its host has no such repository, or there is no such DID, or it names no host."""
    TAKEN_DOWN = "taken_down"
    SUSPENDED = "suspended"
    DEACTIVATED = "deactivated"
    MIGRATED = "migrated"
    """Its document names another host now, which has no such repository yet."""
    TRANSIENT = "transient"
    """Nobody's fault that lasts: a host that fails, a snapshot that is older than what is known."""
    POISON = "poison"
    """What the host serves is not this repository: not whole, not consistent, or not signed."""


FINAL = frozenset(
    {
        Outcome.OK,
        Outcome.EMPTY,
        Outcome.GONE,
        Outcome.TAKEN_DOWN,
        Outcome.SUSPENDED,
        Outcome.DEACTIVATED,
    }
)
"""Not tried again by themselves."""

STATUS_OF = {
    Outcome.TAKEN_DOWN: "takendown",
    Outcome.SUSPENDED: "suspended",
    Outcome.DEACTIVATED: "deactivated",
}
"""The account's status upstream, in the words of ``#account`` events.

``gone`` has none: what deletes an account is its ``#account`` event, confirmed by its host.
"""


def status_of(outcome: str | None) -> str | None:
    """The same, of an outcome that may be none."""
    return STATUS_OF.get(Outcome(outcome)) if outcome is not None else None


XRPC_ERRORS: Mapping[str, Outcome] = {
    "RepoNotFound": Outcome.GONE,
    "RepoTakendown": Outcome.TAKEN_DOWN,
    "RepoTakenDown": Outcome.TAKEN_DOWN,
    "RepoSuspended": Outcome.SUSPENDED,
    "RepoDeactivated": Outcome.DEACTIVATED,
}
"""Errors of ``com.atproto.sync.getRepo``, as its lexicon and its servers name them."""

ASK_THE_DIRECTORY = frozenset({Outcome.GONE, Outcome.DEACTIVATED})
"""What a host says that an account may have left: its document is read anew before it counts."""

_BUSY = frozenset({429, 503})
_DOWN = frozenset({408, 502, 504, *range(520, 531)})


class Attempt(msgspec.Struct, frozen=True):
    """How one attempt ended."""

    outcome: Outcome
    error: str = ""  # for people
    counts: bool = True  # towards the number of attempts; a host that is busy or down does not


def of_error(status: int, body: bytes) -> Attempt:
    """What an answer to ``getRepo`` that is no success says of the repository."""
    name = identity.error_of_xrpc(body)
    found = XRPC_ERRORS.get(name or "")
    said = f"HTTP {status}" + (f" {name[:100]}" if name else "")
    if found is not None and 400 <= status < 500:
        return Attempt(found, said)
    return Attempt(Outcome.TRANSIENT, said, counts=status not in _BUSY and status not in _DOWN)


def of_host(status: int) -> hosts.Answer:
    """What the status of an answer says of its host."""
    if status in _BUSY:
        return hosts.Answer.BUSY
    return hosts.Answer.DOWN if status in _DOWN else hosts.Answer.FINE


def told(headers: Mapping[str, str], wall_clock: float) -> hosts.Told:
    """What an answer's headers say of its host's limits.

    ``ratelimit-reset`` is read both as servers of the network write it (seconds since 1970) and
    as the draft has it (seconds from now); ``Retry-After`` as seconds or a date.

    Args:
        headers: names in lower case.
        wall_clock: seconds since 1970 at which they came.
    """
    remaining = _number(headers.get("ratelimit-remaining"))
    reset = _number(headers.get("ratelimit-reset"))
    if reset is not None and reset > 1e9:
        reset -= wall_clock
    return hosts.Told(
        retry_seconds=_retry_after(headers.get("retry-after"), wall_clock),
        remaining=None if remaining is None else int(remaining),
        reset_seconds=None if reset is None else _bounded(reset),
    )


LONGEST_WAIT_SECONDS = 3600.0
"""A host's word for a longer wait is not taken: it may be a mistake, and costs one request."""


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


def _number(text: str | None) -> float | None:
    try:
        value = float((text or "").split(",")[0].split(";")[0].strip())
    except ValueError:
        return None
    return value if 0 <= value < 1e15 else None


def _retry_after(text: str | None, wall_clock: float) -> float | None:
    if not text:
        return None
    seconds = _number(text)
    if seconds is None:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, IndexError):
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - wall_clock
    return _bounded(seconds)


AHEAD_SECONDS = listing.FUTURE_SECONDS
"""A rev that is further ahead of the clock is no rev: live commits with it are rejected, too."""


def is_ahead(rev: str, wall_clock: float) -> bool:
    """Whether a rev is of a time that has not come, or no TID at all."""
    return not codec.check_syntax("tid", rev) or rev > listing.tid_at(wall_clock + AHEAD_SECONDS)
