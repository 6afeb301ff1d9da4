"""Flex statements from files: what a person downloaded goes the way of everything else, once for each row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final

from worker.coverage import Windowing
from worker.errors import IncompleteReport
from worker.models import Lease, Page, Standing, Window
from worker.normalize.flex_document import DocumentEnds, FlexRefusal, FlexRow, Section, StatementBegins, read_flex
from worker.normalize.flex_document import StatementEnds as Ends
from worker.normalize.ibkr_flex import canonical_account
from worker.sessions.ibkr_flex import FlexSession, complete_until, pages_of

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
    """A `worker.models.Connector` over files; `open_file` may watch how far they are read."""

    def __init__(self, paths: Sequence[Path], *, account: str | None, now: int, open_file: Open) -> None:
        self._paths = paths
        self._account = account
        self._now = now
        self._open = open_file

    def check(self, *, inspect: bool) -> Standing:  # noqa: ARG002 - files have no rights
        """Every file is whole and about the connection's account, before a row of any is imported."""
        for path in self._paths:
            self._examined(path)
        return Standing(now=self._now, account_ref=self._account)

    def fetch(self, window: Window, resume: str | None = None) -> Iterator[Page]:  # noqa: ARG002 - files say their time
        """All rows of all files; the days that an activity statement is about become covered with its last page."""
        for path in self._paths:
            drained = self._examined(path)
            with self._open(path) as file:
                yield from pages_of(file, drained=drained)

    def close(self) -> None:
        """Files are closed as soon as they are read."""

    def _examined(self, path: Path) -> Window | None:
        """The time range an activity statement covers; None for a confirmation. Raises IncompleteReport."""
        accounts: set[str] = set()
        days: list[tuple[dt.date, dt.date]] = []
        sections: frozenset[Section] = frozenset()
        ours = False
        with self._open(path) as file:
            for event in read_flex(file):
                match event:
                    case FlexRefusal():
                        raise _unusable(path, f"it is a message of the Flex service: {event.message}")
                    case StatementBegins():
                        accounts.add(canonical_account(event.account))
                        ours = self._account in (None, canonical_account(event.account))
                        if ours and event.from_day is not None and event.to_day is not None:
                            days.append((event.from_day, event.to_day))
                    case Ends() if ours:
                        sections |= event.sections
                    case Ends() | FlexRow() | DocumentEnds():
                        pass
        if self._account is not None and self._account not in accounts:
            raise _unusable(
                path, f"it has no statement of account {self._account}, only of {', '.join(sorted(accounts))}"
            )
        if not sections:
            raise _unusable(path, "its Flex query leaves out trades; add the section Trades to the query")
        if "Trades" not in sections or not days:
            return None
        first, last = min(first for first, _ in days), max(last for _, last in days)
        return Window(start=complete_until(first - dt.timedelta(days=1)), end=min(complete_until(last), self._now))


def open_files(paths: Sequence[Path], *, open_file: Open) -> Callable[[Lease, bool], FlexSession]:
    """Opens a job's session over `paths`, for any connection to Interactive Brokers."""

    def open_session(lease: Lease, probe: bool) -> FlexSession:  # noqa: ARG001 - nothing is asked of anybody
        account = canonical_account(lease.connection.account_ref or "") or None
        reader = FlexFiles(paths, account=account, now=lease.server_now, open_file=open_file)
        return FlexSession(reader, lease, lambda: lease.extras.get("login", "{}"))

    return open_session


def _unusable(path: Path, why: str) -> IncompleteReport:
    return IncompleteReport(f"{path.name} cannot be imported: {why}.", code="flex_file")
