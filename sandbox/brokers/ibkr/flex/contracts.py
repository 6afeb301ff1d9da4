"""How statements describe an instrument: local symbols, strikes and expiries that the live API leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sandbox.brokers.ibkr.catalogue import Instrument


@dataclass(frozen=True, slots=True)
class Contract:
    """Reference ibkr 4.4: OCC padded symbols for options, `EUR.USD` for forex, local symbols elsewhere."""

    symbol: str
    description: str
    underlying: str
    underlying_conid: str = ""
    sub_category: str = ""
    strike: Decimal | None = None
    expiry: str = ""
    put_call: str = ""


_DERIVATIVES = {
    652847924: Contract("MESZ6", "MES 18DEC26", "MES", "362687422", expiry="20261218"),
    728404563: Contract(
        "AAPL  270115C00200000", "AAPL 15JAN27 200 C", "AAPL", "265598", "C", Decimal(200), "20270115", "C"
    ),
    658339781: Contract("EX2V6 P4300", "ES 09OCT26 4300 P", "ES", "11004968", "P", Decimal(4300), "20261009", "P"),
}


def contract_of(instrument: Instrument) -> Contract:
    """The contract that statements name."""
    known = _DERIVATIVES.get(instrument.conid)
    if known is not None:
        return known
    if instrument.sec_type == "CASH":
        pair = instrument.contract or instrument.symbol
        return Contract(pair, pair, "")
    kind = "COMMON" if instrument.sec_type == "STK" else ""
    return Contract(instrument.symbol, instrument.company, instrument.symbol, sub_category=kind)
