"""Settings of the labels role."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from engine.settings.section import MIB, Section


class LabelsSettings(Section, frozen=True, kw_only=True):
    """Reading labelers."""

    labelers: Annotated[
        tuple[str, ...],
        Meta(
            description="Labelers to read: DIDs, whose documents say where, or hosts (bare ones "
            "mean wss://; ws:// and http:// are for tests and private networks). Bluesky's own is "
            "`did:plc:ar7c4by46qjdydhdevvrndac`. Without any, and with `discover` off, `headrace "
            "up` does not start the role."
        ),
    ] = ()
    discover: Annotated[
        bool,
        Meta(
            description="Read also every labeler that declares itself by a record "
            "`app.bsky.labeler.service`."
        ),
    ] = False
    discover_limit: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Of those, this many at most, the oldest first. Each costs a connection.",
            extra={"unit": "labelers"},
        ),
    ] = 500
    signatures: Annotated[
        str,
        Meta(
            description="What becomes of a label whose signature is not of its labeler's key: "
            "`enforce` makes it a dead letter, `count` indexes it and counts it, `off` does not "
            "look."
        ),
    ] = "enforce"
    dead_letters: Annotated[
        int,
        Meta(
            ge=0,
            description="Of the labels of one host that cannot be indexed, keep this many, with at "
            "most 16 KiB each on average; further ones are only counted. Those that are deleted "
            "make room.",
            extra={"unit": "labels"},
        ),
    ] = 1_000
    high_water_mark: Annotated[
        int,
        Meta(
            ge=1,
            description="Stop reading the labelers while their stream holds this many labels.",
            extra={"unit": "labels"},
        ),
    ] = 100_000
    high_water_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            description="The same limit in bytes of entries; whichever is reached first holds.",
            extra={"unit": "bytes"},
        ),
    ] = 64 * MIB
    batch_bytes: Annotated[
        int,
        Meta(
            ge=1 << 16,
            le=256 * MIB,
            description="Write at about this many bytes of entries in one transaction.",
            extra={"unit": "bytes"},
        ),
    ] = 4 * MIB
    pong_timeout_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="Connect again to a labeler that answers no ping for this long.",
            extra={"unit": "seconds"},
        ),
    ] = 90.0
    silence_timeout_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="Connect again to a labeler that sent no label for this long, though it "
            "answers. Hours without one are normal.",
            extra={"unit": "seconds"},
        ),
    ] = 21_600.0
