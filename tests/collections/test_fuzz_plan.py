"""The fuzz targets fold what the collections declare."""

from __future__ import annotations

from pathlib import Path

from tests.collections import fuzz_plan

ROOT = Path(__file__).resolve().parents[2]


def test_fuzz_targets_know_the_collections_of_today() -> None:
    document = (ROOT / "native" / "fuzz" / "plan.json").read_text()
    assert document == fuzz_plan.document() + "\n", "run `make docs`"
