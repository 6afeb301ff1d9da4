"""Pure: what Interactive Brokers' contract fields say was traded (reference ibkr 2.8; DESIGN section 6).

The live API names a contract by its root symbol and two descriptions for people. What they do not state beyond
doubt is not read into them.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Context, Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final, assert_never

from worker.models import AssetClass

COMBO: Final = "BAG"

ASSET_CLASSES: Final[Mapping[str, AssetClass]] = MappingProxyType(
    {
        "STK": "stock", "FUND": "fund", "CRYPTO": "crypto", "OPT": "option", "FUT": "future", "FOP": "future_option",
        "CASH": "forex", "CFD": "cfd", "BOND": "bond", "BILL": "bond", "WAR": "warrant", "IOPT": "warrant",
        COMBO: "other",
    }
)  # fmt: skip

HALF_CENT: Final = Decimal("0.005")
"""`net_amount` is rounded to cents."""

_ROUNDINGS: Final = tuple(Context(prec=digits) for digits in (1, 2, 3))
"""No listed multiplier has more significant digits (5, 12.5, 0.1, 1000, 62500)."""

_PAIR = re.compile(r"([A-Z0-9]{2,10})[./]([A-Z]{3,5})", re.ASCII)
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TERMS: Final = r" (?P<strike>\d{1,5}(?:\.\d{1,3})?) ?(?P<right>CALL|PUT|C|P)"
_OPTIONS: Final = tuple(
    re.compile(date + _TERMS, re.ASCII)
    for date in (
        rf"{_MONTH} ?(?P<day>\d{{1,2}}) ?'(?P<year>\d\d)",
        rf"{_MONTH} ?(?P<day>\d{{1,2}}),? (?P<year>20\d\d)",
        rf"(?P<day>\d{{1,2}}) ?{_MONTH} ?'?(?P<year>(?:20)?\d\d)",
        r"(?P<year>20\d\d)(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)",
    )
)
_LONGEST_OCC_ROOT: Final = 6
_REMOVED_WITHIN: Final = 7
"""Expired options are removed on the days after."""

DAY_MS: Final = 86_400_000
_EPOCH: Final = dt.date(1970, 1, 1)


@lru_cache(maxsize=4096)
def canonical_symbol(asset_class: AssetClass, root: str, first: str | None, second: str | None, day: int) -> str:
    """The symbol of a contract by its root, its two descriptions and the day of the trade since 1970."""
    match asset_class:
        case "stock" | "fund" | "cfd":
            return ".".join(_upper(root).split())
        case "forex" | "crypto":
            return _pair(first) or _pair(root) or _spaced(root)
        case "future":
            return _spaced(first or root)
        case "option":
            return _occ(root, second, day) or _spaced(f"{root} {second or ''}")
        case "future_option" | "warrant":
            return _spaced(f"{root} {second or ''}")
        case "bond" | "tokenized" | "other":
            return _spaced(root)
        case _:
            assert_never(asset_class)


def _upper(text: str) -> str:
    return text.upper() if text.isascii() else text


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _pair(text: str | None) -> str | None:
    match = _PAIR.fullmatch(text.strip()) if text else None
    return f"{match[1]}/{match[2]}" if match else None


def _occ(root: str, description: str | None, day: int) -> str | None:
    """`AAPL  231215C00190000`, where the description states day, month, year, right and strike.

    An option that had long ended shows that a date was misread.
    """
    words = _spaced(description or "").upper()
    # The clearing house writes roots without the point or space of a share class.
    ticker = "".join(part for part in re.split(r"[ .]", root.upper()) if part)
    match = next((found for pattern in _OPTIONS if (found := pattern.fullmatch(words))), None)
    if match is None or len(ticker) > _LONGEST_OCC_ROOT or not (ticker.isascii() and ticker.isalnum()):
        return None
    month = match["month"]
    try:
        expiry = dt.date(
            2000 + int(match["year"]) % 100,
            _MONTHS.index(month) + 1 if month in _MONTHS else int(month),
            int(match["day"]),
        )
    except ValueError:
        return None
    thousandths = int(Decimal(match["strike"]) * 1000)
    if day - (expiry - _EPOCH).days > _REMOVED_WITHIN or not thousandths:
        return None
    return f"{ticker:<6}{expiry:%y%m%d}{match['right'][0]}{thousandths:08}"


def counts_single_units(asset_class: AssetClass) -> bool:
    """Whether a price is always that of one unit, so that there is no multiplier."""
    return asset_class in ("stock", "fund", "forex", "crypto")


def is_product(net: Decimal, price: Decimal, size: Decimal) -> bool:
    """Whether the net amount is price times size, but for its rounding."""
    return abs(abs(net) - abs(price * size)) <= HALF_CENT


def infer_multiplier(net: Decimal, price: Decimal, size: Decimal) -> Decimal | None:
    """What price times size must be multiplied with to give the net amount, but for its rounding.

    Because of the rounding that is a range; the roundest number in it is the answer. None where nothing round is in
    it, or where it is so wide that several numbers are that round.
    """
    notional, net = abs(price * size), abs(net)
    if not notional:
        return None
    quotient, width = net / notional, 2 * HALF_CENT / notional
    low = quotient - width / 2
    if low <= 0:
        return None
    for digits, rounding in enumerate(_ROUNDINGS, 1):
        if width.adjusted() > low.adjusted() - digits:
            return None
        candidate = rounding.plus(quotient)
        if is_product(net, notional, candidate):
            return candidate
    return None
