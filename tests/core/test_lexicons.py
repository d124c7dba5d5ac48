"""Records against lexicons: interoperability documents, and the indexed collections."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from engine import lexicons
from engine.core import codec
from tests.core.dag_cbor import Link, encode

VECTORS = "interop/vectors/lexicon"
RECORD = "example.lexicon.record"


def load(path: Path, least: int) -> list[dict[str, Any]]:
    found = json.loads(path.read_bytes())
    assert len(found) >= least
    return list(found)


def from_json(value: Any, *, raw_blobs: bool = True) -> Any:
    """The data model's JSON form as values: ``$link`` and ``$bytes`` are special.

    The vectors' blobs name DAG-CBOR blocks, which the reference refuses;
    ``raw_blobs`` gives them the codec that blobs have.
    """
    match value:
        case {"$link": str(text), **rest} if not rest:
            cid = Link.parse(text).cid
            return Link(b"\x01\x55" + cid[2:] if raw_blobs else cid)
        case {"$bytes": str(text), **rest} if not rest:
            return base64.b64decode(text + "=" * (-len(text) % 4))
        case dict():
            return {key: from_json(item, raw_blobs=raw_blobs) for key, item in value.items()}
        case list():
            return [from_json(item, raw_blobs=raw_blobs) for item in value]
    return value


def compile_one(document: Any) -> codec.Lexicons:
    return codec.Lexicons(json.dumps([document]).encode())


@pytest.fixture(scope="module")
def example(shared: Path) -> codec.Lexicons:
    return compile_one(json.loads((shared / VECTORS / "catalog/record.json").read_bytes()))


def test_valid_documents_compile(shared: Path) -> None:
    for case in load(shared / VECTORS / "lexicon-valid.json", 3):
        compile_one(case["lexicon"])


def test_the_whole_example_catalog_compiles(shared: Path) -> None:
    files = sorted((shared / VECTORS / "catalog").glob("*.json"))
    documents = b"[" + b",".join(path.read_bytes() for path in files) + b"]"
    assert len(files) == 5
    assert codec.Lexicons(documents).record_types == [RECORD]


def test_invalid_documents_are_refused(shared: Path) -> None:
    for case in load(shared / VECTORS / "lexicon-invalid.json", 7):
        with pytest.raises(ValueError, match=r"^lexicon "):
            compile_one(case["lexicon"])


def test_something_else_than_an_array_of_documents_is_refused() -> None:
    for text in (b"", b"{}", b"[1]", b"[[]]", b"[" * 100_000):
        with pytest.raises(ValueError, match=r"^lexicon "):
            codec.Lexicons(text)


def test_valid_example_records_pass(shared: Path, example: codec.Lexicons) -> None:
    for case in load(shared / VECTORS / "record-data-valid.json", 3):
        record = encode(from_json(case["data"]))
        assert example.validate(RECORD, record) is None, case["name"]


def test_the_full_example_fails_as_it_stands(shared: Path, example: codec.Lexicons) -> None:
    case = load(shared / VECTORS / "record-data-valid.json", 3)[1]
    verdict = example.validate(RECORD, encode(from_json(case["data"], raw_blobs=False)))
    assert verdict is not None
    assert verdict.startswith("expected the CID of a blob at $.")


def test_invalid_example_records_fail(shared: Path, example: codec.Lexicons) -> None:
    for case in load(shared / VECTORS / "record-data-invalid.json", 50):
        record = encode(from_json(case["data"]))
        assert example.validate(RECORD, record), case["name"]


def test_the_indexed_collections_are_all_there() -> None:
    types = codec.Lexicons(lexicons.documents()).record_types
    assert len(types) == 19
    assert {"app.bsky.feed.post", "com.germnetwork.declaration"} <= set(types)


def test_every_document_is_a_file_of_its_name() -> None:
    documents = json.loads(lexicons.documents())
    folder = Path(lexicons.__file__).parent
    assert [document["id"] for document in documents] == sorted(
        path.stem for path in folder.glob("*.json")
    )
    assert len(documents) >= 30


def test_undecodable_records_fail() -> None:
    compiled = codec.Lexicons(lexicons.documents())
    assert compiled.validate("app.bsky.feed.post", b"\xa1") == "input ends inside an item"
    assert (
        compiled.validate("app.bsky.feed.post", b"\x80") == "expected a map at $ (got a list of 0)"
    )
