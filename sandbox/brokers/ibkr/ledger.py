"""The ledger of true executions: what really happened, and what the trades list shows of it."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from sandbox.brokers.ibkr.catalogue import Instrument

Kind = Literal["fill", "expiry", "assignment"]
Numbers = Literal["mixed", "strings", "numbers"]

_VERBS = {"B": "Bot", "S": "Sold"}


def split_id(execution_id: str) -> tuple[str, int]:
    """Family and revision of an execution id (reference ibkr 2.9)."""
    family, _, last = execution_id.rpartition(".")
    if execution_id.count(".") >= 3 and last.isascii() and last.isdigit():
        return family, int(last)
    return execution_id, 1


@dataclass(frozen=True, slots=True)
class Fill:
    """One revision of one execution. `visible_ms` is from when on the list shows it (late booking)."""

    account: str
    execution_id: str
    instrument: Instrument
    time_ms: int
    visible_ms: int
    side: str
    size: Decimal
    price: Decimal
    commission: Decimal | None
    exchange: str
    order_id: int
    order_ref: str | None = None
    kind: Kind = "fill"
    echo: bool = False
    """A row that only repeats others: the whole of a combo beside its legs."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the row gets wrong; null removes the field. The truth is unaffected."""
    live: bool = True
    """False: only statements show it, the trades list never does."""
    booked_ms: int | None = None
    """When this revision was booked; None: as soon as it was visible."""

    @property
    def known_ms(self) -> int:
        """From when on a statement can know of it."""
        return max(self.time_ms, self.visible_ms) if self.booked_ms is None else self.booked_ms

    @property
    def family(self) -> str:
        return split_id(self.execution_id)[0]

    @property
    def revision(self) -> int:
        return split_id(self.execution_id)[1]

    @property
    def net_amount(self) -> Decimal:
        return self.price * self.size * self.instrument.multiplier

    def truth(self, now_ms: int) -> dict[str, Any]:
        """A line of the oracle."""
        return {
            "account": self.account,
            "execId": self.execution_id,
            "family": self.family,
            "revision": self.revision,
            "kind": self.kind,
            "timeMs": self.time_ms,
            "symbol": self.instrument.symbol,
            "secType": self.instrument.sec_type,
            "side": self.side,
            "size": format(self.size, "f"),
            "price": format(self.price, "f"),
            "commission": None if self.commission is None else format(self.commission, "f"),
            "conid": self.instrument.conid,
            "netAmount": format(self.net_amount, "f"),
            "multiplier": format(self.instrument.multiplier, "f"),
            "currency": self.instrument.currency,
            "orderId": self.order_id,
            "visible": self.live and self.visible_ms <= now_ms,
        }

    def row(self, look: Look) -> dict[str, Any]:
        """The object in the trades list (reference ibkr 2.8)."""
        instrument, shown_as = self.instrument, look.aliases.get(self.account, self.account)
        row: dict[str, Any] = {
            "execution_id": self.execution_id,
            "symbol": instrument.symbol,
            "supports_tax_opt": "1" if instrument.sec_type == "STK" else "0",
            "side": self.side,
            "order_description": self._description(),
            "trade_time": datetime.fromtimestamp(self.time_ms // 1000, UTC).strftime("%Y%m%d-%H:%M:%S"),
            "trade_time_r": self.time_ms,
            "size": look.number(self.size, text=False),
            "price": look.number(self.price, text=True),
            "order_ref": self.order_ref,
            "submitter": look.submitter,
            "exchange": self.exchange,
            "commission": None if self.commission is None else look.number(self.commission, text=True),
            "net_amount": look.number(self.net_amount, text=False),
            "account": shown_as,
            "accountCode": self.account,
            "account_allocation_name": shown_as,
            "company_name": instrument.company,
            "contract_description_1": instrument.contract or instrument.symbol,
            "contract_description_2": instrument.details,
            "sec_type": instrument.sec_type,
            "listing_exchange": instrument.listing,
            "conid": str(instrument.conid) if look.numbers == "strings" else instrument.conid,
            "conidEx": instrument.conid_ex,
            "clearing_id": "IB",
            "clearing_name": "IB",
            "liquidation_trade": "0",
            "is_event_trading": "0",
            "order_id": self.order_id if look.order_ids else None,
        }
        if look.now_ms < self.time_ms + look.commission_ms:
            row["commission"] = None
        row |= look.extra
        row |= self.overrides
        return {name: value for name, value in row.items() if value is not None}

    def _description(self) -> str:
        size = plain(self.size)
        if self.kind != "fill":
            return f"{'EXPIRED' if self.kind == 'expiry' else 'ASSIGNED'} {size} on {self.exchange}"
        return f"{_VERBS.get(self.side, self.side)} {size} @ {plain(self.price)} on {self.exchange}"


@dataclass(frozen=True, slots=True)
class Look:
    """How rows are shown just now. `extra` are fields added to every row."""

    now_ms: int
    submitter: str
    aliases: Mapping[str, str]
    numbers: Numbers = "mixed"
    order_ids: bool = True
    commission_ms: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def number(self, value: Decimal, *, text: bool) -> str | Decimal:
        """A price or commission is text and a size or amount a number, unless all are alike."""
        with_point = as_double(value, trim=not text)
        if self.numbers == "strings" or (self.numbers == "mixed" and text):
            return with_point
        return Decimal(with_point)


def plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def as_double(value: Decimal, *, trim: bool) -> str:
    """`5.0`, `0.5`, `961.3`: at least one decimal, as the platform prints its doubles."""
    text = plain(value) if trim else format(value, "f")
    return text if "." in text else f"{text}.0"


@dataclass(slots=True)
class Entry:
    """One execution with all its revisions, lowest first. `number` counts executions in the order of their booking."""

    number: int
    revisions: list[Fill]
    cancelled_ms: int | None = None

    @property
    def newest(self) -> Fill:
        return self.revisions[-1]

    @property
    def place(self) -> tuple[int, str]:
        return self.newest.time_ms, self.newest.family


class Ledger:
    """All executions of the login's accounts; those not yet visible wait apart until their moment."""

    def __init__(self, fills: Iterable[Fill] = ()) -> None:
        self._by_key: dict[tuple[str, str], Entry] = {}
        self._by_family: dict[str, list[Entry]] = {}
        self._shown: list[Entry] = []
        self._waiting: list[tuple[int, int, Entry]] = []
        for fill in fills:
            self.book(fill)

    def book(self, fill: Fill) -> None:
        key = (fill.account, fill.family)
        if key in self._by_key:
            raise ValueError(f"{fill.account} already has an execution {fill.family}")
        entry = Entry(len(self._by_key) + 1, [fill])
        self._by_key[key] = entry
        self._by_family.setdefault(fill.family, []).append(entry)
        if fill.live:
            heapq.heappush(self._waiting, (fill.visible_ms, entry.number, entry))

    def find(self, execution_id: str, account: str | None) -> Fill:
        """The newest revision of an execution, asked for by any of its ids."""
        return self._entry(execution_id, account).newest

    def correct(self, execution_id: str, account: str | None, corrected: Fill) -> None:
        """Add a higher revision. The list shows it in place of, or beside, the earlier ones."""
        self._entry(execution_id, account).revisions.append(corrected)

    def cancel(self, execution_id: str, account: str | None, at_ms: int) -> Entry:
        """The exchange takes an execution back. What the trades list then shows was never seen (reference ibkr 8)."""
        entry = self._entry(execution_id, account)
        entry.cancelled_ms = at_ms
        return entry

    def entries(self) -> list[Entry]:
        """The truth, oldest first: each execution once."""
        entries = (entry for entry in self._by_key.values() if not entry.newest.echo)
        return sorted(entries, key=lambda entry: (entry.newest.time_ms, entry.newest.execution_id))

    def listed(self, now_ms: int, since_ms: int, *, revisions: Literal["newest", "all"]) -> Iterator[Fill]:
        """What the list can show of the time from `since_ms` on, newest first."""
        while self._waiting and self._waiting[0][0] <= now_ms:
            insort(self._shown, heapq.heappop(self._waiting)[2], key=_place)
        start = bisect_left(self._shown, (since_ms, ""), key=_place)
        for entry in reversed(self._shown[start:]):
            yield from [entry.newest] if revisions == "newest" else reversed(entry.revisions)

    def _entry(self, execution_id: str, account: str | None) -> Entry:
        entries = [
            entry
            for entry in self._by_family.get(split_id(execution_id)[0], [])
            if account in (None, entry.newest.account)
        ]
        if len(entries) != 1:
            raise ValueError(f"{len(entries)} executions are called {execution_id}; name the account too")
        return entries[0]


def _place(entry: Entry) -> tuple[int, str]:
    return entry.place
