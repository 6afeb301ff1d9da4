"""Pure: rows of /iserver/account/trades as canonical executions (reference ibkr 2.7-2.9; DESIGN section 6)."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any, Final

from worker import log
from worker.errors import BadRecord
from worker.models import (
    AssetClass,
    Execution,
    ExecutionFlag,
    ExecutionKind,
    Normalized,
    OpenClose,
    Reject,
    Side,
    ingestion_hash,
    plain,
)
from worker.normalize.fields import CUT_SHORT, parse_decimal, raw_payload, shown, text_of
from worker.normalize.ibkr_contracts import (
    ASSET_CLASSES,
    COMBO,
    DAY_MS,
    canonical_symbol,
    counts_single_units,
    infer_multiplier,
    is_product,
)
from worker.normalize.ibkr_ids import FIRST_REVISION, ExecutionId, native_id, parent_of, parse_execution_id

_LONGEST_NAME: Final = 100
_USER_NAME: Final = "submitter"
_FIELDS: Final = frozenset(
    (
        "execution_id", "symbol", "supports_tax_opt", "side", "order_description", "order_ref", "submitter",
        "trade_time", "trade_time_r", "size", "price", "exchange", "commission", "net_amount", "account",
        "accountCode", "account_allocation_name", "company_name", "contract_description_1", "contract_description_2",
        "sec_type", "listing_exchange", "conid", "conidEx", "directed_exchange", "open_close", "clearing_id",
        "clearing_name", "liquidation_trade", "is_event_trading", "position", "order_id",
    )
)  # fmt: skip
_SIDES: Final[Mapping[str, Side]] = MappingProxyType(
    {"B": "buy", "BOT": "buy", "BUY": "buy", "S": "sell", "SLD": "sell", "SELL": "sell"}
)
_REMOVAL: Final = "X"
_OPEN_CLOSE: Final[Mapping[str, OpenClose]] = MappingProxyType(
    {"O": "open", "OPEN": "open", "C": "close", "CLOSE": "close", "C;O": "close_open"}
)
_TIME = re.compile(r"(\d{8})-([01]\d|2[0-3]):([0-5]\d):([0-5]\d)", re.ASCII)
_YEAR_2000_MS: Final = 946_684_800_000
_YEAR_2100_MS: Final = 4_102_444_800_000

_Row = Mapping[str, Any]


def normalize_trades(
    records: Iterable[object], account_ref: str, *, aliases: Mapping[str, str], other_accounts: Collection[str]
) -> Normalized:
    """The meaning of an answer's rows; the order they came in plays no part.

    A row that cannot be read becomes a reject; the others go on (fault B12). Rows of `other_accounts` are skipped:
    their own connections import them. A row of any further account is kept as a reject and noticed, never dropped
    (fault B18). Of an execution's revisions the lower come first.
    """
    accounts = _Accounts.of(account_ref, aliases, other_accounts)
    rows = [_as_row(record) for record in records]
    legs = _leg_marks(rows, accounts)
    executions: list[Execution] = []
    rejects: list[Reject] = []
    warnings: dict[str, None] = {}
    strangers: set[str] = set()
    seen: Counter[str] = Counter()
    skipped = 0
    for payload, sent in sorted(((_payload(row), row) for row in rows), key=itemgetter(0)):
        row = _without_secrets(sent, payload)
        try:
            account = accounts.of_row(_object(row))
            if account in accounts.others:
                skipped += 1
            elif account != accounts.ours:
                strangers.add(account)
                stated = _id_if_any(row)
                sentence = f"This row is of account {_named(account)}, {_NOBODY_IMPORTS_IT}"
                rejects.append(Reject.of(payload, sentence, stated and stated.family, account_ref=account))
            elif _is_combo(row) and not legs.isdisjoint(_marks(row, account)):
                skipped += 1
            else:
                executions.append(_execution(row, payload, account, seen, warnings))
        except BadRecord as bad:
            rejects.append(Reject.of(payload, bad.sentence, _key_of_reject(row)))
    return Normalized(
        tuple(sorted(executions, key=attrgetter("revision", "occurred_at", "key"))),
        tuple(rejects),
        tuple(warnings),
        tuple(
            f"This login also trades account {_named(account)}, {_NOBODY_IMPORTS_IT}" for account in sorted(strangers)
        ),
        skipped,
    )


def _as_row(record: object) -> _Row:
    return record if isinstance(record, Mapping) else {"unreadable": record}


def _object(row: _Row) -> _Row:
    if "unreadable" in row:
        raise BadRecord("the trade is not an object", field="trade")
    return row


def _payload(row: _Row) -> str:
    if _USER_NAME in row:
        row = dict(row)
        del row[_USER_NAME]
    return raw_payload(row)


def _without_secrets(row: _Row, payload: str) -> _Row:
    """The row itself, as a rule: its payload tells whether it held any."""
    if log.REDACTED in payload or payload.startswith(CUT_SHORT):
        return {name: log.redact_value(value) for name, value in row.items()}
    return row


def _execution(row: _Row, payload: str, account: str, seen: Counter[str], warnings: dict[str, None]) -> Execution:
    root = _name(row, "symbol")
    if root is None:
        raise BadRecord("symbol is missing", field="symbol")
    stated = _execution_id(row)
    kind, side = _kind_and_side(row)
    quantity = parse_decimal(row.get("size"), "size")
    if quantity < 0 or (not quantity and kind == "fill"):
        raise BadRecord(f"size is {'negative' if quantity else 'zero'}", field="size")
    price = parse_decimal(row.get("price"), "price")
    fee = _decimal_if_any(row, "commission")
    net = _decimal_if_any(row, "net_amount")
    occurred_at = _occurred_at(row, warnings)
    asset_class = _asset_class(row, warnings)
    symbol = canonical_symbol(
        asset_class,
        root,
        _optional(row, "contract_description_1"),
        _optional(row, "contract_description_2"),
        occurred_at // DAY_MS,
    )
    multiplier = None
    if net is not None and quantity and price:
        multiplier = _multiplier(asset_class, symbol, net, price, quantity, warnings)
    _note_new_fields(row, warnings)

    def identity(repeat: int) -> str:
        return ingestion_hash(
            provider="ibkr",
            account_ref=account,
            symbol=symbol,
            side=side,
            quantity=quantity,
            price=price,
            occurred_at=occurred_at,
            repeat=repeat,
        )

    # Only rows without an id are told apart by counting: with one, a row must not depend on its neighbours.
    content_id = identity(0)
    if stated is None:
        repeat = seen[content_id]
        seen[content_id] += 1
        content_id = identity(repeat) if repeat else content_id
    return Execution(
        provider="ibkr",
        source="ibkr_live",
        account_ref=account,
        external_execution_id=stated and stated.family,
        revision=stated.revision if stated else FIRST_REVISION,
        external_order_id=_order_id(row),
        kind=kind,
        occurred_at=occurred_at,
        symbol=symbol,
        raw_symbol=root,
        asset_class=asset_class,
        side=side,
        quantity=quantity,
        price=price,
        fee=fee or Decimal(0),
        multiplier=multiplier,
        conid=_optional(row, "conid"),
        open_close=_OPEN_CLOSE.get(_optional(row, "open_close") or ""),
        flags=_flags(row),
        ingestion_hash=content_id,
        raw_payload=payload,
    )


# Whose row it is

_NOBODY_IMPORTS_IT: Final = "which no connection imports. Add a connection for it."


@dataclass(frozen=True, slots=True)
class _Accounts:
    """The accounts that rows may be of: the connection's own, those of other connections, and all known names."""

    ours: str
    others: frozenset[str]
    by_alias: Mapping[str, str]
    known: frozenset[str]

    @classmethod
    def of(cls, ours: str, aliases: Mapping[str, str], others: Collection[str]) -> _Accounts:
        own = _account(ours)
        elsewhere = frozenset(_account(other) for other in others) - {own}
        by_alias = {alias.strip(): _account(account) for alias, account in aliases.items() if alias.strip()}
        return cls(own, elsewhere, by_alias, elsewhere | {own, *by_alias.values()})

    def of_row(self, row: _Row) -> str:
        """The id of the row's account: stated, or else named by its alias."""
        stated = _name(row, "accountCode")
        if stated is not None:
            return _account(stated)
        names = [name for field in ("account", "account_allocation_name") if (name := _optional(row, field))]
        for name in names:
            if name in self.by_alias:
                return self.by_alias[name]
            if _account(name) in self.known:
                return _account(name)
        unknown = f": this login has no alias {shown(names[0])}" if names else ""
        raise BadRecord(f"account is missing{unknown}", field="account")


def _account(text: str) -> str:
    return text.strip().upper()


def _named(account: str) -> str:
    return account if account.isascii() and account.isalnum() else shown(account)


# A combo's own row says again what its legs' rows say (reference ibkr 2.8)

_Mark = tuple[str, ...]


def _leg_marks(rows: Iterable[_Row], accounts: _Accounts) -> frozenset[_Mark]:
    """By what a combo's row may be known as a repetition of another row; nothing where there is no combo."""
    rows = list(rows)
    if not any(_is_combo(row) for row in rows):
        return frozenset()
    marks: set[_Mark] = set()
    for row in rows:
        if not _is_combo(row):
            try:
                marks.update(_marks(row, accounts.of_row(row)))
            except BadRecord:
                continue
    return frozenset(marks)


def _is_combo(row: _Row) -> bool:
    return row.get("sec_type") == COMBO


def _marks(row: _Row, account: str) -> Iterator[_Mark]:
    execution_id = _optional(row, "execution_id")
    if execution_id and (parent := parent_of(execution_id)):
        yield ("parent", account, parent)
    if order_id := _order_id(row):
        yield ("order", account, order_id)
    if order_ref := _optional(row, "order_ref"):
        try:
            yield ("reference", account, order_ref, str(_occurred_at(row, {}) // 1000))
        except BadRecord:
            return


# Fields


def _name(row: _Row, field: str) -> str | None:
    """A text that says what the row is about, so that it is refused rather than cut."""
    text = text_of(row, field)
    if text is not None and len(text) > _LONGEST_NAME:
        raise BadRecord(f"{field} is too long", field=field)
    return text


def _optional(row: _Row, field: str) -> str | None:
    """A text the execution can do without: one of another shape counts as absent (fault B14)."""
    value = row.get(field)
    if isinstance(value, str):
        return value.strip()[:_LONGEST_NAME] or None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)[:_LONGEST_NAME]
    try:
        return plain(parse_decimal(value, field))
    except BadRecord:
        return None


def _execution_id(row: _Row) -> ExecutionId | None:
    stated = native_id(_name(row, "execution_id"))
    return None if stated is None else parse_execution_id(stated)


def _id_if_any(row: _Row) -> ExecutionId | None:
    try:
        return _execution_id(row)
    except BadRecord:
        return None


def _key_of_reject(row: _Row) -> str | None:
    """The execution whose arrival settles the reject.

    A correction that cannot be read must not count as settled by the revision it corrects: it keeps its whole id.
    """
    stated = _id_if_any(row)
    if stated is None or stated.revision == FIRST_REVISION:
        return stated and stated.family
    return text_of(row, "execution_id")


def _order_id(row: _Row) -> str | None:
    order_id = _optional(row, "order_id")
    return None if order_id == "0" else order_id


def _kind_and_side(row: _Row) -> tuple[ExecutionKind, Side | None]:
    word = text_of(row, "side")
    if word is None:
        raise BadRecord("side is missing", field="side")
    if word.upper() == _REMOVAL:
        return "expiry", None
    side = _SIDES.get(word.upper())
    if side is None:
        raise BadRecord(f"side is neither buy nor sell: {shown(word)}", field="side")
    return "fill", side


def _decimal_if_any(row: _Row, field: str) -> Decimal | None:
    """An amount that may be left out; None where it is."""
    value = row.get(field)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return parse_decimal(value, field)


def _occurred_at(row: _Row, warnings: dict[str, None]) -> int:
    """`trade_time_r`; where that cannot be read `trade_time`, which is UTC too."""
    by_number, by_text = _number_ms(row.get("trade_time_r")), _text_ms(row.get("trade_time"))
    if by_number is None:
        if by_text is None:
            fields = ("trade_time_r", "trade_time")
            said = ", ".join(f"{field} {_state(row.get(field))}" for field in fields)
            raise BadRecord(f"no time of the trade can be read: {said}", field="trade_time_r")
        if row.get("trade_time_r") is not None:
            warnings["trade_time_r cannot be read in some rows; trade_time counts."] = None
        return by_text
    if by_text is not None and abs(by_number - by_text) > 1000:
        warnings["trade_time_r and trade_time differ by more than a second in some rows; trade_time_r counts."] = None
    return by_number


def _state(value: object) -> str:
    return "is missing" if value is None or value == "" else f"is {shown(str(value))}"


def _number_ms(value: object) -> int | None:
    try:
        number = value if type(value) is int else parse_decimal(value, "trade_time_r")
    except BadRecord:
        return None
    return int(number) if _YEAR_2000_MS <= number < _YEAR_2100_MS else None


def _text_ms(value: object) -> int | None:
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    day, hour, minute, second = match.groups()
    midnight = _midnight_ms(day)
    return None if midnight is None else midnight + ((int(hour) * 60 + int(minute)) * 60 + int(second)) * 1000


@lru_cache(maxsize=64)
def _midnight_ms(day: str) -> int | None:
    try:
        ms = int(dt.datetime.strptime(f"{day}+0000", "%Y%m%d%z").timestamp()) * 1000
    except ValueError:
        return None
    return ms if _YEAR_2000_MS <= ms < _YEAR_2100_MS else None


def _asset_class(row: _Row, warnings: dict[str, None]) -> AssetClass:
    word = _optional(row, "sec_type")
    if word is None:
        warnings["Interactive Brokers sends rows without a security type; they count as «other»."] = None
        return "other"
    asset_class = ASSET_CLASSES.get(word)
    if asset_class is None:
        warnings[f"Interactive Brokers names a security type unknown to this version: {shown(word)}"] = None
        return "other"
    return asset_class


def _multiplier(
    asset_class: AssetClass, symbol: str, net: Decimal, price: Decimal, quantity: Decimal, warnings: dict[str, None]
) -> str | None:
    single = counts_single_units(asset_class)
    if single and is_product(net, price, quantity):
        return None
    multiplier = infer_multiplier(net, price, quantity)
    if multiplier is None:
        warnings[
            f"net_amount of {shown(symbol)} is not price times size."
            if single
            else f"The multiplier of {shown(symbol)} cannot be told from price, size and net_amount."
        ] = None
        return None
    if single:
        warnings[f"net_amount of {shown(symbol)} is {plain(multiplier)} times price times size."] = None
    return plain(multiplier)


def _flags(row: _Row) -> tuple[ExecutionFlag, ...]:
    return ("liquidation",) if _optional(row, "liquidation_trade") == "1" else ()


def _note_new_fields(row: _Row, warnings: dict[str, None]) -> None:
    """Fields new to this version stay in the raw row; the execution is imported all the same (fault B13)."""
    if not row.keys() <= _FIELDS:
        for name in sorted(row.keys() - _FIELDS):
            warnings[f"Interactive Brokers sends a field unknown to this version: {shown(str(name))}"] = None
