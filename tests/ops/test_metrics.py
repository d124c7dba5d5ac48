from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.ops import metrics
from engine.ops.label_status import Labeler, Labels
from engine.ops.status import Status, Stream

COUNTS = {
    "create": 7,
    "update": 5,
    "delete": 3,
    "identity": 2,
    "account": 2,
    "sync": 1,
    "filtered": 11,
}


def values(status: Status) -> dict[str, float]:
    text = metrics.render(status).decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def reading(**relay: Any) -> Status:
    return Status(
        processes={
            "firehose": {"role": "firehose", "relays": {"one": {"counts": COUNTS, **relay}}},
            "indexer/0": {"role": "indexer", "counters": {"ops": 4}},
            "indexer/1": {"role": "indexer", "counters": {"ops": 5}},
            "labels": {
                "role": "labels",
                "labelers": {"l": {"frames": 2, "ops": 6}, "m": {"frames": 1, "ops": 2}},
                "counters": {"written": 7},
            },
        },
        labels=Labels(labelers={"l": Labeler(gap_count=2)}, events=3),
        streams={"firehose_live": Stream(events=13)},
    )


def test_every_metric_moves() -> None:
    idle = values(Status())
    busy = values(reading(state="backpressure", connected=True))
    assert set(idle) == {metric.name for metric in metrics.METRICS}
    assert all(value == 0 for value in idle.values())
    assert all(busy[name] > 0 for name in idle)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ingester_firehose_events_total", 20),
        ("ingester_firehose_filtered_operations_total", 11),
        ("ingester_firehose_live_length", 13),
        ("indexer_events_processed_total", 9),
        ("ingester_backpressure_active", 0),
        ("ingester_labeler_events_total", 3),
        ("ingester_labels_written_total", 8),
        ("ingester_label_live_length", 3),
        ("ingester_label_gaps", 2),
        ("indexer_labels_processed_total", 7),
    ],
)
def test_a_metric_says_what_its_help_says(name: str, value: float) -> None:
    assert values(reading(state="streaming", connected=True))[name] == value
