"""Scripted faults: what goes wrong, at which endpoint, at which call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from sandbox.brokers.serving import Answer, Delivery, Request, Way, dump_json

_HTML = (
    "<!DOCTYPE html>\n<html><head><title>{status} | Web server is returning an unknown error</title></head>"
    "<body><h1>Something went wrong</h1><p>Ray ID: 0000000000000000</p></body></html>\n"
)

Envelope = Callable[[str, int], object]
"""The document in which a broker wraps an error text; the HTTP status is for those that repeat it."""


def error_list(text: str, _: int) -> object:
    """Kraken's envelope."""
    return {"error": [text]}


class Fault(BaseModel):
    """One thing that goes wrong.

    It strikes from the `call`-th matching call after it was planted, `times` times (null: for ever). The
    broker still handles the request (nonce, counter and audit see it) unless `processed` is false, as when a
    proxy in front of it answers. The parts can be combined: a late, truncated 502 is one fault.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    path: str = Field("*", description="endpoint (`TradesHistory`), end of a path, full path, or `*`")
    call: int = Field(1, ge=1)
    times: int | None = Field(1, ge=1)
    processed: bool = True

    status: int | None = None
    error: str | None = Field(None, description="the broker's own error answer, in HTTP 200 unless `status`")
    body: str | None = None
    html: bool = False
    echo: str | None = Field(None, description="an error text that repeats URL, key, body and this canary")
    redirect: str | None = None
    headers: dict[str, str] = {}

    truncate: int | None = Field(None, ge=0, description="keep only so many bytes of the body")
    keep_length: bool = Field(False, description="announce the whole body although it is truncated")
    bom: bool = False
    charset: str | None = Field(None, description="encode so, and still announce what was announced before")
    gzip_lie: bool = False

    delay: float = Field(0.0, ge=0)
    drip: float | None = Field(None, gt=0, description="bytes a second")
    hang: bool = False
    reset: bool = False
    refuse: bool = False
    endless: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum([self.hang, self.reset, self.refuse, self.endless, self.drip is not None]) > 1:
            raise ValueError("choose one of hang, reset, refuse, endless, drip")
        return self

    def matches(self, path: str) -> bool:
        return self.path in ("*", path) or path.endswith(f"/{self.path}")

    def describe(self) -> str:
        chosen: dict[str, Any] = self.model_dump(exclude_defaults=True, exclude={"path", "call", "times", "processed"})
        return "fault:" + ",".join(sorted(chosen))

    def distort(self, request: Request, answer: Answer, envelope: Envelope = error_list) -> Answer:
        """The answer as it leaves the house."""
        answer = self._replaced(request, answer, envelope)
        body = answer.body
        if self.charset is not None:
            body = body.decode().encode(self.charset)
        if self.bom:
            body = b"\xef\xbb\xbf" + body
        headers = dict(answer.headers)
        if self.gzip_lie:
            headers["Content-Encoding"] = "gzip"
        headers.update(self.headers)
        announced = len(body)
        if self.truncate is not None:
            body = body[: self.truncate]
        return replace(answer, body=body, headers=headers, delivery=self._delivery(announced, len(body)))

    def _replaced(self, request: Request, answer: Answer, envelope: Envelope) -> Answer:
        status = self.status or 200
        if self.redirect is not None:
            return Answer(self.status or 302, b"", {"Location": self.redirect})
        if self.html:
            return Answer(status, _HTML.format(status=status).encode(), {"Content-Type": "text/html; charset=UTF-8"})
        if self.echo is not None:
            return Answer.of_json(envelope(f"EGeneral:Internal error:{self._echoed(request)}", status), status)
        if self.error is not None:
            return Answer.of_json(envelope(self.error, status), status)
        if self.body is not None:
            return Answer(status, self.body.encode(), {"Content-Type": "application/json; charset=utf-8"})
        return answer if self.status is None else replace(answer, status=self.status)

    def _echoed(self, request: Request) -> str:
        sent = {name: value for name, value in request.headers.items() if name.startswith(("api-", "authorization"))}
        return f"{request.method} {request.url} {dump_json(sent)} {request.body.decode(errors='replace')} {self.echo}"

    def _delivery(self, announced: int, kept: int) -> Delivery:
        way: Way = "whole"
        if self.hang:
            way = "hang"
        elif self.reset:
            way = "reset"
        elif self.refuse:
            way = "refuse"
        elif self.endless:
            way = "endless"
        elif self.drip is not None:
            way = "drip"
        elif self.keep_length and kept < announced:
            return Delivery("cut", self.delay, announced=announced)
        return Delivery(way, self.delay, rate=self.drip or 1.0)


@dataclass(slots=True)
class _Planted:
    fault: Fault
    seen: int = 0

    def strikes(self) -> bool:
        self.seen += 1
        return self.seen >= self.fault.call and (
            self.fault.times is None or self.seen < self.fault.call + self.fault.times
        )

    def over(self) -> bool:
        return self.fault.times is not None and self.seen >= self.fault.call + self.fault.times - 1


class FaultScript:
    """The faults still to come. Of several that match one call, the first planted strikes."""

    def __init__(self, envelope: Envelope = error_list) -> None:
        self.envelope = envelope
        self._planted: list[_Planted] = []

    def plant(self, *faults: Fault) -> None:
        self._planted.extend(_Planted(fault) for fault in faults)

    def clear(self) -> None:
        self._planted.clear()

    def pending(self) -> list[Fault]:
        return [planted.fault for planted in self._planted if not planted.over()]

    def take(self, path: str) -> Fault | None:
        """Count the call; the fault that strikes it, if any."""
        struck = [planted.fault for planted in self._planted if planted.fault.matches(path) and planted.strikes()]
        return struck[0] if struck else None
