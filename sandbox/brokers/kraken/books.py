"""Views of the same fills that other private calls show: balances, orders, ledger rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from sandbox.brokers.kraken.catalogue import KNOWN
from sandbox.brokers.kraken.history import Fill

_DUST = Decimal("1e-10")


def balances(fills: Iterable[Fill]) -> dict[str, str]:
    """What the spot fills leave; nobody owes, so what would be negative came from an unseen deposit."""
    held: dict[str, Decimal] = {}
    for fill in fills:
        for asset, amount, fee in _legs(fill):
            held[asset] = held.get(asset, Decimal(0)) + amount - fee
    return {asset: _text(max(amount, Decimal(0))) for asset, amount in held.items()}


def orders(fills: Iterable[Fill], *, trades: bool) -> dict[str, dict[str, Any]]:
    """Each order with the fills seen so far, in the order of its newest fill."""
    by_order: dict[str, list[Fill]] = {}
    for fill in fills:
        by_order.setdefault(fill.ordertxid, []).append(fill)
    return {txid: _order(members, trades=trades) for txid, members in by_order.items()}


def ledger(fills: Iterable[Fill], aclass: str) -> dict[str, dict[str, Any]]:
    """Two rows a spot fill, joined to it by `refid` (reference kraken 4.6)."""
    rows: dict[str, dict[str, Any]] = {}
    for fill in fills:
        for ledger_id, (asset, amount, fee) in zip(fill.ledger_ids, _legs(fill), strict=False):
            if _class_of(fill, asset) == aclass:
                rows[ledger_id] = {
                    "refid": fill.txid,
                    "time": fill.time,
                    "type": "trade",
                    "subtype": "",
                    "aclass": aclass,
                    "asset": asset,
                    "amount": _text(amount),
                    "fee": _text(fee),
                    "balance": "0.0000000000",
                }
    return rows


def _legs(fill: Fill) -> Iterator[tuple[str, Decimal, Decimal]]:
    """(asset, amount, fee) of both sides; none where the assets are unknown or borrowed."""
    pair = KNOWN.get(fill.pair)
    if pair is None or fill.margin:
        return
    sign = 1 if fill.type == "buy" else -1
    yield pair.base, sign * fill.vol, Decimal(0)
    yield pair.quote, -sign * fill.cost, fill.fee


def _class_of(fill: Fill, asset: str) -> str:
    if asset != KNOWN[fill.pair].base or fill.aclass == "forex":
        return "currency"
    return "equity" if fill.aclass == "equity_pair" else fill.aclass


def _order(fills: list[Fill], *, trades: bool) -> dict[str, Any]:
    last, first = fills[0], fills[-1]
    vol = sum((fill.vol for fill in fills), Decimal(0))
    row: dict[str, Any] = {
        "refid": None,
        "userref": None,
        "status": "closed",
        "reason": None,
        "opentm": first.time,
        "closetm": last.time,
        "starttm": 0,
        "expiretm": 0,
        "descr": {
            "pair": last.pair,
            "type": last.type,
            "ordertype": last.ordertype,
            "price": format(last.price, "f"),
            "price2": "0",
            "leverage": f"{last.leverage}:1" if last.leverage else "none",
            "order": f"{last.type} {vol:f} {last.pair} @ {last.ordertype}",
            "close": "",
        },
        "vol": f"{vol:f}",
        "vol_exec": f"{vol:f}",
        "cost": f"{sum((fill.cost for fill in fills), Decimal(0)):f}",
        "fee": f"{sum((fill.fee for fill in fills), Decimal(0)):f}",
        "price": format(last.price, "f"),
        "stopprice": "0.00000",
        "limitprice": "0.00000",
        "misc": last.misc,
        "oflags": "fciq",
    }
    return row | ({"trades": [fill.txid for fill in fills]} if trades else {})


def _text(amount: Decimal) -> str:
    return format(amount.quantize(_DUST), "f")
