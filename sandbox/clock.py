"""Time that passes only when somebody lets it."""

from __future__ import annotations

import math
import threading

from worker.errors import Stopped


class VirtualClock:
    """A `worker.clock.Clock` on which a week takes no time: sleeping advances it.

    Microseconds, as integers: a sleep is rounded up, so whoever waits exactly long enough never wakes too
    early by a rounding error. With `stop` given, a sleep raises Stopped once it is set, as the real one does.
    """

    def __init__(self, start_ms: int, *, stop: threading.Event | None = None) -> None:
        self._lock = threading.Lock()
        self._wall_us = start_ms * 1000
        self._monotonic_us = 0
        self._stop = stop

    def now(self) -> int:
        with self._lock:
            return self._wall_us // 1000

    def monotonic(self) -> float:
        with self._lock:
            return self._monotonic_us / 1_000_000

    def sleep(self, seconds: float) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Stopped
        self.advance(seconds)

    def advance(self, seconds: float) -> int:
        """Let time pass; returns the new wall time in milliseconds."""
        with self._lock:
            passed = math.ceil(max(0.0, seconds) * 1_000_000)
            self._wall_us += passed
            self._monotonic_us += passed
            return self._wall_us // 1000

    def step(self, seconds: float) -> int:
        """Set the wall clock forward or back, as an administrator or NTP does: no time passes (fault C12)."""
        with self._lock:
            self._wall_us += round(seconds * 1_000_000)
            return self._wall_us // 1000
