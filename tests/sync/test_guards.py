"""Small guards of a job, each shown by what would go wrong without it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.kraken.simulator import KeyChange
from tests.support.crash import Killed
from tests.support.executions import execution
from tests.support.world import World
from worker.connectors.kraken import KrakenConnector
from worker.coverage import Bookmark, older_windows
from worker.errors import ConvexUnavailable
from worker.models import Counts, Interval, JobOutcome, Lease, Window
from worker.reading import Reading
from worker.sessions.kraken import WINDOWING as KRAKEN_WINDOWING
from worker.store import LEASE_MARGIN, MAX_BATCH_BYTES, MAX_BATCH_ROWS, _batches

MakeWorld = Callable[..., World]
HOUR = 3600
DAY = 24 * HOUR
WELL = JobOutcome(status="succeeded")


def calls(here: World) -> Counter[str]:
    return Counter(call.path.rsplit("/", 1)[-1] for call in here.kraken.audit.calls)


def ingests(here: World) -> int:
    return here.deployment.calls().get("tradeImport/worker:ingest", 0)


def test_D10_coverage_from_the_future_hides_no_later_trade(world: MakeWorld) -> None:
    here = world(seed="future")
    here.sync()
    lease = here.store.claim(here.connection_id, "manual")
    assert isinstance(lease, Lease)
    ahead = Interval(source="kraken_trades", start=0, end=here.clock.now() + DAY * 1000)
    job = here.store.job(lease)
    job.ingest([], [], coverage=[ahead], extras={})
    job.finish(WELL, Counts(), next_sync_in=0)
    assert here.sync().outcome == WELL
    assert here.cursor()["coverage"][-1]["end"] <= here.clock.now()
    here.clock.advance(HOUR)
    here.trade()
    here.clock.advance(4 * HOUR)
    here.sync()
    here.assert_exact()


def test_a_reject_is_sent_once(world: MakeWorld) -> None:
    here = world(seed="reject once")
    here.trade(ago_seconds=600, overrides={"vol": "none"})
    assert here.sync().rejected == 1
    here.deployment.reset_calls()
    report = here.sync()
    assert (report.fetched, report.known, report.rejected) == (1, 1, 0)
    assert ingests(here) == 0
    assert len(here.rejects()) == 1


def test_a_changed_row_is_sent_again(world: MakeWorld) -> None:
    here = world(seed="changed")
    (txid,) = here.trade(ago_seconds=600, fee="1")
    here.sync()
    fill = here.kraken.history.find(txid)
    assert fill is not None
    object.__setattr__(fill, "overrides", {"fee": "2.5"})
    assert here.sync().updated == 1
    assert here.executions()[0]["fee"] == "2.5"


def test_a_long_quiet_read_keeps_its_lease(world: MakeWorld) -> None:
    here = world(trades=600, seed="quiet", years=0.01)
    here.sync()
    here.clock.advance(DAY)
    here.kraken.faults.plant(Fault(path="TradesHistory", delay=28, times=None))
    begun = here.clock.monotonic()
    assert here.sync().outcome == WELL
    assert here.clock.monotonic() - begun > 310, "longer than a lease lasts"


def test_a_key_is_looked_at_once_a_day_and_when_it_is_new(world: MakeWorld) -> None:
    here = world(trades=10, seed="daily")
    for _ in range(47):
        here.sync()
        here.clock.advance(HOUR)
    assert calls(here)["GetApiKeyInfo"] == 2
    key = here.kraken.change_key(KeyChange(rotate=True))
    here.user.mutation(
        "tradeImport/connections:updateCredentials",
        {"connectionId": here.connection_id, "auth": {"kind": "kraken", "apiKey": key.key, "apiSecret": key.secret}},
    )
    assert here.sync().outcome == WELL
    assert calls(here)["GetApiKeyInfo"] == 3


def test_F6_a_key_that_was_refused_is_looked_at_again_before_it_reads(world: MakeWorld) -> None:
    here = world(trades=10, seed="looked at")
    here.sync()
    here.clock.advance(DAY)
    here.kraken.change_key(KeyChange(permissions=["query-closed-trades", "withdraw-funds"]))
    assert "Withdraw funds" in here.sync().problem
    read = calls(here)["TradesHistory"]
    here.sync()
    assert calls(here)["TradesHistory"] == read
    here.kraken.change_key(KeyChange(permissions=["query-closed-trades"]))
    assert here.sync().outcome == WELL
    # Also within the day, and whatever it was refused for.
    looked = calls(here)["GetApiKeyInfo"]
    here.kraken.faults.plant(Fault(path="TradesHistory", error="EAPI:Invalid key"))
    assert here.connection()["status"] == "active"
    here.sync()
    assert calls(here)["GetApiKeyInfo"] == looked
    assert here.connection()["status"] == "needs_reauth"
    assert here.sync().outcome == WELL
    assert calls(here)["GetApiKeyInfo"] == looked + 1


def test_every_job_lets_go_of_its_sockets(world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    here = world(trades=10, seed="sockets")
    closed = []
    close = KrakenConnector.close
    monkeypatch.setattr(KrakenConnector, "close", lambda self: (closed.append(self), close(self)))
    here.sync()
    here.kraken.faults.plant(Fault(path="SystemStatus", status=418))
    here.sync()
    assert len(set(closed)) == 2


def test_a_notice_stays_until_the_next_look(world: MakeWorld) -> None:
    here = world(trades=10, seed="notice")
    here.kraken.change_key(KeyChange(query_from=1))
    first, second = here.sync(), here.sync()
    assert "1970-01-01" in first.problem
    assert second.problem == first.problem


def test_a_half_open_breaker_asks_once(world: MakeWorld) -> None:
    here = world(trades=10, seed="probe")
    here.kraken.faults.plant(Fault(path="SystemStatus", reset=True, times=None))
    per_job = []
    for _ in range(6):
        here.restart()  # and with it the budget for retries
        here.sync()
        per_job.append(len(here.kraken.audit.calls))
        here.kraken.audit.clear()
        here.clock.advance(901)
    assert per_job[0] > 1
    assert per_job[3:] == [1, 1, 1]


def test_a_bug_ends_its_job_with_a_sentence_and_frees_the_lease(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world(trades=10, seed="bug")
    with monkeypatch.context() as patch:
        patch.setattr(Reading, "_bind", lambda *_: {}["a bug"])
        report = here.sync()
    assert isinstance(report.outcome, JobOutcome)
    assert (report.outcome.status, report.outcome.problem and report.outcome.problem.code) == (
        "failed",
        "internal_error",
    )
    assert here.sync().outcome == WELL


def test_a_quiet_poll_moves_coverage_and_the_job_names_its_window(world: MakeWorld) -> None:
    here = world(trades=10, seed="moves")
    here.sync()
    before = here.cursor()["coverage"][-1]["end"]
    here.clock.advance(900)
    here.sync()
    after, job = here.cursor()["coverage"][-1]["end"], here.jobs()[-1]
    assert after >= before + 900_000
    assert job["windowEnd"] == after + 180_000, "read up to now, settled three minutes before"
    assert job["windowStart"] == before - 3_600_000, "with an hour of overlap"


def test_a_job_that_stored_rows_before_it_failed_says_so(world: MakeWorld) -> None:
    here = world(trades=230, seed="partial")
    here.kraken.faults.plant(Fault(path="TradesHistory", call=3, reset=True, times=None))
    report = here.sync()
    assert isinstance(report.outcome, JobOutcome)
    assert (report.outcome.status, report.outcome.reason) == ("partial", "unavailable")
    assert 0 < len(here.executions()) < 230


def test_D6_one_refused_token_is_replaced_within_the_call(world: MakeWorld) -> None:
    here = world(trades=10, seed="401")
    here.deployment.fault("tradeImport/worker:claim", "refuse", status=401)
    assert here.sync().outcome == WELL


def test_I2_what_convex_refuses_is_not_covered(world: MakeWorld) -> None:
    here = world(trades=40, seed="refused")
    here.deployment.fault("tradeImport/worker:ingest", "refuse", status=403)
    report = here.sync()
    assert isinstance(report.outcome, JobOutcome)
    assert report.outcome.status == "failed"
    assert here.executions() == []
    here.assert_covered_is_stored()
    here.assert_accounted()
    assert here.sync().outcome == WELL
    here.assert_exact()


def test_I2_a_signal_during_a_write_covers_nothing_that_is_not_stored(world: MakeWorld) -> None:
    here = world(trades=40, seed="stopped")
    here.deployment.fault("tradeImport/worker:ingest", "refuse", status=503)
    write, tried = here.store._client.mutation, 0

    def stop_at_ingest(name: str, args: dict[str, Any]) -> Any:
        nonlocal tried
        if name.endswith(":ingest"):
            tried += 1
            here.stop.set()
        return write(name, args)

    here.store._client.mutation = stop_at_ingest  # type: ignore[method-assign]
    report = here.sync()
    assert tried == 1
    assert report.outcome == JobOutcome(status="failed", reason="cancelled")
    assert here.executions() == []
    here.assert_covered_is_stored()
    here.stop.clear()
    here.restart()
    assert here.sync().outcome == WELL
    here.assert_exact()


def test_E5_tries_end_before_the_lease_may_pass_to_somebody_else(world: MakeWorld) -> None:
    here = world(seed="tries")
    lease = here.store.claim(here.connection_id, "manual")
    assert isinstance(lease, Lease)
    job = here.store.job(lease)
    here.clock.advance((lease.expires_at - lease.server_now) / 1000 - LEASE_MARGIN - 3)
    here.deployment.fault("tradeImport/worker:ingest", "refuse", status=503, times=9)
    begun = here.clock.monotonic()
    with pytest.raises(ConvexUnavailable):
        job.ingest([], [], coverage=(), extras={})
    assert here.clock.monotonic() - begun <= 3


def test_a_half_read_window_stays_marked_while_a_newer_one_is_read(world: MakeWorld) -> None:
    here = world(trades=230, seed="marked", job_seconds=1)
    here.kraken.faults.plant(Fault(path="TradesHistory", delay=2, times=None))
    assert here.sync("backfill").unfinished
    marked = json.loads(here.cursor()["extras"]["bookmarks"])
    assert len(marked) == 1
    # The next worker stores a newer row, and is killed before it comes to the marked window.
    here.clock.advance(60)
    here.trade(ago_seconds=30)
    here.restart()
    write = here.store._call

    def killed_after_ingest(kind: str, function: str, args: dict[str, Any], **options: Any) -> Any:
        answer = write(kind, function, args, **options)
        if function == "ingest":
            raise Killed
        return answer

    here.store._call = killed_after_ingest  # type: ignore[method-assign]
    with pytest.raises(Killed):
        here.sync()
    assert json.loads(here.cursor()["extras"]["bookmarks"]) == marked


def test_windows_are_read_newest_first_whether_marked_or_not() -> None:
    mark = Bookmark(Window(start=100, end=200), "resume")
    covered = [Interval(source="kraken_trades", start=start, end=start + 50) for start in (50, 300, 500)]
    windows = older_windows(covered, KRAKEN_WINDOWING, floor=0, before=600, bookmarks=[mark])
    assert [window.end for window, _ in windows] == [600, 500, 300, 200, 50]


def test_pairs_are_asked_for_once_and_remembered_over_a_restart(world: MakeWorld) -> None:
    here = world(trades=130, seed="pairs")
    here.sync()
    assert (calls(here)["AssetPairs"], calls(here)["Assets"]) == (2, 2)
    here.restart()
    here.trade(pair="XXBTZUSD", ago_seconds=600)
    here.sync()
    assert (calls(here)["AssetPairs"], calls(here)["Assets"]) == (2, 2), "every pair in use was noted"
    for number in range(3):
        here.trade(ago_seconds=600, overrides={"pair": f"NEW{number}"})
        here.sync()
    assert calls(here)["AssetPairs"] == 4, "once more by the new process, and not again within the hour"


@pytest.mark.parametrize(("rows", "sizes"), [(0, [0]), (500, [500]), (501, [500, 1]), (1000, [500, 500])])
def test_D5_batches_have_a_number_of_rows(rows: int, sizes: list[int]) -> None:
    assert MAX_BATCH_ROWS == 500
    cut = _batches([execution(number, account="B") for number in range(rows)])
    assert [len(batch) for batch in cut] == sizes


def test_D5_batches_have_a_size() -> None:
    rows = [execution(number, account="B", raw="x" * 1_000_000) for number in range(10)]
    cut = _batches(rows)
    assert [row for batch in cut for row in batch] == rows
    assert all(sum(len(row.raw_payload) for row in batch) <= MAX_BATCH_BYTES for batch in cut)
    assert len(cut) == 3


def test_C9_restarts_after_jobs_that_ended_do_not_run_away_from_the_clock(world: MakeWorld) -> None:
    here = world(trades=3, seed="C9 cron")
    for _ in range(10):
        here.restart()
        here.clock.advance(60)
        assert here.sync().outcome == WELL
    last = max(int(call.nonce) for call in here.kraken.audit.calls if call.nonce)
    assert last <= (here.clock.now() + 1000) * 1_000_000
