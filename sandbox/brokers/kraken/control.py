"""Remote control: what a test or a demo in another process may see and make happen, all under `/sandbox/`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, TypeAdapter

from sandbox.brokers.controls import Controls, Input
from sandbox.brokers.kraken.simulator import KeyChange, KrakenSimulator, NewFill, Quirks, Status


class _StatusChange(Input):
    status: Status
    advisory: dict[str, Any] = Field(default_factory=dict)


_FILLS = TypeAdapter(NewFill | list[NewFill])


class RemoteControlled(Controls):
    """The simulated exchange with its control endpoints in front."""

    def __init__(self, simulator: KrakenSimulator) -> None:
        self._simulator = simulator
        super().__init__(
            simulator,
            {
                ("POST", "fills"): self._fills,
                ("POST", "quirks"): self._quirks,
                ("POST", "status"): self._status,
                ("POST", "key"): self._key,
            },
        )

    def _fills(self, body: bytes) -> Any:
        asked = _FILLS.validate_json(body)
        now = self._simulator.clock.now()
        booked = [fill for new in (asked if isinstance(asked, list) else [asked]) for fill in self._simulator.book(new)]
        return {"fills": [fill.truth(now * 10_000) for fill in booked]}

    def _quirks(self, body: bytes) -> Any:
        self._simulator.quirks = Quirks.model_validate_json(body)
        return self._simulator.quirks.model_dump(by_alias=True)

    def _status(self, body: bytes) -> Any:
        change = _StatusChange.model_validate_json(body)
        self._simulator.set_status(change.status, change.advisory)
        return {"status": change.status}

    def _key(self, body: bytes) -> Any:
        key = self._simulator.change_key(KeyChange.model_validate_json(body))
        return {
            "apiKey": key.key,
            "apiSecret": key.secret,
            "permissions": list(key.permissions),
            "validUntil": key.valid_until,
            "queryFrom": key.query_from,
            "queryTo": key.query_to,
            "revoked": key.revoked,
        }
