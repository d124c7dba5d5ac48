"""The model against the tables that the reference made of two recorded networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.model import golden as recorded
from tests.model.model import Model

NOW = 1_795_300_000.0  # shortly after the recordings


@pytest.fixture(scope="module", params=["golden", "golden-gates"])
def golden(request: pytest.FixtureRequest, shared: Path) -> Path:
    return shared / str(request.param)


@pytest.fixture(scope="module")
def model(golden: Path) -> Model:
    model = Model(resolve=recorded.resolver(golden), now=NOW)
    for event in recorded.events_of(golden):
        model.apply(event)
    return model


def test_every_row_of_every_table_is_the_reference_s(golden: Path, model: Model) -> None:
    tables = model.tables()
    assert recorded.differences(golden, tables) == {}
    counts = json.loads((golden / "counts.json").read_text())
    assert {table: len(rows) for table, rows in tables.items() if rows} == counts
    assert len(counts) == 30
    assert sum(counts.values()) > 10_000


def test_nothing_in_a_relay_s_order_is_late(model: Model) -> None:
    assert model.judged_again == 0


def test_what_the_reference_refused_is_refused(golden: Path, model: Model) -> None:
    refused = json.loads((golden / "rejected.json").read_text())
    rejected = {word: n for word, n in model.outcomes.items() if word.startswith("rejected")}
    assert sum(rejected.values()) == sum(refused.values()) > 100
    assert model.outcomes["duplicate"] == 0
