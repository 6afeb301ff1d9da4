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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final, cast
from zoneinfo import ZoneInfo

import httpx

from worker import log
from worker.clock import Clock
from worker.connectors.ibkr_flex import MAX_DAYS, Days, FlexClient, Patience, flex_pacer
from worker.coverage import Windowing
from worker.errors import IncompleteReport
from worker.models import Connector, IbkrFlexAuth, Lease, Normalized, Page, Standing, Window
from worker.normalize.flex_document import FlexRefusal, FlexRow, Section, StatementBegins, StatementEnds, read_flex
from worker.normalize.ibkr_flex import Drift, account_of, canonical_account, is_execution, normalize_rows
from worker.pacing import Pacer
from worker.retry import RetryBudget, RetryPolicy

_LOG = log.get(__name__)

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
        self._import_from = lease.connection.settings.import_from or 0
        self._others = frozenset(map(canonical_account, lease.connection.other_accounts))
        self._drift = Drift()
        self._note = note

    @property
    def connector(self) -> Connector:
        return self._reader

    def normalize(self, page: Page, account_ref: str) -> Normalized:
        rows: Sequence[FlexRow] = page.records
        meaning = normalize_rows(rows, (account_ref,), self._drift)
        wanted = tuple(row for row in meaning.executions if row.occurred_at >= self._import_from)
        unwanted = len(meaning.executions) - len(wanted)
        strangers = {account_of(row) for row in rows if is_execution(row)} - {account_ref, None} - self._others
        notices = tuple(
            f"This Flex query also reports account {account}, which no connection imports. Add a connection for it."
            for account in sorted(filter(None, strangers))
        )
        return Normalized(wanted, meaning.rejects, meaning.warnings, notices, meaning.skipped + unwanted)

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
                self._checked(file, "TradeConfirms", expected=None)
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
                covered = self._checked(file, "Trades", expected=served)
                last = asked.first - dt.timedelta(days=1)
                drained = Window(
                    start=max(window.start, complete_until(last)), end=min(window.end, complete_until(covered.last))
                )
                yield from pages_of(
                    file,
                    drained=drained if drained.end > drained.start else None,
                    resume=last.isoformat() if first <= last else None,
                )

    def close(self) -> None:
        self._client.close()

    def _checked(self, file: BinaryIO, section: Section, *, expected: Days | None) -> Days:
        """The days a document covers, once it is whole and about this account; leaves `file` at its start.

        Raises IncompleteReport otherwise: nothing of such a document is imported.
        """
        accounts: set[str] = set()
        covered: set[dt.date] = set()
        for event in read_flex(file):
            match event:
                case FlexRefusal():
                    raise IncompleteReport(
                        f"Interactive Brokers sent no statement but a message: {event.message}",
                        code="ibkr_flex_no_statement",
                    )
                case StatementBegins():
                    accounts.add(account := canonical_account(event.account))
                    if account == self._account:
                        covered |= _days_of(event, expected)
                case StatementEnds() if section not in event.sections:
                    raise IncompleteReport(
                        f"The Flex query leaves out the section {section}, so its report says nothing of trades. "
                        "Add the section to the query in Client Portal.",
                        code="ibkr_flex_no_section",
                        action="check_flex_query",
                    )
                case _:
                    pass
        file.seek(0)
        if expected is None:
            return Days(dt.date.min, dt.date.min)
        if self._account not in accounts:
            raise IncompleteReport(
                f"The Flex report has no statement of account {self._account}, only of {_listed(accounts)}. Tick the "
                "account in the Flex query in Client Portal; until then nothing of it is imported.",
                code="ibkr_flex_account_missing",
                action="check_flex_query",
            )
        if len(covered) < (expected.last - expected.first).days + 1:
            raise IncompleteReport(
                f"The Flex report does not cover the days it was asked for ({expected}). The range is read again at "
                "the next sync.",
                code="ibkr_flex_other_days",
            )
        return expected


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


def _days_of(statement: StatementBegins, wanted: Days | None) -> set[dt.date]:
    """The days of `wanted` that a statement is about; one account may have a statement for each day."""
    first, last = statement.from_day, statement.to_day
    if wanted is None or first is None or last is None:
        return set()
    first, last = max(first, wanted.first), min(last, wanted.last)
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


def _listed(accounts: set[str]) -> str:
    return ", ".join(sorted(filter(None, accounts))) or "none"


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
