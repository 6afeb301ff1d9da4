"""Two logins through more than two weeks of virtual time, with everything that happens to a session.

Login A is American: nightly resets, a competing TWS on Tuesday, an outage over the weekend on which clocks change.
Login B is European: a 429 on Wednesday, and from the second Tuesday nobody logs in for nine days.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.simulator import IbkrSimulator
from tests.support.deployment import Deployment
from tests.support.ibkr_world import IbkrWorld, Line
from worker.models import JobOutcome
from worker.sync import Report

NEW_YORK, ZURICH = ZoneInfo("America/New_York"), ZoneInfo("Europe/Zurich")
MONDAY = date(2026, 3, 2)
"""America's clocks change on the Sunday after it."""
MINUTE = 60_000
DAY = 24 * 60 * MINUTE


def at(zone: ZoneInfo, day: int, hour: int, minute: int = 0) -> int:
    """Epoch ms of a wall-clock time, `day` days after the first Monday."""
    return int(datetime.combine(MONDAY + timedelta(day), clock_time(hour, minute), zone).timestamp() * 1000)


FORGOTTEN = range(8, 17)
"""The days on which nobody logs B in."""
END_DAY = 17


@pytest.fixture
def quiet_log() -> Iterator[None]:
    """Thousands of jobs: writing what each says takes longer than the jobs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("quiet_log")
def test_a_fortnight_of_two_logins(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=at(NEW_YORK, 0, 9))
    america = world.login(seed="a", accounts=("U1110001", "U1110002"), region="america")
    europe = world.login(seed="b", accounts=("U2220001",), region="europe")
    first = world.connect(america, account="U1110001")
    second = world.connect(america, account="U1110002")
    third = world.connect(europe, settings={"ibkrRegion": "europe"})
    watch = HealthBook(world)

    chance = random.Random(20260302)
    events: list[tuple[int, Callable[[], object]]] = []
    for day in range(END_DAY + 1):
        events.append((at(NEW_YORK, day, 7, 30), america.login))
        if day not in FORGOTTEN:
            events.append((at(ZURICH, day, 8, 30), europe.login))
        for _ in range(5):
            moment = at(NEW_YORK, day, 10) + chance.randrange(6 * 60 * MINUTE)
            trader = chance.choice((first, second))
            events.append((moment, lambda line=trader: line.trade(size=Decimal(7))))
            moment = at(ZURICH, day, 10) + chance.randrange(7 * 60 * MINUTE)
            events.append((moment, lambda: third.trade(size=Decimal(3))))
    # Tuesday: somebody opens TWS for three hours.
    events += [(at(NEW_YORK, 1, 13), america.compete), (at(NEW_YORK, 1, 16), america.release)]
    # Wednesday: a 429, as from another program of the same username.
    events.append(
        (at(ZURICH, 2, 12, 1), lambda: europe.faults.plant(Fault(path="trades", status=429, processed=False)))
    )
    # The weekend: an outage that no page announced.
    events.append((at(NEW_YORK, 5, 10), lambda: america.maintenance(until_ms=at(NEW_YORK, 6, 9))))
    events += [(moment, look) for moment, look in watch.looks(first, second, third)]

    start = 0
    # Nothing new happens while B is forgotten: there a look every three minutes is enough.
    for until, step in ((at(NEW_YORK, 9, 0), 60), (at(NEW_YORK, END_DAY, 0), 180), (at(NEW_YORK, END_DAY, 17), 60)):
        due = [event for event in events if start <= event[0] < until]
        world.drive(until, step=step, events=due, after_job=watch.after_job)
        start = until

    for line in (first, second):
        line.assert_exact()
        assert line.rejects() == []
    assert_gap_is_shown_and_nothing_else_is_missing(third)
    for simulator in (america, europe):
        assert_polite(simulator)
    watch.assert_all_seen()
    for line in (first, second, third):
        assert all(job["status"] != "running" for job in line.jobs())
        line.assert_accounted()


def assert_polite(simulator: IbkrSimulator) -> None:
    audit = simulator.audit
    assert audit.rate_breaches == 0
    assert audit.penalty_calls == 0, "a call inside the penalty box"
    assert audit.takeovers == 0
    assert audit.forbidden == 0
    assert len(audit.calls) > 1000


def assert_gap_is_shown_and_nothing_else_is_missing(line: Line) -> None:
    truth, stored = line.truth(), line.stored()
    assert stored.items() <= truth.items()
    view = line.view()
    (gap,) = view["gaps"]
    assert view["problem"]["code"] == "gap"
    assert "Flex" in view["problem"]["sentence"]
    assert view["problem"]["action"] == "import_flex"
    missing = [facts[1] for family, facts in truth.items() if family not in stored]
    # Logged in again on day 17 the API showed that day and six before: the fills of days 8 to 10 are beyond it.
    assert len(missing) == 5 * 3
    assert all(gap["start"] < moment <= gap["end"] for moment in missing)
    back = at(ZURICH, END_DAY, 8, 30)
    assert gap["end"] == pytest.approx(back - 6 * DAY, abs=2 * MINUTE)


class HealthBook:
    """What each connection's page must say at which time; and that there is one sentence at a time."""

    def __init__(self, world: IbkrWorld) -> None:
        self._world = world
        self._seen: list[tuple[str, int, str]] = []
        self._expected = 0

    def looks(self, first: Line, second: Line, third: Line) -> list[tuple[int, Callable[[], object]]]:
        table: list[tuple[Line, int, str]] = []
        for line in (first, second):
            table += [
                (line, at(NEW_YORK, 0, 12), "ok"),
                (line, at(NEW_YORK, 1, 0, 20), "maintenance_window"),
                (line, at(NEW_YORK, 1, 2, 30), "needs_reauth"),
                (line, at(NEW_YORK, 1, 7, 33), "ok"),
                (line, at(NEW_YORK, 1, 13, 20), "in_use_elsewhere"),
                (line, at(NEW_YORK, 1, 15, 59), "in_use_elsewhere"),
                (line, at(NEW_YORK, 1, 16, 17), "ok"),
                (line, at(NEW_YORK, 5, 9, 59), "ok"),
                (line, at(NEW_YORK, 5, 10, 40), "degraded"),
                # Saturday evening is published maintenance; at midnight the login has ended as well.
                (line, at(NEW_YORK, 5, 20), "maintenance_window"),
                (line, at(NEW_YORK, 6, 4), "needs_reauth"),
                (line, at(NEW_YORK, 6, 9, 20), "ok"),
            ]
        table += [
            (third, at(ZURICH, 1, 12), "ok"),
            (third, at(ZURICH, 2, 12, 20), "degraded"),
            (third, at(ZURICH, 2, 12, 50), "ok"),
            (third, at(ZURICH, 8, 12), "needs_reauth"),
            (third, at(ZURICH, 12, 12), "needs_reauth"),
            (third, at(ZURICH, 16, 20), "needs_reauth"),
            (third, at(ZURICH, 17, 8, 33), "degraded"),
        ]
        self._expected = len(table)
        return [(moment, lambda line=line, state=state: self._look(line, state)) for line, moment, state in table]

    def _look(self, line: Line, state: str) -> None:
        view = line.view()
        now = datetime.fromtimestamp(self._world.clock.now() / 1000, NEW_YORK)
        assert view["health"]["state"] == state, f"{now:%a %d %b %H:%M} New York: {view['health']}"
        if state == "ok":
            assert view["problem"] is None
        else:
            assert view["health"]["sentence"] == view["problem"]["sentence"]
        if state == "needs_reauth":
            assert view["health"]["url"] == next(
                address for address, each in self._world.simulators.items() if each is line.simulator
            )
        self._seen.append((line.connection_id, self._world.clock.now(), state))

    def after_job(self, line: Line, report: Report) -> None:
        """Nothing but an answer or a failure with a sentence ends a job."""
        assert isinstance(report.outcome, JobOutcome), report
        problem: Any = report.outcome.problem
        assert (report.outcome.status == "succeeded") is (problem is None), report
        if problem is not None:
            assert problem.sentence.endswith(".")

    def assert_all_seen(self) -> None:
        assert len(self._seen) == self._expected
