"""Rows of the live API as canonical executions."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import log
from worker.models import Execution, Normalized, Reject, ingestion_hash
from worker.normalize.ibkr_contracts import canonical_symbol, infer_multiplier
from worker.normalize.ibkr_ids import native_id, parent_of, parse_execution_id
from worker.normalize.ibkr_live import normalize_trades

FIXTURES = Path(__file__).parent.parent / "fixtures" / "ibkr"
ROWS: list[dict[str, Any]] = json.loads((FIXTURES / "trades.json").read_text(), parse_float=Decimal)
SHARE, FUTURE, OPTION, CURRENCY, REMOVED, ELSEWHERE = ROWS
OURS = "U7000001"
ALIASES = {"Main": OURS, "Pension": "U7000002"}


def meaning(*rows: Any, account: str = OURS, others: tuple[str, ...] = ("U7000002",)) -> Normalized:
    found = normalize_trades(rows, account, aliases=ALIASES, other_accounts=others)
    assert len(rows) == len(found.executions) + len(found.rejects) + found.skipped
    return found


def only(row: dict[str, Any]) -> Execution:
    (execution,) = meaning(row).executions
    return execution


def refused(row: Any) -> Reject:
    (reject,) = meaning(row).rejects
    return reject


def without(row: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in fields}


def test_a_share() -> None:
    execution = only(SHARE)
    assert execution.to_wire() == {
        "provider": "ibkr",
        "source": "ibkr_live",
        "accountRef": "U7000001",
        "externalExecutionId": "0001f4e8.69a1b2c3.01",
        "revision": 1,
        "externalOrderId": "1523698741",
        "kind": "fill",
        "occurredAt": 1772463845000,
        "symbol": "BRK.B",
        "rawSymbol": "BRK B",
        "assetClass": "stock",
        "side": "buy",
        "quantity": "3",
        "price": "501.25",
        "fee": "1",
        "conid": "72063691",
        "flags": [],
        "ingestionHash": ingestion_hash(
            provider="ibkr", account_ref="U7000001", symbol="BRK.B", side="buy", quantity=Decimal(3),
            price=Decimal("501.25"), occurred_at=1772463845000, repeat=0,
        ),
        "rawPayload": execution.raw_payload,
    }  # fmt: skip


def test_the_raw_row_is_kept_but_for_the_user_s_name() -> None:
    payload = only(SHARE).raw_payload
    assert json.loads(payload, parse_float=Decimal) == without(SHARE, "submitter")
    assert '"size":3.0,"price":"501.25","order_ref":"swing-7"' in payload
    for row in (SHARE | {"size": "many"}, SHARE | {"accountCode": "U7999999"}):
        assert "privatename" not in refused(row).raw_payload


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        (FUTURE, ("MES MAR26", "future", "sell", "2", "5400.25", "1.24", "5", None, ["liquidation"])),
        (OPTION, ("AAPL  260320C00190000", "option", "buy", "1", "3.45", "0.65", "100", "open", [])),
        (CURRENCY, ("EUR/USD", "forex", "sell", "20000", "1.08125", "2", None, None, [])),
    ],
    ids=["future", "option", "currency"],
)
def test_other_classes(row: dict[str, Any], facts: tuple[Any, ...]) -> None:
    said = only(row).to_wire()
    names = ("symbol", "assetClass", "side", "quantity", "price", "fee", "multiplier", "openClose", "flags")
    assert tuple(said.get(name) for name in names) == facts
    assert "currency" not in said
    assert "feeCurrency" not in said
    assert not meaning(row).warnings


# Identity


@pytest.mark.parametrize(
    ("text", "family", "revision"),
    [
        ("0000e0d5.6576fd38.01.01", "0000e0d5.6576fd38.01", 1),
        ("0000e0d5.6576fd38.01.02", "0000e0d5.6576fd38.01", 2),
        ("0000e0d5.6576fd38.02.10", "0000e0d5.6576fd38.02", 10),
        ("CUSTHSFX.012f041f.01.01", "CUSTHSFX.012f041f.01", 1),
        ("a.b.c.01.03", "a.b.c.01", 3),
        ("a.b.03", "a.b.03", 1),
        ("abc", "abc", 1),
        ("a.b.01.0x", "a.b.01.0x", 1),
        ("a.b.01.", "a.b.01.", 1),
        ("a.b.01.²", "a.b.01.²", 1),
        ("a.b.01.1234567890", "a.b.01.1234567890", 1),
    ],
)
def test_the_last_segment_is_the_revision(text: str, family: str, revision: int) -> None:
    assert parse_execution_id(text) == (family, revision)


def test_parents_and_absent_ids() -> None:
    assert parent_of("a.b.01.01") == parent_of("a.b.02.01") == "a.b"
    assert parent_of("a.b") is None
    assert [native_id(text) for text in (None, "", "  ", "N/A", "n/a", " x ")] == [None, None, None, None, None, "x"]


def test_B6_two_fills_alike_but_for_their_ids_are_two_executions() -> None:
    one, two = meaning(SHARE, SHARE | {"execution_id": "0001f4e8.69a1b2c3.02.01"}).executions
    assert one.key != two.key
    assert one.ingestion_hash == two.ingestion_hash, "with ids, neither depends on its neighbours"


@pytest.mark.parametrize("missing", [None, "", " ", "N/A"])
def test_B6_two_fills_alike_without_ids_are_two_executions(missing: str | None) -> None:
    row = SHARE | {"execution_id": missing}
    one, two = meaning(row, row).executions
    assert one.external_execution_id is None
    assert {one.ingestion_hash, two.ingestion_hash} == {
        ingestion_hash(
            provider="ibkr", account_ref=OURS, symbol="BRK.B", side="buy", quantity=Decimal(3),
            price=Decimal("501.25"), occurred_at=1772463845000, repeat=repeat,
        )
        for repeat in (0, 1)
    }  # fmt: skip


def test_B10_a_correction_is_a_higher_revision_of_the_same_execution() -> None:
    ids = [f"0001f4e8.69a1b2c3.01.{last}" for last in ("10", "02", "01", "09")]
    sizes = [Decimal(10), Decimal(2), Decimal(1), Decimal(9)]
    # The correction bears an earlier time: it must not come first for that.
    found = meaning(
        *(
            without(SHARE, "net_amount") | {"execution_id": i, "size": size, "trade_time_r": 1772463845000 - int(size)}
            for i, size in zip(ids, sizes, strict=True)
        )
    ).executions
    assert [(e.revision, e.quantity) for e in found] == [(1, 1), (2, 2), (9, 9), (10, 10)]
    assert {e.external_execution_id for e in found} == {"0001f4e8.69a1b2c3.01"}
    assert len({e.version for e in found}) == 4


def test_B10_an_unreadable_correction_is_not_settled_by_what_it_corrects() -> None:
    original = refused(SHARE | {"size": None})
    assert original.external_execution_id == "0001f4e8.69a1b2c3.01"
    correction = refused(SHARE | {"size": None, "execution_id": "0001f4e8.69a1b2c3.01.02"})
    assert correction.external_execution_id == "0001f4e8.69a1b2c3.01.02"


def test_the_order_groups_and_zero_names_none() -> None:
    for sent, kept in (
        (17437897932, "17437897932"),
        ("17437897932", "17437897932"),
        (0, None),
        ("0", None),
        ([], None),
    ):
        assert only(SHARE | {"order_id": sent}).external_order_id == kept


# Faults of rows


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (SHARE | {"size": "a lot"}, "size is not a number: 'a lot'"),
        (SHARE | {"side": "H"}, "side is neither buy nor sell: 'H'"),
        (SHARE | {"execution_id": ["x"]}, "execution_id is not a text"),
        ("not a row", "the trade is not an object"),
        (["not", "a", "row"], "the trade is not an object"),
        (None, "the trade is not an object"),
        ({"unreadable": 5}, "the trade is not an object"),
    ],
    ids=["size", "side", "id", "text", "list", "null", "wrapped"],
)
def test_B12_unreadable_row_is_quarantined(bad: Any, reason: str) -> None:
    found = meaning(SHARE, bad, FUTURE)
    assert [e.raw_symbol for e in found.executions] == ["BRK B", "MES"]
    (reject,) = found.rejects
    assert reject.reason == reason
    assert reject.account_ref is None
    assert reject == refused(bad), "its fingerprint does not depend on its neighbours"


def test_B13_what_is_new_is_imported_and_noted_once() -> None:
    rows = [
        row | {"execution_id": f"{number}.b.01.01", "venue_hint": number, "sec_type": kind}
        for number, (row, kind) in enumerate([(SHARE, "STK"), (SHARE, "MOON"), (SHARE, "MOON"), (SHARE, "")])
    ]
    found = meaning(*rows)
    assert [e.asset_class for e in found.executions].count("other") == 3
    assert '"venue_hint":0' in found.executions[0].raw_payload
    assert sorted(found.warnings) == [
        "Interactive Brokers names a security type unknown to this version: 'MOON'",
        "Interactive Brokers sends a field unknown to this version: 'venue_hint'",
        "Interactive Brokers sends rows without a security type; they count as «other».",
    ]


BARE = without(
    SHARE, "supports_tax_opt", "order_description", "order_ref", "submitter", "trade_time", "exchange", "commission",
    "net_amount", "account", "account_allocation_name", "company_name", "contract_description_1", "listing_exchange",
    "conid", "conidEx", "clearing_id", "clearing_name", "liquidation_trade", "is_event_trading", "order_id",
)  # fmt: skip


def test_B14_everything_optional_may_be_missing() -> None:
    execution = only(BARE)
    assert (execution.fee, execution.conid, execution.external_order_id, execution.flags) == (0, None, None, ())
    assert execution.key == only(SHARE).key


@pytest.mark.parametrize("value", [None, "", [], {}, True], ids=["null", "empty", "list", "object", "true"])
@pytest.mark.parametrize(
    "field", ["order_ref", "conid", "order_id", "liquidation_trade", "open_close", "company_name", "position",
              "contract_description_1", "contract_description_2", "trade_time"]
)  # fmt: skip
def test_B14_an_optional_field_of_another_shape_counts_as_absent(field: str, value: object) -> None:
    plain = only(without(SHARE, field)).to_wire()
    changed = only(SHARE | {field: value}).to_wire()
    assert without(changed, "rawPayload") == without(plain, "rawPayload")


@pytest.mark.parametrize("value", [None, "", [], {}, True], ids=["null", "empty", "list", "object", "true"])
@pytest.mark.parametrize("field", ["symbol", "side", "size", "price"])
def test_B14_an_essential_field_is_named(field: str, value: object) -> None:
    assert refused(SHARE | {field: value}).reason.startswith(f"{field} is ")
    assert refused(without(SHARE, field)).reason == f"{field} is missing"


def test_B14_numbers_may_be_texts_and_texts_numbers() -> None:
    changed = SHARE | {
        "size": "3.0", "price": Decimal("501.25"), "commission": 1, "net_amount": "1503.75", "conid": "72063691",
        "trade_time_r": "1772463845000", "order_id": "1523698741",
    }  # fmt: skip
    assert without(only(changed).to_wire(), "rawPayload") == without(only(SHARE).to_wire(), "rawPayload")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999999", "1,234.5", "0x1", Decimal("NaN"), 10**40, 1.5])
@pytest.mark.parametrize("field", ["size", "price", "commission", "net_amount"])
def test_B15_what_is_no_amount_is_refused_with_the_field_s_name(field: str, value: object) -> None:
    assert refused(SHARE | {field: value}).reason.startswith(f"{field} ")


_AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18, places=12)


@given(size=_AMOUNTS.filter(lambda size: size > 0), price=_AMOUNTS, fee=_AMOUNTS, as_text=st.booleans())
def test_B15_every_amount_arrives_to_the_last_digit(size: Decimal, price: Decimal, fee: Decimal, as_text: bool) -> None:
    sent = {"size": size, "price": price, "commission": fee}
    row = BARE | ({name: format(value, "f") for name, value in sent.items()} if as_text else sent)
    wire = only(row).to_wire()
    assert [Decimal(wire[name]) for name in ("quantity", "price", "fee")] == [size, price, fee]
    assert wire["price"] != "-0"


@pytest.mark.parametrize("size", [Decimal("2.0"), 0])
def test_B16_a_removal_is_no_fill_and_no_reject(size: object) -> None:
    removed = only(REMOVED | {"size": size})
    assert (removed.kind, removed.side, removed.price, removed.quantity, removed.fee) == ("expiry", None, 0, size, 0)
    assert removed.symbol == "MES (EX3) MAR26 5300 Put Fut. Option"
    assert removed.occurred_at == 1774069860000
    assert "side" not in removed.to_wire()
    assert removed.multiplier is None
    assert not meaning(REMOVED).warnings


def test_B16_a_removal_without_id_has_an_identity() -> None:
    one, two = meaning(*(without(REMOVED, "execution_id"),) * 2).executions
    assert one.key != two.key


def test_B16_a_price_may_be_negative_or_zero_and_a_size_may_not() -> None:
    spread = only(FUTURE | {"price": "-0.25", "net_amount": Decimal("-2.5")})
    assert (spread.price, spread.multiplier, spread.side) == (Decimal("-0.25"), "5", "sell")
    assert only(SHARE | {"price": "0", "net_amount": 0}).price == 0
    assert refused(SHARE | {"size": 0}).reason == "size is zero"
    assert refused(SHARE | {"size": Decimal("-3.0")}).reason == "size is negative"
    assert refused(REMOVED | {"size": -1}).reason == "size is negative"


@pytest.mark.parametrize(
    ("word", "side"),
    [("B", "buy"), ("BOT", "buy"), ("BUY", "buy"), ("S", "sell"), ("SLD", "sell"), ("SELL", "sell"), ("s ", "sell")],
)
def test_sides(word: str, side: str) -> None:
    assert only(SHARE | {"side": word}).side == side


# Symbols


@pytest.mark.parametrize(
    ("sec_type", "root", "first", "second", "symbol"),
    [
        ("STK", "aapl", "AAPL", None, "AAPL"),
        ("STK", "BF  B", None, None, "BF.B"),
        ("STK", "ЖÄ", None, None, "ЖÄ"),
        ("CRYPTO", "BTC", "BTC.USD", None, "BTC/USD"),
        ("CRYPTO", "BTC", "Bitcoin cryptocurrency", None, "BTC"),
        ("CASH", "EUR", None, None, "EUR"),
        ("CASH", "EUR.USD", None, None, "EUR/USD"),
        ("FUT", "MES", " MES  DEC23 ", None, "MES DEC23"),
        ("FUT", "MES", None, None, "MES"),
        ("FOP", "ES", "ES", "(EX2) OCT23 4300 Put Fut. Option", "ES (EX2) OCT23 4300 Put Fut. Option"),
        ("FOP", "ES", "ES", "MAR 20 '26 4300 Put", "ES MAR 20 '26 4300 Put"),
        ("OPT", "SPY", "SPY", "MAR20'26 437.5 PUT", "SPY   260320P00437500"),
        ("OPT", "SPY", "SPY", "20MAR26 437.5 P", "SPY   260320P00437500"),
        ("OPT", "SPY", "SPY", "20 MAR 2026 437.5 P", "SPY   260320P00437500"),
        ("OPT", "SPY", "SPY", "Mar 20, 2026 437.5 Put", "SPY   260320P00437500"),
        ("OPT", "SPY", "SPY", "2026-03-20 437.5 Put", "SPY   260320P00437500"),
        ("OPT", "BRK B", "BRK B", "MAR 20 '26 500 Call", "BRKB  260320C00500000"),
        ("OPT", "SPY", "SPY", "MAR26 437.5 Put", "SPY MAR26 437.5 Put"),
        ("OPT", "SPY", "SPY", "MAR 20 26 437.5 Put", "SPY MAR 20 26 437.5 Put"),
        ("OPT", "SPY", "SPY", "(W) MAR 20 '26 437.5 Put", "SPY (W) MAR 20 '26 437.5 Put"),
        ("OPT", "SPY", "SPY", "03/04/26 437.5 Put", "SPY 03/04/26 437.5 Put"),
        ("OPT", "SPY", "SPY", "FEB 30 '26 437.5 Put", "SPY FEB 30 '26 437.5 Put"),
        ("OPT", "SPY", "SPY", "MAR 20 '25 437.5 Put", "SPY MAR 20 '25 437.5 Put"),
        ("OPT", "SPY", "SPY", "MAR 20 '26 437.5", "SPY MAR 20 '26 437.5"),
        ("OPT", "SPY", "SPY", "MAR 20 '26 437.1234 Put", "SPY MAR 20 '26 437.1234 Put"),
        ("OPT", "TOOLONG", None, "MAR 20 '26 5 Put", "TOOLONG MAR 20 '26 5 Put"),
        ("OPT", "SPY", "SPY", None, "SPY"),
        ("WAR", "DAX", None, "DEC26 20000 Call", "DAX DEC26 20000 Call"),
        ("BOND", "T 4 1/4", None, None, "T 4 1/4"),
        ("CFD", "BRK B", None, None, "BRK.B"),
        ("CMDTY", "XAUUSD", None, None, "XAUUSD"),
    ],
)
def test_B17_symbols(sec_type: str, root: str, first: str | None, second: str | None, symbol: str) -> None:
    described = {"contract_description_1": first, "contract_description_2": second}
    execution = only(without(SHARE, "net_amount") | described | {"sec_type": sec_type, "symbol": f" {root} "})
    assert (execution.symbol, execution.raw_symbol) == (symbol, root)


def test_B17_an_option_removed_the_day_after_its_end_keeps_its_symbol() -> None:
    friday = 20532  # 2026-03-20
    terms = ("option", "SPY", "SPY", "MAR 20 '26 437.5 Put")
    assert canonical_symbol(*terms, friday) == canonical_symbol(*terms, friday + 1) == "SPY   260320P00437500"


@pytest.mark.parametrize(
    ("sec_type", "asset_class"),
    [
        ("STK", "stock"), ("FUND", "fund"), ("CRYPTO", "crypto"), ("OPT", "option"), ("FUT", "future"),
        ("FOP", "future_option"), ("CASH", "forex"), ("CFD", "cfd"), ("BOND", "bond"), ("BILL", "bond"),
        ("WAR", "warrant"), ("IOPT", "warrant"), ("CMDTY", "other"), (None, "other"),
    ],
)  # fmt: skip
def test_classes(sec_type: str | None, asset_class: str) -> None:
    assert only(SHARE | {"sec_type": sec_type, "is_event_trading": "1"}).asset_class == asset_class


def test_F10_texts_are_texts_and_their_length_is_capped() -> None:
    assert only(SHARE | {"symbol": "=HYPERLINK(1)"}).raw_symbol == "=HYPERLINK(1)"
    assert refused(SHARE | {"symbol": "A" * 1_000_000}).reason == "symbol is too long"
    assert refused(SHARE | {"execution_id": "1." * 1_000}).reason == "execution_id is too long"
    assert refused(SHARE | {"accountCode": "U" * 1_000}).reason == "accountCode is too long"
    assert len(only(FUTURE | {"contract_description_1": "M" * 1_000_000}).symbol) == 100
    assert len(only(SHARE | {"order_ref": "x" * 1_000_000}).raw_payload) <= 64 * 1024


def test_F2_a_secret_in_a_row_goes_nowhere() -> None:
    log.protect("canary-of-a-row")
    for row in (
        FUTURE | {"contract_description_1": "MES canary-of-a-row"},
        FUTURE | {"symbol": "canary-of-a-row", "contract_description_1": None},
        FUTURE | {"order_id": "canary-of-a-row"},
        FUTURE | {"execution_id": "canary-of-a-row"},
        FUTURE | {"accountCode": "canary-of-a-row"},
        FUTURE | {"side": "canary-of-a-row"},
        {"order_description": "x" * 100_000} | FUTURE | {"contract_description_1": "MES canary-of-a-row"},
    ):
        found = meaning(row)
        assert "canary" not in repr(found)


# Multiplier


@pytest.mark.parametrize(
    ("net", "price", "size", "multiplier"),
    [
        ("43460.0", "4346.00", "2.0", "5"),
        ("345", "3.45", "1", "100"),
        ("0.5", "0.005", "1", "100"),
        ("6043.21", "60432.1", "1", "0.1"),
        ("1208.64", "60432.1", "1", "0.02"),
        ("67812.5", "1.085", "1", "62500"),
        ("984.5", "98.45", "1000", "0.01"),
        ("1000.06", "1000.06", "1", "1"),
        ("-2.5", "-0.25", "2", "5"),
        ("33.33", "0.333333", "1", "100"),
        ("43460.004", "4346.00", "2", "5"),
        ("43460.006", "4346.00", "2", None),
        ("1000.30", "1000", "1", None),
        ("123.4", "1", "1", None),
        ("0.02", "0.0002", "1", None),
        ("0", "4346", "1", None),
        ("345", "0", "1", None),
    ],
)
def test_the_multiplier_is_the_round_number_that_gives_the_net_amount(
    net: str, price: str, size: str, multiplier: str | None
) -> None:
    found = infer_multiplier(Decimal(net), Decimal(price), Decimal(size))
    assert found == (None if multiplier is None else Decimal(multiplier))


@given(
    multiplier=st.sampled_from(["0.01", "0.1", "1", "2", "5", "10", "12.5", "20", "50", "100", "125", "1000", "62500"]),
    price=st.integers(1, 10**7).map(lambda cents: Decimal(cents) / 100),
    size=st.integers(1, 10_000).map(Decimal),
)
def test_an_inferred_multiplier_is_right_or_absent(multiplier: str, price: Decimal, size: Decimal) -> None:
    net = (price * size * Decimal(multiplier)).quantize(Decimal("0.01"))
    found = infer_multiplier(net, price, size)
    if net >= 10:
        # Then half a cent is less than any two round numbers differ.
        assert found == Decimal(multiplier)
    elif found is not None:
        assert abs(price * size * found - net) <= Decimal("0.005")


def test_what_has_no_multiplier_is_checked_not_assumed() -> None:
    assert only(SHARE | {"net_amount": Decimal("1503.754")}).multiplier is None
    assert not meaning(SHARE | {"net_amount": Decimal("1503.754")}).warnings
    hundredfold = meaning(SHARE | {"net_amount": Decimal("150375.0")})
    assert hundredfold.executions[0].multiplier == "100"
    assert hundredfold.warnings == ("net_amount of 'BRK.B' is 100 times price times size.",)
    odd = meaning(SHARE | {"net_amount": Decimal("1512.34")})
    assert (odd.executions[0].multiplier, odd.warnings) == (None, ("net_amount of 'BRK.B' is not price times size.",))
    untold = meaning(FUTURE | {"net_amount": Decimal("54012.34")})
    assert untold.executions[0].multiplier is None
    assert untold.warnings == ("The multiplier of 'MES MAR26' cannot be told from price, size and net_amount.",)


# Time


@pytest.mark.parametrize(
    ("by_number", "by_text", "ms"),
    [
        (1772463845000, "20260302-15:04:05", 1772463845000),
        ("1772463845000", None, 1772463845000),
        (None, "20260302-15:04:05", 1772463845000),
        (0, "20260302-15:04:05", 1772463845000),
        (1772463845, "20260302-15:04:05", 1772463845000),
        ("soon", "20260302-15:04:05", 1772463845000),
        (1772463845999, "soon", 1772463845999),
        (1772463845000, "20260302-10:04:05", 1772463845000),
        (None, "20240229-23:59:59", 1709251199000),
    ],
)
def test_times(by_number: object, by_text: str | None, ms: int) -> None:
    assert only(SHARE | {"trade_time_r": by_number, "trade_time": by_text}).occurred_at == ms


def test_times_that_differ_are_noted() -> None:
    words = "trade_time_r and trade_time differ by more than a second in some rows; trade_time_r counts."
    assert meaning(SHARE | {"trade_time": "20260302-10:04:05"}).warnings == (words,)
    assert not meaning(SHARE | {"trade_time": "20260302-15:04:04"}).warnings
    assert meaning(SHARE | {"trade_time_r": "soon"}).warnings == (
        "trade_time_r cannot be read in some rows; trade_time counts.",
    )


@pytest.mark.parametrize(
    "text", [None, "", "20260230-10:00:00", "20260302-24:00:00", "20260302", "2026-03-02 10:00:00"]
)
def test_B14_a_row_without_any_time_is_refused(text: str | None) -> None:
    reason = refused(SHARE | {"trade_time_r": None, "trade_time": text}).reason
    assert reason.startswith("no time of the trade can be read: trade_time_r is missing, trade_time is ")


# Accounts


def test_B18_rows_go_to_their_own_accounts() -> None:
    stranger = SHARE | {"accountCode": "U7654321", "execution_id": "a.b.01.02"}
    found = meaning(SHARE, ELSEWHERE, stranger, stranger | {"execution_id": "a.b.02.01", "size": "unreadable too"})
    assert [e.account_ref for e in found.executions] == [OURS]
    assert found.skipped == 1
    assert {(r.account_ref, r.external_execution_id) for r in found.rejects} == {
        ("U7654321", "a.b.01"),
        ("U7654321", "a.b.02"),
    }
    words = "account U7654321, which no connection imports. Add a connection for it."
    assert {r.reason for r in found.rejects} == {f"This row is of {words}"}
    assert found.notices == (f"This login also trades {words}",)
    mirrored = meaning(SHARE, ELSEWHERE, account="U7000002", others=(OURS,))
    assert ([e.account_ref for e in mirrored.executions], mirrored.skipped) == (["U7000002"], 1)


@pytest.mark.parametrize(
    ("names", "account"),
    [
        ({"accountCode": " u7000001 ", "account": "Pension"}, OURS),
        ({"account": "Main"}, OURS),
        ({"account": " Main "}, OURS),
        ({"account": "u7000001"}, OURS),
        ({"account_allocation_name": "Main"}, OURS),
        ({"account": "Nobody's", "account_allocation_name": "U7000001"}, OURS),
        ({"account": "Pension"}, None),
        ({"account": "U7000002"}, None),
    ],
)
def test_B18_an_alias_is_resolved_where_the_account_is_not_stated(names: dict[str, str], account: str | None) -> None:
    found = meaning(without(SHARE, "accountCode", "account", "account_allocation_name") | names)
    assert [e.account_ref for e in found.executions] == ([account] if account else [])
    assert found.skipped == (0 if account else 1)


@pytest.mark.parametrize("name", [None, "", "main", "U7654321", 5])
def test_B18_a_row_of_no_known_account_is_nobody_s(name: object) -> None:
    reject = refused(without(SHARE, "accountCode", "account_allocation_name") | {"account": name})
    assert reject.reason.startswith("account is missing")
    assert reject.account_ref is None


def test_B18_the_connection_s_account_is_compared_trimmed_and_in_capitals() -> None:
    assert meaning(SHARE, account=" u7000001 ", others=("U7000001 ",)).executions[0].account_ref == OURS


# Combos

LEG = OPTION | {"execution_id": "c.d.01.01", "order_id": 77, "order_ref": "fly"}
COMBO = without(SHARE, "net_amount") | {"sec_type": "BAG", "symbol": "AAPL", "order_id": None, "order_ref": None}


@pytest.mark.parametrize(
    "same",
    [
        {"execution_id": "c.d.00.01"},
        {"order_id": "77"},
        {"order_ref": "fly", "trade_time_r": 1772464800999, "trade_time": None},
    ],
    ids=["parent", "order", "reference"],
)
def test_a_combo_is_left_out_where_its_legs_are_there(same: dict[str, Any]) -> None:
    for rows in ((COMBO | same, LEG), (LEG, COMBO | same), (LEG | {"size": "unreadable"}, COMBO | same)):
        found = meaning(*rows)
        assert found.skipped == 1
        assert not any("BAG" in e.raw_payload for e in found.executions)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"execution_id": "c.e.00.01"},
        {"order_id": 78},
        {"order_ref": "fly"},
        {"order_id": "77", "accountCode": "U7654321"},
    ],
    ids=["nothing", "parent", "order", "second", "account"],
)
def test_a_combo_without_legs_is_kept(other: dict[str, Any]) -> None:
    found = meaning(LEG, COMBO | other)
    assert found.skipped == 0
    assert len(found.executions) + len(found.rejects) == 2
    if found.rejects:
        assert found.rejects[0].account_ref == "U7654321"
    else:
        assert {e.asset_class for e in found.executions} == {"option", "other"}
        assert not found.warnings


def test_B18_a_combo_s_legs_are_of_its_own_account() -> None:
    found = meaning(COMBO | {"order_id": 77}, LEG | {"accountCode": "U7000002"})
    assert [e.raw_symbol for e in found.executions] == ["AAPL"]
    assert found.skipped == 1, "the leg, not the combo"
    assert found.executions[0].asset_class == "other"


# The whole

_MIXED = [
    *ROWS, LEG, COMBO | {"order_id": "77"}, SHARE | {"execution_id": None}, SHARE | {"execution_id": None},
    SHARE | {"execution_id": None, "exchange": "IEX"}, SHARE | {"size": "x"}, "junk", SHARE | {"accountCode": "U1"},
    SHARE | {"accountCode": "U2"}, SHARE | {"execution_id": "0001f4e8.69a1b2c3.01.02"}, FUTURE | {"new": 1},
]  # fmt: skip


@given(st.permutations(_MIXED))
def test_the_order_of_rows_plays_no_part(rows: list[Any]) -> None:
    assert meaning(*rows) == meaning(*_MIXED)


def test_nothing_means_nothing() -> None:
    assert meaning() == Normalized()


def test_10_000_rows_are_normalised_quickly() -> None:
    rows = [
        ROWS[number % 4] | {"execution_id": f"0001f4e8.{number:08x}.01.01", "trade_time_r": 1772463845000 + number}
        for number in range(10_000)
    ]
    taken = []
    for _ in range(3):
        began = time.process_time()
        found = meaning(*rows)
        taken.append(time.process_time() - began)
        assert len(found.executions) == 10_000
    # The budget is 0.3 s (bench/normalize_ibkr_live.py measures it); beside busy neighbours the same costs more.
    assert min(taken) < 0.6
