"""Time as an argument: whoever waits or asks the time is handed a Clock."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from worker.errors import Stopped


class Clock(Protocol):
    """Wall time for stamps, monotonic time for deadlines, and a sleep that a stop request interrupts."""

    def now(self) -> int:
        """Epoch milliseconds, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; raises Stopped as soon as the worker is asked to stop."""
        ...


class SystemClock:
    """The machine's clock, corrected by what Convex says the time is.

    A container's clock can be hours off (fault C12). Tokens, due times and windows then would be too, so the
    store reports the Date of each Convex answer here and `now` follows it once the two differ by more than
    `tolerance` seconds.
    """

    def __init__(self, *, stop: threading.Event | None = None, tolerance: float = 5.0) -> None:
        self._stop = stop or threading.Event()
        self._tolerance = tolerance
        self._offset_ms = 0

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self._offset_ms

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if self._stop.wait(max(0.0, seconds)):
            raise Stopped

    def observe(self, reference_ms: int) -> None:
        """Take note of the time a trusted server reported just now."""
        offset = reference_ms - time.time_ns() // 1_000_000
        if abs(offset - self._offset_ms) > self._tolerance * 1000:
            self._offset_ms = offset if abs(offset) > self._tolerance * 1000 else 0
