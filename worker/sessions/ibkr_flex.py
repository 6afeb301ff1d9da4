"""Interactive Brokers' Flex reports: history to the last settled day, today's confirmations, and no session at all.

Joins the web service (`connectors.ibkr_flex`) with the meaning of its documents (`normalize.flex_document`,
`normalize.ibkr_flex`). A document is read whole once before any of its rows is passed on, so that half a statement,
or one without the connection's account, brings nothing (fault B18).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final
from zoneinfo import ZoneInfo

import httpx

from worker.clock import Clock
from worker.connectors.ibkr_flex import LINE, MAX_DAYS, Days, FlexClient, Patience, flex_pacer
from worker.coverage import Windowing, complete_up_to, gaps, trusted
from worker.errors import BadRecord, IncompleteReport, RetryLater
from worker.models import (
    Connector,
    IbkrFlexAuth,
    Interval,
    Lease,
    Normalized,
    Page,
    RawReport,
    Source,
    Standing,
    Window,
)
from worker.normalize.flex_document import (
    DocumentEnds,
    FlexRefusal,
    FlexRow,
    Section,
    StatementBegins,
    StatementEnds,
    read_flex,
)
from worker.normalize.flex_time import CHANGE_DATE_FORMAT, parse_moment
from worker.normalize.ibkr_flex import (
    Drift,
    account_of,
    canonical_account,
    flex_row_of,
    is_execution,
    normalize_rows,
)
from worker.pacing import Pacer
from worker.reports import content_digest, spooled, without
from worker.retry import RetryBudget, RetryPolicy

DAY_MS: Final = 24 * 3_600_000

WINDOWING: Final = Windowing(
    source="ibkr_flex_activity",
    # A cancel or a late booking comes with the day of its report, not of its trade (reference ibkr 4.4, 7.4).
    overlap=7 * DAY_MS,
    deep_overlap=30 * DAY_MS,
    deep_every=DAY_MS,
    settle=0,
    depth=365 * DAY_MS,
)

_EASTERN: Final = ZoneInfo("America/New_York")
_CUT_HOUR: Final = 17
"""A fill after 18:00 (futures) or 20:00 (shares) is reported with the next day, so a day is complete up to here."""
_READY_HOUR: Final = 6
"""Yesterday's statement is made overnight (reference ibkr 1, 4.1); before that nobody need ask."""
_PAGE: Final = 1000
_PATIENCE: Final = Patience(total=120.0)
"""Two reports of a job fit into its lease, which only pages prolong; what takes longer comes with a later job."""
_NOT_THERE: Final = "ibkr_flex_1003"
_SHORT: Final = dt.timedelta(days=31)
_STALLED_SECONDS: Final = 3600.0
_LATEST_DELAY: Final = dt.timedelta(days=7)
_PLACES: Final = 4
"""Of so many documents the place is remembered: today's confirmations, the last days, and an older year or two."""
_SAME: Final[Mapping[Source, str]] = {
    "ibkr_flex_activity": "Interactive Brokers served the same activity statement as before, so nothing in it is new. "
    "The next one is made overnight.",
    "ibkr_flex_confirm": "Interactive Brokers served the same trade confirmations as before, so nothing in them is "
    "new. A trade shows there some ten minutes after it was made.",
}


class FlexSession:
    """One job's reader and what its rows mean."""

    def __init__(self, reader: Connector, lease: Lease, notes: Callable[[bool], dict[str, str]]) -> None:
        self._reader = reader
        self._import_from = lease.connection.settings.import_from
        self._others = frozenset(map(canonical_account, lease.connection.other_accounts))
        self._drift = Drift()
        self._notes = notes

    @property
    def connector(self) -> Connector:
        return self._reader

    def normalize(self, page: Page, account_ref: str) -> Normalized:
        rows: Sequence[FlexRow] = page.records
        meaning = normalize_rows(rows, (account_ref,), self._drift)
        strangers = {account_of(row) for row in rows if is_execution(row)} - {account_ref, None} - self._others
        notices = tuple(
            f"This Flex query also reports account {account}, which no connection imports. Add a connection for it."
            for account in sorted(filter(None, strangers))
        )
        return replace(meaning, notices=notices).since(self._import_from)

    def read_again(self, row: Mapping[str, Any], account_ref: str) -> Normalized:
        statement_row = flex_row_of(row)
        return self.normalize(Page([] if statement_row is None else [statement_row]), account_ref)

    def notes(self, *, ended: bool = False) -> dict[str, str]:
        return self._notes(ended)


class FlexReader:
    """A `worker.models.Connector` for one account of a token's statements.

    `now` is the true time, `latest` the last day worth asking for. `forced`: somebody asked for this sync, so the last
    days are asked for again although they are covered.
    """

    def __init__(
        self,
        client: FlexClient,
        auth: IbkrFlexAuth,
        place: Place,
        *,
        account: str,
        now: Callable[[], int],
        coverage: Sequence[Interval],
        latest: Latest,
        forced: bool,
    ) -> None:
        self._client = client
        self._activity = auth.activity_query_id
        self._confirm = auth.confirm_query_id
        self._token = auth.token
        self._token_ends_at = auth.token_ends_at
        self._place = place
        self._forced = forced
        self._account = account
        self._now = now
        self._coverage = coverage
        self._latest = latest
        self._confirmed = False

    def check(self, *, inspect: bool) -> Standing:  # noqa: ARG002 - the service has no call that shows a token's rights
        """Nothing is asked: every call counts against the token's ten a minute, and the first report shows the rest."""
        now = self._now()
        return Standing(now=now, news=remind(self._token_ends_at, now))

    def fetch(self, window: Window, resume: str | None = None) -> Iterator[Page]:
        """Today's confirmations once a job, then the settled days of `window`, newest first, in requests of a year.

        `resume` is the last day still to be asked for.
        """
        if self._confirm is not None and not self._confirmed:
            self._confirmed = True
            yield from self._confirmations(self._confirm)
        if self._activity is None:
            return
        first = _day_of(window.start)
        last = min(_day_of(window.end), self._latest.day(self._now(), self._coverage))
        if self._is_known(window, complete_until(last)) and not self._forced:
            return
        if resume is not None:
            last = min(last, dt.date.fromisoformat(resume))
        while first <= last:
            asked = Days(max(first, last - dt.timedelta(days=MAX_DAYS - 1)), last)
            # A page without rows, so that the lease does not run out while a large report is made.
            yield Page(())
            with spooled() as sink:
                try:
                    days = self._fetch_activity(self._activity, asked, sink)
                except RetryLater as later:
                    if later.code != _NOT_THERE:
                        if later.reason == "report_not_ready":
                            self._latest.stall(asked.last)
                        raise
                    yield Page((), unserved=later)
                    return
                with self._report(sink, "ibkr_flex_activity") as report:
                    yield self._received(report)
                    served = self._served(examine(report.file), days)
                    last = asked.first - dt.timedelta(days=1)
                    drained = Window(
                        start=max(window.start, complete_until(last)), end=min(window.end, complete_until(served.last))
                    )
                    yield from pages_of(
                        report,
                        self._place,
                        drained=drained if drained.end > drained.start else None,
                        resume=last.isoformat() if first <= last else None,
                    )

    def _confirmations(self, query_id: str) -> Iterator[Page]:
        """Today's fills. The settled days do not wait for them where the service cannot make this report."""
        yield Page(())
        with spooled() as sink:
            try:
                self._client.fetch_statement(query_id, None, sink)
            except RetryLater as later:
                if later.reason != "report_not_ready":
                    raise
                yield Page((), unserved=later)
                return
            with self._report(sink, "ibkr_flex_confirm") as report:
                yield self._received(report)
                examine(report.file).require_section("TradeConfirms")
                yield from pages_of(report, self._place)

    def _fetch_activity(self, query_id: str, asked: Days, sink: BinaryIO) -> Days:
        """Have the statement of these days made; returns the days it was finally asked for.

        A week without trades may have no statement of its own (reference ibkr 4.1): then its year is asked for.
        """
        try:
            return self._client.fetch_statement(query_id, asked, sink).days or asked
        except RetryLater as later:
            if later.code != _NOT_THERE or asked.last - asked.first > _SHORT:
                raise
            year = Days(asked.last - dt.timedelta(days=MAX_DAYS - 1), asked.last)
            return self._client.fetch_statement(query_id, year, sink).days or year

    def _is_known(self, window: Window, until: int) -> bool:
        """Nothing new can be in it: only a new day, a hole, or the daily look further back is worth a report."""
        edge = complete_up_to(self._coverage, WINDOWING.source) or 0
        if window.start < edge - WINDOWING.overlap:
            return False
        return until <= window.start or not gaps(
            self._coverage, WINDOWING.source, Window(start=window.start, end=until)
        )

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _report(self, sink: BinaryIO, source: Source) -> Iterator[RawReport]:
        """What was fetched, without the token should it have been said back (fault F2)."""
        with without(sink, self._token) as file:
            size = file.seek(0, 2)
            yield RawReport(source, content_digest(file), size, file)

    def _received(self, report: RawReport) -> Page:
        """The report itself, to be kept before anything is believed of it."""
        same = self._forced and self._place.was_read(report)
        return Page((), report=report, remarks=(_SAME[report.source],) if same else ())

    def _served(self, report: Examined, asked: Days) -> Days:
        """Which of the days asked for the report has, from the first on: a service that is late leaves out the last.

        Raises IncompleteReport unless it is about this account, trades, and the first of these days (B18, B23).
        """
        report.require(self._account)
        report.require_section("Trades")
        if self._account in report.undated:
            raise IncompleteReport(
                f"The Flex report does not say in a clear way which days it is about. {CHANGE_DATE_FORMAT}",
                code="ibkr_flex_dates",
                action="check_flex_query",
            )
        settled = report.settled[self._account]
        last = asked.first - dt.timedelta(days=1)
        while last < asked.last and last + dt.timedelta(days=1) in settled:
            last += dt.timedelta(days=1)
        if last < asked.first:
            raise IncompleteReport(
                f"The Flex report does not cover the days it was asked for ({asked}). The range is read again at the "
                "next sync.",
                code="ibkr_flex_other_days",
            )
        return Days(asked.first, last)


@dataclass(frozen=True, slots=True)
class Examined:
    """What a document is about, once it was read to its end: only then is any of its rows to be believed.

    `settled` are the days that each account's activity statements cover and that were final when they were made;
    `undated` the accounts of a statement whose days or making cannot be read.
    """

    accounts: frozenset[str]
    sections: frozenset[Section]
    settled: Mapping[str, frozenset[dt.date]]
    undated: frozenset[str]

    def require(self, account: str) -> None:
        """Raises IncompleteReport unless the document has a statement of `account`."""
        if account not in self.accounts:
            raise IncompleteReport(
                f"The Flex report has no statement of account {account}, only of {_listed(self.accounts)}. Tick the "
                "account in the Flex query in Client Portal; until then nothing of it is imported.",
                code="ibkr_flex_account_missing",
                action="check_flex_query",
            )

    def require_section(self, section: Section) -> None:
        """Raises IncompleteReport unless every statement has `section`: without it one says nothing of trades."""
        if section not in self.sections:
            raise IncompleteReport(
                f"The Flex query leaves out the section {section}, so its report says nothing of trades. Add the "
                "section to the query in Client Portal.",
                code="ibkr_flex_no_section",
                action="check_flex_query",
            )


def examine(file: BinaryIO) -> Examined:
    """Reads a document to its end and leaves `file` at its start. Raises IncompleteReport if it is no whole report."""
    sections: frozenset[Section] | None = None
    settled: dict[str, set[dt.date]] = {}
    undated: set[str] = set()
    begun: StatementBegins | None = None
    for event in read_flex(file):
        match event:
            case FlexRefusal():
                raise IncompleteReport(
                    f"This is no Flex statement but a message of the service: {event.message}",
                    code="ibkr_flex_no_statement",
                )
            case StatementBegins():
                begun = event
                settled.setdefault(canonical_account(event.account), set())
            case StatementEnds():
                sections = event.sections if sections is None else sections & event.sections
                if begun is not None and "Trades" in event.sections:
                    days = _settled_days(begun)
                    account = canonical_account(begun.account)
                    settled[account] |= days or set()
                    undated |= {account} if days is None else set()
            case FlexRow() | DocumentEnds():
                pass
    file.seek(0)
    return Examined(
        accounts=frozenset(filter(None, settled)),
        sections=sections or frozenset(),
        settled={account: frozenset(days) for account, days in settled.items()},
        undated=frozenset(undated),
    )


class Latest:
    """The last day whose statement is worth asking for: yesterday, unless its statement is known to be late.

    A statement that is ordered too early may never come (reference ibkr 4.1), and days before it wait with it. So
    they are asked for without it first, and then it alone, once an hour.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stalled: dict[dt.date, float] = {}

    def day(self, now: int, coverage: Sequence[Interval]) -> dt.date:
        """The last day to ask for, given what is covered."""
        day = last_settled_day(now)
        edge = complete_up_to(coverage, WINDOWING.source) or 0
        while day in self._stalled:
            earlier = day - dt.timedelta(days=1)
            if edge >= complete_until(earlier) and self._clock.monotonic() >= self._stalled[day]:
                break
            day = earlier
        return day

    def stall(self, day: dt.date) -> None:
        """The statement that ends with `day` does not come."""
        self._stalled = {late: until for late, until in self._stalled.items() if late > day - _LATEST_DELAY}
        self._stalled[day] = self._clock.monotonic() + _STALLED_SECONDS


@dataclass(slots=True)
class _Token:
    """What all users of one token share."""

    pacer: Pacer
    latest: Latest
    budget: RetryBudget = field(default_factory=RetryBudget)


class IbkrFlex:
    """Opens Flex sessions, and keeps what belongs to a token rather than to one job."""

    def __init__(
        self, clock: Clock, base_url: str, *, transport: Callable[[str], httpx.BaseTransport] | None = None
    ) -> None:
        self._clock = clock
        self._base_url = base_url
        self._transport = transport
        self._lock = threading.Lock()
        self._tokens: dict[str, _Token] = {}
        self._name = uuid.uuid4().hex

    def open(self, lease: Lease, probe: bool) -> FlexSession:
        """One job's session."""
        auth, opened = lease.connection.auth, self._clock.monotonic()
        if not isinstance(auth, IbkrFlexAuth):
            raise TypeError(f"a Flex connection has credentials of kind {auth.kind}")

        def now() -> int:
            return lease.server_now + round((self._clock.monotonic() - opened) * 1000)

        name = hashlib.sha256(auth.token.encode()).hexdigest()
        with self._lock:
            token = self._tokens.setdefault(name, _Token(flex_pacer(self._clock), Latest(self._clock)))
        for note in (lease.extras.get("login"), *lease.sibling_notes):
            _recall(token.pacer, note, now(), self._name)
        client = FlexClient(
            auth.token,
            clock=self._clock,
            pacer=token.pacer,
            base_url=self._base_url,
            transport=self._transport,
            budget=token.budget,
            policy=RetryPolicy(attempts=1) if probe else RetryPolicy(),
            patience=_PATIENCE,
        )
        place = Place(lease.extras.get("reports"), lease.connection.settings.import_from)

        def notes(ended: bool) -> dict[str, str]:
            return {"login": _note(token.pacer, now(), self._name), "reports": place.note(stored=ended)}

        reader = FlexReader(
            client,
            auth,
            place,
            account=canonical_account(lease.connection.account_ref or lease.connection.own_ref),
            now=now,
            coverage=trusted(lease.coverage, lease.server_now),
            latest=token.latest,
            forced=lease.mode == "manual",
        )
        return FlexSession(reader, lease, notes)


def last_settled_day(now: int) -> dt.date:
    """The last day whose activity statement can be there: yesterday, once the night's run is over (Eastern)."""
    eastern = dt.datetime.fromtimestamp(now / 1000, _EASTERN)
    return eastern.date() - dt.timedelta(days=1 if eastern.hour >= _READY_HOUR else 2)


def _day_of(instant: int) -> dt.date:
    return dt.datetime.fromtimestamp(instant / 1000, _EASTERN).date()


def _settled_days(statement: StatementBegins) -> set[dt.date] | None:
    """The days of a statement that were final when it was made; None where it does not say which or when."""
    first, last = statement.from_day, statement.to_day
    try:
        made = parse_moment(statement.when_generated, "whenGenerated").ms
    except BadRecord:
        return None
    if first is None or last is None:
        return None
    last = min(last, last_settled_day(made))
    return {first + dt.timedelta(days=number) for number in range((last - first).days + 1)}


def complete_until(day: dt.date) -> int:
    """Up to when statements that end with `day` are complete."""
    return int(dt.datetime.combine(day, dt.time(_CUT_HOUR), _EASTERN).timestamp() * 1000)


def pages_of(
    report: RawReport, place: Place, *, drained: Window | None = None, resume: str | None = None
) -> Iterator[Page]:
    """The report's rows in parts, at least one, but for those that an earlier job stored.

    What the whole document proves stands in the last.
    """
    before = place.rows_stored(report)
    rows: list[FlexRow] = []
    number = 0
    for event in read_flex(report.file):
        if not isinstance(event, FlexRow):
            continue
        number += 1
        if number <= before:
            continue
        rows.append(event)
        if len(rows) == _PAGE:
            place.reach(report, number)
            yield Page(rows)
            place.settle()
            rows = []
    place.end(report)
    yield Page(rows, drained=drained, resume=resume)
    place.settle()


class Place:
    """How far the reading of documents has come; a job's notes carry it to the next job.

    It goes ahead with each page, because it travels with the page's rows in one mutation, and is `stored` only
    once the page was taken: a job that failed must not skip what was refused (invariant I2).
    """

    def __init__(self, note: str | None, import_from: int | None) -> None:
        self._ahead = self._stored = _read_place(note)
        # What was left out for its age is not stored: with another beginning, a document is to be read again.
        self._from = import_from or 0

    def rows_stored(self, report: RawReport) -> int:
        """How many rows of this very document are stored already."""
        return self._stored.rows.get(self._name(report), 0)

    def was_read(self, report: RawReport) -> bool:
        """Is this what the last report of its kind said, which was stored to its end?"""
        return self._stored.ended.get(report.source) == self._name(report)

    def reach(self, report: RawReport, rows: int) -> None:
        """The next page ends with this row."""
        others = list(self._others(report).items())[1 - _PLACES :]
        self._ahead = replace(self._stored, rows={**dict(others), self._name(report): rows})

    def end(self, report: RawReport) -> None:
        """The next page is the document's last."""
        ended = {**self._stored.ended, report.source: self._name(report)}
        self._ahead = _Place(rows=self._others(report), ended=ended)

    def settle(self) -> None:
        """The page was stored."""
        self._stored = self._ahead

    def note(self, *, stored: bool) -> str:
        """For the next job; `stored` leaves out a page that may not have been taken."""
        place = self._stored if stored else self._ahead
        return json.dumps({"rows": place.rows, "ended": place.ended})

    def _name(self, report: RawReport) -> str:
        return f"{report.digest} {self._from}"

    def _others(self, report: RawReport) -> dict[str, int]:
        return {name: rows for name, rows in self._stored.rows.items() if name != self._name(report)}


@dataclass(frozen=True, slots=True)
class _Place:
    """Rows stored of each document that is not read to its end, and the last one of each kind that is."""

    rows: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, str] = field(default_factory=dict)


def _read_place(note: str | None) -> _Place:
    """A note that cannot be read is as good as none."""
    try:
        data = json.loads(note or "{}")
        return _Place({str(name): int(rows) for name, rows in data["rows"].items()}, dict(data["ended"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return _Place()


def remind(ends_at: int | None, now: int) -> tuple[str, ...]:
    """Pure: what the owner of a token should hear of its end (fault C10)."""
    if ends_at is None:
        return ()
    left = ends_at - now
    day = dt.datetime.fromtimestamp(ends_at / 1000, dt.UTC).strftime("%Y-%m-%d")
    if left <= 0:
        return (f"The Flex token was to end on {day}. If you have renewed it, enter its new end.",)
    for days, when in ((1, "within a day"), (3, "within three days"), (14, "within two weeks")):
        if left <= days * DAY_MS:
            return (
                f"The Flex token ends on {day}, {when}. Make a new one under Flex Web Service in Client Portal and "
                "enter it here; a new token ends the old one.",
            )
    return ()


def _listed(accounts: frozenset[str]) -> str:
    return ", ".join(sorted(accounts)) or "none"


def _note(pacer: Pacer, now: int, process: str) -> str:
    """What the next process must know of the token: the broker counts its calls, whoever makes them (fault A15)."""
    noted: dict[str, Any] = {"by": process, "calls": [now - round(ago * 1000) for ago in pacer.recent(LINE)]}
    if (silent := pacer.silent_for) > 0:
        noted["silentUntil"] = now + round(silent * 1000)
    return json.dumps(noted)


def _recall(pacer: Pacer, note: str | None, now: int, process: str) -> None:
    """Keep to what another process noted; a note that cannot be read is as good as none."""
    try:
        noted = json.loads(note or "{}")
        if noted.get("by") == process:
            return
        silent = int(noted.get("silentUntil", 0)) - now
        calls = sorted(now - int(at) for at in noted.get("calls", ()))
    except (ValueError, TypeError, AttributeError):
        return
    if 0 < silent <= DAY_MS:
        pacer.silence(silent / 1000)
    for ago in reversed(calls):
        pacer.assume(LINE, ended=ago / 1000)
