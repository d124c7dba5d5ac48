"""Every setting, declared once: type, default, unit, bounds and meaning.

A setting at top level is a key of the TOML file and, in upper case, a variable of the
environment; a setting in a section is ``[section] key`` and ``SECTION_KEY``. A later source
wins: default, file, environment. Lists are TOML arrays or strings separated by commas; an
empty variable counts as not set. Neither the file nor a variable with a section's prefix may
name what is not declared here (or known of old, `predecessor`).

``docs/SETTINGS.md`` is made from these declarations.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from engine.settings.backfill import BackfillerSettings, ListerSettings
from engine.settings.labels import LabelsSettings
from engine.settings.section import MIB, Section

ROLES = ("firehose", "lister", "backfiller", "labels", "indexer", "identity")
"""Every role there will be; the order in which processes start."""

BUILT = ("firehose", "lister", "backfiller", "labels", "indexer", "identity")
"""The roles that this version has."""


class IngesterSettings(Section, frozen=True, kw_only=True):
    """Reading relays."""

    relay_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Relays to read, all of them at once or, with `fan_in` off, in order of "
            "preference. A bare host means wss://; ws:// and http:// are for tests and private "
            "networks."
        ),
    ] = ("wss://relay1.us-east.bsky.network", "wss://relay1.us-west.bsky.network")
    fan_in: Annotated[
        bool,
        Meta(
            description="Read all relays at once; each event has its effect once. Off: read the "
            "first that answers. A relay that is silent, or gives no event, is passed over for the "
            "next one, tried again each `silence_timeout_seconds`, and taken back when it brings "
            "events and has come as far as the other."
        ),
    ] = True
    initial_cursor: Annotated[
        str,
        Meta(
            description="Where to begin on a relay without a known position: `oldest` that it "
            "still serves, `live`, or a seq (the first frame asked for is the one after it). With "
            "`fan_in` off it holds for the first relay ever read; one that takes over from another "
            "begins at the oldest."
        ),
    ] = "oldest"
    high_water_mark: Annotated[
        int,
        Meta(
            ge=1,
            description="Stop reading the relays while the streams of one source hold this many "
            "events. Frames wait at the relay and nothing is lost while it still serves them.",
            extra={"unit": "events"},
        ),
    ] = 100_000
    high_water_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            description="The same limit in bytes of entries; whichever is reached first holds. "
            "Redis needs about one and a half times as much memory.",
            extra={"unit": "bytes"},
        ),
    ] = 512 * MIB
    batch_size: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Append at most this many frames in one round trip. An upper limit only.",
            extra={"unit": "frames"},
        ),
    ] = 1000
    batch_timeout_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000,
            description="A frame waits at most this long for others. An upper limit only: what "
            "has arrived is sent as soon as the last append is answered.",
            extra={"unit": "milliseconds"},
        ),
    ] = 1000
    silence_timeout_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="Connect again to a relay that sent no frame for this long; with `fan_in` "
            "off, to the next one.",
            extra={"unit": "seconds"},
        ),
    ] = 30.0


class IndexerSettings(Section, frozen=True, kw_only=True):
    """Writing rows."""

    processes: Annotated[
        int, Meta(ge=0, le=1024, description="Indexer processes; 0 means one a core.")
    ] = 0
    batch_size: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Close a batch at this many entries, shared by the shards of a process, "
            "one each at least. An upper limit only: what waits is taken.",
            extra={"unit": "entries"},
        ),
    ] = 20_000
    batch_bytes: Annotated[
        int,
        Meta(
            ge=1 << 16,
            le=256 * MIB,
            description="Close a batch at this many bytes of entries. Larger batches copy faster "
            "and hold memory longer: a process may hold three at once.",
            extra={"unit": "bytes"},
        ),
    ] = 8 * MIB
    backfill_share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="How much of `batch_bytes` fetched repositories may fill of a batch "
            "between two of live events. They take all of it where no live event waits, and "
            "nothing while one waits for more than a second.",
        ),
    ] = 0.5
    retention_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="Keep committed entries in their stream at least this long.",
            extra={"unit": "seconds"},
        ),
    ] = 1.0
    retention_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Let go of committed entries earlier where a stream keeps more than this.",
            extra={"unit": "bytes"},
        ),
    ] = 16 * MIB


class IdentitySettings(Section, frozen=True, kw_only=True):
    """Looking up DIDs and handles."""

    handle_resolver: Annotated[
        str,
        Meta(
            description="URL of an XRPC service that answers com.atproto.identity.resolveHandle. "
            "Empty: DNS and https://HANDLE/.well-known/atproto-did."
        ),
    ] = ""
    concurrency: Annotated[int, Meta(ge=1, le=1024, description="Look-ups at the same time.")] = 16
    timeout_seconds: Annotated[
        float,
        Meta(gt=0, le=300, description="Limit of one request.", extra={"unit": "seconds"}),
    ] = 5.0
    plc_tail: Annotated[
        bool,
        Meta(
            description="Read what the directory's log (`/export`) has new, from where an imported "
            "file ends. Without an import there is nothing to go on from, and nothing is read."
        ),
    ] = True
    plc_tail_interval_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Between two looks at the end of the directory's log.",
            extra={"unit": "seconds"},
        ),
    ] = 10.0
    plc_max_age_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="Imported documents are believed while the log is known up to a time not "
            "longer ago than this; else the directory is asked.",
            extra={"unit": "seconds"},
        ),
    ] = 86_400.0
    name_servers: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses of DNS servers to ask for handles, `ADDRESS` or `ADDRESS:PORT`, "
            "`[ADDRESS]:PORT` for IPv6. Empty: those of the system."
        ),
    ] = ()


class NetworkSettings(Section, frozen=True, kw_only=True):
    """What requests may reach."""

    allow_private: Annotated[
        bool,
        Meta(
            description="Allow requests to loopback, private and link-local addresses. For tests "
            "and private networks: documents of strangers name the hosts that we ask."
        ),
    ] = False


class Settings(Section, frozen=True, kw_only=True):
    """The settings of one deployment. Build it with `load`, which checks and normalizes."""

    database_url: Annotated[
        str | None,
        Meta(
            description="Postgres to write, `postgresql://...`. Not set: `headrace up` starts one "
            "of its own in DATA_DIR.",
            extra={"secret": True},
        ),
    ] = None
    database_schema: Annotated[
        str, Meta(min_length=1, max_length=63, description="Schema of the data plane's tables.")
    ] = "public"
    database_state_schema: Annotated[
        str, Meta(min_length=1, max_length=63, description="Schema of Headrace's own tables.")
    ] = "headrace"
    redis_url: Annotated[
        str | None,
        Meta(
            description="Redis or Valkey, `redis://...` or `unix:///...`. Not set: `headrace up` "
            "starts one of its own in DATA_DIR.",
            extra={"secret": True},
        ),
    ] = None
    redis_key_prefix: Annotated[
        str, Meta(max_length=200, description="Put before every key in Redis.")
    ] = ""
    data_dir: Annotated[
        str, Meta(min_length=1, description="Folder of the embedded services' data.")
    ] = ".data"
    plc_url: Annotated[str, Meta(description="Directory of did:plc documents.")] = (
        "https://plc.directory"
    )
    plc_mirrors: Annotated[
        tuple[str, ...],
        Meta(description="Mirrors of the directory, asked in this order while it fails."),
    ] = ()
    plc_requests_per_second: Annotated[
        float,
        Meta(
            gt=0,
            le=100_000,
            description="All processes of the deployment together ask the directory no more often, "
            "for documents and for its log, nor any mirror of it: they take turns, which Redis "
            "keeps, and no two turns are closer than this allows. When one is told that it is "
            "too much, all pause. A command without REDIS_URL (`headrace car`) keeps to it alone.",
        ),
    ] = 100.0
    metrics_host: Annotated[
        str, Meta(min_length=1, description="Address on which `headrace up` answers `/status`.")
    ] = "127.0.0.1"
    metrics_port: Annotated[
        int, Meta(ge=0, le=65535, description="Port of `/status`; 0 means any free port.")
    ] = 4100
    roles: Annotated[
        tuple[str, ...],
        Meta(
            description="Roles that `headrace up` runs on this machine; empty: all that there are."
        ),
    ] = ()
    shard_count: Annotated[
        int,
        Meta(
            ge=1,
            le=4096,
            description="Streams a source, for a new deployment; all events of a DID are in one "
            "of them. Later `headrace reshard` changes the number.",
        ),
    ] = 16
    log_level: Annotated[
        str,
        Meta(
            description="`debug`, `info`, `warning` or `error`; `ROLE=LEVEL` for one role; several "
            "separated by commas."
        ),
    ] = "info"
    filter_collections: Annotated[
        tuple[str, ...],
        Meta(
            description="Collections to carry: full names, or a prefix with `.*` at its end. Other "
            "records are counted and left out before they are decoded."
        ),
    ] = ("app.bsky.*", "chat.bsky.*", "com.germnetwork.declaration")
    ingester: IngesterSettings = IngesterSettings()
    lister: ListerSettings = ListerSettings()
    backfiller: BackfillerSettings = BackfillerSettings()
    indexer: IndexerSettings = IndexerSettings()
    identity: IdentitySettings = IdentitySettings()
    labels: LabelsSettings = LabelsSettings()
    network: NetworkSettings = NetworkSettings()
