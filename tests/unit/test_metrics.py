"""The one figure to alert on: how far behind the complete range is."""

from __future__ import annotations

import time

from worker import metrics

NAME = 'trade_sync_coverage_age_seconds{kind="kraken"}'


def age() -> float | None:
    for line in metrics.exposition().decode().splitlines():
        if line.startswith(NAME):
            return float(line.split()[-1])
    return None


def test_coverage_age_is_that_of_the_connection_furthest_behind_and_grows() -> None:
    now = int(time.time() * 1000)
    metrics.covered_up_to("kraken", "one", now - 500_000)
    metrics.covered_up_to("kraken", "other", now - 1_000)
    metrics.keep_connections({"one", "other"})
    first = age()
    assert first is not None
    assert 500 <= first < 510
    second = age()
    assert second is not None
    assert second >= first
    metrics.keep_connections({"other"})
    left = age()
    assert left is not None
    assert left < 10
    metrics.keep_connections(set())
    assert age() is None
