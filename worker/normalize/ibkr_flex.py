"""Pure: rows of a Flex statement as canonical executions (reference ibkr 4.3-4.7, 5; DESIGN section 6).

Activity statements and trade confirmations name the same facts by different attributes; a row may use either. Every
row is read for itself: whether its cancel, its correction or its live view has been seen is not asked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Final, NamedTuple

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
    Source,
    ingestion_hash,
    plain,
)
from worker.normalize.fields import CUT_SHORT, parse_decimal, raw_payload, shown
from worker.normalize.flex_document import SOURCES, FlexRow, Section
from worker.normalize.flex_time import Doubt, Moment, join_moment, parse_moment
from worker.normalize.ibkr_contracts import ASSET_CLASSES, canonical_symbol
from worker.normalize.ibkr_ids import FIRST_REVISION, ExecutionId, parse_execution_id


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LONGEST_NAME: Final = 100
_MOST_NOTES: Final = 100
_USER_NAME: Final = "traderID"

_ELEMENTS: Final[Mapping[Section, str]] = MappingProxyType({"Trades": "Trade", "TradeConfirms": "TradeConfirm"})
_EXECUTION: Final = "EXECUTION"
_OTHER_ELEMENTS: Final = frozenset({"Order", "Lot", "SymbolSummary", "AssetSummary", "WashSale"})
_OTHER_LEVELS: Final = frozenset({"ORDER", "CLOSED_LOT", "SYMBOL_SUMMARY", "ASSET_SUMMARY", "WASH_SALE"})

_ATTRIBUTES: Final = _words(
    """
    accountId accruedInt acctAlias allocatedTo amount assetCategory blockID brokerClearingCommission
    brokerExecutionCommission brokerageOrderID buySell capitalGainsPnl changeInPrice changeInQuantity clearingFirmID
    closePrice code commission commissionCurrency commodityType conid cost currency cusip dateTime deliveryType
    description exchOrderId exchange execID expiry extExecID fifoPnlRealized figi fineness fxPnl fxRateToBase
    holdingPeriodDateTime ibCommission ibCommissionCurrency ibExecID ibOrderID initialInvestment isAPIOrder isin issuer
    issuerCountryCode levelOfDetail listingExchange model mtmPnl multiplier netCash netCashInBase netCashWithBillable
    notes openCloseIndicator openDateTime orderID orderReference orderTime orderType origOrderID origTradeDate
    origTradeID origTradePrice origTransactionID otherCommission otherTax positionActionID price principalAdjustFactor
    proceeds putCall quantity relatedTradeID relatedTransactionID reportDate rfqID rtn salesTax securityID
    securityIDType sedol serialNumber settleDate settleDateTarget strike subCategory symbol tax taxes
    thirdPartyClearingCommission thirdPartyExecutionCommission thirdPartyRegulatoryCommission tradeCharge tradeDate
    tradeID tradeMoney tradePrice tradeTime traderID transactionID transactionType underlyingConid
    underlyingListingExchange underlyingSecurityID underlyingSymbol volatilityOrderLink weight whenRealized
    whenReopened
    """
)
_CODES: Final = _words(
    """
    A ADR AEx AFx Adj Al Aw B Bo C CD CP Ca Co Cx D ETF Ep Ex FP G HC HFI HFR I IA INV L LD LF LI LT Lo M MEx ML MLG
    MLL MSG MSL O P PI Po Pr R RED RI RP Re SI SL SO SS ST SY T
    """
)
_CATEGORIES: Final[Mapping[str, AssetClass]] = MappingProxyType(
    {**ASSET_CLASSES, "FXCFD": "cfd", "CMDTY": "other", "FSOPT": "option", "FSFOP": "future_option"}
)
_TYPES: Final = frozenset({"ExchTrade", "BookTrade", "TradeCancel"})
_BOOKING: Final = "BookTrade"
_CANCELS: Final = frozenset({"TradeCancel", "FracShareCancel"})
_CANCELLED: Final = "Ca"
_CANCEL_MARK: Final = "(CA.)"
_KINDS_OF_BOOKINGS: Final[Mapping[str, ExecutionKind]] = MappingProxyType(
    {"A": "assignment", "Ex": "exercise", "AEx": "exercise", "MEx": "exercise", "Ep": "expiry"}
)
_SIDES: Final[Mapping[str, tuple[Side, bool]]] = MappingProxyType(
    {"BUY": ("buy", False), "SELL": ("sell", False), "BUY (CA.)": ("buy", True), "SELL (CA.)": ("sell", True)}
)
_OPEN_CLOSE: Final[Mapping[str, OpenClose]] = MappingProxyType({"O": "open", "C": "close", "C;O": "close_open"})
_UNMARKED: Final = "-"

_NOTHING: Final = frozenset({"", "--", "N/A"})
"""Not applicable, or its box is not ticked."""

_READ: Final = (
    "accountId", "symbol", "assetCategory", "transactionType", "notes", "code", "buySell", "quantity", "tradePrice",
    "price", "ibCommission", "commission", "ibCommissionCurrency", "commissionCurrency", "currency", "multiplier",
    "conid", "dateTime", "tradeDate", "tradeTime", "ibExecID", "execID", "transactionID", "tradeID",
    "origTransactionID", "origTradeID", "ibOrderID", "orderID", "openCloseIndicator", "reportDate",
)  # fmt: skip
"""The attributes of which an execution is made."""

_SHORT: Final = 4096
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?", re.ASCII)
_OCC = re.compile(r"[A-Z0-9 ]{6}\d{6}[CP]\d{8}", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)

_DOUBTS: Final[Mapping[Doubt, str]] = MappingProxyType(
    {
        "no_time_of_day": "Some trades have a date without a time of day: they count as midnight in New York. "
        "Tick «Date/Time» in the Flex query.",
        "repeated_hour": "Some trades are of the hour that New York's clocks show twice: the first of the two counts.",
        "skipped_hour": "Some trades are of an hour that New York's clocks skip: they count an hour later.",
        "midnight": "Some trades stand at midnight sharp in New York, which may mean that their time is not known.",
    }
)
_FLAGS: Final[Mapping[Doubt | None, tuple[ExecutionFlag, ...]]] = MappingProxyType(
    {
        None: (), "no_time_of_day": ("no_time_of_day",), "repeated_hour": ("ambiguous_time",), "skipped_hour": (),
        "midnight": (),
    }
)  # fmt: skip

_Said = Mapping[str, str]


class Drift:
    """What is new to this version or in doubt, each thing once, however many rows and documents say it."""

    def __init__(self) -> None:
        self._notes: dict[str, None] = {}
        self._withheld = False

    def note(self, sentence: str) -> None:
        if sentence in self._notes:
            return
        if len(self._notes) < _MOST_NOTES:
            self._notes[sentence] = None
        else:
            self._withheld = True

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences in the order of their first cause."""
        return (*self._notes, *(("There are more such notes than are shown.",) if self._withheld else ()))


def normalize_rows(
    rows: Iterable[FlexRow], accounts: Collection[str] | None = None, drift: Drift | None = None
) -> Normalized:
    """The meaning of rows; the order they came in plays no part.

    A row that cannot be read becomes a reject that names it; the others go on (fault B12). Rows that are no
    executions, and rows of accounts other than `accounts`, are counted as skipped. Of an execution's revisions the
    lower come first. Give the same `drift` for all parts of a document and its warnings come once.
    """
    drift = drift or Drift()
    wanted = None if accounts is None else frozenset(map(canonical_account, accounts))
    executions: list[Execution] = []
    rejects: list[Reject] = []
    skipped = 0
    for row in rows:
        account = account_of(row)
        if not is_execution(row, drift) or (wanted is not None and account is not None and account not in wanted):
            skipped += 1
            continue
        meaning = normalize_row(row, drift)
        if isinstance(meaning, Execution):
            executions.append(meaning)
        else:
            rejects.append(meaning)
    return Normalized(
        tuple(sorted(executions, key=attrgetter("revision", "occurred_at", "key", "raw_payload"))),
        tuple(sorted(rejects, key=attrgetter("raw_payload"))),
        tuple(sorted(drift.warnings)),
        (),
        skipped,
    )


def is_execution(row: FlexRow, drift: Drift | None = None) -> bool:
    """Whether the row is one execution: orders, tax lots and summaries tell the same trades again (fault B25)."""
    level = row.attributes.get("levelOfDetail", "").strip().upper()
    if row.element == _ELEMENTS[row.section]:
        if level in ("", _EXECUTION):
            return True
        if drift is not None and level not in _OTHER_LEVELS:
            drift.note(f"Rows of a level of detail unknown to this version are left out: {shown(level)}")
    elif drift is not None and row.element not in _OTHER_ELEMENTS:
        drift.note(f"Rows of a kind unknown to this version are left out: {shown(row.element)} in {row.section}")
    return False


def kind_of_row(row: FlexRow) -> str:
    """How rows that are no executions are counted: `Order`, or `Trade ORDER` for a level that is not importable."""
    if row.element != _ELEMENTS[row.section]:
        return row.element[:_LONGEST_NAME]
    return f"{row.element} {row.attributes.get('levelOfDetail', '').strip()}"[:_LONGEST_NAME]


def flex_row_of(row: Mapping[str, object]) -> FlexRow | None:
    """The statement's row that a payload keeps; None for what is no row of a statement, such as one of the live API."""
    texts = {name: text for name, text in row.items() if isinstance(text, str)}
    if len(texts) < len(row) or "execution_id" in texts:
        return None
    # The two kinds of statement name the price and the execution's id differently (reference ibkr 4.3).
    section: Section = "TradeConfirms" if {"price", "execID"} & texts.keys() else "Trades"
    return FlexRow(section, _ELEMENTS[section], texts, "")


def account_of(row: FlexRow) -> str | None:
    """The row's own account, else its statement's; None where neither states one."""
    return canonical_account(row.attributes.get("accountId", "")) or canonical_account(row.account) or None


def canonical_account(text: str) -> str:
    return text.strip().upper()


def normalize_row(row: FlexRow, drift: Drift) -> Execution | Reject:
    """What one row that is an execution says. A reject's reason names the row and what is wrong with it."""
    sent = row.attributes
    account = account_of(row)
    if account is not None and "accountId" not in sent:
        sent = {**sent, "accountId": account}
    shape = _shape(tuple(sent))
    payload = _payload(sent, shape)
    texts = zip(shape.read, shape.get(sent), strict=True)
    said = {name: stated for name, text in texts if text and (stated := text.strip()) not in _NOTHING}
    if log.REDACTED in payload or payload.startswith(CUT_SHORT):
        said = {name: log.redact(text) for name, text in said.items()}
    try:
        execution = _execution(SOURCES[row.section], said, payload, account, drift)
    except BadRecord as bad:
        return Reject.of(payload, f"{_name_of(row.element, said)}: {bad.sentence}", _key_of_reject(said))
    for name in shape.new:
        drift.note(f"Interactive Brokers sends an attribute unknown to this version: {shown(name)}")
    return execution


class _Shape(NamedTuple):
    """What follows from the names of a row's attributes; all rows of a statement have the same."""

    read: tuple[str, ...]
    """Those of which an execution is made."""
    get: Callable[[_Said], tuple[str, ...]]
    """Their texts."""
    new: tuple[str, ...]
    """Those unknown to this version."""
    frame: tuple[str, ...]
    """The row's JSON in parts: every second is empty, for a text that needs no escapes."""


@lru_cache(maxsize=256)
def _shape(names: tuple[str, ...]) -> _Shape:
    read = tuple(name for name in _READ if name in names)
    new = tuple(name for name in names if name not in _ATTRIBUTES)
    # With fewer than two names `itemgetter` gives no tuple.
    get = itemgetter(*read) if len(read) > 1 else lambda row: tuple(row[name] for name in read)
    members = ",".join(f'"{name}":"\n\n"' for name in names)
    return _Shape(read, get, new, tuple(f"{{{members}}}".split("\n")))


def _payload(row: _Said, shape: _Shape) -> str:
    """The row as `raw_payload` writes it; most rows have nothing that needs its care, and are written faster."""
    if row.get(_USER_NAME):
        return raw_payload({name: text for name, text in row.items() if name != _USER_NAME})
    values = [*row.values()]
    texts = " ".join(values)
    is_plain = texts.isascii() and texts.isprintable() and '"' not in texts and "\\" not in texts
    if shape.new or not is_plain or len(texts) > _SHORT or log.redact(texts) != texts:
        return raw_payload(row)
    parts = [*shape.frame]
    parts[1::2] = values
    return "".join(parts)


def _execution(source: Source, said: _Said, payload: str, account: str | None, drift: Drift) -> Execution:
    if account is None:
        raise BadRecord("accountId is missing. Tick «Account ID» in the Flex query.", field="accountId")
    codes = _codes(said.get("notes") or said.get("code"))
    side, is_cancel = _side(said)
    kind = _kind(said, codes, is_cancel, drift)
    identity = _identity(said, kind)
    if identity is None:
        raise BadRecord(
            "the row has no id that could be relied on. Tick «IB Execution ID», «Transaction ID» and «Trade ID» in "
            "the Flex query; a trade that has none must be entered by hand.",
            field="ibExecID",
        )
    cancels = _cancelled(said) if kind == "cancel" else None
    raw_symbol = _name(said, "symbol")
    if raw_symbol is None:
        raise BadRecord("symbol is missing", field="symbol")
    quantity = _quantity(said, kind, side)
    price = _amount(said, "tradePrice", "price")
    if price is None:
        raise BadRecord("price is missing. Tick «Trade Price» in the Flex query.", field="price")
    commission = _amount(said, "ibCommission", "commission")
    moment = _moment(said)
    asset_class = _asset_class(said, drift)
    symbol = _symbol(asset_class, raw_symbol)
    if moment.doubt is not None:
        drift.note(_DOUBTS[moment.doubt])
    if commission is None:
        drift.note("Some rows have no commission; their fees count as 0. Tick «IB Commission» in the Flex query.")
    return Execution(
        provider="ibkr",
        source=source,
        account_ref=account,
        external_execution_id=identity.family,
        revision=identity.revision,
        external_order_id=_id(said, "ibOrderID", "orderID"),
        kind=kind,
        occurred_at=moment.ms,
        symbol=symbol,
        raw_symbol=raw_symbol,
        asset_class=asset_class,
        side=side,
        quantity=quantity,
        price=price,
        fee=commission.copy_negate() if commission else Decimal(0),
        currency=_currency(said.get("currency"), drift),
        fee_currency=_currency(said.get("ibCommissionCurrency") or said.get("commissionCurrency"), drift),
        multiplier=_multiplier(said, drift),
        conid=_id(said, "conid"),
        open_close=_open_close(said, codes, drift),
        cancels=cancels,
        transaction_id=_id(said, "transactionID"),
        # A cancel names its original's: together with the rebooking they are one story (4.6).
        trade_id=_id(said, "tradeID") or (_id(said, "origTradeID") if kind == "cancel" else None),
        flags=_FLAGS[moment.doubt],
        ingestion_hash=ingestion_hash(
            provider="ibkr",
            account_ref=account,
            symbol=symbol,
            side=side,
            quantity=quantity,
            price=price,
            occurred_at=moment.ms,
            repeat=0,
        ),
        raw_payload=payload,
    )


# Which row it is


def _identity(said: _Said, kind: ExecutionKind) -> ExecutionId | None:
    """The execution's id, else the booking's, else the trade's with the kind of booking (reference ibkr 5).

    A cancel is a booking of its own: were the execution's id on it, it would pass for the execution.
    """
    execution_id = _id(said, "ibExecID", "execID")
    if execution_id is not None and kind != "cancel":
        return parse_execution_id(execution_id)
    if (transaction_id := _id(said, "transactionID")) is not None:
        return ExecutionId(f"tx:{transaction_id}", FIRST_REVISION)
    trade_id, booked_as = _id(said, "tradeID"), _name(said, "transactionType")
    # A trade may be cancelled, booked again and cancelled again: what tells such cancels apart is when and of how much.
    when = f":{_cancel_mark(said)}" if kind == "cancel" else ""
    if trade_id is not None and booked_as is not None:
        return ExecutionId(f"trade:{trade_id}:{booked_as}{when}", FIRST_REVISION)
    if kind == "cancel":
        # A confirmation of a cancel has no id of its own, only that of the trade it voids (4.6).
        return ExecutionId(f"cancel:{_cancelled(said)}{when}", FIRST_REVISION)
    return None


def _cancel_mark(said: _Said) -> str:
    price = said.get("tradePrice") or said.get("price", "")
    return f"{said.get('reportDate', '')}:{said.get('quantity', '')}@{price}"


def _cancelled(said: _Said) -> str:
    """The booking that a cancel voids (reference ibkr 4.6)."""
    if (transaction_id := _id(said, "origTransactionID")) is not None:
        return f"tx:{transaction_id}"
    if (trade_id := _id(said, "origTradeID")) is not None:
        return f"trade:{trade_id}"
    raise BadRecord(
        "a cancel that names no original. Tick «Orig Transaction ID» and «Orig Trade ID» in the Flex query.",
        field="origTransactionID",
    )


def _key_of_reject(said: _Said) -> str | None:
    """The execution whose arrival settles the reject; a correction is not settled by what it corrects."""
    try:
        is_cancel = (
            _CANCELLED in _codes(said.get("notes") or said.get("code"))
            or said.get("transactionType") in _CANCELS
            or _CANCEL_MARK in said.get("buySell", "").upper()
        )
        identity = _identity(said, "cancel" if is_cancel else "fill")
    except BadRecord:
        return None
    if identity is None or identity.revision == FIRST_REVISION:
        return identity and identity.family
    return _id(said, "ibExecID", "execID")


def _name_of(element: str, said: _Said) -> str:
    """Words by which a person finds the row in the statement."""
    marks = (
        said.get("transactionID") or said.get("tradeID") or said.get("ibExecID") or said.get("execID"),
        said.get("symbol"),
        said.get("dateTime") or said.get("tradeDate"),
    )
    told = ", ".join(shown(mark)[1:-1] for mark in marks if mark)
    return f"{element} {told}" if told else element


# Fields. The spelling of activity statements comes first, that of trade confirmations second.


def _name(said: _Said, name: str) -> str | None:
    """A text that says which row or what it is about, so that it is refused rather than cut."""
    text = said.get(name)
    if text is not None and len(text) > _LONGEST_NAME:
        raise BadRecord(f"{name} is too long", field=name)
    return text


def _id(said: _Said, name: str, other: str | None = None) -> str | None:
    """An id under either name; nought means none."""
    text = _name(said, name)
    if text is None and other is not None:
        text = _name(said, other)
    return None if text == "0" else text


def _amount(said: _Said, name: str, other: str | None = None) -> Decimal | None:
    """An exact number, with commas between thousands where there are any; None where it is left out."""
    text = said.get(name)
    if text is None:
        if other is None or (text := said.get(other)) is None:
            return None
        name = other
    if "," in text and _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    return parse_decimal(text, name)


@lru_cache(maxsize=256)
def _codes(text: str | None) -> frozenset[str]:
    return frozenset(code.strip() for code in text.split(";")) - {""} if text else frozenset()


def _side(said: _Said) -> tuple[Side | None, bool]:
    """The side, and whether it is that of a cancel."""
    word = said.get("buySell")
    if word is None:
        return None, False
    side = _SIDES.get(word) or _SIDES.get(word.upper())
    if side is None:
        raise BadRecord(f"buySell is neither BUY nor SELL: {shown(word)}", field="buySell")
    return side


def _kind(said: _Said, codes: frozenset[str], is_cancel: bool, drift: Drift) -> ExecutionKind:
    for code in codes - _CODES:
        drift.note(f"Interactive Brokers uses a code unknown to this version: {shown(code)}")
    booked_as = said.get("transactionType")
    if is_cancel or booked_as in _CANCELS or _CANCELLED in codes:
        return "cancel"
    if booked_as == _BOOKING or booked_as is None:
        for code, kind in _KINDS_OF_BOOKINGS.items():
            if code in codes:
                return kind
        if booked_as == _BOOKING:
            drift.note("Some bookings are neither assignment, exercise nor expiry; they count as fills.")
    elif booked_as not in _TYPES:
        drift.note(f"Interactive Brokers names a transaction type unknown to this version: {shown(booked_as)}")
    return "fill"


def _quantity(said: _Said, kind: ExecutionKind, side: Side | None) -> Decimal:
    """How many, unsigned. The sign says the side again; on cancels it is the other way round (reference ibkr 4.4)."""
    signed = _amount(said, "quantity")
    if signed is None:
        raise BadRecord("quantity is missing. Tick «Quantity» in the Flex query.", field="quantity")
    if kind == "cancel":
        return signed.copy_abs()
    if kind == "fill":
        if side is None:
            raise BadRecord("buySell is missing. Tick «Buy/Sell» in the Flex query.", field="buySell")
        if not signed:
            raise BadRecord("quantity is zero", field="quantity")
    if signed and side is not None and (signed > 0) != (side == "buy"):
        raise BadRecord(f"quantity is {plain(signed)} but buySell is {said['buySell']}", field="quantity")
    return signed.copy_abs()


def _moment(said: _Said) -> Moment:
    """When it was executed; old queries have a trading day and a time instead (reference ibkr 4.5)."""
    stamp, day, time = said.get("dateTime"), said.get("tradeDate"), said.get("tradeTime")
    if stamp is not None:
        moment = parse_moment(stamp, "dateTime")
        if moment.doubt == "no_time_of_day" and time is not None:
            return join_moment(stamp, time, "dateTime", "tradeTime")
        return moment
    if day is None:
        raise BadRecord("dateTime is missing. Tick «Date/Time» in the Flex query.", field="dateTime")
    return join_moment(day, time, "tradeDate", "tradeTime")


def _asset_class(said: _Said, drift: Drift) -> AssetClass:
    word = said.get("assetCategory")
    if word is None:
        drift.note("Some rows have no asset class; they count as «other». Tick «Asset Class» in the Flex query.")
        return "other"
    asset_class = _CATEGORIES.get(word)
    if asset_class is None:
        drift.note(f"Interactive Brokers names an asset class unknown to this version: {shown(word)}")
        return "other"
    return asset_class


def _symbol(asset_class: AssetClass, raw_symbol: str) -> str:
    if asset_class == "option" and _OCC.fullmatch(raw_symbol):
        return raw_symbol
    return canonical_symbol(asset_class, raw_symbol, None, None, 0)


def _currency(word: str | None, drift: Drift) -> str | None:
    if word is None or _CURRENCY.fullmatch(word):
        return word
    drift.note(f"Interactive Brokers names a currency unknown to this version: {shown(word)}")
    return word[:_LONGEST_NAME]


def _multiplier(said: _Said, drift: Drift) -> str | None:
    """Needed for no import, so that one that cannot be read counts as absent (fault B14)."""
    text = said.get("multiplier")
    try:
        return None if text is None else _plain_multiplier(text)
    except BadRecord as bad:
        drift.note(f"A multiplier cannot be read and is left out: {bad.sentence}")
        return None


@lru_cache(maxsize=256)
def _plain_multiplier(text: str) -> str | None:
    multiplier = _amount({"multiplier": text}, "multiplier")
    return plain(multiplier) if multiplier and multiplier > 0 else None


def _open_close(said: _Said, codes: frozenset[str], drift: Drift) -> OpenClose | None:
    """The indicator; where it is blank, as in trade confirmations, the codes."""
    mark = said.get("openCloseIndicator", _UNMARKED)
    if mark != _UNMARKED:
        if mark not in _OPEN_CLOSE:
            drift.note(f"Interactive Brokers names an open/close indicator unknown to this version: {shown(mark)}")
        return _OPEN_CLOSE.get(mark)
    if "C" in codes:
        return "close_open" if "O" in codes else "close"
    return "open" if "O" in codes else None
