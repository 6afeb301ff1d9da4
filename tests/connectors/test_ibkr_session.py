"""The session of Interactive Brokers, row by row: reference ibkr 2.3 and 2.4, through the connector and its job's end.

For each row: the state, the calls made, the job's status and the sentence a person reads.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import respx

from sandbox.clock import VirtualClock
from worker.connectors.ibkr_doors import GatewayDoor
from worker.connectors.ibkr_live import IbkrLiveConnector
from worker.connectors.ibkr_login import PENALTY_SECONDS, READS, Login
from worker.connectors.ibkr_session import STATES, meaning_of, read_status
from worker.errors import AuthFailed, Failure, Rejected, RetryLater, Unavailable
from worker.http import Http
from worker.models import Page, Window
from worker.retry import RetryBudget, RetryPolicy
from worker.sync import judge

GATEWAY = "https://localhost:5000"
ACCOUNT = "U7770001"
NOON = 1_789_488_000_000  # 2026-09-15T16:00:00Z, a Tuesday noon in New York: no reset anywhere in America
MINUTE = 60_000
WINDOW = Window(start=NOON - 6 * 24 * 60 * MINUTE, end=NOON)
LOG_IN = f"Log in to the Interactive Brokers gateway at {GATEWAY}. The import then goes on by itself."

ROW = {
    "execution_id": "0000f1a2.68c7d001.01.01",
    "symbol": "KO",
    "side": "B",
    "trade_time": "20260915-14:30:05",
    "trade_time_r": 1_789_482_605_000,
    "size": 12.0,
    "price": "71.15",
    "commission": "1.0",
    "net_amount": 853.8,
    "account": ACCOUNT,
    "accountCode": ACCOUNT,
    "sec_type": "STK",
    "conid": 8894,
}
ACCOUNTS = {"accounts": [ACCOUNT], "aliases": {ACCOUNT: "Retirement"}, "selectedAccount": ACCOUNT}


def status(authenticated: bool, connected: bool, competing: bool) -> dict[str, Any]:
    return {"authenticated": authenticated, "connected": connected, "competing": competing, "MAC": "00:11:22:33:44:55"}


READY = status(True, True, False)
LOGGED_OUT = status(False, False, False)
LOST = status(False, True, False)


def tickle(inner: dict[str, Any]) -> dict[str, Any]:
    return {
        "session": "5e55", "ssoExpires": 1, "collission": False, "userId": 7, "hmds": {"error": "no bridge"},
        "iserver": {"authStatus": inner},
    }  # fmt: skip


@dataclass
class Bench:
    """A connector behind a gateway that answers as scripted; the last answer of a script stays."""

    attempts: int = 4
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(NOON))
    calls: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    scripts: dict[str, list[Any]] = field(default_factory=dict)
    account: str | None = ACCOUNT
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.router = respx.Router(assert_all_called=False, base_url=GATEWAY)
        for name, read in READS.items():
            self.router.route(method=read.method, path=f"/v1/api{read.path}").mock(
                side_effect=lambda request, name=name: self._answer(name, request)
            )
        defaults = {"status": READY, "init": READY, "tickle": tickle(READY), "accounts": ACCOUNTS, "trades": [ROW]}
        self.scripts = {**{name: [answer] for name, answer in defaults.items()}, **self.scripts}
        http = Http(
            GATEWAY, self.clock, kind="ibkr", transport=httpx.MockTransport(self.router.handler), redirects="answer"
        )
        self.login = Login(http, GatewayDoor(GATEWAY), self.clock)
        self.connector = IbkrLiveConnector(
            self.login,
            account=self.account,
            taken=self.others,
            region="america",
            clock=self.clock,
            now=self.clock.now,
            budget=RetryBudget(floor=1000),
            policy=RetryPolicy(attempts=self.attempts),
        )

    def _answer(self, name: str, request: httpx.Request) -> httpx.Response:
        self.calls.append(name)
        self.bodies.append(request.content)
        script = self.scripts[name]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, type):
            raise answer("scripted")
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def job(self) -> list[Page]:
        self.connector.check(inspect=False)
        return list(self.connector.fetch(WINDOW))

    def failure(self) -> Failure:
        with pytest.raises(Failure) as caught:
            self.job()
        return caught.value


def html(code: int) -> httpx.Response:
    return httpx.Response(code, text="<html><body>Login</body></html>", headers={"content-type": "text/html"})


def error(code: int, text: str) -> httpx.Response:
    return httpx.Response(code, json={"error": text, "statusCode": code})


# 2.3: the five rows of the table


@pytest.mark.parametrize(
    ("scripts", "calls", "news"),
    [
        pytest.param({}, ["status", "accounts", "trades"], False, id="ready"),
        pytest.param({"status": [status(True, True, True)]}, ["status", "accounts", "trades"], True, id="contested"),
        pytest.param({"status": [LOST]}, ["status", "init", "accounts", "trades"], False, id="brokerage-lost"),
        pytest.param(
            {"status": [LOGGED_OUT]}, ["status", "tickle", "accounts", "trades"], False, id="fresh-login-denied-once"
        ),
        pytest.param(
            {"status": [LOGGED_OUT], "tickle": [tickle(LOST)]},
            ["status", "tickle", "init", "accounts", "trades"],
            False,
            id="fresh-login-without-brokerage",
        ),
    ],
)
def test_sessions_that_can_be_used(scripts: dict[str, list[Any]], calls: list[str], news: bool) -> None:
    bench = Bench(scripts=scripts)
    standing = bench.connector.check(inspect=False)
    (page,) = bench.connector.fetch(WINDOW)
    assert bench.calls == calls
    assert bool(standing.news) is news
    assert len(page.records) == 1
    assert page.drained == WINDOW


BLOCKED = [
    pytest.param({"status": [LOGGED_OUT], "tickle": [tickle(LOGGED_OUT)]}, 2, id="no-link"),
    pytest.param({"status": [status(False, False, True)], "tickle": [tickle(LOGGED_OUT)]}, 2, id="no-link-competing"),
    pytest.param(
        {"status": [error(401, "not authenticated")], "tickle": [error(401, "not authenticated")]}, 2, id="401"
    ),
    pytest.param({"status": [httpx.Response(401)], "tickle": [httpx.Response(401)]}, 2, id="401-empty"),
    pytest.param(
        {
            "status": [
                httpx.Response(
                    401, json={"title": "Unauthorized"}, headers={"content-type": "application/problem+json"}
                )
            ],
            "tickle": [{"error": "no session"}],
        },
        2,
        id="401-problem-json-then-no-session",
    ),
    pytest.param({"status": [html(200)], "tickle": [html(200)]}, 2, id="login-page-with-200"),
    pytest.param(
        {
            "status": [httpx.Response(302, headers={"location": "https://evil.example/sso/Login"})],
            "tickle": [httpx.Response(302, headers={"location": "/sso/Login"})],
        },
        2,
        id="redirect-to-login",
    ),
]


@pytest.mark.parametrize(("scripts", "calls"), BLOCKED)
def test_C1_logged_out_asks_once_more_and_then_for_a_person(scripts: dict[str, list[Any]], calls: int) -> None:
    bench = Bench(scripts=scripts)
    failure = bench.failure()
    assert isinstance(failure, AuthFailed)
    assert len(bench.calls) == calls <= 2
    ending = judge(failure, now=NOON, interval=15 * MINUTE, progressed=False)
    assert (ending.outcome.status, ending.outcome.reason, ending.event) == ("blocked_reauth", "auth", "neither")
    assert ending.outcome.problem is not None
    assert ending.outcome.problem.sentence == LOG_IN
    assert ending.outcome.problem.url == GATEWAY


def test_C2_a_competing_session_is_left_alone() -> None:
    bench = Bench(scripts={"status": [status(False, True, True)]})
    failure = bench.failure()
    assert bench.calls == ["status"]
    ending = judge(failure, now=NOON, interval=MINUTE, progressed=False)
    assert (ending.outcome.status, ending.outcome.reason, ending.event) == ("failed", "session_in_use", "neither")
    assert ending.outcome.problem is not None
    assert "in use in another program" in ending.outcome.problem.sentence
    assert ending.next_sync_in == 15 * MINUTE


@pytest.mark.parametrize("row", ["brokerage-lost", "in-use-after-init"])
def test_C2_the_brokerage_session_is_opened_once_and_never_taken(row: str) -> None:
    after = LOST if row == "brokerage-lost" else status(False, True, True)
    bench = Bench(scripts={"status": [LOST], "init": [after]})
    failure = bench.failure()
    assert bench.calls == ["status", "init"]
    assert json.loads(bench.bodies[1]) == {"publish": True, "compete": False}
    assert isinstance(failure, Unavailable if row == "brokerage-lost" else RetryLater)


def test_no_call_that_could_be_made_takes_a_session_over_or_trades() -> None:
    assert {read.path for read in READS.values()} == {
        "/iserver/auth/status",
        "/iserver/auth/ssodh/init",
        "/tickle",
        "/iserver/accounts",
        "/iserver/account/trades",
    }
    assert all(read.body is None or json.loads(read.body)["compete"] is False for read in READS.values())


def test_every_combination_of_the_three_flags_has_a_state() -> None:
    assert {key: STATES[key] for key in STATES} == {
        (True, True, False): "ready",
        (True, True, True): "contested",
        (False, True, False): "brokerage_lost",
        (False, True, True): "in_use",
        (False, False, False): "logged_out",
        (False, False, True): "logged_out",
        (True, False, False): "logged_out",
        (True, False, True): "logged_out",
    }


# 2.4: what is seen instead of an answer


@pytest.mark.parametrize(
    ("answer", "calls", "kind", "code"),
    [
        pytest.param(html(403), ["status"], AuthFailed, "ibkr_address_refused", id="403-edge"),
        pytest.param(error(410, "gone"), ["status"] * 4, Unavailable, "ibkr_stale_host", id="410"),
        pytest.param(error(500, "boom"), ["status"] * 4, Unavailable, "ibkr_unavailable", id="500"),
        pytest.param(error(503, "Service Unavailable"), ["status"] * 4, Unavailable, "ibkr_unavailable", id="503"),
        pytest.param(httpx.Response(503), ["status"] * 4, Unavailable, "ibkr_unavailable", id="503-empty"),
        pytest.param(
            {"error": "failed to process request"}, ["status"] * 4, Unavailable, "ibkr_unavailable", id="200-error"
        ),
        pytest.param(httpx.ConnectError, ["status"] * 4, Unavailable, "ibkr_gateway_away", id="refused"),
        pytest.param(httpx.ReadTimeout, ["status"] * 4, Unavailable, "ibkr_gateway_away", id="timeout"),
        pytest.param(error(404, "not found"), ["status"], Rejected, "ibkr_bug", id="404"),
        pytest.param(error(429, "too many"), ["status"], RetryLater, "ibkr_penalty_box", id="429"),
        pytest.param(
            httpx.Response(200, content=b'{"authenticated": tr', headers={"content-type": "application/json"}),
            ["status"] * 4,
            Unavailable,
            "unexpected_answer",
            id="half-a-document",
        ),
    ],
)
def test_failures_of_the_line(answer: Any, calls: list[str], kind: type[Failure], code: str) -> None:
    bench = Bench(scripts={"status": [answer]})
    failure = bench.failure()
    assert bench.calls == calls
    assert type(failure) is kind
    assert failure.code == code


def test_accounts_first_is_cured_once_by_asking_for_the_accounts() -> None:
    refusal = error(400, "Bad Request: Please query /accounts first")
    bench = Bench(scripts={"trades": [refusal, [ROW]]})
    assert len(bench.job()) == 1
    assert bench.calls == ["status", "accounts", "trades", "accounts", "trades"]
    stubborn = Bench(scripts={"trades": [error(500, "Please query /accounts first")]})
    assert isinstance(stubborn.failure(), Unavailable)
    assert stubborn.calls == ["status", "accounts", "trades", "accounts", "trades"]


def test_no_bridge_is_asked_again_after_a_look_at_the_status() -> None:
    refusal = error(400, "Bad Request: no bridge")
    bench = Bench(scripts={"status": [READY, LOST, READY], "accounts": [refusal, refusal, ACCOUNTS]})
    assert len(bench.job()) == 1
    assert bench.calls == ["status", "accounts", "status", "init", "accounts", "status", "accounts", "trades"]
    stubborn = Bench(scripts={"accounts": [refusal]})
    assert isinstance(stubborn.failure(), Unavailable)
    assert stubborn.calls == ["status", "accounts", "status", "accounts", "status", "accounts"]


def test_C3_a_session_that_dies_under_the_job_ends_it_after_one_look_more() -> None:
    gone = error(401, "not authenticated")
    bench = Bench(scripts={"trades": [gone], "tickle": [gone]})
    failure = bench.failure()
    assert isinstance(failure, AuthFailed)
    assert failure.code == "ibkr_login_needed"
    assert bench.calls == ["status", "accounts", "trades", "tickle"]


def test_a_wrong_account_is_no_riddle_to_be_repeated() -> None:
    bench = Bench(scripts={"trades": [error(400, f"accountId is not valid: {ACCOUNT}")]})
    failure = bench.failure()
    assert isinstance(failure, AuthFailed)
    assert (failure.code, failure.url) == ("other_account", GATEWAY)
    assert bench.calls == ["status", "accounts", "trades"]


# Pacing


def test_A6_a_429_silences_the_login_for_a_quarter_of_an_hour_whoever_asks() -> None:
    bench = Bench(scripts={"trades": [httpx.Response(429)]})
    failure = bench.failure()
    assert isinstance(failure, RetryLater)
    assert failure.until - bench.clock.now() == PENALTY_SECONDS * 1000
    before = len(bench.calls)
    bench.clock.advance(PENALTY_SECONDS - 1)
    for ask in (lambda: bench.login.ask("tickle"), bench.job, lambda: bench.login.call("accounts")):
        with pytest.raises(RetryLater):
            ask()
    assert len(bench.calls) == before
    bench.clock.advance(1.5)
    bench.scripts["trades"] = [[ROW]]
    assert len(bench.job()) == 1


@pytest.mark.parametrize(
    ("header", "seconds"), [("30", 900.0), ("1800", 1800.0), ("1000000000", 86_400.0), ("-5", 900.0), ("x", 900.0)]
)
def test_A5_retry_after_is_honoured_but_never_less_than_the_penalty_box(header: str, seconds: float) -> None:
    bench = Bench(scripts={"status": [httpx.Response(429, headers={"retry-after": header})]})
    failure = bench.failure()
    assert isinstance(failure, RetryLater)
    assert (failure.until - NOON) / 1000 == pytest.approx(seconds)
    assert bench.login.silent_for == pytest.approx(seconds)


def test_A15_trades_calls_are_five_seconds_apart_over_all_connections_of_a_login() -> None:
    bench = Bench()
    times: list[float] = []
    for _ in range(4):
        bench.job()
        times.append(bench.clock.monotonic())
    assert all(later - earlier >= 5.0 for earlier, later in itertools.pairwise(times))


def test_A13_a_redirect_is_never_followed() -> None:
    bench = Bench(scripts={"status": [httpx.Response(307, headers={"location": "https://evil.example/"})]})
    bench.scripts["tickle"] = [httpx.Response(301, headers={"location": "http://localhost:5000/"})]
    assert isinstance(bench.failure(), AuthFailed)
    assert bench.calls == ["status", "tickle"]


# Reading


def test_B24_an_empty_first_answer_is_asked_once_more_and_proves_nothing() -> None:
    bench = Bench(scripts={"trades": [[], [ROW]]})
    (page,) = bench.job()
    waited = bench.clock.now() - NOON
    assert waited >= 5000
    # What the API remembers has moved on meanwhile.
    assert page.drained == Window(start=WINDOW.start + waited, end=NOON)
    empty = Bench(scripts={"trades": [[]]})
    (page,) = empty.job()
    assert (list(page.records), page.drained) == ([], None)
    assert empty.calls == ["status", "accounts", "trades", "trades"]


def test_B24_rows_of_other_accounts_alone_prove_nothing_for_this_one() -> None:
    bench = Bench(scripts={"trades": [[{**ROW, "account": "U9990009", "accountCode": "U9990009"}]]})
    (page,) = bench.job()
    assert len(page.records) == 1
    assert page.drained is None


@pytest.mark.parametrize("names", [{"account": "Retirement"}, {"accountCode": None, "account": ACCOUNT.lower()}])
def test_rows_under_an_alias_are_this_accounts(names: dict[str, Any]) -> None:
    row = {**{name: value for name, value in ROW.items() if name != "accountCode"}, **names}
    (page,) = Bench(scripts={"trades": [[row]]}).job()
    assert page.drained == WINDOW


@pytest.mark.parametrize("answer", [{"trades": []}, "none", 7, None])
def test_A11_an_odd_answer_is_trouble_and_never_no_trades(answer: Any) -> None:
    bench = Bench(
        scripts={
            "trades": [httpx.Response(200, content=json.dumps(answer), headers={"content-type": "application/json"})]
        }
    )
    assert isinstance(bench.failure(), Unavailable)


def test_coverage_reaches_back_no_further_than_the_api_remembers() -> None:
    bench = Bench()
    bench.connector.check(inspect=False)
    (page,) = bench.connector.fetch(Window(start=0, end=NOON))
    assert page.drained == Window(start=NOON - 6 * 24 * 60 * MINUTE, end=NOON)


def test_a_window_is_asked_as_seven_days_of_the_account() -> None:
    bench = Bench()
    asked: list[str] = []
    bench.router.routes[4].mock(
        side_effect=lambda request: asked.append(str(request.url)) or httpx.Response(200, json=[ROW])
    )
    bench.job()
    assert asked == [f"{GATEWAY}/v1/api/iserver/account/trades?days=7&accountId={ACCOUNT}"]


# Accounts


def test_C11_a_login_without_the_connections_account_imports_nothing() -> None:
    bench = Bench(scripts={"accounts": [{**ACCOUNTS, "accounts": ["U9990009"], "selectedAccount": "U9990009"}]})
    failure = bench.failure()
    assert isinstance(failure, AuthFailed)
    assert (failure.code, failure.url) == ("other_account", GATEWAY)
    assert "trades" not in bench.calls


@pytest.mark.parametrize(
    ("others", "chosen"),
    [((), "U0000002"), (("U0000002",), "U0000001"), (("U0000001", "U0000002"), "U0000003")],
)
def test_B18_a_new_connection_takes_the_first_account_that_none_imports(others: tuple[str, ...], chosen: str) -> None:
    accounts = {"accounts": ["U0000001", "U0000002", "U0000003"], "aliases": {}, "selectedAccount": "U0000002"}
    bench = Bench(account=None, others=others, scripts={"accounts": [accounts]})
    assert bench.connector.check(inspect=True).account_ref == chosen


def test_B18_a_login_whose_accounts_are_all_imported_says_so() -> None:
    bench = Bench(account=None, others=(ACCOUNT,))
    failure = bench.failure()
    assert isinstance(failure, AuthFailed)
    assert failure.code == "ibkr_no_account_left"


# Maintenance


def _in_the_reset() -> VirtualClock:
    return VirtualClock(NOON + 12 * 60 * MINUTE + 30 * MINUTE)  # half past midnight in New York


@pytest.mark.parametrize(
    "scripts",
    [
        {"status": [error(503, "maintenance")]},
        {"status": [httpx.ConnectError]},
        {"status": [LOGGED_OUT], "tickle": [tickle(LOGGED_OUT)]},
        {"trades": [error(401, "not authenticated")], "tickle": [error(401, "not authenticated")]},
    ],
    ids=["503", "refused", "logged-out", "dies-under-the-job"],
)
def test_C4_what_fails_in_a_published_reset_waits_for_its_end(scripts: dict[str, list[Any]]) -> None:
    clock = _in_the_reset()
    bench = Bench(clock=clock, scripts=scripts)
    failure = bench.failure()
    assert isinstance(failure, RetryLater)
    assert failure.reason == "maintenance"
    ending = judge(failure, now=clock.now(), interval=15 * MINUTE, progressed=False)
    assert (ending.outcome.status, ending.outcome.reason, ending.event) == ("failed", "maintenance", "neither")
    # The reset ends at 01:45 in New York; a little more is left for the servers to settle.
    assert 70 * MINUTE <= ending.next_sync_in <= 90 * MINUTE
    assert bench.calls.count("status") == 1, "no retries while it is known to be down"


def test_C4_a_session_in_use_or_a_penalty_is_no_maintenance() -> None:
    in_use = Bench(clock=_in_the_reset(), scripts={"status": [status(False, True, True)]}).failure()
    penalty = Bench(clock=_in_the_reset(), scripts={"status": [httpx.Response(429)]}).failure()
    assert isinstance(in_use, RetryLater)
    assert isinstance(penalty, RetryLater)
    assert (in_use.reason, penalty.reason) == ("session_in_use", "rate_limited")


def test_C5_the_same_failure_outside_a_reset_is_a_fault() -> None:
    bench = Bench(scripts={"status": [error(503, "maintenance")]})
    ending = judge(bench.failure(), now=NOON, interval=15 * MINUTE, progressed=False)
    assert (ending.outcome.reason, ending.event) == ("unavailable", "fault")


# The words


@pytest.mark.parametrize(
    ("code", "body", "is_json", "meaning"),
    [
        (401, '{"error":"id: 39687, error: invalid consumer","statusCode":401}', True, "consumer_inactive"),
        (500, '{"error":"failed to generate sso dh token"}', True, "oauth_refused"),
        (400, "Bad Request: no bridge", False, "no_bridge"),
        (400, '{"error":"accountId is not valid: U1"}', True, "wrong_account"),
        (408, "", False, "transient"),
        (200, '{"error":"no session"}', True, "logged_out"),
        (200, "", False, "logged_out"),
        (302, "", False, "logged_out"),
    ],
)
def test_meanings_that_no_job_above_meets(code: int, body: str, is_json: bool, meaning: str) -> None:
    assert meaning_of(code, body, is_json=is_json, document=json.loads(body) if is_json else None) == meaning


def test_a_status_is_read_wherever_it_stands_and_nowhere_else() -> None:
    assert read_status(tickle(LOST)) == read_status(LOST)
    assert read_status({"authenticated": "yes"}) is None
    assert read_status({"iserver": {}}) is None
    assert read_status([]) is None
