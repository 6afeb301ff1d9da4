"""What was asked of a simulated broker, call by call."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Call:
    """One request. `at` is the broker's wall time in ms, `elapsed` its monotonic time in seconds.

    `outcome` is `ok`, the error text of the answer, or `fault:…` when a scripted fault replaced or bent it.
    """

    at: int
    elapsed: float
    method: str
    host: str
    path: str
    key: str = ""
    nonce: str = ""
    params: dict[str, str] = field(default_factory=dict)
    user_agent: str = ""
    cost: int = 0
    counter: float = 0.0
    breach: bool = False
    penalty: bool = False
    takeover: bool = False
    forbidden: bool = False
    outcome: str = ""
    status: int = 0


class Audit:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.max_in_flight = 0

    def clear(self) -> None:
        self.calls.clear()
        self.max_in_flight = 0

    @property
    def rate_breaches(self) -> int:
        return sum(call.breach for call in self.calls)

    @property
    def penalty_calls(self) -> int:
        """Calls made although an earlier breach had silenced the caller for a while."""
        return sum(call.penalty for call in self.calls)

    @property
    def takeovers(self) -> int:
        """Calls that asked to push another session of the user aside."""
        return sum(call.takeover for call in self.calls)

    @property
    def forbidden(self) -> int:
        """Calls that would have traded or moved money."""
        return sum(call.forbidden for call in self.calls)

    def by_path(self) -> dict[str, int]:
        return dict(Counter(call.path for call in self.calls))

    def document(self) -> dict[str, Any]:
        return {
            "total": len(self.calls),
            "byPath": self.by_path(),
            "byOutcome": dict(Counter(call.outcome for call in self.calls)),
            "hosts": sorted({call.host for call in self.calls}),
            "rateBreaches": self.rate_breaches,
            "penaltyCalls": self.penalty_calls,
            "takeovers": self.takeovers,
            "maxInFlight": self.max_in_flight,
            "forbidden": self.forbidden,
            "calls": [
                {("userAgent" if name == "user_agent" else name): value for name, value in asdict(call).items()}
                for call in self.calls
            ],
        }


def masked(text: str) -> str:
    """Enough of a key to tell two apart."""
    return f"{text[:4]}…" if len(text) > 4 else "…" if text else ""
