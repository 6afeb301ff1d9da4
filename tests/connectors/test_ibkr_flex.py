"""The Flex client: every code, both hosts, the token's limits and its secrecy. Sections are those of reference ibkr."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import structlog

from sandbox.brokers.ibkr import Fault, FlexCode, FlexQuirks, IbkrSimulator, Setup
from sandbox.clock import VirtualClock
from worker import log
from worker.connectors.ibkr_flex import (
    BASE_URL,
    HOSTS,
    MAX_DAYS,
    Days,
    FlexClient,
    Patience,
    Statement,
    check_flex_url,
    flex_pacer,
)
from worker.connectors.ibkr_flex_codes import RULES, Envelope, read_head
from worker.errors import AuthFailed, Failure, IncompleteReport, Rejected, RetryLater, Unavailable
from worker.pacing import Pacer
from worker.retry import RetryBudget, RetryPolicy

NOW = 1_790_000_000_000  # 2026-09-21T14:13:20Z, a Monday morning in New York
TODAY = dt.date(2026, 9, 21)
TOKEN = "314159265358979323846264"
QUERY = "271828"
PATH = "/AccountManagement/FlexWebService/"
SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "ibkr"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")

STATEMENT = b"""<FlexQueryResponse queryName="Q" type="AF">
<FlexStatements count="1">
<FlexStatement accountId="U1" fromDate="20260901" toDate="20260918" period="" whenGenerated="20260921;101320">
<Trades />
</FlexStatement>
</FlexStatements>
</FlexQueryResponse>
"""
HTML = b"<!DOCTYPE html>\n<html><head><title>Login</title></head><body></body></html>"
WEEK = Days(TODAY - dt.timedelta(days=7), TODAY - dt.timedelta(days=1))


def success(url: str | None = None, reference: str = "1234567890") -> bytes:
    where = "" if url is None else f"<Url>{url}</Url>"
    return (
        '<FlexStatementResponse timestamp="28 August, 2012 10:37 AM EDT"><Status>Success</Status>'
        f"<ReferenceCode>{reference}</ReferenceCode>{where}</FlexStatementResponse>"
    ).encode()


def code(number: int | str, message: str = "Some words.", status: str = "Fail") -> bytes:
    return (
        f"<FlexStatementResponse timestamp='13 October, 2020 04:17 AM EDT'>\n<Status>{status}</Status>\n"
        f"<ErrorCode>{number}</ErrorCode>\n<ErrorMessage>{message}</ErrorMessage>\n</FlexStatementResponse>\n"
    ).encode()


@dataclass
class Seen:
    """A call that reached the service."""

    name: str
    host: str
    params: dict[str, str]
    at: float
    agent: str


Said = bytes | httpx.Response


@dataclass
class Bench:
    """A client on a virtual clock. `says` answers the calls in turn; after that all goes well."""

    says: list[Said | Callable[[], Said]] = field(default_factory=list)
    statement: bytes = STATEMENT
    patience: Patience = field(default_factory=Patience)
    attempts: int = 4
    base_url: str = BASE_URL
    token: str = TOKEN
    max_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        self.clock = VirtualClock(NOW)
        self.calls: list[Seen] = []
        self.pacer: Pacer = flex_pacer(self.clock, chance=lambda: 0.0)
        self.sink = io.BytesIO()
        self.client = FlexClient(
            self.token,
            clock=self.clock,
            pacer=self.pacer,
            base_url=self.base_url,
            transport=lambda _: httpx.MockTransport(self._answer),
            budget=RetryBudget(floor=1000),
            policy=RetryPolicy(attempts=self.attempts),
            patience=self.patience,
            max_bytes=self.max_bytes,
            chance=lambda: 0.0,
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        params = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
        name = request.url.path.removeprefix(PATH)
        assert request.method == "GET"
        self.calls.append(
            Seen(name, request.url.host, params, self.clock.monotonic(), request.headers.get("user-agent", ""))
        )
        if self.says:
            said = self.says.pop(0)
            said = said() if callable(said) else said
        else:
            said = success() if name == "SendRequest" else self.statement
        return said if isinstance(said, httpx.Response) else httpx.Response(200, content=said)

    def fetch(self, days: Days | None = WEEK) -> Statement:
        return self.client.fetch_statement(QUERY, days, self.sink)

    def fails(self, days: Days | None = WEEK) -> Failure:
        with pytest.raises(Failure) as caught:
            self.fetch(days)
        return caught.value

    @property
    def names(self) -> list[str]:
        return [call.name for call in self.calls]

    @property
    def gaps(self) -> list[float]:
        return [round(later.at - earlier.at, 1) for earlier, later in zip(self.calls, self.calls[1:], strict=False)]


SEND, GET = "SendRequest", "GetStatement"


def for_ever(said: bytes, *, after: list[Said] | None = None) -> list[Said | Callable[[], Said]]:
    return [*(after or []), *([said] * 200)]


def most_in_a_minute(calls: list[Seen]) -> int:
    return max(sum(1 for other in calls if 0 <= other.at - call.at < 60) for call in calls)


# What is sent.


def test_a_statement_is_ordered_and_fetched() -> None:
    bench = Bench()
    statement = bench.fetch()
    assert bench.sink.tell() == 0
    assert bench.sink.read() == STATEMENT
    assert statement == Statement(WEEK, len(STATEMENT))
    first, second = bench.calls
    assert (first.name, first.params) == (
        SEND, {"t": TOKEN, "q": QUERY, "fd": "20260914", "td": "20260920", "v": "3"},
    )  # fmt: skip
    assert (second.name, second.params) == (GET, {"t": TOKEN, "q": "1234567890", "v": "3"})
    assert {call.host for call in bench.calls} == {HOSTS[0]}
    assert all(call.agent for call in bench.calls), "a User-Agent is mandatory (4.1)"


def test_without_days_the_period_is_the_querys_own() -> None:
    bench = Bench()
    assert bench.fetch(None).days is None
    assert bench.calls[0].params == {"t": TOKEN, "q": QUERY, "v": "3"}


@pytest.mark.parametrize("days", [0, 366, -1])
def test_a_statement_has_between_one_day_and_a_year(days: int) -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="365"):
        bench.fetch(Days(TODAY, TODAY + dt.timedelta(days=days - 1)))
    assert bench.calls == []


def test_a_whole_year_is_one_statement() -> None:
    assert Bench().fetch(Days(TODAY - dt.timedelta(days=MAX_DAYS - 1), TODAY)).size == len(STATEMENT)


@pytest.mark.parametrize("token", ["", "abc", "with blank in it", "t=1&v=3"])
def test_a_token_that_cannot_be_real_is_not_sent(token: str) -> None:
    bench = Bench(token=token)
    failure = bench.fails()
    assert isinstance(failure, AuthFailed)
    assert (failure.code, bench.calls) == ("ibkr_flex_token_malformed", [])


def test_a_query_id_that_cannot_be_real_is_not_sent() -> None:
    bench = Bench()
    with pytest.raises(AuthFailed) as caught:
        bench.client.fetch_statement("my query", WEEK, bench.sink)
    assert (caught.value.code, bench.calls) == ("ibkr_flex_query_malformed", [])


def test_blanks_around_a_token_are_not_part_of_it() -> None:
    bench = Bench(token=f" {TOKEN}\n")
    bench.fetch()
    assert bench.calls[0].params["t"] == TOKEN


def test_what_was_in_the_file_before_is_gone() -> None:
    bench = Bench()
    bench.sink.write(b"x" * 10_000)
    bench.fetch()
    assert bench.sink.read() == STATEMENT


def test_a_spooled_file_will_do() -> None:
    long = STATEMENT.replace(b"<Trades />", b"<Trades>" + b" " * 5000 + b"</Trades>")
    bench = Bench(statement=long)
    with tempfile.SpooledTemporaryFile(max_size=1000) as sink:
        bench.client.fetch_statement(QUERY, WEEK, sink)
        assert sink.read() == long


# Every code.

ALL_CODES = (*range(1001, 1002), *range(1003, 1022), 1025)


def test_every_code_of_the_reference_has_its_rule() -> None:
    assert tuple(sorted(RULES)) == ALL_CODES


@pytest.mark.parametrize("number", [1001, 1004, 1005, 1006, 1007, 1008])
@pytest.mark.parametrize("at", [SEND, GET])
def test_B21_a_statement_that_cannot_be_made_yet_is_ordered_anew(number: int, at: str) -> None:
    bench = Bench([code(number)] if at == SEND else [success(), code(number)])
    bench.fetch()
    assert bench.names == ([SEND, SEND, GET] if at == SEND else [SEND, GET, SEND, GET])
    assert bench.gaps[bench.names.index(at)] == 30


@pytest.mark.parametrize(("number", "pause"), [(1009, 60), (1019, 10), (1021, 30)])
@pytest.mark.parametrize("at", [SEND, GET])
def test_B21_a_busy_service_is_asked_the_same_again(number: int, pause: int, at: str) -> None:
    bench = Bench([code(number)] if at == SEND else [success(), code(number, status="Warn")])
    bench.fetch()
    assert bench.names == ([SEND, SEND, GET] if at == SEND else [SEND, GET, GET])
    assert bench.gaps[bench.names.index(at)] == pause


@pytest.mark.parametrize("number", [1001, 1004, 1005, 1006, 1007, 1008, 1009, 1019, 1021])
def test_B21_a_statement_that_is_not_ready_in_time_is_left_to_a_later_sync(number: int) -> None:
    bench = Bench(for_ever(code(number), after=[success()]))
    failure = bench.fails()
    assert isinstance(failure, RetryLater)
    assert (failure.reason, failure.code) == ("report_not_ready", f"ibkr_flex_{number}")
    assert failure.until == bench.clock.now() + 15 * 60_000
    assert 480 - 60 - 1 <= bench.clock.monotonic() <= 480, "no failure before the time is up"
    assert most_in_a_minute(bench.calls) <= 10


def test_B21_a_long_generation_is_waited_for_within_the_limits() -> None:
    bench = Bench(patience=Patience(total=3600.0, calls=1000))
    bench.says = [success(), *[code(1019, status="Warn")] * 40]
    bench.fetch()
    assert bench.names == [SEND, *[GET] * 41]
    assert most_in_a_minute(bench.calls) <= 10
    assert bench.gaps[1:5] == [10, 15, 22.5, 33.8], "each pause half as long again"
    assert max(bench.gaps) == 60


def test_B21_the_number_of_calls_is_capped_too() -> None:
    bench = Bench(for_ever(code(1019), after=[success()]), patience=Patience(total=1e6, calls=7))
    assert isinstance(bench.fails(), RetryLater)
    assert len(bench.calls) == 7


def test_a_lasting_1001_names_its_probable_causes() -> None:
    sentence = Bench(for_ever(code(1001))).fails().sentence
    assert all(cause in sentence for cause in ("query", "range", "IBKR_FLEX_URL"))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1010, "old type"),
        (1011, "switched off"),
        (1012, "expired"),
        (1013, "address"),
        (1014, "query"),
        (1015, "does not know this Flex token"),
        (1016, "account"),
        (1025, "locked"),
    ],
)
@pytest.mark.parametrize("at", [SEND, GET])
def test_C10_what_only_a_person_can_mend_stops_at_once(number: int, words: str, at: str) -> None:
    bench = Bench(for_ever(code(number), after=[] if at == SEND else [success()]))
    failure = bench.fails()
    assert isinstance(failure, AuthFailed)
    assert (failure.code, failure.action) == (f"ibkr_flex_{number}", "update_credentials")
    assert words in failure.sentence
    assert len(bench.calls) == (1 if at == SEND else 2)


def test_a_reference_that_is_no_longer_known_is_replaced_once() -> None:
    bench = Bench([success(reference="1111111111"), code(1017), success(reference="2222222222")])
    bench.fetch()
    assert [call.params["q"] for call in bench.calls if call.name == GET] == ["1111111111", "2222222222"]

    bench = Bench([success(), code(1017), success(), code(1017)])
    assert isinstance(bench.fails(), Unavailable)
    assert bench.names == [SEND, GET, SEND, GET]


@pytest.mark.parametrize("at", [SEND, GET])
def test_B22_too_many_requests_silence_the_token_for_a_minute(at: str) -> None:
    bench = Bench([code(1018)] if at == SEND else [success(), code(1018)])
    bench.fetch()
    assert bench.names == ([SEND, SEND, GET] if at == SEND else [SEND, GET, GET])
    assert 60 <= bench.gaps[bench.names.index(at)] <= 61


def test_B22_nobody_uses_a_silenced_token() -> None:
    bench = Bench(for_ever(code(1018)), patience=Patience(total=30.0))
    failure = bench.fails()
    assert isinstance(failure, RetryLater)
    assert failure.reason == "rate_limited"
    assert bench.pacer.silent_for >= 59
    other = FlexClient(
        TOKEN, clock=bench.clock, pacer=bench.pacer, transport=lambda _: httpx.MockTransport(bench._answer)
    )
    with pytest.raises(RetryLater):
        other.fetch_statement(QUERY, WEEK, io.BytesIO())
    assert len(bench.calls) == 1


def test_B22_the_third_refusal_ends_the_fetch() -> None:
    bench = Bench(for_ever(code(1018)))
    failure = bench.fails()
    assert isinstance(failure, RetryLater)
    assert len(bench.calls) == 3
    assert all(gap >= 60 for gap in bench.gaps)


@pytest.mark.parametrize("asks", ["5", "200", "Mon, 21 Sep 2026 14:16:40 GMT"])
def test_A5_a_429_is_the_same_and_may_ask_for_longer(asks: str) -> None:
    bench = Bench([httpx.Response(429, headers={"retry-after": asks})])
    bench.fetch()
    assert bench.gaps[0] >= (60 if asks == "5" else 200)
    bench = Bench([httpx.Response(429, headers={"retry-after": "1000000000"})])
    assert isinstance(bench.fails(), RetryLater)
    assert bench.clock.monotonic() < 600


def test_a_request_that_cannot_be_validated_is_tried_again_and_then_explained() -> None:
    bench = Bench([code(1020)])
    bench.fetch()
    assert bench.gaps[0] == 60, "a query that was just changed needs time"
    bench = Bench(for_ever(code(1020)))
    failure = bench.fails()
    assert isinstance(failure, Rejected)
    assert len(bench.calls) == 3
    assert all(cause in failure.sentence for cause in ("username", "just changed", "Client Portal"))


@pytest.mark.parametrize("number", ["1002", "1099", "9999", "", "none", "1" * 30])
@pytest.mark.parametrize("at", [SEND, GET])
def test_a_code_that_nobody_knows_is_refused(number: str, at: str) -> None:
    bench = Bench(for_ever(code(number or "?"), after=[] if at == SEND else [success()]))
    failure = bench.fails()
    assert isinstance(failure, Rejected)
    assert failure.code == "ibkr_flex_unknown"
    assert len(bench.calls) == (1 if at == SEND else 2)
    assert "1" * 30 not in failure.sentence


# No statement of these days.


def test_B23_a_last_day_that_is_not_final_is_left_out_and_said_so() -> None:
    bench = Bench([code(1003), success(), code(1003)])
    statement = bench.fetch()
    assert [call.params["td"] for call in bench.calls if call.name == SEND] == ["20260920", "20260919", "20260918"]
    assert statement.days == Days(WEEK.first, dt.date(2026, 9, 18))


def test_B23_no_statement_at_all_is_not_an_empty_one() -> None:
    bench = Bench(for_ever(code(1003)))
    failure = bench.fails()
    assert isinstance(failure, RetryLater)
    assert failure.reason == "report_not_ready"
    assert len(bench.calls) == 6, "five days earlier at most"

    bench = Bench(for_ever(code(1003)))
    assert isinstance(bench.fails(Days(WEEK.last, WEEK.last)), RetryLater)
    assert len(bench.calls) == 1, "no day is left"

    bench = Bench(for_ever(code(1003)))
    assert isinstance(bench.fails(None), RetryLater)
    assert len(bench.calls) == 1


def test_B23_days_long_past_without_a_statement_stay_uncovered() -> None:
    bench = Bench(for_ever(code(1003)))
    failure = bench.fails(Days(dt.date(2016, 1, 1), dt.date(2016, 12, 30)))
    assert isinstance(failure, IncompleteReport)
    assert "2016-01-01 to 2016-12-30" in failure.sentence
    assert len(bench.calls) == 1


# Answers that are no answers.


@pytest.mark.parametrize("at", [SEND, GET])
@pytest.mark.parametrize(
    "body",
    [
        HTML,
        b"",
        b"{}",
        b"<html/>",
        b"<FlexStatementResponse><Status>Success</Status>",
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + STATEMENT,
        b"\x1f\x8b\x08",
    ],
    ids=["page", "nothing", "json", "xhtml", "half an envelope", "dtd", "noise"],
)
def test_A11_what_is_not_flex_is_asked_of_the_other_host_once(at: str, body: bytes) -> None:
    before: list[Said] = [] if at == SEND else [success()]
    bench = Bench([*before, body])
    bench.fetch()
    assert [call.host for call in bench.calls][len(before) : len(before) + 2] == list(HOSTS)

    bench = Bench([*before, body, body])
    failure = bench.fails()
    assert isinstance(failure, Unavailable)
    assert failure.code == "unexpected_answer"
    assert len(bench.calls) == len(before) + 2


def test_a_simulator_has_no_other_host() -> None:
    bench = Bench([success(), HTML], base_url="http://127.0.0.1:4444")
    assert isinstance(bench.fails(), Unavailable)
    assert {call.host for call in bench.calls} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "body",
    [STATEMENT, success().replace(b"Success", b"WhenAvailable"), success(reference=""), success(reference="a b&t=1")],
    ids=["a statement at once", "another status", "no reference", "a strange reference"],
)
def test_an_order_that_was_not_taken_is_no_order(body: bytes) -> None:
    bench = Bench([body, body])
    failure = bench.fails()
    assert isinstance(failure, Unavailable)
    assert GET not in bench.names


def test_a_second_promise_is_not_a_statement() -> None:
    failure = Bench([success(), success()]).fails()
    assert isinstance(failure, Unavailable)


def test_A12_a_statement_cut_anywhere_is_fetched_again() -> None:
    whole = STATEMENT.rstrip()
    for length in range(len(whole)):
        bench = Bench([success(), whole[:length]])
        bench.fetch()
        assert bench.sink.read() == STATEMENT, length
        assert bench.names == [SEND, GET, GET]


def test_A12_a_statement_that_is_always_cut_is_none() -> None:
    failure = Bench(statement=STATEMENT[:-30]).fails()
    assert isinstance(failure, Unavailable)
    assert failure.code == "ibkr_flex_cut"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
@pytest.mark.parametrize("at", [SEND, GET])
def test_A9_a_server_in_trouble_is_tried_four_times(status: int, at: str) -> None:
    before: list[Said] = [] if at == SEND else [success()]
    bench = Bench([*before, *[httpx.Response(status, content=HTML)] * 3])
    bench.fetch()
    assert bench.names.count(at) == 4
    bench = Bench([*before, *[httpx.Response(status, content=HTML)] * 4])
    assert isinstance(bench.fails(), Unavailable)
    assert bench.names.count(at) == 4


@pytest.mark.parametrize("status", [400, 405, 410, 451])
def test_A10_a_request_that_is_refused_is_not_repeated(status: int) -> None:
    bench = Bench(for_ever(b"", after=[httpx.Response(status, content=HTML)]))
    assert isinstance(bench.fails(), Rejected)
    assert len(bench.calls) == 1


def test_an_error_is_an_error_whatever_the_status() -> None:
    failure = Bench([httpx.Response(500, content=code(1012))]).fails()
    assert isinstance(failure, AuthFailed)


def test_A4_a_statement_larger_than_allowed_is_not_read_on() -> None:
    bench = Bench(statement=b"<FlexQueryResponse>" + b" " * 5000, max_bytes=4096, attempts=1)
    failure = bench.fails()
    assert (failure.code, len(bench.sink.getvalue()) <= 4096) == ("answer_too_large", True)


def test_a_statement_may_come_packed() -> None:
    packed = httpx.Response(200, content=gzip.compress(STATEMENT), headers={"content-encoding": "gzip"})
    bench = Bench([success(), packed])
    assert bench.fetch().size == len(STATEMENT)


# Where the token goes.


@pytest.mark.parametrize("name", ["Url", "url"])
def test_the_named_host_is_followed_if_it_is_one_of_the_two(name: str) -> None:
    url = f"https://{HOSTS[1]}/Universal/servlet/FlexStatementService.GetStatement"
    bench = Bench([success(url).replace(b"Url>", f"{name}>".encode())])
    bench.fetch()
    assert [(call.host, call.name) for call in bench.calls] == [(HOSTS[0], SEND), (HOSTS[1], GET)]


ELSEWHERE = [
    "https://elsewhere.example",
    f"http://{HOSTS[1]}",
    f"https://{HOSTS[1]}:8443",
    f"https://u@{HOSTS[1]}",
    f"https://{HOSTS[1]}.elsewhere.example",
    "http://127.0.0.1:1",
    "http://169.254.169.254",
    "file:///etc/passwd",
    "//elsewhere.example",
    "[",
]


@pytest.mark.parametrize("origin", ELSEWHERE)
def test_A13_no_other_named_host_gets_the_token(origin: str) -> None:
    bench = Bench([success(f"{origin}{PATH}{GET}")])
    bench.fetch()
    assert {call.host for call in bench.calls} == {HOSTS[0]}


@pytest.mark.parametrize("at", [SEND, GET])
@pytest.mark.parametrize("origin", [*ELSEWHERE, ""])
def test_A13_a_redirect_elsewhere_is_refused(origin: str, at: str) -> None:
    redirect = httpx.Response(302, headers={"location": f"{origin}{PATH}{at}"})
    bench = Bench([redirect] if at == SEND else [success(), redirect])
    failure = bench.fails()
    assert isinstance(failure, Rejected)
    assert failure.code == "redirected"
    assert {call.host for call in bench.calls} == {HOSTS[0]}


def test_A13_a_redirect_to_the_other_host_is_followed_once_and_to_nothing_but_the_service() -> None:
    redirect = httpx.Response(302, headers={"location": f"https://{HOSTS[1]}{PATH}{SEND}?t=other"})
    bench = Bench([redirect])
    bench.fetch()
    assert [call.host for call in bench.calls] == [HOSTS[0], HOSTS[1], HOSTS[1]]
    assert {call.params["t"] for call in bench.calls} == {TOKEN}
    login = httpx.Response(302, headers={"location": f"https://{HOSTS[1]}/sso/Login"})
    assert isinstance(Bench([login]).fails(), Rejected)
    assert isinstance(Bench([redirect, redirect]).fails(), Unavailable)


@pytest.mark.parametrize(
    "url", [*(f"https://{host}" for host in HOSTS), "http://127.0.0.1:8080", "https://localhost:1"]
)
def test_F7_the_configured_address_is_one_of_the_two_or_this_machine(url: str) -> None:
    assert check_flex_url(url) == url


@pytest.mark.parametrize("url", [each for each in ELSEWHERE if "127.0.0.1" not in each])
def test_F7_any_other_configured_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_flex_url(url)


@pytest.mark.parametrize(
    "said",
    [
        code(1099, f"Bad request https://host{PATH}SendRequest?t={TOKEN}&q=1"),
        code(1015, f"Token {TOKEN} is invalid."),
        code(1020, TOKEN),
        code(TOKEN, TOKEN),
        HTML.replace(b"Login", TOKEN.encode()),
        httpx.Response(400, content=TOKEN.encode()),
        httpx.Response(503, content=f"?t={TOKEN}".encode()),
        httpx.Response(302, headers={"location": f"https://elsewhere.example/?t={TOKEN}"}),
        success(f"https://elsewhere.example/?t={TOKEN}"),
        success(reference="").replace(b"Success", TOKEN.encode()),
    ],
    ids=["unknown", "1015", "1020", "as the code", "page", "400", "503", "redirect", "url", "status"],
)
def test_F2_a_token_that_is_echoed_stays_in(said: Said) -> None:
    bench = Bench(for_ever(b"", after=[]), attempts=1)
    bench.says = [said] * 20
    with structlog.testing.capture_logs() as logged, pytest.raises(Failure) as caught:
        bench.fetch()
    failure: BaseException | None = caught.value
    while failure is not None:
        assert TOKEN not in f"{failure} {failure!r} {getattr(failure, 'detail', '')} {getattr(failure, 'action', '')}"
        failure = failure.__cause__
    assert TOKEN not in json.dumps([log.redact_value(event) for event in logged])
    assert TOKEN not in repr(bench.client)


# The envelope.


@needs_samples
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("flex-fail-1001-not-generated.xml", "1001"),
        ("flex-fail-1003-not-available.xml", "1003"),
        ("flex-fail-1012-token-expired.xml", "1012"),
        ("flex-fail-1015-token-invalid.xml", "1015"),
        ("flex-fail-1018-too-many-requests.xml", "1018"),
        ("flex-fail-1020-invalid-request.xml", "1020"),
        ("flex-warn-1019-in-progress.xml", "1019"),
    ],
)
def test_the_published_errors_are_read(name: str, expected: str) -> None:
    found = read_head((SAMPLES / name).read_bytes())
    assert isinstance(found, Envelope)
    assert found.code == expected
    assert found.message


@needs_samples
def test_the_published_promise_is_read() -> None:
    assert read_head((SAMPLES / "flex-sendrequest-success.xml").read_bytes()) == Envelope(
        status="Success",
        reference="1234567890",
        url="https://gdcdyn.interactivebrokers.com/AccountManagement/FlexWebService/GetStatement",
    )


@needs_samples
def test_the_published_statements_are_statements() -> None:
    names = [
        path for path in sorted(SAMPLES.glob("flex-*.xml")) if path.name.split("-")[1] in ("af", "tcf", "statement")
    ]
    assert len(names) >= 13
    assert {read_head(path.read_bytes()) for path in names} == {"statement"}


def test_F8_an_entity_is_never_expanded() -> None:
    bomb = b'<!DOCTYPE FlexStatementResponse [<!ENTITY a "1012">]>' + code("&a;")
    assert read_head(bomb) is None
    external = b'<!DOCTYPE FlexStatementResponse SYSTEM "file:///etc/passwd">' + code(1012)
    assert read_head(external) is None


def test_only_the_envelopes_own_fields_count() -> None:
    nested = code(1019).replace(
        b"</FlexStatementResponse>", b"<More><ErrorCode>1012</ErrorCode></More>\n</FlexStatementResponse>"
    )
    found = read_head(nested)
    assert isinstance(found, Envelope)
    assert found.code == "1019"


# Against the simulator.


@dataclass
class Sandbox:
    """A client of a simulated login, on one virtual clock."""

    simulator: IbkrSimulator
    clock: VirtualClock
    client: FlexClient

    @classmethod
    def start(cls, **setup: Any) -> Sandbox:
        clock = VirtualClock(NOW)
        simulator = IbkrSimulator(clock, Setup(**setup))
        client = FlexClient(
            simulator.flex.token,
            clock=clock,
            pacer=flex_pacer(clock),
            transport=lambda _: simulator.transport(),
            budget=RetryBudget(floor=100),
        )
        return cls(simulator, clock, client)

    def fetch(self, days: Days | None) -> bytes:
        sink = io.BytesIO()
        self.client.fetch_statement(self.simulator.flex.activity_query, days, sink)
        return sink.read()


def years_back(last: dt.date, years: int) -> list[Days]:
    """So many times 365 days, newest first."""
    found = []
    for _ in range(years):
        first = last - dt.timedelta(days=MAX_DAYS - 1)
        found.append(Days(first, last))
        last = first - dt.timedelta(days=1)
    return found


def test_B21_ten_years_are_read_within_the_tokens_limits() -> None:
    sandbox = Sandbox.start(trades=6, days=60, years=10)
    sandbox.simulator.flex.quirks = FlexQuirks(generation_seconds=45, summaries=False)
    windows = years_back(sandbox.simulator.flex.last_final_day(), 11)
    found: list[str] = []
    for days in windows:
        document = sandbox.fetch(days).decode()
        found += [row.split('"')[0] for row in document.split(' transactionID="')[1:]]
    audit = sandbox.simulator.audit
    assert (audit.rate_breaches, audit.penalty_calls) == (0, 0)
    assert [call.outcome for call in audit.calls].count("ok") == 22
    truth = [row["transactionId"] for row in sandbox.simulator.oracle()]
    assert len(truth) > 350
    assert sorted(found) == sorted(truth), "each execution once"


def test_B21_two_clients_of_one_token_share_its_line() -> None:
    sandbox = Sandbox.start(trades=6)
    sandbox.simulator.flex.quirks = FlexQuirks(generation_seconds=0)
    pacer = flex_pacer(sandbox.clock)
    clients = [
        FlexClient(
            sandbox.simulator.flex.token,
            clock=sandbox.clock,
            pacer=pacer,
            transport=lambda _: sandbox.simulator.transport(),
        )
        for _ in range(2)
    ]
    for client in clients * 5:
        client.fetch_statement(sandbox.simulator.flex.activity_query, WEEK, io.BytesIO())
    calls = sandbox.simulator.audit.calls
    assert sandbox.simulator.audit.rate_breaches == 0
    assert len(calls) == 20
    assert calls[-1].elapsed <= 100, "and hardly slower than that asks for"


def test_every_code_leads_where_its_rule_says_and_never_to_a_breach() -> None:
    for number in ALL_CODES:
        sandbox = Sandbox.start(trades=6)
        sandbox.simulator.flex.plant(FlexCode(code=number, times=None))
        kind = {"person": AuthFailed, "wait": RetryLater, "refused": Rejected, "broken": Unavailable}[
            RULES[number].ends
        ]
        with pytest.raises(kind):
            sandbox.fetch(WEEK)
        audit = sandbox.simulator.audit
        assert (audit.rate_breaches, audit.penalty_calls) == (0, 0), number


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="GetStatement", html=True),
        Fault(path="GetStatement", truncate=700),
        Fault(path="GetStatement", truncate=700, keep_length=True),
        Fault(path="GetStatement", status=503, times=2),
        Fault(path="SendRequest", reset=True),
        Fault(path="SendRequest", hang=True),
        Fault(path="GetStatement", endless=True, body="<FlexQueryResponse>"),
    ],
    ids=lambda fault: fault.describe(),
)
def test_a_fault_that_passes_costs_a_moment_only(fault: Fault) -> None:
    sandbox = Sandbox.start(trades=6)
    untroubled = sandbox.fetch(WEEK)
    sandbox.simulator.faults.plant(fault)
    troubled = sandbox.fetch(WEEK)
    assert len(troubled) == len(untroubled)
    assert sandbox.simulator.audit.rate_breaches == 0


def test_A3_a_statement_that_drips_in_ends_with_the_time_of_a_download() -> None:
    sandbox = Sandbox.start(trades=6)
    sandbox.simulator.faults.plant(Fault(path="GetStatement", drip=2.0))
    with pytest.raises(Unavailable):
        sandbox.fetch(WEEK)
    assert 300 <= sandbox.clock.monotonic() <= 310


def test_C10_an_expired_and_a_replaced_token_say_which() -> None:
    sandbox = Sandbox.start(trades=6)
    sandbox.simulator.flex.expire_token()
    with pytest.raises(AuthFailed, match="ibkr_flex_1012"):
        sandbox.fetch(WEEK)
    sandbox.simulator.flex.renew_token()
    with pytest.raises(AuthFailed, match="ibkr_flex_1015"):
        sandbox.fetch(WEEK)


def test_F2_a_service_that_repeats_the_request_gives_nothing_away() -> None:
    sandbox = Sandbox.start(trades=6)
    token = sandbox.simulator.flex.token
    sandbox.simulator.flex.quirks = FlexQuirks(echo_url=True)
    sandbox.simulator.flex.plant(FlexCode(code=1099))
    with pytest.raises(Rejected) as caught:
        sandbox.fetch(WEEK)
    assert "SendRequest" in caught.value.detail
    assert token not in caught.value.detail
