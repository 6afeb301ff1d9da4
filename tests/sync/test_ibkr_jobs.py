"""Whole jobs against the simulated gateway and the real functions: the fault rows of a session and of its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.simulator import IbkrSimulator, Quirks
from tests.support.deployment import CallFailed, Deployment
from tests.support.ibkr_world import IbkrWorld, Line
from worker.models import JobOutcome, Problem
from worker.sync import Report

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
NOON = 1_789_488_000_000
"""Tuesday 2026-09-15, noon in New York: twelve hours to the next reset."""

Make = Callable[..., tuple[IbkrWorld, IbkrSimulator, Line]]


@pytest.fixture
def make(deployment: Deployment) -> Make:
    """A login, one connection to it and a worker: `make(trades=12, account="U1110001")`."""

    def build(
        *, account: str | None = None, settings: dict[str, object] | None = None, **setup: object
    ) -> tuple[IbkrWorld, IbkrSimulator, Line]:
        world = IbkrWorld(deployment, start=NOON)
        simulator = world.login(**setup)
        return world, simulator, world.connect(simulator, account=account, settings=settings)

    return build


def outcome_of(report: Report) -> JobOutcome:
    assert isinstance(report.outcome, JobOutcome), report
    return report.outcome


def problem_of(report: Report) -> Problem:
    problem = outcome_of(report).problem
    assert problem is not None
    return problem


def calls(simulator: IbkrSimulator) -> list[str]:
    return [call.path.removeprefix("/v1/api") for call in simulator.audit.calls]


def assert_polite(simulator: IbkrSimulator) -> None:
    audit = simulator.audit
    assert (audit.rate_breaches, audit.penalty_calls, audit.takeovers, audit.forbidden) == (0, 0, 0, 0)


# The rows


def test_a_week_of_all_kinds_of_rows_is_imported_to_the_last_digit(make: Make) -> None:
    _, simulator, line = make(trades=60)
    report = line.sync()
    assert outcome_of(report).status == "succeeded", report
    line.assert_exact()
    line.assert_accounted()
    assert_polite(simulator)
    for _ in range(3):
        again = line.sync()
        assert (again.inserted, again.updated, again.rejected) == (0, 0, 0)
    line.assert_exact()
    held = {row["assetClass"] for row in line.executions() if row["state"] == "held"}
    assert {"option", "future", "forex"} & held
    assert all(row["currency"] is None for row in line.executions() if "currency" in row)


def test_a_quiet_poll_costs_two_calls_of_convex_and_three_of_the_broker(make: Make) -> None:
    world, simulator, line = make(trades=20)
    line.sync()
    world.deployment.reset_calls()
    simulator.audit.clear()
    report = line.sync()
    assert report.fetched == report.known > 0
    counted = {name: count for name, count in world.deployment.calls().items() if "worker" in name}
    assert sum(counted.values()) == 2, counted
    assert calls(simulator) == ["/iserver/auth/status", "/iserver/accounts", "/iserver/account/trades"]


def test_B6_equal_fills_of_one_second_are_both_kept(make: Make) -> None:
    _, _, line = make()
    line.trade(symbol="AAPL", side="B", size=Decimal(10), price=Decimal("190.25"), count=2)
    line.sync()
    line.assert_exact()
    assert len(line.trades()) == 2


@pytest.mark.parametrize("listed", ["newest", "all"])
def test_B10_a_correction_replaces_and_its_history_stays(make: Make, listed: str) -> None:
    _, simulator, line = make()
    simulator.quirks = Quirks(corrections=listed)  # type: ignore[arg-type]
    (fill,) = line.trade(symbol="AAPL", side="B", size=Decimal(10), price=Decimal("190.25"))
    line.sync()
    (trade,) = line.trades()
    line.user.mutation("tradeImport/inbox:review", {"tradeIds": [trade["_id"]]})
    simulator.correct(fill.execution_id, price=Decimal("190.20"))
    report = line.sync()
    assert (report.inserted, report.updated) == (0, 1)
    line.assert_exact()
    (row,) = line.executions()
    assert (row["revision"], [(view["revision"], view["price"]) for view in row["views"]]) == (
        2,
        [(2, "190.2"), (1, "190.25")],
    )
    (after,) = line.trades()
    assert (after["inboxStatus"], after["price"]) == ("reviewed", 190.2)
    assert "changed_by_broker" in after["importFlags"]
    quiet = line.sync()
    assert (quiet.inserted, quiet.updated) == (0, 0)


def test_B10_both_revisions_at_first_sight_are_one_execution_with_a_history(make: Make) -> None:
    _, simulator, line = make()
    simulator.quirks = Quirks(corrections="all")
    (fill,) = line.trade(symbol="AAPL", side="S", size=Decimal(4), price=Decimal("191.00"))
    simulator.correct(fill.execution_id, size=Decimal(5))
    line.sync()
    line.assert_exact()
    (row,) = line.executions()
    assert [(view["revision"], view["quantity"]) for view in row["views"]] == [(2, "5"), (1, "4")]
    assert len(line.trades()) == 1
    line.assert_accounted()


def test_B11_a_commission_that_comes_later_updates_the_row(make: Make) -> None:
    world, simulator, line = make()
    simulator.quirks = Quirks(commission_seconds=600)
    line.trade(symbol="AAPL", side="B", size=Decimal(10), price=Decimal("190.25"), commission=Decimal("1.0125"))
    line.sync()
    assert [row["fee"] for row in line.executions()] == ["0"]
    world.clock.advance(900)
    report = line.sync()
    assert (report.inserted, report.updated) == (0, 1)
    line.assert_exact()


def test_B12_unreadable_rows_are_kept_and_the_others_imported(make: Make) -> None:
    _, _, line = make()
    line.trade(symbol="AAPL", side="B", size=Decimal(1))
    for broken in ({"size": "1,234"}, {"side": "Q"}, {"price": "NaN"}, {"trade_time_r": None, "trade_time": None}):
        line.trade(symbol="AAPL", side="B", size=Decimal(1), overrides=broken)
    report = line.sync()
    assert (outcome_of(report).status, outcome_of(report).reason) == ("partial", "bad_records")
    assert (report.inserted, report.rejected) == (1, 4)
    reasons = " ".join(row["reason"] for row in line.rejects())
    assert all(field in reasons for field in ("price", "side", "size", "trade_time"))
    line.assert_accounted()
    assert outcome_of(line.sync()).status == "succeeded", "known rejects are no news"


def test_B13_new_fields_change_nothing(make: Make) -> None:
    _, simulator, line = make(trades=10)
    simulator.quirks = Quirks(unknown_fields={"brandNew": {"deep": [1]}}, numbers="strings", order_ids=False)
    report = line.sync()
    assert (outcome_of(report).status, report.rejected) == ("succeeded", 0)
    line.assert_exact()


def test_B16_an_expired_position_is_no_trade(make: Make) -> None:
    _, _, line = make()
    line.trade(symbol="MES", sec_type="FUT", expiry=True, size=Decimal(2))
    report = line.sync()
    assert (report.held, report.rejected) == (1, 0)
    (row,) = line.executions()
    assert (row["kind"], row["state"], row.get("side")) == ("expiry", "held", None)
    assert line.trades() == []


def test_B17_a_symbol_with_a_blank_is_spelled_as_plans_spell_it(make: Make) -> None:
    _, _, line = make()
    line.trade(symbol="BRK B", side="B", size=Decimal(3))
    line.sync()
    assert [(row["symbol"], row["rawSymbol"]) for row in line.executions()] == [("BRK.B", "BRK B")]


# Accounts


def test_B18_every_account_of_a_login_goes_to_its_own_connection(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(accounts=("U1110001", "U1110002", "U1110003"), trades=30)
    first, second = world.connect(simulator, account="U1110001"), world.connect(simulator, account="u1110002 ")
    first_report, second_report = first.sync(), second.sync()
    first.assert_exact()
    second._account = "U1110002"
    second.assert_exact()
    assert first.truth()
    assert second.truth()
    # Nobody connected the third account: its rows are reported with their account, and kept.
    for report, line in ((first_report, first), (second_report, second)):
        assert report.rejected == len(line.rejects()) > 0
        assert {row["accountRef"] for row in line.rejects()} == {"U1110003"}
        line.assert_accounted()
        assert (outcome_of(report).status, problem_of(report).code) == ("succeeded", "notice"), "they were read well"
    again = first.sync()
    assert "U1110003" in problem_of(again).sentence
    # Once it is connected they are imported there, and are open questions nowhere.
    third = world.connect(simulator, account="U1110003")
    third.sync()
    third.assert_exact()
    assert all("resolvedAt" in row for line in (first, second) for row in line.rejects())
    assert outcome_of(first.sync()).problem is None
    assert_polite(simulator)


def test_B18_a_connection_without_a_named_account_takes_the_next_free_one(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(accounts=("U1110001", "U1110002"), trades=10)
    first = world.connect(simulator)
    first.sync()
    second = world.connect(simulator)
    second.sync()
    assert (first.account, second.account) == ("U1110001", "U1110002")
    third = world.connect(simulator)
    assert problem_of(third.sync()).code == "ibkr_no_account_left"


def test_C11_another_user_at_the_gateway_imports_nothing(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(accounts=("U1110001",), trades=5)
    line = world.connect(simulator)
    line.sync()
    before = line.executions()
    # Somebody logs in with another username.
    world.simulators["https://localhost:5000"] = stranger = IbkrSimulator(
        world.clock, type(simulator.setup)(accounts=("U9990009",), trades=5, seed="other")
    )
    world.restart()
    report = line.sync()
    assert outcome_of(report).status == "blocked_reauth"
    assert problem_of(report).code == "other_account"
    assert line.executions() == before
    assert "/iserver/account/trades" not in calls(stranger)
    # The right user again: it heals by itself.
    world.simulators["https://localhost:5000"] = simulator
    world.restart()
    world.learn()
    world.drive(world.clock.now() + 2 * MINUTE)
    assert line.connection()["status"] == "active"


# Sessions


def test_C1_an_expired_session_asks_for_a_login_and_heals_without_a_click(make: Make) -> None:
    world, simulator, line = make(trades=5)
    line.sync()
    simulator.expire()
    simulator.audit.clear()
    report = line.sync("manual")
    assert calls(simulator) == ["/iserver/auth/status", "/tickle"]
    assert (outcome_of(report).status, outcome_of(report).reason) == ("blocked_reauth", "auth")
    view = line.view()
    assert view["status"] == "needs_reauth"
    assert view["health"]["state"] == "needs_reauth"
    assert view["health"]["url"] == "https://localhost:5000"
    jobs = len(line.jobs())
    world.drive(world.clock.now() + 60 * MINUTE)
    assert len(line.jobs()) == jobs, "the schedule pauses"
    line.trade(symbol="AAPL", side="B", size=Decimal(2))
    simulator.login()
    world.drive(world.clock.now() + 2 * MINUTE)
    assert line.health() == "ok"
    line.assert_exact()
    assert len(line.jobs()) == jobs + 1
    assert_polite(simulator)


def test_C1_a_new_worker_finds_out_by_itself_that_somebody_logged_in(make: Make) -> None:
    world, simulator, line = make(trades=5)
    simulator.expire()
    line.sync()
    world.restart()
    world.learn()
    world.drive(world.clock.now() + 30 * MINUTE)
    assert len(line.jobs()) == 2, "one look when it started, and none until somebody logs in"
    simulator.login()
    world.drive(world.clock.now() + 2 * MINUTE)
    line.assert_exact()


@pytest.mark.parametrize("refusal", ["json", "problem", "empty", "redirect", "html"])
def test_C1_whatever_a_logged_out_gateway_answers(make: Make, refusal: str) -> None:
    _, simulator, line = make(trades=5)
    simulator.quirks = Quirks(refusal=refusal, logged_out_status="refusal")  # type: ignore[arg-type]
    simulator.expire()
    simulator.audit.clear()
    assert problem_of(line.sync()).code == "ibkr_login_needed"
    assert len(simulator.audit.calls) == 2


def test_C2_a_competing_session_is_waited_for_and_never_taken(make: Make) -> None:
    world, simulator, line = make(trades=5)
    line.sync()
    simulator.compete()
    world.drive(world.clock.now() + 20 * MINUTE)
    view = line.view()
    assert (view["status"], view["health"]["state"]) == ("active", "in_use_elsewhere")
    assert "in use in another program" in view["health"]["sentence"]
    assert view["breaker"]["failures"] == 0
    simulator.audit.clear()
    world.drive(world.clock.now() + 60 * MINUTE)
    assert len(simulator.audit.calls) <= 4, "a quiet look at every interval"
    simulator.release()
    line.trade(symbol="AAPL", side="B", size=Decimal(2))
    world.drive(world.clock.now() + 16 * MINUTE)
    assert line.health() == "ok"
    line.assert_exact()
    assert_polite(simulator)


def test_C2_a_contested_session_is_read_and_the_contest_reported(make: Make) -> None:
    world, simulator, line = make(trades=5)
    line.sync()
    simulator.compete(stealing=False)
    report = line.sync()
    assert (outcome_of(report).status, problem_of(report).code) == ("succeeded", "notice")
    assert "Another program" in problem_of(report).sentence
    simulator.audit.clear()
    world.drive(world.clock.now() + 10 * MINUTE)
    assert calls(simulator) == [], "no tickle that would fight"
    simulator.release()
    assert outcome_of(line.sync()).problem is None


def test_C3_a_session_that_dies_under_a_job_leaves_what_was_stored(make: Make) -> None:
    world, simulator, line = make(trades=5)
    line.sync()
    cursor = line.cursor()["coverage"]
    line.trade(symbol="AAPL", side="B", size=Decimal(2))
    simulator.faults.plant(Fault(path="trades", status=401, times=5, processed=False))
    simulator.faults.plant(Fault(path="tickle", status=401, times=5, processed=False))
    report = line.sync()
    assert outcome_of(report).status == "blocked_reauth"
    assert line.cursor()["coverage"] == cursor
    simulator.faults.clear()
    world.learn()
    world.drive(world.clock.now() + 2 * MINUTE)
    line.assert_exact()


def test_C4_maintenance_has_an_end_and_counts_as_no_error(make: Make) -> None:
    world, simulator, line = make(trades=5)
    line.sync()
    world.drive(NOON + 12 * 60 * MINUTE + 20 * MINUTE)  # into the night: the reset has ended the session
    view = line.view()
    assert view["health"]["state"] == "maintenance_window"
    end = view["health"]["until"]
    assert NOON + (13 * 60 + 45) * MINUTE <= end <= NOON + (14 * 60) * MINUTE
    assert view["breaker"]["failures"] == 0
    assert all(job["stats"]["errors"] == 0 for job in line.jobs())
    simulator.login()
    world.drive(int(end) + 15 * MINUTE)
    assert line.health() == "ok"


def test_C5_maintenance_that_does_not_end_becomes_degraded(make: Make) -> None:
    world, simulator, line = make(trades=5)
    line.sync()
    world.drive(NOON + 12 * 60 * MINUTE + 20 * MINUTE)
    simulator.login()
    simulator.maintenance(until_ms=NOON + 20 * 60 * MINUTE)
    world.drive(NOON + (14 * 60 + 30) * MINUTE)
    assert line.health() == "degraded"
    assert line.view()["breaker"]["failures"] >= 2


@pytest.mark.parametrize("minutes", [1, 10, 60])
def test_C6_keepalive_survives_a_gateway_that_was_away(make: Make, minutes: int) -> None:
    world, simulator, line = make(trades=5)
    line.sync()
    world.drive(world.clock.now() + 3 * MINUTE)
    simulator.faults.plant(Fault(path="tickle", reset=True, times=minutes))
    world.drive(world.clock.now() + minutes * MINUTE)
    simulator.faults.clear()
    simulator.audit.clear()
    world.drive(world.clock.now() + 2 * MINUTE)
    tickles = [call for call in simulator.audit.calls if call.path.endswith("/tickle") and call.outcome == "ok"]
    assert tickles
    assert line.health() == "ok"
    assert_polite(simulator)


def test_keepalive_holds_the_session_between_polls_that_are_an_hour_apart(make: Make) -> None:
    world, simulator, line = make(trades=5, settings={"intervalMinutes": 60})
    line.sync()
    simulator.audit.clear()
    world.drive(world.clock.now() + 59 * MINUTE)
    assert set(calls(simulator)) == {"/tickle"}
    assert 50 <= len(simulator.audit.calls) <= 60
    world.drive(world.clock.now() + 3 * MINUTE)
    assert "/iserver/auth/ssodh/init" not in calls(simulator)
    assert_polite(simulator)


def test_keepalive_around_polls_lets_the_session_go_and_opens_it_for_the_next(make: Make) -> None:
    world, simulator, line = make(trades=5, settings={"ibkrKeepalive": "around_polls"})
    line.sync()
    simulator.audit.clear()
    line.trade(symbol="AAPL", side="B", size=Decimal(2))
    world.drive(world.clock.now() + 18 * MINUTE)
    assert "/tickle" not in calls(simulator)
    assert calls(simulator).count("/iserver/auth/ssodh/init") == 1
    line.assert_exact()
    assert_polite(simulator)


def test_keepalive_of_a_connection_that_was_removed_ends(make: Make) -> None:
    world, simulator, line = make(trades=5)
    line.sync()
    line.user.mutation("tradeImport/connections:disconnect", {"connectionId": line.connection_id})
    world.learn()
    simulator.audit.clear()
    world.drive(world.clock.now() + 10 * MINUTE)
    assert calls(simulator) == []


def test_a_lost_brokerage_session_is_opened_once_by_two_connections_of_a_login(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(accounts=("U1110001", "U1110002"), trades=10)
    lines = [world.connect(simulator, account=account) for account in simulator.accounts]
    simulator.drop_brokerage()
    for line in lines:
        line.sync()
        line.assert_exact()
    assert calls(simulator).count("/iserver/auth/ssodh/init") == 1
    assert_polite(simulator)


# Pacing and faults of the line


def test_A6_a_429_silences_the_login_for_jobs_keepalive_and_siblings(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(accounts=("U1110001", "U1110002"), trades=10)
    first, second = world.connect(simulator, account="U1110001"), world.connect(simulator, account="U1110002")
    simulator.faults.plant(Fault(path="trades", status=429, processed=False))
    assert problem_of(first.sync()).code == "ibkr_penalty_box"
    made = len(simulator.audit.calls)
    assert problem_of(second.sync()).code == "silenced"
    # A new process remembers, because the note is kept with the connection.
    world.restart()
    world.learn()
    assert outcome_of(first.sync("manual")).reason == "rate_limited"
    world.drive(world.clock.now() + 14 * MINUTE)
    assert len(simulator.audit.calls) == made
    assert first.health() == "degraded"
    world.drive(world.clock.now() + 20 * MINUTE)
    for line in (first, second):
        line.assert_exact()
        assert line.health() == "ok"
    assert_polite(simulator)


def test_breaker_opens_after_repeated_faults_and_lives_with_the_connection(make: Make) -> None:
    world, simulator, line = make(trades=5)
    line.sync()
    simulator.faults.plant(Fault(status=503, times=None, processed=False))
    world.drive(world.clock.now() + 60 * MINUTE)
    view = line.view()
    assert view["breaker"]["phase"] == "open"
    assert view["breaker"]["failures"] >= 3
    assert view["health"]["state"] == "degraded"
    # Another process: one request is asked once, because the breaker is half-open.
    world.restart()
    world.learn()
    simulator.audit.clear()
    world.drive(world.clock.now() + 16 * MINUTE)
    assert len(simulator.audit.calls) == 1
    simulator.faults.clear()
    world.drive(world.clock.now() + 16 * MINUTE)
    view = line.view()
    assert (view["breaker"]["phase"], view["health"]["state"]) == ("closed", "ok")


def test_B24_an_empty_list_never_moves_the_boundary(make: Make) -> None:
    world, simulator, line = make()
    report = line.sync()
    assert (outcome_of(report).status, report.fetched) == ("succeeded", 0)
    assert calls(simulator).count("/iserver/account/trades") == 2
    assert line.connection()["completeUpTo"] is None
    line.trade(symbol="AAPL", side="B", size=Decimal(2))
    world.clock.advance(900)
    line.sync()
    line.assert_exact()
    edge = line.connection()["completeUpTo"]
    assert edge is not None
    # The list goes stale: empty again. The boundary stays where it was.
    simulator.faults.plant(Fault(path="trades", body="[]", times=4))
    world.clock.advance(900)
    assert outcome_of(line.sync()).status == "succeeded"
    assert line.connection()["completeUpTo"] == edge


def test_E10_an_absence_beyond_the_memory_is_a_gap_that_names_flex(make: Make) -> None:
    world, simulator, line = make()
    line.trade(symbol="AAPL", side="B", size=Decimal(1))
    line.sync()
    edge = line.connection()["completeUpTo"]
    (lost,) = [world.clock.advance(DAY / 1000) and line.trade(symbol="MSFT", side="B", size=Decimal(1))]
    world.clock.advance(8 * DAY / 1000)  # the host sleeps
    simulator.login()
    line.trade(symbol="AAPL", side="S", size=Decimal(1))
    world.restart()
    report = line.sync()
    back = world.clock.now()
    assert (outcome_of(report).status, outcome_of(report).reason) == ("partial", "gap")
    assert "Flex" in problem_of(report).sentence
    view = line.view()
    assert view["health"]["state"] == "degraded"
    assert view["status"] == "active"
    (gap,) = view["gaps"]
    assert (gap["start"], gap["end"]) == (edge, pytest.approx(back - 6 * DAY, abs=MINUTE))
    assert set(line.truth()) - set(line.stored()) == {lost[0].family}
    assert outcome_of(line.sync()).reason == "gap", "it stays until something closes it"


def test_a_gap_before_the_wished_start_is_none(make: Make) -> None:
    world, simulator, line = make()
    line.trade(symbol="AAPL", side="B", size=Decimal(1))
    line.sync()
    world.clock.advance(9 * DAY / 1000)
    simulator.login()
    line.trade(symbol="AAPL", side="S", size=Decimal(1))
    world.tell_convex_the_time()
    line.user.mutation(
        "tradeImport/connections:updateSettings",
        {"connectionId": line.connection_id, "importFrom": world.clock.now() - 2 * DAY},
    )
    assert outcome_of(line.sync()).problem is None


def test_F7_a_gateway_the_operator_did_not_list_is_never_called(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=3)
    for url in ("https://169.254.169.254", "https://localhost:9999", "https://gateway.evil.example:5000"):
        line = world.connect(simulator, auth={"kind": "ibkr_gateway", "baseUrl": url})
        report = line.sync()
        assert outcome_of(report).status == "blocked_reauth"
        assert problem_of(report).code == "ibkr_gateway_not_allowed"
    for url in (
        "file:///etc/passwd",
        "https://user@localhost:5000",
        "http://gateway.lan:5000",
        "https://localhost:5000/x",
    ):
        with pytest.raises(CallFailed) as refused:
            world.connect(simulator, auth={"kind": "ibkr_gateway", "baseUrl": url})
        assert refused.value.code == "invalid_argument"
    assert simulator.audit.calls == []


# OAuth


def oauth_auth(simulator: IbkrSimulator) -> dict[str, str]:
    consumer = simulator.oauth
    return {
        "kind": "ibkr_oauth",
        "consumerKey": consumer.consumer_key,
        "accessToken": consumer.access_token,
        "accessTokenSecret": consumer.access_token_secret,
        "signatureKey": consumer.signature_key,
        "encryptionKey": consumer.encryption_key,
        "dhParam": consumer.dh_param,
    }


def test_oauth_imports_without_anybody_logging_in_through_nightly_resets(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(oauth=True, trades=10, logged_in=False)
    line = world.connect(simulator, auth=oauth_auth(simulator))
    world.drive(world.clock.now() + 2 * DAY, step=300)
    line.trade(symbol="AAPL", side="B", size=Decimal(1))
    world.drive(world.clock.now() + 30 * MINUTE)
    line.assert_exact()
    assert line.health() == "ok"
    handshakes = calls(simulator).count("/oauth/live_session_token")
    assert 2 <= handshakes <= 4, "once a day, as the token lives"
    assert_polite(simulator)


def test_oauth_renews_a_stale_session_token_once(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(oauth=True, trades=10, logged_in=False)
    line = world.connect(simulator, auth=oauth_auth(simulator))
    line.sync()
    simulator.audit.clear()
    simulator.quirks = Quirks(oauth_stale=True)
    assert outcome_of(line.sync()).status == "succeeded"
    assert calls(simulator).count("/oauth/live_session_token") == 1
    line.assert_exact()


def test_an_oauth_consumer_that_is_not_active_yet_starts_by_itself_later(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(oauth=True, trades=10, logged_in=False)
    simulator.quirks = Quirks(oauth_inactive=True)
    line = world.connect(simulator, auth=oauth_auth(simulator))
    report = line.sync()
    assert (outcome_of(report).status, problem_of(report).code) == ("blocked_reauth", "ibkr_consumer_inactive")
    assert len(simulator.audit.calls) == 1
    world.drive(world.clock.now() + DAY, step=600)
    assert len(simulator.audit.calls) <= 6, "a look every few hours"
    simulator.quirks = Quirks()
    world.drive(world.clock.now() + 7 * 60 * MINUTE, step=600)
    line.assert_exact()


def test_oauth_keys_that_do_not_belong_together_are_the_persons_business(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(oauth=True, trades=3, logged_in=False)
    auth = oauth_auth(simulator)
    swapped = {**auth, "signatureKey": auth["encryptionKey"], "encryptionKey": auth["signatureKey"]}
    line = world.connect(simulator, auth=swapped)
    report = line.sync()
    assert outcome_of(report).status == "blocked_reauth"
    assert problem_of(report).action == "update_credentials"
    stored = json.dumps(deployment.documents("importJobs", connectionId=line.connection_id))
    assert not any(auth[name][:40] in stored for name in ("accessTokenSecret", "signatureKey", "encryptionKey"))
