"""A realistic trading life from a seed: what a trader's days leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random

from sandbox.brokers.ibkr import catalogue
from sandbox.brokers.ibkr.catalogue import Instrument
from sandbox.brokers.ibkr.ledger import Fill

SECOND_MS = 1000
_NOTHING = Decimal("0.0")


class Life:
    """The trader. One seed, one life: the same calls give the same fills. Times are whole seconds."""

    def __init__(self, seed: str, accounts: tuple[str, ...], sec_types: tuple[str, ...] = ()) -> None:
        self._random = Random(f"ibkr life {seed}")
        self._accounts = accounts
        self._habits = {
            instrument: habit
            for instrument, habit in zip(catalogue.TRADED, catalogue.HABITS, strict=True)
            if not sec_types or instrument.sec_type in sec_types
        }
        if not self._habits:
            raise ValueError(f"this trader trades nothing of {', '.join(sec_types)}")

    def past(self, count: int, start_ms: int, end_ms: int) -> list[Fill]:
        """Exactly `count` executions in (start, end]: first one of everything peculiar, then everyday orders."""
        fills: list[Fill] = []
        for group in self._peculiar(start_ms, end_ms):
            known = all(fill.instrument in self._habits for fill in group)
            if known and len(fills) + len(group) <= count:
                fills += group
        while len(fills) < count:
            fills += self._order(self._moment(start_ms, end_ms), end_ms)[: count - len(fills)]
        return fills

    def next(self, at_ms: int) -> Fill:
        """One more everyday fill, now."""
        return self.fill(self._habit(), at_ms)

    def fill(
        self,
        instrument: Instrument,
        at_ms: int,
        *,
        account: str | None = None,
        side: str | None = None,
        size: Decimal | None = None,
        price: Decimal | None = None,
        commission: Decimal | None = None,
        execution_id: str | None = None,
        order_id: int | None = None,
    ) -> Fill:
        """A fill with what is given; the rest is this trader's habit."""
        random = self._random
        many = Decimal(random.choice(instrument.lots)) if size is None else size
        at_ms -= at_ms % SECOND_MS
        return Fill(
            account=account or random.choice(self._accounts),
            execution_id=execution_id or self.execution_id(),
            instrument=instrument,
            time_ms=at_ms,
            visible_ms=at_ms,
            side=side or random.choice("BS"),
            size=many,
            price=self._price(instrument) if price is None else price,
            commission=_commission(instrument, many) if commission is None else commission,
            exchange=random.choice(instrument.exchanges),
            order_id=order_id or self.order_id(),
        )

    def expiry(self, instrument: Instrument, at_ms: int, size: Decimal, account: str | None = None) -> Fill:
        """The removal of an expired position: side X, nothing paid (reference ibkr 2.8)."""
        fill = self.fill(instrument, at_ms, account=account, side="X", size=size, price=_NOTHING)
        return replace(fill, commission=None, kind="expiry")

    def assignment(
        self, option: Instrument, stock: Instrument, at_ms: int, size: Decimal, strike: Decimal, account: str | None
    ) -> list[Fill]:
        """A short call is assigned: it is removed, and its stock is sold at the strike, which is no execution."""
        removed = replace(self.expiry(option, at_ms, size, account), kind="assignment")
        sold = self.fill(
            stock, at_ms, account=removed.account, side="S", size=size * option.multiplier, price=strike,
            commission=_NOTHING,
        )  # fmt: skip
        return [removed, replace(sold, kind="assignment", live=False)]

    def execution_id(self) -> str:
        """Four dot segments; the second looks like a clock and is none (reference ibkr 2.9)."""
        return f"{self._random.getrandbits(20):08x}.{self._random.getrandbits(32):08x}.01.01"

    def order_id(self) -> int:
        return self._random.randint(10**9, 2 * 10**9)

    def conid(self) -> int:
        return self._random.randint(10**8, 10**9)

    def _habit(self) -> Instrument:
        return self._random.choices(list(self._habits), list(self._habits.values()))[0]

    def _moment(self, start_ms: int, end_ms: int) -> int:
        second = self._random.randint(start_ms // SECOND_MS + 1, end_ms // SECOND_MS)
        return second * SECOND_MS

    def _order(self, at_ms: int, end_ms: int) -> list[Fill]:
        """The partial fills of one order, within one second or a few."""
        random, instrument = self._random, self._habit()
        parts = random.choices((1, 2, 3, 5), (60, 20, 12, 8))[0]
        account, side, order = random.choice(self._accounts), random.choice("BS"), self.order_id()
        fills = []
        for _ in range(parts):
            fills.append(self.fill(instrument, min(at_ms, end_ms), account=account, side=side, order_id=order))
            at_ms += random.choice((0, 0, SECOND_MS, 40 * SECOND_MS))
        return fills

    def _peculiar(self, start_ms: int, end_ms: int) -> Iterator[list[Fill]]:
        """One of each thing an importer stumbles over, as far as the count has room."""

        def at(fraction: float) -> int:
            return start_ms + int((end_ms - start_ms) * fraction)

        def traded(symbol: str, sec_type: str = "STK") -> Instrument:
            found = catalogue.find(symbol, sec_type, None)
            assert found is not None
            return found

        twin = self.fill(traded("AAPL"), at(0.9))
        yield [twin, replace(twin, execution_id=self.execution_id())]
        yield [self.fill(traded("BRK B"), at(0.8))]
        fractional = self.fill(traded("INTU"), at(0.7), side="B", size=Decimal("0.5"), commission=Decimal("1.0"))
        yield [replace(fractional, exchange="IBKR")]
        yield [self.fill(traded("MES", "FUT"), at(0.6), size=Decimal(2))]
        yield [self.fill(traded("AAPL", "OPT"), at(0.55))]
        option = traded("ES", "FOP")
        opened = self.fill(option, at(0.3), side="B", size=Decimal(2))
        yield [opened, self.expiry(option, at(0.5), Decimal(2), opened.account)]
        yield [self.fill(traded("EUR", "CASH"), at(0.4))]
        yield [self.fill(traded("SAP"), at(0.2))]
        yield [self.fill(traded("MSFT"), at(0.1), size=Decimal(400), commission=Decimal("-0.32"))]

    def _price(self, instrument: Instrument) -> Decimal:
        """Around the guide price, on the instrument's grid."""
        moved = instrument.guide * Decimal(repr(round(self._random.gauss(1, 0.02), 6)))
        ticks = (moved / instrument.tick).quantize(Decimal(1), ROUND_HALF_EVEN)
        return max(ticks, Decimal(1)) * instrument.tick


def _commission(instrument: Instrument, size: Decimal) -> Decimal:
    """About what the fixed plan costs."""
    match instrument.sec_type:
        case "FUT" | "FOP":
            return size * Decimal("0.62")
        case "OPT":
            return size * Decimal("0.70")
        case "CASH":
            return Decimal("2.00")
        case _:
            return max(Decimal("1.00"), size * Decimal("0.005")).quantize(Decimal("0.01"))
