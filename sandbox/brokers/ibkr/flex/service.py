"""The Flex Web Service of a simulated login: its token, its two queries, statements made in their own time.

Facts: reference ibkr 4. The service reads the ledger of the live simulator, so both tell of the same executions.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from sandbox.brokers.audit import Audit, Call, masked
from sandbox.brokers.faults import FaultScript
from sandbox.brokers.ibkr.flex.bookings import Booking, bookings, eastern
from sandbox.brokers.ibkr.flex.inputs import FlexCode, FlexQuirks
from sandbox.brokers.ibkr.flex.statement import Order, Report, confirmed_on, statement
from sandbox.brokers.ibkr.ledger import Ledger
from sandbox.brokers.serving import Answer, Request
from worker.clock import Clock

BASE = "/AccountManagement/FlexWebService/"
MAX_DAYS = 365
TOKEN_DAYS = 365
DAY_MS = 86_400_000
LIMITS = ((1, 1.0), (10, 60.0))
"""At most so many calls in so many seconds, for each token (4.1)."""
SILENCE_SECONDS = 60.0

# A boundary that is exact to the microsecond would refuse clients for their rounding.
_GRAIN = 1e-4
_XML = {"Content-Type": "text/xml; charset=utf-8"}
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_PAGE = b"<!DOCTYPE html>\n<html><head><title>Access Denied</title></head><body><h1>Access Denied</h1></body></html>\n"
_MESSAGES: Mapping[int, str] = {
    1001: "Statement could not be generated at this time. Please try again shortly.",
    1003: "Statement is not available.",
    1004: "Statement is incomplete at this time. Please try again shortly.",
    1005: "Settlement data is not ready at this time. Please try again shortly.",
    1006: "FIFO P/L data is not ready at this time. Please try again shortly.",
    1007: "MTM P/L data is not ready at this time. Please try again shortly.",
    1008: "MTM and FIFO P/L data is not ready at this time. Please try again shortly.",
    1009: "The server is under heavy load. Statement could not be generated at this time. Please try again shortly.",
    1010: "Legacy Flex Queries are no longer supported. Please convert over to Activity Flex.",
    1011: "Service account is inactive.",
    1012: "Token has expired.",
    1013: "IP restriction.",
    1014: "Query is invalid.",
    1015: "Token is invalid.",
    1016: "Account in invalid.",
    1017: "Reference code is invalid.",
    1018: "Too many requests have been made from this token. Please try again shortly.",
    1019: "Statement generation in progress. Please try again shortly.",
    1020: "Invalid request or unable to validate request.",
    1021: "Statement could not be retrieved at this time. Please try again shortly.",
    1025: "Token is locked after too many failed attempts.",
}


class _Refused(Exception):
    """The call ends with this code."""

    def __init__(self, code: int, message: str | None = None) -> None:
        super().__init__(str(code))
        self.code = code
        self.message = message or _MESSAGES.get(code, "Unknown error.")


@dataclass(slots=True)
class _Job:
    """A statement being made. Times are monotonic seconds; `body` is None for one that never will be ready."""

    reference: str
    token: str
    asked_at: float
    ready_at: float
    polls_left: int
    body: bytes | None


@dataclass(slots=True)
class _Planted:
    code: FlexCode
    left: int | None


@dataclass(slots=True)
class _Recent:
    """The calls of a token."""

    calls: deque[float] = field(default_factory=lambda: deque(maxlen=max(calls for calls, _ in LIMITS)))
    silent_until: float = float("-inf")


class FlexService:
    """Not safe for threads: the simulator answers one call at a time."""

    def __init__(
        self,
        ledger: Ledger,
        accounts: Sequence[str],
        aliases: Mapping[str, str],
        clock: Clock,
        audit: Audit,
        faults: FaultScript,
        *,
        seed: str,
    ) -> None:
        self.quirks = FlexQuirks()
        self.activity_query = str(_number(seed, "activity", 6))
        self.confirm_query = str(_number(seed, "confirm", 6))
        self._ledger = ledger
        self._accounts = accounts
        self._aliases = aliases
        self._clock = clock
        self._audit = audit
        self._faults = faults
        self._seed = seed
        self._random = Random(f"ibkr flex {seed}")
        self._generation = 0
        self._recent: dict[str, _Recent] = {}
        self._planted: list[_Planted] = []
        self._jobs: dict[str, _Job] = {}
        self._cache: dict[tuple[str, ...], _Job] = {}
        self.renew_token()

    # What happens to the token.

    @property
    def token(self) -> str:
        return str(_number(self._seed, f"token {self._generation}", 24))

    def renew_token(self) -> str:
        """Its owner makes a new token, which voids the old."""
        self._generation += 1
        self._token_ends_ms = self._clock.now() + TOKEN_DAYS * DAY_MS
        return self.token

    def expire_token(self) -> None:
        self._token_ends_ms = self._clock.now()

    def plant(self, *codes: FlexCode) -> None:
        """From now on the service answers with these codes; of several that match, the first planted."""
        self._planted.extend(_Planted(code, code.times) for code in codes)

    def clear(self) -> None:
        self._planted.clear()

    def pending(self) -> list[FlexCode]:
        return [planted.code for planted in self._planted if planted.left != 0]

    # Time.

    def last_final_day(self) -> date:
        """The newest day of which activity statements know (4.1)."""
        local = eastern(self._clock.now()) - timedelta(hours=self.quirks.ready_hour)
        return local.date() - timedelta(days=1 + self.quirks.late_days)

    def today(self) -> date:
        return eastern(self._clock.now()).date()

    # Calls.

    def handle(self, request: Request) -> Answer:
        name = request.path.removeprefix(BASE)
        params = dict(parse_qsl(request.query, keep_blank_values=True))
        call = Call(
            at=self._clock.now(),
            elapsed=self._clock.monotonic(),
            method=request.method,
            host=request.host,
            path=request.path,
            key=masked(params.get("t", "")),
            params={key: value for key, value in params.items() if key in ("q", "fd", "td", "p", "v")},
            user_agent=request.headers.get("user-agent", ""),
        )
        self._audit.calls.append(call)
        fault = self._faults.take(call.path)
        answer = self._judged(request, name, params, call) if fault is None or fault.processed else Answer(200, b"")
        if fault is not None:
            call.outcome = fault.describe()
            answer = fault.distort(request, answer, self._faults.envelope)
        call.status = answer.status
        return answer

    def _judged(self, request: Request, name: str, params: Mapping[str, str], call: Call) -> Answer:
        if request.method != "GET" or name not in ("SendRequest", "GetStatement") or not call.user_agent:
            call.outcome = "page"
            return Answer(403, _PAGE, _HTML)
        try:
            token = self._admitted(name, params, call)
            if name == "SendRequest":
                body = self._ordered(token, params, request).encode()
            else:
                body = self._delivered(token, params)
            call.outcome = "ok"
        except _Refused as refused:
            call.outcome = str(refused.code)
            message = refused.message + (f" {request.url}" if self.quirks.echo_url else "")
            status = "Warn" if refused.code == 1019 else "Fail"
            body = self._envelope({"Status": status, "ErrorCode": str(refused.code), "ErrorMessage": message}).encode()
        return Answer(200, body, _XML)

    def _admitted(self, name: str, params: Mapping[str, str], call: Call) -> str:
        token = params.get("t", "")
        if params.get("v") != "3" or "q" not in params:
            raise _Refused(1020)
        if token != self.token:
            raise _Refused(1015)
        self._count(token, call)
        if self._clock.now() >= self._token_ends_ms:
            raise _Refused(1012)
        for planted in self._planted:
            if planted.left != 0 and planted.code.call in ("*", name):
                planted.left = None if planted.left is None else planted.left - 1
                if planted.code.code == 1018:
                    self._recent[token].silent_until = self._clock.monotonic() + SILENCE_SECONDS
                raise _Refused(planted.code.code, planted.code.message)
        return token

    def _count(self, token: str, call: Call) -> None:
        """Polling counts (4.1); whoever comes too early is told so, and the audit notes it."""
        now, recent = self._clock.monotonic(), self._recent.setdefault(token, _Recent())
        call.penalty = now < recent.silent_until - _GRAIN
        before = list(recent.calls)
        recent.calls.append(now)
        if any(len(before) >= calls and now - before[-calls] < seconds - _GRAIN for calls, seconds in LIMITS):
            call.breach = True
            recent.silent_until = now + SILENCE_SECONDS
            raise _Refused(1018)

    def _ordered(self, token: str, params: Mapping[str, str], request: Request) -> str:
        now, asked = self._clock.monotonic(), (token, *(params.get(name, "") for name in ("q", "fd", "td", "p")))
        cached = self._cache.get(asked)
        if cached is None or now - cached.asked_at >= self.quirks.cache_seconds:
            cached = None
        body, ready_at = (cached.body, cached.ready_at) if cached else self._made(params, request)
        job = _Job(
            reference=str(self._random.randint(10**9, 10**10 - 1)),
            token=token,
            asked_at=cached.asked_at if cached else now,
            ready_at=ready_at,
            polls_left=0 if cached else self.quirks.generation_polls,
            body=body,
        )
        self._jobs = {key: each for key, each in self._jobs.items() if self._lives(each)}
        self._jobs[job.reference] = self._cache[asked] = job
        self._cache = {key: each for key, each in self._cache.items() if self._lives(each)}
        url = self.quirks.url or f"{request.scheme}://{request.host}{BASE}GetStatement"
        name = "url" if self.quirks.lower_url else "Url"
        return self._envelope({"Status": "Success", "ReferenceCode": job.reference, name: url})

    def _lives(self, job: _Job) -> bool:
        return self._clock.monotonic() - job.asked_at < self.quirks.reference_seconds

    def _delivered(self, token: str, params: Mapping[str, str]) -> bytes:
        job = self._jobs.get(params["q"])
        if job is None or job.token != token or not self._lives(job):
            raise _Refused(1017)
        if job.polls_left > 0:
            job.polls_left -= 1
            raise _Refused(1019)
        if job.body is None or self._clock.monotonic() < job.ready_at:
            raise _Refused(1019)
        return job.body

    # Statements.

    def _made(self, params: Mapping[str, str], request: Request) -> tuple[bytes | None, float]:
        """The document that is asked for, and when it is ready; None is never ready."""
        ready_at = self._clock.monotonic() + self.quirks.generation_seconds
        report: Report = "AF" if params["q"] == self.activity_query else "TCF"
        if params["q"] not in (self.activity_query, self.confirm_query):
            raise _Refused(1014)
        newest = self.last_final_day() if report == "AF" else self.today()
        first, last, period = _period(params, report, newest)
        if last > newest:
            match self.quirks.unfinalised:
                case "1003":
                    raise _Refused(1003)
                case "hang":
                    return None, ready_at
                case "cut":
                    last = newest
        booked = self._booked(report, first, last)
        if not booked and self.quirks.empty_window == "1003":
            raise _Refused(1003)
        order = Order(report, first, last, period, self._clock.now(), request.url)
        document = bytearray()
        for piece in statement(order, self._accounts, self._aliases, booked, self.quirks):
            document += piece.encode()
        return bytes(document), ready_at

    def _booked(self, report: Report, first: date, last: date) -> list[Booking]:
        now = self._clock.now()
        every = bookings(entry for entry in self._ledger.entries() if entry.newest.time_ms <= now)
        if report == "AF":
            return [each for each in every if first <= each.report_date <= last and each.booked_ms <= now]
        known = now - int(self.quirks.confirm_seconds * 1000)
        return [
            each
            for each in every
            if each.is_execution and first <= confirmed_on(each) <= last and each.booked_ms <= known
        ]

    def _envelope(self, fields: Mapping[str, str]) -> str:
        quote = "'" if self.quirks.single_quotes else '"'
        stamp = f"{eastern(self._clock.now()):%d %B, %Y %I:%M %p %Z}"
        attribute = f" timestamp={quote}{stamp}{quote}" if self.quirks.timestamp else ""
        lines = "".join(f"<{name}>{escape(value)}</{name}>\n" for name, value in fields.items())
        return f"<FlexStatementResponse{attribute}>\n{lines}</FlexStatementResponse>\n"


def _period(params: Mapping[str, str], report: Report, newest: date) -> tuple[date, date, str]:
    """The days that are asked for. A query's own «last N days» is not applied: it gives a whole year (4.1)."""
    try:
        if "fd" in params or "td" in params:
            first, last, period = _day(params["fd"]), _day(params["td"]), ""
        elif "p" in params:
            first, last, period = newest - timedelta(days=int(params["p"]) - 1), newest, "LastNCalendarDays"
        elif report == "AF":
            first, last, period = newest - timedelta(days=MAX_DAYS - 1), newest, "Last365CalendarDays"
        else:
            first, last, period = newest, newest, "Today"
    except (KeyError, ValueError, OverflowError):
        raise _Refused(1020) from None
    if last < first:
        raise _Refused(1020)
    if (last - first).days > MAX_DAYS:
        raise _Refused(1001)
    return first, last, period


def _day(text: str) -> date:
    if len(text) != 8:
        raise ValueError(text)
    return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a day, not a moment


def _number(seed: str, name: str, digits: int) -> int:
    """A number of so many digits that belongs to the seed and means nothing elsewhere."""
    noise = int(hashlib.sha256(f"ibkr flex {seed} {name}".encode()).hexdigest(), 16)
    lowest = int("1".ljust(digits, "0"))
    return lowest + noise % (9 * lowest)
