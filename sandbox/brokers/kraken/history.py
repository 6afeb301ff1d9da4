"""The ledger of true fills: what really happened, and what TradesHistory shows of it."""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

TICKS = 10_000_000
"""Ticks a second: Kraken's times have at most seven decimals."""

SHARED_POSITION = "TKH2SE-M7IF5-CFI7LT"
"""The placeholder that Kraken shows as position id on nearly all rows that have none (reference kraken 1.2)."""


def _since(year: int, month: int = 1) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * TICKS


# From when on a field appears in rows (reference kraken 1.2).
_POSTXID_SINCE, _TRADE_ID_SINCE, _MAKER_SINCE, _LEVERAGE_SINCE, _ACLASS_SINCE = (
    _since(2015), _since(2021), _since(2023), _since(2024), _since(2025, 10),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Position:
    """What the opening row of a margin position says about its closing, once that happened."""

    closed_at: int
    closing: tuple[str, ...]
    cprice: Decimal
    ccost: Decimal
    cfee: Decimal
    cvol: Decimal
    cmargin: Decimal
    net: Decimal


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. `ticks` is when it happened, `visible` from when on REST shows it (late booking)."""

    txid: str
    ordertxid: str
    pair: str
    aclass: str
    ticks: int
    visible: int
    type: str
    ordertype: str
    price: Decimal
    cost: Decimal
    fee: Decimal
    vol: Decimal
    margin: Decimal
    leverage: int
    misc: str
    trade_id: int
    maker: bool
    postxid: str = SHARED_POSITION
    position: Position | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the row that Kraken gets wrong (B12-B15); null removes the field. The truth is unaffected."""

    @property
    def time(self) -> Decimal:
        return Decimal(self.ticks) / TICKS

    @property
    def ledger_ids(self) -> tuple[str, str]:
        """Of the base and the quote side."""
        return f"L{self.txid[1:-1]}A", f"L{self.txid[1:-1]}B"

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands in the list; ties keep their order between calls."""
        return self.ticks, self.txid

    def truth(self, now: int) -> dict[str, Any]:
        """A line of the oracle."""
        return {
            "txid": self.txid,
            "ordertxid": self.ordertxid,
            "pair": self.pair,
            "aclass": self.aclass,
            "time": format(self.time, "f"),
            "timeMs": self.ticks // (TICKS // 1000),
            "type": self.type,
            "ordertype": self.ordertype,
            "price": format(self.price, "f"),
            "cost": format(self.cost, "f"),
            "fee": format(self.fee, "f"),
            "vol": format(self.vol, "f"),
            "margin": format(self.margin, "f"),
            "leverage": self.leverage,
            "misc": self.misc,
            "visible": self.visible <= now,
        }

    def row(self, now: int, *, trades: bool = False, ledgers: bool = False) -> dict[str, Any]:
        """The object that stands under the txid in an answer."""
        row: dict[str, Any] = {"ordertxid": self.ordertxid}
        if self.ticks >= _POSTXID_SINCE or self.postxid != SHARED_POSITION:
            row["postxid"] = self.postxid
        row["pair"] = self.pair
        if self.ticks >= _ACLASS_SINCE:
            row["aclass"] = self.aclass
        row["time"] = self.time
        row |= {"type": self.type, "ordertype": self.ordertype}
        row |= {name: format(getattr(self, name), "f") for name in ("price", "cost", "fee", "vol", "margin")}
        if self.ticks >= _LEVERAGE_SINCE or self.leverage:
            row["leverage"] = str(self.leverage)
        row["misc"] = self.misc
        if ledgers:
            row["ledgers"] = list(self.ledger_ids)
        if self.ticks >= _TRADE_ID_SINCE:
            row["trade_id"] = self.trade_id
        if self.ticks >= _MAKER_SINCE:
            row["maker"] = self.maker
        if self.position is not None:
            row |= self._position_fields(self.position, now, trades=trades)
        row |= self.overrides
        return {name: value for name, value in row.items() if value is not None}

    def _position_fields(self, position: Position, now: int, *, trades: bool) -> dict[str, Any]:
        if now < position.closed_at:
            return {"posstatus": "open"}
        amounts = {
            name: format(getattr(position, name), "f") for name in ("cprice", "ccost", "cfee", "cvol", "cmargin", "net")
        }
        return {"posstatus": "closed", **amounts, **({"trades": list(position.closing)} if trades else {})}


KINDS: Mapping[str, Callable[[Fill], bool]] = {
    "all": lambda _: True,
    "any position": lambda fill: fill.margin != 0,
    "closed position": lambda fill: fill.position is not None,
    "closing position": lambda fill: "closing" in fill.misc,
    "no position": lambda fill: fill.margin == 0,
}
"""The values of TradesHistory's `type`."""


class History:
    """All fills of the account in time order; those not yet visible wait apart until their moment."""

    def __init__(self, fills: Iterable[Fill] = ()) -> None:
        self._shown: list[Fill] = []
        self._waiting: list[tuple[int, str]] = []
        self._by_txid: dict[str, Fill] = {}
        for fill in fills:
            self._by_txid[fill.txid] = fill
            heapq.heappush(self._waiting, (fill.visible, fill.txid))

    def book(self, fill: Fill) -> None:
        if fill.txid in self._by_txid:
            raise ValueError(f"there is already a fill {fill.txid}")
        self._by_txid[fill.txid] = fill
        heapq.heappush(self._waiting, (fill.visible, fill.txid))

    def all(self) -> list[Fill]:
        """The truth, oldest first."""
        return sorted(self._by_txid.values(), key=_place)

    def find(self, txid: str) -> Fill | None:
        return self._by_txid.get(txid)

    def shown(self, now: int) -> list[Fill]:
        """What REST shows now, oldest first."""
        arrived = []
        while self._waiting and self._waiting[0][0] <= now:
            arrived.append(self._by_txid[heapq.heappop(self._waiting)[1]])
        if len(arrived) > 100:
            self._shown = sorted([*self._shown, *arrived], key=_place)
        else:
            for fill in arrived:
                insort(self._shown, fill, key=_place)
        return self._shown

    def between(self, now: int, after: tuple[int, str] | None, upto: tuple[int, str] | None) -> list[Fill]:
        """Visible fills with `after` < place <= `upto`, newest first."""
        shown = self.shown(now)
        low = 0 if after is None else bisect_right(shown, after, key=_place)
        high = len(shown) if upto is None else bisect_right(shown, upto, key=_place)
        return shown[low:high][::-1]


def _place(fill: Fill) -> tuple[int, str]:
    return fill.place
