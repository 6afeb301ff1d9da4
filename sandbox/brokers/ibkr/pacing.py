"""How often a login may call, and the penalty box behind it (reference ibkr 2.5)."""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache

BOX_SECONDS = 900.0
EVERYTHING = (10, 1.0)
LIMITS: tuple[tuple[re.Pattern[str], float], ...] = tuple(
    (re.compile(pattern), seconds)
    for pattern, seconds in (
        (r"/iserver/account/(trades|orders|pnl/partitioned)", 5.0),
        (r"/portfolio/(accounts|subaccounts)", 5.0),
        (r"/sso/validate", 60.0),
        (r"/tickle", 1.0),
        (r"/fyi/.+", 1.0),
        (r"/iserver/scanner/run", 1.0),
        (r"/iserver/scanner/params", 900.0),
        (r"/pa/(performance|summary|transactions)", 900.0),
    )
)
"""One call in so many seconds, of each path that matches."""

# A boundary that is exact to the microsecond would refuse clients for their rounding.
_GRAIN = 1e-4


class Pacing:
    """Sliding windows over the calls of one login. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=EVERYTHING[0])
        self._last: dict[str, float] = {}
        self._box_until = float("-inf")

    def boxed(self, now: float) -> bool:
        return now < self._box_until

    def penalise(self, now: float) -> None:
        """Into the penalty box: nothing is answered for a quarter of an hour."""
        self._box_until = now + BOX_SECONDS

    def remaining(self, now: float) -> float:
        return max(0.0, self._box_until - now)

    def admit(self, path: str, now: float) -> bool:
        """Count a call; False if it came too early after others."""
        allowed, span = EVERYTHING
        early = len(self._recent) == allowed and now - self._recent[0] < span - _GRAIN
        self._recent.append(now)
        gap = _gap(path)
        if gap is not None:
            early = early or now - self._last.get(path, float("-inf")) < gap - _GRAIN
            self._last[path] = now
        return not early


@lru_cache(maxsize=256)
def _gap(path: str) -> float | None:
    for pattern, seconds in LIMITS:
        if pattern.fullmatch(path):
            return seconds
    return None
