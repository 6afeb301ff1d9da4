"""Ten years by Flex reports: a year a request, within the token's limits, and no year twice, whatever interrupts it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import pytest

from sandbox.brokers.ibkr.flex.inputs import FlexQuirks
from sandbox.brokers.ibkr.simulator import IbkrSimulator
from tests.support.crash import Killed
from tests.support.deployment import Deployment
from tests.support.flex import (
    DAY,
    EASTERN,
    MINUTE,
    NOON,
    asked_days,
    assert_paced,
    connect,
    coverage,
    ended,
    evening,
    flex_calls,
)
from tests.support.ibkr_world import IbkrWorld, Line
from worker.sync import Report

YEARS = 10
DECADE = NOON - YEARS * 365 * DAY
WELL = ("succeeded", "none")
REREAD = 32
"""Of so many days the newest are read again once a day, for cancels and late bookings (reference ibkr 7.4)."""
LEASE = 301.0
"""Seconds; whoever died leaves a lease behind that lasts a little less."""

Days = Collection[dt.date]


class Decade(IbkrWorld):
    """A login with ten years of trades, and a connection that is to import them all."""

    def __init__(self, deployment: Deployment, *, job_seconds: float, generation_seconds: float = 20) -> None:
        self.job_seconds = job_seconds
        super().__init__(deployment, start=NOON)
        # The oldest is of the import's first weeks; today's and yesterday's would not be final.
        self.simulator: IbkrSimulator = self.login(
            trades=6, days=60, years=9.8, end=NOON - 2 * DAY, sec_types=("STK",), logged_in=False
        )
        self.simulator.flex.quirks = FlexQuirks(generation_seconds=generation_seconds)
        self.line: Line = connect(self, self.simulator, confirm=False, settings={"importFrom": DECADE})
        # So that the newest week has something to store too.
        self.line.trade(symbol="AAPL", side="B", ago_seconds=3 * DAY / 1000)
        # Convex's clock runs on by what creating it took; a moment later it is due for both.
        self.clock.advance(1)

    def restart(self) -> None:
        super().restart()
        self.syncer._job_seconds = self.job_seconds

    def settled(self) -> set[dt.date]:
        """The days that Convex has as proven, and that nobody needs to read again."""
        last = (dt.datetime.fromtimestamp(self.clock.now() / 1000, EASTERN) - dt.timedelta(days=REREAD)).date()
        return {
            day
            for start, end in coverage(self.line)
            for day in days_between(dt.datetime.fromtimestamp(start / 1000, EASTERN).date(), last)
            if start <= evening(day - dt.timedelta(days=1)) and evening(day) <= end
        }

    def assert_done(self, *, until: dt.date = dt.date(2026, 9, 14)) -> None:
        """Every execution once, all of the ten years covered without a seam, and the broker never pressed."""
        self.line.assert_exact()
        assert len(self.line.truth()) > 350
        oldest = min(at for _, at, *_ in self.line.truth().values())
        assert oldest < DECADE + 200 * DAY, "the first year has trades"
        assert coverage(self.line) == [(DECADE, evening(until))]
        assert all((last - first).days + 1 <= 365 for first, last in asked_days(self.simulator))
        assert_paced(flex_calls(self.simulator))
        audit = self.simulator.audit
        assert (audit.rate_breaches, audit.penalty_calls) == (0, 0)
        assert [job["status"] for job in self.line.jobs()].count("running") == 0

    def assert_each_year_once(self) -> None:
        """But for the newest days, no day is part of two requests."""
        asked = [day for first, last in asked_days(self.simulator) for day in days_between(first, last)]
        last = dt.date(2026, 9, 15) - dt.timedelta(days=REREAD)
        older = [day for day in asked if day < last]
        assert len(older) == len(set(older))
        assert len(older) > 9 * 365


def days_between(first: dt.date, last: dt.date) -> list[dt.date]:
    return [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]


@pytest.mark.parametrize("generation_seconds", [0, 60], ids=["made at once", "made in a minute"])
def test_B20_ten_years_are_driven_home_within_the_limits_of_a_token(
    deployment: Deployment, generation_seconds: float
) -> None:
    """As the daemon does it: jobs of ten minutes that queue themselves again, then quiet polls."""
    world = Decade(deployment, job_seconds=600, generation_seconds=generation_seconds)
    reports: list[Report] = []
    world.drive(NOON + 90 * MINUTE, after_job=lambda _, report: reports.append(report))
    assert [ended(report) for report in reports] == [WELL] * len(reports)
    # Eleven reports of two calls: nothing but the token's ten a minute holds them up, or the reports themselves.
    assert reports[0].seconds > 120 if generation_seconds == 0 else reports[0].unfinished
    assert sum(report.inserted for report in reports) == len(world.line.truth())
    world.assert_done()
    world.assert_each_year_once()
    assert len(asked_days(world.simulator)) == YEARS + 1, "the newest week, then ten years"
    assert world.line.health() == "ok"
    # The next morning there is one new day, and nothing old is asked for.
    before = len(asked_days(world.simulator))
    world.drive(NOON + 20 * 60 * MINUTE, step=15 * 60)
    (asked,) = asked_days(world.simulator)[before:]
    assert asked[1] == dt.date(2026, 9, 15)
    assert (asked[1] - asked[0]).days <= REREAD
    world.line.assert_exact()


def test_E1_a_restart_after_every_year_goes_on_with_the_next(deployment: Deployment) -> None:
    world = Decade(deployment, job_seconds=1)
    lives = 0
    while True:
        lives += 1
        settled, before = world.settled(), len(asked_days(world.simulator))
        report = world.line.sync("backfill")
        assert ended(report) == WELL
        assert_none_again(asked_days(world.simulator)[before:], settled)
        if not report.unfinished:
            break
        world.restart()
        world.clock.advance(60)
        assert lives < 3 * YEARS
    assert lives >= YEARS
    world.assert_done()
    world.assert_each_year_once()


DeathAt = Callable[[Decade], None]


def after_the_rows(world: Decade) -> None:
    die_at_ingest(world, stored=True)


def before_the_rows(world: Decade) -> None:
    """Of its second report: whoever always dies before anything is stored can never arrive."""
    die_at_ingest(world, stored=False)


def die_at_ingest(world: Decade, *, stored: bool) -> None:
    call = world.store._call
    pages = 0

    def dying(kind: str, function: str, args: dict[str, Any], **options: Any) -> Any:
        nonlocal pages
        carries = function == "ingest" and bool(args["executions"])
        pages += carries
        if carries and not stored and pages == 2:
            raise Killed
        result = call(kind, function, args, **options)
        if carries and stored:
            raise Killed
        return result

    world.store._call = dying  # type: ignore[method-assign]


def while_it_is_made(world: Decade) -> None:
    """The process ends between ordering its second report and fetching it."""
    handle = world.simulator.flex.handle
    orders = 0

    def dying(request: Any) -> Any:
        nonlocal orders
        orders += request.path.endswith("/SendRequest")
        if orders == 2 and request.path.endswith("/GetStatement"):
            raise Killed
        return handle(request)

    world.simulator.flex.handle = dying  # type: ignore[method-assign]


@pytest.mark.parametrize("death", [after_the_rows, before_the_rows, while_it_is_made], ids=lambda each: each.__name__)
def test_E2_death_within_every_year_costs_no_settled_year(deployment: Deployment, death: DeathAt) -> None:
    world = Decade(deployment, job_seconds=600)
    handle = world.simulator.flex.handle
    lives = 0
    while True:
        lives += 1
        assert lives < 3 * YEARS, "every life gets some way"
        settled, before = world.settled(), len(asked_days(world.simulator))
        death(world)
        report = None
        with suppress(Killed):
            report = world.line.sync("backfill")
        world.simulator.flex.handle = handle  # type: ignore[method-assign]
        world.restart()
        assert_none_again(asked_days(world.simulator)[before:], settled)
        if report is not None and not report.unfinished:
            assert ended(report) == WELL
            break
        world.clock.advance(LEASE)
    assert lives >= YEARS
    world.line.assert_exact()
    # What a death left open beside the newest days is closed with the next of them.
    world.clock.advance(DAY / 1000)
    assert ended(world.line.sync("scheduled")) == WELL
    world.assert_done(until=dt.date(2026, 9, 15))
    if death is after_the_rows:
        world.assert_each_year_once()


def assert_none_again(asked: list[tuple[dt.date, dt.date]], settled: Days) -> None:
    again = {day for first, last in asked for day in days_between(first, last)} & set(settled)
    assert not again, f"{len(again)} settled days are asked for again, {min(again)} to {max(again)}"
