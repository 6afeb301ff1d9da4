"""The instruments this login trades, with what the live API never says about them: currency and multiplier."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

SecType = Literal["STK", "OPT", "FUT", "FOP", "CASH", "CRYPTO", "BOND", "WAR", "FUND", "BAG"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """A contract as rows of the trades list describe it (reference ibkr 2.8)."""

    conid: int
    symbol: str
    sec_type: str
    company: str
    exchanges: tuple[str, ...]
    listing: str | None
    guide: Decimal
    tick: Decimal = Decimal("0.01")
    multiplier: Decimal = Decimal(1)
    currency: str = "USD"
    contract: str | None = None
    """What `contract_description_1` says where that is not the symbol."""
    details: str | None = None
    """`contract_description_2`, of derivatives only."""
    lots: tuple[str, ...] = ("1", "5", "10", "25", "100")

    @property
    def conid_ex(self) -> str:
        return f"{self.conid}@{self.exchanges[0]}" if self.sec_type in ("FUT", "FOP") else str(self.conid)


_US = ("ISLAND", "NYSE", "ARCA", "IEX", "BATS", "IBKRATS")
_CONTRACTS = ("1", "2", "3", "5")

TRADED = (
    Instrument(265598, "AAPL", "STK", "APPLE INC", _US, "NASDAQ.NMS", Decimal("192.26")),
    Instrument(272093, "MSFT", "STK", "MICROSOFT CORP", _US, "NASDAQ.NMS", Decimal("415.10")),
    Instrument(270662, "INTU", "STK", "INTUIT INC", _US, "NASDAQ.NMS", Decimal("420.08")),
    Instrument(70101545, "MRK", "STK", "MERCK & CO INC", _US, "NYSE", Decimal("86.41")),
    Instrument(72063691, "BRK B", "STK", "BERKSHIRE HATHAWAY INC-CL B", _US, "NYSE", Decimal("361.55")),
    Instrument(
        4815747, "SAP", "STK", "SAP SE", ("IBIS", "TGATE"), "IBIS", Decimal("176.42"), Decimal("0.02"), currency="EUR"
    ),
    Instrument(
        652847924, "MES", "FUT", "Micro E-Mini S&P 500 Stock Price Index", ("CME",), "CME", Decimal("4346.00"),
        Decimal("0.25"), Decimal(5), contract="MES DEC26", lots=_CONTRACTS,
    ),
    Instrument(
        728404563, "AAPL", "OPT", "APPLE INC", ("CBOE", "PHLX", "BOX"), "SMART", Decimal("4.35"), Decimal("0.05"),
        Decimal(100), details="JAN2027 200 Call", lots=_CONTRACTS,
    ),
    Instrument(
        658339781, "ES", "FOP", "E-mini S&P 500", ("CME",), None, Decimal("12.50"), Decimal("0.25"), Decimal(50),
        contract="ES", details="(EX2) OCT26 4300 Put Fut. Option", lots=_CONTRACTS,
    ),
    Instrument(
        12087792, "EUR", "CASH", "European Monetary Union Euro", ("IDEALPRO",), "IDEALPRO", Decimal("1.08455"),
        Decimal("0.00005"), contract="EUR.USD", lots=("25000", "40000", "100000"),
    ),
)  # fmt: skip
HABITS = (30, 18, 8, 8, 8, 6, 10, 5, 3, 4)
"""How often this trader turns to each of them."""


def find(symbol: str | None, sec_type: str | None, conid: int | None) -> Instrument | None:
    """The first traded instrument that fits what is known of it."""
    for instrument in TRADED:
        if (
            (symbol is None or instrument.symbol == symbol)
            and (sec_type is None or instrument.sec_type == sec_type)
            and (conid is None or instrument.conid == conid)
        ):
            return instrument
    return None


def unlisted(symbol: str, sec_type: str, conid: int) -> Instrument:
    """An instrument nobody has heard of."""
    return Instrument(conid, symbol, sec_type, f"{symbol} (simulated)", ("SMART",), "SMART", Decimal("100.00"))
