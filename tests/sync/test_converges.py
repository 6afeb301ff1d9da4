"""I9, the master property: any finite series of faults, then clean syncs, ends as if there had been no fault.

The schedules are random but always the same ones; TRADE_SYNC_SCHEDULES=10000 draws that many, for a night.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.brokers.faults import Fault
from sandbox.brokers.kraken.simulator import Quirks, Setup
from tests.support.crash import CrashPoint, Killed
from tests.support.deployment import Deployment
from tests.support.world import World
from worker.connectors.kraken_errors import RULES
from worker.models import JobOutcome
from worker.sessions.kraken import WINDOWING as KRAKEN_WINDOWING

SCHEDULES = int(os.environ.get("TRADE_SYNC_SCHEDULES", "40"))
TRADES = 130
DAY = 86_400
Step = tuple[Any, ...]

ENDPOINTS = ("*", "TradesHistory", "GetApiKeyInfo", "SystemStatus", "AssetPairs")
ERRORS = (
    *(rule.prefix for rule in RULES if rule.action != "wait_until"),
    "EService:Throttled:1790000000", "EWeird:Never seen before", "WWarning:Only a warning",
)  # fmt: skip
WAYS: tuple[dict[str, Any], ...] = (
    *({"status": status} for status in (400, 401, 403, 404, 408, 429, 500, 502, 503, 504, 520)),
    *({"status": status, "html": True} for status in (200, 403, 502)),
    *({"error": error} for error in ERRORS),
    *({"status": 429, "headers": {"Retry-After": text}} for text in ("5", "600", "-3", "1000000000", "soon")),
    *({"truncate": size} for size in (0, 1, 200, 5000)),
    {"truncate": 300, "keepLength": True},
    {"body": ""}, {"body": "{}"}, {"body": '{"error":[]}'}, {"body": '{"error":[],"result":{}}'},
    {"bom": True}, {"charset": "utf-16"}, {"gzipLie": True}, {"echo": "secret"},
    {"redirect": "https://elsewhere.example/"},
    {"delay": 4}, {"delay": 45}, {"drip": 2000}, {"drip": 1}, {"hang": True}, {"reset": True}, {"refuse": True},
    {"endless": True},
)  # fmt: skip
QUIRKS: tuple[dict[str, Any], ...] = (
    {"count": "string"}, {"count": "missing"}, {"countOffBy": 3}, {"shuffled": True}, {"wholeSeconds": True},
    {"shortPageAt": 50, "shortPageRows": 7, "shortPageTimes": 1}, {"shortPageAt": 50, "shortPageTimes": 1},
    {"endlessPages": True}, {"ignoreWithoutCount": True}, {"stringTimes": True}, {"noResult": True},
    {"unknownFields": {"new": 1}},
)  # fmt: skip

broker_fault = st.builds(
    lambda path, call, times, processed, way: Fault.model_validate(
        {"path": path, "call": call, "times": times, "processed": processed, **way}
    ),
    st.sampled_from(ENDPOINTS), st.integers(1, 5), st.integers(1, 6), st.booleans(), st.sampled_from(WAYS),
)  # fmt: skip
FUNCTIONS = tuple(f"tradeImport/worker:{name}" for name in ("claim", "ingest", "finish", "bindAccount"))
KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "die_before_commit"}, {"kind": "die_after_commit"}, {"kind": "conflict"},
    {"kind": "refuse", "status": 503}, {"kind": "refuse", "status": 401}, {"kind": "refuse", "status": 403},
    {"kind": "delay", "ms": 3},
)  # fmt: skip
step = st.one_of(
    st.tuples(st.just("kraken"), st.lists(broker_fault, min_size=1, max_size=3)),
    st.tuples(st.just("quirk"), st.sampled_from(QUIRKS)),
    st.tuples(st.just("maintenance"), st.booleans()),
    st.tuples(
        st.just("convex"), st.sampled_from(FUNCTIONS), st.sampled_from(KINDS), st.integers(1, 6), st.integers(0, 2)
    ),
    st.tuples(st.just("die at"), st.integers(1, 25), st.booleans()),
    st.tuples(st.just("restart")),
    st.tuples(st.just("clock"), st.sampled_from((-3600.0, -600.0, 600.0, 3600.0))),
    st.tuples(st.just("pass"), st.sampled_from((1, 60, 301, 900, 7200, 30_000))),
    st.tuples(st.just("leases end")),
    st.tuples(st.just("trade"), st.integers(1, 60), st.sampled_from((0, 0, 60, 170))),
    st.tuples(st.just("late trade"), st.sampled_from((600, 7200, 3 * DAY))),
    st.tuples(st.just("trade while paging"), st.integers(1, 8), st.integers(1, 60), st.sampled_from((0, 0, 3600))),
    st.tuples(st.just("review"), st.integers(0, 200), st.booleans()),
    st.tuples(st.just("dismiss"), st.integers(0, 200)),
    st.tuples(st.just("sync")),
    st.tuples(st.just("sync")),
)


class Stage:
    """A world, and what its user decided."""

    def __init__(self, deployment: Deployment) -> None:
        self.here = World(deployment, Setup(trades=TRADES, seed="I9", years=1), cut_pages=1, job_seconds=600)
        self.plan = self.here.user.mutation(
            "tradePlans:createTradePlan",
            {"name": "P", "instrumentSymbol": "BTC/USD", "entryConditions": "", "exitConditions": "",
             "targetConditions": "", "status": "active"},
        )  # fmt: skip
        self.decided: dict[str, dict[str, Any]] = {}
        self.dismissed: set[str] = set()
        self.late: set[str] = set()
        self._crash: tuple[int, bool] | None = None
        self._arrival: tuple[int, int, int] | None = None

    def take(self, action: Step) -> None:
        here = self.here
        match action:
            case ("kraken", faults):
                here.kraken.faults.plant(*faults)
            case ("quirk", quirk):
                here.kraken.quirks = Quirks.model_validate(quirk)
            case ("maintenance", on):
                here.kraken.set_status("maintenance" if on else "online")
            case ("convex", function, fault, times, skip):
                here.deployment.fault(function, **fault, times=times, skip=skip)
            case ("die at", number, after):
                self._crash = (number, after)
            case ("restart",):
                here.restart()
            case ("clock", seconds):
                here.worker_clock.offset = seconds if here.worker_clock.offset == 0 else 0.0
            case ("pass", seconds):
                here.clock.advance(seconds)
            case ("leases end",):
                here.expire_leases()
            case ("trade", count, lag):
                for _ in range(count):
                    here.trade(visible_in_seconds=lag)
            case ("late trade", lag):
                self.late.update(here.trade(visible_in_seconds=lag))
            case ("trade while paging", *arrival):
                self._arrival = tuple(arrival)  # type: ignore[assignment]
            case ("review", number, linked):
                self._review(number, linked)
            case ("dismiss", number):
                self._dismiss(number)
            case ("sync",):
                self._sync()
            case _:
                raise AssertionError(action)

    def _sync(self) -> None:
        here = self.here
        here.clock.advance(10)  # nobody presses Sync now more often: it is refused
        with self._arriving():
            if self._crash is not None:
                (number, after), self._crash = self._crash, None
                CrashPoint(here, number, after=after)
            with suppress(Killed):
                here.sync()
        if "_call" in here.store.__dict__:
            here.restart()
        self.here.assert_covered_is_stored(late=self.late)

    @contextmanager
    def _arriving(self) -> Iterator[None]:
        kraken, arrival = self.here.kraken, self._arrival
        self._arrival = None
        if arrival is not None:
            at, count, ago = arrival
            handle, calls = kraken.handle, 0

            def handle_and_trade(request: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == at:
                    for _ in range(count):
                        booked = self.here.trade(ago_seconds=ago)
                        self.late.update(booked if ago else ())
                return handle(request)

            kraken.handle = handle_and_trade  # type: ignore[method-assign]
        try:
            yield
        finally:
            kraken.__dict__.pop("handle", None)

    def _pending(self) -> list[dict[str, Any]]:
        rows = sorted(self.here.trades(), key=lambda row: row["externalExecutionId"])
        return [row for row in rows if row["inboxStatus"] == "pending_review"]

    def _review(self, number: int, linked: bool) -> None:
        if pending := self._pending():
            trade_id = pending[number % len(pending)]["_id"]
            link = {"tradePlanId": self.plan} if linked else {}
            self.here.user.mutation("tradeImport/inbox:review", {"tradeIds": [trade_id], **link})
            self.here.user.mutation("trades:updateTrade", {"tradeId": trade_id, "notes": f"note {number}"})
            (row,) = [row for row in self.here.trades() if row["_id"] == trade_id]
            self.decided[trade_id] = decision(row)

    def _dismiss(self, number: int) -> None:
        if pending := self._pending():
            row = pending[number % len(pending)]
            self.here.user.mutation("tradeImport/inbox:dismiss", {"tradeIds": [row["_id"]]})
            self.dismissed.add(row["externalExecutionId"])

    def calm(self) -> None:
        """All faults end; whoever was late arrives; nobody holds a dead worker's lease."""
        here = self.here
        here.deployment.clear_faults()
        here.kraken.faults.clear()
        here.kraken.quirks = Quirks()
        here.kraken.set_status("online")
        here.worker_clock.offset = 0.0
        self._crash = self._arrival = None
        here.clock.advance(3 * DAY)
        here.expire_leases()

    # What must hold

    def assert_as_without_faults(self) -> None:
        here = self.here
        here.assert_exact()
        here.assert_accounted()
        here.assert_covered_is_stored(late=self.late)
        assert here.rejects() == []
        trades = {row["_id"]: row for row in here.trades()}
        assert {trade_id: decision(trades[trade_id]) for trade_id in self.decided} == self.decided
        executions = here.executions()
        assert {row["externalExecutionId"] for row in executions if row["state"] == "dismissed"} == self.dismissed
        for row in executions:
            assert len(row["tradeIds"]) >= 1 if row["state"] == "live" else row["tradeIds"] == [], row
        linked = [trade_id for row in executions for trade_id in row["tradeIds"]]
        assert sorted(linked) == sorted(trades), "every trade belongs to one execution, and once"
        assert [job for job in here.jobs() if job["status"] == "running"] == []
        connection = here.connection()
        assert connection["status"] == "active"
        assert here.kraken.audit.rate_breaches == 0
        assert here.kraken.audit.forbidden == 0


def decision(trade: dict[str, Any]) -> dict[str, Any]:
    return {name: trade.get(name) for name in ("tradePlanId", "campaignId", "notes", "inboxStatus")}


class Deployments:
    """A fresh one every few schedules: documents are read whole, so their number should not grow."""

    EACH = 8

    def __init__(self) -> None:
        self._used = 0
        self._now: Deployment | None = None

    def next(self) -> Deployment:
        if self._now is None or self._used == self.EACH:
            self.close()
            self._now, self._used = Deployment(), 0
        self._used += 1
        return self._now

    def close(self) -> None:
        if self._now is not None:
            self._now.child.stop()


@pytest.fixture(scope="module")
def deployments() -> Iterator[Deployments]:
    them = Deployments()
    yield them
    them.close()


@pytest.mark.timeout(120 + 10 * SCHEDULES)
@settings(
    max_examples=SCHEDULES, deadline=None, derandomize=True, database=None, print_blob=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(schedule=st.lists(step, min_size=3, max_size=14))
def test_I9_any_schedule_of_faults_ends_as_if_there_had_been_none(
    deployments: Deployments, schedule: list[Step]
) -> None:
    stage = Stage(deployments.next())
    for action in schedule:
        stage.take(action)
    stage._sync()
    stage.calm()
    for _ in range(3):
        report = stage.here.sync()
        if not report.unfinished:
            break
    assert report.outcome == JobOutcome(status="succeeded"), report
    assert stage.here.clock.now() - stage.here.cursor()["coverage"][-1]["end"] <= KRAKEN_WINDOWING.settle + 60_000
    stage.assert_as_without_faults()
