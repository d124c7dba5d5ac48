"""``GET /metrics``: the status as Prometheus reads it, every metric declared once.

The names are those of the pipeline that Headrace replaces, so that its dashboards keep
working; each is here only once its meaning is real. Counters come from the processes'
heartbeats and start at 0 with each process, as Prometheus expects of a counter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core import streams
from engine.ops.status import Status


def _relays(status: Status) -> Iterator[dict[str, Any]]:
    """What each firehose process says of each of its relays, as its heartbeat has it."""
    for process in status.processes.values():
        if process.get("role") == "firehose":
            yield from process.get("relays", {}).values()


def _counted(*words: str) -> Callable[[Status], float]:
    """Ops appended, by what the decoder calls them."""
    return lambda status: float(
        sum(relay.get("counts", {}).get(word, 0) for relay in _relays(status) for word in words)
    )


def _live_events(status: Status) -> float:
    live = status.streams.get(streams.LIVE)
    return live.events if live else 0


def _indexed(status: Status) -> float:
    return float(
        sum(
            process.get("counters", {}).get("ops", 0)
            for process in status.processes.values()
            if process.get("role") == "indexer"
        )
    )


def _of_labels(read: Callable[[dict[str, Any]], float]) -> Callable[[Status], float]:
    """A sum over the processes of the labels role, which is one."""
    return lambda status: float(
        sum(
            read(process)
            for process in status.processes.values()
            if process.get("role") == "labels"
        )
    )


def _of_labelers(name: str) -> Callable[[Status], float]:
    """A count that the labels role keeps of each labeler."""
    return _of_labels(
        lambda process: sum(each.get(name, 0) for each in process.get("labelers", {}).values())
    )


@dataclass(frozen=True)
class Declared:
    """One metric: what it is called, what a rise means, and where its value comes from."""

    name: str
    help: str
    read: Callable[[Status], float]

    @property
    def is_counter(self) -> bool:
        """Whether it only goes up."""
        return self.name.endswith("_total")


METRICS = (
    Declared(
        "ingester_firehose_events_total",
        "Events appended to firehose_live: ops that the filter kept, identity, account and sync.",
        _counted("create", "update", "delete", "identity", "account", "sync"),
    ),
    Declared("ingester_firehose_create_events_total", "Creates appended.", _counted("create")),
    Declared("ingester_firehose_update_events_total", "Updates appended.", _counted("update")),
    Declared("ingester_firehose_delete_events_total", "Deletes appended.", _counted("delete")),
    Declared(
        "ingester_firehose_filtered_operations_total",
        "Ops left out by FILTER_COLLECTIONS before they were decoded; not a loss.",
        _counted("filtered"),
    ),
    Declared(
        "ingester_firehose_live_length",
        "Events in the streams of firehose_live, committed ones not yet trimmed included. The "
        "ingester waits at INGESTER_HIGH_WATER_MARK.",
        _live_events,
    ),
    Declared(
        "ingester_backpressure_active",
        "Relays that are not read because the streams are full. Nothing is lost by it while the "
        "relay still serves the frames.",
        lambda status: sum(relay.get("state") == "backpressure" for relay in _relays(status)),
    ),
    Declared(
        "ingester_websocket_connections",
        "Relays connected.",
        lambda status: sum(bool(relay.get("connected")) for relay in _relays(status)),
    ),
    Declared(
        "indexer_events_processed_total",
        "Ops committed by the indexers, duplicates and rejected ones included.",
        _indexed,
    ),
    Declared("ingester_labeler_events_total", "Messages of labelers read.", _of_labelers("frames")),
    Declared(
        "ingester_labels_written_total",
        "Labels appended to label_live, rejected ones included.",
        _of_labelers("ops"),
    ),
    Declared(
        "ingester_label_live_length",
        "Labels in the stream label_live, committed ones not yet trimmed included. The labelers "
        "wait at LABELS_HIGH_WATER_MARK.",
        lambda status: status.labels.events,
    ),
    Declared(
        "ingester_label_gaps",
        "Places where a labeler no longer had what was asked for: labels are missing.",
        lambda status: sum(each.gap_count for each in status.labels.labelers.values()),
    ),
    Declared(
        "indexer_labels_processed_total",
        "Labels committed, negations, duplicates and rejected ones included.",
        _of_labels(lambda process: process.get("counters", {}).get("written", 0)),
    ),
)


class _Reading(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        for metric in METRICS:
            family = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
            yield family(metric.name, metric.help, value=metric.read(self._status))


def render(status: Status) -> bytes:
    """One status in the Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reading(status))
    return generate_latest(registry)
