"""Pure: what a Kraken pair's name means (reference kraken 4.1-4.4).

Names come in many spellings (`XXBTZUSD`, `XBTUSD`, `XBT/USD`, `BTC/USD`, `XXBTZUSD.d`) and pairs vanish from
Kraken's lists while their trades stay. A `PairBook` therefore remembers every pair it ever resolved, and a name
nobody knows is kept as it is, marked unresolved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal

from worker.models import AssetClass

Kind = Literal["fiat", "crypto", "tokenized", "stock", "other"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FIAT: Final = _words("AED ARS AUD CAD CHF CLP COP DKK EUR GBP GEL GHS JPY KRW LKR MXN PLN SEK UGX USD VND XOF ZAR")
_FIAT_IDS: Final = frozenset({f"Z{code}" for code in _FIAT} | {"AED", "AUD", "CAD", "CHF", "EUR", "GBP", "JPY", "USD"})
"""Ids, because many a coin is called like a currency."""

_ALIASES: Final[Mapping[str, str]] = MappingProxyType({"XBT": "BTC", "XDG": "DOGE"})

_OLD_IDS: Final[Mapping[str, str]] = MappingProxyType(
    {f"X{name}": name for name in _words("DAO ETC ETH ICN LTC MLN NMC REP XBT XDG XLM XMR XRP XVN ZEC")}
    | {f"Z{code}": code for code in _FIAT - {"AED", "CHF"}}
    | {"KFEE": "FEE", "CHF": "CHF"}
)
"""Legacy four-letter ids and retired assets, for pairs that no list shows any more."""

_OLD_NAMES: Final = _words(
    """
    AAVE ADA ALGO ANKR ANT APE ARB ATOM AVAX AXS BAL BAT BCH BNT BONK BSV CHZ COMP CRV DAI DASH DOT DYDX ENJ EOS ETHW
    FIL FLOW FLR FTM GMX GNO GRT ICP ICX IMX INJ KAVA KEEP KNC KSM LDO LINK LPT LRC LSK LUNA LUNA2 MANA MATIC MINA MKR
    NANO NEAR OCEAN OMG ONDO OP OXT PAXG PEPE PLA POL PYUSD QTUM RENDER RUNE SAND SC SCRT SEI SHIB SNX SOL STORJ STX
    SUI SUSHI TAO TIA TRX UNI USDC USDG USDT UST WAVES WBTC WIF XCN XTZ YFI ZRO ZRX
    """
)
"""Names listed for years; enough to read a file without AssetPairs at hand."""

_OLD_QUOTES: Final = _words("USD EUR GBP CAD JPY AUD CHF KRW XBT BTC ETH USDT USDC DAI")


@dataclass(frozen=True, slots=True)
class Instrument:
    """What was traded: `BTC/USD`, or a share's ticker. `resolved` is false when only the raw name is known."""

    symbol: str
    asset_class: AssetClass
    currency: str | None
    resolved: bool = True


@dataclass(frozen=True, slots=True)
class _Asset:
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Pair:
    base: _Asset
    quote: _Asset

    def instrument(self) -> Instrument:
        if self.base.kind == "stock":
            return Instrument(self.base.name, "stock", self.quote.name)
        kinds = (self.base.kind, self.quote.kind)
        asset_class: AssetClass
        if kinds == ("fiat", "fiat"):
            asset_class = "forex"
        elif "other" in kinds:
            asset_class = "other"
        elif self.base.kind == "tokenized":
            asset_class = "tokenized"
        else:
            asset_class = "crypto"
        return Instrument(f"{self.base.name}/{self.quote.name}", asset_class, self.quote.name)


def _asset(asset_id: str, altname: str | None, kind_word: object) -> _Asset:
    """An asset by Kraken's id, alternative name and class word."""
    plain = (altname or _OLD_IDS.get(asset_id) or asset_id).split(":", 1)[0]  # `USD:BTNL` is quoted at another venue
    head, dot, suffix = plain.partition(".")
    name = _ALIASES.get(head, head) + dot + suffix
    kind: Kind
    match kind_word:
        case "tokenized_asset":
            kind = "tokenized"
        case str() if kind_word.startswith("equity"):
            kind = "stock"
        case "currency" | "forex" | None:
            kind = "fiat" if asset_id.split(":", 1)[0] in _FIAT_IDS and name in _FIAT else "crypto"
        case _:
            kind = "other"
    return _Asset(name, kind)


def _bundled() -> dict[str, _Asset]:
    found = {name: _asset(name, None, None) for name in _OLD_NAMES}
    for asset_id, name in _OLD_IDS.items():
        asset = _asset(asset_id, name, None)
        found |= {asset_id: asset, name: asset, asset.name: asset}
    return found


_BUNDLED: Final[Mapping[str, _Asset]] = MappingProxyType(_bundled())
_BUNDLED_QUOTES: Final = frozenset(
    name for name, asset in _BUNDLED.items() if name in _OLD_QUOTES or _OLD_IDS.get(name) in _OLD_QUOTES
)


@dataclass(frozen=True)
class PairBook:
    """Pairs and assets as Kraken lists them, and what was resolved before. Never changes; makes new books."""

    _pairs: Mapping[str, _Pair] = field(default_factory=dict)
    """By id, alternative name and websocket name."""
    _assets: Mapping[str, _Asset] = field(default_factory=dict)
    """By id, alternative name and the name shown."""
    _quotes: frozenset[str] = frozenset()
    _remembered: Mapping[str, Instrument] = field(default_factory=dict)

    @classmethod
    def of(cls, asset_pairs: Mapping[str, Any], assets: Mapping[str, Any] | None = None) -> PairBook:
        """A book of the results of AssetPairs and Assets. Entries of another shape are passed over."""
        listed: dict[str, _Asset] = {}
        short: dict[str, _Asset] = {}
        for asset_id, entry in (assets or {}).items():
            if isinstance(entry, Mapping):
                listed[asset_id] = asset = _asset(asset_id, _text(entry.get("altname")), entry.get("aclass"))
                short |= {str(entry.get("altname") or asset_id): asset, asset.name: asset}
        by_id: dict[str, _Pair] = {}
        by_altname: dict[str, _Pair] = {}
        by_wsname: dict[str, _Pair] = {}
        quotes: set[str] = set()
        for pair_id, entry in asset_pairs.items():
            base_id, quote_id = (
                (_text(entry.get(k)) for k in ("base", "quote")) if isinstance(entry, Mapping) else ("", "")
            )
            if not base_id or not quote_id:
                continue
            wsname = _text(entry.get("wsname"))
            names = wsname.split("/") if wsname.count("/") == 1 else ["", ""]
            sides: list[_Asset] = []
            for asset_id, name, word in (
                (base_id, names[0], entry.get("aclass_base")),
                (quote_id, names[1], entry.get("aclass_quote")),
            ):
                known = listed.get(asset_id)
                if known is None or (word == "tokenized_asset" and known.kind != "tokenized"):
                    known = listed[asset_id] = _asset(asset_id, name or None, word)
                short.setdefault(name or asset_id, known)
                short.setdefault(known.name, known)
                sides.append(known)
            pair = _Pair(*sides)
            quotes |= {quote_id, names[1] or quote_id, pair.quote.name}
            by_id[pair_id] = pair
            by_altname.setdefault(_text(entry.get("altname")), pair)
            by_wsname.setdefault(wsname, pair)
        pairs = {name: pair for name, pair in (by_wsname | by_altname | by_id).items() if name}
        return cls(pairs, short | listed, frozenset(quotes))

    def resolve(self, raw: str, aclass: str | None = None) -> Instrument:
        """The instrument that `raw` names; `aclass` is the pair's class word on the row, where there is one."""
        name = raw.strip()
        if aclass is not None and aclass.startswith("equity"):
            return self._share(name) or _unresolved(name)
        found = self._find(name) or (self._find(name.upper()) if name != name.upper() else None)
        if found is None:
            return _unresolved(name)
        if aclass in (None, "forex", "currency", "tokenized_asset"):
            if found.asset_class == "other" and aclass == "forex" and "/" in name:
                # An asset gone from every list; the row says that both sides are coins or currencies (4.4).
                return replace(found, asset_class="crypto")
            return found
        return replace(found, asset_class="other")

    def knows(self, row: Mapping[str, Any]) -> bool:
        """Whether fresh lists of Kraken could not tell more about the row's pair than this book does."""
        name = row.get("pair")
        if not isinstance(name, str) or not name.strip():
            return True
        name = name.strip()
        if str(row.get("aclass") or "").startswith("equity"):
            return self._share(name) is not None
        return self._listed(name) is not None or name in self._remembered

    def remember(self, raw: str) -> PairBook:
        """A book that knows `raw` for ever, if this one can resolve it."""
        name = raw.strip()
        found = self._find(name)
        if name in self._remembered or found is None or found.asset_class == "other":
            return self
        return replace(self, _remembered={**self._remembered, name: found})

    def merge(self, newer: PairBook) -> PairBook:
        """Everything of both books; where they differ, the lists of `newer` and the memory of this one hold."""
        return PairBook(
            {**self._pairs, **newer._pairs},
            {**self._assets, **newer._assets},
            self._quotes | newer._quotes,
            {**newer._remembered, **self._remembered},
        )

    def dumps(self) -> str:
        """The remembered pairs as text; the same memory gives the same text."""
        return json.dumps(
            {name: [i.symbol, i.asset_class, i.currency] for name, i in sorted(self._remembered.items())},
            separators=(",", ":"),
        )

    @classmethod
    def loads(cls, text: str | None) -> PairBook:
        """A book with the memory in `text`; an empty one if that cannot be read."""
        try:
            entries = json.loads(text or "{}").items()
            return cls(_remembered={str(name): Instrument(*entry) for name, entry in entries})
        except (ValueError, TypeError, AttributeError):
            return cls()

    # The order of 4.3

    def _find(self, name: str) -> Instrument | None:
        pair = self._listed(name)
        if pair is not None:
            return pair.instrument()
        if name in self._remembered:
            return self._remembered[name]
        name = _lit(name)
        pair = self._halves(name) if "/" in name else self._split(name)
        return pair.instrument() if pair else None

    def _listed(self, name: str) -> _Pair | None:
        return self._pairs.get(name) or self._pairs.get(_lit(name))

    def _halves(self, name: str) -> _Pair | None:
        base, quote = (half.strip() for half in name.split("/", 1))
        known_quote = self._known_asset(quote)
        if not base or known_quote is None:
            return None
        return _Pair(self._known_asset(base) or _Asset(base, "other"), known_quote)

    def _split(self, name: str) -> _Pair | None:
        """The one way to cut `name` into two assets of which the right one is a quote; None if not just one."""
        for assets, quotes in ((self._assets, self._quotes), self._with_bundled()):
            found = set(_cuts(name, assets, quotes))
            if len(found) == 1:
                return found.pop()
            if found:
                return None
        return None

    def _with_bundled(self) -> tuple[Mapping[str, _Asset], frozenset[str]]:
        return {**_BUNDLED, **self._assets}, self._quotes | _BUNDLED_QUOTES

    def _known_asset(self, name: str) -> _Asset | None:
        return self._assets.get(name) or _BUNDLED.get(name)

    def _share(self, name: str) -> Instrument | None:
        """A share: the ticker before the slash is not a coin's name, whatever coin is called so."""
        base, slash, quote_name = (part.strip() for part in name.partition("/"))
        quote = self._known_asset(quote_name)
        if slash:
            return Instrument(base, "stock", quote.name) if base and quote else None
        pair = self._listed(name)
        return Instrument(pair.base.name, "stock", pair.quote.name) if pair else None


def _cuts(name: str, assets: Mapping[str, _Asset], quotes: frozenset[str]) -> Iterator[_Pair]:
    for cut in range(1, len(name)):
        base, quote = name[:cut], name[cut:]
        if quote in quotes and base in assets and quote in assets:
            yield _Pair(assets[base], assets[quote])


def _lit(name: str) -> str:
    """`XXBTZUSD.d` was traded in the dark pool; it is the same pair."""
    return name.removesuffix(".d")


def _unresolved(name: str) -> Instrument:
    return Instrument(name, "other", None, resolved=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
