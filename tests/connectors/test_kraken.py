"""The Kraken connector: errors, nonces, key inspection, paging. Sections are those of reference kraken."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import respx
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.brokers.kraken import Fault, KeyChange, KrakenSimulator, NewFill, Quirks, Setup
from sandbox.clock import VirtualClock
from worker import log
from worker.connectors import kraken_walk
from worker.connectors.kraken import BASE_URL, READS, KrakenConnector, Nonces, sign
from worker.errors import AuthFailed, Failure, IncompleteReport, Rejected, RetryLater, Unavailable
from worker.models import KrakenAuth, Page, Window
from worker.pacing import TIERS, DecayingCounter
from worker.retry import RetryBudget, RetryPolicy

NOW = 1_790_000_000_000
SECOND = 1000
ROW = {
    "ordertxid": "OB5VTA-AAAAA-7XKQ2D",
    "postxid": "TKH2SE-M7IF5-CFI7LT",
    "pair": "XXBTZUSD",
    "time": 1789999000.1234567,
    "type": "buy",
    "ordertype": "limit",
    "price": "61000.10000",
    "cost": "610.00100",
    "fee": "1.58600",
    "vol": "0.01000000",
    "margin": "0.00000",
    "misc": "",
}
GOOD = {"error": [], "result": {"trades": {"TB5VTA-AAAAA-7XKQ2D": ROW}, "count": 1}}
WINDOW = Window(start=NOW - 86_400 * SECOND, end=NOW)
AUTH = KrakenAuth(kind="kraken", api_key="k" * 55 + "K", api_secret="c2VjcmV0" * 8 + "QQ==")


@dataclass
class Bench:
    """A connector on a virtual clock, its HTTP answered by respx."""

    tier: str = "starter"
    attempts: int = 4
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(NOW))
    auth: KrakenAuth = AUTH

    def __post_init__(self) -> None:
        self.router = respx.Router(assert_all_called=False, assert_all_mocked=True, base_url=BASE_URL)
        self.trades = self.router.post("/0/private/TradesHistory").respond(json=GOOD)
        self.status = self.router.get("/0/public/SystemStatus").respond(json=system_status("online"))
        self.info = self.router.post("/0/private/GetApiKeyInfo").respond(json=key_info())
        self.nonces = Nonces(self.clock)
        tier = TIERS[self.tier]
        self.counter = DecayingCounter(tier.ceiling, tier.decay_per_second, self.clock)
        self.connector = KrakenConnector(
            self.auth,
            clock=self.clock,
            nonces=self.nonces,
            counter=self.counter,
            transport=httpx.MockTransport(self.router.handler),
            policy=RetryPolicy(attempts=self.attempts),
            budget=RetryBudget(floor=1000),
        )

    def read(self) -> list[Page]:
        return list(self.connector.fetch(WINDOW))

    @property
    def waited(self) -> float:
        return self.clock.monotonic()


def system_status(status: str, timestamp: str | None = "2026-09-21T14:13:20Z") -> dict[str, Any]:
    return {"error": [], "result": {"status": status, "timestamp": timestamp, "upcoming_maintenance": []}}


def key_info(**changes: Any) -> dict[str, Any]:
    info = {
        "apiKeyName": "journal",
        "apiKey": "MASKED",
        "nonce": "1",
        "nonceWindow": 0,
        "permissions": ["query-closed-trades"],
        "iban": " AA11 N84G TEST 0001 ",
        "validUntil": "0",
        "queryFrom": "0",
        "queryTo": "0",
        "createdTime": "1772542900",
        "modifiedTime": "1772543095",
        "ipAllowlist": [],
        "lastUsed": "1772627061",
    }
    return {"error": [], "result": {**info, **changes}}


def sent(route: respx.Route) -> list[dict[str, str]]:
    """The form fields of every call to a route."""
    return [
        {name: values[0] for name, values in parse_qs(call.request.content.decode()).items()} for call in route.calls
    ]


def error(text: str, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json={"error": [text]})


# The error table (3.3), one row after the other. Statuses: Kraken's own 200, and those some clients saw.

STATUSES = [200, 400, 403, 500, 503]
THROTTLED = [
    "EAPI:Rate limit exceeded",
    "EGeneral:Too many requests",
    "EAuth:Rate limit exceeded",
    "EAuth:Too many requests",
]
TRANSIENT = [
    "EService:Unavailable",
    "EService:Busy",
    "EService:Deadline elapsed",
    "EService:Timeout",
    "EGeneral:Internal error",
    "EDatabase:Internal error",
    "EService:Market in cancel_only mode",
    "EService:Market in post_only mode",
]
CREDENTIALS = [
    "EAPI:Invalid key",
    "EAPI:Invalid signature",
    "ESession:Invalid session",
    "EAuth:Account temporary disabled",
    "EAuth:Account unconfirmed",
    "ETrade:User Locked",
    "EGeneral:Permission denied",
    "EAccount:Invalid permissions",
]
OUR_BUG = [
    "EGeneral:Invalid arguments",
    "EGeneral:Invalid arguments:ordertype",
    "EGeneral:Unknown method",
    "EAPI:Bad request",
    "EQuery:Unknown asset pair",
    "EAPI:Feature disabled",
]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("text", THROTTLED)
def test_A7_a_rate_limit_is_waited_out(text: str, status: int) -> None:
    bench = Bench()
    bench.trades.side_effect = [error(text, status), httpx.Response(200, json=GOOD)]
    assert len(bench.read()[0].records) == 1
    assert bench.trades.call_count == 2
    assert bench.waited >= 15 / 0.33


@pytest.mark.parametrize("text", THROTTLED)
def test_A7_a_lasting_rate_limit_becomes_an_appointment_without_more_tries(text: str) -> None:
    bench = Bench()
    bench.trades.mock(return_value=error(text))
    with pytest.raises(RetryLater) as caught:
        bench.read()
    assert caught.value.reason == "rate_limited"
    assert bench.trades.call_count == 2
    assert caught.value.until >= bench.clock.now() + 2 * 15 / 0.33 * SECOND - 1, "doubled"


@pytest.mark.parametrize("tier", ["intermediate", "pro"])
def test_A7_the_wait_doubles_on_repeats(tier: str) -> None:
    bench = Bench(tier=tier)
    at: list[float] = []

    def refuse(_: httpx.Request) -> httpx.Response:
        at.append(bench.waited)
        return error("EAPI:Rate limit exceeded")

    bench.trades.side_effect = refuse
    with pytest.raises(RetryLater):
        bench.read()
    drain = TIERS[tier].ceiling / TIERS[tier].decay_per_second
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert all(gap >= drain * 2**step for step, gap in enumerate(gaps))
    assert len(at) <= 4


def test_A5_http_429_is_a_rate_limit() -> None:
    bench = Bench()
    bench.trades.side_effect = [httpx.Response(429, text=""), httpx.Response(200, json=GOOD)]
    bench.read()
    assert bench.waited >= 15 / 0.33


def test_A5_http_429_with_an_absurd_retry_after_is_an_appointment() -> None:
    bench = Bench()
    bench.trades.respond(429, headers={"Retry-After": "1000000000"})
    with pytest.raises(RetryLater) as caught:
        bench.read()
    assert bench.trades.call_count == 1
    assert caught.value.until == NOW + 86_400 * SECOND
    assert bench.waited == 0


def test_A5_a_503_is_retried_no_earlier_than_asked() -> None:
    bench = Bench()
    bench.trades.side_effect = [
        httpx.Response(503, text="busy", headers={"Retry-After": "25"}),
        httpx.Response(200, json=GOOD),
    ]
    bench.read()
    assert bench.waited >= 25


@pytest.mark.parametrize("spelling", ["EService:Throttled: {}", "EService: Throttled: {}", "EService:Throttled:{}"])
def test_A8_throttled_until_a_time_waits_until_that_time(spelling: str) -> None:
    bench = Bench()
    named = NOW // SECOND + 40
    bench.trades.side_effect = [error(spelling.format(named)), httpx.Response(200, json=GOOD)]
    bench.read()
    assert bench.clock.now() >= named * SECOND
    assert bench.trades.call_count == 2


@pytest.mark.parametrize(("ahead", "until"), [(600, 600), (10**9, 86_400)])
def test_A8_throttled_for_long_is_an_appointment(ahead: int, until: int) -> None:
    bench = Bench()
    bench.trades.mock(return_value=error(f"EService:Throttled: {NOW // SECOND + ahead}"))
    with pytest.raises(RetryLater) as caught:
        bench.read()
    assert NOW + until * SECOND <= caught.value.until <= NOW + until * SECOND + 1
    assert bench.trades.call_count == 1


@pytest.mark.parametrize("text", ["EService:Throttled: 1", "EService:Throttled", "EService:Throttled: soon"])
def test_A8_throttled_without_a_usable_time_ends_after_few_tries(text: str) -> None:
    bench = Bench()
    bench.trades.mock(return_value=error(text))
    with pytest.raises(RetryLater):
        bench.read()
    assert bench.trades.call_count <= 4
    assert bench.waited > 0


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("text", TRANSIENT)
def test_A9_transient_errors_are_tried_four_times(text: str, status: int) -> None:
    bench = Bench()
    bench.trades.side_effect = [error(text, status)] * 3 + [httpx.Response(200, json=GOOD)]
    assert len(bench.read()[0].records) == 1
    assert bench.trades.call_count == 4

    bench = Bench()
    bench.trades.mock(return_value=error(text, status))
    with pytest.raises(Unavailable):
        bench.read()
    assert bench.trades.call_count == 4


@pytest.mark.parametrize(
    "answer",
    [
        *(
            httpx.Response(status, html=f"<html><head><title>{status}</title></head></html>")
            for status in (404, 408, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525)
        ),
        httpx.Response(504, text="error code: 504"),
        httpx.Response(200, content=b""),
        httpx.Response(200, content=b"", headers={"content-type": "application/json"}),
        httpx.ReadTimeout("slow"),
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("cut"),
    ],
    ids=str,
)  # fmt: skip
def test_A9_http_trouble_is_transient(answer: httpx.Response | Exception) -> None:
    bench = Bench()
    bench.trades.side_effect = [answer] * 3 + [httpx.Response(200, json=GOOD)]
    assert len(bench.read()[0].records) == 1

    bench = Bench()
    bench.trades.side_effect = [answer] * 9
    with pytest.raises(Unavailable):
        bench.read()
    assert bench.trades.call_count == 4


@pytest.mark.parametrize("status", [401, 403])
def test_a_proxy_s_403_says_nothing_about_the_key(status: int) -> None:
    bench = Bench()
    bench.trades.respond(status, html="<html>Attention Required! | Cloudflare</html>")
    with pytest.raises(Unavailable):
        bench.read()


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [{}, {"error": []}, {"message": "no"}, {"error": ["EWeird:New text"]}])
def test_C7_a_401_or_403_in_json_is_about_the_key(status: int, body: dict[str, Any]) -> None:
    bench = Bench()
    bench.trades.respond(status, json=body)
    with pytest.raises(AuthFailed):
        bench.read()
    assert bench.trades.call_count == 1


@pytest.mark.parametrize("status", [400, 402, 405, 409, 410, 413, 418, 422, 451])
def test_A10_other_4xx_are_not_tried_again(status: int) -> None:
    bench = Bench()
    bench.trades.respond(status, text="no")
    with pytest.raises(Rejected):
        bench.read()
    assert bench.trades.call_count == 1


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("text", CREDENTIALS)
def test_C7_credential_errors_cause_exactly_one_call(text: str, status: int) -> None:
    bench = Bench()
    bench.trades.mock(return_value=error(text, status))
    with pytest.raises(AuthFailed) as caught:
        bench.read()
    assert bench.trades.call_count == 1
    assert caught.value.sentence
    assert caught.value.action


@pytest.mark.parametrize("text", ["EGeneral:Permission denied", "EAccount:Invalid permissions"])
def test_C7_a_missing_permission_is_named(text: str) -> None:
    bench = Bench()
    bench.trades.mock(return_value=error(text))
    with pytest.raises(AuthFailed, match="query-closed-trades"):
        bench.read()


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("text", OUR_BUG)
def test_our_own_mistakes_cause_exactly_one_call(text: str, status: int) -> None:
    bench = Bench()
    bench.trades.mock(return_value=error(text, status))
    with pytest.raises(Rejected):
        bench.read()
    assert bench.trades.call_count == 1


@pytest.mark.parametrize("status", STATUSES)
def test_C8_a_lockout_means_no_calls_for_a_quarter_of_an_hour(status: int) -> None:
    bench = Bench()
    bench.trades.mock(return_value=error("EGeneral:Temporary lockout", status))
    with pytest.raises(RetryLater) as caught:
        bench.read()
    assert caught.value.until >= NOW + 900 * SECOND
    for _ in range(3):
        bench.clock.advance(299)
        with pytest.raises(RetryLater):
            bench.connector.check(inspect=True)
        with pytest.raises(RetryLater):
            bench.read()
    assert (bench.trades.call_count, bench.status.call_count, bench.info.call_count) == (1, 0, 0)
    bench.clock.advance(4)
    bench.trades.mock(return_value=httpx.Response(200, json=GOOD))
    assert bench.read()


def test_C9_a_refused_nonce_is_tried_once_more_with_a_higher_one() -> None:
    bench = Bench()
    bench.trades.side_effect = [error("EAPI:Invalid nonce"), httpx.Response(200, json=GOOD)]
    assert bench.read()
    first, second = (int(form["nonce"]) for form in sent(bench.trades))
    assert second > first


def test_C9_a_nonce_refused_twice_is_a_shared_key() -> None:
    bench = Bench()
    bench.trades.mock(return_value=error("EAPI:Invalid nonce"))
    with pytest.raises(AuthFailed, match="another program uses the same API key, or a clock was wrong"):
        bench.read()
    assert bench.trades.call_count == 2


def test_a_report_not_ready_is_fetched_later() -> None:
    bench = Bench()
    bench.trades.mock(return_value=error("EExport:Not ready"))
    with pytest.raises(RetryLater) as caught:
        bench.read()
    assert caught.value.reason == "report_not_ready"
    assert bench.trades.call_count == 1


def test_an_unknown_error_is_tried_a_few_times_and_reported() -> None:
    bench = Bench()
    bench.trades.mock(return_value=error("EFuture:Never heard of"))
    with pytest.raises(Unavailable, match="EFuture:Never heard of"):
        bench.read()
    assert 2 <= bench.trades.call_count <= 4


def test_a_warning_beside_a_result_is_accepted_and_the_first_error_counts() -> None:
    bench = Bench()
    bench.trades.respond(json={**GOOD, "error": ["WGeneral:example warning"]})
    assert len(bench.read()[0].records) == 1
    bench.trades.respond(json={"error": ["WGeneral:x", "EAPI:Invalid key", "EService:Busy"]})
    with pytest.raises(AuthFailed):
        bench.read()


@pytest.mark.parametrize(
    "body",
    [{"error": []}, {"error": [], "result": None}, {"error": [], "result": {}}, {"error": [], "result": []},
     {"error": [], "result": {"trades": None, "count": 0}}, {"error": [], "result": {"trades": [], "count": 0}}, [], 1],
)  # fmt: skip
def test_A11_success_without_trades_is_never_an_empty_account(body: Any) -> None:
    bench = Bench()
    bench.trades.respond(json=body)
    with pytest.raises(Unavailable):
        bench.read()
    assert bench.trades.call_count == 4


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (json.dumps(GOOD).encode(), "text/html"),
        (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "application/json"),
        (json.dumps(GOOD).encode("utf-16"), "application/json"),
        (json.dumps(GOOD).encode(), "application/json; charset=iso-8859-1"),
        (b"<!doctype html><title>Just a moment</title>", "application/json"),
    ],
)
def test_A11_another_document_is_never_data(content: bytes, content_type: str) -> None:
    bench = Bench()
    bench.trades.respond(content=content, headers={"content-type": content_type})
    with pytest.raises(Unavailable):
        bench.read()


def test_A12_a_page_cut_at_any_byte_is_not_read() -> None:
    body = json.dumps(GOOD).encode()
    bench = Bench(attempts=1, tier="pro")
    for cut in range(len(body)):
        bench.trades.respond(content=body[:cut], headers={"content-type": "application/json"})
        with pytest.raises(Unavailable):
            bench.read()


# Signing and nonces: sections 2.1 and 2.2.


def test_the_official_signature_vector() -> None:
    secret = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    body = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
    signed = sign(base64.b64decode(secret), "/0/private/AddOrder", "1616492376594", body)
    assert signed == "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="


def test_a_request_is_a_signed_form_with_whole_seconds_rounded_outwards() -> None:
    bench = Bench(auth=AUTH.model_copy(update={"otp": "one-time-password"}))
    list(bench.connector.fetch(Window(start=1_700_000_000_900, end=1_700_000_100_100)))
    (form,) = sent(bench.trades)
    assert form == {
        "nonce": str(NOW * 1_000_000),
        "start": "1700000000",
        "end": "1700000101",
        "ofs": "0",
        "otp": "one-time-password",
    }
    request = bench.trades.calls[0].request
    assert request.headers["API-Key"] == AUTH.api_key
    assert request.headers["User-Agent"].startswith("trade-sync-worker")


def test_the_first_read_has_no_start() -> None:
    bench = Bench()
    list(bench.connector.fetch(Window(start=0, end=NOW)))
    assert "start" not in sent(bench.trades)[0]


def test_C9_nonces_rise_whatever_the_clock_and_the_threads_do() -> None:
    clock = VirtualClock(NOW)
    nonces = Nonces(clock)
    seen: list[int] = []

    def use(step: int) -> None:
        for turn in range(1250):
            clock.step(3600 if (turn + step) % 2 else -3600)
            with nonces.next() as nonce:
                seen.append(nonce)

    threads = [threading.Thread(target=use, args=(step,)) for step in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 10_000
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))


def test_C9_nonces_stay_above_what_kraken_has_seen() -> None:
    bench = Bench()
    ahead = (NOW + 3_600_000) * 1_000_000
    bench.info.respond(json=key_info(nonce=str(ahead)))
    bench.connector.check(inspect=True)
    bench.read()
    assert int(sent(bench.trades)[0]["nonce"]) > ahead


@pytest.mark.parametrize(
    "auth", [AUTH.model_copy(update={"api_secret": "half of it"}), AUTH.model_copy(update={"api_key": "kéy"})]
)
def test_credentials_that_cannot_be_real_cause_no_call(auth: KrakenAuth) -> None:
    bench = Bench(auth=auth)
    with pytest.raises(AuthFailed):
        bench.read()
    assert bench.trades.call_count == 0


# Status and key inspection: sections 2.3 and 3.4.


@pytest.mark.parametrize("status", ["online", "cancel_only", "post_only", "limit_only", "something_new"])
def test_only_maintenance_is_a_reason_not_to_read(status: str) -> None:
    bench = Bench()
    bench.status.respond(json=system_status(status))
    assert bench.connector.check(inspect=False).now == NOW


def test_a_quiet_sync_is_two_calls() -> None:
    bench = Bench()
    bench.connector.check(inspect=False)
    bench.read()
    assert sum(route.call_count for route in bench.router.routes) == 2


@pytest.mark.parametrize("timestamp", [None, "", "yesterday", "2026-09-21T14:13:20", 17])
def test_C12_without_a_usable_timestamp_the_time_is_asked_for(timestamp: Any) -> None:
    bench = Bench()
    bench.status.respond(json=system_status("online", timestamp))
    bench.router.get("/0/public/Time").respond(
        json={"error": [], "result": {"unixtime": 1_790_000_077, "rfc1123": "Mon, 21 Sep 26 14:14:37 +0000"}}
    )
    assert bench.connector.check(inspect=False).now == 1_790_000_077_000


def test_C4_maintenance_is_waited_for_until_its_announced_end() -> None:
    bench = Bench()
    bench.clock.step(-600)  # the worker's clock is ten minutes slow; Kraken's end is by Kraken's clock
    bench.status.respond(json=system_status("maintenance"))
    bench.router.get("/0/public/MaintenanceSchedule").respond(
        json={
            "error": [],
            "result": {
                "events": [
                    {"expected_start_utc": "2026-09-20T09:00:00Z", "expected_end_utc": "2026-09-20T10:00:00Z"},
                    {"expected_start_utc": "2026-09-21T14:00:00Z", "expected_end_utc": "2026-09-21T15:00:00Z"},
                ]
            },
        }
    )
    with pytest.raises(RetryLater) as caught:
        bench.connector.check(inspect=False)
    assert caught.value.reason == "maintenance"
    assert caught.value.until - bench.clock.now() == (46 * 60 + 40) * SECOND


@pytest.mark.parametrize(
    "schedule",
    [
        httpx.Response(200, json={"error": ["EGeneral:Unknown method"]}),
        httpx.Response(200, json={"error": [], "result": {"events": []}}),
        httpx.Response(200, json={"error": [], "result": {"events": [None, {}, {"expected_start_utc": 1}]}}),
        httpx.Response(502, text="bad gateway"),
    ],
)
def test_C5_maintenance_without_a_known_end_is_looked_at_again_in_a_quarter_of_an_hour(
    schedule: httpx.Response,
) -> None:
    bench = Bench(attempts=1)
    bench.status.respond(json=system_status("maintenance"))
    bench.router.get("/0/public/MaintenanceSchedule").mock(return_value=schedule)
    with pytest.raises(RetryLater) as caught:
        bench.connector.check(inspect=False)
    assert caught.value.until == NOW + 900 * SECOND


def snake(info: dict[str, Any]) -> dict[str, Any]:
    names = {
        "apiKeyName": "api_key_name", "apiKey": "api_key", "nonceWindow": "nonce_window", "validUntil": "valid_until",
        "queryFrom": "query_from", "queryTo": "query_to", "createdTime": "created_time",
        "modifiedTime": "modified_time", "ipAllowlist": "ip_allowlist", "lastUsed": "last_used",
    }  # fmt: skip
    return {**info, "result": {names.get(name, name): value for name, value in info["result"].items()}}


@pytest.mark.parametrize("spelled", [lambda info: info, snake], ids=["camel", "snake"])
def test_a_read_only_key_is_accepted_and_names_its_account(spelled: Callable[[Any], Any]) -> None:
    bench = Bench()
    bench.info.respond(json=spelled(key_info()))
    standing = bench.connector.check(inspect=True)
    assert (standing.account_ref, standing.notices) == ("AA11 N84G TEST 0001", ())
    assert bench.trades.call_count == 0


@pytest.mark.parametrize("spelled", [lambda info: info, snake], ids=["camel", "snake"])
def test_F6_a_key_that_can_do_harm_is_refused_and_says_what_to_untick(spelled: Callable[[Any], Any]) -> None:
    bench = Bench()
    granted = ["query-closed-trades", "query-ledger", "withdraw-funds", "modify-trades", "add-withdraw-address"]
    bench.info.respond(json=spelled(key_info(permissions=granted)))
    with pytest.raises(AuthFailed) as caught:
        bench.connector.check(inspect=True)
    for name in ("withdraw-funds", "modify-trades", "add-withdraw-address"):
        assert f"({name})" in caught.value.sentence
    for name in ("query-ledger", "close-trades", "earn-funds"):
        assert name not in caught.value.sentence


@pytest.mark.parametrize(
    "permission",
    [
        "modify-trades",
        "close-trades",
        "withdraw-funds",
        "add-funds",
        "earn-funds",
        "add-withdraw-address",
        "update-withdraw-address",
    ],
)
def test_F6_each_harmful_permission_is_reason_enough(permission: str) -> None:
    bench = Bench()
    bench.info.respond(json=key_info(permissions=["query-closed-trades", permission]))
    with pytest.raises(AuthFailed, match=permission):
        bench.connector.check(inspect=True)


def test_a_key_that_cannot_read_trades_is_refused() -> None:
    bench = Bench()
    bench.info.respond(json=key_info(permissions=["query-ledger"]))
    with pytest.raises(AuthFailed, match="query-closed-trades"):
        bench.connector.check(inspect=True)


def test_an_unknown_permission_is_a_notice() -> None:
    bench = Bench()
    bench.info.respond(json=key_info(permissions=["query-closed-trades", "create-ws-token", "brew-coffee"]))
    (notice,) = bench.connector.check(inspect=True).notices
    assert "brew-coffee" in notice
    assert "create-ws-token" not in notice


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("validUntil", NOW // SECOND + 13 * 86_400, "ends on 2026-10-04"),
        ("queryFrom", "1735689600", "from 2025-01-01"),
        ("queryTo", 1_735_689_600, "until 2025-01-01"),
    ],
)
def test_limits_of_a_key_are_notices(field: str, value: Any, words: str) -> None:
    bench = Bench()
    bench.info.respond(json=key_info(**{field: value}))
    (notice,) = bench.connector.check(inspect=True).notices
    assert words in notice


def test_a_key_that_ends_far_ahead_is_no_news_and_one_that_ended_is_refused() -> None:
    bench = Bench()
    bench.info.respond(json=key_info(validUntil=str(NOW // SECOND + 15 * 86_400)))
    assert bench.connector.check(inspect=True).notices == ()
    bench.info.respond(json=key_info(validUntil=str(NOW // SECOND)))
    with pytest.raises(AuthFailed, match="ended on 2026-09-21"):
        bench.connector.check(inspect=True)


@pytest.mark.parametrize("answer", [error("EGeneral:Unknown method"), error("EAPI:Feature disabled"),
                                    httpx.Response(200, json={"error": [], "result": {"iban": "x"}})])  # fmt: skip
def test_where_the_key_cannot_be_inspected_a_probe_proves_that_it_works(answer: httpx.Response) -> None:
    bench = Bench()
    bench.info.mock(return_value=answer)
    standing = bench.connector.check(inspect=True)
    assert standing.account_ref is None
    assert "Query closed orders & trades" in standing.notices[0]
    (form,) = sent(bench.trades)
    assert (form["start"], form["end"]) == ("0", "0")


def test_C7_a_wrong_key_is_called_with_once_in_a_check() -> None:
    bench = Bench()
    bench.info.mock(return_value=error("EAPI:Invalid key"))
    with pytest.raises(AuthFailed):
        bench.connector.check(inspect=True)
    assert (bench.info.call_count, bench.trades.call_count) == (1, 0)


# Against the simulator: paging, pacing, secrets


class World:
    """A simulator and connectors to it, on one virtual clock."""

    def __init__(self, *, cut_pages: int = 64, **setup: Any) -> None:
        self.cut_pages = cut_pages
        self.clock = VirtualClock(NOW)
        self.kraken = KrakenSimulator(self.clock, Setup(**{"tier": "pro", "end": NOW - 3_600_000, **setup}))
        self.before_call: Callable[[int], None] = lambda _: None
        self.nonces = Nonces(self.clock)

    @property
    def calls(self) -> list[Any]:
        return [call for call in self.kraken.audit.calls if call.path.endswith("TradesHistory")]

    def connector(self, tier: str | None = None) -> KrakenConnector:
        inner = self.kraken.transport()
        turns = iter(range(1_000_000))

        def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("TradesHistory"):
                self.before_call(next(turns))
            return inner.handle_request(request)

        limits = TIERS[tier or self.kraken.setup.tier]
        return KrakenConnector(
            KrakenAuth(kind="kraken", api_key=self.kraken.key.key, api_secret=self.kraken.key.secret),
            clock=self.clock,
            nonces=self.nonces,
            counter=DecayingCounter(limits.ceiling, limits.decay_per_second, self.clock),
            transport=httpx.MockTransport(handle),
            cut_pages=self.cut_pages,
        )

    def truth(self, window: Window) -> set[str]:
        """Fills that REST shows by now in the window."""
        return {
            row["txid"]
            for row in self.kraken.oracle()
            if row["visible"] and window.start < Decimal(row["time"]) * 1000 <= window.end
        }


def ids(pages: list[Page]) -> list[str]:
    return [record["txid"] for page in pages for record in page.records]


def covered(pages: list[Page]) -> list[tuple[int, int]]:
    return sorted((page.drained.start, page.drained.end) for page in pages if page.drained)


ALL = Window(start=0, end=NOW)


def read_all(connector: KrakenConnector, window: Window = ALL, resume: str | None = None) -> list[Page]:
    return list(connector.fetch(window, resume))


@pytest.mark.parametrize("trades", [0, 1, 49, 50, 51, 149, 150])
def test_all_trades_are_read_newest_first_and_only_the_last_page_drains(trades: int) -> None:
    world = World(trades=trades)
    pages = read_all(world.connector())
    assert sorted(ids(pages)) == sorted(world.truth(ALL))
    assert covered(pages) == [(0, NOW)]
    assert pages[-1].drained == ALL
    # One call for each page of fifty; a full last page needs one more to see that it was the last (1.5 step 4).
    assert len(world.calls) == trades // 50 + 1
    for page in pages:
        keys = [(record["time"], record["txid"]) for record in page.records]
        assert keys == sorted(keys)


@pytest.mark.parametrize("quirks", [Quirks(count="string"), Quirks(count="missing"), Quirks(shuffled=True),
                                    Quirks(string_times=True), Quirks(unknown_fields={"x": 1}),
                                    Quirks(count_off_by=-7)])  # fmt: skip
def test_B2_quirks_of_kraken_s_answers_change_nothing(quirks: Quirks) -> None:
    world = World(trades=130)
    world.kraken.quirks = quirks
    pages = read_all(world.connector())
    assert sorted(ids(pages)) == sorted(world.truth(ALL))
    assert covered(pages) == [(0, NOW)]


def test_B1_a_repeated_page_is_noticed_and_read_past() -> None:
    bench = Bench(tier="pro")
    first = page_of(range(100, 50, -1), count=70)
    rest = page_of(range(50, 30, -1), count=70)
    bench.trades.side_effect = [first, first, first, rest]
    pages = bench.read()
    assert len(set(ids(pages))) == 70
    assert [page.drained for page in pages] == [None, None, None, WINDOW]


def page_of(numbers: range, count: int | None) -> httpx.Response:
    trades = {f"T{number:05}-AAAAA-AAAAAA": {**ROW, "time": 1_789_990_000 + number} for number in numbers}
    return httpx.Response(200, json={"error": [], "result": {"trades": trades, "count": count}})


def test_B5_more_counted_than_handed_out_is_never_covered() -> None:
    world = World(trades=130)
    world.kraken.quirks = Quirks(count_off_by=1)
    pages: list[Page] = []
    with pytest.raises(IncompleteReport, match=r"131 trades.*130"):
        pages.extend(world.connector().fetch(ALL))  # keeps what was yielded before the failure
    assert set(ids(pages)) == world.truth(ALL), "the rows are kept"
    assert covered(pages) == []
    assert len(world.calls) == 8, "three pages and an empty one, walked twice"


def test_B5_a_page_short_once_in_mid_list_is_read_past() -> None:
    world = World(trades=130)
    world.kraken.quirks = Quirks(short_page_at=50, short_page_rows=47, short_page_times=1)
    pages = read_all(world.connector())
    assert set(ids(pages)) == world.truth(ALL)
    assert pages[-1].drained == ALL


def test_B5_a_page_empty_once_in_mid_list_is_walked_again() -> None:
    world = World(trades=130)
    world.kraken.quirks = Quirks(short_page_at=50, short_page_rows=0, short_page_times=1)
    pages = read_all(world.connector())
    assert set(ids(pages)) == world.truth(ALL)
    assert pages[-1].drained == ALL


@pytest.mark.parametrize("count", ["int", "missing"])
def test_B5_pages_without_an_end_are_an_error_not_a_silence(count: Any) -> None:
    world = World(trades=130)
    world.kraken.quirks = Quirks(endless_pages=True, count_off_by=10_000, count=count)
    pages: list[Page] = []
    with pytest.raises(IncompleteReport) as caught:
        pages.extend(world.connector().fetch(ALL))
    assert caught.value.code == "kraken_endless"
    assert covered(pages) == []
    assert len(world.calls) < 20


def test_B5_ever_new_pages_end_at_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kraken_walk, "PAGE_CAP", 5)
    bench = Bench(tier="pro")
    numbers = iter(range(100_000, 0, -50))
    bench.trades.side_effect = lambda _: page_of(range(first := next(numbers), first - 50, -1), count=None)
    with pytest.raises(IncompleteReport) as caught:
        bench.read()
    assert caught.value.code == "kraken_endless"
    assert bench.trades.call_count == 5


def test_B6_two_fills_alike_to_the_digit_are_two_rows() -> None:
    world = World(trades=0)
    world.kraken.book(
        NewFill(
            count=2,
            pair="XXBTZUSD",
            type="buy",
            price=Decimal(60000),
            vol=Decimal("0.1"),
            time=Decimal(NOW - 5000) / 1000,
        )
    )
    (page,) = read_all(world.connector())
    one, two = page.records
    assert one["txid"] != two["txid"]
    assert {**one, "txid": "", "trade_id": 0} == {**two, "txid": "", "trade_id": 0}


def test_B12_a_row_that_is_no_object_is_passed_on_for_the_normaliser_to_judge() -> None:
    bench = Bench()
    bench.trades.respond(json={"error": [], "result": {"trades": {"TA": None, "TB": ROW, "TC": "x"}, "count": 3}})
    (page,) = bench.read()
    assert {record["txid"] for record in page.records} == {"TA", "TB", "TC"}
    assert page.drained == WINDOW


@settings(max_examples=200, deadline=None)
@given(
    trades=st.integers(0, 170),
    moments=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 99), st.integers(1, 60)), max_size=2),
    cut=st.booleans(),
)
def test_B3_a_trade_that_arrives_at_any_moment_of_a_read_is_never_covered_unread(
    trades: int, moments: list[tuple[int, int, int]], cut: bool
) -> None:
    """(before which call, where in the history in percent, how many at once), up to two arrivals."""
    world = World(trades=trades, years=1.0, cut_pages=2 if cut else 64)
    oldest = NOW - int(1.1 * 365 * 86_400 * SECOND)
    shown: list[list[tuple[str, Decimal]]] = []

    def arrive(call: int) -> None:
        for at, percent, count in moments:
            if at == call:
                time = Decimal(oldest + (NOW - oldest) * percent // 100) / 1000
                world.kraken.book(NewFill(count=count, time=time))
        shown.append([(row["txid"], Decimal(row["time"]) * 1000) for row in world.kraken.oracle()])

    def shown_between(start: int, end: int, call: int) -> set[str]:
        """What Kraken had to show in a part of the window when a call was made."""
        return {txid for txid, time in shown[call] if start < time <= end}

    world.before_call = arrive
    read: set[str] = set()
    drained: list[tuple[int, int]] = []
    complete = True
    try:
        for page in world.connector().fetch(ALL):
            read |= set(ids([page]))
            if page.drained:
                drained.append((page.drained.start, page.drained.end))
                # A cut part was last looked at by the call before the one that proves it; what is booked into it
                # in between is as late as anything booked after a read, and found by the next re-read.
                border = min(int(world.calls[-1].params["end"]) * 1000, page.drained.end)
                assert shown_between(page.drained.start, border, -1) <= read
                assert border == page.drained.end or shown_between(border, page.drained.end, -2) <= read
    except IncompleteReport:
        complete = False
    assert not complete or (min(drained)[0], max(drained)[1]) == (0, NOW)
    assert complete or len(moments) == 2, "one arrival never makes a read fail"
    assert len(world.calls) < 40

    # The next sync reads what is not covered, and the margin before it.
    world.before_call = lambda _: None
    world.clock.advance(900)
    again = Window(start=0, end=world.clock.now())
    assert read | set(ids(read_all(world.connector(), again))) == world.truth(again)


def test_B3_new_trades_beyond_the_frozen_end_do_not_disturb() -> None:
    world = World(trades=120)

    def trade_on(_: int) -> None:
        world.clock.advance(2)
        world.kraken.book(NewFill(count=60))

    world.before_call = trade_on
    pages = read_all(world.connector())
    assert len(ids(pages)) == 120
    assert len(world.calls) == 3


def test_B4_a_trade_booked_late_is_found_when_its_time_is_read_again() -> None:
    world = World(trades=10)
    world.kraken.book(NewFill(ago_seconds=300, visible_in_seconds=120))
    first = ids(read_all(world.connector()))
    world.clock.advance(900)
    overlap = Window(start=NOW - 3_600_000, end=world.clock.now())
    (late,) = ids(read_all(world.connector(), overlap))
    assert late not in first


def test_B20_a_long_window_is_cut_so_that_coverage_grows() -> None:
    world = World(trades=1000, cut_pages=4)
    read: set[str] = set()
    end = NOW
    for page in world.connector().fetch(ALL):
        read |= set(ids([page]))
        if page.drained:
            assert page.drained.end == end, "one piece after the other, from the newest"
            assert world.truth(page.drained) <= read
            end = page.drained.start
        assert page.total in (None, 1000)
    largest_ofs = max(int(call.params["ofs"]) for call in world.calls)
    assert end == 0
    assert read == world.truth(ALL)
    assert largest_ofs <= 250
    # Each cut reads again the few trades of its border second: at most one page more than 21 in all for each.
    assert len(world.calls) <= 21 + 5


def test_B20_a_crowded_second_is_never_cut_through() -> None:
    world = World(trades=60, cut_pages=2)
    world.kraken.book(NewFill(count=260, time=Decimal(NOW - 5_000) / 1000 + Decimal("0.5")))
    pages = read_all(world.connector())
    assert set(ids(pages)) == world.truth(ALL)
    read: set[str] = set()
    for page in pages:
        read |= set(ids([page]))
        assert page.drained is None or world.truth(page.drained) <= read


@pytest.mark.parametrize("cut_pages", [64, 3])
def test_B20_a_read_killed_at_any_page_goes_on_behind_it(cut_pages: int) -> None:
    world = World(trades=420, cut_pages=cut_pages)
    unkilled = len(read_all(world.connector()))
    for killed_after in range(1, unkilled):
        world.kraken.audit.calls.clear()
        world.clock.advance(60)
        reading = world.connector().fetch(ALL)
        pages = [next(reading) for _ in range(killed_after)]
        # What the sync layer keeps: the part of the window that is left, and the bookmark for it.
        drained = covered(pages)
        left = Window(start=0, end=drained[0][0] if drained else NOW)
        pages += read_all(world.connector(), left, pages[-1].resume)
        assert set(ids(pages)) == world.truth(ALL)
        assert sum(end - start for start, end in covered(pages)) == NOW
        assert len(world.calls) <= unkilled + 2, "not from the start"
        positions = [(call.params["end"], call.params["ofs"]) for call in world.calls]
        assert len(set(positions)) == len(positions), "no page twice"


def test_B3_a_trade_booked_late_between_a_kill_and_the_restart_is_read() -> None:
    world = World(trades=220)
    reading = world.connector().fetch(ALL)
    pages = [next(reading) for _ in range(2)]
    (late,) = world.kraken.book(NewFill(ago_seconds=120))
    pages += read_all(world.connector(), ALL, pages[-1].resume)
    assert late.txid in ids(pages)
    assert set(ids(pages)) == world.truth(ALL)
    assert pages[-1].drained == ALL


@pytest.mark.parametrize("token", ["", "{", "null", "[]", '{"start":0}', '{"start":0,"end":1,"ofs":50}'])
def test_D10_a_bookmark_of_another_window_or_of_garbage_is_ignored(token: str) -> None:
    world = World(trades=60)
    assert set(ids(read_all(world.connector(), ALL, token))) == world.truth(ALL)


def test_5000_trades_on_starter_take_the_time_the_reference_allows() -> None:
    world = World(trades=5000, tier="starter")
    connector = world.connector()
    connector.check(inspect=True)
    began = world.clock.monotonic()
    pages = read_all(connector)
    assert set(ids(pages)) == world.truth(ALL)
    assert not [call for call in world.kraken.audit.calls if call.breach]
    # T_min = (2·P − C) / d with P = 100, C = 15, d = 0.33 (3.2): 560.6 s.
    assert world.clock.monotonic() - began <= 1.05 * (2 * 100 - 15) / 0.33


def test_I5_a_restarted_process_does_not_spend_what_its_predecessor_spent() -> None:
    world = World(trades=2000, tier="starter")
    resume = None
    for _ in range(8):
        reading = world.connector().fetch(ALL, resume)
        resume = [next(reading) for _ in range(3)][-1].resume
    assert not [call for call in world.kraken.audit.calls if call.breach]


def test_F1_F2_no_secret_gets_out_when_kraken_echoes_it(capsys: pytest.CaptureFixture[str]) -> None:
    canary = "canary-9f3b1c77e0"
    log.protect(canary)
    world = World(trades=1)
    secrets = (canary, world.kraken.key.key, world.kraken.key.secret)
    for fault in (
        Fault(echo=canary, times=None),
        Fault(error=f"EWeird:{canary} {world.kraken.key.key}", times=None),
        Fault(error=f"EGeneral:Invalid arguments:{world.kraken.key.secret}", times=None),
        Fault(body=f"<html>{canary} {world.kraken.key.key}", times=None),
        Fault(html=True, status=403, times=None),
    ):
        world.kraken.faults.clear()
        world.kraken.faults.plant(fault)
        with pytest.raises(Failure) as caught:
            read_all(world.connector())
        out = "".join((str(caught.value), repr(caught.value), caught.value.detail, *capsys.readouterr()))
        assert not [secret for secret in secrets if secret in out]


def test_F6_only_reads_are_ever_called() -> None:
    world = World(trades=60)
    connector = world.connector()
    connector.check(inspect=True)
    read_all(connector)
    connector.fetch_pairs()
    allowed = {f"/0/{read.access}/{endpoint}" for endpoint, read in READS.items()}
    assert {call.path for call in world.kraken.audit.calls} <= allowed
    assert not [call for call in world.kraken.audit.calls if call.forbidden or call.breach]
    with pytest.raises(KeyError):
        connector._call("AddOrder")  # type: ignore[arg-type]


def test_A13_a_redirect_gets_no_credentials() -> None:
    world = World(trades=1)
    world.kraken.faults.plant(Fault(path="TradesHistory", redirect="https://elsewhere.example/"))
    with pytest.raises(Rejected):
        read_all(world.connector())
    assert {urlsplit(f"//{call.host}").hostname for call in world.kraken.audit.calls} == {"api.kraken.com"}


def test_a_key_cut_in_time_is_told() -> None:
    world = World(trades=60)
    world.kraken.change_key(KeyChange(query_from=NOW // SECOND - 86_400))
    assert world.connector().check(inspect=True).notices


def test_fetch_pairs_has_currencies_and_tokenised_assets() -> None:
    world = World()
    raw = world.connector().fetch_pairs()
    assert raw.pairs["XXBTZUSD"]["base"] == "XXBT"
    assert raw.pairs["AAPLxUSD"]["aclass_base"] == "tokenized_asset"
    assert raw.assets["ZUSD"]["altname"] == "USD"
    assert "AAPLx" in raw.assets


def test_fetch_pairs_does_without_tokenised_assets_where_kraken_has_none() -> None:
    bench = Bench()
    plain = {"error": [], "result": {"XXBTZUSD": {"base": "XXBT", "quote": "ZUSD"}}}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=plain) if not request.url.query else error("EGeneral:Invalid arguments:aclass")

    bench.router.get(path__regex=r"/0/public/Asset").mock(side_effect=answer)
    assert set(bench.connector.fetch_pairs().pairs) == {"XXBTZUSD"}


def test_threads_share_one_key_without_a_refused_nonce() -> None:
    world = World(trades=60)
    failures: list[BaseException] = []
    connectors = [world.connector() for _ in range(6)]

    def work(connector: KrakenConnector) -> None:
        try:
            for _ in range(5):
                world.clock.step(-3600)
                read_all(connector)
                world.clock.step(3600)
        except BaseException as caught:  # noqa: BLE001 - reported by the assertion below
            failures.append(caught)

    threads = [threading.Thread(target=work, args=(connector,)) for connector in connectors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [call.outcome for call in world.kraken.audit.calls if "nonce" in call.outcome]
    assert (failures, refused) == ([], [])


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield
