"""How a job ends: one table of failure → status, reason, breaker event, next time."""

from __future__ import annotations

import pytest

from worker.breaker import Event
from worker.cli import exit_status, progress_line
from worker.errors import (
    AuthFailed,
    Failure,
    IncompleteReport,
    Rejected,
    RetryLater,
    Stopped,
    Unavailable,
)
from worker.models import JobOutcome, Problem, Refusal
from worker.reading import Tally
from worker.sync import Report, conclude, judge

NOW = 1_790_000_000_000
INTERVAL = 900_000

ENDINGS: list[tuple[Failure | Stopped, str, str, Event, int]] = [
    (AuthFailed("s", code="invalid_key"), "blocked_reauth", "auth", "neither", INTERVAL),
    (RetryLater("s", until=NOW + 45_000, reason="rate_limited"), "failed", "rate_limited", "neither", 45_000),
    (RetryLater("s", until=NOW + 3_600_000, reason="maintenance"), "failed", "maintenance", "neither", 3_600_000),
    (RetryLater("s", until=NOW + 10**15, reason="rate_limited"), "failed", "rate_limited", "neither", 86_400_000),
    (RetryLater("s", until=NOW - 5, reason="report_not_ready"), "failed", "report_not_ready", "neither", 1000),
    (Unavailable("s"), "failed", "unavailable", "fault", INTERVAL),
    (Rejected("s", code="our_bug"), "failed", "rejected", "fault", INTERVAL),
    (IncompleteReport("s", code="rows_missing"), "failed", "incomplete_report", "neither", INTERVAL),
    (Stopped(), "failed", "cancelled", "neither", 0),
]


@pytest.mark.parametrize(("failure", "status", "reason", "event", "wait"), ENDINGS)
def test_every_failure_has_one_ending(
    failure: Failure | Stopped, status: str, reason: str, event: Event, wait: int
) -> None:
    ending = judge(failure, now=NOW, interval=INTERVAL, progressed=False)
    assert (ending.outcome.status, ending.outcome.reason, ending.event, ending.next_sync_in) == (
        status,
        reason,
        event,
        wait,
    )
    if isinstance(failure, Failure):
        assert ending.outcome.problem is not None
        assert ending.outcome.problem.sentence == "s"


def test_a_job_that_stored_rows_before_it_failed_is_partial() -> None:
    ending = judge(Unavailable("s"), now=NOW, interval=INTERVAL, progressed=True)
    assert ending.outcome.status == "partial"


def test_refused_credentials_block_even_after_rows_were_stored() -> None:
    ending = judge(AuthFailed("s", code="x"), now=NOW, interval=INTERVAL, progressed=True)
    assert ending.outcome.status == "blocked_reauth"


def test_a_clean_job_succeeds_and_comes_again_after_its_interval() -> None:
    ending = conclude(Tally(coverage=(), extras={}), interval=INTERVAL)
    assert ending.outcome == JobOutcome(status="succeeded")
    assert (ending.event, ending.next_sync_in) == ("success", INTERVAL)


def test_a_job_that_ran_out_of_time_goes_on_at_once() -> None:
    assert conclude(Tally(coverage=(), extras={}, unfinished=True), interval=INTERVAL).next_sync_in == 0


def test_rejected_rows_make_a_job_partial_with_a_sentence() -> None:
    tally = Tally(coverage=(), extras={})
    tally.fates["rejected"] = 1
    outcome = conclude(tally, interval=INTERVAL).outcome
    assert (outcome.status, outcome.reason) == ("partial", "bad_records")
    assert outcome.problem is not None
    assert outcome.problem.sentence.startswith("1 row from the broker could not be read")


def test_a_notice_is_shown_on_a_job_that_went_well() -> None:
    outcome = conclude(Tally(coverage=(), extras={}, notices=("Your key expires soon.",)), interval=INTERVAL).outcome
    assert outcome == JobOutcome(status="succeeded", problem=Problem(code="notice", sentence="Your key expires soon."))


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (JobOutcome(status="succeeded"), 0),
        (Refusal(reason="held"), 0),
        (Refusal(reason="not_due"), 0),
        (Refusal(reason="unknown"), 1),
        (JobOutcome(status="partial", reason="bad_records"), 1),
        (JobOutcome(status="failed", reason="unavailable"), 1),
        (None, 1),
        (JobOutcome(status="blocked_reauth", reason="auth"), 2),
    ],
)
def test_exit_status_is_honest(outcome: JobOutcome | Refusal | None, status: int) -> None:
    report = Report("c", "Kraken", outcome, problem="Convex is away")
    assert exit_status(report) == status
    assert progress_line(report).startswith("Kraken: ")
