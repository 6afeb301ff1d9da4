"""When the scheduler asks for a lease: due rows once, nudged rows at once, running rows never."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from sandbox.clock import VirtualClock
from worker.errors import ConvexUnavailable
from worker.models import DueConnection, JobMode, JobOutcome, Refusal
from worker.scheduler import BEAT_SECONDS, CLOCK_STEP_SECONDS, REFUSED_SECONDS, Scheduler, _StepDetector
from worker.store import Store
from worker.sync import Report, Syncer

NOW = 1_790_000_000_000
POLL = 30.0


def row(**changes: object) -> DueConnection:
    return DueConnection.model_validate(
        {"connectionId": "c1", "kind": "kraken", "status": "active", "nextSyncAt": NOW, "authVersion": 1, **changes}
    )


class Bench:
    """A scheduler on a virtual clock; `ran` is what it asked for, `report` what every job ends with."""

    def __init__(self, *, watch_alive: bool = True) -> None:
        self.clock = VirtualClock(NOW)
        self.ran: list[JobMode] = []
        self.gate = threading.Event()
        self.gate.set()
        self.report = Report("c1", "c1", JobOutcome(status="succeeded"))
        self.last_answer: float | None = None
        self.scheduler = Scheduler(
            cast(Store, self),
            cast(Syncer, self),
            self.clock,
            stop=threading.Event(),
            poll_seconds=POLL,
            watch_alive=lambda: watch_alive,
        )
        self.scheduler._poll_now = False

    def run(self, _connection_id: str, mode: JobMode, **_: Any) -> Report:
        self.ran.append(mode)
        self.gate.wait()
        return self.report

    def dispatch(self) -> int:
        """Let the scheduler look once; how many jobs there have been when those it started are over."""
        self.scheduler._dispatch()
        if self.gate.is_set():
            for job in self.scheduler._running.values():
                job.result(timeout=10)
        return len(self.ran)


def test_a_due_row_is_asked_for_once_until_convex_shows_a_change() -> None:
    bench = Bench()
    bench.scheduler.update([row()])
    assert bench.dispatch() == 1
    assert bench.dispatch() == 1
    bench.clock.advance(POLL - 1)
    assert bench.dispatch() == 1
    bench.clock.advance(1)
    assert bench.dispatch() == 2, "the poll's turn"
    bench.scheduler.update([row(requestedAt=NOW)])
    assert bench.dispatch() == 3, "a change"


def test_a_nudge_is_served_at_once_and_once() -> None:
    bench = Bench()
    bench.scheduler.update([row(nextSyncAt=NOW + 900_000)])
    assert bench.dispatch() == 0
    bench.scheduler.wake("c1")
    assert bench.dispatch() == 1
    assert bench.dispatch() == 1


def test_a_nudge_for_an_unknown_row_or_for_all_is_a_reason_to_look_at_convex() -> None:
    for connection_id in ("never heard of", None):
        bench = Bench()
        bench.scheduler.update([row()])
        bench.scheduler.wake(connection_id)
        assert bench.scheduler._poll_now


def test_E8_a_nudge_during_the_job_starts_no_second_one() -> None:
    bench = Bench()
    bench.gate.clear()
    bench.scheduler.update([row()])
    assert bench.dispatch() == 1
    for _ in range(50):
        bench.scheduler.wake("c1")
        assert bench.dispatch() == 1
    bench.gate.set()
    bench.scheduler._running["c1"].result(timeout=10)
    assert bench.dispatch() == 1


def test_an_unfinished_import_goes_on_as_a_backfill_until_it_is_done() -> None:
    bench = Bench()
    bench.report = Report("c1", "c1", JobOutcome(status="succeeded"), unfinished=True)
    for at in range(3):
        bench.scheduler.update([row(nextSyncAt=NOW - at)])
        bench.dispatch()
    bench.report = Report("c1", "c1", JobOutcome(status="succeeded"))
    for at in range(3, 5):
        bench.scheduler.update([row(nextSyncAt=NOW - at)])
        bench.dispatch()
    assert bench.ran == ["scheduled", "backfill", "backfill", "backfill", "scheduled"]


def test_a_refused_row_is_asked_for_again_soon() -> None:
    bench = Bench()
    bench.report = Report("c1", "c1", Refusal(reason="held"))
    bench.scheduler.update([row()])
    assert bench.dispatch() == 1
    bench.clock.advance(REFUSED_SECONDS - 0.1)
    assert bench.dispatch() == 1
    bench.clock.advance(0.1)
    assert bench.dispatch() == 2


@pytest.mark.parametrize("watch_alive", [True, False])
def test_without_a_watch_the_end_of_a_job_is_a_reason_to_look(watch_alive: bool) -> None:
    bench = Bench(watch_alive=watch_alive)
    bench.scheduler.update([row()])
    bench.dispatch()
    assert bench.scheduler._poll_now is not watch_alive


def test_D1_silence_of_three_polls_is_not_ready() -> None:
    bench = Bench()
    assert not bench.scheduler.readiness().ready
    bench.last_answer = bench.clock.monotonic()
    assert bench.scheduler.readiness().ready
    bench.clock.advance(3 * max(POLL, BEAT_SECONDS))
    assert bench.scheduler.readiness().ready
    bench.clock.advance(1)
    assert not bench.scheduler.readiness().ready


def test_C12_a_step_of_the_wall_clock_is_noticed_once_and_waiting_is_none() -> None:
    clock = VirtualClock(NOW)
    detector = _StepDetector(clock)
    clock.advance(3600)
    assert not detector.stepped()
    for step in (3600, -3600, CLOCK_STEP_SECONDS + 1):
        clock.step(step)
        assert detector.stepped()
        assert not detector.stepped()


class Looks(Bench):
    """Convex, counted; away while `away`."""

    def __init__(self, **options: bool) -> None:
        super().__init__(**options)
        self.looks = 0
        self.away = False

    def watch(self) -> list[DueConnection]:
        self.looks += 1
        if self.away:
            raise ConvexUnavailable("nobody answers")
        return [row()]

    def beat(self, *_: object) -> None:
        if self.away:
            raise ConvexUnavailable("nobody answers")


def test_a_watch_that_hangs_silently_is_covered_by_every_tenth_poll() -> None:
    bench = Looks()
    bench.scheduler._poll()
    for _ in range(20):
        bench.clock.advance(POLL)
        bench.scheduler._poll_if_blind()
    assert bench.looks == 1 + 2


def test_D1_when_convex_is_back_it_is_looked_at_at_once() -> None:
    bench = Looks()
    bench.away = True
    bench.scheduler._beat()
    assert not bench.scheduler._poll_now
    bench.away = False
    bench.scheduler._beat()
    assert bench.scheduler._poll_now
