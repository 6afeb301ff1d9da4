"""One lease from start to finish: claim, read, finish on every way out.

Exceptions become outcomes in exactly one place, `judge`.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from structlog.contextvars import bound_contextvars

from worker import breaker, log, metrics
from worker.brokers import Broker
from worker.clock import Clock
from worker.errors import (
    AuthFailed,
    BadRecord,
    ConvexRefused,
    ConvexUnavailable,
    Failure,
    IncompleteReport,
    LeaseLost,
    Rejected,
    RetryLater,
    Stopped,
    Unavailable,
)
from worker.models import (
    ConnectionKind,
    Counts,
    JobMode,
    JobOutcome,
    JobReason,
    Lease,
    Problem,
    Refusal,
    Window,
)
from worker.reading import KnownRows, Reading, Tally
from worker.store import Job, Store

_LOG = log.get(__name__)

DAY_MS: Final = 24 * 3_600_000
CANCELLED: Final = JobOutcome(status="failed", reason="cancelled")


@dataclass(frozen=True, slots=True)
class Report:
    """What one attempt at a connection came to, for the scheduler and for people."""

    connection_id: str
    label: str
    outcome: JobOutcome | Refusal | None
    """None: nothing could be recorded, because Convex went away or another worker took over."""
    problem: str = ""
    fetched: int = 0
    inserted: int = 0
    updated: int = 0
    known: int = 0
    held: int = 0
    rejected: int = 0
    seconds: float = 0.0
    next_sync_in: int = 0
    """Milliseconds until the connection is due again."""
    unfinished: bool = False
    """There is more to read; the next job should start at once, as a backfill."""
    job_id: str | None = None
    """None: no job was granted."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends: its outcome, what the breaker hears of it, and when to come again (milliseconds)."""

    outcome: JobOutcome
    event: breaker.Event
    next_sync_in: int


class Syncer:
    """Syncs one connection a call; several threads may share it."""

    def __init__(
        self,
        store: Store,
        brokers: Mapping[ConnectionKind, Broker],
        clock: Clock,
        *,
        stop: threading.Event | None = None,
        job_seconds: float = 600,
    ) -> None:
        self._store = store
        self._brokers = brokers
        self._clock = clock
        self._stop = stop or threading.Event()
        self._job_seconds = job_seconds
        self._known = KnownRows()
        self._noted: set[str] = set()
        """What of the brokers' news was logged already: once a process is enough (fault B13)."""
        self._running: dict[str, Job] = {}

    def run(self, connection_id: str, mode: JobMode, *, label: str = "", early: bool = False) -> Report:
        """Claim the connection, read what is not covered, record how it went.

        `early`: what blocked the connection was seen to be over, so it is synced although it is not due.

        When Convex is away the report has no outcome: then nothing was fetched, or what was fetched and not
        stored will be fetched again.
        """
        return self._run(
            connection_id, label or connection_id, lambda: self._store.claim(connection_id, mode, early=early)
        )

    def run_files(self, connection_id: str, *, replays: str | None = None) -> Report:
        """Claim the connection and read files instead of asking the broker; `replays`: those a job had received."""
        return self._run(
            connection_id,
            connection_id,
            lambda: self._store.claim(connection_id, "manual", from_files=True, replays=replays),
        )

    def _run(self, connection_id: str, name: str, claim: Callable[[], Lease | Refusal]) -> Report:
        try:
            answer = claim()
        except (ConvexUnavailable, ConvexRefused, Stopped) as error:
            _LOG.warning("sync.not_claimed", connection=connection_id, error=str(error))
            return Report(connection_id, name, None, problem=str(error))
        if isinstance(answer, Refusal):
            return Report(connection_id, name, answer)
        with bound_contextvars(connection=connection_id, job=answer.job_id):
            return self._attempt(answer, answer.connection.label or name)

    def abandon(self) -> None:
        """End every running job as cancelled, for a process that has no time left to wait for them.

        Their threads may still be waiting for a broker; whatever they write later is refused, because their
        jobs are over.
        """
        for job in list(self._running.values()):
            try:
                job.finish(CANCELLED, Counts(), next_sync_in=0)
            except (LeaseLost, ConvexUnavailable, ConvexRefused, Stopped) as error:
                _LOG.warning("sync.not_recorded", error=str(error))

    def _attempt(self, lease: Lease, label: str) -> Report:
        started = self._clock.monotonic()
        job = self._store.job(lease)
        tally = Tally(coverage=lease.coverage, extras=dict(lease.extras))
        self._running[lease.job_id] = job
        _LOG.info("sync.leased", mode=lease.mode, fence=lease.fence)
        try:
            ending = self._read(lease, job, tally)
            self._finish(lease, job, tally, ending)
        except (LeaseLost, ConvexUnavailable, ConvexRefused, Stopped) as error:
            _LOG.warning("sync.not_recorded", error=str(error))
            return Report(lease.connection.connection_id, label, None, problem=str(error), job_id=lease.job_id)
        finally:
            del self._running[lease.job_id]
        fates = dict(tally.fates, known=tally.fates["known"] + tally.remembered)
        seconds = self._clock.monotonic() - started
        outcome, kind = ending.outcome, lease.connection.kind
        _LOG.info(
            "sync.finished",
            status=outcome.status,
            reason=outcome.reason,
            problem=outcome.problem.sentence if outcome.problem else None,
            seconds=round(seconds, 3),
            fetched=tally.fetched,
            **fates,
        )
        metrics.job_finished(kind, outcome.status, outcome.reason, seconds)
        for fate, count in fates.items():
            metrics.rows(kind, fate, count)
        return Report(
            lease.connection.connection_id,
            label,
            outcome,
            problem=outcome.problem.sentence if outcome.problem else "",
            fetched=tally.fetched,
            seconds=seconds,
            next_sync_in=ending.next_sync_in,
            unfinished=tally.unfinished,
            job_id=lease.job_id,
            **fates,
        )

    def _read(self, lease: Lease, job: Job, tally: Tally) -> Ending:
        """Read the connection; every exception but the loss of the lease or of Convex becomes an ending."""
        interval = lease.connection.settings.interval_minutes * 60_000
        deadline = self._clock.monotonic() + self._job_seconds

        def out_of_time() -> bool:
            # A signal sets a flag; the page that was under way is stored by now (fault E1).
            if self._stop.is_set():
                raise Stopped
            return self._clock.monotonic() >= deadline

        try:
            broker = self._brokers[lease.connection.kind]
            probe = breaker.begin(lease.breaker, self._clock.now()).phase == "half_open"
            session = broker.open(lease, probe)
            try:
                Reading(
                    lease, job, tally, broker, session, self._known.open(lease), self._noted,
                    now=self._clock.now(), out_of_time=out_of_time,
                ).run()  # fmt: skip
            finally:
                session.connector.close()
        except (Failure, Stopped) as failure:
            return judge(failure, now=self._clock.now(), interval=interval, progressed=tally.fates["inserted"] > 0)
        except ConvexRefused as refusal:
            return _failed("rejected", Problem(code=refusal.code, sentence=refusal.sentence), interval)
        except (LeaseLost, ConvexUnavailable):
            raise
        except Exception:  # noqa: BLE001 - a bug met by one connection neither stops the others nor leaves its job open
            _LOG.exception("sync.bug")
            return _failed("rejected", _BUG, interval)
        return conclude(tally, interval=interval)

    def _finish(self, lease: Lease, job: Job, tally: Tally, ending: Ending) -> None:
        now = self._clock.now()
        interval = lease.connection.settings.interval_minutes * 60_000
        job.finish(
            ending.outcome,
            Counts(
                fetched=tally.fetched,
                remembered=tally.remembered,
                skipped=tally.skipped,
                errors=1 if ending.event == "fault" else 0,
            ),
            breaker=breaker.after(breaker.begin(lease.breaker, now), ending.event, now, interval=interval),
            next_sync_in=ending.next_sync_in,
            coverage=tally.coverage if tally.unsaved else None,
            extras=tally.extras if tally.unsaved else None,
            window=tally.window,
        )


_BUG: Final = Problem(
    code="internal_error",
    sentence="The worker met an error of its own. The import is tried again at the next interval.",
    action="If this stays, show the worker's log to whoever runs it.",
)


def _failed(reason: JobReason, problem: Problem, interval: int) -> Ending:
    return Ending(JobOutcome(status="failed", reason=reason, problem=problem), "fault", interval)


def conclude(tally: Tally, *, interval: int) -> Ending:
    """Pure: how a job ends that met no failure."""
    next_sync_in = 0 if tally.unfinished else interval
    # Rows of an account that nobody connected have a notice of their own.
    if (rejected := tally.fates["rejected"] - tally.foreign) > 0:
        problem = Problem(
            code="bad_records",
            sentence=f"{rejected} {'row' if rejected == 1 else 'rows'} from the broker could not be read. "
            "They are kept with their reason; everything else was imported.",
            action="Look at them under Import Errors.",
        )
        return Ending(JobOutcome(status="partial", reason="bad_records", problem=problem), "success", next_sync_in)
    if tally.lost:
        outcome = JobOutcome(status="partial", reason="gap", problem=_gap(tally.lost, tally.notices))
        return Ending(outcome, "success", next_sync_in)
    said = " ".join((*tally.notices, *tally.remarks))
    word = Problem(code="notice" if tally.notices else "remark", sentence=said) if said else None
    return Ending(JobOutcome(status="succeeded", problem=word), "success", next_sync_in)


def _gap(lost: Sequence[Window], notices: Sequence[str]) -> Problem:
    """Time ranges that nothing but a statement can prove complete any more (fault E10)."""
    ranges = [f"{_minute(window.start)} to {_minute(window.end)}" for window in lost[-3:]]
    more = f" and {len(lost) - 3} earlier ranges" if len(lost) > 3 else ""
    sentences = (
        f"Executions from {', '.join(ranges)}{more} (UTC) may be missing: Interactive Brokers' live API shows the last "
        "seven days only. A Flex statement of that time closes the gap. If you did not trade then, nothing is missing.",
        *notices,
    )
    return Problem(code="gap", sentence=" ".join(sentences), action="import_flex")


def _minute(instant: int) -> str:
    return dt.datetime.fromtimestamp(instant / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M")


def judge(failure: Failure | Stopped, *, now: int, interval: int, progressed: bool) -> Ending:
    """Pure: how a job ends that met `failure`. `progressed`: some of its rows were stored before."""
    if isinstance(failure, Stopped):
        return Ending(CANCELLED, "neither", 0)
    url = failure.url if isinstance(failure, AuthFailed) else None
    problem = Problem(code=failure.code, sentence=failure.sentence, action=failure.action, url=url)
    failed: JobOutcome = JobOutcome(status="partial" if progressed else "failed", problem=problem)
    match failure:
        case AuthFailed():
            outcome = JobOutcome(status="blocked_reauth", reason="auth", problem=problem)
            return Ending(outcome, "neither", interval)
        case RetryLater():
            wait = min(max(failure.until - now, 1000), DAY_MS)
            return Ending(failed.model_copy(update={"reason": failure.reason}), "neither", wait)
        case Unavailable():
            return Ending(failed.model_copy(update={"reason": "unavailable"}), "fault", interval)
        case IncompleteReport():
            return Ending(failed.model_copy(update={"reason": "incomplete_report"}), "neither", interval)
        case Rejected():
            return Ending(failed.model_copy(update={"reason": "rejected"}), "fault", interval)
        case BadRecord():
            return Ending(failed.model_copy(update={"reason": "bad_records"}), "neither", interval)
        case _:
            return Ending(failed.model_copy(update={"reason": "rejected"}), "fault", interval)
