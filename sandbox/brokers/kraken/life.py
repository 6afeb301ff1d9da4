"""A realistic trading life from a seed: the fills a trader leaves behind over the years."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random

from sandbox.brokers.kraken.catalogue import DARK_POOL, DELISTED, EQUITY, LISTED, Pair
from sandbox.brokers.kraken.history import TICKS, Fill, Position

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_MINUTE = 60 * TICKS
_DAY = 24 * 60 * _MINUTE
_FINE_TIMES_SINCE = 1_609_459_200 * TICKS  # 2021: from four decimals to seven

# How often this trader turns to a market.
_HABITS = {
    "XXBTZUSD": 30, "XETHZEUR": 18, "SOLUSD": 12, "ADAEUR": 10, "XBTUSDT": 8, "USDCUSD": 6,
    "XXRPXXBT": 3, "XTZEUR": 3, "ZRXXBT": 2, "DOTUSD": 4, "LINKUSD": 3, "AAPLxUSD": 3, "XETHXXBT": 3,
}  # fmt: skip


class Life:
    """The trader. One seed, one life: the same calls give the same fills."""

    def __init__(self, seed: str) -> None:
        self._random = Random(f"life {seed}")
        self._markets = [LISTED[pair] for pair in _HABITS]
        self._weights = list(_HABITS.values())

    def past(self, count: int, start: int, end: int) -> list[Fill]:
        """Exactly `count` fills in (start, end]: first one of everything peculiar, then everyday orders."""
        fills: list[Fill] = []
        for group in self._peculiar(start, end):
            if len(fills) + len(group) <= count:
                fills += group
        while len(fills) < count:
            at = self._random.randint(start + 1, end)
            pair = self._random.choices(self._markets, self._weights)[0]
            fills += [fill for fill in self._order(pair, at) if fill.ticks <= end][: count - len(fills)]
        return fills

    def next(self, at: int) -> Fill:
        """One more everyday fill, now."""
        pair = self._random.choices(self._markets, self._weights)[0]
        return self.fill(pair, at)

    def fill(
        self,
        pair: Pair,
        at: int,
        *,
        type_: str | None = None,
        price: Decimal | None = None,
        vol: Decimal | None = None,
        fee: Decimal | None = None,
        ordertxid: str | None = None,
        ordertype: str | None = None,
        maker: bool | None = None,
        leverage: int = 0,
        misc: str = "",
    ) -> Fill:
        """A fill with what is given; the rest is this trader's habit."""
        random = self._random
        is_maker = random.random() < 0.6 if maker is None else maker
        paid = self.price(pair, at) if price is None else price
        size = self._size(pair, paid) if vol is None else vol
        cost = _rounded(paid * size, pair.cost_digits)
        percent = self._fee_percent(pair, maker=is_maker)
        return Fill(
            txid=self.txid("T"),
            ordertxid=ordertxid or self.txid("O"),
            pair=pair.id,
            aclass=pair.aclass,
            ticks=at,
            visible=at,
            type=type_ or random.choice(("buy", "sell")),
            ordertype=ordertype or ("limit" if is_maker else "market"),
            price=_rounded(paid, max(pair.cost_digits, pair.price_digits)) if price is None else price,
            cost=cost,
            fee=_rounded(cost * percent / 100, pair.cost_digits) if fee is None else fee,
            vol=size,
            margin=_rounded(cost / leverage if leverage else Decimal(0), pair.cost_digits),
            leverage=leverage,
            misc=misc,
            # 0 stands for several public trades merged into one row (reference kraken 1.2).
            trade_id=0
            if not is_maker and random.random() < 0.2
            else at // TICKS - 1_380_000_000 + random.randint(0, 9),
            maker=is_maker,
        )

    def price(self, pair: Pair, at: int) -> Decimal:
        """A slow wave around the guide price, with noise."""
        phase = sum(map(ord, pair.id))
        swing = 0.002 if pair.guide.quantize(Decimal("0.01")) == 1 else 0.35
        factor = 1 + swing * math.sin(at / (200 * _DAY) + phase) + self._random.gauss(0, swing / 100)
        return _rounded(pair.guide * Decimal(repr(factor)), pair.price_digits)

    def txid(self, letter: str) -> str:
        """19 characters: 6-5-6 after the first letter's fashion."""
        letters = "".join(self._random.choices(_ALPHABET, k=16))
        return f"{letter}{letters[:5]}-{letters[5:10]}-{letters[10:]}"

    def _order(self, pair: Pair, at: int, *, parts: int | None = None, burst: bool | None = None) -> list[Fill]:
        """The partial fills of one order: within one second (a sweep through the book), or over minutes."""
        random = self._random
        if parts is None:
            parts = random.choices((1, 2, 3, 5, 8, 13), (50, 18, 12, 10, 7, 3))[0]
        if burst is None:
            burst = random.random() < 0.5
        order, side = self.txid("O"), random.choice(("buy", "sell"))
        price, maker = self.price(pair, at), not burst
        fills, when = [], at
        for _ in range(parts):
            paid = price if maker else self._slipped(pair, price)
            fills.append(
                self.fill(
                    pair,
                    self._stamp(when),
                    type_=side,
                    price=_rounded(paid, max(pair.cost_digits, pair.price_digits)),
                    ordertxid=order,
                    maker=maker,
                )
            )
            when = self._within_second(when) if burst else when + random.randint(1, 7 * _MINUTE)
        return fills

    def _peculiar(self, start: int, end: int) -> Iterator[list[Fill]]:
        """One of each thing an importer stumbles over, as far as the count has room."""
        bitcoin, ether = LISTED["XXBTZUSD"], LISTED["XETHZEUR"]
        span = end - start

        def at(fraction: float) -> int:
            return self._stamp(start + int(span * fraction))

        yield self._twins(bitcoin, at(0.71))
        yield [self.fill(DELISTED, at(0.03), type_="sell")]
        yield [self.fill(LISTED["AAPLxUSD"], at(0.93), type_="buy", maker=True)]
        yield self._equities(at(0.97))
        yield self._order(bitcoin, at(0.52), parts=18, burst=True)
        yield self._order(ether, at(0.64), parts=16, burst=True)
        yield self._order(LISTED["ADAEUR"], at(0.35), parts=5, burst=False)
        yield self._position(bitcoin, at(0.81), at(0.82), closing_type="market")
        yield self._position(ether, at(0.85), at(0.86), closing_type="liquidation market")
        yield [self.fill(DARK_POOL, at(0.08))]
        yield [self.fill(LISTED["USDCUSD"], at(0.9)), self.fill(LISTED["XBTUSDT"], at(0.905))]

    def _twins(self, pair: Pair, at: int) -> list[Fill]:
        """Two fills alike to the last digit and tick; only the txid tells them apart (I1, fault B6)."""
        first = self.fill(pair, at, maker=True)
        return [first, replace(first, txid=self.txid("T"))]

    def _equities(self, at: int) -> list[Fill]:
        order, price = self.txid("O"), self.price(EQUITY, at)
        vols = (Decimal("1.00000000"), Decimal("2.00000000"))
        return [
            self.fill(EQUITY, at + step, type_="buy", price=price, vol=vol, ordertxid=order, ordertype="limit")
            for step, vol in enumerate(vols)
        ]

    def _position(self, pair: Pair, opened: int, closed: int, *, closing_type: str) -> list[Fill]:
        leverage = min(5, pair.leverage)
        vol = Decimal("0.05000000")
        opening = self.fill(pair, opened, type_="buy", vol=vol, maker=False, leverage=leverage)
        closing = self.fill(
            pair, closed, type_="sell", vol=vol, maker=False, ordertype=closing_type, leverage=leverage, misc="closing"
        )
        position = Position(
            closed_at=closed,
            closing=(closing.txid,),
            cprice=closing.price,
            ccost=closing.cost,
            cfee=closing.fee,
            cvol=closing.vol,
            cmargin=closing.margin,
            net=closing.cost - opening.cost - closing.fee,
        )
        return [
            replace(opening, postxid=opening.txid, position=position),
            replace(closing, postxid=opening.txid),
        ]

    def _stamp(self, at: int) -> int:
        """Times became finer over the years."""
        grain = 1 if at >= _FINE_TIMES_SINCE else 1000
        return at // grain * grain

    def _within_second(self, at: int) -> int:
        """A moment in what is left of the same second, now and then the very same."""
        end = at // TICKS * TICKS + TICKS - 1
        return self._random.choice((at, self._stamp(self._random.randint(at, end))))

    def _slipped(self, pair: Pair, price: Decimal) -> Decimal:
        tick = Decimal(1).scaleb(-pair.price_digits)
        return price + tick * self._random.randint(0, 5)

    def _size(self, pair: Pair, price: Decimal) -> Decimal:
        spent = Decimal(self._random.randint(20, 3000)) * (price / pair.guide)
        in_base = spent / (pair.guide * _dollars(pair.quote))
        return _rounded(max(pair.minimum, in_base), 8)

    def _fee_percent(self, pair: Pair, *, maker: bool) -> Decimal:
        if pair.row is None:
            return Decimal("0.2")
        return Decimal(str(pair.row["fees_maker" if maker else "fees"][0][1]))


def _dollars(quote: str) -> Decimal:
    """Roughly what one unit of the quote is worth, to keep order sizes sensible."""
    return {"XXBT": Decimal(52000), "XETH": Decimal(2900), "ZJPY": Decimal("0.007")}.get(quote, Decimal(1))


def _rounded(value: Decimal, digits: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)
