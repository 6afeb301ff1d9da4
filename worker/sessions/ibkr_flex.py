"""Interactive Brokers' Flex reports: history to the last settled day, today's confirmations, and no session at all.

Joins the web service (`connectors.ibkr_flex`) with the meaning of its documents (`normalize.flex_document`,
`normalize.ibkr_flex`). A document is read whole once before any of its rows is passed on, so that half a statement,
or one without the connection's account, brings nothing (fault B18).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final, cast
from zoneinfo import ZoneInfo

import httpx

from worker.clock import Clock
from worker.connectors.ibkr_flex import MAX_DAYS, Days, FlexClient, Patience, flex_pacer
from worker.coverage import Windowing
from worker.errors import BadRecord, IncompleteReport
from worker.models import Connector, IbkrFlexAuth, Lease, Normalized, Page, Standing, Window
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
from worker.normalize.ibkr_flex import Drift, account_of, canonical_account, is_execution, normalize_rows
from worker.pacing import Pacer
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
_IN_MEMORY: Final = 4 << 20


class FlexSession:
    """One job's reader and what its rows mean."""

    def __init__(self, reader: Connector, lease: Lease, note: Callable[[], str]) -> None:
        self._reader = reader
        self._import_from = lease.connection.settings.import_from
        self._others = frozenset(map(canonical_account, lease.connection.other_accounts))
        self._drift = Drift()
        self._note = note

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

    def notes(self, *, ended: bool = False) -> dict[str, str]:  # noqa: ARG002 - the same before and after
        return {"login": self._note()}


class FlexReader:
    """A `worker.models.Connector` for one account of a token's statements.

    `now` is the true time, `covered` up to when settled days have been read before.
    """

    def __init__(
        self, client: FlexClient, auth: IbkrFlexAuth, *, account: str, now: Callable[[], int], covered: int
    ) -> None:
        self._client = client
        self._activity = auth.activity_query_id
        self._confirm = auth.confirm_query_id
        self._account = account
        self._now = now
        self._covered = covered
        self._confirmed = False

    def check(self, *, inspect: bool) -> Standing:  # noqa: ARG002 - the service has no call that shows a token's rights
        """Nothing is asked: every call counts against the token's ten a minute, and the first report shows the rest."""
        return Standing(now=self._now())

    def fetch(self, window: Window, resume: str | None = None) -> Iterator[Page]:
        """Today's confirmations once a job, then the settled days of `window`, newest first, in requests of a year.

        `resume` is the last day still to be asked for.
        """
        if self._confirm is not None and not self._confirmed:
            self._confirmed = True
            yield Page(())
            with _file() as file:
                self._client.fetch_statement(self._confirm, None, file)
                examine(file).require_section("TradeConfirms")
                yield from pages_of(file)
        if self._activity is None:
            return
        first = _day_of(window.start)
        last = min(_day_of(window.end), last_settled_day(self._now()))
        if complete_until(last) <= self._covered and window.start >= self._covered - WINDOWING.overlap:
            # Only a new day, or the daily look further back, is worth a report.
            return
        if resume is not None:
            last = min(last, dt.date.fromisoformat(resume))
        while first <= last:
            asked = Days(max(first, last - dt.timedelta(days=MAX_DAYS - 1)), last)
            # A page without rows, so that the lease does not run out while a large report is made.
            yield Page(())
            with _file() as file:
                served = self._client.fetch_statement(self._activity, asked, file).days or asked
                self._require_whole(examine(file), served)
                last = asked.first - dt.timedelta(days=1)
                drained = Window(
                    start=max(window.start, complete_until(last)), end=min(window.end, complete_until(served.last))
                )
                yield from pages_of(
                    file,
                    drained=drained if drained.end > drained.start else None,
                    resume=last.isoformat() if first <= last else None,
                )

    def close(self) -> None:
        self._client.close()

    def _require_whole(self, report: Examined, asked: Days) -> None:
        """Raises IncompleteReport unless it is about this account, trades and all the days asked for (B18, B23)."""
        report.require(self._account)
        report.require_section("Trades")
        if self._account in report.undated:
            raise IncompleteReport(
                f"The Flex report does not say in a clear way which days it is about. {CHANGE_DATE_FORMAT}",
                code="ibkr_flex_dates",
                action="check_flex_query",
            )
        wanted = {asked.first + dt.timedelta(days=number) for number in range((asked.last - asked.first).days + 1)}
        if not wanted <= report.settled[self._account]:
            raise IncompleteReport(
                f"The Flex report does not cover the days it was asked for ({asked}). The range is read again at the "
                "next sync.",
                code="ibkr_flex_other_days",
            )


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


@dataclass(slots=True)
class _Token:
    """What all users of one token share."""

    pacer: Pacer
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

    def open(self, lease: Lease, probe: bool) -> FlexSession:
        """One job's session."""
        auth, opened = lease.connection.auth, self._clock.monotonic()
        if not isinstance(auth, IbkrFlexAuth):
            raise TypeError(f"a Flex connection has credentials of kind {auth.kind}")

        def now() -> int:
            return lease.server_now + round((self._clock.monotonic() - opened) * 1000)

        name = hashlib.sha256(auth.token.encode()).hexdigest()
        with self._lock:
            token = self._tokens.setdefault(name, _Token(flex_pacer(self._clock)))
        for note in (lease.extras.get("login"), *lease.sibling_notes):
            _recall(token.pacer, note, now())
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
        account = canonical_account(lease.connection.account_ref or lease.connection.own_ref)
        covered = max((i.end for i in lease.coverage if i.source == WINDOWING.source), default=0)
        reader = FlexReader(client, auth, account=account, now=now, covered=covered)
        return FlexSession(reader, lease, lambda: _note(token.pacer, now()))


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


def _file() -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))


def pages_of(file: BinaryIO, *, drained: Window | None = None, resume: str | None = None) -> Iterator[Page]:
    """The document's rows in parts, at least one; what the whole document proves stands in the last."""
    rows: list[FlexRow] = []
    for event in read_flex(file):
        if isinstance(event, FlexRow):
            rows.append(event)
            if len(rows) == _PAGE:
                yield Page(rows)
                rows = []
    yield Page(rows, drained=drained, resume=resume)


def _listed(accounts: frozenset[str]) -> str:
    return ", ".join(sorted(accounts)) or "none"


def _note(pacer: Pacer, now: int) -> str:
    silent = pacer.silent_for
    return json.dumps({"silentUntil": now + round(silent * 1000)} if silent > 0 else {})


def _recall(pacer: Pacer, note: str | None, now: int) -> None:
    """Stay silent if another process was told so; a note that cannot be read is as good as none."""
    try:
        left = int(json.loads(note or "{}").get("silentUntil", 0)) - now
    except (ValueError, TypeError, AttributeError):
        return
    if 0 < left <= DAY_MS:
        pacer.silence(left / 1000)
