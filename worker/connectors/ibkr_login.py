"""One username's line to Interactive Brokers: the only way there, one call at a time.

Every connection of the process that uses the same gateway, or the same OAuth consumer, shares one Login: pacing,
penalty box and session are the username's, not the connection's (reference ibkr 2.1, 2.5).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from worker import log
from worker.clock import Clock
from worker.connectors.ibkr_doors import Door, Reply, failure_of
from worker.connectors.ibkr_session import Meaning, Question, State, meaning_of, state_after
from worker.errors import AuthFailed, Failure, RetryLater, Unavailable
from worker.http import Answer, Http, document
from worker.pacing import Limit, Pacer
from worker.retry import asked_wait

_LOG = log.get(__name__)

BASE_PATH: Final = "/v1/api"
PENALTY_SECONDS: Final = 15 * 60.0
"""Reference ibkr 2.4: 15 minutes by one page, 10 by another; who comes back too early may be blocked for good."""

EVERYWHERE: Final = Limit(8, 1.0)
"""Ten are allowed; asking for a session token is one call more within a turn."""
LIMITS: Final[Mapping[str, Limit]] = MappingProxyType(
    {
        "trades": Limit(1, 5.0),
        "tickle": Limit(1, 1.0),
        "validate": Limit(1, 60.0),
    }
)
"""Reference ibkr 2.5, for what is called here."""

Endpoint = Literal["status", "init", "tickle", "accounts", "trades"]


@dataclass(frozen=True, slots=True)
class Read:
    """A call that is made, and its body."""

    method: Literal["GET", "POST"]
    path: str
    body: bytes | None = None


READS: Final[Mapping[Endpoint, Read]] = MappingProxyType(
    {
        "status": Read("POST", "/iserver/auth/status"),
        # Never compete: that would throw a person out of the program they work with.
        "init": Read("POST", "/iserver/auth/ssodh/init", b'{"publish":true,"compete":false}'),
        "tickle": Read("POST", "/tickle"),
        "accounts": Read("GET", "/iserver/accounts"),
        "trades": Read("GET", "/iserver/account/trades"),
    }
)
"""All of Interactive Brokers that is ever called: nothing here can trade, log in or take a session over."""


class Login:
    """The line of one username. Threads queue for it."""

    def __init__(self, http: Http, door: Door, clock: Clock) -> None:
        self._http = http
        self._door = door
        self._clock = clock
        self._pacer = Pacer(EVERYWHERE, LIMITS, clock, kind="ibkr")
        self.opening = threading.RLock()
        """Held while a session is looked at and opened, so that two jobs of one login open it once."""
        self.read_at: float | None = None
        """Monotonic time of the end of the last call for trades, the slowest-paced of all."""
        self.state: State | None = None
        """What the last answer said of the session; None when nothing was learnt yet."""
        self.logged_in_at = -math.inf
        """Monotonic time at which a login was noticed where there was none before."""

    @property
    def headless(self) -> bool:
        return self._door.headless

    @property
    def address(self) -> str:
        return self._door.address

    @property
    def silent_for(self) -> float:
        """Seconds for which the penalty box, or the broker's wish, forbids every call."""
        return self._pacer.silent_for

    @property
    def idle_for(self) -> float:
        """Seconds since the last call ended."""
        return self._pacer.idle_for

    def silence(self, seconds: float) -> None:
        """No call at all for so long; another process was told so."""
        self._pacer.silence(seconds)

    def assume_read(self, *, ended: float) -> None:
        """Another process asked for trades, so many seconds ago."""
        self.read_at = self._clock.monotonic() - ended
        self._pacer.assume("trades", ended=ended)

    def assume_called(self, *, ended: float) -> None:
        """Another process called, so many seconds ago: for a tickle, say, the next of which has to wait."""
        self._pacer.assume("tickle", ended=ended)

    def ask(self, question: Question) -> State:
        """The session's state by the answer to one question; raises a Failure when it tells none."""
        reply = self.call(question)
        state = state_after(reply.meaning, reply.document)
        if state is None:
            raise self.failure(reply.meaning)
        if self.state == "logged_out" and state != "logged_out":
            self.logged_in_at = self._clock.monotonic()
        self.state = state
        return state

    def call(self, endpoint: Endpoint, params: Mapping[str, str] | None = None) -> Reply:
        """One call and what its answer means.

        Raises Unavailable for what may mend itself, and RetryLater for a 429, after which nobody may call for a
        quarter of an hour.
        """
        reply, refreshed = self._call(endpoint, params)
        if refreshed:
            reply, _ = self._call(endpoint, params, last=True)
        if reply.meaning == "logged_out":
            self.state = "logged_out"
        return reply

    def failure(self, meaning: Meaning) -> Failure:
        """The failure that an answer of this meaning is, when nothing else can be done about it."""
        return failure_of(meaning, self._door)

    def login_needed(self) -> AuthFailed:
        """Nobody is logged in, and only a person can change that."""
        return self._door.login_needed()

    def _call(self, endpoint: Endpoint, params: Mapping[str, str] | None, *, last: bool = False) -> tuple[Reply, bool]:
        """One turn; whether the door has dropped what may be stale, so that another try is worth it."""
        read = READS[endpoint]
        with self._pacer.turn(endpoint):
            headers = self._door.headers(read.method, read.path, self._post)
            try:
                answer = self._exchange(read.method, read.path, headers, params=params, body=read.body)
            finally:
                if endpoint == "trades":
                    self.read_at = self._clock.monotonic()
            reply = self._read(answer)
            # Within the turn: what the next in line is let in with must not be dropped for an older refusal.
            return reply, not last and self._door.refresh(reply.meaning)

    def _post(self, path: str, headers: Mapping[str, str]) -> Reply:
        return self._read(self._exchange("POST", path, headers))

    def _exchange(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        content = {"content-type": "application/json"} if body is not None else {}
        try:
            return self._http.request(
                method, BASE_PATH + path, content=body, headers={**content, **headers}, params=params
            )
        except Unavailable as failure:
            if self.headless or failure.code not in ("unreachable", "timeout"):
                raise
            raise Unavailable(
                f"The Interactive Brokers gateway at {self.address} does not answer. Start it if it is not running; "
                "the import goes on by itself.",
                code="ibkr_gateway_away",
                detail=failure.detail,
                wait=failure.wait,
            ) from failure

    def _read(self, answer: Answer) -> Reply:
        """Status, body and content type together; raises for what concerns the whole line."""
        content: Any = None
        strange: Unavailable | None = None
        try:
            content = document(answer)
        except Unavailable as error:
            strange = error
        body = answer.body[:4096].decode("utf-8", "replace")
        meaning = meaning_of(answer.status, body, is_json=strange is None, document=content)
        if meaning == "penalty":
            raise self._penalty(answer)
        if strange is not None and meaning == "logged_out" and _claims_json(answer):
            # Half a document of the right kind is trouble on the way, not a login page (fault A12).
            raise Unavailable(strange.sentence, code=strange.code, detail=_described(answer, content))
        if meaning == "transient":
            raise Unavailable(
                "Interactive Brokers cannot answer at the moment.",
                code="ibkr_unavailable",
                detail=_described(answer, content),
                wait=asked_wait(answer.headers, self._clock),
            )
        return Reply(meaning, content)

    def _penalty(self, answer: Answer) -> RetryLater:
        seconds = PENALTY_SECONDS
        try:
            seconds = max(seconds, asked_wait(answer.headers, self._clock))
        except RetryLater as later:
            seconds = max(seconds, (later.until - self._clock.now()) / 1000)
        self._pacer.silence(seconds)
        _LOG.warning("ibkr.penalty_box", seconds=round(seconds))
        return RetryLater(
            f"Interactive Brokers asks for {round(seconds / 60)} minutes without calls of this login. The import goes "
            "on by itself after that; check that no other program uses the same login.",
            until=self._clock.now() + int(seconds * 1000),
            reason="rate_limited",
            code="ibkr_penalty_box",
        )


def _described(answer: Answer, content: Any) -> str:
    """An answer for the log. Nothing of its body but a stated error: sessions, devices and names stand there (7.12)."""
    stated = content.get("error") if isinstance(content, Mapping) else None
    said = f": {log.redact(stated)[:120]!r}" if isinstance(stated, str) else f", {len(answer.body)} bytes"
    return f"HTTP {answer.status}{said}"


def _claims_json(answer: Answer) -> bool:
    return answer.status == 200 and "json" in answer.headers.get("content-type", "").lower()
