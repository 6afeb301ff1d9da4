"""Whole jobs: the worker's own code, a faithful Kraken on a virtual clock, and the real Convex functions."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.brokers.kraken.simulator import Setup
from tests.support.deployment import Deployment
from tests.support.world import World
from worker.models import JobOutcome

MakeWorld = Callable[..., World]
DAY = 86_400


def test_the_first_sync_imports_the_whole_history_exactly(world: MakeWorld) -> None:
    here = world(trades=130, seed="first")
    report = here.sync()
    assert report.outcome == JobOutcome(status="succeeded")
    assert report.inserted + report.held == 130
    here.assert_exact()
    here.assert_accounted()


def test_ten_syncs_change_nothing_after_the_first_and_are_quiet(world: MakeWorld) -> None:
    here = world(trades=130, seed="ten")
    here.sync()
    rows = here.executions()
    for _ in range(9):
        here.clock.advance(900)
        here.deployment.reset_calls()
        here.kraken.audit.calls.clear()
        report = here.sync()
        assert (report.inserted, report.updated, report.held, report.rejected) == (0, 0, 0, 0)
        assert sum(here.deployment.calls().values()) <= 2, here.deployment.calls()
        assert len(here.kraken.audit.calls) <= 2, here.kraken.audit.calls
    assert here.executions() == rows
    here.assert_accounted()


def test_a_restarted_worker_sends_the_overlap_once_and_finds_it_known(world: MakeWorld) -> None:
    here = world(trades=20, seed="restart", years=0.0001)
    here.sync()
    here.restart()
    report = here.sync()
    assert (report.inserted, report.updated) == (0, 0)
    assert report.known > 0
    here.assert_exact()


def test_B1_the_same_page_again_is_known(world: MakeWorld) -> None:
    here = world(trades=40, seed="B1", years=0.0001)
    here.sync()
    here.restart()
    report = here.sync()
    assert report.known == report.fetched > 0


def test_B4_a_trade_booked_two_minutes_late_is_found_by_the_overlap(world: MakeWorld) -> None:
    here = world(trades=10, seed="B4a")
    here.sync()
    here.trade(visible_in_seconds=120)
    here.clock.advance(60)
    here.sync()
    here.clock.advance(900)
    here.sync()
    here.assert_exact()


def test_B4_a_trade_booked_three_days_late_is_found_by_the_daily_pass(world: MakeWorld) -> None:
    here = world(trades=10, seed="B4b")
    here.sync()
    here.trade(visible_in_seconds=3 * DAY)
    for _ in range(4 * 24):
        here.clock.advance(3600)
        here.sync()
    here.assert_exact()


def test_B6_two_equal_fills_are_two_trades(world: MakeWorld) -> None:
    here = world(seed="B6")
    here.trade(count=2, pair="XXBTZUSD", type="buy", vol="0.25", price="60000", ago_seconds=600)
    here.sync()
    rows = here.executions()
    assert len(rows) == 2
    assert len({(row["occurredAt"], row["price"], row["quantity"]) for row in rows}) == 1
    assert len({trade for row in rows for trade in row["tradeIds"]}) == 2
    here.assert_exact()


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrivals=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 70)), min_size=1, max_size=3))
def test_B3_a_trade_that_arrives_while_paging_is_imported_once(
    deployment: Deployment, arrivals: list[tuple[int, int]]
) -> None:
    """`arrivals`: before the n-th call of the job, so many new fills; 70 shift the list by more than a page."""
    here = World(deployment, Setup(trades=230, seed="B3"))
    calls = 0
    handle = here.kraken.handle

    def handle_and_trade(request: object) -> object:
        nonlocal calls
        calls += 1
        for call, count in arrivals:
            if call == calls:
                for _ in range(count):
                    here.trade()
        return handle(request)  # type: ignore[arg-type]

    here.kraken.handle = handle_and_trade  # type: ignore[method-assign, assignment]
    here.sync()
    here.kraken.handle = handle  # type: ignore[method-assign]
    here.clock.advance(300)
    here.sync()
    here.assert_exact()
    here.assert_accounted()


def test_a_long_import_goes_on_in_bounded_slices(world: MakeWorld) -> None:
    here = world(trades=1500, seed="slices", job_seconds=30)
    seen = []
    for _ in range(40):
        report = here.sync("backfill")
        seen.append(report.fetched)
        if not report.unfinished:
            break
        assert report.next_sync_in == 0
    assert len(seen) > 2, "30 s of a Starter key are not enough for 30 pages"
    # Each slice repeats the newest hour and at most one page.
    assert sum(seen) < 1500 + len(seen) * 150
    here.assert_exact()


def test_import_from_is_respected(world: MakeWorld) -> None:
    here = world(trades=100, seed="from", years=1)
    since = here.clock.now() - 90 * DAY * 1000
    here.user.mutation(
        "tradeImport/connections:updateSettings",
        {"connectionId": here.connection_id, "importFrom": since},
    )
    here.sync()
    expected = {txid: facts for txid, facts in here.truth().items() if facts[0] > since}
    assert 0 < len(expected) < 100
    assert here.stored() == expected


def test_the_daily_pass_over_a_busy_week_is_resumed_not_begun_again(world: MakeWorld) -> None:
    here = world(trades=1000, seed="busy week", years=7 / 365, job_seconds=120, cut_pages=8)
    while here.sync("backfill").unfinished:
        pass
    here.clock.advance(DAY + 60)
    here.restart()
    slices = 1
    while here.sync().unfinished:
        slices += 1
        # Twenty pages at about six seconds each fit into three slices of two minutes or so.
        assert slices < 8, "every slice begins the week again"
    here.assert_exact()


def test_import_from_set_during_a_long_import_is_respected(world: MakeWorld) -> None:
    here = world(trades=1000, seed="from later", job_seconds=60)
    assert here.sync("backfill").unfinished
    stored_before = set(here.stored())
    since = here.clock.now() - 30 * DAY * 1000
    here.user.mutation(
        "tradeImport/connections:updateSettings", {"connectionId": here.connection_id, "importFrom": since}
    )
    while here.sync("backfill").unfinished:
        pass
    wanted = {txid for txid, facts in here.truth().items() if facts[0] > since}
    assert wanted <= set(here.stored()) <= wanted | stored_before


def test_C11_an_account_named_late_is_kept_apart_from_another(world: MakeWorld) -> None:
    here = world(trades=20, seed="C11")
    here.kraken.quirks.key_info = "unknown"
    assert here.sync().inserted == 20
    other = World(here.deployment, Setup(trades=20, seed="C11 other"))
    here.user.mutation(
        "tradeImport/connections:updateCredentials",
        {
            "connectionId": here.connection_id,
            "auth": {"kind": "kraken", "apiKey": other.kraken.key.key, "apiSecret": other.kraken.key.secret},
        },
    )
    stored = here.stored()
    here.kraken = other.kraken
    here.restart()
    outcome = here.sync().outcome
    assert isinstance(outcome, JobOutcome)
    assert outcome.status == "blocked_reauth"
    assert outcome.problem is not None
    assert outcome.problem.code == "other_account"
    assert here.stored() == stored


def test_an_account_named_late_with_the_same_key_goes_on(world: MakeWorld) -> None:
    here = world(trades=20, seed="named late")
    here.kraken.quirks.key_info = "unknown"
    here.sync()
    here.kraken.quirks.key_info = "camel"
    here.clock.advance(DAY + 60)
    here.trade(ago_seconds=2)
    assert here.sync().outcome == JobOutcome(status="succeeded")
    here.assert_exact()
    assert len({row["accountRef"] for row in here.executions()}) == 1
