"""Remote control: what a test or a demo in another process may see and make happen, all under `/sandbox/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.flex.inputs import FlexCode, FlexQuirks
from sandbox.brokers.ibkr.inputs import Cancellation, Correction, NewFill, Quirks
from sandbox.brokers.ibkr.simulator import IbkrSimulator
from sandbox.brokers.serving import Answer, Request
from sandbox.clock import VirtualClock


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class _ClockChange(_Input):
    advance_seconds: float | None = None
    now_ms: int | None = None


class _Simple(_Input):
    do: Literal["login", "expire", "drop", "release", "penalise"]


class _Token(_Input):
    do: Literal["expire", "renew"]


class _Compete(_Input):
    do: Literal["compete"]
    stealing: bool = True


class _Maintenance(_Input):
    do: Literal["maintenance"]
    until_ms: int | None = None
    seconds: float | None = None
    refusing: bool = False


_SESSION: TypeAdapter[_Simple | _Compete | _Maintenance] = TypeAdapter(
    Annotated[_Simple | _Compete | _Maintenance, Field(discriminator="do")]
)
_FILLS = TypeAdapter(NewFill | list[NewFill])
_FAULTS = TypeAdapter(Fault | list[Fault])
_CODES = TypeAdapter(FlexCode | list[FlexCode])


class RemoteControlled:
    """A simulator with its control endpoints in front. Control calls are neither audited nor faulted."""

    def __init__(self, simulator: IbkrSimulator) -> None:
        self._simulator = simulator
        self._routes: dict[tuple[str, str], Callable[[bytes], Any]] = {
            ("GET", "oracle"): self._oracle,
            ("GET", "audit"): lambda _: simulator.audit.document(),
            ("DELETE", "audit"): self._forget,
            ("POST", "fills"): self._fills,
            ("POST", "corrections"): self._correct,
            ("POST", "cancellations"): self._cancel,
            ("GET", "faults"): lambda _: self._pending(),
            ("POST", "faults"): self._plant,
            ("DELETE", "faults"): self._heal,
            ("POST", "quirks"): self._quirks,
            ("GET", "flex/codes"): lambda _: self._pending_codes(),
            ("POST", "flex/codes"): self._plant_codes,
            ("DELETE", "flex/codes"): self._clear_codes,
            ("POST", "flex/quirks"): self._flex_quirks,
            ("POST", "flex/token"): self._flex_token,
            ("GET", "state"): lambda _: simulator.state(),
            ("POST", "session"): self._session,
            ("GET", "clock"): lambda _: self._reading(),
            ("POST", "clock"): self._clock,
        }

    def handle(self, request: Request) -> Answer:
        if not request.path.startswith("/sandbox/"):
            return self._simulator.handle(request)
        route = self._routes.get((request.method, request.path.removeprefix("/sandbox/")))
        if route is None:
            known = sorted(f"{method} /sandbox/{name}" for method, name in self._routes)
            return Answer.of_json({"error": "no such control", "controls": known}, 404)
        try:
            return Answer.of_json(route(request.body or b"{}"))
        except (ValidationError, ValueError) as error:
            return Answer.of_json({"error": str(error)}, 400)

    def _oracle(self, _: bytes) -> Any:
        fills = self._simulator.oracle()
        return {"count": len(fills), "fills": fills}

    def _forget(self, _: bytes) -> Any:
        self._simulator.audit.clear()
        return self._simulator.audit.document()

    def _fills(self, body: bytes) -> Any:
        asked = _FILLS.validate_json(body)
        now = self._simulator.clock.now()
        booked = [fill for new in (asked if isinstance(asked, list) else [asked]) for fill in self._simulator.book(new)]
        return {"fills": [fill.truth(now) for fill in booked]}

    def _correct(self, body: bytes) -> Any:
        corrected = self._simulator.apply(Correction.model_validate_json(body))
        return {"fill": corrected.truth(self._simulator.clock.now())}

    def _cancel(self, body: bytes) -> Any:
        return {"fill": self._simulator.take_back(Cancellation.model_validate_json(body))}

    def _pending(self) -> Any:
        return {"pending": [fault.model_dump(by_alias=True) for fault in self._simulator.faults.pending()]}

    def _plant(self, body: bytes) -> Any:
        asked = _FAULTS.validate_json(body)
        self._simulator.faults.plant(*(asked if isinstance(asked, list) else [asked]))
        return self._pending()

    def _heal(self, _: bytes) -> Any:
        self._simulator.faults.clear()
        return self._pending()

    def _quirks(self, body: bytes) -> Any:
        self._simulator.quirks = Quirks.model_validate_json(body)
        return self._simulator.quirks.model_dump(by_alias=True)

    def _pending_codes(self) -> Any:
        return {"pending": [code.model_dump(by_alias=True) for code in self._simulator.flex.pending()]}

    def _plant_codes(self, body: bytes) -> Any:
        asked = _CODES.validate_json(body)
        self._simulator.flex.plant(*(asked if isinstance(asked, list) else [asked]))
        return self._pending_codes()

    def _clear_codes(self, _: bytes) -> Any:
        self._simulator.flex.clear()
        return self._pending_codes()

    def _flex_quirks(self, body: bytes) -> Any:
        self._simulator.flex.quirks = FlexQuirks.model_validate_json(body)
        return self._simulator.flex.quirks.model_dump(by_alias=True)

    def _flex_token(self, body: bytes) -> Any:
        flex = self._simulator.flex
        match _Token.model_validate_json(body).do:
            case "expire":
                flex.expire_token()
            case "renew":
                flex.renew_token()
        return {"token": flex.token}

    def _session(self, body: bytes) -> Any:
        simulator, change = self._simulator, _SESSION.validate_json(body)
        match change:
            case _Compete():
                simulator.compete(stealing=change.stealing)
            case _Maintenance():
                until = change.until_ms
                if until is None:
                    until = simulator.clock.now() + int((change.seconds or 0) * 1000)
                simulator.maintenance(until, refusing=change.refusing)
            case _Simple(do="login"):
                simulator.login()
            case _Simple(do="expire"):
                simulator.expire()
            case _Simple(do="drop"):
                simulator.drop_brokerage()
            case _Simple(do="release"):
                simulator.release()
            case _Simple():
                simulator.penalise()
            case _:
                assert_never(change)
        return simulator.state()

    def _clock(self, body: bytes) -> Any:
        clock, change = self._simulator.clock, _ClockChange.model_validate_json(body)
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
        clock = self._simulator.clock
        return {"nowMs": clock.now(), "monotonic": clock.monotonic()}
