"""Rows of Flex statements as canonical executions (reference ibkr 4.3-4.7, 5)."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import log
from worker.models import Execution, Normalized, Reject, ingestion_hash
from worker.normalize.fields import raw_payload
from worker.normalize.flex_document import FlexRow, Section, read_flex
from worker.normalize.ibkr_flex import Drift, account_of, is_execution, normalize_row, normalize_rows

FIXTURES = Path(__file__).parent.parent / "fixtures" / "ibkr" / "flex"


def rows_of(name: str) -> list[FlexRow]:
    events = read_flex(io.BytesIO((FIXTURES / name).read_bytes()))
    return [event for event in events if isinstance(event, FlexRow)]


ROWS = rows_of("activity.xml")
TRADES = [row for row in ROWS if is_execution(row)]
SHARE, OPTION, ORIGINAL, CANCEL, REBOOKED, EXPIRED, CURRENCY = TRADES
(CONFIRMED,) = (row for row in rows_of("confirm.xml") if is_execution(row))


def changed(row: FlexRow, **attributes: str | None) -> FlexRow:
    merged = {**row.attributes, **attributes}
    return row._replace(attributes={name: text for name, text in merged.items() if text is not None})


def read(row: FlexRow) -> tuple[Execution | Reject, tuple[str, ...]]:
    drift = Drift()
    return normalize_row(row, drift), drift.warnings


def only(row: FlexRow) -> Execution:
    meaning, _ = read(row)
    assert isinstance(meaning, Execution), meaning
    return meaning


def refused(row: FlexRow) -> Reject:
    meaning, _ = read(row)
    assert isinstance(meaning, Reject), meaning
    return meaning


def ms(utc: str) -> int:
    return int(dt.datetime.fromisoformat(utc).timestamp()) * 1000


def test_a_whole_execution() -> None:
    execution, warnings = read(SHARE)
    at = ms("2026-03-05T15:15:01+00:00")  # 10:15:01 in winter
    assert execution == Execution(
        provider="ibkr",
        source="ibkr_flex_activity",
        account_ref="U7000001",
        external_execution_id="0001f4e8.69a1b2c3.01",
        revision=1,
        external_order_id="610000001",
        kind="fill",
        occurred_at=at,
        symbol="BRK.B",
        raw_symbol="BRK B",
        asset_class="stock",
        side="buy",
        quantity=Decimal(3),
        price=Decimal("501.25"),
        fee=Decimal(1),
        currency="USD",
        fee_currency="USD",
        multiplier="1",
        conid="72063691",
        open_close="open",
        transaction_id="4100000001",
        trade_id="810000001",
        ingestion_hash=ingestion_hash(
            provider="ibkr", account_ref="U7000001", symbol="BRK.B", side="buy", quantity=Decimal(3),
            price=Decimal("501.25"), occurred_at=at, repeat=0,
        ),
        raw_payload=raw_payload(SHARE.attributes),
    )  # fmt: skip
    assert warnings == ()


def test_the_confirmation_of_a_fill_says_the_same_as_its_activity() -> None:
    confirmed, activity = only(CONFIRMED), only(SHARE)
    assert confirmed.source == "ibkr_flex_confirm"
    own = {"source", "raw_payload", "transaction_id"}
    assert confirmed.model_dump(exclude=own) == activity.model_dump(exclude=own)
    assert (confirmed.transaction_id, activity.transaction_id) == (None, "4100000001")


def facts(row: FlexRow) -> tuple[Any, ...]:
    e = only(row)
    return (
        e.external_execution_id, e.revision, e.kind, e.symbol, e.asset_class, e.side, str(e.quantity), str(e.price),
        str(e.fee), e.fee_currency, e.open_close, e.cancels, e.transaction_id, e.trade_id,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            OPTION,
            ("0001f4e8.69a1b2c4.01", 1, "fill", "AAPL  260320P00190000", "option", "sell", "1200", "3.45", "1012.5",
             "USD", "close_open", None, "4100000002", "810000002"),
        ),
        (
            ORIGINAL,
            ("0001f4e8.69a1b2c5.01", 1, "fill", "SIE", "stock", "sell", "11.5", "230.1", "3", "EUR", "close", None,
             "4100000003", "810000003"),
        ),
        (
            CANCEL,
            ("tx:4100000004", 1, "cancel", "SIE", "stock", "sell", "11.5", "230.1", "0", "EUR", None, "tx:4100000003",
             "4100000004", "810000003"),
        ),
        (
            REBOOKED,
            ("0001f4e8.69a1b2c5.01", 2, "fill", "SIE", "stock", "sell", "11.75", "230.1", "0", "EUR", "close", None,
             "4100000005", "810000003"),
        ),
        (
            EXPIRED,
            ("tx:4100000006", 1, "expiry", "AAPL  260320P00190000", "option", "buy", "1200", "0", "0", "USD", "close",
             None, "4100000006", "810000006"),
        ),
        (
            CURRENCY,
            ("0001f4ed.69a1b2c8.01", 1, "fill", "EUR/USD", "forex", "sell", "20000", "1.08125", "-0.25", "CAD", None,
             None, "4100000007", "810000007"),
        ),
    ],
    ids=["option", "original", "cancel", "rebooked", "expired", "currency"],
)  # fmt: skip
def test_every_kind_of_row(row: FlexRow, expected: tuple[Any, ...]) -> None:
    assert facts(row) == expected


# Which row it is


@pytest.mark.parametrize(
    ("attributes", "key", "revision"),
    [
        ({"ibExecID": "0001f4e8.69a1b2c3.01.12"}, "0001f4e8.69a1b2c3.01", 12),
        ({"ibExecID": "EXEC7"}, "EXEC7", 1),
        ({"ibExecID": None, "execID": "0001f4e8.69a1b2c3.01.02"}, "0001f4e8.69a1b2c3.01", 2),
        ({"ibExecID": ""}, "tx:4100000001", 1),
        ({"ibExecID": "N/A"}, "tx:4100000001", 1),
        ({"ibExecID": "--"}, "tx:4100000001", 1),
        ({"ibExecID": None}, "tx:4100000001", 1),
        ({"ibExecID": "", "transactionID": ""}, "trade:810000001:ExchTrade", 1),
        ({"ibExecID": "N/A", "transactionID": "N/A"}, "trade:810000001:ExchTrade", 1),
        ({"ibExecID": "", "transactionID": "0"}, "trade:810000001:ExchTrade", 1),
        ({"ibExecID": None, "transactionID": None}, "trade:810000001:ExchTrade", 1),
    ],
)
def test_B7_identity_falls_back_and_never_to_the_order(
    attributes: dict[str, str | None], key: str, revision: int
) -> None:
    execution = only(changed(SHARE, **attributes))
    assert (execution.external_execution_id, execution.revision) == (key, revision)


@pytest.mark.parametrize(
    "attributes",
    [
        {"ibExecID": "", "transactionID": "", "tradeID": ""},
        {"ibExecID": "N/A", "transactionID": "N/A", "tradeID": ""},
        {"ibExecID": None, "transactionID": None, "tradeID": None},
        {"ibExecID": "", "transactionID": "", "transactionType": None},
    ],
)
def test_a_row_without_any_id_is_refused(attributes: dict[str, str | None]) -> None:
    reject = refused(changed(SHARE, **attributes))
    assert "no id that could be relied on" in reject.reason
    assert reject.external_execution_id is None


def test_B10_a_cancel_is_never_taken_for_its_original() -> None:
    cancel = only(changed(CANCEL, ibExecID="0001f4e8.69a1b2c5.01.01"))
    assert (cancel.external_execution_id, cancel.kind) == ("tx:4100000004", "cancel")
    with_trade = only(changed(CANCEL, transactionID="", tradeID="810000009"))
    assert (with_trade.external_execution_id or "").startswith("trade:810000009:TradeCancel:")
    # A confirmation's cancel has no id of its own, only that of the trade it voids.
    bare = only(changed(CANCEL, transactionID="", tradeID="", origTransactionID=""))
    assert (bare.external_execution_id or "").startswith("cancel:trade:810000003:")
    assert bare.cancels == "trade:810000003"


@pytest.mark.parametrize("difference", [{"reportDate": "20260930"}, {"quantity": "17"}, {"tradePrice": "4.75"}])
def test_B9_two_cancels_of_one_trade_are_two(difference: dict[str, str | None]) -> None:
    nameless = changed(CANCEL, transactionID="", tradeID="", origTransactionID="")
    first, second = only(nameless), only(changed(nameless, **difference))
    assert first.external_execution_id != second.external_execution_id
    assert first.external_execution_id == only(nameless).external_execution_id, "the same row is the same cancel"


@pytest.mark.parametrize(
    ("attributes", "cancels"),
    [
        ({}, "tx:4100000003"),
        ({"origTransactionID": "0"}, "trade:810000003"),
        ({"origTransactionID": None}, "trade:810000003"),
        ({"origTransactionID": "", "transactionType": "ExchTrade", "notes": ""}, "trade:810000003"),
        ({"buySell": "SELL", "notes": ""}, "tx:4100000003"),
        ({"buySell": "SELL", "transactionType": "", "notes": "P;Ca"}, "tx:4100000003"),
        ({"transactionType": "FracShareCancel", "buySell": "SELL", "notes": ""}, "tx:4100000003"),
        ({"buySell": "sell (ca.)", "transactionType": None, "notes": None}, "tx:4100000003"),
    ],
)
def test_B10_a_cancel_names_its_original(attributes: dict[str, str | None], cancels: str) -> None:
    execution = only(changed(CANCEL, **attributes))
    assert (execution.kind, execution.side, execution.cancels, str(execution.quantity)) == (
        "cancel", "sell", cancels, "11.5",
    )  # fmt: skip


def test_B10_a_cancel_that_names_no_original_is_refused() -> None:
    reject = refused(changed(CANCEL, origTransactionID="0", origTradeID=""))
    assert reject.reason.startswith("Trade 4100000004, SIE, 20260310;041500: a cancel that names no original")
    assert reject.external_execution_id == "tx:4100000004"


@pytest.mark.parametrize(
    ("code", "kind"),
    [("A", "assignment"), ("Ex", "exercise"), ("Ep", "expiry"), ("P;A", "assignment"), ("Ep; O", "expiry")],
)
@pytest.mark.parametrize("booked_as", ["BookTrade", None])
def test_B16_bookings_are_kinds_of_their_own(code: str, kind: str, booked_as: str | None) -> None:
    option = only(changed(EXPIRED, notes=code, transactionType=booked_as))
    shares = only(changed(EXPIRED, notes=code, transactionType=booked_as, assetCategory="STK", tradePrice="190"))
    assert (option.kind, shares.kind) == (kind, kind)


def test_B16_a_booking_of_another_sort_is_a_fill_and_is_said() -> None:
    meaning, warnings = read(changed(SHARE, transactionType="BookTrade", ibExecID=""))
    assert isinstance(meaning, Execution)
    assert meaning.kind == "fill"
    assert warnings == ("Some bookings are neither assignment, exercise nor expiry; they count as fills.",)


@pytest.mark.parametrize(
    ("row", "attributes", "quantity", "price"),
    [
        (EXPIRED, {"quantity": "0", "tradePrice": "0"}, "0", "0"),
        (EXPIRED, {"buySell": ""}, "1200", "0"),
        (SHARE, {"tradePrice": "0"}, "3", "0"),
        (SHARE, {"tradePrice": "-37.63"}, "3", "-37.63"),
    ],
)
def test_B16_prices_and_quantities_that_look_odd(
    row: FlexRow, attributes: dict[str, str], quantity: str, price: str
) -> None:
    execution = only(changed(row, **attributes))
    assert (str(execution.quantity), str(execution.price)) == (quantity, price)


# Amounts


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("1,234.5", "1234.5"),
        ("12,345,678", "12345678"),
        (" 3 ", "3"),
        ("0.00000001", "0.00000001"),
        ("123456789012345678901234567890.123456789", "123456789012345678901234567890.123456789"),
    ],
)
def test_B15_numbers_are_exact(text: str, quantity: str) -> None:
    assert only(changed(SHARE, quantity=text)).to_wire()["quantity"] == quantity
    assert only(changed(SHARE, buySell="SELL", quantity=f"-{text.strip()}")).to_wire()["quantity"] == quantity


@pytest.mark.parametrize(
    "text",
    ["1,23", "1,2345", ",123", "1,,234", "12,34,567", "1.234,5", "1 234", "NaN", "Infinity", "1e999999", "٣", "three"],
)
@pytest.mark.parametrize("field", ["quantity", "tradePrice", "ibCommission"])
def test_B15_other_numbers_are_refused_with_their_field(field: str, text: str) -> None:
    reject = refused(changed(SHARE, **{field: text}))
    assert reject.reason.startswith("Trade 4100000001, BRK B, 20260305;101501: ")
    assert field in reject.reason
    assert reject.external_execution_id == "0001f4e8.69a1b2c3.01"


@pytest.mark.parametrize(
    ("commission", "fee"), [("-1.0352", "1.0352"), ("0.25", "-0.25"), ("0", "0"), ("-0", "0"), ("-1,012.5", "1012.5")]
)
def test_fees_are_commissions_the_other_way_round(commission: str, fee: str) -> None:
    assert only(changed(SHARE, ibCommission=commission, taxes="-4")).to_wire()["fee"] == fee


@pytest.mark.parametrize("commission", ["", None])
def test_B14_a_commission_left_out_counts_as_nought_and_is_said(commission: str | None) -> None:
    meaning, warnings = read(changed(SHARE, ibCommission=commission))
    assert isinstance(meaning, Execution)
    assert meaning.fee == 0
    assert "no commission" in warnings[0]


@pytest.mark.parametrize(("side", "quantity"), [("BUY", "-3"), ("SELL", "3")])
def test_a_sign_that_contradicts_the_side_is_refused(side: str, quantity: str) -> None:
    reason = refused(changed(SHARE, buySell=side, quantity=quantity)).reason
    assert reason.endswith(f": quantity is {quantity} but buySell is {side}")


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"buySell": "HOLD"}, "buySell is neither BUY nor SELL"),
        ({"buySell": ""}, "buySell is missing"),
        ({"quantity": "0"}, "quantity is zero"),
        ({"quantity": None}, "quantity is missing"),
        ({"tradePrice": ""}, "price is missing"),
        ({"symbol": "  "}, "symbol is missing"),
        ({"symbol": "X" * 101}, "symbol is too long"),
        ({"dateTime": "", "tradeDate": None}, "dateTime is missing"),
        ({"dateTime": "MULTI"}, "several executions"),
        ({"dateTime": "03/05/2026;101501"}, "Date Format"),
        ({"dateTime": "", "tradeDate": "MULTI"}, "several executions"),
        ({"ibExecID": "x" * 101}, "ibExecID is too long"),
    ],
)
def test_B14_what_an_execution_needs(attributes: dict[str, str | None], words: str) -> None:
    assert words in refused(changed(SHARE, **attributes)).reason


def test_a_row_of_no_account_is_refused() -> None:
    nobody = changed(SHARE, accountId="")._replace(account="")
    assert account_of(nobody) is None
    assert "accountId is missing" in refused(nobody).reason


def test_B18_a_row_s_own_account_outranks_its_statement_s() -> None:
    assert account_of(changed(SHARE, accountId=" u7000009 ")) == "U7000009"
    assert account_of(changed(SHARE, accountId="")) == "U7000001"
    execution = only(changed(SHARE, accountId=None)._replace(account="u7000008"))
    assert execution.account_ref == "U7000008"
    assert json.loads(execution.raw_payload)["accountId"] == "U7000008"


# What was traded


@pytest.mark.parametrize(
    ("category", "symbol", "asset_class", "canonical"),
    [
        ("STK", "BRK B", "stock", "BRK.B"),
        ("STK", "EQQQ.L", "stock", "EQQQ.L"),
        ("STK", "BMWd", "stock", "BMWD"),
        ("STK", "ČEZ", "stock", "ČEZ"),
        ("FUND", "009086587", "fund", "009086587"),
        ("OPT", "IWM   210319C00226000", "option", "IWM   210319C00226000"),
        ("OPT", "C AAPL DEC 25", "option", "C AAPL DEC 25"),
        ("FUT", "MESH6", "future", "MESH6"),
        ("FOP", "EX2H6 P5300", "future_option", "EX2H6 P5300"),
        ("CASH", "EUR.USD", "forex", "EUR/USD"),
        ("CRYPTO", "BTC.USD", "crypto", "BTC/USD"),
        ("CFD", "QQQXn", "cfd", "QQQXN"),
        ("FXCFD", "EUR.USD", "cfd", "EUR.USD"),
        ("BOND", "T 4 1/4 05/15/35", "bond", "T 4 1/4 05/15/35"),
        ("BILL", "912797", "bond", "912797"),
        ("WAR", "X W1", "warrant", "X W1"),
        ("IOPT", "X I1", "warrant", "X I1"),
        ("CMDTY", "XAUUSD", "other", "XAUUSD"),
        ("FSOPT", "ODAX", "option", "ODAX"),
        ("FSFOP", "OGBL", "future_option", "OGBL"),
    ],
)
def test_B17_symbols_and_classes(category: str, symbol: str, asset_class: str, canonical: str) -> None:
    meaning, warnings = read(changed(SHARE, assetCategory=category, symbol=symbol))
    assert isinstance(meaning, Execution)
    assert (meaning.asset_class, meaning.symbol, meaning.raw_symbol) == (asset_class, canonical, symbol)
    assert warnings == ()


@pytest.mark.parametrize(
    ("mark", "codes", "expected"),
    [
        ("O", "C", "open"),
        ("C", "", "close"),
        ("C;O", "", "close_open"),
        ("-", "", None),
        ("", "", None),
        (None, "O;P", "open"),
        (None, "C", "close"),
        ("-", "C;O", "close_open"),
        (None, "P;IA", None),
    ],
)
def test_open_and_close(mark: str | None, codes: str, expected: str | None) -> None:
    assert only(changed(SHARE, openCloseIndicator=mark, notes=codes)).open_close == expected


@pytest.mark.parametrize(
    ("multiplier", "expected"),
    [("100", "100"), ("1", "1"), ("1,000", "1000"), ("0.10", "0.1"), ("0", None), ("", None)],
)
def test_multipliers(multiplier: str, expected: str | None) -> None:
    assert only(changed(OPTION, multiplier=multiplier)).multiplier == expected


def test_B14_a_multiplier_that_cannot_be_read_is_left_out_and_said() -> None:
    meaning, warnings = read(changed(OPTION, multiplier="many"))
    assert isinstance(meaning, Execution)
    assert meaning.multiplier is None
    assert warnings == ("A multiplier cannot be read and is left out: multiplier is not a number: 'many'",)


@pytest.mark.parametrize("nothing", ["", "N/A", "--", "0"])
def test_ids_that_mean_none(nothing: str) -> None:
    execution = only(changed(SHARE, ibOrderID=nothing, transactionID=nothing, tradeID=nothing, conid=nothing))
    assert (execution.external_order_id, execution.transaction_id, execution.trade_id, execution.conid) == (None,) * 4


# Time


@pytest.mark.parametrize(
    ("attributes", "utc", "flags", "warned"),
    [
        ({"dateTime": "20260305"}, "2026-03-05T05:00:00+00:00", ("no_time_of_day",), "without a time of day"),
        ({"dateTime": "20260305", "tradeTime": "10:15:01"}, "2026-03-05T15:15:01+00:00", (), None),
        ({"dateTime": None, "tradeTime": "101501"}, "2026-03-05T15:15:01+00:00", (), None),
        ({"dateTime": ""}, "2026-03-05T05:00:00+00:00", ("no_time_of_day",), "without a time of day"),
        ({"dateTime": "--", "tradeTime": "101501"}, "2026-03-05T15:15:01+00:00", (), None),
        ({"dateTime": "20261101;013000"}, "2026-11-01T05:30:00+00:00", ("ambiguous_time",), "twice"),
        ({"dateTime": "20261101;013000 EST"}, "2026-11-01T06:30:00+00:00", (), None),
        ({"dateTime": "20260308;023000"}, "2026-03-08T07:30:00+00:00", (), "skip"),
        ({"dateTime": "20260305;000000"}, "2026-03-05T05:00:00+00:00", (), "midnight sharp"),
    ],
)
def test_B19_times_and_what_is_said_of_them(
    attributes: dict[str, str | None], utc: str, flags: tuple[str, ...], warned: str | None
) -> None:
    meaning, warnings = read(changed(SHARE, **attributes))
    assert isinstance(meaning, Execution)
    assert (meaning.occurred_at, meaning.flags) == (ms(utc), flags)
    assert [warned in warning for warning in warnings] == ([True] if warned else [])


# What is new


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"brandNew": "x"}, "attribute unknown to this version: 'brandNew'"),
        ({"notes": "P;Zz"}, "code unknown to this version: 'Zz'"),
        ({"currency": "US Dollar"}, "currency unknown to this version: 'US Dollar'"),
        ({"assetCategory": "NFT"}, "asset class unknown to this version: 'NFT'"),
        ({"assetCategory": None}, "no asset class"),
        ({"transactionType": "TradeCorrect"}, "transaction type unknown to this version: 'TradeCorrect'"),
        ({"openCloseIndicator": "R"}, "open/close indicator unknown to this version: 'R'"),
    ],
)
def test_B13_what_is_new_passes_and_is_said_once(attributes: dict[str, str | None], words: str) -> None:
    row = changed(SHARE, **attributes)
    meaning = normalize_rows([row, row, changed(row, ibExecID="0001f4e8.69a1b2c3.02.01")])
    assert (len(meaning.executions), meaning.rejects) == (3, ())
    (warning,) = meaning.warnings
    assert words in warning
    assert json.loads(meaning.executions[0].raw_payload) == row.attributes


def test_B13_warnings_stay_few() -> None:
    meaning = normalize_rows(changed(SHARE, **{f"new{number}": "x"}) for number in range(500))
    assert len(meaning.executions) == 500
    assert len(meaning.warnings) == 101
    assert "There are more such notes than are shown." in meaning.warnings


@pytest.mark.parametrize(
    ("section", "element", "level", "expected", "warned"),
    [
        ("Trades", "Trade", "EXECUTION", True, False),
        ("Trades", "Trade", "", True, False),
        ("Trades", "Trade", None, True, False),
        ("Trades", "Trade", "ORDER", False, False),
        ("Trades", "Trade", "CLOSED_LOT", False, False),
        ("Trades", "Trade", "SOMETHING", False, True),
        ("Trades", "Order", "ORDER", False, False),
        ("Trades", "Order", "EXECUTION", False, False),
        ("Trades", "Lot", "EXECUTION", False, False),
        ("Trades", "SymbolSummary", "SYMBOL_SUMMARY", False, False),
        ("Trades", "AssetSummary", "ASSET_SUMMARY", False, False),
        ("Trades", "WashSale", None, False, False),
        ("Trades", "TradeConfirm", "EXECUTION", False, True),
        ("Trades", "Novelty", None, False, True),
        ("TradeConfirms", "TradeConfirm", "EXECUTION", True, False),
        ("TradeConfirms", "TradeConfirm", None, True, False),
        ("TradeConfirms", "Order", "ORDER", False, False),
        ("TradeConfirms", "SymbolSummary", "SYMBOL_SUMMARY", False, False),
    ],
)
def test_B25_only_executions_are_imported(
    section: Section, element: str, level: str | None, expected: bool, warned: bool
) -> None:
    row = changed(SHARE, levelOfDetail=level)._replace(section=section, element=element)
    drift = Drift()
    assert is_execution(row, drift) is expected
    assert bool(drift.warnings) is warned
    meaning = normalize_rows([row])
    assert (len(meaning.executions), meaning.skipped) == ((1, 0) if expected else (0, 1))


def test_B25_a_statement_with_both_imports_each_fill_once() -> None:
    meaning = normalize_rows(ROWS)
    assert len(meaning.executions) == 7
    assert meaning.skipped == len(ROWS) - 7 == 4
    assert (meaning.rejects, meaning.warnings) == ((), ())


# Rows together


def test_B12_unreadable_row_is_quarantined_and_the_others_kept() -> None:
    bad = changed(OPTION, quantity="many")
    meaning = normalize_rows([SHARE, bad, CURRENCY])
    assert [execution.symbol for execution in meaning.executions] == ["BRK.B", "EUR/USD"]
    (reject,) = meaning.rejects
    assert reject.reason == (
        "Trade 4100000002, AAPL  260320P00190000, 20260309;154455: quantity is not a number: 'many'"
    )
    assert json.loads(reject.raw_payload) == bad.attributes
    assert reject == refused(bad), "however often it is fetched"


def test_B18_rows_of_other_accounts_are_skipped() -> None:
    meaning = normalize_rows(TRADES, accounts=[" u7000002 "])
    assert [execution.account_ref for execution in meaning.executions] == ["U7000002"]
    assert meaning.skipped == 6
    assert {e.account_ref for e in normalize_rows(TRADES).executions} == {"U7000001", "U7000002"}


def test_B8_two_fills_that_look_alike_are_two() -> None:
    twin = changed(SHARE, ibExecID="0001f4e8.69a1b2c3.02.01", transactionID="4100000009", tradeID="810000009")
    meaning = normalize_rows([SHARE, twin])
    assert len({execution.external_execution_id for execution in meaning.executions}) == 2


def test_a_correction_that_cannot_be_read_is_not_settled_by_what_it_corrects() -> None:
    assert refused(changed(REBOOKED, quantity="x")).external_execution_id == "0001f4e8.69a1b2c5.01.02"
    assert refused(changed(ORIGINAL, quantity="x")).external_execution_id == "0001f4e8.69a1b2c5.01"
    assert refused(changed(CANCEL, quantity="x")).external_execution_id == "tx:4100000004"


ODD = [changed(SHARE, quantity="x"), changed(OPTION, brandNew="y"), changed(CURRENCY, dateTime="20260312")]


@given(st.permutations([*ROWS, *ODD]))
def test_the_order_of_rows_plays_no_part(rows: list[FlexRow]) -> None:
    assert normalize_rows(rows) == EXPECTED


EXPECTED: Normalized = normalize_rows([*ROWS, *ODD])


@given(st.dictionaries(st.sampled_from(sorted(SHARE.attributes)), st.text(max_size=30), max_size=4))
def test_any_texts_make_an_execution_or_a_reject(attributes: dict[str, str]) -> None:
    row = changed(SHARE, **attributes)
    meaning = normalize_rows([row])
    assert len(meaning.executions) + len(meaning.rejects) + meaning.skipped == 1
    for kept in (*meaning.executions, *meaning.rejects):
        assert json.loads(kept.raw_payload) == {n: t for n, t in row.attributes.items() if n != "traderID" or not t}


# What is kept


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_the_payload_is_the_row_in_json_whatever_its_texts(text: str) -> None:
    row = changed(SHARE, description=text)
    assert only(row).raw_payload == raw_payload(row.attributes)


def test_F2_secrets_and_user_names_are_not_kept() -> None:
    log.protect("s3cr3t-flex-token")
    row = changed(SHARE, orderReference="x s3cr3t-flex-token y", symbol="s3cr3t-flex-token", traderID="jdoe99")
    kept = only(row).model_dump_json()
    assert "s3cr3t" not in kept
    assert "jdoe99" not in kept
    bad = refused(changed(row, quantity="s3cr3t-flex-token")).model_dump_json()
    assert "s3cr3t" not in bad
    assert "jdoe99" not in bad
