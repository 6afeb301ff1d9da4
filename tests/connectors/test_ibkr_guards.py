"""Guards of one login and one job that no row of the session's table names."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from sandbox.clock import VirtualClock
from tests.connectors.test_ibkr_session import (
    ACCOUNT,
    ACCOUNTS,
    GATEWAY,
    LOST,
    NOON,
    READY,
    ROW,
    Bench,
    _in_the_reset,
    error,
)
from worker import log
from worker.connectors.ibkr_doors import Reply
from worker.connectors.ibkr_live import BRIDGE_SECONDS, IbkrLiveConnector
from worker.connectors.ibkr_login import Login
from worker.connectors.ibkr_session import AuthStatus, Meaning, Question, State, open_session, read_status
from worker.errors import AuthFailed, RetryLater, Unavailable
from worker.http import Http


class _OtherDoor:
    """A door without a person. Being asked what to renew takes it a second."""

    headless = True
    address = "https://api.ibkr.com"

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.login: Login | None = None
        self.idle: list[float] = []

    def headers(self, method: str, path: str, post: object) -> dict[str, str]:
        return {}

    def refresh(self, meaning: Meaning) -> bool:
        self._clock.advance(1)
        assert self.login is not None
        self.idle.append(self.login.idle_for)
        return meaning == "logged_out"

    def login_needed(self) -> AuthFailed:
        return AuthFailed("no session", code="ibkr_oauth_no_session")


def _headless(answers: list[httpx.Response]) -> tuple[Login, _OtherDoor, list[str]]:
    clock, asked = VirtualClock(NOON), list[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return answers.pop(0)

    door = _OtherDoor(clock)
    http = Http(GATEWAY, clock, kind="ibkr", transport=httpx.MockTransport(answer), redirects="answer")
    door.login = Login(http, door, clock)
    return door.login, door, asked


def test_a_token_is_dropped_within_the_turn_that_was_refused_so_that_no_other_call_loses_a_newer_one() -> None:
    login, door, asked = _headless([httpx.Response(401), httpx.Response(200, json=READY)])
    assert login.call("status") == Reply("ok", READY)
    assert len(asked) == 2
    assert door.idle == [0.0], "the line was not free yet"


def test_C1_a_refused_call_is_made_again_once_and_no_more() -> None:
    login, door, asked = _headless([httpx.Response(401), httpx.Response(401), httpx.Response(200, json=READY)])
    assert login.call("status").meaning == "logged_out"
    assert len(asked) == 2
    assert len(door.idle) == 1


@pytest.mark.parametrize(
    ("aliases", "row"),
    [
        pytest.param({ACCOUNT: "Savings", "U7770002": "Savings"}, {"account": "Savings"}, id="two-of-one-name"),
        pytest.param({ACCOUNT: "U7770002"}, {"account": "U7770002"}, id="named-as-another-account"),
    ],
)
def test_B18_an_alias_that_could_mean_two_accounts_means_none(aliases: dict[str, str], row: dict[str, Any]) -> None:
    nameless = {name: value for name, value in ROW.items() if name != "accountCode"}
    bench = Bench(
        scripts={
            "accounts": [{**ACCOUNTS, "accounts": [ACCOUNT, "U7770002"], "aliases": aliases}],
            "trades": [[{**nameless, **row}]],
        }
    )
    (page,) = bench.job()
    assert bench.connector.aliases == {}
    assert page.drained is None


def test_an_alias_may_be_the_account_itself() -> None:
    bench = Bench(scripts={"accounts": [{**ACCOUNTS, "aliases": {ACCOUNT: ACCOUNT}}]})
    bench.job()
    assert bench.connector.aliases == {ACCOUNT: ACCOUNT}


# The session


def test_C3_a_call_that_finds_nobody_logged_in_is_known_to_keepalive_and_so_is_the_next_login() -> None:
    bench = Bench(scripts={"accounts": [httpx.Response(401)]})
    bench.login.ask("status")
    assert bench.login.call("accounts").meaning == "logged_out"
    assert bench.login.state == "logged_out"
    assert bench.login.logged_in_at < bench.clock.monotonic()
    bench.clock.advance(60)
    bench.login.ask("status")
    assert (bench.login.state, bench.login.logged_in_at) == ("ready", bench.clock.monotonic())
    bench.clock.advance(60)
    bench.login.ask("tickle")
    assert bench.login.logged_in_at < bench.clock.monotonic(), "it was up all the time"


def test_two_jobs_of_a_login_that_begin_together_open_its_session_once() -> None:
    bench = Bench(scripts={"status": [LOST], "init": [READY]})
    lock = _WatchedLock()
    bench.login.opening = lock  # type: ignore[assignment]
    second = threading.Thread(target=lambda: bench.connector.check(inspect=False))
    answer = bench._answer

    def scripted(name: str, request: httpx.Request) -> httpx.Response:
        if name == "status" and not bench.calls:
            second.start()
            # Held back by the lock, or else first in line for its own look.
            lock.contended.wait(0.3)
        if name == "init":
            bench.scripts["status"] = [READY]
        return answer(name, request)

    bench._answer = scripted  # type: ignore[method-assign]
    bench.connector.check(inspect=False)
    second.join(10)
    assert bench.calls.count("init") == 1
    assert bench.calls.count("status") == 2


class _WatchedLock:
    """A lock that says when somebody has to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.contended = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.contended.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_accounts_that_want_to_be_asked_for_first_are_not_asked_for_ever() -> None:
    bench = Bench(scripts={"accounts": [error(400, "Bad Request: Please query /accounts first")]})
    assert isinstance(bench.failure(), Unavailable)
    assert bench.calls == ["status", "accounts"]


def test_no_bridge_gets_its_seconds_before_it_is_asked_again() -> None:
    bench = Bench(scripts={"accounts": [error(400, "Bad Request: no bridge"), ACCOUNTS]})
    bench.connector.check(inspect=False)
    assert bench.calls == ["status", "accounts", "status", "accounts"]
    assert bench.clock.monotonic() >= BRIDGE_SECONDS


def test_B18_accounts_are_known_however_they_are_spelled() -> None:
    bench = Bench(scripts={"accounts": [{**ACCOUNTS, "accounts": [f" {ACCOUNT.lower()} "], "selectedAccount": None}]})
    assert bench.connector.check(inspect=False).account_ref == ACCOUNT


def test_C4_what_a_reset_does_not_explain_is_said_during_one_too() -> None:
    other = {**ACCOUNTS, "accounts": ["U9990009"], "selectedAccount": "U9990009"}
    for scripts, code in (
        ({"status": [httpx.Response(403)]}, "ibkr_address_refused"),
        ({"accounts": [other]}, "other_account"),
    ):
        failure = Bench(clock=_in_the_reset(), scripts=scripts).failure()
        assert isinstance(failure, AuthFailed)
        assert failure.code == code


def test_C4_oauth_without_a_session_waits_for_the_end_of_a_reset() -> None:
    clock = _in_the_reset()
    http = Http(
        GATEWAY, clock, kind="ibkr", transport=httpx.MockTransport(lambda _: httpx.Response(401)), redirects="answer"
    )
    door = _OtherDoor(clock)
    door.login = Login(http, door, clock)
    connector = IbkrLiveConnector(door.login, account=ACCOUNT, taken=(), region="america", clock=clock, now=clock.now)
    with pytest.raises(RetryLater) as caught:
        connector.check(inspect=False)
    assert caught.value.reason == "maintenance"


def test_F2_what_the_broker_echoes_is_not_repeated() -> None:
    secret = "S3cret-of-guards-0123456789"
    log.protect(secret)
    bench = Bench(scripts={"status": [error(500, f"cannot serve {secret}")]})
    failure = bench.failure()
    assert "cannot serve" in failure.detail
    assert secret not in failure.detail


class _Line:
    """A line without a person whose brokerage session opens when it is asked to."""

    headless = True

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def ask(self, question: Question) -> State:
        self.asked.append(question)
        return "ready" if question == "init" else "logged_out"


def test_oauth_opens_its_session_where_a_gateway_would_wait_for_a_person() -> None:
    line = _Line()
    assert open_session(line) == "ready"
    assert line.asked == ["status", "init"]


def test_a_status_that_says_little_is_taken_for_the_worst_it_can_mean() -> None:
    assert read_status({"authenticated": False}) == AuthStatus(False, False, False)
    assert read_status({"authenticated": True, "connected": "yes"}) == AuthStatus(True, False, False)


@pytest.mark.parametrize("endpoint", ["accounts", "trades"])
def test_B24_an_error_with_200_is_asked_again_and_is_no_answer(endpoint: str) -> None:
    bench = Bench(scripts={endpoint: [{"error": "failed to process request"}, *Bench().scripts[endpoint]]})
    (page,) = bench.job()
    assert len(page.records) == 1
    assert bench.calls.count(endpoint) == 2
