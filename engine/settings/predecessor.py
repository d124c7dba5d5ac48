"""Variables of the pipeline that Headrace replaces, and what becomes of each.

Whoever ran its `ingester`, `backfiller` and `indexer` starts Headrace with the environment they
have: no variable of theirs is refused. One with a name of ours means what it meant; one that is
``MAPPED`` becomes other settings, unless those are set themselves; the others are named once at
start, with the reason why they do nothing. `TABLE` says it, ``docs/SETTINGS.md`` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from engine.errors import SettingsError


class Fate(StrEnum):
    """What becomes of a variable."""

    HONOURED = "honoured"  # a setting of ours has its name and its meaning
    MAPPED = "mapped"
    WITHOUT_EFFECT = "without effect"


class Variable(Struct, frozen=True):
    """One variable of the predecessor."""

    name: str
    fate: Fate
    target: str  # the setting of ours, by declared name; "" if there is none
    reason: str  # in the voice of a log line, ends without a full stop


_H, _M, _N = Fate.HONOURED, Fate.MAPPED, Fate.WITHOUT_EFFECT
_NO_GROUPS = "there are no consumer groups: a shard has one owner, and its position is in Postgres"
_FIXED_NAME = "the names of streams are fixed; REDIS_KEY_PREFIX tells deployments apart"

TABLE: tuple[Variable, ...] = (
    Variable("REDIS_URL", _H, "redis_url", "unset, `headrace up` starts a Valkey of its own"),
    Variable("DATABASE_URL", _H, "database_url", "unset, `headrace up` starts a Postgres"),
    Variable("PLC_URL", _H, "plc_url", "the same default"),
    Variable(
        "METRICS_PORT", _H, "metrics_port", "of `headrace up`; METRICS_HOST=0.0.0.0 listens to all"
    ),
    Variable("RUST_LOG", _M, "log_level", "its levels, for the roles that do those programs' work"),
    # ingester
    Variable("INGESTER_RELAY_HOSTS", _H, "ingester.relay_hosts", "with or without a scheme"),
    Variable("INGESTER_LABELER_HOSTS", _M, "labels.labelers", "hosts; DIDs may stand there too"),
    Variable("INGESTER_MODE", _M, "roles", "all, firehose, backfill (lister) or labeler (labels)"),
    Variable("INGESTER_HIGH_WATER_MARK", _H, "ingester.high_water_mark", "waits, drops nothing"),
    Variable("INGESTER_BATCH_SIZE", _H, "ingester.batch_size", "an upper limit only"),
    Variable("INGESTER_BATCH_TIMEOUT_MS", _H, "ingester.batch_timeout_ms", "an upper limit only"),
    # backfiller
    Variable("BACKFILLER_BACKFILL_STREAM", _N, "", _FIXED_NAME),
    Variable("BACKFILLER_FIREHOSE_STREAM", _N, "", _FIXED_NAME),
    Variable("BACKFILLER_DLQ_STREAM", _N, "", "dead letters are in headrace.dead_letter"),
    Variable("BACKFILLER_GROUP", _N, "", _FIXED_NAME),
    Variable("BACKFILLER_CONSUMER", _N, "", "a consumer has its process' name: --slot, --host"),
    Variable("BACKFILLER_CONCURRENCY", _H, "backfiller.concurrency", "the same default"),
    Variable(
        "BACKFILLER_BATCH_SIZE",
        _H,
        "backfiller.batch_size",
        "no batch: so many at most are in hand",
    ),
    Variable(
        "BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK",
        _H,
        "backfiller.firehose_stream_high_water_mark",
        "waits, drops nothing",
    ),
    Variable(
        "BACKFILLER_HTTP_TIMEOUT_SECS", _H, "backfiller.http_timeout_secs", "the same default"
    ),
    Variable("BACKFILLER_MAX_RETRIES", _H, "backfiller.max_retries", "the same default"),
    Variable(
        "BACKFILLER_RETRY_INITIAL_BACKOFF_MS",
        _H,
        "backfiller.retry_initial_backoff_ms",
        "the same default",
    ),
    Variable(
        "BACKFILLER_RETRY_MAX_BACKOFF_MS", _H, "backfiller.retry_max_backoff_ms", "the same default"
    ),
    Variable(
        "BACKFILLER_SKIP_SIGNATURE_VERIFICATION",
        _H,
        "backfiller.skip_signature_verification",
        "the same default",
    ),
    Variable("BACKFILLER_METRICS_PORT", _N, "", "one page tells of all processes: METRICS_PORT"),
    # indexer
    Variable("INDEXER_MODE", _M, "roles", "all, stream (indexer) or label (labels)"),
    Variable("INDEXER_STREAMS", _N, "", "an indexer reads every source of the shards it owns"),
    Variable("INDEXER_GROUP", _N, "", _NO_GROUPS),
    Variable("INDEXER_CONSUMER", _N, "", _NO_GROUPS),
    Variable(
        "INDEXER_CONCURRENCY", _N, "", "a process writes one batch at a time: INDEXER_PROCESSES"
    ),
    Variable("INDEXER_BATCH_SIZE", _H, "indexer.batch_size", "an upper limit only; best unset"),
    Variable(
        "DB_POOL_MAX_SIZE", _N, "", "connections are planned, not pooled: one an indexer process"
    ),
    Variable("DB_POOL_MIN_IDLE", _N, "", "connections are planned, not pooled; it never had any"),
    Variable("ENABLE_DID_RESOLUTION", _M, "roles", "anything but `true`: without identity"),
)
"""Every variable that its programs read."""

NAMES = frozenset(variable.name for variable in TABLE)

_INGESTER_MODES: dict[str, tuple[str, ...]] = {
    "all": ("firehose", "lister", "labels"),
    "firehose": ("firehose",),
    "backfill": ("lister",),
    "labeler": ("labels",),
}
_INDEXER_MODES: dict[str, tuple[str, ...]] = {
    "all": ("indexer", "labels"),
    "stream": ("indexer",),
    "label": ("labels",),
}


class Mapped(Struct, frozen=True):
    """What variables of the predecessor say about one setting of ours."""

    target: str  # declared name
    text: str  # as it would stand in our own variable; "" where none of it concerns us
    variables: tuple[str, ...]


def mapped(environ: Mapping[str, str], built: tuple[str, ...]) -> list[Mapped]:
    """Settings of ours that follow from the predecessor's variables; pure.

    Args:
        environ: the environment; empty variables count as not set.
        built: the roles that this version has; modes that name others choose nothing.

    Raises:
        SettingsError: a mode that never existed, or modes that leave nothing to run.
    """
    found = []
    roles = _roles(environ, built)
    if roles is not None:
        found.append(roles)
    hosts = environ.get("INGESTER_LABELER_HOSTS", "").strip()
    if hosts:
        found.append(Mapped("labels.labelers", hosts, ("INGESTER_LABELER_HOSTS",)))
    text = environ.get("RUST_LOG", "").strip()
    if text:
        found.append(Mapped("log_level", log_level(text), ("RUST_LOG",)))
    return found


def _roles(environ: Mapping[str, str], built: tuple[str, ...]) -> Mapped | None:
    used: list[str] = []
    wanted = {"backfiller"}
    for name, modes in (("INGESTER_MODE", _INGESTER_MODES), ("INDEXER_MODE", _INDEXER_MODES)):
        text = environ.get(name, "").strip()
        if text:
            used.append(name)
        chosen = modes.get(text or "all")
        if chosen is None:
            raise SettingsError(
                f"{name} = {text!r} (from the environment): use {', '.join(modes)}, or ROLES"
            )
        wanted.update(chosen)
    resolve = environ.get("ENABLE_DID_RESOLUTION", "").strip()
    if resolve:
        used.append("ENABLE_DID_RESOLUTION")
    if resolve in ("", "true"):  # that very word, as it was
        wanted.add("identity")
    if not used:
        return None
    roles = [role for role in built if role in wanted]
    if not roles:  # an empty list would mean all
        raise SettingsError(
            f"{', '.join(used)} (from the environment) leave no role that this version has, which "
            f"are {', '.join(built)}"
        )
    return Mapped("roles", ",".join(roles), tuple(used))


_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "error": "error",
    "off": "error",
}
_PROGRAMS: dict[str, tuple[str, ...]] = {
    "ingester": ("firehose", "lister", "labels"),
    "backfiller": ("backfiller",),
    "indexer": ("indexer", "identity"),
}


def log_level(directives: str) -> str:
    """``LOG_LEVEL`` as ``RUST_LOG`` has it; empty where nothing of it concerns us.

    Levels of other targets, of spans and of fields are left out.
    """
    parts: list[str] = []
    for directive in filter(None, (part.strip() for part in directives.split(","))):
        target, equals, word = directive.rpartition("=")
        level = _LEVELS.get(word.strip().lower())
        if level is None:
            continue
        if not equals:
            parts.append(level)
        program = target.strip().removeprefix("rsky_").partition("::")[0]
        parts += [f"{role}={level}" for role in _PROGRAMS.get(program, ())]
    return ",".join(dict.fromkeys(parts))
