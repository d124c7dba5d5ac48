"""Errors, named by what the caller must do about them.

The law of failure: bad upstream data never stops a process, broken internal
state always does. Batch functions return outcomes; only these are raised, and
the driver's own exception is always the cause.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """Base of everything the engine raises on purpose."""

    exit_code = 1


class SettingsError(HeadraceError):
    """The operator must change something; the message says what and where."""

    exit_code = 2


class UpstreamError(HeadraceError):
    """The network's fault, worth retrying later."""


class StoreError(HeadraceError):
    """Redis or Postgres failed; nothing was moved forward."""


class StoreUnavailable(StoreError):
    """The server is away, starting, or full: retry with backoff."""


class StreamsTorn(StoreError):
    """Redis no longer holds what Postgres' positions say it held."""


class LeaseLost(StoreError):
    """Another process owns the shard now; drop everything in memory."""


class SchemaMismatch(StoreError):
    """The database cannot be written as it is; the message names each difference."""

    exit_code = 3


class UnknownEnvelope(HeadraceError):
    """A stream entry of a newer version: upgrade this process, the entry stays."""

    exit_code = 3


class CrashLoop(HeadraceError):
    """A process fails again and again: a bug; its last lines are in the log."""

    exit_code = 4


class InvariantError(HeadraceError):
    """We are wrong. Never caught, never retried."""

    exit_code = 70
