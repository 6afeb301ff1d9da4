"""The remote control that every simulated broker has: what a test or a demo in another process may see and cause.

All under `/sandbox/`. Control calls are neither audited nor faulted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from sandbox.brokers.audit import Audit
from sandbox.brokers.faults import Fault, FaultScript
from sandbox.brokers.serving import Answer, Request
from sandbox.clock import VirtualClock
from worker.clock import Clock


class Input(BaseModel):
    """A control's body, closed: a misspelt knob is an error."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class _ClockChange(Input):
    advance_seconds: float | None = None
    now_ms: int | None = None


_FAULTS = TypeAdapter(Fault | list[Fault])

Route = Callable[[bytes], Any]


class Simulated(Protocol):
    """What the controls need of a simulator."""

    @property
    def clock(self) -> Clock: ...

    @property
    def audit(self) -> Audit: ...

    @property
    def faults(self) -> FaultScript: ...

    def oracle(self) -> list[dict[str, Any]]: ...

    def handle(self, request: Request) -> Answer: ...


class Controls:
    """A simulator with its control endpoints in front; `routes` are those that this broker alone has."""

    def __init__(self, simulator: Simulated, routes: Mapping[tuple[str, str], Route]) -> None:
        self._front = simulator
        self._routes: dict[tuple[str, str], Route] = {
            ("GET", "oracle"): self._oracle,
            ("GET", "audit"): lambda _: simulator.audit.document(),
            ("DELETE", "audit"): self._forget,
            ("GET", "faults"): lambda _: self._pending(),
            ("POST", "faults"): self._plant,
            ("DELETE", "faults"): self._heal,
            ("GET", "clock"): lambda _: self._reading(),
            ("POST", "clock"): self._clock,
            **routes,
        }

    def handle(self, request: Request) -> Answer:
        if not request.path.startswith("/sandbox/"):
            return self._front.handle(request)
        route = self._routes.get((request.method, request.path.removeprefix("/sandbox/")))
        if route is None:
            known = sorted(f"{method} /sandbox/{name}" for method, name in self._routes)
            return Answer.of_json({"error": "no such control", "controls": known}, 404)
        try:
            return Answer.of_json(route(request.body or b"{}"))
        except (ValidationError, ValueError) as error:
            return Answer.of_json({"error": str(error)}, 400)

    def _oracle(self, _: bytes) -> Any:
        fills = self._front.oracle()
        return {"count": len(fills), "fills": fills}

    def _forget(self, _: bytes) -> Any:
        self._front.audit.clear()
        return self._front.audit.document()

    def _pending(self) -> Any:
        return {"pending": [fault.model_dump(by_alias=True) for fault in self._front.faults.pending()]}

    def _plant(self, body: bytes) -> Any:
        asked = _FAULTS.validate_json(body)
        self._front.faults.plant(*(asked if isinstance(asked, list) else [asked]))
        return self._pending()

    def _heal(self, _: bytes) -> Any:
        self._front.faults.clear()
        return self._pending()

    def _clock(self, body: bytes) -> Any:
        clock, change = self._front.clock, _ClockChange.model_validate_json(body)
        if not isinstance(clock, VirtualClock):
            raise ValueError("this simulator runs on the machine's clock; start it with --virtual-clock")
        if change.advance_seconds is not None:
            clock.advance(change.advance_seconds)
        if change.now_ms is not None:
            ahead = change.now_ms - clock.now()
            if ahead < 0:
                raise ValueError("time does not run backwards")
            clock.advance(ahead / 1000)
        return self._reading()

    def _reading(self) -> Any:
        clock = self._front.clock
        return {"nowMs": clock.now(), "monotonic": clock.monotonic()}
