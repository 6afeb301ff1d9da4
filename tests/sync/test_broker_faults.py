"""The broker misbehaves (rows A, B and C of the fault matrix): whole jobs, and what their owner gets to see."""

from __future__ import annotations

import email.utils
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import structlog

from sandbox.brokers.audit import Call
from sandbox.brokers.faults import Fault
from sandbox.brokers.kraken.simulator import KeyChange, Quirks
from tests.support.world import World
from worker.models import JobOutcome, Refusal
from worker.sync import Report

MakeWorld = Callable[..., World]
INTERVAL = 900
DAY = 86_400
WELL = JobOutcome(status="succeeded")


def ended(report: Report) -> tuple[str, str]:
    assert isinstance(report.outcome, JobOutcome), report
    return report.outcome.status, report.outcome.reason


def histories(here: World) -> list[Call]:
    return [call for call in here.kraken.audit.calls if call.path.endswith("TradesHistory")]


def at_next_interval(here: World) -> Report:
    here.clock.advance(INTERVAL)
    return here.sync()


def health(here: World) -> str:
    state: str = here.connection()["health"]["state"]
    return state


@pytest.mark.parametrize("way", ["refuse", "reset"])
def test_A1_a_broker_out_of_reach_is_degraded_after_two_jobs_and_well_after_one(world: MakeWorld, way: str) -> None:
    here = world(trades=60, seed="A1")
    here.sync()
    covered = here.cursor()["coverage"]
    here.kraken.faults.plant(Fault.model_validate({way: True, "times": None, "processed": False}))
    states = []
    for _ in range(5):
        here.trade()
        report = at_next_interval(here)
        assert ended(report) == ("failed", "unavailable")
        assert report.next_sync_in == INTERVAL * 1000, "the next job runs on time, however long it lasts"
        states.append(health(here))
    assert states == ["ok", "degraded", "degraded", "degraded", "degraded"]
    assert here.connection()["health"]["sentence"]
    assert here.cursor()["coverage"] == covered
    here.kraken.faults.clear()
    assert at_next_interval(here).outcome == WELL
    assert health(here) == "ok"
    here.assert_exact()
    here.assert_accounted()


@pytest.mark.parametrize("way", [{"hang": True}, {"drip": 1}], ids=["A2", "A3"])
def test_A2_A3_no_call_lasts_longer_than_its_deadline(world: MakeWorld, way: dict[str, Any]) -> None:
    here = world(trades=60, seed="A2")
    here.kraken.faults.plant(Fault.model_validate({"path": "TradesHistory", "times": None, **way}))
    begun = here.clock.monotonic()
    assert ended(here.sync()) == ("failed", "unavailable")
    assert here.clock.monotonic() - begun <= 4 * (30 + 1) + 8 + 4 + 2, "four tries, and the waits between them"
    calls = histories(here)
    assert len(calls) == 4
    assert here.executions() == []
    here.kraken.faults.clear()
    assert at_next_interval(here).outcome == WELL
    here.assert_exact()


@pytest.mark.parametrize("seconds", [7, 25])
@pytest.mark.parametrize("spelled", ["seconds", "date"])
def test_A5_a_short_retry_after_is_waited_for(world: MakeWorld, seconds: int, spelled: str) -> None:
    here = world(trades=60, seed="A5")
    due = here.clock.now() // 1000 + seconds + 2
    text = str(seconds) if spelled == "seconds" else email.utils.formatdate(due, usegmt=True)
    here.kraken.faults.plant(Fault(path="TradesHistory", status=503, headers={"Retry-After": text}))
    assert here.sync().outcome == WELL
    refused, again = histories(here)[:2]
    assert again.at >= (refused.at + seconds * 1000 if spelled == "seconds" else due * 1000)
    here.assert_exact()


@pytest.mark.parametrize(
    ("text", "at_least", "at_most"),
    [("600", 600, 600), ("1000000000", DAY, DAY), ("-30", 0, 120), ("nonsense", 0, 120)],
)  # fmt: skip
def test_A5_a_long_retry_after_is_an_appointment(world: MakeWorld, text: str, at_least: int, at_most: int) -> None:
    here = world(trades=60, seed="A5")
    here.kraken.faults.plant(Fault(path="TradesHistory", status=429, headers={"Retry-After": text}, times=9))
    begun = here.clock.monotonic()
    report = here.sync()
    assert ended(report) == ("failed", "rate_limited")
    assert here.clock.monotonic() - begun <= 120, "a job does not sleep, it comes again"
    assert at_least * 1000 <= report.next_sync_in <= at_most * 1000 + 1
    assert here.cursor()["coverage"] == []


def test_A7_a_rate_limit_in_a_200_is_waited_out(world: MakeWorld) -> None:
    here = world(trades=60, seed="A7")
    here.kraken.faults.plant(Fault(path="TradesHistory", error="EAPI:Rate limit exceeded"))
    assert here.sync().outcome == WELL
    refused, again = histories(here)[:2]
    # The full counter of a starter key, 15, drains at 0.33 a second.
    assert again.elapsed - refused.elapsed >= 15 / 0.33
    here.assert_exact()
    assert here.kraken.audit.rate_breaches == 0


def test_A7_a_rate_limit_that_stays_is_no_fault_and_causes_ever_fewer_calls(world: MakeWorld) -> None:
    here = world(trades=60, seed="A7b")
    here.kraken.faults.plant(Fault(path="TradesHistory", error="EAPI:Rate limit exceeded", times=None))
    per_job = []
    for _ in range(4):
        before = len(histories(here))
        report = here.sync()
        assert ended(report) == ("failed", "rate_limited")
        assert report.next_sync_in > 0
        here.clock.advance(report.next_sync_in / 1000)
        per_job.append(len(histories(here)) - before)
    assert max(per_job) <= 4
    assert per_job == sorted(per_job, reverse=True), "no growth of attempts"
    assert here.jobs()[-1]["stats"]["errors"] == 0
    here.kraken.faults.clear()
    assert here.sync().outcome == WELL


@pytest.mark.parametrize("ahead", [20, 300])
def test_A8_no_call_before_the_time_kraken_names(world: MakeWorld, ahead: int) -> None:
    here = world(trades=60, seed="A8")
    until = here.clock.now() // 1000 + ahead
    here.kraken.faults.plant(Fault(path="TradesHistory", error=f"EService:Throttled: {until}"))
    report = here.sync()
    if ahead > 60:
        assert ended(report) == ("failed", "rate_limited")
        assert here.clock.now() + report.next_sync_in >= until * 1000
        here.clock.advance(report.next_sync_in / 1000)
        here.kraken.audit.clear()
        report = here.sync()
    assert report.outcome == WELL
    assert histories(here)[-1].at >= until * 1000
    here.assert_exact()


TRANSIENT = [
    *({"status": status, "html": True} for status in (500, 502, 503, 504)),
    {"error": "EService:Unavailable"}, {"error": "EService:Busy"},
]  # fmt: skip


@pytest.mark.parametrize("way", TRANSIENT, ids=str)
def test_A9_the_fourth_try_may_bring_everything(world: MakeWorld, way: dict[str, Any]) -> None:
    here = world(trades=60, seed="A9")
    fault = {"path": "TradesHistory", **way}
    here.kraken.faults.plant(Fault.model_validate({**fault, "times": 3}))
    assert here.sync().outcome == WELL
    here.assert_exact()
    here.kraken.faults.plant(Fault.model_validate({**fault, "times": None}))
    here.kraken.audit.clear()
    here.restart()
    assert ended(at_next_interval(here)) == ("failed", "unavailable")
    assert len(histories(here)) == 4


def test_A10_a_refused_request_is_made_once(world: MakeWorld) -> None:
    here = world(trades=60, seed="A10")
    here.kraken.faults.plant(Fault(path="TradesHistory", status=418, body="{}"))
    assert ended(here.sync()) == ("failed", "rejected")
    assert len(histories(here)) == 1
    assert here.connection()["status"] == "error"
    assert here.sync().outcome == WELL
    assert here.connection()["status"] == "active"
    here.assert_exact()


NOT_DATA: list[dict[str, Any]] = [
    {"html": True}, {"body": "<html></html>", "headers": {"Content-Type": "text/html"}}, {"body": ""}, {"body": "[]"},
    {"headers": {"Content-Type": "text/html"}}, {"bom": True}, {"gzipLie": True}, {"charset": "utf-16"},
    {"body": '{"error":[]}'}, {"body": '{"error":[],"result":{}}'}, {"body": '{"error":[],"result":{"trades":[]}}'},
]  # fmt: skip


@pytest.mark.parametrize("way", NOT_DATA, ids=str)
def test_A11_another_document_is_never_zero_trades(world: MakeWorld, way: dict[str, Any]) -> None:
    here = world(trades=60, seed="A11")
    here.kraken.faults.plant(Fault.model_validate({"path": "TradesHistory", "times": None, **way}))
    report = here.sync()
    assert ended(report) == ("failed", "unavailable")
    assert here.executions() == []
    assert here.cursor()["coverage"] == []
    here.kraken.faults.clear()
    assert at_next_interval(here).outcome == WELL
    here.assert_exact()


def test_A12_a_page_cut_at_any_byte_is_not_stored_in_part(world: MakeWorld) -> None:
    """Every offset is tried by the connector's own test; here what a whole job makes of some of each region."""
    here = world(seed="A12")
    for _ in range(20):
        here.trade()
    whole: list[int] = []
    handle = here.kraken.handle

    def measured(request: Any) -> Any:
        answer = handle(request)
        if request.path.endswith("TradesHistory"):
            whole.append(len(answer.body))
        return answer

    here.kraken.handle = measured  # type: ignore[method-assign]
    for size in (0, 1, 12, 40, 333, 2000, 4001):
        here.kraken.faults.clear()
        here.kraken.faults.plant(Fault(path="TradesHistory", truncate=size, times=None))
        assert ended(here.sync()) == ("failed", "unavailable"), size
        assert here.executions() == [], size
        assert here.cursor()["coverage"] == [], size
    here.kraken.faults.clear()
    assert at_next_interval(here).outcome == WELL
    assert max(whole) > 4001
    here.assert_exact()


def test_B2_rows_in_any_order_end_the_same(world: MakeWorld) -> None:
    here = world(trades=230, seed="B2")
    here.kraken.quirks = Quirks(shuffled=True)
    assert here.sync().outcome == WELL
    here.assert_exact()
    at_next_interval(here)
    assert here.cursor()["coverage"][0]["start"] == 0


@pytest.mark.parametrize(
    "quirks",
    [
        {"count_off_by": 3},
        {"short_page_at": 50, "short_page_rows": 0},
        {"endless_pages": True},
        {"endless_pages": True, "count": "missing"},
    ],
    ids=str,
)
def test_B5_what_was_not_drained_is_not_covered_and_the_owner_sees_it(world: MakeWorld, quirks: dict[str, Any]) -> None:
    here = world(trades=130, seed="B5")
    here.kraken.quirks = Quirks.model_validate(quirks)
    report = here.sync()
    assert ended(report) in (("partial", "incomplete_report"), ("failed", "incomplete_report")), "never silent"
    assert health(here) == "degraded"
    assert here.connection()["health"]["sentence"] == report.problem != ""
    oldest = min(at for at, *_ in here.truth().values())
    assert all(interval["start"] >= oldest for interval in here.cursor()["coverage"])
    here.kraken.quirks = Quirks()
    assert at_next_interval(here).outcome == WELL
    assert health(here) == "ok"
    here.assert_exact()
    here.assert_accounted()


@pytest.mark.parametrize("overrides", [{"vol": "1,234.5"}, {"type": "swap"}, {"pair": None}, {"price": None}], ids=str)
def test_B12_fifty_of_fifty_one_rows_are_stored_and_one_is_kept_with_its_reason(
    world: MakeWorld, overrides: dict[str, Any]
) -> None:
    here = world(seed="B12")
    for number in range(50):
        here.trade(ago_seconds=600 + number)
    (broken,) = here.trade(ago_seconds=900, overrides=overrides)
    report = here.sync()
    assert ended(report) == ("partial", "bad_records")
    assert (report.fetched, report.inserted + report.held, report.rejected) == (51, 50, 1)
    (reject,) = here.rejects()
    (field,) = overrides
    assert field in reject["reason"]
    assert json.loads(reject["rawPayload"])["txid"] == reject["externalExecutionId"] == broken
    assert health(here) == "degraded"
    here.assert_accounted()
    assert here.stored() == {txid: facts for txid, facts in here.truth().items() if txid != broken}
    # Kraken mends the row: it is imported, and the reject is history.
    fill = here.kraken.history.find(broken)
    assert fill is not None
    object.__setattr__(fill, "overrides", {})
    at_next_interval(here)
    here.assert_exact()
    (reject,) = here.rejects()
    assert "resolvedAt" in reject


def test_B13_what_is_new_is_imported_and_noted_once(world: MakeWorld) -> None:
    here = world(trades=130, seed="B13")
    here.kraken.quirks = Quirks(unknown_fields={"novelty": {"a": 1}})
    here.trade(ago_seconds=600, overrides={"ordertype": "never-heard-of"})
    with structlog.testing.capture_logs() as lines:
        reports = [here.sync(), at_next_interval(here), at_next_interval(here)]
    assert [report.rejected for report in reports] == [0, 0, 0]
    here.assert_exact()
    assert all("novelty" in json.loads(row["rawPayload"]) for row in here.executions())
    notices = [line["warning"] for line in lines if line["event"] == "sync.drift"]
    assert len([notice for notice in notices if "novelty" in notice]) == 1, "one notice a kind, not one a page"
    assert len(notices) == len(set(notices))


@pytest.mark.parametrize("price", [Decimal("NaN"), Decimal("Infinity"), "1e999999", "-1", "1,234.5", ""], ids=str)
def test_B15_what_is_no_amount_is_refused(world: MakeWorld, price: Any) -> None:
    here = world(seed="B15")
    here.trade(ago_seconds=600)
    here.trade(ago_seconds=700, overrides={"price": price})
    report = here.sync()
    assert (report.inserted + report.held, report.rejected) == (1, 1)
    assert "price" in here.rejects()[0]["reason"]


def test_B15_amounts_are_exact_to_the_last_digit(world: MakeWorld) -> None:
    here = world(seed="B15 sums")
    prices = ["0.00000001", "123456789012345678.123456789012", "30010.00000", "0.1", "0.2", "99999999.99999999"]
    for number, price in enumerate(prices):
        here.trade(pair="XXBTZUSD", price=price, vol="0.30000003", fee="-0.000010", ago_seconds=600 + number)
    here.trade(pair="XXBTZUSD", price="7", vol="1", fee="-0.0", ago_seconds=590)
    here.sync()
    rows = here.executions()
    assert sum(Decimal(row["price"]) for row in rows) == sum(map(Decimal, prices)) + 7
    assert sum(Decimal(row["quantity"]) for row in rows) == Decimal("0.30000003") * len(prices) + 1
    assert sum(Decimal(row["fee"]) for row in rows) == Decimal("-0.00001") * len(prices)
    assert not [row for row in rows if "E" in row["price"] or row["fee"] == "-0"]
    here.assert_exact()


@pytest.mark.parametrize(
    ("pair", "symbol", "resolved"),
    [
        ("XXBTZUSD", "BTC/USD", True),
        ("XBT/USD", "BTC/USD", True),
        ("XZECZUSD.d", None, True),
        ("BRK B", "BRK B", False),
        ("ÄÖÜ€", "ÄÖÜ€", False),
        ("NEVERUSD", None, None),
    ],
)
def test_B17_a_strange_symbol_never_costs_the_trade(
    world: MakeWorld, pair: str, symbol: str | None, resolved: bool | None
) -> None:
    here = world(seed="B17")
    here.trade(ago_seconds=600, overrides={"pair": pair, "aclass": None})
    report = here.sync()
    assert (report.rejected, report.fetched) == (0, 1)
    (row,) = here.executions()
    assert row["rawSymbol"] == pair
    assert symbol is None or row["symbol"] == symbol
    assert resolved is None or ("unresolved_symbol" not in row["flags"]) is resolved
    here.assert_exact()


def test_B20_a_long_import_shows_how_far_it_is(world: MakeWorld) -> None:
    here = world(trades=1500, seed="B20", job_seconds=60)
    seen = []
    for _ in range(30):
        report = here.sync("backfill")
        seen.append(here.jobs()[-1]["progress"])
        if not report.unfinished:
            break
    assert len(seen) >= 3
    assert all(0 < progress["rows"] <= 1600 for progress in seen)
    totals = [progress["total"] for progress in seen if progress.get("total", 0) > 50]
    frozen = here.jobs()[0]["cursorAfter"][-1]["start"]
    older = len([at for at, *_ in here.truth().values() if at <= frozen])
    assert set(totals) == {older}, "the broker's own count of the history, also after it was cut or resumed"
    here.assert_exact()


@pytest.mark.parametrize(
    "error", ["EAPI:Invalid key", "EAPI:Invalid signature", "EGeneral:Permission denied", "ESession:Invalid session"]
)
def test_C7_refused_credentials_are_tried_once_and_wait_for_a_person(world: MakeWorld, error: str) -> None:
    here = world(trades=60, seed="C7")
    here.kraken.faults.plant(Fault(path="/0/private/GetApiKeyInfo", error=error, times=None))
    report = here.sync("scheduled")
    assert ended(report) == ("blocked_reauth", "auth")
    private = [call for call in here.kraken.audit.calls if "/private/" in call.path]
    assert len(private) == 1
    assert health(here) == "needs_reauth"
    assert here.connection()["health"]["action"]
    for _ in range(8):
        here.clock.advance(INTERVAL)
        assert here.sync("scheduled").outcome == Refusal(reason="not_due")
    assert len([call for call in here.kraken.audit.calls if "/private/" in call.path]) == 1
    here.kraken.faults.clear()
    key = here.kraken.change_key(KeyChange(rotate=True))
    here.user.mutation(
        "tradeImport/connections:updateCredentials",
        {
            "connectionId": here.connection_id,
            "auth": {"kind": "kraken", "apiKey": key.key, "apiSecret": key.secret},
        },
    )
    assert here.sync("scheduled").outcome == WELL
    assert health(here) == "ok"
    here.assert_exact()


def test_C8_a_lockout_is_fifteen_minutes_of_silence(world: MakeWorld) -> None:
    here = world(trades=60, seed="C8")
    here.kraken.faults.plant(Fault(path="GetApiKeyInfo", error="EGeneral:Temporary lockout"))
    report = here.sync()
    assert ended(report) == ("failed", "rate_limited")
    assert report.next_sync_in >= INTERVAL * 1000
    here.kraken.audit.clear()
    for _ in range(14):
        here.clock.advance(60)
        assert ended(here.sync()) == ("failed", "rate_limited")
    assert [call for call in here.kraken.audit.calls if "/private/" in call.path] == []
    here.clock.advance(61)
    assert here.sync().outcome == WELL
    here.assert_exact()


@pytest.mark.parametrize("step", [-3600, 3600])
def test_C9_a_restart_under_a_stepped_clock_makes_no_nonce_error(world: MakeWorld, step: int) -> None:
    here = world(trades=60, seed="C9")
    for offset in (0, step, 0, step, 0):
        here.worker_clock.offset = offset
        here.restart()
        here.trade()
        assert at_next_interval(here).outcome == WELL
    # Nor does one after a job that got nowhere, or was killed.
    here.worker_clock.offset = 3600
    here.kraken.faults.plant(Fault(path="TradesHistory", status=502, times=None))
    assert ended(at_next_interval(here)) == ("failed", "unavailable")
    here.kraken.faults.clear()
    here.worker_clock.offset = 0
    here.restart()
    assert at_next_interval(here).outcome == WELL
    assert {call.outcome for call in here.kraken.audit.calls} <= {"ok", "fault:status"}
    here.assert_exact()


def test_C9_a_key_that_somebody_else_uses_is_said_to_be_so(world: MakeWorld) -> None:
    here = world(trades=60, seed="C9b")
    here.sync()
    here.kraken.key.highest_nonce = 2**63
    here.kraken.audit.clear()
    report = at_next_interval(here)
    assert ended(report) == ("blocked_reauth", "auth")
    assert "another program uses the same API key" in report.problem
    assert len(histories(here)) == 2, "one more try, then a person"


@pytest.mark.parametrize("offset", [-DAY, -600, 600, DAY])
def test_C12_a_wrong_clock_moves_no_window(world: MakeWorld, offset: int) -> None:
    here = world(trades=60, seed="C12")
    here.worker_clock.offset = offset
    for step in (0, 0, -offset, offset):
        here.worker_clock.offset += step
        here.trade()
        report = at_next_interval(here)
        assert report.outcome == WELL
        assert report.next_sync_in == INTERVAL * 1000
        assert here.cursor()["coverage"][-1]["end"] <= here.clock.now()
    for call in histories(here):
        assert int(call.params["end"]) * 1000 <= call.at + 1000, "no window in the future"
    here.clock.advance(300)
    here.sync()
    here.assert_exact()
    assert {call.outcome for call in here.kraken.audit.calls} == {"ok"}


def test_A15_jobs_in_a_row_share_the_address_s_limit_of_public_calls(world: MakeWorld) -> None:
    here = world(trades=10, seed="A15")
    here.kraken.set_status("maintenance")
    for _ in range(20):
        assert ended(here.sync()) == ("failed", "maintenance")
    assert here.kraken.audit.rate_breaches == 0


def test_what_is_known_is_forgotten_when_another_worker_came_between(world: MakeWorld) -> None:
    here = world(seed="between")
    here.trade(ago_seconds=600)
    here.sync()
    one = here.syncer
    here.restart()
    here.sync()
    here.deployment.reset_calls()
    report = one.run(here.connection_id, "manual")
    assert (report.fetched, report.known) == (1, 1)
    assert here.deployment.calls()["tradeImport/worker:ingest"] == 1, "what the other did is unknown: all is sent"
    here.deployment.reset_calls()
    one.run(here.connection_id, "manual")
    assert "tradeImport/worker:ingest" not in here.deployment.calls()


def test_A7_a_restarted_worker_does_not_spend_what_it_spent_before(world: MakeWorld) -> None:
    here = world(trades=250, seed="A7 restart")
    for _ in range(4):
        assert here.sync().outcome == WELL
        here.restart()
    assert here.kraken.audit.rate_breaches == 0
