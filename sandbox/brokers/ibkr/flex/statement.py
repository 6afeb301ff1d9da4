"""Statements as Interactive Brokers writes them (reference ibkr 4.3-4.6), piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Literal
from xml.sax.saxutils import escape

from sandbox.brokers.ibkr.catalogue import Instrument
from sandbox.brokers.ibkr.flex.bookings import Booking, eastern
from sandbox.brokers.ibkr.flex.contracts import contract_of
from sandbox.brokers.ibkr.flex.inputs import FlexQuirks
from sandbox.brokers.ibkr.ledger import plain

Report = Literal["AF", "TCF"]
Attributes = dict[str, str]

_ZERO = Decimal(0)
_EURO = Decimal("1.08455")
_DTD = '<!DOCTYPE FlexQueryResponse [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'


@dataclass(frozen=True, slots=True)
class Order:
    """What a statement was asked to be."""

    report: Report
    first: date
    last: date
    period: str
    made_ms: int
    url: str


def statement(
    order: Order, accounts: Sequence[str], aliases: Mapping[str, str], booked: Sequence[Booking], quirks: FlexQuirks
) -> Iterator[str]:
    """The document, in pieces."""
    accounts = [account for account in accounts if account not in quirks.missing_accounts]
    stamps = Stamps(quirks.times if order.report == "AF" else quirks.confirm_times)
    yield _DTD if quirks.dtd else ""
    yield f'<FlexQueryResponse queryName="Import" type="{order.report}">\n'
    if quirks.echo_url:
        yield f"<!-- {order.url} -->\n"
    yield f'<FlexStatements count="{len(accounts) if quirks.count is None else quirks.count}">\n'
    for account in accounts:
        yield _tag(
            "FlexStatement",
            {
                "accountId": account,
                "fromDate": stamps.day(order.first),
                "toDate": stamps.day(order.last),
                "period": order.period,
                "whenGenerated": stamps.moment(eastern(order.made_ms)),
                **quirks.statement,
            },
            close=False,
        )
        if quirks.section:
            writer = _Writer(order.report, aliases.get(account, ""), stamps, quirks)
            name = "Trades" if order.report == "AF" else "TradeConfirms"
            yield f"<{name}>\n"
            mine = [each for each in booked if each.fill.account == account]
            yield from writer.rows(mine)
            strange = writer.unknown_row(mine) if quirks.unknown_parts and mine else ""
            yield f"{strange}</{name}>\n"
            if strange:
                yield f"<VenueSummaries>\n{strange}</VenueSummaries>\n"
        yield "</FlexStatement>\n"
    yield "</FlexStatements>\n</FlexQueryResponse>\n"


@dataclass(frozen=True, slots=True)
class Stamps:
    """How dates and times are written (4.5)."""

    style: Literal["compact", "dashed", "zoned"]

    def day(self, day: date) -> str:
        return f"{day:%Y%m%d}" if self.style == "compact" else f"{day:%Y-%m-%d}"

    def moment(self, at: datetime) -> str:
        if self.style == "compact":
            return f"{at:%Y%m%d;%H%M%S}"
        return f"{at:%Y-%m-%d;%H:%M:%S}" + (f" {at:%Z}" if self.style == "zoned" else "")


class _Writer:
    """One account's rows."""

    def __init__(self, report: Report, alias: str, stamps: Stamps, quirks: FlexQuirks) -> None:
        self._report = report
        self._alias = alias
        self._stamps = stamps
        self._quirks = quirks
        self._known: dict[Instrument, Attributes] = {}

    def rows(self, booked: Sequence[Booking]) -> Iterator[str]:
        """By kind, by symbol, by order, each with its sum before its parts."""
        if not self._quirks.summaries:
            for booking in reversed(booked) if self._quirks.shuffled else booked:
                yield from self._execution(booking)
            return
        for kind, of_kind in _groups(booked, lambda each: each.fill.instrument.sec_type):
            if self._report == "AF":
                total = self._total(of_kind, "ASSET_SUMMARY")
                yield self._row("AssetSummary", {**total, "assetCategory": kind})
            for _, of_symbol in _groups(of_kind, lambda each: str(each.fill.instrument.conid)):
                yield self._row("SymbolSummary", self._sum(of_symbol, "SYMBOL_SUMMARY"))
                for _, of_order in _groups(of_symbol, lambda each: str(each.fill.order_id)):
                    if any(each.is_execution for each in of_order):
                        yield self._row("Order", self._sum(of_order, "ORDER"))
                    for booking in reversed(of_order) if self._quirks.shuffled else of_order:
                        yield from self._execution(booking)

    def unknown_row(self, booked: Sequence[Booking]) -> str:
        """A sum of a kind that no version knows."""
        return self._row("VenueSummary", self._sum(booked, "VENUE_SUMMARY"))

    def _execution(self, booking: Booking) -> Iterator[str]:
        if self._report == "TCF":
            yield self._row("TradeConfirm", self._said(booking, self._confirmation(booking)))
            return
        yield self._row("Trade", self._said(booking, self._trade(booking)))
        if self._quirks.lots and booking.open_close.startswith("C"):
            lot = {"levelOfDetail": "CLOSED_LOT", "ibExecID": "", "tradeID": "", "notes": "", "buySell": "BUY"}
            yield self._row("Lot", self._trade(booking) | lot)

    def _said(self, booking: Booking, truth: Attributes) -> Attributes:
        """The row of an execution as a test wants it written."""
        if booking.role == "cancel":
            return truth
        said = truth | self._quirks.rows.get(booking.fill.execution_id, {})
        return {name: value for name, value in said.items() if value is not None}

    def _instrument(self, booking: Booking) -> Attributes:
        instrument = booking.fill.instrument
        if instrument not in self._known:
            self._known[instrument] = self._described(booking.fill.account, instrument)
        return self._known[instrument]

    def _described(self, account: str, instrument: Instrument) -> Attributes:
        contract = contract_of(instrument)
        return {
            "accountId": account,
            "acctAlias": self._alias,
            "model": "",
            "currency": instrument.currency,
            "fxRateToBase": plain(_EURO) if instrument.currency == "EUR" else "1",
            "assetCategory": instrument.sec_type,
            "subCategory": contract.sub_category,
            "symbol": contract.symbol,
            "description": contract.description,
            "conid": str(instrument.conid),
            "securityID": "",
            "securityIDType": "",
            "cusip": "",
            "isin": "",
            "listingExchange": (instrument.listing or "").partition(".")[0],
            "underlyingConid": contract.underlying_conid,
            "underlyingSymbol": contract.underlying,
            "underlyingSecurityID": "",
            "underlyingListingExchange": "",
            "issuer": "",
            "multiplier": plain(instrument.multiplier),
            "strike": "" if contract.strike is None else plain(contract.strike),
            "expiry": contract.expiry and self._stamps.day(datetime.strptime(contract.expiry, "%Y%m%d").date()),  # noqa: DTZ007
            "putCall": contract.put_call,
            "principalAdjustFactor": "",
        }

    def _trade(self, booking: Booking) -> Attributes:
        """An AF row at the level of executions."""
        fill, cancel = booking.fill, booking.role == "cancel"
        money = booking.quantity * fill.price * fill.instrument.multiplier
        stated = cancel or not booking.is_execution
        order = _order_id(fill.order_id) if booking.is_execution else ""
        return self._instrument(booking) | {
            "tradeID": "" if cancel else str(booking.trade),
            "reportDate": self._stamps.day(booking.report_date),
            "dateTime": self._stamps.moment(booking.moment),
            "tradeDate": self._stamps.day(booking.trade_date),
            "settleDateTarget": "" if cancel else self._stamps.day(booking.trade_date),
            "transactionType": "TradeCancel" if cancel else "ExchTrade" if booking.is_execution else "BookTrade",
            "exchange": "--" if stated else fill.exchange,
            "quantity": _number(booking.quantity),
            "tradePrice": _number(fill.price),
            "tradeMoney": _number(money),
            "proceeds": _number(-money),
            "taxes": "0",
            "ibCommission": _number(-booking.commission),
            "ibCommissionCurrency": fill.instrument.currency,
            "netCash": _number(-money - booking.commission),
            "closePrice": _number(fill.instrument.guide),
            "openCloseIndicator": booking.open_close,
            "notes": self._notes(booking),
            "cost": _number(money + booking.commission),
            "fifoPnlRealized": "0",
            "fxPnl": "0",
            "mtmPnl": "0",
            "origTradePrice": _number(fill.price) if cancel else "0",
            "origTradeDate": self._stamps.day(booking.trade_date) if cancel else "",
            "origTradeID": str(booking.trade) if cancel else "",
            "origOrderID": order if cancel else "0",
            "origTransactionID": self._orig_transaction(booking),
            "buySell": ("SELL" if booking.sold else "BUY") + (" (Ca.)" if cancel else ""),
            "clearingFirmID": "",
            "ibOrderID": order or str(booking.transaction),
            "transactionID": str(booking.transaction),
            "ibExecID": self._exec_id(booking),
            "relatedTransactionID": "",
            "brokerageOrderID": "",
            "orderReference": fill.order_ref or "",
            "volatilityOrderLink": "",
            "exchOrderId": "N/A",
            "extExecID": "N/A" if stated else str(booking.trade * 7),
            "orderTime": "" if stated else self._stamps.moment(booking.moment),
            "openDateTime": "",
            "holdingPeriodDateTime": "",
            "whenRealized": "",
            "whenReopened": "",
            "levelOfDetail": "EXECUTION",
            "changeInPrice": "0",
            "changeInQuantity": "0",
            "orderType": "LMT" if booking.is_execution else "",
            "traderID": "",
            "isAPIOrder": "N",
            "accruedInt": "0",
        }

    def _confirmation(self, booking: Booking) -> Attributes:
        """A TCF row: the same facts under other names (4.3)."""
        trade = self._trade(booking)
        commission = trade["ibCommission"]
        renamed = {
            "transactionType": trade["transactionType"],
            "tradeID": trade["tradeID"],
            "orderID": trade["ibOrderID"],
            "execID": trade["ibExecID"],
            "brokerageOrderID": "",
            "orderReference": trade["orderReference"],
            "volatilityOrderLink": "",
            "clearingFirmID": "",
            "origTradePrice": trade["origTradePrice"],
            "origTradeDate": trade["origTradeDate"],
            "origTradeID": trade["origTradeID"],
            "extExecID": trade["extExecID"],
            "blockID": "0",
            "orderTime": trade["orderTime"],
            "dateTime": trade["dateTime"],
            "reportDate": self._stamps.day(confirmed_on(booking)),
            "settleDate": trade["settleDateTarget"],
            "tradeDate": trade["tradeDate"],
            "exchange": trade["exchange"],
            "buySell": trade["buySell"],
            "quantity": trade["quantity"],
            "price": trade["tradePrice"],
            "amount": trade["tradeMoney"],
            "proceeds": trade["proceeds"],
            "netCash": trade["netCash"],
            "commission": commission,
            "brokerExecutionCommission": commission,
            "brokerClearingCommission": "0",
            "thirdPartyExecutionCommission": "0",
            "thirdPartyClearingCommission": "0",
            "thirdPartyRegulatoryCommission": "0",
            "otherCommission": "0",
            "commissionCurrency": trade["ibCommissionCurrency"],
            "tax": "0",
            "code": ";".join(part for part in (trade["notes"], booking.open_close) if part),
            "orderType": trade["orderType"],
            "levelOfDetail": "EXECUTION",
            "traderID": "",
            "isAPIOrder": "N",
            "allocatedTo": "",
            "accruedInt": "0",
        }
        instrument = self._instrument(booking)
        return {name: value for name, value in instrument.items() if name != "fxRateToBase"} | renamed

    def _sum(self, booked: Sequence[Booking], level: str) -> Attributes:
        """A row of the same names above executions: no ids, summed amounts, a mean price (4.3)."""
        first = self._confirmation(booked[0]) if self._report == "TCF" else self._trade(booked[0])
        instrument = self._instrument(booked[0])
        whole = {name: value if name in instrument else "" for name, value in first.items()}
        dates = ("reportDate", "tradeDate", "settleDate", "settleDateTarget")
        days = {name: first[name] for name in dates if name in first}
        if level == "SYMBOL_SUMMARY" and len({each.trade_date for each in booked}) > 1:
            days = dict.fromkeys(days, "MULTI")
        order = {"orderID": "", "ibOrderID": ""}
        if level == "ORDER":
            order = dict.fromkeys(order, first["orderID" if self._report == "TCF" else "ibOrderID"])
            order |= {"dateTime": first["dateTime"], "orderTime": first["orderTime"], "orderType": "LMT"}
        else:
            order |= {"exchange": "MULTI"}
        total = self._total(booked, level)
        return whole | days | {name: value for name, value in (order | total).items() if name in first}

    def _total(self, booked: Sequence[Booking], level: str) -> Attributes:
        quantity = sum((each.quantity for each in booked), _ZERO)
        money = sum((each.quantity * each.fill.price * each.fill.instrument.multiplier for each in booked), _ZERO)
        commission = sum((each.commission for each in booked), _ZERO)
        unit = quantity * booked[0].fill.instrument.multiplier
        price = _number(round(money / unit, 9)) if unit else "0"
        currency = booked[0].fill.instrument.currency
        named = {"price": price, "amount": _number(money), "commission": _number(-commission)}
        if self._report == "AF":
            named = {"tradePrice": price, "tradeMoney": _number(money), "ibCommission": _number(-commission)}
        return {
            "accountId": booked[0].fill.account,
            "acctAlias": self._alias,
            "quantity": _number(quantity),
            **named,
            "commissionCurrency" if self._report == "TCF" else "ibCommissionCurrency": currency,
            "proceeds": _number(-money),
            "netCash": _number(-money - commission),
            "openCloseIndicator": "-" if level == "ORDER" else "",
            "buySell": "SELL" if quantity < 0 else "BUY",
            "levelOfDetail": level,
        }

    def _exec_id(self, booking: Booking) -> str:
        if booking.role == "cancel" or not booking.is_execution:
            return ""
        match self._quirks.exec_ids:
            case "given":
                return booking.fill.execution_id
            case "blank":
                return ""
            case "N/A":
                return "N/A"

    def _orig_transaction(self, booking: Booking) -> str:
        return str(booking.cancels) if booking.cancels is not None and self._quirks.orig_transactions else "0"

    def _notes(self, booking: Booking) -> str:
        if booking.role == "cancel":
            return "Ca"
        return {"fill": "", "expiry": "Ep", "assignment": "A"}[booking.fill.kind]

    def _row(self, name: str, attributes: Attributes) -> str:
        for hidden in self._quirks.left_out:
            attributes.pop(hidden, None)
        extra = {name: str(value) for name, value in self._quirks.unknown_fields.items()}
        return _tag(name, attributes | extra)


def confirmed_on(booking: Booking) -> date:
    """The day whose confirmations show it: that of the booking itself."""
    return max(booking.trade_date, eastern(booking.booked_ms).date())


def _groups(booked: Iterable[Booking], key: Callable[[Booking], str]) -> Iterator[tuple[str, list[Booking]]]:
    for name, members in groupby(sorted(booked, key=key), key=key):
        yield name, list(members)


def _order_id(live: int) -> str:
    """Groups the fills of an order like the live API's number, and is another (4.4, 5)."""
    return str(live ^ 0x2A5A5A5A)


def _number(value: Decimal) -> str:
    text = plain(value)
    return "0" if text in ("-0", "") else text


def _tag(name: str, attributes: Mapping[str, str], *, close: bool = True) -> str:
    quoted = " ".join(f'{key}="{_quoted(value)}"' for key, value in attributes.items())
    return f"<{name} {quoted}{' /' if close else ''}>\n"


def _quoted(value: str) -> str:
    return value if value.isalnum() else escape(value, {'"': "&quot;"})
