"""Whole jobs of a Flex connection against the simulated service and the real functions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.flex.inputs import FlexCode, FlexQuirks
from sandbox.brokers.ibkr.simulator import IbkrSimulator
from tests.support.deployment import CallFailed, Deployment
from tests.support.ibkr_world import IbkrWorld, Line
from worker.models import JobOutcome, Problem
from worker.sync import Report

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
NOON = 1_789_488_000_000
"""Tuesday 2026-09-15, noon in New York."""


def flex_auth(simulator: IbkrSimulator, *, confirm: bool = True) -> dict[str, Any]:
    auth = {"kind": "ibkr_flex", "token": simulator.flex.token, "activityQueryId": simulator.flex.activity_query}
    return auth | ({"confirmQueryId": simulator.flex.confirm_query} if confirm else {})


def connect(world: IbkrWorld, simulator: IbkrSimulator, *, confirm: bool = True, **options: Any) -> Line:
    account = simulator.accounts[0]
    return world.connect(simulator, account=account, auth=flex_auth(simulator, confirm=confirm), **options)


def outcome_of(report: Report) -> JobOutcome:
    assert isinstance(report.outcome, JobOutcome), report
    return report.outcome


def problem_of(report: Report) -> Problem:
    problem = outcome_of(report).problem
    assert problem is not None
    return problem


def assert_polite(simulator: IbkrSimulator) -> None:
    assert (simulator.audit.rate_breaches, simulator.audit.forbidden) == (0, 0)


def test_a_year_is_backfilled_and_today_confirmed_without_a_session(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=120, years=0.9, logged_in=False)
    line = connect(world, simulator)
    line.trade(symbol="AAPL", side="B", size=Decimal(3), ago_seconds=3600)
    report = line.sync()
    assert outcome_of(report).status == "succeeded", report
    ids = {row.get("externalExecutionId") for row in line.executions()}
    assert {fill["family"] for fill in simulator.oracle() if fill["kind"] == "fill"} <= ids
    for row in line.executions():
        if row["kind"] == "fill":
            assert row["currency"], "Flex says it"
    line.assert_accounted()
    assert_polite(simulator)
    again = line.sync()
    assert (again.inserted, again.updated, again.rejected) == (0, 0, 0)
    simulator.audit.clear()
    world.clock.advance(900)
    line.sync("scheduled")
    assert all("GetStatement" in call.path or "SendRequest" in call.path for call in simulator.audit.calls)
    assert sum("SendRequest" in call.path for call in simulator.audit.calls) == 1, "confirmations only until tomorrow"


def test_E10_a_gap_of_the_live_connection_is_closed_by_flex(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login()
    live = world.connect(simulator, account=simulator.accounts[0])
    live.trade(symbol="AAPL", side="B", size=Decimal(1))
    live.sync()
    world.clock.advance(2 * DAY / 1000)
    (lost,) = live.trade(symbol="MSFT", side="B", size=Decimal(2))
    world.clock.advance(8 * DAY / 1000)
    simulator.login()
    live.trade(symbol="AAPL", side="S", size=Decimal(1))
    assert outcome_of(live.sync()).reason == "gap"
    flex = connect(world, simulator)
    assert outcome_of(flex.sync()).status == "succeeded"
    assert lost.family in {row.get("externalExecutionId") for row in flex.executions()}
    assert outcome_of(live.sync()).problem is None
    view = live.view()
    assert (view["health"]["state"], view["gaps"]) == ("ok", [])


def test_B18_a_report_without_the_account_brings_nothing(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(accounts=("U1110001", "U1110002"), trades=20)
    stranger = world.connect(simulator, account="U9990009", auth=flex_auth(simulator, confirm=False))
    report = stranger.sync()
    assert outcome_of(report).reason == "incomplete_report"
    assert "U9990009" in problem_of(report).sentence
    assert "U1110001" in problem_of(report).sentence
    assert stranger.executions() == []
    first = world.connect(simulator, account="U1110001", auth=flex_auth(simulator, confirm=False))
    report = first.sync()
    assert {row["accountRef"] for row in first.executions()} == {"U1110001"}
    assert "U1110002" in problem_of(report).sentence


@pytest.mark.parametrize("code", [1012, 1013, 1015])
def test_C10_a_token_that_is_over_asks_for_a_new_one(deployment: Deployment, code: int) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=5)
    line = connect(world, simulator)
    simulator.flex.plant(FlexCode(code=code, times=None))
    report = line.sync()
    assert outcome_of(report).status == "blocked_reauth"
    assert problem_of(report).action == "update_credentials"
    assert sum("Flex" in call.path for call in simulator.audit.calls) == 1


def test_B21_a_statement_in_the_making_comes_with_a_later_job(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=5, days=30)
    line = connect(world, simulator, confirm=False)
    simulator.flex.plant(FlexCode(code=1019, times=200))
    assert outcome_of(line.sync()).reason == "report_not_ready"
    assert line.view()["breaker"]["failures"] == 0
    simulator.flex.clear()
    world.clock.advance(900)
    assert outcome_of(line.sync()).status == "succeeded"
    assert_polite(simulator)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="GetStatement", truncate=900, times=None),
        Fault(path="GetStatement", html=True, times=None),
        Fault(path="SendRequest", status=503, html=True, times=None),
    ],
    ids=["cut", "page", "503"],
)
def test_A12_half_a_statement_is_never_no_trades(deployment: Deployment, fault: Fault) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=40, days=30)
    line = connect(world, simulator, confirm=False)
    simulator.faults.plant(fault)
    report = line.sync()
    assert outcome_of(report).status == "failed"
    assert line.executions() == []
    assert line.connection()["completeUpTo"] is None
    simulator.faults.clear()
    world.clock.advance(900)
    line.sync()
    assert line.executions()


@pytest.mark.parametrize(
    "quirks",
    [FlexQuirks(count=7), FlexQuirks(dtd=True), FlexQuirks(section=False)],
    ids=["count-disagrees", "dtd", "no-section"],
)
def test_F8_a_document_that_is_no_whole_report_brings_nothing(deployment: Deployment, quirks: FlexQuirks) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=40, days=30)
    line = connect(world, simulator, confirm=False)
    simulator.flex.quirks = quirks
    report = line.sync()
    assert outcome_of(report).reason in ("incomplete_report", "unavailable")
    assert line.executions() == []
    assert line.connection()["completeUpTo"] is None


def test_a_flex_connection_must_say_which_account(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=1)
    with pytest.raises(CallFailed) as refused:
        world.connect(simulator, auth=flex_auth(simulator))
    assert refused.value.code == "invalid_argument"


def both(deployment: Deployment) -> tuple[IbkrWorld, IbkrSimulator, Line, Line]:
    """A login that is watched live and by its reports."""
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login()
    live = world.connect(simulator, account=simulator.accounts[0])
    return world, simulator, live, connect(world, simulator)


def next_morning(world: IbkrWorld, simulator: IbkrSimulator) -> None:
    """Past the night's run, with somebody logged in again."""
    world.clock.advance(DAY / 1000 - 3600)
    simulator.login()


def test_B7_one_fill_seen_live_confirmed_and_reported_is_one_row(deployment: Deployment) -> None:
    world, simulator, live, flex = both(deployment)
    live.trade(symbol="AAPL", side="B", size=Decimal(10), price=Decimal("190.25"), commission=Decimal("1.0125"))
    live.sync()
    (trade,) = live.trades()
    live.user.mutation("tradeImport/inbox:review", {"tradeIds": [trade["_id"]]})
    (row,) = live.executions()
    assert "currency" not in row
    world.clock.advance(1800)
    assert (flex.sync().inserted, len(flex.executions())) == (0, 0)
    next_morning(world, simulator)
    flex.sync()
    live.sync()
    (row,) = live.executions()
    assert (row["currency"], row["fee"], row["source"]) == ("USD", "1.0125", "ibkr_flex_activity")
    assert {view["source"] for view in row["views"]} == {"ibkr_live", "ibkr_flex_confirm", "ibkr_flex_activity"}
    (after,) = live.trades()
    assert (after["inboxStatus"], after["currency"]) == ("reviewed", "USD")
    assert "changed_by_broker" not in after["importFlags"]
    live.assert_accounted()
    flex.assert_accounted()


def test_B8_a_cancel_voids_the_execution_and_tells(deployment: Deployment) -> None:
    world, simulator, live, flex = both(deployment)
    (fill,) = live.trade(symbol="AAPL", side="B", size=Decimal(10), price=Decimal("190.25"))
    live.sync()
    (trade,) = live.trades()
    live.user.mutation("tradeImport/inbox:review", {"tradeIds": [trade["_id"]]})
    world.clock.advance(600)
    simulator.cancel(fill.execution_id)
    next_morning(world, simulator)
    next_morning(world, simulator)
    flex.sync()
    (row,) = [row for row in live.executions() if row["kind"] == "fill"]
    assert row["state"] == "voided"
    (after,) = live.trades()
    assert after["inboxStatus"] == "reviewed"
    assert {"voided_by_broker", "changed_by_broker"} <= set(after["importFlags"])


def test_B9_cancel_and_rebook_is_one_live_row_with_the_original_fee(deployment: Deployment) -> None:
    world, simulator, live, flex = both(deployment)
    (fill,) = live.trade(
        symbol="AAPL", side="S", size=Decimal(10), price=Decimal("190.25"), commission=Decimal("1.0125")
    )
    world.clock.advance(600)
    simulator.correct(fill.execution_id, price=Decimal("190.20"))
    next_morning(world, simulator)
    next_morning(world, simulator)
    flex.sync()
    live.sync()
    owner = owner_of(flex)
    rows = deployment.documents("externalExecutions", ownerId=owner)
    (row,) = [row for row in rows if row["kind"] == "fill"]
    assert (row["state"], row["revision"], row["price"], row["fee"]) == ("live", 2, "190.2", "1.0125")
    (trade,) = deployment.documents("trades", ownerId=owner, executionId=row["_id"])
    assert "voided_by_broker" not in trade["importFlags"]


def owner_of(line: Line) -> str:
    (row,) = line.deployment.documents("brokerageConnections", _id=line.connection_id)
    return str(row["ownerId"])


def test_B18_a_gateway_takes_an_account_that_only_reports_import(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=10)
    connect(world, simulator).sync()
    live = world.connect(simulator)
    assert outcome_of(live.sync()).status == "succeeded"
    assert live.account == simulator.accounts[0]
