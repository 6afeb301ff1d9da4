"""Pure: the circuit breaker of one connection. (state, event, now) → next state.

Only real faults feed it: a rate limit or a maintenance window is a date, not a fault, and refused credentials
are latched on the connection instead. It opens for no longer than one interval, so that recovery is noticed
within one interval of the broker's return (fault A1); what it saves is the retries: a job that runs half-open
asks once and takes no for an answer.
"""

from __future__ import annotations

from typing import Literal, assert_never

from worker.models import BreakerState

Event = Literal["success", "fault", "neither"]
THRESHOLD = 3


def begin(state: BreakerState, now: int) -> BreakerState:
    """The state a job starts in: an open breaker whose time is over lets one probe through."""
    if state.phase == "open" and (state.until is None or state.until <= now):
        return state.model_copy(update={"phase": "half_open"})
    return state


def after(state: BreakerState, event: Event, now: int, *, interval: int) -> BreakerState:
    """The state after a job that ended with `event`; `interval` in milliseconds."""
    match event:
        case "success":
            return BreakerState()
        case "neither":
            return state
        case "fault":
            failures = state.failures + 1
            if state.phase == "closed" and failures < THRESHOLD:
                return BreakerState(failures=failures)
            return BreakerState(
                phase="open",
                failures=failures,
                opened_at=state.opened_at if state.opened_at is not None else now,
                until=now + interval,
            )
        case _:
            assert_never(event)
