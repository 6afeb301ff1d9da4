"""What the ledger's executions look like in the books: originals, cancels, rebookings (reference ibkr 4.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sandbox.brokers.ibkr.ledger import Entry, Fill

EASTERN = ZoneInfo("America/New_York")
_CLOSE = time(16, 20)
_OPENS = time(9, 30)
_FIRST_TRANSACTION = 5_000_000_000
_FIRST_TRADE = 1_700_000_000

Role = Literal["original", "cancel", "rebook"]


@dataclass(frozen=True, slots=True)
class Booking:
    """One booked row. A cancel carries the fill it takes back."""

    fill: Fill
    role: Role
    transaction: int
    trade: int
    booked_ms: int
    commission: Decimal
    """As cost; on the original only, whatever happened to it later."""
    cancels: int | None = None
    """The transaction that a cancel takes back."""
    open_close: str = ""

    @property
    def quantity(self) -> Decimal:
        """Signed: sells are negative, and a cancel is the reverse of what it cancels."""
        signed = -self.fill.size if self.sold else self.fill.size
        return -signed if self.role == "cancel" else signed

    @property
    def sold(self) -> bool:
        # A position that is removed was long, unless it was assigned: only who is short is.
        return self.fill.side == "S" or (self.fill.side == "X" and self.fill.kind == "expiry")

    @property
    def is_execution(self) -> bool:
        """False for an expiry or assignment: nobody executed it, so it has no execution id."""
        return self.fill.kind == "fill"

    @property
    def moment(self) -> datetime:
        """Eastern wall time. What the clearing house does is booked at the end of its day."""
        at = eastern(self.fill.time_ms)
        if self.is_execution:
            return at
        day = at.date() if at.time() >= _OPENS else at.date() - timedelta(days=1)
        return datetime.combine(day, _CLOSE, EASTERN)

    @property
    def trade_date(self) -> date:
        """The trading day: it begins at 20:00 Eastern the evening before, for futures at 18:00 (4.4)."""
        if not self.is_execution:
            return self.moment.date()
        early = 6 if self.fill.instrument.sec_type in ("FUT", "FOP") else 4
        return (self.moment.replace(tzinfo=None) + timedelta(hours=early)).date()

    @property
    def report_date(self) -> date:
        """The statement it appears in: that of a late booking is later, and so is that of a cancel or rebooking."""
        if self.role == "original" and self.fill.visible_ms <= self.fill.time_ms:
            return self.trade_date
        later = timedelta(days=0 if self.role == "original" else 1)
        return max(self.trade_date + later, eastern(self.booked_ms).date())


def eastern(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(EASTERN)


def ids_of(entry: Entry) -> dict[str, Any]:
    """What statements know of an execution and the live API does not."""
    *_, last = (booking for booking in _booked(entry) if booking.role != "cancel")
    return {
        "transactionId": str(last.transaction),
        "tradeId": str(last.trade),
        "cancelled": entry.cancelled_ms is not None,
    }


def bookings(entries: Iterable[Entry]) -> list[Booking]:
    """All that is booked, oldest execution first, each marked with what it did to the position."""
    held: dict[tuple[str, int], Decimal] = {}
    found = []
    for entry in entries:
        key = entry.newest.account, entry.newest.instrument.conid
        before = held.get(key, Decimal(0))
        for booking in _booked(entry):
            mark = "" if booking.role == "cancel" else _mark(before, booking)
            found.append(replace(booking, open_close=mark))
            held[key] = held.get(key, Decimal(0)) + booking.quantity
    return found


def _booked(entry: Entry) -> Iterator[Booking]:
    trade, transaction = _FIRST_TRADE + entry.number, _FIRST_TRANSACTION + entry.number * 100
    commission = entry.newest.commission or Decimal(0)
    for number, fill in enumerate(entry.revisions):
        if number == 0:
            yield Booking(fill, "original", transaction, trade, fill.known_ms, commission)
            continue
        yield _cancel(entry.revisions[number - 1], trade, transaction, fill.known_ms)
        transaction += 2
        yield Booking(fill, "rebook", transaction, trade, fill.known_ms, Decimal(0))
    if entry.cancelled_ms is not None:
        yield _cancel(entry.newest, trade, transaction, entry.cancelled_ms)


def _cancel(fill: Fill, trade: int, cancelled: int, at_ms: int) -> Booking:
    return Booking(fill, "cancel", cancelled + 1, trade, at_ms, Decimal(0), cancels=cancelled)


def _mark(before: Decimal, booking: Booking) -> str:
    """`O`, `C`, `C;O`; forex has none (4.4)."""
    if booking.fill.instrument.sec_type == "CASH":
        return ""
    if booking.fill.side == "X":
        return "C"
    change = booking.quantity
    if before == 0 or (before > 0) == (change > 0):
        return "O"
    return "C" if abs(change) <= abs(before) else "C;O"
