"""Identifiers against the interoperability vectors and against the reference's own rules."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core import codec

VECTORS = "interop/vectors/syntax"
FORMATS = {
    "atidentifier": "at-identifier",
    "aturi": "at-uri",
    "cid": "cid",
    "datetime": "datetime",
    "did": "did",
    "handle": "handle",
    "language": "language",
    "nsid": "nsid",
    "recordkey": "record-key",
    "tid": "tid",
    "uri": "uri",
}
LONG_URI = "https://example.com/" + 8200 * "x"

ACCEPTED_AGAINST_THE_VECTORS = {
    "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR": "the reference reads version 0 CIDs",
    LONG_URI: "the reference sets no limit on URIs",
}
REFUSED_AGAINST_THE_VECTORS = {
    "zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7": "not printed in base 32",
    "mBcDxtdWx0aWhhc2g+": "not printed in base 32",
    "z7x3CtScH765HvShXT": "not printed in base 32",
    "zdj7WhuEjrB52m1BisYCtmjH1hSKa7yZ3jEZ9JcXaFRD51wVz": "not printed in base 32",
    "7134036155352661643226414134664076": "not printed in base 32",
    "f017012202c5f688262e0ece8569aa6f94d60aad55ca8d9d83734e4a7430d0cff6588ec2b": "not base 32",
    "content-type:text/plan": "the reference's URI scheme is a word",
    "microsoft.windows.camera:thing": "the reference's URI scheme is a word",
}


def lines(path: Path) -> list[str]:
    found = [line for line in path.read_text("utf-8").split("\n") if line and line[0] != "#"]
    assert len(found) >= 4, path.name
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_valid_vectors_pass(shared: Path, name: str) -> None:
    vectors = lines(shared / VECTORS / f"{name}_syntax_valid.txt")
    refused = {text for text in vectors if not codec.check_syntax(FORMATS[name], text)}
    assert refused == set(vectors) & set(REFUSED_AGAINST_THE_VECTORS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "syntax") for name in FORMATS), ("datetime", "parse"), ("language", "parse")],
)
def test_invalid_vectors_fail(shared: Path, name: str, kind: str) -> None:
    vectors = lines(shared / VECTORS / f"{name}_{kind}_invalid.txt")
    accepted = {text for text in vectors if codec.check_syntax(FORMATS[name], text)}
    assert accepted == set(vectors) & set(ACCEPTED_AGAINST_THE_VECTORS)


def test_every_vector_file_is_read(shared: Path) -> None:
    files = {path.name for path in (shared / VECTORS).glob("*.txt")}
    read = {f"{name}_syntax_{verdict}.txt" for name in FORMATS for verdict in ("valid", "invalid")}
    assert files == read | {"datetime_parse_invalid.txt", "language_parse_invalid.txt"}


def test_every_exception_is_in_the_vectors(shared: Path) -> None:
    everything = {text for path in (shared / VECTORS).glob("*.txt") for text in lines(path)}
    assert {*ACCEPTED_AGAINST_THE_VECTORS, *REFUSED_AGAINST_THE_VECTORS} <= everything


def test_an_unknown_format_is_misuse() -> None:
    with pytest.raises(ValueError, match='unknown format "colour"'):
        codec.check_syntax("colour", "red")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1985-04-12T23:20:50Z", "1985-04-12T23:20:50.000Z"),
        ("1985-04-12T23:20:50.1239999Z", "1985-04-12T23:20:50.123Z"),
        ("1985-04-12T23:20:50.123-07:00", "1985-04-13T06:20:50.123Z"),
        ("2024-02-30T00:00:00Z", "2024-03-01T00:00:00.000Z"),
        ("2023-04-31T23:59:59.9+00:00", "2023-05-01T23:59:59.900Z"),
        ("0000-01-01T00:00:00.000Z", "0000-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999Z"),
        ("yesterday", None),
        ("2024-01-01T00:00:60Z", None),
        ("2024-01-01T24:00:00Z", None),
        ("2024-01-01T00:00:00-00:00", None),
        ("0000-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59-00:01", None),
    ],
)
def test_datetimes_are_normalised_to_utc_milliseconds(text: str, expected: str | None) -> None:
    assert codec.normalize_datetime(text) == expected


@pytest.mark.parametrize(
    ("format", "text", "expected"),
    [
        # Found by comparing some 300,000 texts with the reference's own functions.
        ("datetime", "2024-01-01T00:00:00." + 43 * "0" + "Z", True),
        ("datetime", "2024-01-01T00:00:00." + 44 * "0" + "Z", False),
        ("language", "en-GB-oed", True),
        ("language", "EN-GB-oed", False),
        ("language", "i-DEFAULT", False),
        ("language", "en-a-bb-x-a-x", True),
        ("language", "", False),
        ("at-uri", "at://a.b#/%E2%82%AC", True),
        ("at-uri", "at://a.b#/%ED%A0%80", False),
        ("at-uri", "at://a.b#/%F4%90%80%80", False),
        ("at-uri", "at://a.b#/" + 8182 * "a", True),
        ("at-uri", "at://a.b#/" + 8183 * "a", False),
        ("uri", "a:b\u0085c", True),
        ("uri", "a:b\ufeffc", False),
        ("uri", "\u212a:b", False),
        ("did", "did:plc:" + 2040 * "a", True),
        ("did", "did:plc:" + 2041 * "a", False),
        ("cid", "bafkqaaa", True),
        ("cid", "bafkqaab", False),
    ],
)
def test_the_edges_lie_where_the_reference_has_them(format: str, text: str, expected: bool) -> None:
    assert codec.check_syntax(format, text) is expected


@given(st.sampled_from(sorted(FORMATS.values())), st.text() | st.from_regex(r"[a-z0-9:./#%-]+"))
def test_any_text_has_a_format_or_not(format: str, text: str) -> None:
    assert codec.check_syntax(format, text) in (True, False)


@given(st.datetimes(), st.sampled_from(["Z", "+00:00", "-23:59", "+14:00"]))
def test_normalised_datetimes_are_as_python_computes_them(moment: datetime, zone: str) -> None:
    text = moment.isoformat(timespec="microseconds") + zone
    try:
        expected = datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        return
    printed = expected.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert codec.normalize_datetime(text) == printed
