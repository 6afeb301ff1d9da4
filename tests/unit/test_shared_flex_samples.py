"""Real statements, where the folder with them is at hand. Expectations are derived by hand from reference ibkr 4."""

from __future__ import annotations

import datetime as dt
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from worker.errors import UnusableFile
from worker.normalize.flex_document import FlexRefusal, read_flex
from worker.parse import check_flex_file, parse_ibkr_flex

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "ibkr"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")

Fact = tuple[Any, ...]
Report = dict[str, Any]


def parsed(name: str, account: str | None = None) -> tuple[int, list[dict[str, Any]], Report]:
    out = io.StringIO()
    status = parse_ibkr_flex(SAMPLES / name, account, out)
    *rows, report = (json.loads(line) for line in out.getvalue().splitlines())
    return status, rows, report


def facts(row: dict[str, Any]) -> Fact:
    at = dt.datetime.fromtimestamp(row["occurredAt"] / 1000, dt.UTC)
    return (
        row["externalExecutionId"], row["revision"], row["kind"], f"{at:%Y-%m-%dT%H:%M:%SZ}", row["symbol"],
        row["assetClass"], row["side"], row["quantity"], row["price"], row["fee"], row["currency"], row["feeCurrency"],
        row["multiplier"], row["conid"], row.get("openClose"), row.get("cancels"), *row["flags"],
    )  # fmt: skip


def stock(at: str, **own: Any) -> Fact:
    """A fill of a share, with what most of them have in common."""
    return (
        own["id"], 1, own.get("kind", "fill"), at, own["symbol"], own.get("cls", "stock"), own.get("side", "buy"),
        own["quantity"], own["price"], own["fee"], own["currency"], own.get("fee_currency", own["currency"]),
        own.get("multiplier", "1"), own["conid"], own.get("open_close"), own.get("cancels"), *own.get("flags", ()),
    )  # fmt: skip


# Times: US Eastern is four hours behind UTC in summer and five in winter; the confirmations say EDT.
EXPECTED: dict[str, list[Fact]] = {
    "flex-af-autofx-no-ids.xml": [],
    "flex-af-cfd-execid-na.xml": [],
    "flex-af-closed-lot-row.xml": [],
    "flex-af-order-level-row-space-datetime.xml": [],
    "flex-tcf-order-level-forex.xml": [],
    "flex-statement-empty.xml": [],
    "flex-tcf-empty-today.xml": [],
    "flex-af-fund-fractional-empty-ids.xml": [
        stock("2023-04-12T14:19:29Z", id="trade:129722031:ExchTrade", symbol="009086587", cls="fund", quantity="23.342",
              price="436.98055", fee="4.95", currency="EUR", conid="422810461"),
    ],
    "flex-af-gbp-etf-2025-fields.xml": [
        stock("2025-12-16T15:30:59Z", id="00015269.69411ea0.01", symbol="EQQQ.L", quantity="3", price="455.5054",
              fee="3", currency="GBP", conid="35628280", open_close="open"),
    ],
    "flex-af-option-assignment-booktrade.xml": [
        stock("2011-08-11T20:20:00Z", id="tx:2381339439", kind="assignment", symbol="VXX   110917C00005000",
              cls="option", quantity="3", price="0", fee="0", currency="USD", multiplier="100", conid="83615386",
              open_close="close"),
    ],
    "flex-af-options-tradeTime-assignment.xml": [
        stock("2017-09-15T20:20:00Z", id="trade:1908991475:BookTrade", kind="assignment", symbol="ORCL", quantity="100",
              price="50", fee="2", currency="USD", conid="272800", open_close="open"),
        stock("2017-09-07T18:50:36Z", id="trade:1902533101:ExchTrade", symbol="ORCL  170915P00050000", cls="option",
              side="sell", quantity="1", price="0.53", fee="3.5", currency="USD", multiplier="100", conid="268828466",
              open_close="open"),
        stock("2017-09-15T20:20:00Z", id="trade:1908991474:BookTrade", kind="assignment",
              symbol="ORCL  170915P00050000", cls="option", quantity="1", price="0", fee="0", currency="USD",
              multiplier="100", conid="268828466", open_close="close"),
        stock("2017-09-19T18:30:51Z", id="trade:1910911677:ExchTrade", symbol="ORCL  171117C00050000", cls="option",
              side="sell", quantity="1", price="0.55", fee="3.5", currency="USD", multiplier="100", conid="286599259",
              open_close="open"),
        stock("2018-05-11T15:45:45Z", id="00010209.5af58c42.01", symbol="PAYC  181116C00120000", cls="option",
              quantity="1", price="6.9", fee="0.6378", currency="USD", multiplier="100", conid="311191362"),
        stock("2013-11-06T08:35:13Z", id="000127a7.5279ddbf.01", symbol="BMWD", quantity="141", price="81.97",
              fee="16.180878", currency="EUR", conid="14094"),
        stock("2016-08-05T08:34:09Z", id="000127a7.57a41ff4.01", symbol="DBKEUR", quantity="10", price="11.5",
              fee="5.8", currency="EUR", conid="14121"),
        stock("2017-06-07T08:15:27Z", id="00011b0b.aaa32ce1.01", symbol="H5E", quantity="80", price="41.899",
              fee="5.8", currency="EUR", conid="43669257"),
        stock("2015-12-08T08:42:00Z", id="00014a5e.5666792c.01", symbol="BAS", quantity="100", price="71.78",
              fee="10.0492", currency="EUR", conid="77680640"),
    ],
    "flex-af-order-symbol-asset-summary-rows.xml": [
        stock("2023-01-23T05:00:00Z", id="0000d7a7.63ce4806.01", symbol="ARCC", quantity="157", price="19.065", fee="2",
              currency="USD", conid="31400554", flags=("no_time_of_day",)),
    ],
    "flex-af-partial-fills-one-order.xml": [
        stock("2026-01-26T16:57:15Z", id="EXEC00001", symbol="GOLD", quantity="691", price="43.1", fee="3.455",
              currency="USD", conid="146266831"),
        stock("2026-06-15T17:02:07Z", id="EXEC00002", symbol="GOLD", side="sell", quantity="100", price="44.19",
              fee="1.1108314", currency="USD", conid="146266831"),
        stock("2026-05-18T13:30:04Z", id="EXEC00003", symbol="AAPL", quantity="103", price="300", fee="1.000309",
              currency="USD", conid="265598"),
        stock("2026-05-18T13:30:04Z", id="EXEC00004", symbol="AAPL", quantity="137", price="300", fee="0.200411",
              currency="USD", conid="265598"),
    ],
    "flex-af-stock-and-autofx-cash.xml": [
        stock("2022-12-21T23:05:04Z", id="000137fd.63a33731.01", symbol="UPST", quantity="10", price="14.05",
              fee="0.33125725", currency="USD", conid="460492620"),
        stock("2022-12-21T23:06:05Z", id="00013669.63a28312.01", symbol="EUR/USD", cls="forex", side="sell",
              quantity="133", price="1.0596", fee="0", currency="USD", fee_currency="EUR", conid="12087792"),
    ],
    "flex-af-stock-cancelled-buy.xml": [
        stock("2022-12-02T11:26:11Z", id="0000d349.6389b516.01", symbol="F1F", quantity="450", price="5.432",
              fee="2.4444", currency="EUR", conid="517782617", open_close="open"),
        stock("2022-12-02T11:26:11Z", id="tx:1526114213", kind="cancel", symbol="F1F", quantity="450", price="5.432",
              fee="0", currency="EUR", conid="517782617", cancels="trade:464740365"),
    ],
    "flex-tcf-trade-confirmations-edt.xml": [
        stock("2026-04-02T15:08:05Z", id="00025b49.69d39b39.01", symbol="QQQ", quantity="1", price="582.74", fee="1",
              currency="USD", conid="320227571", open_close="open"),
        stock("2026-04-02T15:08:43Z", id="00025b49.69d39baa.01", symbol="QQQ", quantity="1", price="583.2", fee="1",
              currency="USD", conid="320227571", open_close="open"),
        stock("2026-04-02T15:19:01Z", id="00025b49.69d3a6f6.01", symbol="QQQ", quantity="1", price="584", fee="1",
              currency="USD", conid="320227571", open_close="open"),
        stock("2026-04-01T13:30:03Z", id="00025b49.69d0b9ab.01", symbol="SPY", quantity="1", price="654.31", fee="1",
              currency="USD", conid="756733", open_close="open"),
    ],
}  # fmt: skip

REPORTS: dict[str, Report] = {
    "flex-af-autofx-no-ids.xml": {"accounts": ["U123456"], "from": "2000-01-01", "to": "2099-12-31", "rejects": 1},
    "flex-af-cfd-execid-na.xml": {
        "accounts": ["U123456", "XXXXXXXX"], "from": "2020-01-02", "to": "2020-01-31", "rejects": 1,
    },
    "flex-af-closed-lot-row.xml": {
        "accounts": ["U123456"], "from": "2000-01-01", "to": "2099-12-31", "ignored": {"Lot": 1},
    },
    "flex-af-order-level-row-space-datetime.xml": {
        "accounts": ["MYACCOUNT"], "from": "2000-01-01", "to": "2099-12-31", "ignored": {"Order": 1},
    },
    "flex-tcf-order-level-forex.xml": {
        "accounts": ["U123456"], "from": "2000-01-01", "to": "2099-12-31", "ignored": {"Order": 1},
        "sections": {"TradeConfirms": 1},
    },
    "flex-statement-empty.xml": {"accounts": ["U666777"], "from": "2007-01-01", "to": "2007-12-31", "sections": {}},
    "flex-tcf-empty-today.xml": {
        "accounts": ["U1234567"], "from": "2023-06-30", "to": "2023-06-30", "sections": {"TradeConfirms": 1},
    },
    "flex-af-fund-fractional-empty-ids.xml": {"accounts": ["U11111111"], "from": "2023-04-03", "to": "2023-04-12"},
    "flex-af-gbp-etf-2025-fields.xml": {"accounts": ["U1234567"], "from": "2025-12-01", "to": "2025-12-31"},
    "flex-af-option-assignment-booktrade.xml": {
        "accounts": ["U123456"], "from": "2000-01-01", "to": "2099-12-31", "kinds": {"assignment": 1},
    },
    "flex-af-options-tradeTime-assignment.xml": {
        "accounts": ["U1234567"], "from": "2017-01-02", "to": "2017-10-31", "kinds": {"assignment": 2, "fill": 7},
    },
    "flex-af-order-symbol-asset-summary-rows.xml": {
        "accounts": ["U1234567"], "from": "2022-05-25", "to": "2023-05-24",
        "ignored": {"AssetSummary": 1, "Order": 1, "SymbolSummary": 1},
    },
    "flex-af-partial-fills-one-order.xml": {"accounts": ["U1234567"], "from": "2025-07-15", "to": "2026-07-14"},
    "flex-af-stock-and-autofx-cash.xml": {"accounts": ["UXXXXXXX"], "from": "2022-12-21", "to": "2022-12-21"},
    "flex-af-stock-cancelled-buy.xml": {
        "accounts": ["U1111111"], "from": "2022-12-01", "to": "2022-12-30", "kinds": {"cancel": 1, "fill": 1},
    },
    "flex-tcf-trade-confirmations-edt.xml": {
        "accounts": ["U1234567"], "from": "2026-04-01", "to": "2026-04-09", "ignored": {"Order": 2, "SymbolSummary": 2},
        "sections": {"TradeConfirms": 1},
    },
}  # fmt: skip
WARNED = {
    "flex-statement-empty.xml": ["type unknown to this version: 'AZ'", "no section with trades"],
    "flex-af-order-symbol-asset-summary-rows.xml": ["without a time of day"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_statement(name: str) -> None:
    status, rows, report = parsed(name)
    executions = [row for row in rows if row["type"] == "execution"]
    assert [facts(row) for row in executions] == EXPECTED[name]
    expected = REPORTS[name]
    rejects = expected.get("rejects", 0)
    assert status == (2 if rejects else 0)
    assert {field: report[field] for field in expected} == expected
    count = len(EXPECTED[name])
    assert (report["statements"], report["executions"], report["rejects"]) == (1, count, rejects)
    assert (report["rows"], report["skipped"]) == (count + rejects, 0)
    assert report["kinds"] == expected.get("kinds", {"fill": count} if count else {})
    assert report["ignored"] == expected.get("ignored", {})
    assert report["sections"] == expected.get("sections", {"Trades": 1})
    words = WARNED.get(name, [])
    assert len(report["warnings"]) == len(words)
    for word, warning in zip(words, report["warnings"], strict=True):
        assert word in warning


@pytest.mark.parametrize("name", ["flex-af-autofx-no-ids.xml", "flex-af-cfd-execid-na.xml"])
def test_rows_without_any_id_are_rejects_that_say_so(name: str) -> None:
    _, (reject,), _ = parsed(name)
    assert "no id that could be relied on" in reject["reason"]


PRIVATE = {"traderID"}


@pytest.mark.parametrize("name", EXPECTED)
def test_raw_payloads_are_the_rows_without_the_trader_s_name(name: str) -> None:
    _, rows, _ = parsed(name)
    sent = [
        {field: text for field, text in row.attrib.items() if field not in PRIVATE or not text}
        for section in ("Trades", "TradeConfirms")
        for found in ET.parse(SAMPLES / name).getroot().iter(section)
        for row in found
        if row.tag in ("Trade", "TradeConfirm")
    ]
    kept = [json.loads(row["rawPayload"]) for row in rows]
    assert len(kept) == len(sent)
    for kept_row, sent_row in zip(kept, sent, strict=True):
        assert kept_row == {"accountId": "U123456", **sent_row}  # one sample's rows leave their account out


def test_rows_of_an_account_by_the_row_s_own_word() -> None:
    status, rows, report = parsed("flex-af-cfd-execid-na.xml", "u123456")
    assert (status, [row["type"] for row in rows], report["skipped"]) == (2, ["reject"], 0)
    status, rows, report = parsed("flex-af-cfd-execid-na.xml", "XXXXXXXX")
    assert (status, rows, report["skipped"]) == (0, [], 1)


def test_every_flex_sample_is_expected() -> None:
    assert {path.name for path in SAMPLES.glob("flex-*.xml")} == set(EXPECTED) | set(ANSWERS)


ANSWERS: dict[str, FlexRefusal] = {
    "flex-fail-1001-not-generated.xml": FlexRefusal(
        1001, "Statement could not be generated at this time. Please try again shortly.", "Fail"
    ),
    "flex-fail-1003-not-available.xml": FlexRefusal(1003, "Statement is not available.", "Fail"),
    "flex-fail-1012-token-expired.xml": FlexRefusal(1012, "Token has expired.", "Fail"),
    "flex-fail-1015-token-invalid.xml": FlexRefusal(1015, "Token is invalid.", "Fail"),
    "flex-fail-1018-too-many-requests.xml": FlexRefusal(
        1018, "Too many requests have been made from this token. Please try again shortly.", "Fail"
    ),
    "flex-fail-1020-invalid-request.xml": FlexRefusal(1020, "Invalid request or unable to validate request.", "Fail"),
    "flex-warn-1019-in-progress.xml": FlexRefusal(
        1019, "Statement generation in progress. Please try again shortly.", "Warn"
    ),
    "flex-sendrequest-success.xml": FlexRefusal(
        None, "", "Success", "1234567890",
        "https://gdcdyn.interactivebrokers.com/AccountManagement/FlexWebService/GetStatement",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_the_service_is_a_value_and_no_statement(name: str) -> None:
    with (SAMPLES / name).open("rb") as stream:
        assert list(read_flex(stream)) == [ANSWERS[name]]
    with pytest.raises(UnusableFile):
        parsed(name)


OTHERS = sorted(
    path.name
    for path in (SAMPLES.iterdir() if SAMPLES.is_dir() else ())
    if path.suffix in (".json", ".md") or path.name in ANSWERS
)


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_sample_passes_for_a_statement(name: str) -> None:
    for read in (lambda: parsed(name), lambda: check_flex_file(SAMPLES / name, io.StringIO())):
        with pytest.raises(UnusableFile):
            read()


# Attributes that no row of the sample has.
MISSING = {
    "flex-af-gbp-etf-2025-fields.xml": [],
    "flex-af-fund-fractional-empty-ids.xml": [],
    "flex-tcf-trade-confirmations-edt.xml": [],
    "flex-af-stock-cancelled-buy.xml": ["origTransactionID"],
    "flex-af-cfd-execid-na.xml": ["origTransactionID"],
    "flex-af-option-assignment-booktrade.xml": ["dateTime", "origTransactionID"],
    "flex-af-order-symbol-asset-summary-rows.xml": ["dateTime", "origTransactionID"],
    "flex-af-partial-fills-one-order.xml": [
        "origTransactionID", "origTradeID", "transactionType", "notes", "openCloseIndicator",
    ],
    "flex-af-autofx-no-ids.xml": [
        "accountId", "ibExecID", "transactionID", "tradeID", "origTransactionID", "origTradeID", "transactionType",
        "conid", "multiplier", "openCloseIndicator",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_what_the_query_of_a_sample_leaves_out(name: str) -> None:
    out = io.StringIO()
    status = check_flex_file(SAMPLES / name, out)
    lines = out.getvalue().splitlines()[2:] if MISSING[name] else []
    assert [line.split("(")[1].split(")")[0] for line in lines] == MISSING[name]
    assert status == (2 if MISSING[name] else 0)
