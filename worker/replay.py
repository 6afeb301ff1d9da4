"""The reports that a job received, once more through today's parser: what would change, and changing it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.errors import UnusableFile
from worker.models import Difference, Execution, KeptReport, KeptReports, RawReport, Reject
from worker.normalize.flex_document import FlexRow
from worker.normalize.ibkr_flex import Drift, normalize_rows
from worker.reports import unpack_report
from worker.sessions.ibkr_flex import Place, examine, pages_of
from worker.store import Store


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A job's reports as files."""

    job_id: str
    kept: KeptReports
    paths: tuple[Path, ...]


def unpack_reports(store: Store, job_id: str, directory: Path) -> Unpacked:
    """Write the reports of a job into `directory`. Raises UnusableFile where there is none to read again."""
    kept = store.reports_of(job_id)
    if kept is None:
        raise UnusableFile(f"there is no job {job_id}; see `jobs.list`")
    if not kept.reports:
        gone = "its reports are not kept any more, or not whole" if kept.dropped else "no report was received with it"
        raise UnusableFile(f"job {job_id} cannot be read again: {gone}")
    for report in kept.reports:
        if report.parts == 0:
            raise UnusableFile(
                f"a report of job {job_id} was too large to be kept ({report.size} bytes); import it as a file"
            )
    paths = tuple(directory / f"{number}-{name_of(report)}" for number, report in enumerate(kept.reports, 1))
    for report, path in zip(kept.reports, paths, strict=True):
        with path.open("w+b") as sink:
            unpack_report(report, store.report_part, sink)
    return Unpacked(job_id, kept, paths)


def name_of(report: KeptReport) -> str:
    """What a kept report is called among people."""
    kind = "activity" if report.source == "ibkr_flex_activity" else "confirmations"
    moment = dt.datetime.fromtimestamp(report.kept_at / 1000, dt.UTC)
    return f"{kind}-{moment:%Y-%m-%dT%H%MZ}.xml"


@dataclass(frozen=True, slots=True)
class Reread:
    """One row of a report, read today, and what storing it would change; a reject changes nothing."""

    meaning: Execution | Reject
    difference: Difference | None

    @property
    def fate(self) -> str:
        """What would become of it."""
        return "unreadable" if self.difference is None else self.difference.fate


def compare_reports(store: Store, unpacked: Unpacked) -> Iterator[Reread]:
    """Every row of the job's reports and what storing it again would change. Nothing is written.

    Raises IncompleteReport for a report that was refused then and would be today.
    """
    account = unpacked.kept.account_ref
    if account is None:
        raise UnusableFile(f"the connection of job {unpacked.job_id} has no account yet; sync it first")
    for report, path in zip(unpacked.kept.reports, unpacked.paths, strict=True):
        with path.open("rb") as file:
            examine(file).require(account)
            raw = RawReport(report.source, report.digest, report.size, file)
            for page in pages_of(raw, Place(None, unpacked.kept.import_from)):
                rows: list[FlexRow] = list(page.records)
                meaning = normalize_rows(rows, (account,), Drift()).since(unpacked.kept.import_from)
                differences = store.compare(unpacked.job_id, meaning.executions)
                yield from map(Reread, meaning.executions, differences)
                yield from (Reread(reject, None) for reject in meaning.rejects)
