"""Rows of TradesHistory as canonical executions."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import log
from worker.models import Execution, Normalized, ingestion_hash
from worker.normalize.kraken import normalize_trades
from worker.normalize.symbols import PairBook

FIXTURES = Path(__file__).parent.parent / "fixtures" / "kraken"
BOOK = PairBook.of(json.loads((FIXTURES / "asset-pairs.json").read_text())["result"])
TRADES = json.loads((FIXTURES / "trades-history.json").read_text(), parse_float=Decimal)["result"]["trades"]
GOOD: dict[str, Any] = {**TRADES["TJR4QA-2WPLM-ZX7K3B"], "txid": "TJR4QA-2WPLM-ZX7K3B"}


def meaning(*rows: dict[str, Any], **options: Any) -> Normalized:
    return normalize_trades(rows, "ACCOUNT 1", BOOK, **options)[0]


def only(row: dict[str, Any]) -> Execution:
    (execution,) = meaning(row).executions
    return execution


def test_a_spot_fill() -> None:
    execution = only(GOOD)
    assert execution.to_wire() == {
        "provider": "kraken",
        "source": "kraken_trades",
        "accountRef": "ACCOUNT 1",
        "externalExecutionId": "TJR4QA-2WPLM-ZX7K3B",
        "revision": 1,
        "externalOrderId": "OJR4QA-2WPLM-ZX7K3B",
        "kind": "fill",
        "occurredAt": 1764590401234,
        "symbol": "BTC/EUR",
        "rawSymbol": "XXBTZEUR",
        "assetClass": "crypto",
        "side": "buy",
        "quantity": "0.0125",
        "price": "78250.1",
        "fee": "2.44532",
        "currency": "EUR",
        "feeCurrency": "EUR",
        "flags": [],
        "ingestionHash": ingestion_hash(
            provider="kraken", account_ref="ACCOUNT 1", symbol="BTC/EUR", side="buy", quantity=Decimal("0.0125"),
            price=Decimal("78250.1"), occurred_at=1764590401234, repeat=0,
        ),
        "rawPayload": execution.raw_payload,
    }  # fmt: skip
    assert json.loads(execution.raw_payload, parse_float=Decimal) == GOOD
    assert '"time":1764590401.2345678' in execution.raw_payload


def test_B6_two_fills_alike_but_for_their_ids_are_two_executions() -> None:
    one, two = meaning(GOOD, {**TRADES["TJR4QB-2WPLM-ZX7K3C"], "txid": "TJR4QB-2WPLM-ZX7K3C"}).executions
    assert one.key != two.key
    # With ids of their own nothing has to be counted, so neither depends on what else is on the page.
    assert one.ingestion_hash == two.ingestion_hash


@pytest.mark.parametrize(
    ("txid", "flags", "open_close"),
    [
        ("TMARGN-OPEN1-AAAAAA", ("margin", "position_open"), "open"),
        ("TMARGN-CLOSE-AAAAAA", ("margin", "liquidation", "position_close"), "close"),
        ("TXSTCK-AAPLX-AAAAAA", (), None),
        ("TUNKWN-PAIR1-AAAAAA", ("unresolved_symbol",), None),
    ],
)
def test_margin_trades_are_marked(txid: str, flags: tuple[str, ...], open_close: str | None) -> None:
    execution = only({**TRADES[txid], "txid": txid})
    assert (execution.flags, execution.open_close) == (flags, open_close)


@pytest.mark.parametrize(
    ("changes", "margin"),
    [({"leverage": "0"}, False), ({"leverage": "5"}, True), ({"leverage": "5:1"}, True), ({"margin": "1"}, True),
     ({"margin": None, "leverage": None}, False), ({"margin": "strange", "leverage": []}, False)],
)  # fmt: skip
def test_B14_margin_is_read_from_either_field_and_never_costs_the_trade(changes: dict[str, Any], margin: bool) -> None:
    assert ("margin" in only({**GOOD, **changes}).flags) == margin


def test_B17_a_pair_nobody_knows_is_imported_under_its_own_name() -> None:
    result = meaning({**TRADES["TUNKWN-PAIR1-AAAAAA"], "txid": "TUNKWN-PAIR1-AAAAAA"})
    (execution,) = result.executions
    assert (execution.symbol, execution.asset_class, execution.currency) == ("QQQQWWWW", "other", None)
    assert "QQQQWWWW" in result.warnings[0]


def test_a_fee_may_be_a_rebate_and_a_time_may_be_a_text() -> None:
    assert only({**TRADES["TXSTCK-AAPLX-AAAAAA"], "txid": "T1"}).fee == Decimal("-0.07541")
    assert only({**TRADES["TGONE1-ICNXB-AAAAAA"], "txid": "T2"}).occurred_at == 1483228800999


BROKEN = [
    ({"vol": "abc"}, "vol"),
    ({"vol": "0"}, "vol"),
    ({"vol": "-1"}, "vol"),
    ({"vol": None}, "vol"),
    ({"vol": "1,234.5"}, "vol"),
    ({"price": "NaN"}, "price"),
    ({"price": Decimal("NaN")}, "price"),
    ({"price": "-1"}, "price"),
    ({"price": ""}, "price"),
    ({"price": {}}, "price"),
    ({"price": "1e999999"}, "price"),
    ({"fee": None}, "fee"),
    ({"fee": "Infinity"}, "fee"),
    ({"time": None}, "time"),
    ({"time": 1764590401234}, "time"),
    ({"time": "soon"}, "time"),
    ({"time": True}, "time"),
    ({"type": "short"}, "type"),
    ({"type": None}, "type"),
    ({"type": ""}, "type"),
    ({"pair": None}, "pair"),
    ({"pair": "X" * 1_000_000}, "pair"),
    ({"pair": ["XXBTZUSD"]}, "pair"),
    ({"txid": ""}, "txid"),
    ({"txid": None}, "txid"),
    ({"txid": "T" * 101}, "txid"),
]


@pytest.mark.parametrize(("changes", "field"), BROKEN)
def test_B12_a_broken_row_is_kept_with_its_reason_and_the_others_go_on(changes: dict[str, Any], field: str) -> None:
    others = [{**GOOD, "txid": f"T{number}"} for number in range(50)]
    result = meaning(*others[:25], {**GOOD, **changes}, *others[25:])
    assert len(result.executions) == 50
    (reject,) = result.rejects
    assert reject.reason.startswith(field)
    assert len(reject.reason) < 200
    assert json.loads(reject.raw_payload)


@pytest.mark.parametrize("field", ["time", "type", "pair", "price", "vol", "fee"])
def test_B14_an_essential_field_that_vanished_quarantines_the_row(field: str) -> None:
    result = meaning({name: value for name, value in GOOD.items() if name != field})
    assert not result.executions
    assert result.rejects[0].reason.startswith(field)


@pytest.mark.parametrize(
    "field", ["ordertxid", "postxid", "aclass", "ordertype", "cost", "margin", "leverage", "misc", "trade_id", "maker"]
)
@pytest.mark.parametrize("value", ["gone", None, "", [], {"a": 1}, 5])
def test_B14_any_other_field_may_vanish_or_change(field: str, value: Any) -> None:
    row = {name: old for name, old in GOOD.items() if name != field}
    if value != "gone":
        row[field] = value
    assert len(meaning(row).executions) == 1


def test_B12_a_row_that_is_no_object_is_a_reject() -> None:
    (reject,) = meaning({"unreadable": None, "txid": "TA"}).rejects
    assert reject.external_execution_id == "TA"


def test_B13_additions_are_imported_and_noted_once() -> None:
    rows = [{**GOOD, "txid": f"T{n}", "venue": "x", "aclass": "moon_pair", "ordertype": "iceberg"} for n in range(9)]
    result = meaning(*rows)
    assert len(result.executions) == 9
    assert len(result.warnings) == 2
    assert result.executions[0].asset_class == "other"


def test_the_same_row_has_the_same_fingerprint() -> None:
    broken = {**GOOD, "vol": "x"}
    first, second = meaning(broken).rejects[0], meaning(broken).rejects[0]
    assert first == second
    assert meaning({**broken, "vol": "y"}).rejects[0].fingerprint != first.fingerprint


def test_rows_without_ids_are_counted_apart() -> None:
    row = {name: value for name, value in GOOD.items() if name != "txid"}
    one, two, three = meaning(row, row, {**row, "vol": "1"}).executions
    assert one.external_execution_id is None
    assert len({one.key, two.key, three.key}) == 3
    assert one.key == only(GOOD).ingestion_hash


def test_B15_prices_that_must_be_computed_are_exact_or_rounded_once() -> None:
    row = {name: value for name, value in GOOD.items() if name != "price"}
    (exact,) = meaning({**row, "cost": "99", "vol": "100"}, derive_price=True).executions
    (third,) = meaning({**row, "cost": "10", "vol": "3"}, derive_price=True).executions
    assert (exact.to_wire()["price"], third.to_wire()["price"]) == ("0.99", "3.333333333333333333")
    assert meaning({**row, "cost": ""}, derive_price=True).rejects[0].reason.startswith("cost")


def test_used_pairs_are_remembered() -> None:
    _, book = normalize_trades([GOOD], "A", BOOK)
    assert json.loads(book.dumps()) == {"XXBTZEUR": ["BTC/EUR", "crypto", "EUR"]}


def test_F2_payload_and_reason_hold_no_secret() -> None:
    log.protect("canary-7a1e55")
    result = meaning({**GOOD, "misc": "canary-7a1e55"}, {**GOOD, "txid": "T2", "type": "canary-7a1e55"})
    assert "canary" not in result.executions[0].raw_payload
    assert "canary" not in result.rejects[0].reason + result.rejects[0].raw_payload


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*sorted(GOOD), "new"]), json_values))
def test_B14_whatever_a_row_holds_it_is_an_execution_or_a_reject(changes: dict[str, Any]) -> None:
    result = meaning({**GOOD, **changes})
    assert len(result.executions) + len(result.rejects) == 1
    for execution in result.executions:
        assert execution.quantity > 0
        json.loads(execution.raw_payload)
