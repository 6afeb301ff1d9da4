"""The simulated Flex Web Service behaves as reference ibkr 4 says, and tells of the live simulator's executions."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from sandbox.brokers.ibkr import Fault, FlexCode, FlexQuirks, IbkrSimulator, NewFill, Setup
from sandbox.brokers.ibkr.control import RemoteControlled
from sandbox.brokers.serving import BrokerServer
from sandbox.clock import VirtualClock
from tests.connectors.test_ibkr_flex import ALL_CODES
from tests.support.standalone import announced, standalone_broker

START = 1_790_000_000_000  # 2026-09-21T14:13:20Z, a Monday morning in New York
TODAY = date(2026, 9, 21)
YESTERDAY = date(2026, 9, 20)
BASE = "https://ndcdyn.interactivebrokers.com/AccountManagement/FlexWebService/"
SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "ibkr"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")
EASTERN = ZoneInfo("America/New_York")


def at(text: str) -> Decimal:
    """Epoch seconds of an Eastern wall time."""
    return Decimal(int(datetime.fromisoformat(text).replace(tzinfo=EASTERN).timestamp()))


def days(first: date, last: date) -> dict[str, str]:
    return {"fd": f"{first:%Y%m%d}", "td": f"{last:%Y%m%d}"}


class World:
    """A login on a virtual clock, and somebody who asks it for statements."""

    def __init__(self, start: int = START, quirks: FlexQuirks | None = None, **setup: Any) -> None:
        self.clock = VirtualClock(start)
        self.ibkr = IbkrSimulator(self.clock, Setup(**setup))
        self.flex = self.ibkr.flex
        self.flex.quirks = quirks or FlexQuirks()
        self.http = httpx.Client(transport=self.ibkr.transport(), base_url=BASE)

    def call(self, name: str, **params: str) -> httpx.Response:
        """At its own pace: ten in a minute."""
        self.clock.advance(6)
        return self.http.get(name, params={"t": self.flex.token, "v": "3", **params})

    def answer(self, name: str, **params: str) -> dict[str, str]:
        return fields(self.call(name, **params))

    def send(self, query: str | None = None, **params: str) -> dict[str, str]:
        return self.answer("SendRequest", q=query or self.flex.activity_query, **params)

    def get(self, reference: str) -> httpx.Response:
        return self.call("GetStatement", q=reference)

    def document(self, query: str | None = None, **params: str) -> ET.Element:
        sent = self.send(query, **params)
        assert sent["Status"] == "Success", sent
        answer = self.get(sent["ReferenceCode"])
        while "<ErrorCode>1019<" in answer.text:
            answer = self.get(sent["ReferenceCode"])
        return ET.fromstring(answer.text)

    def rows(self, name: str = "Trade", query: str | None = None, **params: str) -> list[dict[str, str]]:
        return [dict(row.attrib) for row in self.document(query, **params).iter(name)]

    def confirmed(self, **params: str) -> list[dict[str, str]]:
        return self.rows("TradeConfirm", self.flex.confirm_query, **params)

    def until(self, eastern: str) -> None:
        self.clock.advance(float(at(eastern)) - self.clock.now() / 1000)


def fields(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/xml")
    root = ET.fromstring(answer.text)
    assert root.tag == "FlexStatementResponse"
    return {child.tag: child.text or "" for child in root}


# Two steps.


def test_a_statement_is_ordered_made_and_fetched() -> None:
    world = World(trades=20, quirks=FlexQuirks(generation_seconds=10))
    sent = world.send()
    assert sent == {"Status": "Success", "ReferenceCode": sent["ReferenceCode"], "Url": f"{BASE}GetStatement"}
    assert sent["ReferenceCode"].isdigit()
    waiting = fields(world.get(sent["ReferenceCode"]))
    assert (waiting["Status"], waiting["ErrorCode"]) == ("Warn", "1019")
    root = ET.fromstring(world.get(sent["ReferenceCode"]).text)
    assert (root.tag, root.attrib["type"]) == ("FlexQueryResponse", "AF")
    assert world.get(sent["ReferenceCode"]).text == world.get(sent["ReferenceCode"]).text, "as often as one likes"


def test_generation_can_last_so_many_polls() -> None:
    world = World(quirks=FlexQuirks(generation_polls=3, generation_seconds=0))
    reference = world.send()["ReferenceCode"]
    assert [fields(world.get(reference))["ErrorCode"] for _ in range(3)] == ["1019"] * 3
    assert "FlexQueryResponse" in world.get(reference).text


def test_a_reference_lives_for_a_while_and_belongs_to_its_token() -> None:
    world = World(quirks=FlexQuirks(reference_seconds=60))
    reference = world.send()["ReferenceCode"]
    assert fields(world.get("4711"))["ErrorCode"] == "1017"
    world.clock.advance(60)
    assert fields(world.get(reference))["ErrorCode"] == "1017"
    reference = world.send()["ReferenceCode"]
    world.flex.renew_token()
    assert fields(world.get(reference))["ErrorCode"] == "1017"


def test_the_same_request_soon_again_may_get_the_same_document() -> None:
    world = World(quirks=FlexQuirks(cache_seconds=600))
    asked = days(TODAY, TODAY)
    before = world.document(world.flex.confirm_query, **asked)
    world.ibkr.book(NewFill(ago_seconds=3600))
    assert world.confirmed(**asked) == []
    assert len(world.confirmed(**days(YESTERDAY, TODAY))) == 1, "another request is another document"
    world.clock.advance(600)
    after = world.document(world.flex.confirm_query, **asked)
    assert len(list(after.iter("TradeConfirm"))) == len(list(before.iter("TradeConfirm"))) + 1


@pytest.mark.parametrize(
    ("quirks", "begins"),
    [
        (FlexQuirks(), '<FlexStatementResponse timestamp="21 September, 2026 10:13 AM EDT">'),
        (FlexQuirks(single_quotes=True), "<FlexStatementResponse timestamp='21 September, 2026 10:13 AM EDT'>"),
        (FlexQuirks(timestamp=False), "<FlexStatementResponse>"),
    ],
    ids=["double", "single", "no timestamp"],
)
def test_the_envelope_varies(quirks: FlexQuirks, begins: str) -> None:
    assert World(quirks=quirks).call("SendRequest", q="1").text.startswith(begins)


def test_the_named_address_varies() -> None:
    assert World(quirks=FlexQuirks(lower_url=True, url="https://x.example/")).send()["url"] == "https://x.example/"


# Who may ask, and how often.


def test_a_user_agent_is_mandatory() -> None:
    world = World()
    answer = world.http.get("SendRequest", params={"t": world.flex.token}, headers={"user-agent": ""})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"t": "123456789"}, "1015"),
        ({"q": "1"}, "1014"),
        ({"v": "2"}, "1020"),
        ({"fd": "20260901"}, "1020"),
        ({"fd": "2026-09-01", "td": "2026-09-02"}, "1020"),
        ({"fd": "20260902", "td": "20260901"}, "1020"),
        ({"fd": "20240901", "td": "20260901"}, "1001"),
        ({"p": "many"}, "1020"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(params: dict[str, str], expected: str) -> None:
    world = World()
    assert fields(world.call("SendRequest", **{"q": world.flex.activity_query, **params}))["ErrorCode"] == expected


def test_a_token_ends_after_a_year_and_a_new_one_voids_it() -> None:
    world = World()
    old = world.flex.token
    world.clock.advance(365 * 86_400)
    assert world.send()["ErrorCode"] == "1012"
    world.flex.renew_token()
    assert world.send()["Status"] == "Success"
    assert fields(world.call("SendRequest", t=old, q=world.flex.activity_query))["ErrorCode"] == "1015"


def test_one_call_a_second_and_ten_a_minute_polling_included() -> None:
    world = World()

    def outcomes(gaps: list[float]) -> list[str]:
        for gap in gaps:
            world.clock.advance(gap)
            world.http.get("GetStatement", params={"t": world.flex.token, "v": "3", "q": "1"})
        return [call.outcome for call in world.ibkr.audit.calls]

    assert outcomes([1.0] * 10) == ["1017"] * 10
    assert outcomes([49.0])[-1] == "1018", "the eleventh in a minute"
    assert world.ibkr.audit.rate_breaches == 1
    world.clock.advance(61)
    world.ibkr.audit.clear()
    assert outcomes([0.0, 0.9]) == ["1017", "1018"]
    assert outcomes([59.0])[-1] == "1017"
    assert world.ibkr.audit.penalty_calls == 1, "it came within the minute of silence"


@pytest.mark.parametrize("number", ALL_CODES)
def test_every_code_can_be_asked_for(number: int) -> None:
    world = World()
    world.flex.plant(FlexCode(code=number))
    answer = world.send()
    assert (answer["ErrorCode"], answer["Status"]) == (str(number), "Warn" if number == 1019 else "Fail")
    assert answer["ErrorMessage"] != "Unknown error."
    assert world.send()["Status"] == "Success"


def test_codes_can_last() -> None:
    world = World()
    world.flex.plant(
        FlexCode(code=1009, call="SendRequest", times=2), FlexCode(code=1021, call="GetStatement", times=None)
    )
    assert [world.send().get("ErrorCode") for _ in range(3)] == ["1009", "1009", None]
    assert [fields(world.get("1"))["ErrorCode"] for _ in range(3)] == ["1021"] * 3
    assert [code.code for code in world.flex.pending()] == [1021]
    world.flex.clear()
    assert fields(world.get("1"))["ErrorCode"] == "1017"


@needs_samples
@pytest.mark.parametrize(
    "path",
    sorted(SAMPLES.glob("flex-fail-*.xml")) + sorted(SAMPLES.glob("flex-warn-*.xml")),
    ids=lambda path: path.stem,
)
def test_the_words_are_the_published_ones(path: Path) -> None:
    published = {child.tag: child.text for child in ET.fromstring(path.read_text())}
    world = World()
    world.flex.plant(FlexCode(code=int(published["ErrorCode"] or 0)))
    assert world.send() == published


def test_faults_of_any_kind_strike_here_too() -> None:
    world = World()
    world.ibkr.faults.plant(Fault(path="SendRequest", html=True, status=502))
    assert world.call("SendRequest", q="1").status_code == 502
    assert world.ibkr.audit.calls[-1].outcome.startswith("fault:")


def test_the_audit_knows_no_token() -> None:
    world = World()
    world.document()
    assert world.flex.token not in json.dumps(world.ibkr.audit.document())
    assert [call.path.rpartition("/")[2] for call in world.ibkr.audit.calls] == ["SendRequest", "GetStatement"]


# Which days.


@pytest.mark.parametrize(
    ("now", "final"),
    [
        ("2026-09-22T02:59:00", "2026-09-20"),
        ("2026-09-22T03:01:00", "2026-09-21"),
        ("2026-09-21T23:00:00", "2026-09-20"),
    ],
)
def test_activity_ends_yesterday_once_that_is_final(now: str, final: str) -> None:
    world = World()
    world.until(now)
    last = date.fromisoformat(final)
    assert world.send(**days(last, last))["Status"] == "Success"
    assert world.send(**days(last, last + timedelta(days=1)))["ErrorCode"] == "1003"


def test_a_day_can_come_late() -> None:
    world = World(quirks=FlexQuirks(late_days=1))
    assert world.send(**days(TODAY - timedelta(days=2), YESTERDAY))["ErrorCode"] == "1003"
    assert world.flex.last_final_day() == date(2026, 9, 19)


def test_a_day_that_is_not_final_can_hang_or_be_left_out() -> None:
    world = World(quirks=FlexQuirks(unfinalised="hang"))
    reference = world.send(**days(TODAY, TODAY))["ReferenceCode"]
    world.clock.advance(1800)
    assert fields(world.get(reference))["ErrorCode"] == "1019"
    world = World(quirks=FlexQuirks(unfinalised="cut"))
    [statement] = world.document(**days(YESTERDAY, TODAY)).iter("FlexStatement")
    assert (statement.attrib["fromDate"], statement.attrib["toDate"]) == ("20260920", "20260920")


def test_without_days_it_is_a_whole_year() -> None:
    [statement] = World().document().iter("FlexStatement")
    assert (statement.attrib["fromDate"], statement.attrib["toDate"]) == ("20250921", "20260920")
    [statement] = World().document(p="7").iter("FlexStatement")
    assert (statement.attrib["fromDate"], statement.attrib["toDate"]) == ("20260914", "20260920")


def test_no_trades_are_an_empty_section_or_no_statement() -> None:
    [statement] = World().document().iter("FlexStatement")
    assert [(child.tag, len(child)) for child in statement] == [("Trades", 0)]
    assert World(quirks=FlexQuirks(empty_window="1003")).send()["ErrorCode"] == "1003"
    [statement] = World(quirks=FlexQuirks(section=False)).document().iter("FlexStatement")
    assert len(statement) == 0


def test_confirmations_cover_today_with_a_lag() -> None:
    world = World()
    world.ibkr.book(NewFill())
    world.clock.advance(400)
    assert world.confirmed() == []
    world.clock.advance(420)
    assert len(world.confirmed()) == 1
    [statement] = world.document(world.flex.confirm_query).iter("FlexStatement")
    assert (statement.attrib["fromDate"], statement.attrib["period"]) == ("20260921", "Today")
    assert world.rows() == [], "activity statements know nothing of today"


def test_the_trading_day_begins_the_evening_before() -> None:
    world = World(START + 10 * 86_400_000)
    for clock in ("17:59:59", "18:00:00", "19:59:59", "20:00:00"):
        world.ibkr.book(NewFill(symbol="AAPL", sec_type="STK", time=at(f"2026-09-22T{clock}")))
        world.ibkr.book(NewFill(symbol="MES", time=at(f"2026-09-22T{clock}")))
    found = {(row["assetCategory"], row["dateTime"][9:]): row["tradeDate"] for row in world.rows()}
    assert found == {
        ("STK", "175959"): "20260922", ("STK", "180000"): "20260922", ("STK", "195959"): "20260922",
        ("STK", "200000"): "20260923",
        ("FUT", "175959"): "20260922", ("FUT", "180000"): "20260923", ("FUT", "195959"): "20260923",
        ("FUT", "200000"): "20260923",
    }  # fmt: skip


def test_late_bookings_are_reported_late() -> None:
    world = World()
    world.ibkr.book(NewFill(time=at("2026-09-17T11:00:00"), visible_in_seconds=86_400))
    world.until("2026-09-24T12:00:00")
    [row] = world.rows()
    assert (row["tradeDate"], row["reportDate"]) == ("20260917", "20260922")


# The same executions as the live API's.


def signed(fill: dict[str, Any]) -> Decimal:
    return -Decimal(fill["size"]) if fill["side"] == "S" else Decimal(fill["size"])


def test_it_tells_of_the_oracles_executions_and_no_others() -> None:
    world = World(trades=80, days=30, end=START - 3 * 86_400_000, accounts=("U1", "U2"))
    truth = {fill["execId"]: fill for fill in world.ibkr.oracle() if fill["kind"] == "fill"}
    rows = {row["ibExecID"]: row for row in world.rows() if row["ibExecID"]}
    assert rows.keys() == truth.keys()
    for name, row in rows.items():
        fill = truth[name]
        moment = datetime.strptime(row["dateTime"], "%Y%m%d;%H%M%S").replace(tzinfo=EASTERN)
        assert int(moment.astimezone(UTC).timestamp() * 1000) == fill["timeMs"]
        assert Decimal(row["quantity"]) == signed(fill)
        assert row["buySell"] == ("SELL" if fill["side"] == "S" else "BUY")
        assert Decimal(row["tradePrice"]) == Decimal(fill["price"])
        assert -Decimal(row["ibCommission"]) == Decimal(fill["commission"])
        assert Decimal(row["tradeMoney"]) == signed(fill) * Decimal(fill["price"]) * Decimal(fill["multiplier"])
        assert Decimal(row["netCash"]) == -Decimal(row["tradeMoney"]) - Decimal(fill["commission"])
        assert (row["accountId"], row["conid"]) == (fill["account"], str(fill["conid"]))
        assert (row["currency"], row["multiplier"]) == (fill["currency"], fill["multiplier"])
        assert (row["transactionID"], row["tradeID"]) == (fill["transactionId"], fill["tradeId"])
        assert row["ibOrderID"] != str(fill["orderId"])
        assert (row["levelOfDetail"], row["transactionType"]) == ("EXECUTION", "ExchTrade")
    orders = {(fill["orderId"], rows[name]["ibOrderID"]) for name, fill in truth.items()}
    assert len(orders) == len({live for live, _ in orders}) == len({flex for _, flex in orders})


def test_years_reach_behind_what_the_live_api_remembers() -> None:
    world = World(trades=12, days=6, years=2)
    times = [fill["timeMs"] for fill in world.ibkr.oracle()]
    assert len(times) == 12 + 2 * 730
    assert min(times) < START - 700 * 86_400_000
    recent = [fill["execId"] for fill in World(trades=12, days=6).ibkr.oracle()]
    assert [fill["execId"] for fill in world.ibkr.oracle()][-12:] == recent, "the recent days are the same with it"
    year = {row["transactionID"] for row in world.rows(**days(date(2025, 1, 1), date(2025, 12, 31)))}

    def happened(first: str, last: str) -> set[str]:
        bounds = range(int(at(first) * 1000), int(at(last) * 1000))
        return {fill["transactionId"] for fill in world.ibkr.oracle() if fill["timeMs"] in bounds}

    # A trading day begins the evening before.
    assert happened("2025-01-01T00:00:00", "2025-12-31T18:00:00") <= year
    assert year <= happened("2024-12-31T18:00:00", "2026-01-01T00:00:00")
    assert len(year) > 600


def test_symbols_are_those_of_statements() -> None:
    world = World(trades=60, end=START - 3 * 86_400_000)
    shown = {
        (row["assetCategory"], row["symbol"], row["multiplier"], row["strike"], row["putCall"]) for row in world.rows()
    }
    assert {
        ("STK", "BRK B", "1", "", ""),
        ("OPT", "AAPL  270115C00200000", "100", "200", "C"),
        ("FOP", "EX2V6 P4300", "50", "4300", "P"),
        ("FUT", "MESZ6", "5", "", ""),
        ("CASH", "EUR.USD", "1", "", ""),
    } <= shown


@pytest.mark.parametrize(
    ("sides", "marks"),
    [("BBSS", ["O", "O", "C", "C"]), ("SB", ["O", "C"])],
)
def test_opening_and_closing_is_marked(sides: str, marks: list[str]) -> None:
    world = World()
    for number, side in enumerate(sides):
        world.ibkr.book(NewFill(symbol="MRK", side=side, size=Decimal(5), time=at(f"2026-09-15T10:00:0{number}")))
    rows = sorted(world.rows(), key=lambda row: row["dateTime"])
    assert [row["openCloseIndicator"] for row in rows] == marks


def test_a_reversal_is_marked_as_both() -> None:
    world = World()
    world.ibkr.book(NewFill(symbol="MRK", side="B", size=Decimal(5), time=at("2026-09-15T10:00:00")))
    world.ibkr.book(NewFill(symbol="MRK", side="S", size=Decimal(8), time=at("2026-09-15T10:00:01")))
    world.ibkr.book(NewFill(symbol="EUR", side="S", time=at("2026-09-15T10:00:02")))
    rows = sorted(world.rows(), key=lambda row: row["dateTime"])
    assert [row["openCloseIndicator"] for row in rows] == ["O", "C;O", ""]


# Cancels, corrections, expiries (4.6).


def traded(world: World, **fill: Any) -> str:
    new = {
        "symbol": "MRK",
        "side": "S",
        "size": Decimal("1143.28"),
        "price": Decimal("10.5"),
        "commission": Decimal("2.5"),
    }
    [booked] = world.ibkr.book(NewFill(**{**new, "time": at("2026-09-15T10:00:00"), **fill}))
    return booked.execution_id


def test_B9_a_correction_is_a_cancel_and_a_rebooking_that_keeps_the_fee_on_the_original() -> None:
    world = World()
    execution = traded(world)
    world.ibkr.correct(execution, size=Decimal("1145.93"))
    assert [row["tradePrice"] for row in world.rows(**days(date(2026, 9, 15), date(2026, 9, 15)))] == ["10.5"]
    world.until("2026-09-22T12:00:00")
    original, cancel, rebook = sorted(world.rows(), key=lambda row: row["transactionID"])
    assert [row["transactionType"] for row in (original, cancel, rebook)] == ["ExchTrade", "TradeCancel", "ExchTrade"]
    assert [row["quantity"] for row in (original, cancel, rebook)] == ["-1143.28", "1143.28", "-1145.93"]
    assert [row["ibCommission"] for row in (original, cancel, rebook)] == ["-2.5", "0", "0"]
    assert [row["ibExecID"] for row in (original, cancel, rebook)] == [execution, "", execution[:-2] + "02"]
    assert original["tradeID"] == rebook["tradeID"] == cancel["origTradeID"]
    assert cancel["tradeID"] == ""
    assert cancel["origTransactionID"] == original["transactionID"]
    assert (cancel["buySell"], cancel["notes"], cancel["exchange"]) == ("SELL (Ca.)", "Ca", "--")
    assert [row["reportDate"] for row in (original, cancel, rebook)] == ["20260915", "20260921", "20260921"]
    assert len({(row["dateTime"], row["ibOrderID"]) for row in (original, cancel, rebook)}) == 1
    [truth] = world.ibkr.oracle()
    assert (truth["revision"], truth["size"], truth["commission"]) == (2, "1145.93", "2.5")
    assert (truth["transactionId"], truth["cancelled"]) == (rebook["transactionID"], False)


def test_B8_a_plain_cancel_has_no_rebooking() -> None:
    world = World()
    execution = traded(world, side="B")
    assert world.ibkr.cancel(execution)["cancelled"] is True
    world.until("2026-09-22T12:00:00")
    original, cancel = sorted(world.rows(), key=lambda row: row["transactionID"])
    assert (original["ibExecID"], original["quantity"]) == (execution, "1143.28")
    assert (cancel["transactionType"], cancel["buySell"], cancel["quantity"]) == (
        "TradeCancel",
        "BUY (Ca.)",
        "-1143.28",
    )
    assert Decimal(original["netCash"]) + Decimal(cancel["netCash"]) == Decimal("-2.5"), "only the fee remains"
    assert [truth["cancelled"] for truth in world.ibkr.oracle()] == [True]


def test_a_correction_of_a_correction_and_then_a_cancel() -> None:
    world = World()
    execution = traded(world)
    world.ibkr.correct(execution, price=Decimal("10.6"))
    world.ibkr.correct(execution, price=Decimal("10.7"))
    world.ibkr.cancel(execution)
    world.until("2026-09-22T12:00:00")
    rows = world.rows()
    cancels = {row["origTransactionID"] for row in rows if row["transactionType"] == "TradeCancel"}
    booked = {row["transactionID"] for row in rows if row["transactionType"] == "ExchTrade"}
    assert cancels == booked
    assert len(booked) == 3
    assert len({row["transactionID"] for row in rows}) == 6
    assert sum(Decimal(row["quantity"]) for row in rows) == 0


def test_a_cancel_is_confirmed_the_same_day() -> None:
    world = World()
    execution = traded(world, time=None, ago_seconds=3600.0)
    world.ibkr.cancel(execution)
    world.clock.advance(600)
    original, cancel = world.confirmed()
    assert (original["execID"], original["quantity"], original["commission"]) == (execution, "-1143.28", "-2.5")
    assert (cancel["code"], cancel["origTradeID"]) == ("Ca", original["tradeID"])
    assert "transactionID" not in original
    assert "ibExecID" not in original


def test_the_original_transaction_may_be_missing() -> None:
    world = World(quirks=FlexQuirks(orig_transactions=False))
    world.ibkr.cancel(traded(world))
    world.until("2026-09-22T12:00:00")
    assert {row["origTransactionID"] for row in world.rows()} == {"0"}


def test_B16_an_expiry_is_booked_without_an_execution_id() -> None:
    world = World()
    [fill] = world.ibkr.book(NewFill(symbol="ES", sec_type="FOP", expiry=True, time=at("2026-09-19T01:11:00")))
    [row] = world.rows()
    assert (row["transactionType"], row["ibExecID"], row["exchange"], row["notes"]) == ("BookTrade", "", "--", "Ep")
    assert (row["tradePrice"], row["ibCommission"], row["openCloseIndicator"]) == ("0", "0", "C")
    assert (row["dateTime"], row["reportDate"]) == ("20260918;162000", "20260918"), "the evening of the last day"
    assert fill.side == "X"
    world.until("2026-09-21T12:00:00")
    assert world.confirmed(**days(date(2026, 9, 1), TODAY)) == []


def test_B16_an_assignment_books_the_option_and_its_stock() -> None:
    world = World()
    world.ibkr.book(
        NewFill(symbol="AAPL", sec_type="OPT", assignment=True, size=Decimal(2), time=at("2026-09-18T12:00:00"))
    )
    option, stock = sorted(world.rows(), key=lambda row: row["assetCategory"])
    assert {row["transactionType"] for row in (option, stock)} == {"BookTrade"}
    assert {(row["ibExecID"], row["notes"]) for row in (option, stock)} == {("", "A")}
    assert (option["buySell"], option["quantity"], option["tradePrice"]) == ("BUY", "2", "0")
    assert (stock["buySell"], stock["quantity"], stock["tradePrice"]) == ("SELL", "-200", "200")
    visible = {fill["secType"]: fill["visible"] for fill in world.ibkr.oracle()}
    assert visible == {"OPT": True, "STK": False}, "the live list shows no stock"
    with pytest.raises(ValueError, match="no option"):
        world.ibkr.book(NewFill(symbol="MRK", assignment=True))


# Shapes.


def test_B25_sums_stand_among_the_executions() -> None:
    world = World(trades=60, end=START - 3 * 86_400_000)
    root = world.document()
    [trades] = root.iter("Trades")
    levels = Counter((row.tag, row.attrib["levelOfDetail"]) for row in trades)
    assert levels.keys() == {
        ("Trade", "EXECUTION"), ("Order", "ORDER"), ("SymbolSummary", "SYMBOL_SUMMARY"),
        ("AssetSummary", "ASSET_SUMMARY"),
    }  # fmt: skip
    rows = {tag: [row.attrib for row in trades if row.tag == tag] for tag, _ in levels}
    executed = sum(Decimal(row["netCash"]) for row in rows["Trade"])
    assert sum(Decimal(row["netCash"]) for row in rows["SymbolSummary"]) == executed
    assert sum(Decimal(row["netCash"]) for row in rows["AssetSummary"]) == executed
    assert {(row["ibExecID"], row["tradeID"], row["transactionID"]) for row in rows["Order"]} == {("", "", "")}
    confirmed = world.document(world.flex.confirm_query, **days(date(2026, 9, 1), TODAY))
    assert {row.tag for section in confirmed.iter("TradeConfirms") for row in section} == {
        "TradeConfirm", "Order", "SymbolSummary",
    }  # fmt: skip


def test_several_accounts_are_several_statements() -> None:
    world = World(trades=30, accounts=("U1", "U2", "U3"), aliases={"U2": "Pension"}, end=START - 3 * 86_400_000)
    root = world.document()
    assert root.find("FlexStatements").attrib == {"count": "3"}  # type: ignore[union-attr]
    for statement in root.iter("FlexStatement"):
        account = statement.attrib["accountId"]
        assert {row.attrib["accountId"] for row in statement.iter("Trade")} == {account}
        assert {row.attrib["acctAlias"] for row in statement.iter("Trade")} == {"Pension" if account == "U2" else ""}
    world.flex.quirks = FlexQuirks(missing_accounts=["U2"], count=3)
    root = world.document(p="30")
    assert [statement.attrib["accountId"] for statement in root.iter("FlexStatement")] == ["U1", "U3"]
    assert root.find("FlexStatements").attrib == {"count": "3"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("style", "stamp", "day"),
    [
        ("compact", "20260915;100000", "20260915"),
        ("dashed", "2026-09-15;10:00:00", "2026-09-15"),
        ("zoned", "2026-09-15;10:00:00 EDT", "2026-09-15"),
    ],
)
def test_times_are_written_as_the_query_says(style: Any, stamp: str, day: str) -> None:
    world = World(quirks=FlexQuirks(times=style, confirm_times=style))
    traded(world)
    [row] = world.rows()
    assert (row["dateTime"], row["tradeDate"]) == (stamp, day)
    [row] = world.confirmed(**days(date(2026, 9, 15), TODAY))
    assert (row["dateTime"], row["tradeDate"]) == (stamp, day)


def test_winter_has_its_own_suffix() -> None:
    world = World(quirks=FlexQuirks(times="zoned"))
    world.ibkr.book(NewFill(time=at("2026-01-15T09:35:18")))
    assert [row["dateTime"] for row in world.rows()] == ["2026-01-15;09:35:18 EST"]


def test_boxes_may_not_be_ticked_and_attributes_may_be_new() -> None:
    world = World(quirks=FlexQuirks(left_out=["ibExecID", "openCloseIndicator"], unknown_fields={"rtn": "x"}))
    traded(world)
    [row] = world.rows()
    assert "ibExecID" not in row
    assert "openCloseIndicator" not in row
    assert row["rtn"] == "x"
    for shown, ids in (("blank", {""}), ("N/A", {"N/A"})):
        world.flex.quirks = FlexQuirks(exec_ids=shown)  # type: ignore[arg-type]
        assert {row["ibExecID"] for row in world.rows()} == ids


def test_lots_look_like_trades() -> None:
    world = World(quirks=FlexQuirks(lots=True))
    traded(world, side="B")
    traded(world, side="S", time=at("2026-09-15T11:00:00"))
    assert len(world.rows()) == 2
    [lot] = world.rows("Lot")
    assert (lot["levelOfDetail"], lot["ibExecID"]) == ("CLOSED_LOT", "")


def test_a_dtd_can_be_there() -> None:
    world = World(quirks=FlexQuirks(dtd=True))
    sent = world.send()
    assert world.get(sent["ReferenceCode"]).text.startswith("<!DOCTYPE FlexQueryResponse [<!ENTITY")


def test_symbols_are_escaped() -> None:
    world = World()
    world.ibkr.book(NewFill(symbol='<A&"B">', time=at("2026-09-15T10:00:00")))
    assert [row["symbol"] for row in world.rows()] == ['<A&"B">']


@needs_samples
@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("flex-af-stock-cancelled-buy.xml", "Trade"),
        ("flex-af-stock-and-autofx-cash.xml", "Trade"),
        ("flex-tcf-trade-confirmations-edt.xml", "TradeConfirm"),
        ("flex-tcf-trade-confirmations-edt.xml", "Order"),
    ],
)
def test_rows_have_the_attributes_of_published_ones(name: str, tag: str) -> None:
    published = {name for row in ET.parse(SAMPLES / name).getroot().iter(tag) for name in row.attrib}
    world = World()
    world.ibkr.cancel(traded(world))
    world.until("2026-09-22T12:00:00")
    query = world.flex.activity_query if tag == "Trade" else world.flex.confirm_query
    invented = {name for row in world.rows(tag, query, **days(date(2026, 9, 1), YESTERDAY)) for name in row} - published
    # Attributes that came with later versions of the service and stand in other samples (4.4).
    assert invented <= {"subCategory", "relatedTransactionID", "origTransactionID"}


# From outside.


@pytest.fixture
def standalone() -> Iterator[subprocess.Popen[str]]:
    options = ["--http", "--trades", "12", "--years", "1", "--virtual-clock", str(START)]
    with standalone_broker("ibkr", *options) as process:
        yield process


def test_it_runs_alone_and_is_driven_from_outside(standalone: subprocess.Popen[str]) -> None:
    info = announced(standalone)
    flex = info["flex"]
    assert flex.keys() == {"address", "token", "activityQuery", "confirmQuery"}
    with httpx.Client(trust_env=False, timeout=20) as http:

        def control(name: str, document: object) -> Any:
            answer = http.post(f"{info['control']}/{name}", json=document)
            assert answer.status_code == 200, answer.text
            return answer.json()

        def ask(name: str, query: str) -> str:
            control("clock", {"advanceSeconds": 7})
            params = {"t": flex["token"], "q": query, "v": "3"}
            return http.get(f"{flex['address']}/AccountManagement/FlexWebService/{name}", params=params).text

        def reference() -> str:
            return str(ET.fromstring(ask("SendRequest", flex["activityQuery"])).findtext("ReferenceCode"))

        assert len(list(ET.fromstring(ask("GetStatement", reference())).iter("Trade"))) > 600
        oracle = http.get(info["oracle"]).json()
        assert oracle["count"] == 12 + 730
        cancelled = control("cancellations", {"execId": oracle["fills"][-1]["execId"]})
        assert cancelled["fill"]["cancelled"] is True

        assert control("flex/quirks", {"generationPolls": 1})["generationPolls"] == 1
        assert "1019" in ask("GetStatement", reference())
        assert control("flex/codes", [{"code": 1009}, {"code": 1021, "times": None}])["pending"][1]["code"] == 1021
        assert "1009" in ask("SendRequest", flex["activityQuery"])
        assert http.delete(f"{info['control']}/flex/codes").json() == {"pending": []}
        assert control("flex/token", {"do": "expire"})["token"] == flex["token"]
        assert "1012" in ask("SendRequest", flex["activityQuery"])
        assert control("flex/token", {"do": "renew"})["token"] != flex["token"]
        assert "1015" in ask("SendRequest", flex["activityQuery"])
        audit = http.get(info["audit"]).json()
        assert audit["rateBreaches"] == 0
        assert flex["token"] not in json.dumps(audit)
        assert http.post(f"{info['control']}/flex/codes", json={"times": 1}).status_code == 400


def test_sockets_serve_it_too() -> None:
    simulator = IbkrSimulator(VirtualClock(START), Setup(trades=5))
    with (
        BrokerServer(RemoteControlled(simulator), tls=True) as server,
        httpx.Client(verify=False, trust_env=False) as http,
    ):
        params = {"t": simulator.flex.token, "q": simulator.flex.activity_query, "v": "3"}
        answer = http.get(f"{server.address}/AccountManagement/FlexWebService/SendRequest", params=params)
        assert fields(answer)["Url"] == f"{server.address}/AccountManagement/FlexWebService/GetStatement"
