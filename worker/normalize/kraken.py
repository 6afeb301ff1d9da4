"""Pure: rows of TradesHistory, or of a trades export, as canonical executions (DESIGN section 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any, Final

from worker import log
from worker.errors import BadRecord
from worker.models import Execution, ExecutionFlag, Normalized, OpenClose, Reject, Side, ingestion_hash
from worker.normalize.fields import parse_decimal, parse_seconds, parse_utc, raw_payload, shown, text_of
from worker.normalize.symbols import Instrument, PairBook

PRICE_PLACES: Final = 18
"""Where a price must be computed from cost and volume, it is rounded here: finer than any exchange quotes."""

_LONGEST_NAME: Final = 100
_FIELDS: Final = frozenset(
    (
        "txid", "ordertxid", "postxid", "pair", "aclass", "subclass", "time", "type", "ordertype", "price", "cost",
        "fee", "vol", "margin", "leverage", "misc", "ledgers", "trade_id", "maker", "posstatus", "cprice", "ccost",
        "cfee", "cvol", "cmargin", "net", "costusd", "trades",
    )
)  # fmt: skip
_CLASS_WORDS: Final = frozenset({"forex", "currency", "equity", "equity_pair", "tokenized_asset"})

_Row = Mapping[str, Any]


def normalize_trades(
    records: Iterable[_Row], account_ref: str, pairs: PairBook, *, derive_price: bool = False
) -> tuple[Normalized, PairBook]:
    """The meaning of rows, and the book with every pair they used remembered.

    A row that cannot be read becomes a reject; the others go on (fault B12). `derive_price` is for exports that
    have no price column: there it is cost by volume.
    """
    executions: list[Execution] = []
    rejects: list[Reject] = []
    warnings: dict[str, None] = {}
    seen: Counter[str] = Counter()
    for row in records:
        payload = raw_payload(row)
        try:
            execution, instrument = _execution(row, payload, account_ref, pairs, seen, derive_price)
        except BadRecord as bad:
            txid = row.get("txid")
            rejects.append(Reject.of(payload, bad.sentence, txid if isinstance(txid, str) and txid else None))
            continue
        executions.append(execution)
        pairs = pairs.remember(execution.raw_symbol)
        warnings |= dict.fromkeys(_drift(row, execution, instrument))
    return Normalized(tuple(executions), tuple(rejects), tuple(warnings)), pairs


def _execution(
    row: _Row, payload: str, account_ref: str, pairs: PairBook, seen: Counter[str], derive_price: bool
) -> tuple[Execution, Instrument]:
    if "unreadable" in row:
        raise BadRecord("the trade is not an object", field="trade")
    txid = text_of(row, "txid")
    if txid is None and "txid" in row:
        raise BadRecord("txid is empty", field="txid")
    raw_symbol = text_of(row, "pair")
    if raw_symbol is None:
        raise BadRecord("pair is missing", field="pair")
    raw_symbol = log.redact(raw_symbol)
    for field, text in (("txid", txid), ("pair", raw_symbol)):
        if text is not None and len(text) > _LONGEST_NAME:
            raise BadRecord(f"{field} is too long", field=field)
    instrument = pairs.resolve(raw_symbol, _optional(row, "aclass"))
    side = _side(row)
    quantity = parse_decimal(row.get("vol"), "vol")
    if quantity <= 0:
        raise BadRecord("vol is not more than zero", field="vol")
    price = _derived_price(row, quantity) if derive_price else parse_decimal(row.get("price"), "price")
    if price < 0:
        raise BadRecord("price is negative", field="price")
    occurred_at = _occurred_at(row.get("time"))
    flags = _flags(row) if instrument.resolved else (*_flags(row), "unresolved_symbol")

    def identity(repeat: int) -> str:
        return ingestion_hash(
            provider="kraken",
            account_ref=account_ref,
            symbol=instrument.symbol,
            side=side,
            quantity=quantity,
            price=price,
            occurred_at=occurred_at,
            repeat=repeat,
        )

    # Only rows without an id are told apart by counting. With an id the count must not matter: the same row may
    # share a page with its twin at one sync and not at the next.
    first = identity(0)
    content_id = first if txid is not None or not seen[first] else identity(seen[first])
    if txid is None:
        seen[first] += 1
    execution = Execution(
        provider="kraken",
        source="kraken_trades",
        account_ref=account_ref,
        external_execution_id=txid,
        external_order_id=_optional(row, "ordertxid"),
        occurred_at=occurred_at,
        symbol=instrument.symbol,
        raw_symbol=raw_symbol,
        asset_class=instrument.asset_class,
        side=side,
        quantity=quantity,
        price=price,
        fee=parse_decimal(row.get("fee"), "fee"),
        currency=instrument.currency,
        fee_currency=instrument.currency,  # always written in quote currency (4.7)
        open_close=_open_close(flags),
        flags=flags,
        ingestion_hash=content_id,
        raw_payload=payload,
    )
    return execution, instrument


def _optional(row: _Row, field: str) -> str | None:
    """A text the trade can do without: one of another shape counts as absent (fault B14)."""
    value = row.get(field)
    return log.redact(value.strip())[:_LONGEST_NAME] or None if isinstance(value, str) else None


def _side(row: _Row) -> Side:
    match text_of(row, "type"):
        case "buy":
            return "buy"
        case "sell":
            return "sell"
        case None:
            raise BadRecord("type is missing", field="type")
        case other:
            raise BadRecord(f"type is neither buy nor sell: {shown(other)}", field="type")


def _occurred_at(value: object) -> int:
    """Epoch seconds from the API, UTC text from an export (1.7)."""
    if isinstance(value, str) and "-" in value.strip()[1:]:
        return parse_utc(value, "time")
    return parse_seconds(value, "time")


def _derived_price(row: _Row, quantity: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = 120
        quotient = parse_decimal(row.get("cost"), "cost") / quantity
        return quotient.quantize(Decimal(1).scaleb(-PRICE_PLACES), ROUND_HALF_EVEN)


def _flags(row: _Row) -> tuple[ExecutionFlag, ...]:
    """Marks of margin trades (4.5). What cannot be read marks nothing: the trade itself is not in doubt."""
    flags: list[ExecutionFlag] = []
    if _not_zero(row.get("margin")) or _not_zero(row.get("leverage")):
        flags.append("margin")
    if str(row.get("ordertype") or "").strip().startswith("liquidation"):
        flags.append("liquidation")
    if row.get("posstatus"):
        flags.append("position_open")
    if "closing" in [word.strip() for word in str(row.get("misc") or "").split(",")]:
        flags.append("position_close")
    return tuple(flags)


def _open_close(flags: tuple[ExecutionFlag, ...]) -> OpenClose | None:
    opens, closes = "position_open" in flags, "position_close" in flags
    if opens and closes:
        return "close_open"
    return "open" if opens else "close" if closes else None


def _not_zero(value: object) -> bool:
    if isinstance(value, str):
        value = value.strip().split(":", 1)[0]  # leverage is written `5:1` in places
    try:
        return parse_decimal(value, "margin") != 0
    except BadRecord:
        return False


def _drift(row: _Row, execution: Execution, instrument: Instrument) -> Iterable[str]:
    """What is new to this version; the rows are imported all the same (fault B13)."""
    for name in sorted(set(row) - _FIELDS):
        yield f"Kraken sends a field unknown to this version: {shown(str(name))}"
    word = row.get("aclass")
    if word and str(word) not in _CLASS_WORDS:
        yield f"Kraken names a class unknown to this version: {shown(str(word))}"
    if not instrument.resolved:
        yield f"The pair {shown(execution.raw_symbol)} is in no list of Kraken's; its trades keep that name."
