"""Retrying one request: few tries, jittered, bounded in number, time and share of all calls.

Only `Unavailable` is tried again. Everything larger (the next poll, the breaker) is the scheduler's.
"""

from __future__ import annotations

import email.utils
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from worker.clock import Clock
from worker.errors import RetryLater, Unavailable

T = TypeVar("T")

LONGEST_SLEEP = 30.0
LONGEST_DELAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` tries within `total` seconds; the n-th wait is about `base * 2**n`, at most `cap`."""

    attempts: int = 4
    base: float = 1.0
    cap: float = 8.0
    total: float = 120.0

    def wait(self, attempt: int, chance: float) -> float:
        """Equal jitter: half is certain, so that a throttled server gets its pause; half is chance."""
        full = min(self.cap, self.base * 2.0 ** (attempt - 1))
        return full / 2 + full / 2 * chance


DEFAULT_POLICY = RetryPolicy()


class RetryBudget:
    """How many retries a connection may still make: `floor` at first, then `ratio` of its calls.

    Without it a broker that fails every third call would get a third more traffic from us (fault A16).
    """

    def __init__(self, ratio: float = 0.1, floor: int = 3) -> None:
        self._ratio = ratio
        self._floor = floor
        self._lock = threading.Lock()
        self._calls = 0
        self._retries = 0

    def called(self) -> None:
        with self._lock:
            self._calls += 1

    def spend(self) -> bool:
        """Take one retry, if there is one left."""
        with self._lock:
            if self._retries + 1 > self._floor + self._ratio * self._calls:
                return False
            self._retries += 1
            return True


def retrying(
    call: Callable[[], T],
    *,
    clock: Clock,
    budget: RetryBudget,
    policy: RetryPolicy = DEFAULT_POLICY,
    chance: Callable[[], float] = random.random,
) -> T:
    """The result of `call`, tried again while it raises `Unavailable` and the policy allows.

    A wait the server asked for (`Unavailable.wait`) is kept to; the last failure is raised as it came.
    """
    started = clock.monotonic()
    budget.called()

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait if isinstance(error, Unavailable) else 0.0
        return max(asked, policy.wait(state.attempt_number, chance()))

    def stop(state: tenacity.RetryCallState) -> bool:
        late = clock.monotonic() - started + state.upcoming_sleep > policy.total
        return state.attempt_number >= policy.attempts or late or not budget.spend()

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        wait=wait,
        stop=stop,
        sleep=clock.sleep,
        reraise=True,
    )(call)


def asked_wait(headers: Mapping[str, str], clock: Clock) -> float:
    """Seconds that `Retry-After` asks for, 0 when it is absent, past or unreadable (fault A5).

    More than 30 s is no pause but an appointment: raises RetryLater, at most a day ahead.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return 0.0
    seconds = _seconds(text, clock.now())
    if seconds > LONGEST_SLEEP:
        raise RetryLater(
            "The broker asks not to be called for a while; the sync goes on by itself after that.",
            until=clock.now() + int(min(seconds, LONGEST_DELAY) * 1000),
            reason="rate_limited",
            detail=f"Retry-After: {text[:60]}",
        )
    return max(0.0, seconds)


def _seconds(text: str, now: int) -> float:
    try:
        return float(text) if text.lstrip("-").isdigit() else _until(text, now)
    except (OverflowError, ValueError):
        return 0.0


def _until(text: str, now: int) -> float:
    return email.utils.parsedate_to_datetime(text).timestamp() - now / 1000
