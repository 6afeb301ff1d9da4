"""The pairs and assets this exchange lists: the shapes of reference kraken 4.1 with values of our own."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

# id | altname | wsname | base | quote | price digits | cost digits | order minimum | guide price | leverage
_PAIRS = """
XXBTZUSD | XBTUSD   | XBT/USD   | XXBT  | ZUSD | 1 | 5 | 0.0001 | 52000   | 5
XXBTZEUR | XBTEUR   | XBT/EUR   | XXBT  | ZEUR | 1 | 5 | 0.0001 | 47000   | 5
XXBTZGBP | XBTGBP   | XBT/GBP   | XXBT  | ZGBP | 1 | 5 | 0.0001 | 41000   | 0
XXBTZJPY | XBTJPY   | XBT/JPY   | XXBT  | ZJPY | 0 | 3 | 0.0001 | 7600000 | 0
XBTUSDT  | XBTUSDT  | XBT/USDT  | XXBT  | USDT | 1 | 5 | 0.0001 | 52010   | 5
XBTUSDC  | XBTUSDC  | XBT/USDC  | XXBT  | USDC | 2 | 5 | 0.0001 | 52005   | 0
XBTCHF   | XBTCHF   | XBT/CHF   | XXBT  | CHF  | 1 | 5 | 0.0001 | 46000   | 0
XETHZUSD | ETHUSD   | ETH/USD   | XETH  | ZUSD | 2 | 5 | 0.002  | 2900    | 5
XETHZEUR | ETHEUR   | ETH/EUR   | XETH  | ZEUR | 2 | 5 | 0.002  | 2650    | 5
XETHXXBT | ETHXBT   | ETH/XBT   | XETH  | XXBT | 5 | 6 | 0.002  | 0.0557  | 5
ETHUSDT  | ETHUSDT  | ETH/USDT  | XETH  | USDT | 2 | 5 | 0.002  | 2901    | 3
XXRPZUSD | XRPUSD   | XRP/USD   | XXRP  | ZUSD | 5 | 8 | 2      | 0.61    | 3
XXRPZEUR | XRPEUR   | XRP/EUR   | XXRP  | ZEUR | 5 | 8 | 2      | 0.56    | 3
XXRPXXBT | XRPXBT   | XRP/XBT   | XXRP  | XXBT | 8 | 8 | 2      | 0.0000117 | 0
XLTCZUSD | LTCUSD   | LTC/USD   | XLTC  | ZUSD | 2 | 5 | 0.05   | 84      | 3
XLTCXXBT | LTCXBT   | LTC/XBT   | XLTC  | XXBT | 6 | 8 | 0.05   | 0.00161 | 0
XXMRZEUR | XMREUR   | XMR/EUR   | XXMR  | ZEUR | 2 | 5 | 0.04   | 148     | 2
XXLMZUSD | XLMUSD   | XLM/USD   | XXLM  | ZUSD | 6 | 8 | 15     | 0.117   | 0
XETCZUSD | ETCUSD   | ETC/USD   | XETC  | ZUSD | 3 | 5 | 0.2    | 26      | 0
XZECZUSD | ZECUSD   | ZEC/USD   | XZEC  | ZUSD | 3 | 5 | 0.1    | 41      | 0
XMLNXXBT | MLNXBT   | MLN/XBT   | XMLN  | XXBT | 8 | 8 | 0.2    | 0.00038 | 0
XDGUSD   | XDGUSD   | XDG/USD   | XXDG  | ZUSD | 7 | 8 | 20     | 0.091   | 2
XTZUSD   | XTZUSD   | XTZ/USD   | XTZ   | ZUSD | 4 | 8 | 4      | 0.98    | 0
XTZEUR   | XTZEUR   | XTZ/EUR   | XTZ   | ZEUR | 4 | 8 | 4      | 0.91    | 0
ZRXXBT   | ZRXXBT   | ZRX/XBT   | ZRX   | XXBT | 9 | 9 | 12     | 0.0000071 | 0
ZRXUSD   | ZRXUSD   | ZRX/USD   | ZRX   | ZUSD | 5 | 8 | 12     | 0.37    | 0
CHZEUR   | CHZEUR   | CHZ/EUR   | CHZ   | ZEUR | 5 | 8 | 50     | 0.083   | 0
SNXETH   | SNXETH   | SNX/ETH   | SNX   | XETH | 7 | 9 | 1.5    | 0.00109 | 0
ADAUSD   | ADAUSD   | ADA/USD   | ADA   | ZUSD | 6 | 8 | 12     | 0.47    | 3
ADAEUR   | ADAEUR   | ADA/EUR   | ADA   | ZEUR | 6 | 8 | 12     | 0.43    | 3
ADAXBT   | ADAXBT   | ADA/XBT   | ADA   | XXBT | 8 | 8 | 12     | 0.000009 | 0
SOLUSD   | SOLUSD   | SOL/USD   | SOL   | ZUSD | 2 | 5 | 0.06   | 141     | 3
SOLEUR   | SOLEUR   | SOL/EUR   | SOL   | ZEUR | 2 | 5 | 0.06   | 130     | 3
DOTUSD   | DOTUSD   | DOT/USD   | DOT   | ZUSD | 4 | 8 | 1.2    | 7.1     | 2
LINKUSD  | LINKUSD  | LINK/USD  | LINK  | ZUSD | 5 | 8 | 0.6    | 14.6    | 2
UNIUSD   | UNIUSD   | UNI/USD   | UNI   | ZUSD | 3 | 5 | 1      | 7.4     | 0
USDCUSD  | USDCUSD  | USDC/USD  | USDC  | ZUSD | 4 | 8 | 5      | 1.0001  | 0
USDTZUSD | USDTUSD  | USDT/USD  | USDT  | ZUSD | 5 | 8 | 5      | 1.0002  | 0
USDTEUR  | USDTEUR  | USDT/EUR  | USDT  | ZEUR | 5 | 8 | 5      | 0.92    | 0
EURCHF   | EURCHF   | EUR/CHF   | ZEUR  | CHF  | 5 | 5 | 4      | 0.96    | 0
ZEURZUSD | EURUSD   | EUR/USD   | ZEUR  | ZUSD | 5 | 5 | 4      | 1.08    | 0
AAPLxUSD | AAPLxUSD | AAPLx/USD | AAPLx | ZUSD | 2 | 5 | 0.00000001 | 214 | 2
TSLAxUSD | TSLAxUSD | TSLAx/USD | TSLAx | ZUSD | 2 | 5 | 0.00000001 | 251 | 2
SPYxUSD  | SPYxUSD  | SPYx/USD  | SPYx  | ZUSD | 2 | 5 | 0.00000001 | 560 | 2
"""

# id | altname (blank: the id) | decimals | decimals shown
_ASSETS = """
XXBT | XBT | 10 | 5
XETH | ETH | 10 | 5
XXRP | XRP | 8 | 5
XLTC | LTC | 10 | 5
XXMR | XMR | 10 | 5
XXLM | XLM | 8 | 5
XETC | ETC | 10 | 5
XZEC | ZEC | 10 | 5
XMLN | MLN | 10 | 5
XREP | REP | 10 | 5
XXDG | XDG | 8 | 2
ZUSD | USD | 4 | 2
ZEUR | EUR | 4 | 2
ZGBP | GBP | 4 | 2
ZCAD | CAD | 4 | 2
ZJPY | JPY | 2 | 0
ZAUD | AUD | 4 | 2
KFEE | FEE | 2 | 2
CHF | | 4 | 2
ADA | | 8 | 6
SOL | | 10 | 5
DOT | | 10 | 8
DOT.S | | 10 | 8
DOT28.S | | 10 | 8
ETH2 | | 10 | 5
ETH2.S | | 10 | 5
XTZ | | 8 | 5
XTZ.S | | 8 | 5
ZRX | | 10 | 5
CHZ | | 10 | 5
SNX | | 10 | 5
LINK | | 10 | 5
UNI | | 10 | 5
USDC | | 8 | 4
USDT | | 8 | 4
USD.M | | 4 | 2
EUR.M | | 4 | 2
XBT.M | | 10 | 5
SOL.F | | 10 | 5
AAPLx | | 10 | 5
TSLAx | | 10 | 5
SPYx | | 10 | 5
"""

_FIAT = frozenset({"ZUSD", "ZEUR", "ZGBP", "ZCAD", "ZJPY", "ZAUD", "CHF"})


@dataclass(frozen=True, slots=True)
class Pair:
    """What may be traded. `row` is None for what the exchange no longer, or never, lists."""

    id: str
    base: str
    quote: str
    aclass: str
    price_digits: int
    cost_digits: int
    minimum: Decimal
    guide: Decimal
    leverage: int
    row: dict[str, Any] | None


def _aclass(asset: str) -> str:
    return "tokenized_asset" if asset.endswith("x") else "currency"


def _row(cells: list[str]) -> dict[str, Any]:
    _, altname, wsname, base, quote, price_digits, cost_digits, minimum, _, leverage = cells
    digits = int(price_digits)
    levels = list(range(2, int(leverage) + 1))
    tokenized = _aclass(base) == "tokenized_asset"
    volumes = (0, 10_000, 50_000, 100_000, 500_000)
    taker = (0.1,) if tokenized else (0.4, 0.35, 0.24, 0.2, 0.1)
    maker = (-0.02,) if tokenized else (0.25, 0.2, 0.14, 0.08, 0)
    row: dict[str, Any] = {
        "altname": altname,
        "wsname": wsname,
        "aclass_base": _aclass(base),
        "base": base,
        "aclass_quote": "currency",
        "quote": quote,
        "lot": "unit",
        "cost_decimals": int(cost_digits),
        "pair_decimals": digits,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": levels,
        "leverage_sell": levels,
        "fees": [[volume, percent] for volume, percent in zip(volumes, taker, strict=False)],
        "fees_maker": [[volume, percent] for volume, percent in zip(volumes, maker, strict=False)],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": minimum,
        "costmin": "0.5" if quote in _FIAT else "0.00002",
        "tick_size": format(Decimal(1).scaleb(-digits), "f"),
        "status": "online",
        "execution_venue": "international",
    }
    if levels:
        row |= {"long_position_limit": 250, "short_position_limit": 200}
    return row


def _cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def _listed() -> dict[str, Pair]:
    pairs = {}
    for cells in _cells(_PAIRS):
        pair_id, _, _, base, quote, price_digits, cost_digits, minimum, guide, leverage = cells
        pairs[pair_id] = Pair(
            id=pair_id,
            base=base,
            quote=quote,
            aclass="tokenized_asset" if _aclass(base) == "tokenized_asset" else "forex",
            price_digits=int(price_digits),
            cost_digits=int(cost_digits),
            minimum=Decimal(minimum),
            guide=Decimal(guide),
            leverage=int(leverage),
            row=_row(cells),
        )
    return pairs


LISTED = _listed()


def unlisted(pair_id: str, base: str, quote: str, guide: str, *, aclass: str = "forex", digits: int = 5) -> Pair:
    """A pair found only in the history: delisted, dark pool, or of a class AssetPairs does not show."""
    return Pair(pair_id, base, quote, aclass, digits, digits, Decimal("0.01"), Decimal(guide), 0, None)


DELISTED = unlisted("XICNXXBT", "XICN", "XXBT", "0.00031", digits=8)
DARK_POOL = unlisted("XXBTZUSD.d", "XXBT", "ZUSD", "52000")
EQUITY = unlisted("DE/USD", "DE", "ZUSD", "402", aclass="equity_pair", digits=2)
KNOWN = LISTED | {pair.id: pair for pair in (DELISTED, DARK_POOL, EQUITY)}


def asset_pairs(aclass: str) -> dict[str, dict[str, Any]]:
    """Only live pairs of the asked class."""
    return {pair.id: pair.row for pair in LISTED.values() if pair.row and pair.row["aclass_base"] == aclass}


def assets(aclass: str) -> dict[str, dict[str, Any]]:
    rows = {}
    for asset, altname, decimals, shown in _cells(_ASSETS):
        row: dict[str, Any] = {
            "aclass": _aclass(asset),
            "altname": altname or asset,
            "decimals": int(decimals),
            "display_decimals": int(shown),
            "status": "enabled",
        }
        if asset in ("XXBT", "XETH", "ZUSD", "ZEUR", "USDC"):
            row["collateral_value"] = 1 if asset.startswith("Z") else 0.95
        if row["aclass"] == aclass:
            rows[asset] = row
    return rows
