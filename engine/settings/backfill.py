"""Settings of finding and fetching repositories; `sections` says how they are read."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from engine.settings.section import MIB, Section


class ListerSettings(Section, frozen=True, kw_only=True):
    """Finding repositories, and the queue of those to fetch."""

    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="PDSs to list besides those that the relays name. A bare host means "
            "https://; http:// is for tests and private networks."
        ),
    ] = ()
    concurrency: Annotated[
        int, Meta(ge=1, le=1024, description="Hosts that one lister lists at the same time.")
    ] = 64
    page_size: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Ask for so many repositories at a time.",
            extra={"unit": "repositories"},
        ),
    ] = 1000
    spacing_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000,
            description="Leave a host alone for so long after each page.",
            extra={"unit": "milliseconds"},
        ),
    ] = 100
    timeout_seconds: Annotated[
        float,
        Meta(gt=0, le=300, description="Limit of one request.", extra={"unit": "seconds"}),
    ] = 30.0
    interval_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="List a host again so long after its last listing was done.",
            extra={"unit": "seconds"},
        ),
    ] = 86_400.0
    hosts_interval_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="Ask the relays again which hosts there are.",
            extra={"unit": "seconds"},
        ),
    ] = 3600.0
    grace_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="A repository whose listed rev is older than this, and newer than what is "
            "indexed of it, is fetched again: live commits did not bring it.",
            extra={"unit": "seconds"},
        ),
    ] = 3600.0
    queue_fill: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Fill the queue of repositories to fetch up to this length; "
            "`INGESTER_HIGH_WATER_MARK` holds for it, too.",
            extra={"unit": "repositories"},
        ),
    ] = 50_000
    queue_resume: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000_000,
            description="Fill it again when it is this short. What was asked for, or is tried "
            "again, does not wait for that.",
            extra={"unit": "repositories"},
        ),
    ] = 10_000
    queue_check_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=60,
            description="Look at the queue at least so often; sooner where it is emptied fast.",
            extra={"unit": "seconds"},
        ),
    ] = 5.0


class BackfillerSettings(Section, frozen=True, kw_only=True):
    """Fetching repositories from their hosts."""

    concurrency: Annotated[
        int, Meta(ge=1, le=1000, description="Repositories that one process fetches at a time.")
    ] = 50
    batch_size: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Take at most this many repositories from the queue; those that are not "
            "being fetched wait for the turn of their host.",
            extra={"unit": "repositories"},
        ),
    ] = 500
    host_concurrency: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Requests of one process to one host at a time, at most. A host begins "
            "with 4, gets more while it answers well, and fewer when it says that it is too much.",
        ),
    ] = 10
    host_park_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="Leave a host that does not answer alone for so long; twice as long each "
            "time that it still does not, up to an hour.",
            extra={"unit": "seconds"},
        ),
    ] = 60.0
    firehose_stream_high_water_mark: Annotated[
        int,
        Meta(
            ge=1,
            description="Wait while the streams of fetched repositories hold this many events.",
            extra={"unit": "events"},
        ),
    ] = 500_000
    high_water_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            description="The same limit in bytes of entries; whichever is reached first holds.",
            extra={"unit": "bytes"},
        ),
    ] = 512 * MIB
    http_timeout_secs: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="A host must begin to answer in this time, and never be silent for longer. "
            "A body may take longer while it brings 64 KiB a second.",
            extra={"unit": "seconds"},
        ),
    ] = 60.0
    max_retries: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Failed attempts at a repository before it becomes a dead letter. A host "
            "that has no time costs none, and one that does not answer only after a while.",
        ),
    ] = 3
    retry_initial_backoff_ms: Annotated[
        int,
        Meta(
            ge=0,
            description="Wait so long after the first failed attempt, twice as long after each "
            "further one; half of it is random.",
            extra={"unit": "milliseconds"},
        ),
    ] = 1000
    retry_max_backoff_ms: Annotated[
        int,
        Meta(ge=0, description="But no longer than this.", extra={"unit": "milliseconds"}),
    ] = 30_000
    skip_signature_verification: Annotated[
        bool,
        Meta(
            description="Do not check that a repository is signed by its account's key. Everything "
            "else is checked."
        ),
    ] = False
    notify: Annotated[
        bool, Meta(description="Make notifications of what fetched records tell.")
    ] = True
    max_repo_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            description="A larger repository is not fetched.",
            extra={"unit": "bytes"},
        ),
    ] = 4096 * MIB
    memory_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            description="Repositories in memory, all together; one that is above 16 MiB or finds "
            "no room goes to a file.",
            extra={"unit": "bytes"},
        ),
    ] = 256 * MIB
    spool_dir: Annotated[
        str,
        Meta(description="Folder of such files, which are temporary. Empty: `spool` in DATA_DIR."),
    ] = ""
