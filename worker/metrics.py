"""What `/metrics` shows: jobs by outcome, rows by fate, coverage age, broker calls and waits.

Labels are connection kinds and outcomes only; no account, no owner, no connection id.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()

_JOBS = Counter("trade_sync_jobs", "Finished jobs.", ("kind", "status", "reason"), registry=REGISTRY)
_JOB_SECONDS = Histogram(
    "trade_sync_job_seconds", "How long jobs took.", ("kind",), registry=REGISTRY,
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
)  # fmt: skip
_ROWS = Counter("trade_sync_rows", "Rows by what became of them.", ("kind", "fate"), registry=REGISTRY)
_COVERAGE_AGE = Gauge(
    "trade_sync_coverage_age_seconds",
    "How far behind now the completely imported range ends, for the connection that is furthest behind.",
    ("kind",),
    registry=REGISTRY,
)
_BROKER_CALLS = Counter("trade_sync_broker_calls", "Calls to brokers.", ("kind", "outcome"), registry=REGISTRY)
_BROKER_WAIT = Counter(
    "trade_sync_broker_wait_seconds",
    "Time spent waiting for a broker's pacing.",
    ("kind",),
    registry=REGISTRY,
)
_CONVEX_CALLS = Counter("trade_sync_convex_calls", "Calls to Convex.", ("function", "outcome"), registry=REGISTRY)


def job_finished(kind: str, status: str, reason: str, seconds: float) -> None:
    _JOBS.labels(kind, status, reason).inc()
    _JOB_SECONDS.labels(kind).observe(seconds)


def rows(kind: str, fate: str, count: int) -> None:
    if count:
        _ROWS.labels(kind, fate).inc(count)


def coverage_age(kind: str, seconds: float) -> None:
    _COVERAGE_AGE.labels(kind).set(max(0.0, seconds))


def broker_call(kind: str, outcome: str) -> None:
    _BROKER_CALLS.labels(kind, outcome).inc()


def broker_wait(kind: str, seconds: float) -> None:
    _BROKER_WAIT.labels(kind).inc(seconds)


def convex_call(function: str, outcome: str) -> None:
    _CONVEX_CALLS.labels(function, outcome).inc()


def exposition() -> bytes:
    """The text a Prometheus server scrapes."""
    return generate_latest(REGISTRY)
