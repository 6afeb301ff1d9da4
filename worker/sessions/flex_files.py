"""Flex statements from files: what a person downloaded goes the way of everything else, once for each row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from worker.coverage import Windowing
from worker.errors import IncompleteReport
from worker.models import Lease, Page, RawReport, Source, Standing, Window
from worker.normalize.ibkr_flex import canonical_account
from worker.reports import content_digest
from worker.sessions.ibkr_flex import Examined, FlexSession, Place, complete_until, examine, pages_of

WINDOWING: Final = Windowing(
    # Nothing is read but the files: no overlap, no history.
    source="ibkr_flex_activity",
    overlap=0,
    deep_overlap=0,
    deep_every=10**15,
    settle=0,
    depth=0,
)

Open = Callable[[Path], AbstractContextManager[BinaryIO]]


class FlexFiles:
    """A `worker.models.Connector` over files; `open_file` may watch how far they are read.

    `account` is the connection's; one that has none yet gets that of the files. Rows before `since` are left out.
    """

    def __init__(
        self, paths: Sequence[Path], place: Place, *, account: str | None, since: int, now: int, open_file: Open
    ) -> None:
        self._paths = paths
        self._place = place
        self._account = account
        self._since = since
        self._now = now
        self._open = open_file
        self._reports: dict[Path, Examined] = {}

    def check(self, *, inspect: bool) -> Standing:  # noqa: ARG002 - files have no rights
        """Every file is whole and about the connection's account, before a row of any is imported."""
        self._reports = {path: self._examined(path) for path in self._paths}
        if self._account is None:
            found = frozenset().union(*(report.accounts for report in self._reports.values()))
            if len(found) != 1:
                raise IncompleteReport(
                    f"The files are about several accounts ({', '.join(sorted(found))}), and this connection has none "
                    "yet. Make the connection with the account it is for.",
                    code="flex_file",
                )
            (self._account,) = found
        for path, report in self._reports.items():
            with _naming(path):
                report.require(self._account)
        return Standing(now=self._now, account_ref=self._account)

    def fetch(self, window: Window, resume: str | None = None) -> Iterator[Page]:  # noqa: ARG002 - files say their time
        """All rows of all files, once; the settled days of an activity statement become covered with its last page."""
        reports, self._reports = self._reports, {}
        for path, report in reports.items():
            covered = _windows(report.settled[self._account or ""], self._since)
            with self._open(path) as file:
                source: Source = "ibkr_flex_activity" if "Trades" in report.sections else "ibkr_flex_confirm"
                raw = RawReport(source, content_digest(file), path.stat().st_size, file)
                yield Page((), report=raw)
                yield from pages_of(raw, self._place, drained=covered[0] if covered else None)
            # Days with holes between them are several ranges; the last page can prove one.
            for more in covered[1:]:
                yield Page((), drained=more)

    def close(self) -> None:
        """Files are closed as soon as they are read."""

    def _examined(self, path: Path) -> Examined:
        with self._open(path) as file, _naming(path):
            report = examine(file)
            if not report.sections:
                report.require_section("Trades")
            return report


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which of the files cannot be imported."""
    try:
        yield
    except IncompleteReport as failure:
        raise IncompleteReport(f"{path.name} cannot be imported. {failure.sentence}", code="flex_file") from failure


def _windows(days: Collection[dt.date], since: int) -> list[Window]:
    """The time ranges from `since` on in which statements about these days are complete, one for each run of days."""
    runs: list[Window] = []
    for day in sorted(days):
        start, end = max(since, complete_until(day - dt.timedelta(days=1))), complete_until(day)
        if start >= end:
            continue
        if runs and runs[-1].end == start:
            start = runs.pop().start
        runs.append(Window(start=start, end=end))
    return runs


def open_files(paths: Sequence[Path], *, open_file: Open, afresh: bool = False) -> Callable[[Lease, bool], FlexSession]:
    """Opens a job's session over `paths`, for any connection to Interactive Brokers.

    `afresh`: every row is read, wherever an earlier job stopped, and nothing is noted of it.
    """

    def open_session(lease: Lease, probe: bool) -> FlexSession:  # noqa: ARG001 - nothing is asked of anybody
        account = canonical_account(lease.connection.account_ref or "") or None
        since = lease.connection.settings.import_from
        place = Place(None if afresh else lease.extras.get("reports"), since)
        reader = FlexFiles(paths, place, account=account, since=since or 0, now=lease.server_now, open_file=open_file)
        return FlexSession(reader, lease, lambda ended: {} if afresh else {"reports": place.note(stored=ended)})

    return open_session
