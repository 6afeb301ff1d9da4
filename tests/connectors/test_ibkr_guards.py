"""Guards of one login and one job that no row of the session's table names."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sandbox.clock import VirtualClock
from tests.connectors.test_ibkr_session import ACCOUNT, ACCOUNTS, GATEWAY, NOON, READY, ROW, Bench
from worker.connectors.ibkr_doors import Reply
from worker.connectors.ibkr_login import Login
from worker.connectors.ibkr_session import Meaning
from worker.errors import AuthFailed
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
