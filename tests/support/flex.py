"""Connections to a simulated login's reports, and what tests ask of their jobs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

from sandbox.brokers.audit import Call
from sandbox.brokers.ibkr.simulator import IbkrSimulator
from tests.support.ibkr_world import IbkrWorld, Line
from worker.models import JobOutcome, Problem
from worker.sync import Report

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
NOON = 1_789_488_000_000
"""Tuesday 2026-09-15, noon in New York."""
EASTERN = ZoneInfo("America/New_York")


def flex_auth(simulator: IbkrSimulator, *, activity: bool = True, confirm: bool = True) -> dict[str, Any]:
    auth = {"kind": "ibkr_flex", "token": simulator.flex.token}
    auth |= {"activityQueryId": simulator.flex.activity_query} if activity else {}
    return auth | ({"confirmQueryId": simulator.flex.confirm_query} if confirm else {})


def connect(
    world: IbkrWorld, simulator: IbkrSimulator, *, activity: bool = True, confirm: bool = True, **options: Any
) -> Line:
    """A connection to the reports of the login's first account."""
    auth = flex_auth(simulator, activity=activity, confirm=confirm)
    return world.connect(simulator, account=simulator.accounts[0], auth=auth, **options)


def outcome_of(report: Report) -> JobOutcome:
    assert isinstance(report.outcome, JobOutcome), report
    return report.outcome


def problem_of(report: Report) -> Problem:
    problem = outcome_of(report).problem
    assert problem is not None
    return problem


def ended(report: Report) -> tuple[str, str]:
    outcome = outcome_of(report)
    return outcome.status, outcome.reason


def coverage(line: Line) -> list[tuple[int, int]]:
    """What activity statements have proven complete."""
    cursors = line.deployment.documents("importCursorState", connectionId=line.connection_id)
    return [
        (int(each["start"]), int(each["end"]))
        for cursor in cursors
        for each in cursor["coverage"]
        if each["source"] == "ibkr_flex_activity"
    ]


def evening(day: dt.date) -> int:
    """17:00 in New York: a later fill may be of the next day's statement (reference ibkr 4.4)."""
    return int(dt.datetime.combine(day, dt.time(17), EASTERN).timestamp() * 1000)


def flex_calls(simulator: IbkrSimulator) -> list[Call]:
    return [call for call in simulator.audit.calls if "/FlexWebService/" in call.path]


def asked_days(simulator: IbkrSimulator) -> list[tuple[dt.date, dt.date]]:
    """First and last day of every activity statement that was ordered, in the order of the requests."""
    return [
        (dt.date.fromisoformat(call.params["fd"]), dt.date.fromisoformat(call.params["td"]))
        for call in flex_calls(simulator)
        if call.path.endswith("/SendRequest") and "fd" in call.params
    ]


def assert_paced(calls: Iterable[Call]) -> None:
    """At every instant at most one call in a second and ten in a minute, polls counted (reference ibkr 4.1)."""
    times = [call.elapsed for call in calls]
    assert times == sorted(times)
    for most, seconds in ((1, 1.0), (10, 60.0)):
        spans = [later - earlier for earlier, later in zip(times, times[most:], strict=False)]
        assert min(spans, default=seconds) >= seconds, f"more than {most} calls in {seconds:g} seconds"
