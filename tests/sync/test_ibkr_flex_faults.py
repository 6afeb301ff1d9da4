"""Faults of Flex reports as whole jobs: the simulated service, the worker, and the real functions."""

from __future__ import annotations

import datetime as dt
import gc
import io
import itertools
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import structlog

from sandbox.brokers.ibkr.flex.inputs import FlexCode, FlexQuirks
from sandbox.brokers.ibkr.simulator import IbkrSimulator
from tests.support.canaries import Canaries
from tests.support.crash import Killed
from tests.support.deployment import TABLES, Deployment
from tests.support.flex import (
    DAY,
    MINUTE,
    NOON,
    asked_days,
    assert_paced,
    connect,
    coverage,
    ended,
    evening,
    flex_auth,
    flex_calls,
    problem_of,
)
from tests.support.ibkr_world import IbkrWorld, Line
from worker import log
from worker.normalize.flex_document import FlexRow

WELL = ("succeeded", "none")
NOVEMBER = 1_794_848_400_000
"""Monday 2026-11-16, noon in New York: both changes of the clocks of 2026 lie in the year before."""


@pytest.fixture
def quiet_log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def ms(utc: str) -> int:
    return int(dt.datetime.fromisoformat(utc).timestamp() * 1000)


def past(world: IbkrWorld, *, days: float = 30) -> dict[str, Any]:
    """So many days of shares whose statements are all final."""
    return {"sec_types": ("STK",), "days": days, "end": world.clock.now() - 2 * DAY}


def by_family(line: Line) -> dict[str, dict[str, Any]]:
    return {row["externalExecutionId"]: row for row in line.executions()}


def transactions(simulator: IbkrSimulator) -> dict[str, str]:
    """Execution → the booking's id, by which statements and rejects name it."""
    return {fill["family"]: fill["transactionId"] for fill in simulator.oracle()}


def warnings(lines: list[Any]) -> list[str]:
    return [line["warning"] for line in lines if line["event"] == "sync.drift"]


def write_rows(simulator: IbkrSimulator, rows: dict[str, dict[str, str | None]], **quirks: Any) -> None:
    simulator.flex.quirks = FlexQuirks(rows=rows, **quirks)


# B19: times.

STAMPS: tuple[tuple[str, str, list[str]], ...] = (
    ("20260810;093518", "2026-08-10T13:35:18Z", []),
    ("20260115;093518", "2026-01-15T14:35:18Z", []),
    ("20260308;015959", "2026-03-08T06:59:59Z", []),
    ("20260308;030000", "2026-03-08T07:00:00Z", []),
    ("20260308;023000", "2026-03-08T07:30:00Z", []),
    ("20261101;005959", "2026-11-01T04:59:59Z", []),
    ("20261101;010000", "2026-11-01T05:00:00Z", ["ambiguous_time"]),
    ("20261101;013000", "2026-11-01T05:30:00Z", ["ambiguous_time"]),
    ("20261101;015959", "2026-11-01T05:59:59Z", ["ambiguous_time"]),
    ("20261101;020000", "2026-11-01T07:00:00Z", []),
    ("2026-11-01;01:30:00 EDT", "2026-11-01T05:30:00Z", []),
    ("2026-11-01;01:30:00 EST", "2026-11-01T06:30:00Z", []),
    ("20260810", "2026-08-10T04:00:00Z", ["no_time_of_day"]),
    ("2026-08-10", "2026-08-10T04:00:00Z", ["no_time_of_day"]),
    ("20260115", "2026-01-15T05:00:00Z", ["no_time_of_day"]),
    ("20260810;000000", "2026-08-10T04:00:00Z", []),
    ("20260810;235959", "2026-08-11T03:59:59Z", []),
    ("20251231;200001", "2026-01-01T01:00:01Z", []),
    ("2026-08-10;09:35:18", "2026-08-10T13:35:18Z", []),
    ("2026-08-10,09:35:18", "2026-08-10T13:35:18Z", []),
    ("2026-08-10, 09:35:18", "2026-08-10T13:35:18Z", []),
    ("20260810 093518", "2026-08-10T13:35:18Z", []),
    ("20260810093518", "2026-08-10T13:35:18Z", []),
    ("2026-08-10T09:35:18", "2026-08-10T13:35:18Z", []),
)
"""As a statement writes it, the instant it is in Eastern time (reference ibkr 4.5), and what is flagged."""

MALFORMED = (
    "08/10/2026;093518", "10-AUG-26;09:35:18", "20260230;093518", "20260810;246060", "20260810;093518 CET", "MULTI",
    "yesterday",
)  # fmt: skip


def test_B19_twenty_four_stamps_are_exact_and_what_is_malformed_is_named(
    deployment: Deployment, quiet_log: list[Any]
) -> None:
    world = IbkrWorld(deployment, start=NOVEMBER)
    simulator = world.login()
    line = connect(world, simulator, confirm=False)
    rows: dict[str, dict[str, str | None]] = {}
    expected: dict[str, tuple[str, int, list[str]]] = {}
    for text, utc, flags in STAMPS:
        (fill,) = line.trade(symbol="AAPL", side="B", time=Decimal(ms(utc)) / 1000)
        rows[fill.execution_id] = {"dateTime": text}
        expected[fill.family] = (text, ms(utc), flags)
    broken: dict[str, str] = {}
    for text in MALFORMED:
        (fill,) = line.trade(symbol="MSFT", side="B", time=Decimal(ms("2026-11-12T14:35:18Z")) / 1000)
        rows[fill.execution_id] = {"dateTime": text}
        broken[fill.family] = text
    write_rows(simulator, rows)
    report = line.sync()
    assert ended(report) == ("partial", "bad_records")
    assert (report.inserted, report.rejected) == (len(STAMPS), len(MALFORMED))
    stored = {
        family: (json.loads(row["rawPayload"])["dateTime"], int(row["occurredAt"]), row["flags"])
        for family, row in by_family(line).items()
    }
    assert stored == expected
    booked = transactions(simulator)
    rejects = {reject["externalExecutionId"]: reject for reject in line.rejects()}
    assert rejects.keys() == broken.keys()
    for family, text in broken.items():
        reason = rejects[family]["reason"]
        assert reason.startswith(f"Trade {booked[family]}, MSFT, {text}: dateTime is "), reason
        assert json.loads(rejects[family]["rawPayload"])["dateTime"] == text
    said = warnings(quiet_log)
    for words in ("show twice", "clocks skip", "without a time of day", "midnight sharp"):
        assert sum(words in warning for warning in said) == 1, words
    line.assert_accounted()
    # One row is mended: it is imported, and its reject is history.
    mended = next(iter(broken))
    world.clock.advance(DAY / 1000)
    write_rows(simulator, {key: said for key, said in rows.items() if not key.startswith(f"{mended}.")})
    assert line.sync().inserted == 1
    assert int(by_family(line)[mended]["occurredAt"]) == ms("2026-11-12T14:35:18Z")
    resolved = [reject["externalExecutionId"] for reject in line.rejects() if "resolvedAt" in reject]
    assert resolved == [mended]


@pytest.mark.parametrize("style", ["compact", "dashed", "zoned"])
def test_B19_the_hour_that_comes_twice(deployment: Deployment, style: str) -> None:
    world = IbkrWorld(deployment, start=NOVEMBER)
    simulator = world.login()
    simulator.flex.quirks = FlexQuirks.model_validate({"times": style})
    line = connect(world, simulator, confirm=False)
    first, second = ms("2026-11-01T05:30:00Z"), ms("2026-11-01T06:30:00Z")
    (early,) = line.trade(symbol="AAPL", side="B", time=Decimal(first) / 1000)
    (late,) = line.trade(symbol="AAPL", side="B", time=Decimal(second) / 1000)
    line.trade(symbol="AAPL", side="S", time=Decimal(ms("2026-03-08T07:00:00Z")) / 1000)
    assert ended(line.sync()) == WELL
    if style == "zoned":
        line.assert_exact()
        return
    stored = by_family(line)
    assert {int(stored[fill.family]["occurredAt"]) for fill in (early, late)} == {first}
    assert [stored[fill.family]["flags"] for fill in (early, late)] == [["ambiguous_time"]] * 2


def test_B19_confirmations_write_the_same_times(deployment: Deployment) -> None:
    """As time passes: a confirmation is of its own day."""
    start = ms("2026-01-15T14:00:00Z")
    world = IbkrWorld(deployment, start=start)
    simulator = world.login()
    line = connect(world, simulator, activity=False)
    rows: dict[str, dict[str, str | None]] = {}
    expected = {}
    days = (
        ("20260115;093518", None, "2026-01-15T14:35:18Z", []),
        ("20260308;015959", None, "2026-03-08T06:59:59Z", []),
        ("20260308;030000", None, "2026-03-08T07:00:00Z", []),
        ("20260810;093518", None, "2026-08-10T13:35:18Z", []),
        ("20260810", "20260810", "2026-08-10T13:40:00Z", ["no_time_of_day"]),
        ("20260810;09:77", "20260810;09:77", "2026-08-10T13:45:00Z", None),
        ("20261101;013000", None, "2026-11-01T05:30:00Z", ["ambiguous_time"]),
    )
    for written, override, utc, flags in days:
        world.clock.advance((ms(utc) - world.clock.now()) / 1000)
        (fill,) = line.trade(symbol="AAPL", side="B")
        rows[fill.execution_id] = {"dateTime": override} if override else {}
        write_rows(simulator, rows)
        if flags is not None:
            at = ms("2026-08-10T04:00:00Z") if flags == ["no_time_of_day"] else ms(utc)
            expected[fill.family] = (written, at, flags)
        # Later than what confirmations lag behind, and earlier than the next of these fills.
        if utc not in ("2026-03-08T06:59:59Z", "2026-08-10T13:35:18Z", "2026-08-10T13:40:00Z"):
            world.clock.advance(600)
            report = line.sync()
            assert ended(report) == (WELL if flags is not None else ("partial", "bad_records"))
    stored = {
        family: (json.loads(row["rawPayload"])["dateTime"], int(row["occurredAt"]), row["flags"])
        for family, row in by_family(line).items()
    }
    assert stored == expected
    assert {row["source"] for row in line.executions()} == {"ibkr_flex_confirm"}
    (reject,) = line.rejects()
    assert reject["reason"].startswith("TradeConfirm ")
    assert "20260810;09:77" in reject["reason"]
    assert coverage(line) == [], "confirmations prove no day complete"


# B21, B22: a service that is not ready, and one that was asked too much.

NOT_YET = (1001, 1004, 1005, 1006, 1007, 1008, 1009, 1019, 1021)


@pytest.mark.parametrize("code", NOT_YET)
def test_B21_what_is_not_ready_is_polled_and_comes_later(deployment: Deployment, code: int) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator, confirm=False)
    simulator.flex.plant(FlexCode(code=code, times=None, call="GetStatement"))
    begun = world.clock.monotonic()
    report = line.sync()
    assert ended(report) == ("failed", "report_not_ready")
    assert problem_of(report).code == f"ibkr_flex_{code}"
    # A pause is never longer than a minute, and the next would have gone beyond the two that a job is patient.
    assert 60 <= world.clock.monotonic() - begun <= 120
    assert sum(call.outcome == str(code) for call in flex_calls(simulator)) >= 2, "it was asked again"
    assert (line.executions(), coverage(line)) == ([], [])
    assert line.view()["breaker"]["failures"] == 0
    assert 10 * MINUTE <= report.next_sync_in <= 30 * MINUTE
    simulator.flex.clear()
    world.clock.advance(report.next_sync_in / 1000 + 5)
    assert ended(line.sync("scheduled")) == WELL
    line.assert_exact()
    assert line.health() == "ok"
    assert_paced(flex_calls(simulator))


@pytest.mark.parametrize("code", NOT_YET)
def test_B21_what_is_ready_within_the_deadline_is_no_failure(deployment: Deployment, code: int) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator, confirm=False)
    simulator.flex.plant(FlexCode(code=code, times=1, call="GetStatement"))
    assert ended(line.sync()) == WELL
    assert sum(call.outcome == str(code) for call in flex_calls(simulator)) == 1
    line.assert_exact()
    assert_paced(flex_calls(simulator))


def two_of_one_token(deployment: Deployment) -> tuple[IbkrWorld, IbkrSimulator, Line, Line]:
    world = IbkrWorld(deployment, start=NOON)
    accounts = ("U1110001", "U1110002")
    simulator = world.login(trades=20, accounts=accounts, **past(world))
    auth = flex_auth(simulator, confirm=False)
    line, other = (world.connect(simulator, account=account, auth=auth) for account in accounts)
    return world, simulator, line, other


def silences(simulator: IbkrSimulator) -> list[float]:
    """Seconds from every 1018 to whatever call came next."""
    calls = flex_calls(simulator)
    return [
        later.elapsed - earlier.elapsed for earlier, later in itertools.pairwise(calls) if earlier.outcome == "1018"
    ]


def test_B22_after_1018_no_job_of_the_token_calls_for_a_minute(deployment: Deployment) -> None:
    world, simulator, line, other = two_of_one_token(deployment)
    simulator.flex.plant(FlexCode(code=1018))
    meanwhile: list[Any] = []
    sleep = world.clock.sleep

    def sleep_and_let_the_other_try(seconds: float) -> None:
        """Whoever is told to wait for long gives the other job its chance first."""
        if seconds >= 30 and not meanwhile:
            meanwhile.append(None)
            meanwhile[0] = other.sync()
        sleep(seconds)

    world.clock.sleep = sleep_and_let_the_other_try  # type: ignore[method-assign]
    report = line.sync()
    assert ended(meanwhile[0]) == ("failed", "rate_limited")
    assert ended(report) == WELL
    (silence,) = silences(simulator)
    assert silence >= 60, "reference ibkr 4.2; the fault matrix wants 10 in any case"
    assert simulator.audit.penalty_calls == 0
    line.assert_exact()
    world.clock.advance(meanwhile[0].next_sync_in / 1000)
    assert ended(other.sync()) == WELL
    other.assert_exact()
    assert other.view()["breaker"]["failures"] == 0
    assert_paced(flex_calls(simulator))


@pytest.mark.parametrize("same", [True, False], ids=["same connection", "another connection"])
def test_B22_a_new_process_keeps_the_silence(deployment: Deployment, same: bool) -> None:
    world, simulator, line, other = two_of_one_token(deployment)
    simulator.flex.plant(FlexCode(code=1018, times=None))
    assert ended(line.sync()) == ("failed", "rate_limited")
    last = flex_calls(simulator)[-1]
    assert last.outcome == "1018"
    world.restart()
    following = line if same else other
    for _ in range(5):
        assert ended(following.sync()) == ("failed", "rate_limited")
        world.clock.advance(10)
    assert flex_calls(simulator)[-1] is last
    simulator.flex.clear()
    world.clock.advance(15)
    assert ended(following.sync()) == WELL
    following.assert_exact()
    assert all(silence >= 60 for silence in silences(simulator))
    assert simulator.audit.penalty_calls == 0
    assert_paced(flex_calls(simulator))


# B23: no statement, and a statement of nothing.


def test_B23_a_day_that_is_not_final_is_left_out_and_not_covered(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    simulator.flex.quirks = FlexQuirks(late_days=2, unfinalised="1003")
    line = connect(world, simulator, confirm=False)
    (fresh,) = line.trade(symbol="AAPL", side="B", ago_seconds=DAY / 1000)
    report = line.sync()
    assert ended(report) == WELL
    served = simulator.flex.last_final_day()
    assert served == dt.date(2026, 9, 12)
    lasts = [last for _, last in asked_days(simulator)]
    assert lasts[:3] == [dt.date(2026, 9, day) for day in (14, 13, 12)], "an earlier end each time"
    assert [end for _, end in coverage(line)] == [evening(served)]
    assert fresh.family not in by_family(line)
    world.clock.advance(2 * DAY / 1000)
    line.sync()
    assert [end for _, end in coverage(line)] == [evening(dt.date(2026, 9, 14))]
    line.assert_exact()
    assert_paced(flex_calls(simulator))


def test_B23_a_statement_that_ends_sooner_than_asked_proves_no_more_than_it_says(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    simulator.flex.quirks = FlexQuirks(late_days=1, unfinalised="cut")
    line = connect(world, simulator, confirm=False)
    line.trade(symbol="AAPL", side="B", ago_seconds=DAY / 1000)
    for _ in range(3):
        report = line.sync()
        assert all(end <= evening(simulator.flex.last_final_day()) for _, end in coverage(line))
        if coverage(line) == []:
            assert ended(report) != WELL
        world.clock.advance(6 * 3600)
    simulator.flex.quirks = FlexQuirks()
    world.clock.advance(DAY / 1000)
    assert ended(line.sync()) == WELL
    line.assert_exact()


def test_B23_no_statement_at_all_is_neither_no_trades_nor_success(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator, confirm=False)
    simulator.flex.plant(FlexCode(code=1003, times=None))
    report = line.sync()
    assert ended(report) == ("failed", "report_not_ready")
    lasts = [last for _, last in asked_days(simulator)]
    assert len(lasts) > 3
    assert lasts[:6] == sorted(set(lasts[:6]), reverse=True), "each time an earlier end"
    assert len(lasts) <= 3 * 6, "the week, its year, and what is older"
    assert (line.executions(), coverage(line)) == ([], [])
    assert line.connection()["completeUpTo"] is None
    assert line.view()["breaker"]["failures"] == 0
    simulator.flex.clear()
    world.clock.advance(report.next_sync_in / 1000)
    assert ended(line.sync()) == WELL
    line.assert_exact()


def test_B23_an_empty_statement_of_final_days_is_proof_of_no_trades(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login()
    start = NOON - 300 * DAY
    line = connect(world, simulator, confirm=False, settings={"importFrom": start})
    assert ended(line.sync()) == WELL
    assert line.executions() == []
    assert coverage(line) == [(start, evening(dt.date(2026, 9, 14)))]
    assert line.health() == "ok"


def test_B23_an_empty_statement_that_is_not_of_the_days_asked_for_proves_nothing(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    line = connect(world, simulator, confirm=False)
    simulator.flex.quirks = FlexQuirks(statement={"fromDate": "20240101", "toDate": "20240131"})
    report = line.sync()
    assert ended(report) == ("failed", "incomplete_report")
    assert (line.executions(), coverage(line)) == ([], [])
    simulator.flex.quirks = FlexQuirks(statement={"whenGenerated": "20260901;060000"})
    world.clock.advance(900)
    assert ended(line.sync()) == ("failed", "incomplete_report"), "made before its days were over"
    assert (line.executions(), coverage(line)) == ([], [])
    simulator.flex.quirks = FlexQuirks()
    world.clock.advance(900)
    assert ended(line.sync()) == WELL
    line.assert_exact()


# B20: a statement of thousands of rows.

MANY = 6000
DEATHS = (1, 2, 3, 5, 6)
"""After how many mutations with rows each life ends."""


class Watched:
    """The calls to Convex of one process: what happens before each page of rows, and after which of them it dies."""

    def __init__(self, world: IbkrWorld, before: Callable[[dict[str, Any]], None], *, dies_after: int | None) -> None:
        self.written = 0
        call = world.store._call

        def watched(kind: str, function: str, args: dict[str, Any], **options: Any) -> Any:
            if function == "ingest":
                before(args)
            result = call(kind, function, args, **options)
            if function == "ingest" and args["executions"]:
                self.written += 1
                if self.written == dies_after:
                    raise Killed
            return result

        world.store._call = watched  # type: ignore[method-assign]


def revive(world: IbkrWorld) -> None:
    """Longer than a lease lasts, and then another process."""
    world.clock.advance(301)
    world.restart()


def test_B20_a_large_statement_takes_little_memory_and_survives_any_death(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=MANY, **past(world, days=300))
    line = connect(world, simulator, confirm=False)
    alive: list[int] = []
    sizes: list[int] = []
    shown: list[int] = []

    def before(args: dict[str, Any]) -> None:
        sizes.append(len(args["executions"]))
        alive.append(sum(type(each) is FlexRow for each in gc.get_objects()))
        listed = line.user.query(
            "tradeImport/jobs:list",
            {"connectionId": line.connection_id, "paginationOpts": {"cursor": None, "numItems": 1}},
        )["page"][0]
        if listed["status"] == "running" and listed["progress"] is not None:
            shown.append(int(listed["progress"]["rows"]))

    for death in DEATHS:
        watched = Watched(world, before, dies_after=death)
        with pytest.raises(Killed):
            line.sync()
        assert watched.written == death
        assert len(line.stored()) <= MANY
        revive(world)
    Watched(world, before, dies_after=None)
    assert ended(line.sync()) == WELL
    line.assert_exact()
    assert len(line.stored()) == MANY, "six thousand executions, once each"
    assert len({trade["executionId"] for trade in line.trades()}) == MANY
    assert max(sizes) <= 500
    # A page of a thousand rows, and what the parser is about to hand on of the next: never a whole statement.
    assert 0 < max(alive) <= 2500
    assert len(set(shown)) >= 3, "the page of the running job moves"
    assert max(shown) <= MANY * 1.1
    assert_paced(flex_calls(simulator))


# B13-B16, B25: what statements hold.


def test_B13_what_is_new_changes_nothing_and_is_noted_once(deployment: Deployment, quiet_log: list[Any]) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=40, **past(world))
    line = connect(world, simulator)
    (odd,) = line.trade(symbol="AAPL", side="B", ago_seconds=10 * DAY / 1000)
    write_rows(
        simulator,
        {odd.execution_id: {"notes": "P;ZZ", "transactionType": "WarpTrade", "openCloseIndicator": "Q"}},
        unknown_fields={"novelty": "a & b"},
        unknown_parts=True,
    )
    for _ in range(2):
        report = line.sync()
        assert (ended(report), report.rejected) == (WELL, 0)
        world.clock.advance(DAY / 1000)
    line.assert_exact()
    assert {json.loads(row["rawPayload"])["novelty"] for row in line.executions()} == {"a & b"}
    stored = by_family(line)[odd.family]
    assert (stored["kind"], "openClose" in stored) == ("fill", False)
    said = warnings(quiet_log)
    for novelty in ("novelty", "ZZ", "WarpTrade", "Q", "VenueSummary"):
        assert sum(re.search(rf"\b{novelty}\b", warning) is not None for warning in said) == 1, novelty
    assert len(said) == len(set(said)) == 5
    line.assert_accounted()


ESSENTIAL: tuple[tuple[str, str | None], ...] = (
    ("quantity", None), ("quantity", ""), ("tradePrice", None), ("tradePrice", "N/A"), ("buySell", None),
    ("buySell", "HOLD"), ("symbol", ""), ("dateTime", "null"),
)  # fmt: skip
OPTIONAL: tuple[tuple[str, str | None], ...] = (
    ("currency", None), ("conid", "--"), ("multiplier", "many"), ("assetCategory", None), ("ibOrderID", ""),
    ("openCloseIndicator", None), ("notes", None), ("levelOfDetail", None), ("description", ""), ("accountId", None),
)  # fmt: skip


def test_B14_a_field_that_is_missing_or_bent_costs_its_row_at_most(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login()
    line = connect(world, simulator, confirm=False)
    rows: dict[str, dict[str, str | None]] = {}
    named: dict[str, str] = {}
    kept = set()
    for number, (field, text) in enumerate((*ESSENTIAL, *OPTIONAL)):
        (fill,) = line.trade(symbol="AAPL", side="B", ago_seconds=20 * DAY / 1000 + number)
        rows[fill.execution_id] = {field: text}
        if number < len(ESSENTIAL):
            named[fill.family] = field
        else:
            kept.add(fill.family)
    write_rows(simulator, rows)
    report = line.sync()
    assert ended(report) == ("partial", "bad_records")
    assert by_family(line).keys() == kept
    truth = line.truth()
    assert line.stored() == {family: truth[family] for family in kept}
    rejects = line.rejects()
    assert len(rejects) == len(ESSENTIAL)
    booked = transactions(simulator)
    for reject in rejects:
        family = reject["externalExecutionId"]
        price = {"tradePrice": "price"}.get(named[family], named[family])
        assert price in reject["reason"]
        assert booked[family] in reject["reason"], "the reason names the row"
    line.assert_accounted()
    simulator.flex.quirks = FlexQuirks()
    world.clock.advance(DAY / 1000)
    assert ended(line.sync()) == WELL
    line.assert_exact()
    assert all("resolvedAt" in reject for reject in line.rejects())


@pytest.mark.parametrize("confirm", [False, True], ids=["activity", "confirm"])
def test_B15_numbers_are_exact_or_refused(deployment: Deployment, confirm: bool) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login()
    line = connect(world, simulator, activity=not confirm, confirm=confirm)
    price, fee = ("price", "commission") if confirm else ("tradePrice", "ibCommission")
    exact: tuple[dict[str, str | None], ...] = (
        {"quantity": "1,234.5", price: "1,000,000.25"},
        {"quantity": "0.000000000000000000000000000001", price: "123456789012345678901234567890"},
        {"quantity": "0.1", price: "0.2", fee: "-0"},
        {"quantity": "3", price: "-37.63", fee: "0.32"},
        {"quantity": "7", price: "0.30000000000000004", fee: "-1.000309"},
    )
    refused: tuple[tuple[str, str], ...] = (
        ("quantity", "NaN"), (price, "Infinity"), (price, "1e999999"), ("quantity", "1,23.4"), (price, "0x10"),
        (fee, "-Infinity"), ("quantity", "1.234,5"), (price, "٣"), ("quantity", "1_000"), ("quantity", "0"),
    )  # fmt: skip
    rows: dict[str, dict[str, str | None]] = {}
    expected: dict[str, tuple[str, str, str]] = {}
    broken: dict[str, str] = {}
    for said in exact:
        (fill,) = line.trade(symbol="AAPL", side="B", size=Decimal(1), commission=Decimal(1), ago_seconds=3600)
        rows[fill.execution_id] = said
        plain = {name: str(text).replace(",", "") for name, text in {fee: "-1", **said}.items()}
        cost = {"-0": "0", "-1": "1", "0.32": "-0.32", "-1.000309": "1.000309"}[plain[fee]]
        expected[fill.family] = (plain["quantity"], plain[price], cost)
    for field, text in refused:
        (fill,) = line.trade(symbol="MSFT", side="B", ago_seconds=3600)
        rows[fill.execution_id] = {field: text}
        broken[fill.family] = field
    write_rows(simulator, rows)
    if not confirm:
        world.clock.advance(DAY / 1000)
    report = line.sync()
    assert (report.inserted, report.rejected) == (len(exact), len(refused))
    stored = {family: (row["quantity"], row["price"], row["fee"]) for family, row in by_family(line).items()}
    assert stored == expected
    rejects = {reject["externalExecutionId"]: reject["reason"] for reject in line.rejects()}
    assert rejects.keys() == broken.keys()
    for family, field in broken.items():
        assert field in rejects[family]
    line.assert_accounted()


def test_B16_removals_and_assignments_are_bookings_and_no_buys(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login()
    line = connect(world, simulator, confirm=False)
    ago = 20 * DAY / 1000
    (opened,) = line.trade(symbol="ES", sec_type="FOP", side="B", size=Decimal(2), ago_seconds=ago)
    (expired,) = line.trade(symbol="ES", sec_type="FOP", expiry=True, size=Decimal(2), ago_seconds=ago - 3 * 86_400)
    (written,) = line.trade(symbol="AAPL", sec_type="OPT", side="S", size=Decimal(1), ago_seconds=ago)
    removed, delivered = line.trade(
        symbol="AAPL", sec_type="OPT", assignment=True, size=Decimal(1), ago_seconds=ago - 4 * 86_400
    )
    (bought,) = line.trade(symbol="AAPL", side="B", size=Decimal(100), ago_seconds=ago - 5 * 86_400)
    report = line.sync()
    assert (ended(report), report.rejected, report.fetched) == (WELL, 0, 6)
    booked = transactions(simulator)
    stored = by_family(line)
    assert {name: row["kind"] for name, row in stored.items()} == {
        opened.family: "fill",
        written.family: "fill",
        bought.family: "fill",
        f"tx:{booked[expired.family]}": "expiry",
        f"tx:{booked[removed.family]}": "assignment",
        f"tx:{booked[delivered.family]}": "assignment",
    }
    removal = stored[f"tx:{booked[expired.family]}"]
    assert (Decimal(removal["price"]), Decimal(removal["quantity"]), removal["fee"]) == (0, 2, "0")
    assert (Decimal(stored[f"tx:{booked[removed.family]}"]["price"])) == 0
    ids = {row["_id"]: row["kind"] for row in stored.values()}
    assert {ids[trade["executionId"]] for trade in line.trades()} == {"fill"}, "only fills become trades"
    line.assert_accounted()
    again = line.sync()
    assert (again.inserted, again.updated) == (0, 0)


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
def test_B25_orders_lots_and_sums_are_not_counted_twice(deployment: Deployment, shuffled: bool) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=60, **past(world))
    simulator.flex.quirks = FlexQuirks(summaries=True, lots=True, shuffled=shuffled)
    line = connect(world, simulator)
    line.trade(count=3, symbol="AAPL", side="S", size=Decimal(7), ago_seconds=3600)
    report = line.sync()
    assert (ended(report), report.inserted, report.rejected) == (WELL, 63, 0)
    line.assert_exact()
    assert len({trade["executionId"] for trade in line.trades()}) == 63
    skipped = line.jobs()[-1]["stats"]["skipped"]
    assert skipped >= 60, "orders, lots and sums were there and were passed over"
    world.clock.advance(DAY / 1000)
    assert line.sync().inserted == 0, "confirmed before, reported now"
    line.assert_exact()
    line.assert_accounted()


# A13, F2: a service that repeats the token.


def everything_of(line: Line) -> Iterator[tuple[str, str]]:
    """Every document of the owner, but the one field that holds the credentials."""
    (connection,) = line.deployment.documents("brokerageConnections", _id=line.connection_id)
    owner = str(connection["ownerId"])
    seen = 0
    for table in TABLES:
        for document in line.deployment.documents(table):
            if document.get("ownerId") == owner or document.get("connectionId") == line.connection_id:
                document.pop("auth", None)
                seen += 1
                yield table, json.dumps(document)
    assert seen > 3


ECHOED_ROWS: tuple[dict[str, str | None], ...] = (
    {"dateTime": "{echo}"},
    {"notes": "P;{echo}"},
    {"orderReference": "{echo}"},
    {"ibExecID": "{echo}"},
    {"transactionID": "{token}", "ibExecID": ""},
    {"symbol": "{token}", "description": "{echo}"},
    {"currency": "{token}"},
    {"assetCategory": "{token}"},
    {"buySell": "{token}"},
    {"quantity": "{token}x"},
    {"openCloseIndicator": "{token}"},
    {"accountId": "{token}"},
    {"novelty": "{token}"},
    *({"dateTime": "x" * width + "{token}"} for width in range(17, 41, 4)),
)


@pytest.fixture
def written_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that the worker logs, as it would write it."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure(style="json", level="debug")
    yield stream
    root.handlers[:], root.level = before[0], before[1]
    structlog.reset_defaults()


@pytest.mark.parametrize("place", ["error text", "rows", "statement", "redirect"])
def test_F2_a_token_that_is_echoed_is_kept_nowhere(
    deployment: Deployment, written_log: io.StringIO, place: str
) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    token = simulator.flex.token
    canaries = Canaries({"token": token})
    echo = f"https://ndcdyn.interactivebrokers.com/AccountManagement/FlexWebService/SendRequest?t={token}&q=1"
    line = connect(world, simulator)
    match place:
        case "error text":
            simulator.flex.quirks = FlexQuirks(echo_url=True)
            reports = []
            for code in (1099, 1020, 1019, 1003, 1015):
                simulator.flex.clear()
                simulator.flex.plant(FlexCode(code=code, times=None, message=f"Token {token} {echo}"))
                reports.append(line.sync())
                assert ended(reports[-1]) != WELL
                world.clock.advance(3600)
        case "rows":
            rows: dict[str, dict[str, str | None]] = {}
            for number, said in enumerate(ECHOED_ROWS):
                for ago in (3600, 10 * DAY / 1000):
                    (fill,) = line.trade(symbol="AAPL", side="B", ago_seconds=ago + number)
                    rows[fill.execution_id] = {
                        name: text and text.format(token=token, echo=echo) for name, text in said.items()
                    }
            write_rows(simulator, rows, echo_url=True)
            reports = [line.sync()]
            assert reports[0].rejected >= 6, "some of these rows cannot be read"
            assert reports[0].inserted >= 12, "and the others are imported"
        case "statement":
            simulator.flex.quirks = FlexQuirks(
                echo_url=True, statement={"period": echo, "novelty": token, "toDate": token, "whenGenerated": echo}
            )
            reports = [line.sync()]
            assert ended(reports[0]) != WELL
        case _:
            simulator.flex.quirks = FlexQuirks(url=f"https://elsewhere.example/{token}/GetStatement?t={token}")
            reports = [line.sync()]
            assert ended(reports[0]) == WELL
    logged = written_log.getvalue()
    assert "sync.finished" in logged
    for where, text in (
        *everything_of(line),
        *((f"report {number}", f"{report!r} {report}") for number, report in enumerate(reports)),
        ("log", logged),
        ("the owner's view", json.dumps(line.view())),
    ):
        assert canaries.found_in(text) == set(), where


def test_A13_the_token_goes_to_no_other_host(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    simulator.flex.quirks = FlexQuirks(url="https://elsewhere.example/AccountManagement/FlexWebService/GetStatement")
    line = connect(world, simulator)
    assert ended(line.sync()) == WELL
    assert {call.host for call in flex_calls(simulator)} == {"ndcdyn.interactivebrokers.com"}
    line.assert_exact()
