"""Convex misbehaves (fault rows D). The server really drops connections, refuses and delays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.executions import execution
from tests.support.world import World
from worker.errors import ConvexRefused, LeaseLost
from worker.identity import Identity, make_key_pair
from worker.models import JobOutcome, Lease

MakeWorld = Callable[..., World]
INGEST = "tradeImport/worker:ingest"
CLAIM = "tradeImport/worker:claim"
FINISH = "tradeImport/worker:finish"


def leased(here: World) -> Lease:
    lease = here.store.claim(here.connection_id, "manual")
    assert isinstance(lease, Lease)
    return lease


def test_D1_nothing_is_fetched_that_could_not_be_stored(world: MakeWorld) -> None:
    here = world(trades=10, seed="D1")
    here.deployment.fault(CLAIM, "refuse", status=503, times=5)
    report = here.sync()
    assert report.outcome is None
    assert here.kraken.audit.calls == []
    here.sync()
    here.assert_exact()


@pytest.mark.parametrize("kind", ["die_before_commit", "die_after_commit"])
@pytest.mark.parametrize("function", [CLAIM, INGEST, FINISH, "tradeImport/worker:bindAccount"])
@pytest.mark.parametrize("skip", [0, 1])
def test_D2_a_lost_answer_is_harmless(world: MakeWorld, kind: str, function: str, skip: int) -> None:
    here = world(trades=120, seed="D2")
    here.deployment.fault(function, kind, skip=skip)
    report = here.sync()
    here.deployment.clear_faults()
    if report.outcome is None or not isinstance(report.outcome, JobOutcome):
        # The claim was applied and its answer lost: that lease is held by nobody until it ends.
        here.expire_leases()
        report = here.sync()
    assert report.outcome == JobOutcome(status="succeeded")
    here.assert_exact()
    here.assert_accounted()
    assert len({trade for row in here.executions() for trade in row["tradeIds"]}) == sum(
        len(row["tradeIds"]) for row in here.executions()
    )


def test_D3_write_conflicts_are_tried_again(world: MakeWorld) -> None:
    here = world(trades=60, seed="D3")
    here.deployment.fault(INGEST, "conflict", times=4)
    assert here.sync().outcome == JobOutcome(status="succeeded")
    here.assert_exact()
    here.assert_accounted()


def test_D3_a_conflict_that_stays_ends_the_job_after_five_tries_and_loses_nothing(world: MakeWorld) -> None:
    here = world(trades=60, seed="D3b")
    here.deployment.fault(INGEST, "conflict", times=9)
    assert here.sync().outcome is None
    (left,) = here.deployment.pending_faults()
    assert left["times"] == 9 - 5
    here.deployment.clear_faults()
    here.expire_leases()
    assert here.sync().outcome == JobOutcome(status="succeeded")
    here.assert_exact()
    here.assert_accounted()


def test_D4_one_row_of_five_hundred_that_convex_refuses_is_found_and_kept(world: MakeWorld) -> None:
    here = world(seed="D4")
    lease = leased(here)
    job = here.store.job(lease)
    job.bind_account("D4")
    rows = [execution(number, account="D4") for number in range(500)]
    rows[321] = execution(321, account="D4", quantity="0")
    here.deployment.reset_calls()
    ingested, again = job.ingest(rows, [], coverage=(), extras={})
    assert ingested.inserted == 499
    assert ingested.rejected == 1
    assert again == frozenset(), "the rule names the row; sending it again would change nothing"
    # 500 rows are halved nine times; each level costs two calls, and the reject and the progress one more.
    assert here.deployment.calls()[INGEST] <= 1 + 2 * 9 + 1
    assert len(here.executions()) == 499
    (reject,) = here.rejects()
    assert reject["externalExecutionId"] == rows[321].external_execution_id
    assert "quantity" in reject["reason"]


def test_D5_a_batch_over_the_limits_is_halved_until_it_fits(world: MakeWorld) -> None:
    here = world(seed="D5")
    job = here.store.job(leased(here))
    job.bind_account("D5")
    # A document may hold 1 MiB: this row never fits, the others do.
    rows = [execution(number, account="D5", raw="x" * 10_000) for number in range(40)]
    rows[7] = execution(7, account="D5", raw="x" * 1_100_000)
    ingested, again = job.ingest(rows, [], coverage=(), extras={})
    assert ingested.inserted == 39
    assert again == {rows[7].version}, "Convex does not say why; the next job may do better"
    assert len(here.executions()) == 39
    assert [reject["externalExecutionId"] for reject in here.rejects()] == [rows[7].external_execution_id]


def test_a_deployment_that_refuses_everything_quarantines_nothing(world: MakeWorld) -> None:
    here = world(trades=10, seed="refuses")
    lease = leased(here)
    job = here.store.job(lease)
    job.bind_account("R")
    here.deployment.set_env("TRADE_SYNC_JWKS", make_key_pair().jwks_data_uri)
    try:
        with pytest.raises(ConvexRefused) as refusal:
            job.ingest([execution(1, account="R")], [], coverage=(), extras={})
    finally:
        here.deployment.restore_identity()
    assert refusal.value.code == "unauthorised"
    assert here.rejects() == []


def test_D6_a_token_that_expired_meanwhile_is_renewed_once(world: MakeWorld) -> None:
    here = world(trades=60, seed="D6")
    here.sync()
    # An hour later by Convex's clock; the worker's has not noticed.
    here.deployment.shift_clock(3_600_000)
    here.trade()
    report = here.sync()
    assert report.outcome is None
    assert "TRADE_SYNC_JWKS" in report.problem
    here.clock.advance(3600)
    assert here.sync().outcome == JobOutcome(status="succeeded")
    here.assert_exact()


def test_D6_a_rotated_key_stops_the_worker_with_a_sentence(world: MakeWorld) -> None:
    here = world(trades=10, seed="D6b")
    store = here.store
    other = make_key_pair()
    store._client._identity = Identity(other.private_pem, here.clock)  # type: ignore[attr-defined]
    here.deployment.reset_calls()
    report = here.sync()
    assert report.outcome is None
    assert "trade-sync keys" in report.problem
    assert here.kraken.audit.calls == []


def test_E4_a_paused_worker_writes_nothing_after_its_lease_was_taken(world: MakeWorld) -> None:
    here = world(seed="E4")
    old = here.store.job(leased(here))
    old.bind_account("E4")
    here.expire_leases()
    new = here.store.job(leased(here))
    with pytest.raises(LeaseLost):
        old.ingest([execution(1, account="E4")], [], coverage=(), extras={})
    new.ingest([execution(2, account="E4")], [], coverage=(), extras={})
    assert [row["externalExecutionId"] for row in here.executions()] == ["TAAAAA-BBBBB-000002"]


def test_E5_nothing_is_written_in_the_last_seconds_of_a_lease(world: MakeWorld) -> None:
    here = world(seed="E5")
    lease = leased(here)
    job = here.store.job(lease)
    here.clock.advance((lease.expires_at - lease.server_now) / 1000 - 5)
    with pytest.raises(LeaseLost):
        job.ingest([execution(1, account="E5")], [], coverage=(), extras={})
    assert here.executions() == []


def test_D9_a_connection_disconnected_during_its_job_gains_nothing_more(world: MakeWorld) -> None:
    here = world(trades=120, seed="D9")
    handle = here.kraken.handle

    def disconnect_at_the_second_page(request: object) -> object:
        if len([call for call in here.kraken.audit.calls if call.path.endswith("TradesHistory")]) == 2:
            here.user.mutation("tradeImport/connections:disconnect", {"connectionId": here.connection_id})
        return handle(request)  # type: ignore[arg-type]

    here.kraken.handle = disconnect_at_the_second_page  # type: ignore[method-assign, assignment]
    report = here.sync()
    assert report.outcome is None
    stored = len(here.executions())
    assert stored < 120
    assert here.jobs()[-1]["reason"] == "cancelled"
    assert here.sync().outcome is not None
    assert len(here.executions()) == stored


def test_D7_a_deployment_that_can_store_no_row_loses_none(world: MakeWorld) -> None:
    """Functions of another version refuse every batch that has rows, and accept an empty one."""
    here = world(trades=130, seed="D7")
    refuses = here.store._call

    def refuse_rows(kind: str, function: str, args: dict[str, Any], **options: Any) -> Any:
        if function == "ingest" and args["executions"]:
            raise ConvexRefused("Server Error", code="server_error")
        return refuses(kind, function, args, **options)

    here.store._call = refuse_rows  # type: ignore[method-assign]
    outcome = here.sync().outcome
    assert isinstance(outcome, JobOutcome)
    assert (outcome.status, outcome.reason) == ("failed", "rejected")
    assert here.rejects() == []
    here.restart()
    assert here.sync().outcome == JobOutcome(status="succeeded")
    here.assert_exact()
