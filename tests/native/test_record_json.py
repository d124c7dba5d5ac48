"""DAG-CBOR to JSON text: against an independent decoder, and where it differs on purpose."""

from __future__ import annotations

import base64
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import libipld
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import codec
from tests.native import frames as made

SAFE = (1 << 53) - 1

OURS_ALONE_REFUSES = {
    "integer or length not in its shortest form",
    "integer beyond 2^53-1",
    "key __proto__ in the outermost map",
    "not a map",
    "nested too deep",
    "duplicate map key",  # equal once the byte order mark is dropped
    "malformed CID",
}
"""What is an error here though libipld reads it; each is a rule of the reference."""


def as_libipld_sees(value: Any) -> Any:
    """Our JSON with links and bytes in binary: libipld gives bytes for both."""
    if isinstance(value, list):
        return [as_libipld_sees(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$link"}:
            return libipld.decode_multibase(value["$link"])[1]
        if value.keys() == {"$bytes"}:
            return base64.b64decode(value["$bytes"] + "==")
        return {key: as_libipld_sees(item) for key, item in value.items()}
    return value


def as_reference_reads(value: Any) -> Any:
    """libipld's value with the reference's rules on text applied."""
    if isinstance(value, str):
        return value.removeprefix("\ufeff")
    if isinstance(value, list):
        return [as_reference_reads(item) for item in value]
    if isinstance(value, dict):
        items = ((as_reference_reads(key), item) for key, item in value.items())
        return {key: as_reference_reads(item) for key, item in items if key != "__proto__"}
    return value


def agree(block: bytes) -> str:
    """Compare both decoders on any bytes; the word says how it ended."""
    try:
        theirs = libipld.decode_dag_cbor(block)
    except (ValueError, RecursionError):
        theirs = None
        refused = True
    else:
        refused = False
    try:
        text = codec.record_json(block)
    except ValueError as error:
        reason = str(error)
        text = b""
    if not text:
        assert refused or reason in OURS_ALONE_REFUSES, (reason, block)
        return "both refuse" if refused else "ours refuses"
    ours = json.loads(text)
    if refused:
        return "theirs refuses"
    assert as_libipld_sees(ours) == as_reference_reads(theirs), block
    return "equal"


keys = st.text(max_size=8).filter(lambda key: key != "__proto__" and not key.startswith("\ufeff"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-SAFE, SAFE)
    | st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda number: not number.is_integer()
    )
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(keys, values, max_size=6))
def test_any_record_equals_what_an_independent_decoder_reads(record: dict[str, Any]) -> None:
    assert agree(libipld.encode_dag_cbor(record)) == "equal"


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"\xa3\x61a" + tail))
def test_arbitrary_bytes_never_do_harm(block: bytes) -> None:
    agree(block)


def test_mutated_records_agree_with_an_independent_decoder(shared: Path) -> None:
    rng = random.Random(20261121)
    records = [
        op.record
        for entry in made.entries(made.decode(made.recorded(shared)[:600]))
        for op in getattr(entry, "ops", ())
        if op.record
    ]
    assert len(records) > 1000
    ends: Counter[str] = Counter()
    for record in records:
        assert agree(record) == "equal"
        mutant = bytearray(record)
        for _ in range(rng.randint(1, 3)):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        ends[agree(bytes(mutant))] += 1
    assert min(ends[end] for end in ("equal", "both refuse", "theirs refuses")) >= 200, ends


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (b"\xa2\x61b\x01\x61a\x02", '{"b":1,"a":2}'),
        (b"\xa3\x61b\x01\x62\x31\x30\x02\x61\x39\x03", '{"9":3,"10":2,"b":1}'),
        (b"\xa1\x61a\xf7", '{"a":null}'),
        (b"\xa1\x61a\xf9\x3e\x00", '{"a":1.5}'),
        (b"\xa1\x61a\xfa\x3f\x80\x00\x00", '{"a":1}'),
        (b"\xa1\x61a\xfb\x80\x00\x00\x00\x00\x00\x00\x00", '{"a":0}'),
        (b"\xa1\x61a\xfb\x44\x4b\x1a\xe4\xd6\xe2\xef\x50", '{"a":1e+21}'),
        (b"\xa1\x61a\x1b\x00\x1f\xff\xff\xff\xff\xff\xff", '{"a":9007199254740991}'),
        (b"\xa1\x61a\x62\xff\x61", '{"a":"\ufffda"}'),
        (b"\xa1\x61a\x64\xef\xbb\xbfx", '{"a":"x"}'),
        (b"\xa1\x64\xef\xbb\xbfx\x01", '{"x":1}'),
        (b"\xa1\x61a\xa1\x69__proto__\x01", '{"a":{}}'),
        (b"\xa1\x61a\x42\x01\x02", '{"a":{"$bytes":"AQI"}}'),
        (b"\xa1\x61a\x63\x00\x1f\x7f", '{"a":"\\u0000\\u001f\x7f"}'),
    ],
)
def test_what_only_the_reference_accepts_prints_as_it_prints(block: bytes, text: str) -> None:
    assert codec.record_json(block).decode() == text


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (b"\xa1\x61a\x18\x01", "shortest"),
        (b"\xa1\x61a\x9f\xff", "indefinite"),
        (b"\xa2\x61a\x01\x61a\x02", "duplicate"),
        (b"\xa1\x01\x01", "not text"),
        (b"\xa1\x61a\xc0\x61x", "tag"),
        (b"\xa1\x61a\xd8\x2a\x42\x00\x01", "CID"),
        (b"\xa1\x61a\xf9\x7e\x00", "NaN"),
        (b"\xa1\x61a\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00", "infinity"),
        (b"\xa0\x00", "after"),
        (b"\x80", "not a map"),
        (b"\xa1\x69__proto__\x01", "__proto__"),
        (b"\xa1\x61a\x1b\x00\x20\x00\x00\x00\x00\x00\x00", "2\\^53"),
        (b"\xa1\x61a" + b"\x81" * 300 + b"\x00", "deep"),
        (b"\xa1\x61a\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "ends"),
    ],
)
def test_what_the_reference_refuses_is_refused(block: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec.record_json(block)
    assert agree(block) in ("both refuse", "ours refuses")


def vectors(shared: Path, name: str) -> list[dict[str, Any]]:
    path = shared / "interop" / "vectors" / "data-model" / f"data-model-{name}.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())
    assert found
    return found


def to_ipld(value: Any) -> Any:
    """The JSON form of the data model as libipld's encoder wants it."""
    if isinstance(value, list):
        return [to_ipld(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$link"} and isinstance(value["$link"], str):
            return libipld.decode_multibase(value["$link"])[1]
        if value.keys() == {"$bytes"} and isinstance(value["$bytes"], str):
            return base64.b64decode(value["$bytes"] + "==")
        return {key: to_ipld(item) for key, item in value.items()}
    return value


def test_data_model_fixtures_print_as_the_vectors_say(shared: Path) -> None:
    for vector in vectors(shared, "fixtures"):
        block = base64.b64decode(vector["cbor_base64"] + "==")
        assert json.loads(codec.record_json(block)) == vector["json"]
        cid = libipld.decode_multibase(vector["cid"])[1]
        frame = made.commit_frame(
            blocks=made.car([], [(cid, block)]),
            ops=[{"action": "create", "path": "app.bsky.feed.post/x", "cid": cid}],
        )
        entry = made.only_entry(frame)
        assert getattr(entry, "ops")[0].record == block  # noqa: B009


def test_valid_data_model_values_survive_the_round_trip(shared: Path) -> None:
    for vector in vectors(shared, "valid"):
        block = libipld.encode_dag_cbor(to_ipld(vector["json"]))
        assert json.loads(codec.record_json(block)) == vector["json"], vector["note"]


def test_invalid_data_model_values_are_refused_where_their_shape_exists(shared: Path) -> None:
    # The crate never reads JSON, so a malformed `$link` or `$bytes` cannot arise: in CBOR it
    # is a plain map, which prints as it is. Floats are read as the reference reads them.
    # `$type` and blobs are judged by the lexicons.
    refused_here = {"top-level not an object"}
    printed_as_it_is = {
        "float",
        "record with $type null",
        "record with $type wrong type",
        "record with empty $type string",
        "blob with string size",
        "blob with missing key",
        "bytes with wrong field type",
        "bytes with extra fields",
        "link with wrong field type",
        "link with bogus CID",
        "link with extra fields",
    }
    found = set()
    for vector in vectors(shared, "invalid"):
        found.add(vector["note"])
        # Only well-formed links become links; the rest stays a map.
        bogus = vector["note"] == "link with bogus CID"
        block = libipld.encode_dag_cbor(vector["json"] if bogus else to_ipld(vector["json"]))
        if vector["note"] in refused_here:
            with pytest.raises(ValueError, match="not a map"):
                codec.record_json(block)
        else:
            assert json.loads(codec.record_json(block)) == vector["json"], vector["note"]
    assert found == refused_here | printed_as_it_is


def test_floats_print_as_python_reads_them_back() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        number = rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300)
        text = codec.record_json(libipld.encode_dag_cbor({"a": number}))
        assert math.isclose(json.loads(text)["a"], number, rel_tol=0, abs_tol=0)
