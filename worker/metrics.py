"""What `/metrics` shows: jobs by outcome, rows by fate, coverage age, broker calls and waits.

Labels are connection kinds and outcomes only; no account, no owner, no connection id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()

_JOBS = Counter("trade_sync_jobs", "Finished jobs.", ("kind", "status", "reason"), registry=REGISTRY)
_JOB_SECONDS = Histogram(
    "trade_sync_job_seconds", "How long jobs took.", ("kind",), registry=REGISTRY,
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
)  # fmt: skip
_ROWS = Counter("trade_sync_rows", "Rows by what became of them.", ("kind", "fate"), registry=REGISTRY)
_BROKER_CALLS = Counter("trade_sync_broker_calls", "Calls to brokers.", ("kind", "outcome"), registry=REGISTRY)
_BROKER_WAIT = Counter(
    "trade_sync_broker_wait_seconds",
    "Time spent waiting for a broker's pacing.",
    ("kind",),
    registry=REGISTRY,
)
_CONVEX_CALLS = Counter("trade_sync_convex_calls", "Calls to Convex.", ("function", "outcome"), registry=REGISTRY)


class _CoverageAge(Collector):
    """Computed when it is scraped, so that it grows while nothing succeeds: the one figure to alert on."""

    def collect(self) -> Iterable[Metric]:
        metric = GaugeMetricFamily(
            "trade_sync_coverage_age_seconds",
            "How far behind now the completely imported range ends, for the connection that is furthest behind.",
            labels=("kind",),
        )
        with _edges_lock:
            oldest: dict[str, int] = {}
            for kind, edge in _edges.values():
                oldest[kind] = min(edge, oldest.get(kind, edge))
        for kind, edge in oldest.items():
            metric.add_metric((kind,), max(0.0, time.time() - edge / 1000))
        yield metric


_edges: dict[str, tuple[str, int]] = {}
_edges_lock = threading.Lock()
REGISTRY.register(_CoverageAge())


def job_finished(kind: str, status: str, reason: str, seconds: float) -> None:
    _JOBS.labels(kind, status, reason).inc()
    _JOB_SECONDS.labels(kind).observe(seconds)


def rows(kind: str, fate: str, count: int) -> None:
    if count:
        _ROWS.labels(kind, fate).inc(count)


def covered_up_to(kind: str, connection_id: str, edge_ms: int) -> None:
    """Note where a connection's complete range ends; the id stays here."""
    with _edges_lock:
        _edges[connection_id] = (kind, edge_ms)


def keep_connections(connection_ids: Collection[str]) -> None:
    """Forget the edges of connections that are gone or disconnected."""
    with _edges_lock:
        for connection_id in _edges.keys() - set(connection_ids):
            del _edges[connection_id]


def broker_call(kind: str, outcome: str) -> None:
    _BROKER_CALLS.labels(kind, outcome).inc()


def broker_wait(kind: str, seconds: float) -> None:
    _BROKER_WAIT.labels(kind).inc(seconds)


def convex_call(function: str, outcome: str) -> None:
    _CONVEX_CALLS.labels(function, outcome).inc()


def exposition() -> bytes:
    """The text a Prometheus server scrapes."""
    return generate_latest(REGISTRY)
