"""The directory's log: which document an operation makes, and where the next page begins."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from engine.core import identity, plc
from engine.simulate import directory

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = "2025-01-01T00:00:00.000Z"
DID = "did:plc:" + "a" * 24
KEY = "zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF"


def read(line: dict[str, Any]) -> plc.Operation | None:
    return plc.read_line(orjson.dumps(line), NOW)


def document(**changes: Any) -> dict[str, Any]:
    whole = {
        "id": DID,
        "alsoKnownAs": ["https://a.test", "at://alice.test", "at://other.test"],
        "verificationMethod": [
            {"id": f"{DID}#other", "type": "Multikey", "publicKeyMultibase": "zOther"},
            {"id": f"{DID}#atproto", "type": "Multikey", "publicKeyMultibase": KEY},
        ],
        "service": [
            {"id": "#atproto_labeler", "type": "AtprotoLabeler", "serviceEndpoint": "https://l"},
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": "https://pds.test/",
            },
        ],
    }
    return whole | changes


def test_an_operation_says_what_its_document_would() -> None:
    found = read(directory.operation(document(), AT))
    assert found == plc.Operation(
        DID, datetime(2025, 1, 1, tzinfo=UTC), "alice.test", f"did:key:{KEY}", "https://pds.test"
    )
    asked = identity.parse_document(DID, orjson.dumps(document()))
    assert plc.identity_of(found) == asked


@pytest.mark.parametrize(
    "kind", ["AtprotoLabeler", "", None, ["AtprotoLabeler"]], ids=["other", "empty", "none", "list"]
)
def test_a_host_is_one_by_its_id_and_its_type(kind: Any) -> None:
    service = {"id": "#atproto_pds", "type": kind, "serviceEndpoint": "https://pds.test"}
    found = read(directory.operation(document(service=[service]), AT))
    assert found is not None
    assert (found.pds, found.handle) == (None, "alice.test")
    assert plc.identity_of(found) is None


@pytest.mark.parametrize(
    ("service", "handle", "expected"),
    [
        ("pds.test", "alice.test", ("alice.test", "https://pds.test")),
        ("http://pds.test", "at://alice.test", ("alice.test", "http://pds.test")),
        (None, None, (None, None)),
    ],
)
def test_an_operation_of_the_first_form(service: Any, handle: Any, expected: Any) -> None:
    made = {
        "type": "create",
        "signingKey": f"did:key:{KEY}",
        "recoveryKey": "did:key:zR",
        "handle": handle,
        "service": service,
        "prev": None,
        "sig": "",
    }
    found = read(directory.line(DID, made, AT))
    assert found is not None
    assert (found.handle, found.pds) == expected
    assert found.key == f"did:key:{KEY}"


def test_nullified_says_nothing_and_a_tombstone_leaves_nothing() -> None:
    assert read(directory.operation(document(), AT, nullified=True)) is None
    found = read(directory.tombstone(DID, AT))
    assert found is not None
    assert (found.handle, found.key, found.pds) == (None, None, None)


def test_numbered_lines_are_read_as_well() -> None:
    line = directory.operation(document(), AT)
    del line["nullified"]
    assert read(line | {"seq": 7, "type": "sequenced_op"}) is not None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        orjson.dumps(directory.tombstone("did:web:x.test", AT)),
        orjson.dumps(directory.tombstone("did:plc:" + "A" * 24, AT)),
        orjson.dumps(directory.tombstone(DID, "yesterday")),
        orjson.dumps(directory.tombstone(DID, "2025-01-01T00:00:00")),
        orjson.dumps(directory.tombstone(DID, "2026-01-01T00:06:00Z")),
        orjson.dumps(directory.line(DID, {"type": "plc_other"}, AT)),
        orjson.dumps(directory.line(DID, {}, AT)),
        orjson.dumps({"did": DID, "operation": [], "createdAt": AT}),
    ],
)
def test_what_is_no_operation_is_refused(line: bytes) -> None:
    with pytest.raises(plc.BadLine):
        plc.read_line(line, NOW)


def test_parts_of_any_shape_are_read_or_left_out() -> None:
    dice = random.Random(5)
    values: list[Any] = [
        None,
        0,
        "x",
        "did:key:",
        "at://a\0b",
        [],
        {},
        [None],
        {"atproto": 3},
        ["at://"],
    ]
    values.append({"atproto_pds": {"type": ["AtprotoPersonalDataServer"], "endpoint": "https://["}})
    read_count = 0
    for _ in range(2000):
        names = ("alsoKnownAs", "verificationMethods", "services", "handle", "service")
        made = {name: dice.choice(values) for name in names}
        made["signingKey"] = dice.choice(values)
        made["type"] = dice.choice(["plc_operation", "create"])
        found = read(directory.line(DID, made, AT))
        assert found is not None
        assert "\0" not in f"{found.handle}{found.key}{found.pds}"
        read_count += 1
    assert read_count == 2000


def test_the_last_operation_of_a_did_counts_in_whatever_order() -> None:
    dice = random.Random(6)
    lines = [
        plc.Operation(f"did:plc:{number % 7}", NOW + timedelta(seconds=number), None, None, None)
        for number in range(50)
    ]
    expected = sorted(lines[-7:], key=lambda each: each.did)
    for _ in range(20):
        dice.shuffle(lines)
        assert plc.last_of_each(lines) == expected


def test_pages_meet_with_nothing_between_them() -> None:
    """A whole log is read, whatever instants its operations share."""
    dice = random.Random(7)
    for _ in range(20):
        moment, log = datetime(2025, 1, 1, tzinfo=UTC), []
        for _ in range(5000):
            moment += timedelta(milliseconds=dice.choice((0, 0, 0, 1, 1000)))
            log.append(moment)
        after, seen = plc.START, 0
        for _ in range(50):
            page = [each for each in log if each > after][: plc.PAGE]
            seen = max(seen, log.index(page[-1]) + log.count(page[-1])) if page else seen
            following = plc.next_after(after, page, len(page), NOW)
            assert following >= after
            assert not [each for each in log if page and page[-1] < each <= following]
            if len(page) < plc.PAGE:
                break
            after = following
        assert seen == 5000
        assert after <= following <= max(after, log[-1] - plc.OVERLAP)


def test_a_page_of_one_instant_is_got_over() -> None:
    page = [NOW] * plc.PAGE
    before = NOW - timedelta(milliseconds=1)
    assert plc.next_after(before, page, plc.PAGE, NOW) == NOW
    assert plc.next_after(NOW, [], 0, NOW) == NOW
    assert plc.instant(NOW) == "2026-01-01T00:00:00.000Z"
