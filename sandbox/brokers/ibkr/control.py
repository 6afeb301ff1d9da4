"""Remote control: what a test or a demo in another process may see and make happen, all under `/sandbox/`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, assert_never

from pydantic import Field, TypeAdapter

from sandbox.brokers.controls import Controls, Input
from sandbox.brokers.ibkr.flex.inputs import FlexCode, FlexQuirks
from sandbox.brokers.ibkr.inputs import Cancellation, Correction, NewFill, Quirks
from sandbox.brokers.ibkr.simulator import IbkrSimulator


class _Simple(Input):
    do: Literal["login", "expire", "drop", "release", "penalise"]


class _Token(Input):
    do: Literal["expire", "renew"]


class _Compete(Input):
    do: Literal["compete"]
    stealing: bool = True


class _Maintenance(Input):
    do: Literal["maintenance"]
    until_ms: int | None = None
    seconds: float | None = None
    refusing: bool = False


_SESSION: TypeAdapter[_Simple | _Compete | _Maintenance] = TypeAdapter(
    Annotated[_Simple | _Compete | _Maintenance, Field(discriminator="do")]
)
_FILLS = TypeAdapter(NewFill | list[NewFill])
_CODES = TypeAdapter(FlexCode | list[FlexCode])


class RemoteControlled(Controls):
    """The simulated login with its control endpoints in front."""

    def __init__(self, simulator: IbkrSimulator) -> None:
        self._simulator = simulator
        super().__init__(
            simulator,
            {
                ("POST", "fills"): self._fills,
                ("POST", "corrections"): self._correct,
                ("POST", "cancellations"): self._cancel,
                ("POST", "quirks"): self._quirks,
                ("GET", "flex/codes"): lambda _: self._pending_codes(),
                ("POST", "flex/codes"): self._plant_codes,
                ("DELETE", "flex/codes"): self._clear_codes,
                ("POST", "flex/quirks"): self._flex_quirks,
                ("POST", "flex/token"): self._flex_token,
                ("GET", "state"): lambda _: simulator.state(),
                ("POST", "session"): self._session,
            },
        )

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
