"""The reading half of a job: windows become pages, pages become rows and progress in Convex.

Every step can be the last one before a crash. Rows, coverage and bookmarks of a page travel in one mutation, so
whatever is stored is consistent and the rest is read again.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from worker import coverage, log, metrics
from worker.brokers import Broker, Session
from worker.coverage import Bookmark
from worker.errors import AuthFailed, BadRecord, ConvexRefused, RetryLater
from worker.models import (
    Execution,
    Interval,
    Lease,
    Page,
    Progress,
    RawReport,
    Reject,
    Retried,
    Standing,
    Unsettled,
    Window,
)
from worker.normalize.fields import CUT_SHORT
from worker.reports import keep_report
from worker.store import Job

_LOG = log.get(__name__)

INSPECT_EVERY_MS: Final = 24 * 3_600_000
"""Users edit their keys; what a key may do is looked at once a day (reference kraken 2.3)."""


class KnownRows:
    """Rows that Convex already holds as they are, so that a quiet poll sends nothing.

    Valid only while nobody else wrote: each lease of a connection has the next fence, so a fence that is not the
    successor of the remembered one means that another worker or an undo came between. Then everything is sent
    once more, and the mutation finds it known.
    """

    LIMIT: Final = 20_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[int, OrderedDict[str, str]]] = {}

    def open(self, lease: Lease) -> OrderedDict[str, str]:
        """Version → digest of the rows known to be stored, for the holder of `lease` to read and extend."""
        with self._lock:
            fence, rows = self._rows.get(lease.connection.connection_id, (None, OrderedDict[str, str]()))
            if fence is None or fence + 1 != lease.fence:
                rows = OrderedDict()
            while len(rows) > self.LIMIT:
                rows.popitem(last=False)
            self._rows[lease.connection.connection_id] = (lease.fence, rows)
            return rows


@dataclass(slots=True)
class Tally:
    """What one job has done so far; only its own thread touches it."""

    coverage: tuple[Interval, ...]
    extras: dict[str, str]
    bookmarks: tuple[Bookmark, ...] = ()
    notices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """Said of this job, and no problem that stands open."""
    lost: tuple[Window, ...] = ()
    """Time ranges that are not proven complete and that this source can no longer show."""
    window: Window | None = None
    unsaved: bool = False
    """Coverage or extras changed since the last mutation; `finish` carries them."""
    unserved: RetryLater | None = None
    """Why the broker has nothing yet for one of the windows."""
    unfinished: bool = False
    """The job's time was over before all windows were read; the next job goes on at once."""
    fetched: int = 0
    remembered: int = 0
    skipped: int = 0
    foreign: int = 0
    """Rejects that could be read well: their account is simply no connection's."""
    fates: dict[str, int] = field(
        default_factory=lambda: {"inserted": 0, "updated": 0, "known": 0, "held": 0, "rejected": 0}
    )


class Reading:
    """Reads what one lease's connection has not covered."""

    def __init__(
        self,
        lease: Lease,
        job: Job,
        tally: Tally,
        broker: Broker,
        session: Session,
        known: OrderedDict[str, str],
        noted: set[str],
        *,
        now: int,
        out_of_time: Callable[[], bool],
    ) -> None:
        self._lease = lease
        self._job = job
        self._tally = tally
        self._windowing = broker.windowing
        self._session = session
        self._known = known
        self._noted = noted
        self._out_of_time = out_of_time
        self._inspect = _inspection_due(lease, now)
        self._inspected_at = now

    def run(self) -> None:
        """Check the connection, then read its windows, newest first. Raises a Failure, LeaseLost or Stopped."""
        try:
            self._read()
        finally:
            # A job that failed has made calls too, and the next process must know of them (faults C9, A7).
            self._keep_notes(self._session.notes(ended=True))

    def _read(self) -> None:
        standing = self._session.connector.check(inspect=self._inspect)
        account = self._bind(standing)
        self._note(standing)
        self._retry_rejects(account)
        tally, windowing, now = self._tally, self._windowing, standing.now
        wanted = self._lease.connection.settings.import_from
        horizon = now - windowing.memory if windowing.memory is not None else 0
        first = 0 if windowing.depth is None else now - windowing.depth
        floor = max(first if wanted is None else wanted, horizon)
        tally.coverage = coverage.trusted(tally.coverage, now)
        tally.bookmarks = coverage.load_bookmarks(tally.extras.get("bookmarks"), Window(start=floor, end=now))
        deep = now - _number(tally.extras.get("deepReadAt")) >= windowing.deep_every
        newest = coverage.newest_window(
            tally.coverage, windowing, floor=floor, now=now, deep=deep, bookmarks=tally.bookmarks
        )
        older = coverage.older_windows(
            tally.coverage, windowing, floor=floor, before=newest.start, bookmarks=tally.bookmarks
        )
        for index, (window, resume) in enumerate(((newest, None), *older)):
            # The first older window gets a page in any case, or a slow newest one would starve it for ever.
            if index > 1 and self._out_of_time():
                tally.unfinished = True
                return
            rest = window
            for page in self._session.connector.fetch(window, resume):
                rest = self._store(page, rest, account, now, newest=window == newest, deep=deep and window == newest)
                if page.resume is not None and self._out_of_time():
                    tally.unfinished = True
                    return
        tally.lost = coverage.lost((*tally.coverage, *self._lease.sibling_coverage), floor=wanted, horizon=horizon)
        edge = coverage.complete_up_to(tally.coverage, windowing.source)
        if edge is not None:
            metrics.covered_up_to(self._lease.connection.kind, self._lease.connection.connection_id, edge)
        if tally.unserved is not None:
            raise tally.unserved

    def _store(self, page: Page, window: Window, account: str, now: int, *, newest: bool, deep: bool) -> Window:
        """Make a page's rows and its progress one mutation; a page that brings neither is not sent.

        Of the newest window progress without rows waits for `finish`, so that a quiet poll costs two calls; of an older
        one it does not: an empty year that was long in the making is not asked for again after a crash.
        Returns what is left of `window`.
        """
        tally, known = self._tally, self._known
        if page.report is not None:
            self._keep_report(page.report)
        meaning = self._session.normalize(page, account)
        for warning in set(meaning.warnings) - self._noted:
            self._noted.add(warning)
            _LOG.warning("sync.drift", warning=warning)
        tally.notices = tuple(dict.fromkeys((*tally.notices, *meaning.notices)))
        tally.remarks = tuple(dict.fromkeys((*tally.remarks, *page.remarks)))
        fresh = {row.version: row for row in meaning.executions if known.get(row.version) != row.digest()}
        rejects = {row.fingerprint: row for row in meaning.rejects if row.fingerprint not in known}
        tally.window = Window(
            start=min(window.start, tally.window.start if tally.window else window.start),
            end=max(window.end, tally.window.end if tally.window else window.end),
        )
        ahead, bookmarks, rest = self._advanced(page, window, now)
        extras = {**tally.extras, **self._session.notes()}
        if bookmarks != tally.bookmarks:
            extras["bookmarks"] = coverage.dump_bookmarks(bookmarks)
        if deep and (page.drained is not None or page.resume is not None):
            # Noted with the first page that got anywhere: what is left is bookmarked, not begun again by the next job.
            # A report that never came was no look.
            extras["deepReadAt"] = str(now)
        tally.unserved = tally.unserved or page.unserved
        if fresh or rejects or self._job.runs_low or (not newest and ahead != tally.coverage):
            progress = Progress(
                rows=tally.fetched + len(page.records) - meaning.skipped,
                total=page.total,
                complete_back_to=min((i.start for i in ahead), default=None),
            )
            self._ingest(fresh, rejects, ahead, extras, progress)
        else:
            tally.unsaved = tally.unsaved or (ahead, extras) != (tally.coverage, tally.extras)
        # Only now: had the rows been refused, `finish` would store the progress without them (I2), and nothing
        # would have become of what was fetched (I4).
        tally.coverage, tally.bookmarks, tally.extras = ahead, bookmarks, extras
        tally.fetched += len(page.records) - meaning.skipped
        tally.skipped += page.skipped + meaning.skipped
        tally.remembered += len(meaning.executions) + len(meaning.rejects) - len(fresh) - len(rejects)
        return rest

    def _retry_rejects(self, account: str) -> None:
        """Read once more what could not be read before; a mended normaliser may."""
        unsettled: list[Unsettled] = []
        for reject in self._lease.rejects:
            try:
                execution = self._read_again(reject, account)
                ingested = self._job.settle(reject.fingerprint, execution)
            except (BadRecord, ConvexRefused) as refusal:
                unsettled.append(Unsettled(fingerprint=reject.fingerprint, reason=refusal.sentence))
                continue
            self._tally.fetched += execution is not None
            for fate in self._tally.fates:
                self._tally.fates[fate] += getattr(ingested, fate)
        if unsettled:
            self._job.leave_unsettled(unsettled)

    def _read_again(self, reject: Retried, account: str) -> Execution | None:
        """The execution of a reject's row, None where it says nothing that is imported; BadRecord if it stays one."""
        if reject.account_ref not in (None, account):
            raise BadRecord(
                f"This row is of account {reject.account_ref}. A connection to that account imports it.",
                field="account",
            )
        try:
            row = json.loads(reject.raw_payload, parse_float=Decimal, parse_constant=Decimal)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or reject.raw_payload.startswith(CUT_SHORT):
            raise BadRecord("The row was not kept whole, so it cannot be read again.", field="rawPayload")
        meaning = self._session.read_again(row, account)
        for again in meaning.rejects:
            raise BadRecord(again.reason, field="rawPayload")
        return next((row for row in meaning.executions if row.account_ref == account), None)

    def _keep_report(self, report: RawReport) -> None:
        """Without its raw report an import is as right as with it, so a report that is refused stops nothing."""
        try:
            keep_report(self._job, report)
        except ConvexRefused as refusal:
            _LOG.warning("sync.report_not_kept", reason=refusal.sentence)
            report.file.seek(0)

    def _ingest(
        self,
        fresh: dict[str, Execution],
        rejects: dict[str, Reject],
        ahead: tuple[Interval, ...],
        extras: dict[str, str],
        progress: Progress,
    ) -> None:
        tally, known = self._tally, self._known
        ingested, again = self._job.ingest(
            list(fresh.values()), list(rejects.values()), coverage=ahead, extras=extras, progress=progress
        )
        tally.unsaved = False
        for fate in tally.fates:
            tally.fates[fate] += getattr(ingested, fate)
        known.update({version: row.digest() for version, row in fresh.items() if version not in again})
        tally.foreign += sum(reject.account_ref is not None for reject in rejects.values())
        known.update(dict.fromkeys(rejects, "reject"))

    def _advanced(
        self, page: Page, window: Window, now: int
    ) -> tuple[tuple[Interval, ...], tuple[Bookmark, ...], Window]:
        """Coverage with what the page drained, the bookmarks with that of what is left of its window, and the rest."""
        covered, rest = self._tally.coverage, window
        if page.drained is not None:
            settled = coverage.settled(page.drained, self._windowing, now)
            if settled is not None:
                covered = coverage.add(covered, self._windowing.source, settled)
            rest = Window(start=window.start, end=page.drained.start)
        others = tuple(b for b in self._tally.bookmarks if b.window.start < window.start or b.window.end > window.end)
        here = (Bookmark(rest, page.resume),) if page.resume is not None and rest.end > rest.start else ()
        return covered, (*others, *here), rest

    def _bind(self, standing: Standing) -> str:
        """The account whose executions these are; at first sight the connection is bound to it (fault C11).

        A broker that did not name the account at first may do so later. Its name is noted then, if the credentials
        are still those of the last look; with new ones nobody could tell whether it is the same account.
        """
        connection, seen = self._lease.connection, standing.account_ref
        bound = connection.account_ref
        if bound is None:
            account = seen or connection.own_ref
            self._job.bind_account(account)
            return account
        if seen is None:
            return bound
        expected = self._tally.extras.get("account") if bound == connection.own_ref else bound
        if expected is None and _inspection(self._lease).get("authVersion") == connection.auth_version:
            self._keep_notes({"account": seen})
        elif seen != expected:
            raise AuthFailed(
                "These credentials open another account than this connection's. Enter credentials of the same "
                "account, or add a new connection for the other one.",
                code="other_account",
                action="update_credentials",
            )
        return bound

    def _note(self, standing: Standing) -> None:
        if not self._inspect:
            self._tally.notices = (*_inspection(self._lease).get("notices", ()), *standing.news)
            return
        self._tally.notices = (*standing.notices, *standing.news)
        inspection = {
            "at": self._inspected_at,
            "authVersion": self._lease.connection.auth_version,
            "notices": standing.notices,
        }
        self._keep_notes({"inspected": json.dumps(inspection)})

    def _keep_notes(self, notes: dict[str, str]) -> None:
        if any(self._tally.extras.get(name) != text for name, text in notes.items()):
            self._tally.extras.update(notes)
            self._tally.unsaved = True


def _inspection(lease: Lease) -> dict[str, Any]:
    try:
        data = json.loads(lease.extras.get("inspected", "{}"))
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _inspection_due(lease: Lease, now: int) -> bool:
    data = _inspection(lease)
    at = data.get("at")
    return (
        lease.connection.account_ref is None
        or lease.connection.status != "active"
        or not isinstance(at, int)
        or not 0 <= now - at < INSPECT_EVERY_MS
        or data.get("authVersion") != lease.connection.auth_version
    )


def _number(text: str | None) -> int:
    try:
        return int(text or "0")
    except ValueError:
        return 0
