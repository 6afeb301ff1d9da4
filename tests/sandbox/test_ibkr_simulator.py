"""The Interactive Brokers simulator behaves as reference ibkr says the Client Portal API does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest
import respx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sandbox.brokers.ibkr import Consumer, Fault, IbkrSimulator, NewFill, Quirks, Setup
from sandbox.brokers.ibkr.control import RemoteControlled
from sandbox.brokers.serving import BrokerServer, Request
from sandbox.clock import VirtualClock
from tests.support.standalone import announced, standalone_broker
from worker.clock import SystemClock

BASE = "https://localhost:5000/v1/api"
START = 1_790_000_000_000  # 2026-09-21T14:13:20Z, a Monday morning in New York
SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "ibkr"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")

READY = {"authenticated": True, "connected": True, "competing": False}
GONE = {"authenticated": False, "connected": True, "competing": False}
ELSEWHERE = {"authenticated": False, "connected": True, "competing": True}
FOUGHT = {"authenticated": True, "connected": True, "competing": True}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def truths(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("authenticated", "connected", "competing")}


class World:
    """A login on a virtual clock, and somebody who calls it."""

    def __init__(self, start: int = START, quirks: Quirks | None = None, **setup: Any) -> None:
        self.clock = VirtualClock(start)
        self.ibkr = IbkrSimulator(self.clock, Setup(**{"logged_in": False, **setup}))
        self.ibkr.quirks = quirks or Quirks()
        if setup.get("logged_in", True):
            self.ibkr.login()
        self.http = httpx.Client(transport=self.ibkr.transport(), base_url=BASE)
        self.account = self.ibkr.accounts[0]

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.http.get(path, params=params)

    def post(self, path: str, document: object = None) -> httpx.Response:
        return self.http.post(path, json=document)

    def status(self) -> dict[str, Any]:
        return truths(self.post("/iserver/auth/status").json())

    def init(self, *, compete: bool = False) -> httpx.Response:
        return self.post("/iserver/auth/ssodh/init", {"publish": True, "compete": compete})

    def trades(self, **params: Any) -> Any:
        """A trades call at its own pace."""
        self.clock.advance(5)
        answer = self.get("/iserver/account/trades", **{"days": 7, **params})
        return json.loads(answer.text, parse_float=Decimal) if answer.status_code == 200 else answer

    def ready(self) -> World:
        """Past the accounts call and the first, empty answer."""
        assert self.get("/iserver/accounts").status_code == 200
        self.trades()
        return self

    def until(self, moment: int) -> None:
        self.clock.advance((moment - self.clock.now()) / 1000)


# Who is logged in.


def test_a_login_opens_both_sessions() -> None:
    world = World(logged_in=False)
    assert world.get("/tickle").status_code == 401
    world.ibkr.login()
    assert world.status() == READY
    world.clock.advance(1)
    assert truths(world.post("/tickle").json()["iserver"]["authStatus"]) == READY


def test_without_a_login_the_status_says_so_in_a_200() -> None:
    answer = World(logged_in=False).post("/iserver/auth/status")
    assert answer.status_code == 200
    document = answer.json()
    assert document.keys() == {"authenticated", "connected", "competing", "MAC"}
    assert truths(document) == {"authenticated": False, "connected": False, "competing": False}


@pytest.mark.parametrize("path", ["/iserver/accounts", "/iserver/account/trades", "/tickle", "/sso/validate"])
@pytest.mark.parametrize(
    ("form", "status", "kind", "body"),
    [
        ("json", 401, "application/json; charset=utf-8", '{"error":"not authenticated","statusCode":401}'),
        ("problem", 401, "application/problem+json", None),
        ("empty", 401, None, ""),
        ("redirect", 302, None, ""),
        ("html", 200, "text/html; charset=utf-8", None),
    ],
)
def test_C1_nobody_is_logged_in(path: str, form: Any, status: int, kind: str | None, body: str | None) -> None:
    world = World(logged_in=False, quirks=Quirks(refusal=form))
    answer = world.get(path)
    assert (answer.status_code, answer.headers.get("content-type")) == (status, kind)
    if body is not None:
        assert answer.text == body
    if form == "redirect":
        assert answer.headers["location"].startswith("/sso/Login")
    if form == "problem":
        assert answer.json()["status"] == 401
    if form == "html":
        assert "<form" in answer.text


def test_C1_a_status_refused_as_other_calls_are() -> None:
    world = World(logged_in=False, quirks=Quirks(logged_out_status="refusal"))
    assert world.post("/iserver/auth/status").status_code == 401


@pytest.mark.parametrize(("form", "text"), [("no_session", "no session"), ("fail", "failed to process request")])
def test_C1_a_tickle_that_fails_in_a_200(form: Any, text: str) -> None:
    answer = World(logged_in=False, quirks=Quirks(tickle_refusal=form)).get("/tickle")
    assert (answer.status_code, answer.json()) == (200, {"error": text})


def test_a_person_logs_in_at_the_login_page() -> None:
    world = World(logged_in=False)
    browser = httpx.Client(transport=world.ibkr.transport(), base_url="https://localhost:5000")
    page = browser.get("/").text
    action = re.search(r'<form method="post" action="([^"]+)"', page)
    assert action is not None
    assert world.get("/tickle").status_code == 401
    assert "Client login succeeds" in browser.post(action[1], data={"username": "anybody"}).text
    assert world.status() == READY
    assert [call.key for call in world.ibkr.audit.calls] == ["browser", "gateway", "browser", "gateway"]


def test_a_logout_ends_everything() -> None:
    world = World()
    assert world.post("/logout").json() == {"status": True}
    assert world.get("/tickle").status_code == 401
    assert world.get("/portfolio/accounts").status_code == 401


def test_an_expiry_ends_everything() -> None:
    world = World()
    world.ibkr.expire()
    assert world.get("/portfolio/accounts").status_code == 401


@pytest.mark.parametrize(
    ("region", "start", "reset"),
    [
        ("america", "2026-09-21T14:13:20Z", "2026-09-22T04:00:00Z"),
        ("america", "2026-03-08T05:30:00Z", "2026-03-09T04:00:00Z"),  # the night that loses an hour lies between
        ("america", "2026-11-01T12:00:00Z", "2026-11-02T05:00:00Z"),  # and the one that gains it
        ("europe", "2026-09-21T14:13:20Z", "2026-09-21T22:00:00Z"),
        ("europe", "2026-03-28T23:30:00Z", "2026-03-29T22:00:00Z"),
        ("europe", "2026-10-25T12:00:00Z", "2026-10-25T23:00:00Z"),
        ("asia", "2026-09-21T14:13:20Z", "2026-09-21T16:00:00Z"),
    ],
)
def test_sessions_end_at_midnight_of_the_region(region: Any, start: str, reset: str) -> None:
    world = World(ms(start), region=region)
    assert world.ibkr.state()["nextResetMs"] == ms(reset)
    world.until(ms(reset) - 1000)
    assert world.get("/tickle").status_code == 200
    world.until(ms(reset))
    assert world.get("/tickle").status_code == 401
    world.ibkr.login()
    world.clock.advance(3600)
    assert world.get("/tickle").status_code == 200


def test_no_session_is_older_than_a_day_even_when_the_day_has_25_hours() -> None:
    world = World(ms("2026-11-01T04:30:00Z"))
    world.until(ms("2026-11-02T04:29:59Z"))
    assert world.get("/tickle").status_code == 200
    world.until(ms("2026-11-02T04:30:00Z"))
    assert world.get("/tickle").status_code == 401


def test_the_brokerage_session_ends_after_six_idle_minutes_and_the_login_does_not() -> None:
    world = World()
    for _ in range(3):
        world.clock.advance(359)
        assert world.status() == READY
    world.clock.advance(360)
    assert world.status() == GONE
    assert world.get("/portfolio/accounts").status_code == 200
    assert (world.get("/iserver/accounts").status_code, world.get("/iserver/accounts").json()) == (
        400,
        {"error": "Bad Request: no bridge"},
    )


def test_the_login_can_be_made_to_end_when_idle() -> None:
    world = World(quirks=Quirks(sso_idle_seconds=600))
    world.clock.advance(599)
    assert world.get("/tickle").status_code == 200
    world.clock.advance(600)
    assert world.get("/tickle").status_code == 401


def test_init_opens_a_lost_brokerage_session() -> None:
    world = World()
    world.ibkr.drop_brokerage()
    assert world.status() == GONE
    assert truths(world.init().json()) == READY
    assert world.status() == READY
    assert world.ibkr.audit.takeovers == 0


def test_init_needs_publish() -> None:
    world = World()
    world.ibkr.drop_brokerage()
    for document in ({"compete": False}, {"publish": False, "compete": False}, {"publish": "true"}):
        assert world.post("/iserver/auth/ssodh/init", document).status_code == 500
    assert world.status() == GONE


def test_init_replaces_no_login() -> None:
    assert World(logged_in=False).init(compete=True).status_code == 401


def test_reauthenticate_answers_as_it_used_to() -> None:
    assert World().post("/iserver/reauthenticate").json() == {"message": "triggered"}


def test_C2_another_application_takes_the_session() -> None:
    world = World()
    world.ibkr.compete()
    assert world.status() == ELSEWHERE
    assert truths(world.init().json()) == ELSEWHERE
    assert world.get("/iserver/accounts").status_code == 400
    assert world.get("/portfolio/accounts").status_code == 200
    assert world.ibkr.audit.takeovers == 0
    world.ibkr.release()
    assert world.status() == GONE
    assert truths(world.init().json()) == READY


def test_C2_a_takeover_works_and_is_counted() -> None:
    world = World()
    world.ibkr.compete()
    assert truths(world.init(compete=True).json()) == READY
    assert world.ibkr.audit.takeovers == 1
    assert world.ibkr.audit.document()["takeovers"] == 1


def test_C2_another_application_contests_the_session() -> None:
    world = World()
    world.ibkr.compete(stealing=False)
    assert world.status() == FOUGHT
    assert world.get("/iserver/accounts").status_code == 200
    world.ibkr.release()
    assert world.status() == READY


def test_C2_a_login_does_not_push_the_other_application_aside() -> None:
    world = World(logged_in=False)
    world.ibkr.compete()
    assert truths(world.post("/iserver/auth/status").json())["competing"] is False
    world.ibkr.login()
    assert world.status() == ELSEWHERE


def test_a_fresh_login_may_be_doubted_once() -> None:
    world = World(quirks=Quirks(doubtful_login=True))
    assert world.status() == GONE
    assert world.status() == READY


def test_the_bridge_may_come_a_few_seconds_late() -> None:
    world = World(quirks=Quirks(no_bridge_seconds=3))
    assert world.status() == READY
    assert world.get("/iserver/accounts").status_code == 400
    world.clock.advance(3)
    assert world.get("/iserver/accounts").status_code == 200


# Accounts, then trades.


def test_accounts_come_before_trades_in_each_brokerage_session() -> None:
    world = World()
    refused = world.trades()
    assert refused.json() == {"error": "Bad Request: Please query /accounts first", "statusCode": 400}
    assert refused.status_code == 400
    world.ready()
    world.ibkr.drop_brokerage()
    world.init()
    assert world.trades().status_code == 400
    world.ibkr.quirks = Quirks(accounts_first_status=500)
    assert world.trades().status_code == 500


def test_B24_the_first_answer_of_a_brokerage_session_is_empty() -> None:
    world = World(trades=20)
    world.get("/iserver/accounts")
    assert world.trades() == []
    assert len(world.trades()) == 20
    world.ibkr.drop_brokerage()
    world.init()
    world.get("/iserver/accounts")
    assert world.trades() == []
    assert len(world.trades()) == 20


def test_B24_priming_can_be_switched_off() -> None:
    world = World(trades=20, quirks=Quirks(priming=False))
    world.get("/iserver/accounts")
    assert len(world.trades()) == 20


def test_the_list_remembers_seven_days_of_the_regions_calendar() -> None:
    world = World().ready()
    first = ms("2026-09-15T00:00:00-04:00")
    assert world.ibkr.memory_start() == first
    for moment in (first - 1000, first, START - 60_000):
        world.ibkr.book(NewFill(time=Decimal(moment) / 1000))
    assert [row["trade_time_r"] for row in world.trades()] == [START - 60_000, first]
    assert len(world.trades(days=30)) == 2
    assert [row["trade_time_r"] for row in world.trades(days=6)] == [START - 60_000]
    world.until(ms("2026-09-22T00:00:00-04:00"))
    world.ibkr.login()
    world.ready()
    assert [row["trade_time_r"] for row in world.trades()] == [START - 60_000]
    assert len(world.ibkr.oracle()) == 3


def test_without_days_the_list_is_that_of_today() -> None:
    world = World(region="europe").ready()
    today = ms("2026-09-21T00:00:00+02:00")
    world.ibkr.book(NewFill(time=Decimal(today) / 1000))
    world.ibkr.book(NewFill(time=Decimal(today) / 1000 - 1))
    world.clock.advance(5)
    assert [row["trade_time_r"] for row in world.get("/iserver/account/trades").json()] == [today]


def test_one_and_two_days_are_answered_with_nothing() -> None:
    world = World().ready()
    world.ibkr.book(NewFill())
    assert [len(world.trades(days=days)) for days in (1, 2, 3)] == [0, 0, 1]
    world.ibkr.quirks = Quirks(short_days_empty=False)
    assert [len(world.trades(days=days)) for days in (1, 2, 3)] == [1, 1, 1]


def test_days_must_be_a_number() -> None:
    assert World().ready().trades(days="week").status_code == 400


def test_B18_by_default_the_list_holds_rows_of_all_the_logins_accounts() -> None:
    world = World(accounts=("U1", "U2"), aliases={"U2": "Pension"}).ready()
    world.ibkr.book(NewFill(account="U1"))
    world.ibkr.book(NewFill(account="U2"))

    def accounts(**params: Any) -> list[str]:
        return sorted(row["accountCode"] for row in world.trades(**params))

    assert accounts() == accounts(accountId="U2") == ["U1", "U2"]
    world.ibkr.quirks = Quirks(account_filter="filters")
    assert (accounts(), accounts(accountId="U2")) == (["U1", "U2"], ["U2"])
    world.ibkr.quirks = Quirks(account_filter="required")
    assert (accounts(), accounts(accountId="U1")) == ([], ["U1"])
    world.ibkr.quirks = Quirks(account_filter="selected")
    assert accounts() == ["U1"]
    assert world.post("/iserver/account", {"acctId": "U2"}).json() == {"set": True, "acctId": "U2"}
    [row] = world.trades()
    assert (row["account"], row["accountCode"], row["account_allocation_name"]) == ("Pension", "U2", "Pension")
    unknown = world.trades(accountId="U3")
    assert (unknown.status_code, unknown.json()["error"]) == (400, "accountId is not valid: U3")


def test_a_trailing_slash_is_the_same_call() -> None:
    world = World().ready()
    world.ibkr.book(NewFill())
    world.clock.advance(5)
    assert len(world.get("/iserver/account/trades/", days=7).json()) == 1


# Rows.

ALWAYS = {
    "execution_id", "symbol", "supports_tax_opt", "side", "order_description", "trade_time", "trade_time_r", "size",
    "price", "exchange", "net_amount", "account", "accountCode", "company_name", "contract_description_1", "sec_type",
    "conid", "conidEx", "clearing_id", "clearing_name", "liquidation_trade",
}  # fmt: skip


def booked(world: World, **fields: Any) -> dict[str, Any]:
    world.ibkr.book(NewFill(**fields))
    row: dict[str, Any] = world.trades()[0]
    assert row.keys() >= ALWAYS
    return row


def test_a_stock_fill_reads_as_in_the_documentation() -> None:
    world = World(ms("2023-12-11T18:01:00Z")).ready()
    row = booked(
        world, symbol="AAPL", sec_type="STK", side="S", size="5", price="192.26", commission="1.01",
        time=Decimal(1702317649), exec_id="0000e0d5.6576fd38.01.01",
    )  # fmt: skip
    assert re.fullmatch(r"Sold 5 @ 192\.26 on \w+", row["order_description"])
    expected = {
        "execution_id": "0000e0d5.6576fd38.01.01",
        "symbol": "AAPL",
        "side": "S",
        "trade_time": "20231211-18:00:49",
        "trade_time_r": 1702317649000,
        "size": Decimal("5.0"),
        "price": "192.26",
        "commission": "1.01",
        "net_amount": Decimal("961.3"),
        "accountCode": world.account,
        "conid": 265598,
        "conidEx": "265598",
        "sec_type": "STK",
        "listing_exchange": "NASDAQ.NMS",
    }
    assert {name: row[name] for name in expected} == expected
    world.clock.advance(5)
    assert '"size":5.0,' in world.get("/iserver/account/trades", days=7).text


def test_a_fractional_fill() -> None:
    row = booked(World().ready(), symbol="INTU", side="B", size="0.5", price="420.08")
    assert (row["size"], row["net_amount"]) == (Decimal("0.5"), Decimal("210.04"))
    assert row["order_description"].startswith("Bot 0.5 @ 420.08 on ")


def test_a_micro_future_is_five_times_its_price() -> None:
    row = booked(World().ready(), symbol="MES", sec_type="FUT", size="2", price="4346.00", commission="1.24")
    assert (row["net_amount"], row["price"], row["commission"]) == (Decimal("43460.0"), "4346.00", "1.24")
    assert row["conidEx"] == f"{row['conid']}@CME"


def test_B16_an_expiry() -> None:
    world = World().ready()
    row = booked(world, symbol="ES", sec_type="FOP", size="2", expiry=True)
    assert (row["side"], row["price"], row["net_amount"]) == ("X", "0.0", Decimal("0.0"))
    assert row["order_description"] == "EXPIRED 2 on CME"
    assert not row.keys() & {"commission", "listing_exchange"}
    [truth] = world.ibkr.oracle()
    assert (truth["kind"], truth["side"], truth["commission"]) == ("expiry", "X", None)


def test_B17_names_as_the_platform_writes_them() -> None:
    world = World().ready()
    assert booked(world, symbol="BRK B")["symbol"] == "BRK B"
    assert booked(world, symbol="EUR", sec_type="CASH")["sec_type"] == "CASH"
    assert booked(world, symbol="ÅSLÖ", sec_type="NEW")["sec_type"] == "NEW"


def test_B6_identical_fills_differ_in_their_id_only() -> None:
    world = World().ready()
    world.ibkr.book(NewFill(symbol="MSFT", count=2))
    one, other = world.trades()
    assert one.pop("execution_id") != other.pop("execution_id")
    assert one == other
    assert len(world.ibkr.oracle()) == 2


def test_B10_a_correction_raises_the_last_segment() -> None:
    world = World().ready()
    world.ibkr.book(NewFill(exec_id="00012735.6311860f.01.01", size=Decimal(10), price=Decimal("86.41"), symbol="MRK"))
    world.ibkr.correct("00012735.6311860f.01.01", price=Decimal("86.14"), size=Decimal(9))
    [row] = world.trades()
    assert (row["execution_id"], row["price"], row["net_amount"]) == (
        "00012735.6311860f.01.02", "86.14", Decimal("775.26"),
    )  # fmt: skip
    [truth] = world.ibkr.oracle()
    assert (truth["family"], truth["revision"], truth["size"]) == ("00012735.6311860f.01", 2, "9")
    assert (truth["execId"], truth["netAmount"]) == ("00012735.6311860f.01.02", "775.26")
    world.ibkr.correct("00012735.6311860f.01.02", price=Decimal("86.15"))
    world.ibkr.quirks = Quirks(corrections="all")
    assert [row["execution_id"][-2:] for row in world.trades()] == ["03", "02", "01"]
    assert [truth["revision"] for truth in world.ibkr.oracle()] == [3]


def test_an_unknown_execution_cannot_be_corrected() -> None:
    with pytest.raises(ValueError, match="0 executions are called"):
        World().ibkr.correct("0.0.01.01", price=Decimal(1))


def test_the_same_id_may_occur_in_two_accounts() -> None:
    world = World(accounts=("U1", "U2")).ready()
    for account in world.ibkr.accounts:
        world.ibkr.book(NewFill(account=account, exec_id="a.b.01.01"))
    with pytest.raises(ValueError, match="already has"):
        world.ibkr.book(NewFill(account="U1", exec_id="a.b.01.02"))
    with pytest.raises(ValueError, match="name the account"):
        world.ibkr.correct("a.b.01.01", price=Decimal(1))
    world.ibkr.correct("a.b.01.01", account="U2", price=Decimal(1))
    assert {row["accountCode"]: row["execution_id"] for row in world.trades()} == {
        "U1": "a.b.01.01", "U2": "a.b.01.02",
    }  # fmt: skip


def test_a_combo_is_its_legs_and_perhaps_a_row_of_its_own() -> None:
    world = World().ready()
    legs = [
        NewFill(symbol="AAPL", sec_type="OPT", side="B", size=Decimal(1), price=Decimal("4.35")),
        NewFill(symbol="ES", sec_type="FOP", side="S", size=Decimal(1), price=Decimal("12.50")),
    ]
    world.ibkr.book(NewFill(exec_id="0000a.0000b.01.01", legs=legs, bag=True))
    rows = world.trades()
    assert {(row["execution_id"], row["sec_type"]) for row in rows} == {
        ("0000a.0000b.01.01", "BAG"), ("0000a.0000b.02.01", "OPT"), ("0000a.0000b.03.01", "FOP"),
    }  # fmt: skip
    assert len({row["order_id"] for row in rows}) == 1
    assert sorted(truth["secType"] for truth in world.ibkr.oracle()) == ["FOP", "OPT"]


def test_B4_a_late_booking_appears_behind_newer_rows() -> None:
    world = World().ready()
    world.ibkr.book(NewFill(symbol="MSFT", ago_seconds=600, visible_in_seconds=60))
    world.ibkr.book(NewFill(symbol="MRK"))
    assert [row["symbol"] for row in world.trades()] == ["MRK"]
    assert [truth["visible"] for truth in world.ibkr.oracle()] == [False, True]
    world.clock.advance(60)
    assert [row["symbol"] for row in world.trades()] == ["MRK", "MSFT"]


def test_B11_the_commission_comes_later() -> None:
    world = World(quirks=Quirks(commission_seconds=120)).ready()
    assert "commission" not in booked(world, commission="1.02")
    world.clock.advance(120)
    assert world.trades()[0]["commission"] == "1.02"
    assert world.ibkr.oracle()[0]["commission"] == "1.02"


def test_a_stale_list_is_refreshed_by_a_new_session() -> None:
    world = World(quirks=Quirks(stale_after_seconds=60)).ready()
    world.clock.advance(60)
    world.ibkr.book(NewFill())
    assert world.trades() == []
    world.init()
    assert len(world.trades()) == 1


def test_B14_fields_change_their_types() -> None:
    world = World(quirks=Quirks(numbers="strings")).ready()
    row = booked(world, symbol="MRK", size="9", price="86.41", commission="1.02")
    assert (row["size"], row["price"], row["net_amount"], row["conid"]) == ("9.0", "86.41", "777.69", "70101545")
    world.ibkr.quirks = Quirks(numbers="numbers")
    row = world.trades()[0]
    assert (row["price"], row["commission"], row["conid"]) == (Decimal("86.41"), Decimal("1.02"), 70101545)


def test_B13_B14_fields_come_and_go() -> None:
    world = World(quirks=Quirks(order_ids=False, unknown_fields={"new_in_2027": {"a": 1}})).ready()
    row = booked(world, overrides={"price": "1,234.5", "company_name": "", "exchange": 7})
    assert (row["new_in_2027"], row["price"], row["company_name"], row["exchange"]) == ({"a": 1}, "1,234.5", "", 7)
    assert "order_id" not in row
    world.ibkr.book(NewFill(overrides={"execution_id": None}, ago_seconds=-1))
    world.clock.advance(1)
    assert "execution_id" not in world.trades()[0]


def test_B2_rows_may_come_in_any_order() -> None:
    world = World(trades=60).ready()
    ordered = [row["execution_id"] for row in world.trades()]
    world.ibkr.quirks = Quirks(shuffled=True)
    shuffled = [row["execution_id"] for row in world.trades()]
    assert ordered != shuffled
    assert sorted(ordered) == sorted(shuffled)


# A life.


def test_the_same_seed_lives_the_same_life() -> None:
    def life(seed: str) -> list[dict[str, Any]]:
        return World(seed=seed, trades=80, fill_every=600).ibkr.oracle()

    assert life("a") == life("a")
    assert life("a") != life("b")


@pytest.mark.parametrize("count", [0, 1, 3, 40, 333])
def test_a_life_has_exactly_so_many_executions_within_its_days(count: int) -> None:
    fills = World(trades=count, days=3).ibkr.oracle()
    assert len(fills) == len({fill["execId"] for fill in fills}) == count
    assert all(START - 3 * 86_400_000 < fill["timeMs"] <= START and fill["timeMs"] % 1000 == 0 for fill in fills)


def test_a_life_has_everything_an_importer_stumbles_over() -> None:
    fills = World(trades=40).ibkr.oracle()
    assert {"STK", "FUT", "OPT", "FOP", "CASH"} <= {fill["secType"] for fill in fills}
    assert {"fill", "expiry"} == {fill["kind"] for fill in fills}
    assert any(Decimal(fill["size"]) % 1 for fill in fills)
    assert any(fill["symbol"] == "BRK B" for fill in fills)
    assert any(fill["currency"] == "EUR" for fill in fills)
    assert any(fill["commission"] is not None and Decimal(fill["commission"]) < 0 for fill in fills)
    ids = ("execId", "family", "transactionId", "tradeId")
    alike = [tuple(value for name, value in fill.items() if name not in ids) for fill in fills]
    assert len(set(alike)) < len(alike)
    assert len({fill["orderId"] for fill in fills}) < len(fills) - 1


def test_a_trader_may_keep_to_some_kinds() -> None:
    world = World(trades=60, fill_every=60, sec_types=("FUT", "CASH"))
    world.clock.advance(3600)
    assert {fill["secType"] for fill in world.ibkr.oracle()} == {"FUT", "CASH"}
    assert len(world.ibkr.oracle()) == 120
    with pytest.raises(ValueError, match="nothing of WAR"):
        World(sec_types=("WAR",))


def test_amounts_fit_together() -> None:
    for fill in World(trades=100).ibkr.oracle():
        assert Decimal(fill["netAmount"]) == (
            Decimal(fill["size"]) * Decimal(fill["price"]) * Decimal(fill["multiplier"])
        )


def test_the_list_is_the_truth() -> None:
    world = World(trades=100).ready()
    rows = {row["execution_id"]: row for row in world.trades()}
    oracle = {fill["execId"]: fill for fill in world.ibkr.oracle()}
    assert rows.keys() == oracle.keys()
    for name, fill in oracle.items():
        row = rows[name]
        assert (row["trade_time_r"], row["side"], row["accountCode"]) == (fill["timeMs"], fill["side"], fill["account"])
        assert (row["size"], Decimal(row["price"])) == (Decimal(fill["size"]), Decimal(fill["price"]))
        assert row["net_amount"] == Decimal(fill["netAmount"])
        assert row.get("commission") == fill["commission"]


def test_fills_appear_by_themselves() -> None:
    world = World(fill_every=60).ready()
    assert world.trades() == []
    world.clock.advance(170)
    assert len(world.trades()) == 3
    assert len(world.ibkr.oracle()) == 3


# Shapes, against published samples.


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text())


def shape(value: Any) -> Any:
    """Names and types; the values are the seed's."""
    match value:
        case dict():
            return {name: shape(item) for name, item in value.items()}
        case list():
            return [shape(item) for item in value[:1]]
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case _:
            return type(value).__name__


@needs_samples
def test_session_documents_are_shaped_like_the_samples() -> None:
    world = World()
    assert shape(world.post("/iserver/auth/status").json()) == shape(sample("auth-status-ok-2026-established.json"))
    assert shape(world.init().json()) == shape(sample("ssodh-init-ok.json"))
    assert shape(world.get("/sso/validate").json()) == shape(sample("sso-validate-official-example.json"))
    world.ibkr.quirks = Quirks(established=False)
    assert shape(world.post("/iserver/auth/status").json()) == shape(sample("auth-status-ok.json"))
    assert shape(world.post("/tickle").json()) == shape(sample("tickle-ok.json"))
    world.ibkr.quirks = Quirks(sso_fields=False)
    world.clock.advance(1)
    assert shape(world.post("/tickle").json()) == shape(sample("tickle-ok-2026-no-sso-fields.json"))
    world.ibkr.drop_brokerage()
    world.clock.advance(1)
    told = world.post("/tickle").json()["iserver"]["authStatus"]
    assert shape(told) == shape(sample("tickle-connected-not-authenticated.json")["iserver"]["authStatus"])
    world.ibkr.expire()
    assert shape(world.post("/iserver/auth/status").json()) == shape(sample("auth-status-logged-out.json"))


@needs_samples
def test_account_documents_are_shaped_like_the_samples() -> None:
    world = World(accounts=("U1234567",))
    assert shape(world.get("/portfolio/accounts").json()) == shape(sample("portfolio-accounts.json"))
    ours, theirs = world.get("/iserver/accounts").json(), sample("iserver-accounts.json")
    for document in (ours, theirs):
        del document["chartPeriods"]  # a list of classes that grows with each build
    assert shape(ours) == shape(theirs)


@needs_samples
def test_rows_are_shaped_like_the_samples() -> None:
    world = World().ready()
    row = booked(world, symbol="AAPL", sec_type="STK", order_ref="Order123")
    assert shape(json.loads(json.dumps(row, default=float))) == shape(sample("trades-official-example.json")[0])


@needs_samples
def test_errors_are_worded_like_the_samples() -> None:
    world = World()
    assert world.trades().json() == sample("error-400-query-accounts-first.json")
    world.ibkr.drop_brokerage()
    assert world.trades().json() == sample("error-400-no-bridge.json")
    world.ibkr.expire()
    assert world.trades().json() == sample("error-401-not-authenticated.json")


# Pacing.


def test_ten_calls_a_second_and_no_more() -> None:
    world = World()
    assert [world.status() for _ in range(10)] == [READY] * 10
    assert world.post("/iserver/auth/status").status_code == 429
    assert (world.ibkr.audit.rate_breaches, world.ibkr.audit.penalty_calls) == (1, 0)


def test_ten_calls_in_every_second() -> None:
    world = World()
    for _ in range(100):
        world.clock.advance(0.1)
        assert world.post("/iserver/auth/status").status_code == 200


@pytest.mark.parametrize(
    ("path", "gap"),
    [
        ("/iserver/account/trades", 5.0),
        ("/iserver/account/orders", 5.0),
        ("/iserver/account/pnl/partitioned", 5.0),
        ("/portfolio/accounts", 5.0),
        ("/portfolio/subaccounts", 5.0),
        ("/sso/validate", 60.0),
        ("/tickle", 1.0),
    ],
)
def test_some_calls_need_a_pause(path: str, gap: float) -> None:
    world = World()
    for _ in range(2):
        world.clock.advance(gap)
        assert world.get(path).status_code != 429
    world.clock.advance(gap - 0.01)
    assert world.get(path).status_code == 429
    assert world.ibkr.audit.rate_breaches == 1


def test_A6_a_breach_leads_into_the_penalty_box_for_a_quarter_of_an_hour() -> None:
    world = World()
    world.get("/tickle")
    refused = world.get("/tickle")
    assert (refused.status_code, "retry-after" in refused.headers) == (429, False)
    world.clock.advance(899)
    assert world.post("/iserver/auth/status").status_code == 429
    assert world.ibkr.audit.penalty_calls == 1
    world.clock.advance(1)
    assert world.get("/tickle").status_code == 200
    document = world.ibkr.audit.document()
    assert (document["rateBreaches"], document["penaltyCalls"]) == (1, 1)


def test_A6_a_planted_429_opens_the_box_unless_it_names_a_time() -> None:
    world = World()
    world.ibkr.faults.plant(
        Fault(path="status", status=429, headers={"Retry-After": "30"}), Fault(path="trades", status=429)
    )
    assert world.post("/iserver/auth/status").headers["retry-after"] == "30"
    assert world.post("/iserver/auth/status").status_code == 200
    assert world.get("/iserver/account/trades").status_code == 429
    assert world.post("/iserver/auth/status").status_code == 429
    assert (world.ibkr.audit.rate_breaches, world.ibkr.audit.penalty_calls) == (0, 1)


def test_A5_a_retry_after_is_a_quirk() -> None:
    world = World(quirks=Quirks(retry_after="900"))
    world.ibkr.penalise()
    assert world.get("/tickle").headers["retry-after"] == "900"


# Maintenance.


def test_C4_maintenance_stops_the_brokerage_servers_only() -> None:
    world = World()
    world.ibkr.maintenance(START + 60_000)
    answer = world.post("/iserver/auth/status")
    assert (answer.status_code, answer.json()["statusCode"]) == (503, 503)
    assert world.get("/portfolio/accounts").status_code == 200
    assert truths(world.get("/tickle").json()["iserver"]["authStatus"]) == {
        "authenticated": False, "connected": False, "competing": False,
    }  # fmt: skip
    world.ibkr.quirks = Quirks(unavailable_empty=True)
    assert (world.get("/iserver/accounts").status_code, world.get("/iserver/accounts").content) == (503, b"")
    world.clock.advance(60)
    assert world.status() == GONE
    assert truths(world.init().json()) == READY


def test_C4_or_nobody_listens() -> None:
    world = World()
    world.ibkr.maintenance(START + 60_000, refusing=True)
    with pytest.raises(httpx.ConnectError):
        world.get("/portfolio/accounts")
    world.clock.advance(60)
    assert world.get("/portfolio/accounts").status_code == 200


def test_C4_a_nightly_outage_at_one_o_clock() -> None:
    world = World(ms("2026-09-21T23:30:00+02:00"), region="europe", outage_minutes=10)
    world.until(ms("2026-09-22T00:00:00+02:00"))
    world.ibkr.login()
    world.until(ms("2026-09-22T00:59:59+02:00"))
    assert world.post("/iserver/auth/status").status_code == 200
    world.until(ms("2026-09-22T01:00:00+02:00"))
    assert world.post("/iserver/auth/status").status_code == 503
    world.until(ms("2026-09-22T01:10:00+02:00"))
    assert world.status() == GONE


# Orders.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/iserver/account/U1/orders"),
        ("POST", "/iserver/account/U1/orders/whatif"),
        ("POST", "/iserver/account/U1/order/17"),
        ("DELETE", "/iserver/account/U1/order/17"),
        ("POST", "/iserver/account/orders"),
        ("POST", "/iserver/reply/abc"),
    ],
)
def test_F6_no_login_may_trade(method: str, path: str) -> None:
    world = World()
    assert world.http.request(method, path, json={"orders": []}).status_code == 403
    assert world.ibkr.audit.forbidden == 1


def test_F6_reading_orders_is_no_trading() -> None:
    world = World()
    world.get("/iserver/accounts")
    assert world.get("/iserver/account/orders").json() == {"orders": [], "snapshot": True}
    assert world.ibkr.audit.forbidden == 0


def test_an_unknown_call() -> None:
    assert World().get("/iserver/nothing").status_code == 404


# Faults and the audit.


def test_faults_speak_this_brokers_language() -> None:
    world = World().ready()
    world.ibkr.faults.plant(
        Fault(path="trades", error="no session"),
        Fault(path="trades", error="Service Unavailable", status=503, call=2),
        Fault(path="iserver/accounts", html=True),
        Fault(path="status", hang=True),
    )
    world.clock.advance(5)
    answer = world.get("/iserver/account/trades/", days=7)
    assert (answer.status_code, answer.json()) == (200, {"error": "no session"})
    answer = world.trades()
    assert (answer.status_code, answer.json()) == (503, {"error": "Service Unavailable", "statusCode": 503})
    assert world.get("/portfolio/accounts").headers["content-type"].startswith("application/json")
    assert world.get("/iserver/accounts").headers["content-type"].startswith("text/html")
    with pytest.raises(httpx.ReadTimeout):
        world.post("/iserver/auth/status")


def test_every_call_is_audited() -> None:
    world = World()
    world.get("/iserver/account/trades", days=7, accountId=world.account)
    world.init()
    first, second = world.ibkr.audit.document()["calls"]
    assert (first["at"], first["path"]) == (START, "/v1/api/iserver/account/trades")
    assert first["params"] == {"days": "7", "accountId": world.account}
    assert (first["outcome"], first["status"], first["key"]) == (
        "Bad Request: Please query /accounts first", 400, "gateway",
    )  # fmt: skip
    assert second["params"] == {"publish": "True", "compete": "False"}
    world.ibkr.audit.clear()
    assert world.ibkr.audit.document()["total"] == 0


def test_it_serves_under_respx() -> None:
    world = World(trades=3)
    with respx.mock() as router, httpx.Client(base_url="https://gateway.test/v1/api") as http:
        router.route(host="gateway.test").mock(side_effect=world.ibkr.respond)
        assert http.get("/tickle").status_code == 200


# OAuth 1.0a: a client of its own, written from reference ibkr 3.


class OAuthClient:
    def __init__(self, http: httpx.Client, consumer: Consumer, clock: VirtualClock) -> None:
        self.http = http
        self.consumer = consumer
        self.clock = clock
        self.token = b""
        self.nonce = ""

    def _key(self, pem: str) -> rsa.RSAPrivateKey:
        key = serialization.load_pem_private_key(pem.encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return key

    def _prime(self) -> int:
        """The first integer of the DER sequence."""
        der = base64.b64decode("".join(self.consumer.dh_param.splitlines()[1:-1]))
        assert der[4:8] == b"\x02\x82\x01\x01"
        return int.from_bytes(der[8 : 8 + 0x101], "big")

    def _header(self, params: dict[str, str], signature: bytes) -> dict[str, str]:
        signed = params | {"oauth_signature": quote_plus(base64.b64encode(signature).decode())}
        listed = ", ".join(f'{name}="{value}"' for name, value in sorted(signed.items()))
        return {"Authorization": f'OAuth realm="{self.consumer.realm}", {listed}'}

    def _params(self, method: str, **extra: str) -> dict[str, str]:
        self.nonce = secrets.token_hex(8)
        return {
            "oauth_consumer_key": self.consumer.consumer_key,
            "oauth_nonce": self.nonce,
            "oauth_signature_method": method,
            "oauth_timestamp": str(self.clock.now() // 1000),
            "oauth_token": self.consumer.access_token,
            **extra,
        }

    @staticmethod
    def base_string(method: str, url: str, params: dict[str, str]) -> str:
        pairs = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
        return f"{method}&{quote(url, safe='')}&{quote(pairs, safe='')}"

    def handshake(self, url: str = BASE) -> httpx.Response:
        secret = self._key(self.consumer.encryption_key).decrypt(
            base64.b64decode(self.consumer.access_token_secret), padding.PKCS1v15()
        )
        prime, own = self._prime(), secrets.randbits(256)
        params = self._params("RSA-SHA256", diffie_hellman_challenge=format(pow(2, own, prime), "x"))
        text = secret.hex() + self.base_string("POST", f"{url}/oauth/live_session_token", params)
        signature = self._key(self.consumer.signature_key).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        answer = self.http.post("/oauth/live_session_token", headers=self._header(params, signature))
        if answer.status_code == 200:
            document = answer.json()
            shared = pow(int(document["diffie_hellman_response"], 16), own, prime)
            raw = bytes.fromhex(format(shared, "x").zfill((len(format(shared, "x")) + 1) // 2 * 2))
            if shared.bit_length() % 8 == 0:
                raw = b"\x00" + raw
            self.token = hmac.new(raw, secret, hashlib.sha1).digest()
            proof = hmac.new(self.token, self.consumer.consumer_key.encode(), hashlib.sha1).hexdigest()
            assert proof == document["live_session_token_signature"]
        return answer

    def call(self, method: str, path: str, *, query: dict[str, str] | None = None, signed: bool = False,
             body: object = None, params: dict[str, str] | None = None) -> httpx.Response:  # fmt: skip
        """A signed call; `signed` puts the query parameters into the signed text."""
        params = params or self._params("HMAC-SHA256")
        text = self.base_string(method, f"{BASE}{path}", params | (query or {} if signed else {}))
        signature = hmac.new(self.token, text.encode(), hashlib.sha256).digest()
        return self.http.request(method, path, headers=self._header(params, signature), params=query, json=body)


@pytest.fixture(scope="module")
def shared_consumer() -> IbkrSimulator:
    """RSA keys take a moment: made once, and lent to every world."""
    simulator = IbkrSimulator(VirtualClock(START), Setup(seed="oauth"))
    assert simulator.oauth.consumer_key.isupper()
    return simulator


class OAuthWorld(World):
    def __init__(self, lender: IbkrSimulator, **setup: Any) -> None:
        super().__init__(**{"logged_in": False, "seed": "oauth", **setup})
        self.ibkr._authority = lender._authorised()
        self.ibkr._authorised().end()
        self.client = OAuthClient(self.http, self.ibkr.oauth, self.clock)


@pytest.fixture
def oauth(shared_consumer: IbkrSimulator) -> OAuthWorld:
    return OAuthWorld(shared_consumer, trades=3)


def test_oauth_a_headless_login_reads_trades(oauth: OAuthWorld) -> None:
    client = oauth.client
    answer = client.handshake()
    assert answer.status_code == 200
    assert answer.json()["live_session_token_expiration"] == START + 24 * 3_600_000
    assert truths(client.call("POST", "/iserver/auth/status").json()) == GONE
    init = client.call("POST", "/iserver/auth/ssodh/init", body={"publish": True, "compete": False})
    assert truths(init.json()) == READY
    assert client.call("GET", "/iserver/accounts").status_code == 200
    for signed, rows in ((False, 0), (True, 3)):
        oauth.clock.advance(5)
        trades = client.call("GET", "/iserver/account/trades", query={"days": "7"}, signed=signed)
        assert len(trades.json()) == rows
    assert "ssoExpires" not in client.call("POST", "/tickle").json()
    assert oauth.ibkr.audit.calls[-1].key == "oauth"


def test_oauth_whether_the_query_is_signed_can_be_demanded(oauth: OAuthWorld) -> None:
    client = oauth.client
    client.handshake()
    for rule, allowed in (("left_out", False), ("included", True)):
        oauth.ibkr.quirks = Quirks(oauth_query=rule)  # type: ignore[arg-type]
        for signed in (False, True):
            oauth.clock.advance(5)
            answer = client.call("GET", "/portfolio/accounts", query={"a": "1"}, signed=signed)
            assert answer.status_code == (200 if signed is allowed else 401), (rule, signed)


def test_oauth_needs_no_person_and_a_person_is_no_help(oauth: OAuthWorld) -> None:
    oauth.client.handshake()
    assert oauth.get("/tickle").status_code == 401
    oauth.clock.advance(1)
    assert oauth.client.call("GET", "/tickle").status_code == 200


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"oauth_consumer_key": "TESTCONSX"}, "invalid consumer"),
        ({"oauth_token": "00"}, "invalid access token"),
        ({"oauth_timestamp": str(START // 1000 - 301)}, "invalid timestamp"),
        ({"oauth_timestamp": "soon"}, "invalid timestamp"),
        ({"oauth_signature_method": "RSA-SHA256"}, "signature method"),
    ],
    ids=["consumer", "token", "old", "no-time", "method"],
)
def test_oauth_parameters_are_checked(oauth: OAuthWorld, change: dict[str, str], text: str) -> None:
    oauth.client.handshake()
    answer = oauth.client.call("GET", "/tickle", params=oauth.client._params("HMAC-SHA256") | change)
    assert answer.status_code == 401
    assert text in answer.json()["error"]


def test_oauth_a_nonce_is_good_once(oauth: OAuthWorld) -> None:
    oauth.client.handshake()
    params = oauth.client._params("HMAC-SHA256")
    assert oauth.client.call("GET", "/portfolio/accounts", params=params).status_code == 200
    oauth.clock.advance(5)
    again = oauth.client.call("GET", "/portfolio/accounts", params=params)
    assert (again.status_code, again.json()["error"]) == (401, "invalid nonce")


def test_oauth_a_wrong_signature_is_refused(oauth: OAuthWorld) -> None:
    assert oauth.client.handshake(url="https://elsewhere.test/v1/api").json() == {
        "error": "invalid signature", "statusCode": 401,
    }  # fmt: skip
    oauth.client.handshake()
    oauth.client.token = b"\x00" * 20
    assert oauth.client.call("GET", "/tickle").status_code == 401


def test_oauth_without_a_handshake_nothing_is_signed(oauth: OAuthWorld) -> None:
    assert oauth.client.call("GET", "/tickle").json() == {"error": "not authenticated", "statusCode": 401}


def test_oauth_a_token_lasts_a_day(oauth: OAuthWorld) -> None:
    oauth.client.handshake()
    oauth.clock.advance(24 * 3600 - 1)
    assert oauth.client.call("GET", "/tickle").status_code == 200
    oauth.clock.advance(1)
    assert oauth.client.call("GET", "/tickle").status_code == 401


def test_oauth_the_nightly_reset_ends_the_brokerage_session_alone(oauth: OAuthWorld) -> None:
    client = oauth.client
    client.handshake()
    oauth.until(ms("2026-09-22T04:00:00Z") - 10_000)
    client.call("POST", "/iserver/auth/ssodh/init", body={"publish": True})
    oauth.clock.advance(10)
    assert truths(client.call("POST", "/iserver/auth/status").json()) == GONE


def test_oauth_a_logout_ends_the_token(oauth: OAuthWorld) -> None:
    oauth.client.handshake()
    assert oauth.client.call("POST", "/logout").json() == {"status": True}
    assert oauth.client.call("GET", "/tickle").status_code == 401


def test_oauth_one_username_has_one_brokerage_session(oauth: OAuthWorld) -> None:
    oauth.ibkr.login()
    oauth.client.handshake()
    init = {"publish": True, "compete": False}
    assert truths(oauth.client.call("POST", "/iserver/auth/ssodh/init", body=init).json()) == ELSEWHERE
    assert oauth.status() == READY
    taken = oauth.client.call("POST", "/iserver/auth/ssodh/init", body=init | {"compete": True})
    assert truths(taken.json()) == READY
    assert oauth.status() == ELSEWHERE
    assert oauth.ibkr.audit.takeovers == 1


def test_oauth_an_inactive_consumer(oauth: OAuthWorld) -> None:
    oauth.ibkr.quirks = Quirks(oauth_inactive=True)
    assert oauth.client.handshake().json() == {"error": "id: 39687, error: invalid consumer", "statusCode": 401}


def test_oauth_a_stale_token_is_cured_by_a_new_one(oauth: OAuthWorld) -> None:
    oauth.client.handshake()
    oauth.ibkr.quirks = Quirks(oauth_stale=True)
    assert oauth.client.call("GET", "/portfolio/accounts").status_code == 410
    oauth.client.handshake()
    oauth.clock.advance(5)
    assert oauth.client.call("GET", "/portfolio/accounts").status_code == 200


def test_oauth_some_logins_get_no_brokerage_session(oauth: OAuthWorld) -> None:
    oauth.ibkr.quirks = Quirks(oauth_no_dh_token=True)
    oauth.client.handshake()
    answer = oauth.client.call("POST", "/iserver/auth/ssodh/init", body={"publish": True, "compete": False})
    assert (answer.status_code, answer.json()) == (500, {"error": "failed to generate sso dh token"})


def test_oauth_secrets_stay_out_of_the_audit(oauth: OAuthWorld) -> None:
    oauth.client.handshake()
    oauth.client.call("GET", "/tickle")
    text = json.dumps(oauth.ibkr.audit.document())
    assert oauth.ibkr.oauth.access_token not in text
    assert oauth.ibkr.oauth.consumer_key not in text
    assert oauth.ibkr.oauth.access_token not in repr(oauth.ibkr.oauth)


# Over sockets, with TLS.


@pytest.fixture
def gateway() -> Iterator[tuple[IbkrSimulator, BrokerServer]]:
    simulator = IbkrSimulator(VirtualClock(START), Setup(trades=3))
    with BrokerServer(RemoteControlled(simulator), tls=True) as server:
        yield simulator, server


def trusting(server: BrokerServer) -> httpx.Client:
    context = ssl.create_default_context(cadata=server.certificate)
    return httpx.Client(base_url=server.address, verify=context, timeout=5, trust_env=False)


def test_A14_the_certificate_is_its_own_and_has_a_fingerprint(gateway: tuple[IbkrSimulator, BrokerServer]) -> None:
    _, server = gateway
    assert server.address.startswith("https://127.0.0.1:")
    pem = ssl.get_server_certificate(("127.0.0.1", int(server.address.rpartition(":")[2])))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    assert server.fingerprint == ":".join(digest[start : start + 2] for start in range(0, 64, 2))
    with httpx.Client(base_url=server.address, trust_env=False) as stranger, pytest.raises(httpx.ConnectError):
        stranger.get("/v1/api/tickle")
    with trusting(server) as http:
        assert http.get("/v1/api/tickle").status_code == 200


def test_a_connection_that_never_shakes_hands_holds_up_nobody(gateway: tuple[IbkrSimulator, BrokerServer]) -> None:
    _, server = gateway
    port = int(server.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)), trusting(server) as http:
        assert http.get("/v1/api/tickle").status_code == 200


def test_faults_work_under_tls(gateway: tuple[IbkrSimulator, BrokerServer]) -> None:
    simulator, server = gateway
    simulator.faults.plant(Fault(reset=True), Fault(call=2, hang=True), Fault(call=3, truncate=3, keep_length=True))
    with trusting(server) as http:
        with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):  # TLS reads a reset as an early end
            http.get("/v1/api/iserver/auth/status")
        with pytest.raises(httpx.ReadTimeout):
            http.get("/v1/api/iserver/auth/status", timeout=0.2)
        with pytest.raises(httpx.RemoteProtocolError):
            http.get("/v1/api/iserver/auth/status")
        assert http.get("/v1/api/iserver/auth/status").status_code == 200


def test_a_stopped_gateway_answers_nobody(gateway: tuple[IbkrSimulator, BrokerServer]) -> None:
    _, server = gateway
    with trusting(server) as http:
        assert http.get("/v1/api/tickle").status_code == 200
        server.close()
        with pytest.raises(httpx.TransportError):
            http.get("/v1/api/tickle")


def test_A15_calls_in_flight_at_once_are_counted(gateway: tuple[IbkrSimulator, BrokerServer]) -> None:
    simulator, server = gateway
    with trusting(server) as http:
        for _ in range(2):
            http.get("/v1/api/iserver/auth/status")
        assert simulator.audit.max_in_flight == 1
        simulator.faults.plant(Fault(times=3, delay=0.5))
        threads = [threading.Thread(target=http.get, args=("/v1/api/iserver/auth/status",)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert simulator.audit.max_in_flight == 3


# On its own.


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    options = [
        *("--http", "--trades", "20", "--seed", "7", "--account", "U1", "--account", "U2", "--alias", "U2=Pension"),
        *("--oauth-dir", str(tmp_path / "keys"), "--virtual-clock", str(START), "--fill-every", "60", "--logged-out"),
    ]
    with standalone_broker("ibkr", *options) as process:
        yield process


def test_it_runs_alone_and_is_driven_from_outside(standalone: subprocess.Popen[str], tmp_path: Path) -> None:
    info = announced(standalone)
    assert info.keys() == {
        "address", "baseUrl", "loginUrl", "fingerprint", "accounts", "oauth", "oracle", "audit", "control",
        "flex",
    }  # fmt: skip
    assert (info["accounts"], info["fingerprint"]) == (["U1", "U2"], None)
    assert info["oauth"].keys() == {"consumerKey", "accessToken", "accessTokenSecret", "realm", "directory"}
    names = {path.name for path in (tmp_path / "keys").iterdir()}
    assert names == {"private_signature.pem", "private_encryption.pem", "dhparam.pem"}
    with httpx.Client(trust_env=False, timeout=5) as http:

        def control(name: str, document: object) -> Any:
            answer = http.post(f"{info['control']}/{name}", json=document)
            assert answer.status_code == 200, answer.text
            return answer.json()

        def trades() -> Any:
            control("clock", {"advanceSeconds": 5})
            return http.get(f"{info['baseUrl']}/iserver/account/trades", params={"days": 7}).json()

        assert http.get(f"{info['baseUrl']}/tickle").status_code == 401
        assert "Client login succeeds" in http.post(f"{info['address']}/sso/Login").text
        assert http.get(f"{info['control']}/state").json()["loggedIn"] is True
        assert http.get(f"{info['baseUrl']}/iserver/accounts").json()["aliases"] == {"U1": "U1", "U2": "Pension"}
        assert trades() == []
        assert len(trades()) == 20
        booked = control("fills", [{"symbol": "MSFT", "account": "U2", "count": 2}, {"visibleInSeconds": 900}])
        assert [fill["visible"] for fill in booked["fills"]] == [True, True, False]
        corrected = control("corrections", {"execId": booked["fills"][0]["execId"], "price": "400.01"})
        assert (corrected["fill"]["revision"], corrected["fill"]["price"]) == (2, "400.01")
        assert len(trades()) == 22
        oracle = http.get(info["oracle"]).json()
        assert oracle["count"] == len(oracle["fills"]) == 23

        control("quirks", {"shortDaysEmpty": False, "numbers": "strings"})
        assert isinstance(trades()[0]["size"], str)
        control("faults", {"path": "trades", "status": 503, "error": "Service Unavailable"})
        assert trades() == {"error": "Service Unavailable", "statusCode": 503}
        assert control("session", {"do": "compete"})["competitor"] == "owner"
        assert control("session", {"do": "release"})["competitor"] is None
        assert control("session", {"do": "drop"})["brokerage"] is None
        assert control("session", {"do": "maintenance", "seconds": 60})["maintenance"] is True
        assert control("session", {"do": "maintenance", "seconds": 0})["maintenance"] is False
        assert control("session", {"do": "expire"})["loggedIn"] is False
        assert control("session", {"do": "login"})["brokerage"] == "gateway"
        assert control("session", {"do": "penalise"})["penaltySeconds"] == 900

        audit = http.get(info["audit"]).json()
        assert audit["byPath"]["/v1/api/iserver/account/trades"] == 5
        assert (audit["rateBreaches"], audit["takeovers"], audit["maxInFlight"]) == (0, 0, 1)
        http.delete(info["audit"])
        assert http.get(info["audit"]).json()["total"] == 0
        assert http.post(f"{info['control']}/session", json={"do": "nothing"}).status_code == 400
        assert http.get(f"{info['control']}/nothing").status_code == 404


def test_it_ends_on_sigterm(standalone: subprocess.Popen[str]) -> None:
    announced(standalone)
    standalone.send_signal(signal.SIGTERM)
    assert standalone.wait(10) == 0


def test_it_ends_with_its_parent(standalone: subprocess.Popen[str]) -> None:
    announced(standalone)
    assert standalone.stdin is not None
    standalone.stdin.close()
    assert standalone.wait(10) == 0


def test_the_machines_clock_cannot_be_driven() -> None:
    remote = RemoteControlled(IbkrSimulator(SystemClock(), Setup()))
    answer = remote.handle(Request("POST", "/sandbox/clock", "", {}, b'{"advanceSeconds":1}', "localhost"))
    assert answer.status == 400
    assert b"--virtual-clock" in answer.body
