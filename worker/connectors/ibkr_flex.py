"""Interactive Brokers' Flex Web Service: statements by token and query id, into a file.

Section numbers are those of reference ibkr. A statement is asked for, made by the broker in its own time, and
fetched; what stands in it is others' business. Here it is only told from error envelopes, login pages and halves.
"""

from __future__ import annotations

import datetime as dt
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import IO, Final, Literal, assert_never
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import httpx

from worker import log
from worker.clock import Clock
from worker.connectors.ibkr_flex_codes import HEAD_BYTES, RULES, Envelope, Rule, read_head
from worker.errors import AuthFailed, Failure, IncompleteReport, Rejected, RetryLater, Unavailable
from worker.http import Http, Origin, check_base_url, is_loopback, read_origin
from worker.pacing import Limit, Pacer
from worker.retry import RetryBudget, RetryPolicy, asked_wait, retrying

_LOG = log.get(__name__)

HOSTS: Final = ("ndcdyn.interactivebrokers.com", "gdcdyn.interactivebrokers.com")
"""Either serves the same; for some users one of them failed where the other worked (4.1)."""
BASE_URL: Final = f"https://{HOSTS[0]}"
SETTING: Final = "IBKR_FLEX_URL"

MAX_DAYS: Final = 365
MAX_BYTES: Final = 512 * 1024 * 1024
"""Statements of 140 MB were seen; this bounds what fills the disk."""
DOWNLOAD_SECONDS: Final = 300.0
LATER_SECONDS: Final = 15 * 60.0
LONGEST_PAUSE: Final = 60.0

_PATH: Final = "/AccountManagement/FlexWebService/"
_ENVELOPE_BYTES: Final = 1024 * 1024
_EASTERN: Final = ZoneInfo("America/New_York")
_UNSETTLED_DAYS: Final = 7
"""A day this long past is final: that no statement includes it has other reasons."""
_STEPS_BACK: Final = 5
"""A long weekend and a day that comes late (4.1: up to two)."""
_SECRETS: Final = re.compile(r"[A-Za-z0-9_-]{6,128}")
_QUERIES: Final = re.compile(r"[0-9]{1,20}")
_REFERENCES: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_END: Final = re.compile(rb"</FlexQueryResponse\s*>")
_TAIL: Final = 4096

_TOO_MANY: Final = "1018"
LINE: Final = "flex"

Call = Literal["SendRequest", "GetStatement"]


@dataclass(frozen=True, slots=True)
class Days:
    """The days `first` to `last` of a statement, both included, as Interactive Brokers dates them (Eastern)."""

    first: dt.date
    last: dt.date

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that was fetched whole. `days` is what it was asked for, which may end sooner than wished."""

    days: Days | None
    size: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one fetch waits: `first` seconds before it asks for what it ordered, `total` in all, `calls` calls."""

    first: float = 5.0
    total: float = 480.0
    calls: int = 40


def flex_pacer(clock: Clock, chance: Callable[[], float] = random.random) -> Pacer:
    """The line of one token (4.1): one call a second and ten a minute, polling included. One for all its users."""
    return Pacer(Limit(1, 1.0), {LINE: Limit(10, 60.0)}, clock, kind="ibkr_flex", chance=chance)


def check_flex_url(url: str) -> str:
    """`url` without a trailing slash: one of the two hosts or this machine; ValueError otherwise (fault F7)."""
    return check_base_url(url, HOSTS, loopback=True)


@dataclass(frozen=True, slots=True)
class _Document:
    """The sink holds a whole statement of so many bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class _Nonsense:
    """Neither a statement nor an envelope."""

    detail: str


_Reply = Envelope | _Document


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A code that was understood, and the service's own words."""

    number: int
    rule: Rule
    message: str


class FlexClient:
    """The Flex Web Service for one token. `pacer` belongs to the token, `budget` to the connection.

    `transport` replaces the network for an address, for simulators in the process.
    """

    def __init__(
        self,
        token: str,
        *,
        clock: Clock,
        pacer: Pacer,
        base_url: str = BASE_URL,
        transport: Callable[[str], httpx.BaseTransport] | None = None,
        budget: RetryBudget | None = None,
        policy: RetryPolicy | None = None,
        patience: Patience | None = None,
        max_bytes: int = MAX_BYTES,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._token = token.strip()
        log.protect(self._token)
        self._clock = clock
        self._pacer = pacer
        self._transport = transport
        self._budget = budget or RetryBudget()
        self._policy = policy or RetryPolicy()
        self._patience = patience or Patience()
        self._max_bytes = max_bytes
        self._chance = chance
        self._home = read_origin(check_flex_url(base_url))
        official = tuple(Origin("https", host, 443) for host in HOSTS)
        self._origins = official if self._home in official else (self._home,)
        self._https: dict[Origin, Http] = {}

    def fetch_statement(self, query_id: str, days: Days | None, sink: IO[bytes]) -> Statement:
        """Have a statement made and write it to `sink`, a file for reading and writing, left at its start.

        Without `days` the period is the query's own. Where the last of them is not final yet, a statement that ends
        sooner is fetched, and says so. After a failure `sink` holds nothing that counts. Raises RetryLater with
        `report_not_ready` when the broker needs longer than the patience lasts, AuthFailed when a person must act,
        IncompleteReport when there is no statement of days long past.
        """
        if days is not None and not 0 <= (days.last - days.first).days < MAX_DAYS:
            raise ValueError(f"a statement has 1 to {MAX_DAYS} days, not {days}")
        self._require_sendable(query_id)
        return _Fetch(self, query_id, days, sink, self._patience, self._clock).run()

    def close(self) -> None:
        """Let go of sockets."""
        for http in self._https.values():
            http.close()

    @property
    def home(self) -> Origin:
        return self._home

    def origin_of(self, url: str) -> Origin | None:
        """Where `url` leads, if the token may go there."""
        try:
            parts = urlsplit(url)
            origin = read_origin(f"{parts.scheme}://{parts.netloc}")
        except ValueError:
            return None
        return origin if origin in self._origins else None

    def ask(self, call: Call, params: Mapping[str, str], origin: Origin, sink: IO[bytes]) -> tuple[_Reply, Origin]:
        """What the service says, and which host said it; the other is tried once where one talks nonsense."""
        reply = self._patiently(call, params, origin, sink)
        if isinstance(reply, _Nonsense):
            _LOG.warning("ibkr_flex.not_flex", host=origin.host, detail=reply.detail)
            other = next((each for each in self._origins if each != origin), None)
            if other is not None:
                origin = other
                reply = self._patiently(call, params, origin, sink)
        if isinstance(reply, _Nonsense):
            raise Unavailable(
                "Interactive Brokers' report service answered with something other than the expected document.",
                code="unexpected_answer",
                detail=reply.detail,
            )
        return reply, origin

    @property
    def silent_for(self) -> float:
        """Seconds for which the token must not be used."""
        return self._pacer.silent_for

    def _patiently(self, call: Call, params: Mapping[str, str], origin: Origin, sink: IO[bytes]) -> _Reply | _Nonsense:
        return retrying(
            lambda: self._exchange(call, params, origin, sink),
            clock=self._clock,
            budget=self._budget,
            policy=self._policy,
            chance=self._chance,
        )

    def _exchange(self, call: Call, params: Mapping[str, str], origin: Origin, sink: IO[bytes]) -> _Reply | _Nonsense:
        """One turn of the token; raises Unavailable for what backing off may mend."""
        http = self._http(origin)
        query = {"t": self._token, **params, "v": "3"}
        with self._pacer.turn(LINE):
            sink.seek(0)
            sink.truncate()
            if call == "GetStatement":
                got = http.download(
                    _PATH + call, sink, params=query, deadline=DOWNLOAD_SECONDS, max_bytes=self._max_bytes
                )
            else:
                got = http.download(_PATH + call, sink, params=query, max_bytes=_ENVELOPE_BYTES)
            reply = self._judged(got.status, got.headers, got.size, call, sink)
            # Said within the turn, so that not even the next in line gets through.
            if isinstance(reply, Envelope) and reply.code == _TOO_MANY:
                self._pacer.silence(max(RULES[int(_TOO_MANY)].pause, _wish(got.headers, self._clock)))
            return reply

    def _judged(
        self, status: int, headers: Mapping[str, str], size: int, call: Call, sink: IO[bytes]
    ) -> _Reply | _Nonsense:
        """The document before the status: errors arrive with 200 (4.1), and no status makes a page a statement."""
        sink.seek(0)
        head = sink.read(HEAD_BYTES)
        found = read_head(head)
        if isinstance(found, Envelope):
            return found
        detail = f"HTTP {status}, {headers.get('content-type', 'no type')[:60]}: {_excerpt(head)}"
        if found == "statement" and status == 200 and call == "GetStatement":
            _require_end(sink, size)
            return _Document(size)
        match status:
            case 429:
                return Envelope(code=_TOO_MANY, message="HTTP 429")
            case _ if 300 <= status < 400:
                return self._redirected(headers.get("location", ""), call, detail)
            case 200 | 401 | 403 | 404:
                return _Nonsense(detail)
            case _ if 400 <= status < 500 and status != 408:
                raise Rejected(
                    "Interactive Brokers' report service does not understand the worker's request. This needs a newer "
                    "version.",
                    code="ibkr_flex_bug",
                    detail=detail,
                )
            case _:
                raise Unavailable(
                    "Interactive Brokers' report service cannot answer at the moment.",
                    code="ibkr_flex_unavailable",
                    detail=detail,
                    wait=asked_wait(headers, self._clock),
                )

    def _redirected(self, location: str, call: Call, detail: str) -> _Nonsense:
        """A redirect is believed only where it leads to one of the two hosts, asked for the same (fault A13)."""
        if self.origin_of(location) is None or urlsplit(location).path != _PATH + call:
            raise Rejected(
                "Interactive Brokers' report service sends the worker to another address, which it does not follow.",
                code="redirected",
                action=f"Check {SETTING}.",
                detail=detail,
            )
        return _Nonsense(detail)

    def _http(self, origin: Origin) -> Http:
        if origin not in self._https:
            address = str(origin).removesuffix(":443") if origin.scheme == "https" else str(origin)
            self._https[origin] = Http(
                address,
                self._clock,
                kind="ibkr_flex",
                transport=self._transport(address) if self._transport else None,
                redirects="answer",
                # The simulator signs its own certificate.
                loopback=is_loopback(origin.host),
            )
        return self._https[origin]

    def _require_sendable(self, query_id: str) -> None:
        """Refuses what cannot be real without bothering the broker, who counts failed attempts (1025)."""
        if not _SECRETS.fullmatch(self._token):
            raise AuthFailed(
                "The Flex token was not copied whole. Enter it again.",
                code="ibkr_flex_token_malformed",
                action="update_credentials",
            )
        if not _QUERIES.fullmatch(query_id):
            raise AuthFailed(
                "A Flex query id is a number, shown beside the query in Client Portal. Enter it again.",
                code="ibkr_flex_query_malformed",
                action="update_credentials",
            )


class _Fetch:
    """One statement on its way: what was asked, what was promised, and how often each code was forgiven."""

    def __init__(
        self, client: FlexClient, query_id: str, days: Days | None, sink: IO[bytes], patience: Patience, clock: Clock
    ) -> None:
        self._client = client
        self._query_id = query_id
        self._days = self._wished = days
        self._sink = sink
        self._patience = patience
        self._clock = clock
        self._started = clock.monotonic()
        self._calls = 0
        self._forgiven: Counter[int] = Counter()
        self._origin = client.home
        self._reference: str | None = None

    def run(self) -> Statement:
        while True:
            reply = self._ask()
            if isinstance(reply, _Document):
                self._sink.seek(0)
                return Statement(self._days, reply.size)
            if reply.code is not None:
                self._obey(reply)
            else:
                self._take(reply)

    def _ask(self) -> _Reply:
        self._calls += 1
        if self._reference is not None:
            reply, self._origin = self._client.ask("GetStatement", {"q": self._reference}, self._origin, self._sink)
            return reply
        params = {"q": self._query_id}
        if self._days is not None:
            params |= {"fd": f"{self._days.first:%Y%m%d}", "td": f"{self._days.last:%Y%m%d}"}
        reply, self._origin = self._client.ask("SendRequest", params, self._origin, self._sink)
        return reply

    def _take(self, promise: Envelope) -> None:
        """The statement is ordered; its host is the one the answer names, as far as the token may go there (4.1)."""
        reference = promise.reference or ""
        if self._reference is not None or promise.status != "Success" or not _REFERENCES.fullmatch(reference):
            raise Unavailable(
                "Interactive Brokers' report service answered with something other than the expected document.",
                code="unexpected_answer",
                detail=f"status {promise.status}: {promise.message}",
            )
        self._reference = reference
        if promise.url is not None:
            named = self._client.origin_of(promise.url)
            if named is None:
                _LOG.warning("ibkr_flex.url_not_followed", url=promise.url[:200])
            else:
                self._origin = named
        self._clock.sleep(self._patience.first)

    def _obey(self, answer: Envelope) -> None:
        """Do what the code asks for (4.2), or raise what it ends with."""
        text = answer.code or ""
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
        rule = None if number is None else RULES.get(number)
        if number is None or rule is None:
            raise Rejected(
                f"Interactive Brokers' report service answered with error {number or 'without a number'}, which this "
                "version does not know. Nothing was imported from it.",
                code="ibkr_flex_unknown",
                detail=f"{log.redact(text)[:40]}: {answer.message}",
            )
        self._forgiven[number] += 1
        times = self._forgiven[number]
        refusal = _Refusal(number, rule, answer.message)
        if rule.times is not None and times > rule.times:
            raise self._failure(refusal)
        match rule.then:
            case "stop":
                raise self._failure(refusal)
            case "ask_again":
                self._pause(rule.pause, times, refusal)
            case "begin_again":
                self._reference = None
                self._pause(rule.pause, times, refusal)
            case "earlier_end":
                self._reference = None
                self._days = self._earlier(refusal)
            case "silence":
                # A little more: whoever sleeps by another clock than the one that counts wakes too early.
                self._pause(self._client.silent_for + 0.1, 1, refusal, longest=None)
            case _:
                assert_never(rule.then)

    def _pause(self, seconds: float, times: int, refusal: _Refusal, *, longest: float | None = LONGEST_PAUSE) -> None:
        """Wait longer each time, unless that would be longer than patience lasts."""
        wait = seconds if longest is None else min(longest, seconds * 1.5 ** min(times - 1, 20))
        spent = self._clock.monotonic() - self._started
        if spent + wait > self._patience.total or self._calls >= self._patience.calls:
            raise self._failure(refusal)
        self._clock.sleep(wait)

    def _earlier(self, refusal: _Refusal) -> Days:
        """The same days without the last; raises where that one is not what is missing (fault B23)."""
        if self._days is None or self._wished is None:
            raise self._failure(refusal)
        today = dt.datetime.fromtimestamp(self._clock.now() / 1000, _EASTERN).date()
        if (today - self._wished.last).days > _UNSETTLED_DAYS:
            raise IncompleteReport(
                f"Interactive Brokers has no statement of {self._days}. Where the account is younger than that, let "
                "the import start at its first day.",
                code="ibkr_flex_no_statement",
                detail=refusal.message,
            )
        earlier = replace(self._days, last=self._days.last - dt.timedelta(days=1))
        if earlier.last < earlier.first or self._forgiven[refusal.number] > _STEPS_BACK:
            raise self._failure(refusal)
        return earlier

    def _failure(self, refusal: _Refusal) -> Failure:
        rule, code = refusal.rule, f"ibkr_flex_{refusal.number}"
        match rule.ends:
            case "person":
                return AuthFailed(rule.sentence, code=code, action="update_credentials", detail=refusal.message)
            case "refused":
                return Rejected(rule.sentence, code=code, detail=refusal.message)
            case "broken":
                return Unavailable(rule.sentence, code=code, detail=refusal.message)
            case "wait":
                seconds = max(LATER_SECONDS, self._client.silent_for)
                return RetryLater(
                    rule.sentence,
                    until=self._clock.now() + int(seconds * 1000),
                    reason="rate_limited" if rule.then == "silence" else "report_not_ready",
                    code=code,
                    detail=refusal.message,
                )
            case _:
                assert_never(rule.ends)


def _require_end(sink: IO[bytes], size: int) -> None:
    """Half a statement is trouble on the way, whatever its length said (fault A12)."""
    sink.seek(max(0, size - _TAIL))
    if not _END.search(sink.read(_TAIL)):
        raise Unavailable(
            "Interactive Brokers' report service broke off in the middle of a statement.", code="ibkr_flex_cut"
        )


def _wish(headers: Mapping[str, str], clock: Clock) -> float:
    """Seconds of silence that the answer asks for, however long."""
    try:
        return asked_wait(headers, clock)
    except RetryLater as later:
        return (later.until - clock.now()) / 1000


def _excerpt(head: bytes) -> str:
    return repr(log.redact(head[:8192].decode("utf-8", "replace"))[:120])
