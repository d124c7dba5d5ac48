"""Every interoperability file has a test that reads it, and no new one goes unseen."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CRYPTO = "tests/native/test_crypto.py"
DATA_MODEL = "tests/native/test_record_json.py"
FIREHOSE = "tests/native/test_golden_frames.py"
LEXICONS = "tests/core/test_lexicons.py"
MST = "native/tests/interop.rs"
PROOFS = "tests/native/test_mst.py"
REPOS = "tests/native/test_repo.py"
SYNTAX = "tests/core/test_syntax.py"
NO_DATA = ""

SYNTAX_FORMATS = [
    *("atidentifier", "aturi", "cid", "datetime", "did", "handle", "language", "nsid"),
    *("recordkey", "tid", "uri"),
]

# File -> the test module that reads it; "" where there is nothing to test.
COVERED_BY = {
    "README.md": NO_DATA,
    "vectors/README.md": NO_DATA,
    "vectors/LICENSE-CC0": NO_DATA,
    "vectors/crypto/signature-fixtures.json": CRYPTO,
    "vectors/crypto/w3c_didkey_K256.json": CRYPTO,
    "vectors/crypto/w3c_didkey_P256.json": CRYPTO,
    "vectors/data-model/data-model-fixtures.json": DATA_MODEL,
    "vectors/data-model/data-model-invalid.json": DATA_MODEL,
    "vectors/data-model/data-model-valid.json": DATA_MODEL,
    "vectors/firehose/commit-proof-fixtures.json": PROOFS,
    "vectors/lexicon/catalog/permission-set.json": LEXICONS,
    "vectors/lexicon/catalog/procedure.json": LEXICONS,
    "vectors/lexicon/catalog/query.json": LEXICONS,
    "vectors/lexicon/catalog/record.json": LEXICONS,
    "vectors/lexicon/catalog/subscription.json": LEXICONS,
    "vectors/lexicon/lexicon-invalid.json": LEXICONS,
    "vectors/lexicon/lexicon-valid.json": LEXICONS,
    "vectors/lexicon/record-data-invalid.json": LEXICONS,
    "vectors/lexicon/record-data-valid.json": LEXICONS,
    "vectors/mst/common_prefix.json": MST,
    "vectors/mst/example_keys.txt": MST,
    "vectors/mst/key_heights.json": MST,
    **{
        f"vectors/syntax/{name}_syntax_{kind}.txt": SYNTAX
        for name in SYNTAX_FORMATS
        for kind in ("valid", "invalid")
    },
    "vectors/syntax/datetime_parse_invalid.txt": SYNTAX,
    "vectors/syntax/language_parse_invalid.txt": SYNTAX,
    "firehose/firehose_commit_4621317030.json": FIREHOSE,
    "firehose/firehose_commit_4621317332.json": FIREHOSE,
    "firehose/firehose_commit_4621332152.json": FIREHOSE,
    "firehose/firehose_commit_4623075231.json": FIREHOSE,
    "repos/bafyreieovfuizojpw3zresz7sx3nk4trm2by23pt5rxbey3jme4uo5ogiu.car": REPOS,
    "repos/did_plc_z5vnbioquyhivxirw3bbljmu.didDoc.json": REPOS,
    "repos/fakermaker.didDoc.json": REPOS,
    "repos/fakermaker.repo.car": REPOS,
    "repos/feedpost_record.cbor": REPOS,
    "repos/greenground.didDoc.json": REPOS,
    "repos/greenground.repo.car": REPOS,
    "repos/paul_staging.didDoc.json": REPOS,
    "repos/paul_staging.repo.car": REPOS,
    "repos/post_richtext_link.cbor": REPOS,
    "repos/repo_slice.car": REPOS,
    "repos/repo_slice_record.json": REPOS,
}


def test_every_interoperability_file_is_covered(shared: Path) -> None:
    interop = shared / "interop"
    found = {str(path.relative_to(interop)) for path in interop.rglob("*") if path.is_file()}
    assert found == COVERED_BY.keys()


def test_every_covering_module_reads_the_data() -> None:
    """A module that names neither its folder nor its files does not cover them."""
    for name, module in COVERED_BY.items():
        if module == NO_DATA:
            continue
        path = ROOT / module
        assert path.is_file(), f"{module} should read {name}"
        text = path.read_text()
        folder, file = Path(name).parent.name, Path(name).name
        assert folder in text or file in text, f"{module} does not read {name}"
