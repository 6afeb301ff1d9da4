"""Pure: what a Flex query leaves out, told from a statement of it, and what that costs (reference ibkr 4.3-4.5).

A box that is not ticked in the portal is an attribute that no row has; a blank one says only that it does not apply.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, assert_never

from worker.errors import BadRecord
from worker.normalize.fields import shown
from worker.normalize.flex_document import (
    SECTIONS,
    DocumentEnds,
    FlexRow,
    Section,
    StatementBegins,
    StatementEnds,
    StatementEvent,
)
from worker.normalize.flex_time import (
    CHANGE_DATE_FORMAT,
    CHANGE_TIME_FORMAT,
    is_ambiguous_date,
    parse_day,
    parse_moment,
)
from worker.normalize.ibkr_flex import account_of, is_execution

_DATE_LENGTHS: Final = (8, 10)


class Missing(NamedTuple):
    """One thing to change in the Flex query: what, and what its absence costs."""

    what: str
    cost: str

    @property
    def sentence(self) -> str:
        return f"{self.what}: {self.cost}"


class _Box(NamedTuple):
    """A box of the portal, the attribute it makes in either kind of statement, and what happens without it.

    Where the attribute's name is empty, that kind of statement has no such box.
    """

    words: str
    activity: str
    confirm: str
    cost: str


_BOXES: Final = (
    _Box("Account ID", "accountId", "accountId", "rows of several accounts cannot be told apart."),
    _Box("Symbol", "symbol", "symbol", "no trade can be imported."),
    _Box("Buy/Sell", "buySell", "buySell", "no trade can be imported."),
    _Box("Quantity", "quantity", "quantity", "no trade can be imported."),
    _Box("Trade Price", "tradePrice", "price", "no trade can be imported."),
    _Box(
        "Date/Time", "dateTime", "dateTime",
        "trades have no time of day, or stand on the trading day: trades of the evening are a day late.",
    ),
    _Box("Level of Detail", "levelOfDetail", "levelOfDetail", "orders and tax lots may count as trades."),
    _Box(
        "IB Execution ID", "ibExecID", "execID",
        "a trade that the live API has brought comes a second time, and corrections count as new trades.",
    ),
    _Box(
        "Transaction ID", "transactionID", "",
        "cancels, assignments, exercises and expiries cannot be identified and are refused.",
    ),
    _Box("Trade ID", "tradeID", "tradeID", "a cancel or correction may not find the trade it is about."),
    _Box("Orig Transaction ID", "origTransactionID", "", "a cancel may not find the trade it voids, which then stays."),
    _Box("Orig Trade ID", "origTradeID", "origTradeID", "a cancel may not find the trade it voids, which then stays."),
    _Box(
        "Transaction Type", "transactionType", "transactionType",
        "cancels and bookings without an exchange are told by their codes only.",
    ),
    _Box("Notes/Codes", "notes", "code", "assignments, exercises and expiries count as trades."),
    _Box("IB Commission", "ibCommission", "commission", "fees count as 0."),
    _Box(
        "IB Commission Currency", "ibCommissionCurrency", "commissionCurrency",
        "fees in another currency than the trade's look like fees in its own.",
    ),
    _Box("Currency", "currency", "currency", "prices have no currency."),
    _Box("Asset Class", "assetCategory", "assetCategory", "trades count as «other» and are held."),
    _Box("Conid", "conid", "conid", "instruments with several symbols cannot be recognised as one."),
    _Box("Multiplier", "multiplier", "multiplier", "the value of options and futures cannot be computed."),
    _Box("IB Order ID", "ibOrderID", "orderID", "the fills of one order are not shown together."),
    _Box(
        "Open/Close Indicator", "openCloseIndicator", "",
        "whether a trade opens or closes is derived from the position, which may be guessed at first.",
    ),
)  # fmt: skip

_ASKED_AS: Final[Mapping[Section, str]] = {
    "Trades": "an activity Flex query", "TradeConfirms": "a trade confirmation Flex query",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueryCheck:
    """What the statement is of, and everything missing in its query, worst first."""

    accounts: tuple[str, ...]
    from_day: dt.date | None
    to_day: dt.date | None
    executions: int
    missing: tuple[Missing, ...]


@dataclass(slots=True)
class _Seen:
    """What a section's rows that are executions have shown."""

    statements: int = 0
    rows: int = 0
    executions: int = 0
    names: set[str] = field(default_factory=set)
    shapes: set[tuple[str, ...]] = field(default_factory=set)
    formats: dict[str, Missing] = field(default_factory=dict)
    """By the kind of fault, with the first example."""


def check_query(events: Iterable[StatementEvent]) -> QueryCheck:
    """Everything missing, told in one go."""
    seen: dict[Section, _Seen] = {section: _Seen() for section in SECTIONS}
    accounts: set[str] = set()
    days: list[dt.date] = []
    missing: dict[Missing, None] = {}
    without_section = 0
    for event in events:
        match event:
            case StatementBegins():
                missing |= dict.fromkeys(_of_statement(event))
                accounts |= {event.account.upper()} - {""}
                days = _widened(days, event)
            case FlexRow():
                _look_at(event, seen[event.section])
                accounts |= {account_of(event) or ""} - {""}
            case StatementEnds():
                for section in event.sections:
                    seen[section].statements += 1
                if not event.sections:
                    without_section += 1
            case DocumentEnds():
                pass
            case _:
                assert_never(event)
    missing |= dict.fromkeys(_of_sections(seen, without_section))
    for section in SECTIONS:
        missing |= dict.fromkeys(seen[section].formats.values())
        missing |= dict.fromkeys(_of_boxes(section, seen[section]))
    return QueryCheck(
        tuple(sorted(accounts)),
        min(days, default=None),
        max(days, default=None),
        sum(found.executions for found in seen.values()),
        tuple(missing),
    )


def _widened(days: list[dt.date], statement: StatementBegins) -> list[dt.date]:
    stated = [*days, *(day for day in (statement.from_day, statement.to_day) if day is not None)]
    return [min(stated), max(stated)] if stated else []


def _of_statement(statement: StatementBegins) -> Iterable[Missing]:
    if not statement.account:
        yield Missing("The statement names no account", "nothing can be imported. Choose accounts in the Flex query.")
    for name, text in (("fromDate", statement.from_date), ("toDate", statement.to_date)):
        if not text:
            yield Missing(f"The statement has no {name}", "what it covers cannot be told, so it closes no gap.")
        elif parse_day(text) is None:
            yield _date_format(name, text)


def _date_format(name: str, text: str) -> Missing:
    why = "day and month could be taken for each other" if is_ambiguous_date(text) else "it is no date known here"
    return Missing(
        f"Date Format ({name} is {shown(text)})", f"{why}, and nothing can be imported. {CHANGE_DATE_FORMAT}"
    )


def _look_at(row: FlexRow, seen: _Seen) -> None:
    seen.rows += 1
    if not is_execution(row):
        return
    seen.executions += 1
    shape = tuple(row.attributes)
    if shape not in seen.shapes:
        seen.names.update(shape)
        if len(seen.shapes) < 100:
            seen.shapes.add(shape)
    name = next((name for name in ("dateTime", "tradeDate") if row.attributes.get(name, "").strip()), None)
    if name is None:
        return
    stamp = row.attributes[name].strip()
    try:
        moment = parse_moment(stamp, name)
    except BadRecord:
        if any(parse_day(stamp[:length]) for length in _DATE_LENGTHS):
            what, cost = f"Time Format ({name} is {shown(stamp)})", f"no trade can be imported. {CHANGE_TIME_FORMAT}"
            seen.formats.setdefault("time", Missing(what, cost))
        else:
            seen.formats.setdefault("date", _date_format(name, stamp))
        return
    # Without «Date/Time» there is a box to be ticked, and nothing else to be said.
    is_day = name == "dateTime" and moment.doubt == "no_time_of_day"
    if is_day and not row.attributes.get("tradeTime", "").strip():
        cost = "trades count as midnight in New York. Choose a «Date/Time Separator» and a «Time Format»."
        seen.formats.setdefault("no time", Missing("Time of day (dateTime is a date only)", cost))


def _of_sections(seen: Mapping[Section, _Seen], without_section: int) -> Iterable[Missing]:
    if without_section:
        asked = " or ".join(f"«{section}» in {_ASKED_AS[section]}" for section in SECTIONS)
        yield Missing(f"Section with trades, which is {asked}", "no trade is in the statement, whatever was traded.")
    for section, found in seen.items():
        if found.statements and not found.executions:
            if found.rows:
                yield Missing(
                    f"Executions in the options of {section}", "only sums are there, and no trade of its own."
                )
            else:
                cost = "its boxes cannot be checked. Take a statement of days with trades."
                yield Missing(f"Trades in {section}: the statement has none", cost)


def _of_boxes(section: Section, seen: _Seen) -> Iterable[Missing]:
    if not seen.executions:
        return
    for box in _BOXES:
        name = box.activity if section == "Trades" else box.confirm
        if name and not seen.names & {box.activity, box.confirm}:
            yield Missing(f"{section}: box «{box.words}» ({name})", box.cost)
