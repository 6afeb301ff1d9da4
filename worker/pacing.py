"""Rate limits kept on our side: the counter a broker keeps, kept here too, so that it never says no."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from worker import metrics
from worker.clock import Clock
from worker.errors import RetryLater

LONGEST_SLEEP = 60.0


@dataclass(frozen=True, slots=True)
class Tier:
    """Kraken's call counter by verification tier: it may rise to `ceiling` and drains all the time."""

    ceiling: float
    decay_per_second: float


TIERS: Mapping[str, Tier] = MappingProxyType(
    {"starter": Tier(15, 0.33), "intermediate": Tier(20, 0.5), "pro": Tier(20, 1.0)}
)
"""Reference kraken 3.1."""

HEADROOM = 3.0
"""Left free for the account's other tools and for calls that arrive late (reference kraken 3.2)."""


class DecayingCounter:
    """A counter that calls raise and time lowers; whoever would raise it too far waits first.

    One for each API key in the process: the broker counts by key, not by connection or thread.
    """

    def __init__(
        self,
        ceiling: float,
        decay_per_second: float,
        clock: Clock,
        *,
        headroom: float = HEADROOM,
        kind: str = "kraken",
    ) -> None:
        self._ceiling = ceiling
        self._limit = ceiling - headroom
        self._decay = decay_per_second
        self._clock = clock
        self._kind = kind
        self._lock = threading.Lock()
        self._level = 0.0
        self._at = self._born = clock.monotonic()
        self._inherited = False
        self._silent_until: float | None = None

    @property
    def drain_seconds(self) -> float:
        """How long a full counter takes to empty."""
        return self._ceiling / self._decay

    def acquire(self, cost: float) -> None:
        """Count a call, after waiting just as long as it takes to fit under the ceiling.

        The cost is booked before the wait, so that threads queue up behind each other instead of waking
        together. A wait over a minute, or a key that was told to be silent, raises RetryLater.
        """
        with self._lock:
            self._refuse_while_silent()
            level = self._decayed()
            wait = (level + cost - self._limit) / self._decay if cost > 0 else 0.0
            if wait > LONGEST_SLEEP:
                raise self._later(wait)
            self._level = level + cost
        if wait > 0:
            metrics.broker_wait(self._kind, wait)
            self._clock.sleep(wait)

    def fill(self) -> None:
        """The broker says the limit is reached, whatever we counted: believe it."""
        with self._lock:
            self._level = max(self._decayed(), self._ceiling)

    @property
    def level(self) -> float:
        """How full the counter is."""
        with self._lock:
            return self._decayed()

    def start_at(self, level: float, *, since: float) -> None:
        """Another process left the counter at `level`, `since` seconds ago."""
        with self._lock:
            left = min(self._ceiling, level) - max(0.0, since) * self._decay
            self._level = max(self._decayed(), left)

    def inherit(self) -> None:
        """Another process used this key until it ended, not long ago: what it called may still weigh.

        How much is unknown, so a counter that was full when this process began is assumed.
        """
        with self._lock:
            if not self._inherited:
                self._inherited = True
                age = self._clock.monotonic() - self._born
                left = max(0.0, self._ceiling - age * self._decay)
                self._level = min(self._ceiling, self._decayed() + left)

    def silence(self, seconds: float) -> None:
        """No call at all for so long (reference kraken 3.3: a lockout, which more calls prolong)."""
        with self._lock:
            until = self._clock.monotonic() + seconds
            self._silent_until = max(until, self._silent_until or until)

    def _decayed(self) -> float:
        now = self._clock.monotonic()
        self._level = max(0.0, self._level - (now - self._at) * self._decay)
        self._at = now
        return self._level

    def _refuse_while_silent(self) -> None:
        if self._silent_until is None:
            return
        left = self._silent_until - self._clock.monotonic()
        if left > 0:
            raise self._later(left)
        self._silent_until = None

    def _later(self, seconds: float) -> RetryLater:
        return RetryLater(
            "The broker's rate limit is used up; the sync goes on by itself when it has recovered.",
            until=self._clock.now() + int(seconds * 1000) + 1,
            reason="rate_limited",
        )
