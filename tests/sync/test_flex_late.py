"""Flex jobs where the service is late, silent about empty weeks, or interrupted where nothing was stored."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.flex.inputs import FlexCode, FlexQuirks
from tests.support.canaries import Canaries
from tests.support.crash import Killed
from tests.support.deployment import Deployment
from tests.support.flex import (
    DAY,
    NOON,
    asked_days,
    assert_paced,
    connect,
    coverage,
    ended,
    evening,
    flex_auth,
    flex_calls,
    outcome_of,
    problem_of,
)
from tests.support.ibkr_world import IbkrWorld
from tests.sync.test_ibkr_flex_decade import LEASE, Decade, after_the_rows, days_between
from tests.sync.test_ibkr_flex_faults import everything_of, past
from worker.models import Counts, Interval, JobOutcome, Lease


@pytest.mark.parametrize("place", ["statement", "row"])
def test_F2_an_account_that_is_the_token(deployment: Deployment, place: str) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    token = simulator.flex.token
    line = connect(world, simulator)
    if place == "statement":
        simulator.flex.quirks = FlexQuirks(statement={"accountId": token})
    else:
        (fill,) = line.trade(symbol="AAPL", side="B", ago_seconds=10 * DAY / 1000)
        simulator.flex.quirks = FlexQuirks(rows={fill.execution_id: {"accountId": token}})
    line.sync()
    for table, document in everything_of(line):
        assert Canaries({"token": token}).found_in(document) == set(), table


@pytest.mark.parametrize("mode", ["manual", "scheduled"])
def test_B23_a_week_without_trades_does_not_hide_the_year_before(deployment: Deployment, mode: Any) -> None:
    """Where 1003 also means an empty window (reference ibkr 4.1)."""
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(sec_types=("STK",))
    simulator.flex.quirks = FlexQuirks(empty_window="1003")
    line = connect(world, simulator, confirm=False)
    line.trade(symbol="AAPL", side="B", ago_seconds=20 * DAY / 1000)
    for _ in range(4):
        world.clock.advance(DAY / 1000)
        line.sync(mode)
    line.assert_exact()


@pytest.mark.parametrize("unfinalised", ["1003", "cut", "hang"])
def test_B23_a_service_that_is_always_a_day_late(deployment: Deployment, unfinalised: Any) -> None:
    """Measured delays are up to two days (reference ibkr 4.1); a hang or a shorter statement must not stop all."""
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    simulator.flex.quirks = FlexQuirks(late_days=1, unfinalised=unfinalised)
    line = connect(world, simulator, confirm=False)
    for _ in range(12):
        line.sync()
        world.clock.advance(DAY / 4000)
    line.assert_exact()


def test_A15_a_restart_keeps_the_ten_a_minute(deployment: Deployment) -> None:
    world = Decade(deployment, job_seconds=1, generation_seconds=0)
    for _ in range(30):
        report = world.line.sync("backfill")
        if not report.unfinished:
            break
        world.restart()
        world.clock.advance(3)
    assert_paced(flex_calls(world.simulator))


def test_E2_years_without_trades_are_not_asked_for_again_after_a_death(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(sec_types=("STK",))
    line = connect(world, simulator, confirm=False, settings={"importFrom": NOON - 10 * 365 * DAY})
    line.trade(symbol="AAPL", side="B", ago_seconds=3 * DAY / 1000)
    handle = simulator.flex.handle
    orders = 0

    def dying(request: Any) -> Any:
        nonlocal orders
        orders += request.path.endswith("/SendRequest")
        if orders == 8:
            raise Killed
        return handle(request)

    simulator.flex.handle = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        line.sync()
    simulator.flex.handle = handle  # type: ignore[method-assign]
    world.clock.advance(LEASE)
    world.restart()
    line.sync("backfill")
    days = [day for first, last in asked_days(simulator) for day in days_between(first, last)]
    older = [day for day in days if day < dt.date(2026, 8, 1)]
    assert len(older) == len(set(older))


def test_I2_a_death_after_the_newest_week_leaves_no_hole(deployment: Deployment) -> None:
    world = Decade(deployment, job_seconds=600)
    after_the_rows(world)
    with pytest.raises(Killed):
        world.line.sync("backfill")
    world.clock.advance(LEASE)
    world.restart()
    for _ in range(4):
        world.line.sync("backfill")
        world.clock.advance(900)
    assert len(coverage(world.line)) == 1


@pytest.mark.parametrize("code", [1001, 1003, 1019])
def test_B21_settled_days_do_not_wait_for_todays_confirmations(deployment: Deployment, code: int) -> None:
    """A query whose report never comes holds up its own rows alone."""
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator)
    handle = simulator.flex.handle

    def without_confirmations(request: Any) -> Any:
        ordered = request.path.endswith("/SendRequest") and f"q={simulator.flex.confirm_query}" in request.query
        if ordered:
            simulator.flex.plant(FlexCode(code=code, call="SendRequest"))
        return handle(request)

    simulator.flex.handle = without_confirmations  # type: ignore[method-assign]
    report = line.sync()
    assert ended(report) == ("partial", "report_not_ready")
    assert problem_of(report).code == f"ibkr_flex_{code}"
    line.assert_exact()
    assert [end for _, end in coverage(line)] == [evening(dt.date(2026, 9, 14))]
    assert_paced(flex_calls(simulator))
    simulator.flex.handle = handle  # type: ignore[method-assign]
    simulator.flex.clear()
    line.trade(symbol="AAPL", side="B", ago_seconds=3600)
    world.clock.advance(900)
    assert line.sync().inserted == 1
    line.assert_exact()


def test_B23_a_look_further_back_that_failed_is_made_up_for(deployment: Deployment) -> None:
    """A cancel may be reported long after its trade (reference ibkr 4.4, 4.6)."""
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator, confirm=False)
    line.sync()
    world.clock.advance(DAY / 1000)
    simulator.flex.plant(FlexCode(code=1019, times=None))
    assert ended(line.sync("scheduled")) == ("failed", "report_not_ready")
    simulator.flex.clear()
    simulator.audit.clear()
    world.clock.advance(3700)
    assert ended(line.sync("scheduled"))[0] == "succeeded"
    (days,) = asked_days(simulator)
    assert days == (dt.date(2026, 8, 15), dt.date(2026, 9, 15)), "thirty days before what is complete"
    simulator.audit.clear()
    world.clock.advance(900)
    line.sync("scheduled")
    assert asked_days(simulator) == [], "once a day"


@pytest.mark.parametrize(
    "said",
    [{"whenGenerated": "yesterday"}, {"whenGenerated": ""}, {"fromDate": "09/08/2026"}, {"toDate": "soon"}],
    ids=["made", "made-blank", "from", "to"],
)
def test_B23_days_that_cannot_be_read_prove_nothing_and_name_the_setting(
    deployment: Deployment, said: dict[str, str]
) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator, confirm=False)
    simulator.flex.quirks = FlexQuirks(statement=said)
    report = line.sync()
    assert ended(report) == ("failed", "incomplete_report")
    assert problem_of(report).code == "ibkr_flex_dates"
    assert (line.executions(), coverage(line)) == ([], [])


@pytest.mark.parametrize(("kind", "section"), [("activity", "Trades"), ("confirm", "TradeConfirms")])
def test_B23_a_query_without_its_section_is_not_no_trades_and_is_told_which(
    deployment: Deployment, kind: str, section: str
) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(sec_types=("STK",))
    line = connect(world, simulator, activity=kind == "activity", confirm=kind == "confirm")
    simulator.flex.quirks = FlexQuirks(section=False)
    report = line.sync()
    assert ended(report) == ("failed", "incomplete_report")
    assert f"leaves out the section {section}," in problem_of(report).sentence


def test_B22_confirmations_that_were_one_call_too_many_end_the_job(deployment: Deployment) -> None:
    """The token is silent: the activity statement would only wait for it (reference ibkr 4.2)."""
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator)
    simulator.flex.plant(FlexCode(code=1018, times=None))
    assert ended(line.sync()) == ("failed", "rate_limited")
    assert asked_days(simulator) == []


def test_A5_a_service_that_asks_for_hours_at_the_confirmations_is_not_asked_for_the_rest(
    deployment: Deployment,
) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator)
    asks = {"Retry-After": "7200"}
    simulator.faults.plant(Fault(path="SendRequest", status=503, html=True, headers=asks, times=None))
    assert ended(line.sync()) == ("failed", "rate_limited")
    assert len(flex_calls(simulator)) == 1


def test_B23_the_look_further_back_needs_no_new_day(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator, confirm=False)
    line.sync()
    world.clock.advance(19 * 3600)
    line.sync("scheduled")
    simulator.audit.clear()
    # Wednesday noon: Tuesday came in the morning, a day after the last look further back.
    world.clock.advance(5 * 3600 + 60)
    assert ended(line.sync("scheduled"))[0] == "succeeded"
    assert asked_days(simulator) == [(dt.date(2026, 8, 16), dt.date(2026, 9, 15))]


def test_B23_older_years_are_no_look_at_the_last_days(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator, confirm=False)
    line.sync()
    world.clock.advance(DAY / 1000)
    world.tell_convex_the_time()
    line.user.mutation(
        "tradeImport/connections:updateSettings",
        {"connectionId": line.connection_id, "importFrom": NOON - 500 * DAY},
    )
    handle = simulator.flex.handle

    def without_the_last_days(request: Any) -> Any:
        if request.path.endswith("/SendRequest") and "td=202609" in request.query:
            simulator.flex.plant(FlexCode(code=1003, call="SendRequest"))
        return handle(request)

    simulator.flex.handle = without_the_last_days  # type: ignore[method-assign]
    assert ended(line.sync("scheduled"))[1] == "report_not_ready"
    assert coverage(line)[0][0] == NOON - 500 * DAY, "what is older came"
    simulator.flex.handle = handle  # type: ignore[method-assign]
    simulator.flex.clear()
    simulator.audit.clear()
    world.clock.advance(900)
    assert ended(line.sync("scheduled"))[0] == "succeeded"
    assert asked_days(simulator) == [(dt.date(2026, 8, 15), dt.date(2026, 9, 15))]


def test_D10_coverage_from_the_future_hides_no_later_day(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(sec_types=("STK",))
    line = connect(world, simulator, confirm=False)
    line.sync()
    lease = world.store.claim(line.connection_id, "manual")
    assert isinstance(lease, Lease)
    ahead = Interval(source="ibkr_flex_activity", start=0, end=world.clock.now() + 900 * DAY)
    job = world.store.job(lease)
    job.ingest([], [], coverage=[ahead], extras={"deepReadAt": str(world.clock.now() + DAY)})
    job.finish(JobOutcome(status="succeeded", reason="none"), Counts(), next_sync_in=0)
    world.clock.advance(2 * DAY / 1000)
    line.trade(symbol="AAPL", side="B", ago_seconds=DAY / 1000)
    line.sync("scheduled")
    world.clock.advance(DAY / 1000)
    line.sync("scheduled")
    line.assert_exact()


def test_a_half_open_breaker_asks_the_report_service_once(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=5, **past(world))
    line = connect(world, simulator, confirm=False)
    simulator.faults.plant(Fault(path="SendRequest", status=503, html=True, times=None))
    per_job = []
    for _ in range(6):
        world.restart()  # and with it the budget for retries
        line.sync()
        per_job.append(len(flex_calls(simulator)))
        simulator.audit.clear()
        world.clock.advance(901)
    assert per_job[0] > 1
    assert per_job[3:] == [1, 1, 1]


def test_B18_an_account_of_another_connection_is_no_news(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    accounts = ("U1110001", "U1110002", "U1110003")
    simulator = world.login(trades=60, accounts=accounts, **past(world))
    line = connect(world, simulator, confirm=False)
    sentence = problem_of(line.sync()).sentence
    assert "U1110002" in sentence
    assert "U1110003" in sentence
    assert "which no connection imports" in sentence
    auth = flex_auth(simulator, confirm=False)
    for account in accounts[1:]:
        world.connect(simulator, account=account, auth=auth)
    world.clock.advance(DAY / 1000)
    assert outcome_of(line.sync()).problem is None
