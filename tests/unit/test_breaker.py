"""The circuit breaker, one transition a test."""

from __future__ import annotations

import pytest

from worker import breaker
from worker.models import BreakerState

INTERVAL = 900_000
CLOSED = BreakerState()
TWO_FAULTS = BreakerState(failures=2)
OPEN = BreakerState(phase="open", failures=3, opened_at=1000, until=1000 + INTERVAL)
HALF_OPEN = BreakerState(phase="half_open", failures=3, opened_at=1000, until=1000 + INTERVAL)


@pytest.mark.parametrize("state", [CLOSED, TWO_FAULTS, OPEN, HALF_OPEN])
def test_success_closes_it(state: BreakerState) -> None:
    assert breaker.after(state, "success", 5000, interval=INTERVAL) == CLOSED


@pytest.mark.parametrize("state", [CLOSED, TWO_FAULTS, OPEN, HALF_OPEN])
def test_a_date_is_no_fault(state: BreakerState) -> None:
    assert breaker.after(state, "neither", 5000, interval=INTERVAL) == state


def test_two_faults_leave_it_closed() -> None:
    once = breaker.after(CLOSED, "fault", 1, interval=INTERVAL)
    assert breaker.after(once, "fault", 2, interval=INTERVAL) == TWO_FAULTS


def test_the_third_fault_opens_it_for_one_interval() -> None:
    assert breaker.after(TWO_FAULTS, "fault", 1000, interval=INTERVAL) == OPEN


def test_an_open_breaker_lets_a_probe_through_when_its_time_is_over() -> None:
    assert breaker.begin(OPEN, 1000 + INTERVAL - 1) == OPEN
    assert breaker.begin(OPEN, 1000 + INTERVAL) == HALF_OPEN


def test_a_failed_probe_opens_it_again_and_remembers_since_when() -> None:
    again = breaker.after(HALF_OPEN, "fault", 2_000_000, interval=INTERVAL)
    assert again == BreakerState(phase="open", failures=4, opened_at=1000, until=2_000_000 + INTERVAL)
