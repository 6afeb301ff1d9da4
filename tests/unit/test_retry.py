"""One request, tried again: how often, how long, how much of all traffic."""

from __future__ import annotations

import email.utils
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.clock import VirtualClock
from worker.errors import AuthFailed, BadRecord, Failure, Rejected, RetryLater, Stopped, Unavailable
from worker.retry import RetryBudget, RetryPolicy, asked_wait, retrying

NOW = 1_700_000_000_000


class Flaky:
    """Fails `failures` times, then answers; notes when it was called."""

    def __init__(self, clock: VirtualClock, failures: int, error: Callable[[], Exception], seconds: float = 0) -> None:
        self.at: list[float] = []
        self._clock = clock
        self._failures = failures
        self._error = error
        self._seconds = seconds

    def __call__(self) -> str:
        self.at.append(self._clock.monotonic())
        self._clock.advance(self._seconds)
        if len(self.at) <= self._failures:
            raise self._error()
        return "answer"


def transient() -> Unavailable:
    return Unavailable("no")


def test_A9_the_fourth_try_may_succeed_with_growing_equal_jitter() -> None:
    clock = VirtualClock(NOW)
    call = Flaky(clock, 3, transient)
    assert retrying(call, clock=clock, budget=RetryBudget(), chance=lambda: 0.5) == "answer"
    # base 1 s, doubled each time; half of it certain, half by chance (0.5): 0.75, 1.5 and 3 s.
    assert call.at == [0.0, 0.75, 2.25, 5.25]


def test_A9_there_is_no_fifth_try() -> None:
    clock = VirtualClock(NOW)
    call = Flaky(clock, 99, transient)
    with pytest.raises(Unavailable, match="no"):
        retrying(call, clock=clock, budget=RetryBudget())
    assert len(call.at) == 4


@pytest.mark.parametrize(
    "error",
    [
        AuthFailed("x", code="x"),
        Rejected("x", code="x"),
        RetryLater("x", until=0, reason="rate_limited"),
        BadRecord("x", field="x"),
        Stopped(),
        ZeroDivisionError(),
    ],
)
def test_only_unavailable_is_tried_again(error: Failure) -> None:
    clock = VirtualClock(NOW)
    call = Flaky(clock, 1, lambda: error)
    with pytest.raises(type(error)):
        retrying(call, clock=clock, budget=RetryBudget())
    assert len(call.at) == 1


@given(attempt=st.integers(1, 20), chance=st.floats(0, 1, exclude_max=True))
def test_jitter_keeps_its_floor_and_cap(attempt: int, chance: float) -> None:
    policy = RetryPolicy(base=1.0, cap=8.0)
    full = min(8.0, 2.0 ** (attempt - 1))
    assert full / 2 <= policy.wait(attempt, chance) <= full


def test_the_total_time_is_bounded() -> None:
    clock = VirtualClock(NOW)
    call = Flaky(clock, 99, transient, seconds=30)
    with pytest.raises(Unavailable):
        retrying(call, clock=clock, budget=RetryBudget(), policy=RetryPolicy(total=70))
    assert len(call.at) == 3
    assert clock.monotonic() <= 70 + 30


def test_E1_a_stop_request_ends_the_waiting() -> None:
    stop = threading.Event()
    clock = VirtualClock(NOW, stop=stop)

    def fail() -> str:
        stop.set()
        raise transient()

    with pytest.raises(Stopped):
        retrying(fail, clock=clock, budget=RetryBudget())


def test_A16_a_day_of_errors_stays_within_the_budget() -> None:
    clock = VirtualClock(NOW)
    budget = RetryBudget(ratio=0.1, floor=3)
    calls = attempts = 0

    def every_third_fails() -> str:
        nonlocal attempts
        attempts += 1
        if attempts % 10 < 3:
            raise transient()
        return "answer"

    for calls in range(1, 1001):
        try:
            retrying(every_third_fails, clock=clock, budget=budget)
        except Unavailable:
            clock.advance(60)
        assert attempts - calls <= 3 + 0.1 * calls


def test_A5_the_server_s_own_wait_is_kept_to() -> None:
    clock = VirtualClock(NOW)
    call = Flaky(clock, 1, lambda: Unavailable("no", wait=20.0))
    retrying(call, clock=clock, budget=RetryBudget())
    assert call.at[1] >= 20.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("30", 30.0),
        (email.utils.formatdate(NOW / 1000 + 25, usegmt=True), 25.0),
        (email.utils.formatdate(NOW / 1000 - 25, usegmt=True), 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("1e3", 0.0),
        ("²", 0.0),
        ("Fri, 31 Dec 99999999 23:59:59 GMT", 0.0),
    ],
)
def test_A5_retry_after_is_read_in_all_its_spellings(header: str, seconds: float) -> None:
    assert asked_wait({"retry-after": header}, VirtualClock(NOW)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("31", 31), ("3600", 3600), ("1000000000", 86_400), ("9" * 400, 86_400)],
)
def test_A5_a_long_wait_is_an_appointment_not_a_sleep(header: str, seconds: int) -> None:
    clock = VirtualClock(NOW)
    with pytest.raises(RetryLater) as caught:
        asked_wait({"retry-after": header}, clock)
    assert caught.value.until == NOW + seconds * 1000
    assert caught.value.reason == "rate_limited"
    assert clock.monotonic() == 0
