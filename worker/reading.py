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
from typing import Any, Final

from worker import coverage, log, metrics
from worker.brokers import Broker, Session
from worker.coverage import Bookmark
from worker.errors import AuthFailed
from worker.models import Interval, Lease, Page, Progress, Standing, Window
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
        """Key → digest of the rows known to be stored, for the holder of `lease` to read and extend."""
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
    window: Window | None = None
    unsaved: bool = False
    """Coverage or extras changed since the last mutation; `finish` carries them."""
    unfinished: bool = False
    """The job's time was over before all windows were read; the next job goes on at once."""
    fetched: int = 0
    remembered: int = 0
    skipped: int = 0
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
        self._out_of_time = out_of_time
        self._inspect = _inspection_due(lease, now)
        self._inspected_at = now

    def run(self) -> None:
        """Check the connection, then read its windows, newest first. Raises a Failure, LeaseLost or Stopped."""
        standing = self._session.connector.check(inspect=self._inspect)
        account = self._bind(standing)
        self._note(standing)
        tally, windowing, now = self._tally, self._windowing, standing.now
        floor = self._lease.connection.settings.import_from or 0
        tally.coverage = coverage.trusted(tally.coverage, now)
        tally.bookmarks = coverage.load_bookmarks(tally.extras.get("bookmarks"), now)
        deep = now - _number(tally.extras.get("deepReadAt")) >= windowing.deep_every
        newest = coverage.newest_window(
            tally.coverage, windowing, floor=floor, now=now, deep=deep, bookmarks=tally.bookmarks
        )
        older = coverage.older_windows(
            tally.coverage, windowing, floor=floor, before=newest.start, bookmarks=tally.bookmarks
        )
        for window, resume in ((newest, None), *older):
            rest = window
            for page in self._session.connector.fetch(window, resume):
                rest = self._store(page, rest, account, now)
                if self._out_of_time():
                    tally.unfinished = True
                    return
            if window == newest and deep:
                tally.extras["deepReadAt"] = str(now)
                tally.unsaved = True
        edge = coverage.complete_up_to(tally.coverage, windowing.source)
        metrics.coverage_age(self._lease.connection.kind, (now - (edge or 0)) / 1000)

    def _store(self, page: Page, window: Window, account: str, now: int) -> Window:
        """Make a page's rows and its progress one mutation; a page that brings neither is not sent.

        Returns what is left of `window`.
        """
        tally, known = self._tally, self._known
        meaning = self._session.normalize(page, account)
        for warning in meaning.warnings:
            _LOG.warning("sync.drift", warning=warning)
        fresh = {row.key: row for row in meaning.executions if known.get(row.key) != row.digest()}
        rejects = {row.fingerprint: row for row in meaning.rejects if row.fingerprint not in known}
        tally.fetched += len(page.records)
        tally.skipped += page.skipped
        tally.remembered += len(meaning.executions) + len(meaning.rejects) - len(fresh) - len(rejects)
        tally.window = Window(
            start=min(window.start, tally.window.start if tally.window else window.start),
            end=max(window.end, tally.window.end if tally.window else window.end),
        )
        rest = self._advance(page, window, now)
        self._keep_notes(self._session.notes())
        if not fresh and not rejects and not self._job.runs_low:
            return rest
        ingested = self._job.ingest(
            list(fresh.values()),
            list(rejects.values()),
            coverage=tally.coverage,
            extras=tally.extras,
            progress=Progress(
                rows=tally.fetched,
                total=page.total,
                complete_back_to=min((i.start for i in tally.coverage), default=None),
            ),
        )
        tally.unsaved = False
        for fate in tally.fates:
            tally.fates[fate] += getattr(ingested, fate)
        # Rows that Convex would not take are stored as rejects by now; sending them again would change nothing.
        known.update({key: row.digest() for key, row in fresh.items()})
        known.update(dict.fromkeys(rejects, "reject"))
        return rest

    def _advance(self, page: Page, window: Window, now: int) -> Window:
        """Move coverage over what the page drained, and keep the bookmark of what is left of its window."""
        tally = self._tally
        rest = window
        if page.drained is not None:
            settled = coverage.settled(page.drained, self._windowing, now)
            if settled is not None:
                tally.coverage = coverage.add(tally.coverage, self._windowing.source, settled)
                tally.unsaved = True
            rest = Window(start=window.start, end=page.drained.start)
        others = tuple(b for b in tally.bookmarks if b.window.start < window.start or b.window.end > window.end)
        here = (Bookmark(rest, page.resume),) if page.resume is not None and rest.end > rest.start else ()
        if (*others, *here) != tally.bookmarks:
            tally.bookmarks = (*others, *here)
            self._keep_notes({"bookmarks": coverage.dump_bookmarks(tally.bookmarks)})
        return rest

    def _bind(self, standing: Standing) -> str:
        """The account whose executions these are; at first sight the connection is bound to it (fault C11)."""
        bound, seen = self._lease.connection.account_ref, standing.account_ref
        if bound is None:
            account = seen or self._lease.connection.own_ref
            self._job.bind_account(account)
            return account
        if seen is not None and bound not in (seen, self._lease.connection.own_ref):
            raise AuthFailed(
                "These credentials open another account than this connection's. Enter credentials of the same "
                "account, or add a new connection for the other one.",
                code="other_account",
                action="update_credentials",
            )
        return bound

    def _note(self, standing: Standing) -> None:
        if not self._inspect:
            self._tally.notices = tuple(_inspection(self._lease).get("notices", ()))
            return
        self._tally.notices = standing.notices
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
