"""Rows that nobody could read, read again by a mended worker when their owner asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.brokers.ibkr.flex.inputs import FlexCode
from sandbox.brokers.kraken.history import History
from sandbox.brokers.kraken.simulator import Setup
from tests.support.deployment import Deployment
from tests.support.flex import NOON, connect
from tests.support.ibkr_world import IbkrWorld
from tests.support.imported import Imported
from tests.support.world import World
from worker.errors import BadRecord
from worker.models import Counts, JobOutcome, Lease, Reject
from worker.normalize import ibkr_flex, ibkr_live
from worker.normalize import kraken as kraken_rows
from worker.normalize.fields import CUT_SHORT

Blind = Callable[[Any], None]


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Blind]:
    """Makes one normaliser unable to read any row, as long as it is asked to be."""

    def install(module: Any) -> Blind:
        reads, cannot = module._execution, [False]

        def read(*args: Any, **kwargs: Any) -> Any:
            if cannot[0]:
                raise BadRecord("an older version cannot read this", field="all")
            return reads(*args, **kwargs)

        monkeypatch.setattr(module, "_execution", read)

        def set_blind(on: bool) -> None:
            cannot[0] = on

        return set_blind

    return install


def retry(here: Imported) -> Any:
    return here.user.mutation("tradeImport/jobs:retryRejects", {"connectionId": here.connection_id})


def open_rejects(here: Imported) -> list[dict[str, Any]]:
    return [row for row in here.rejects() if "resolvedAt" not in row]


def test_B12_a_mended_worker_reads_krakens_rows_again(deployment: Deployment, blind: Callable[[Any], Blind]) -> None:
    here = World(deployment, Setup(trades=0, seed="retry"))
    for number in range(5):
        here.trade(ago_seconds=600 + number)
    set_blind = blind(kraken_rows)
    set_blind(True)
    assert here.sync().rejected == 5
    set_blind(False)
    # What Kraken shows no more comes from the payloads alone.
    truth = here.truth()
    here.kraken.history = History()
    assert retry(here)["marked"] == 5
    report = here.sync()
    assert (report.fetched, report.inserted) == (5, 5)
    assert here.stored() == truth
    assert open_rejects(here) == []
    here.assert_accounted()


def test_B12_a_row_that_still_cannot_be_read_stays_and_says_why(deployment: Deployment) -> None:
    here = World(deployment, Setup(trades=0, seed="stays"))
    here.trade(ago_seconds=600, overrides={"vol": "1,234.5"})
    here.sync()
    (before,) = open_rejects(here)
    retry(here)
    report = here.sync()
    assert report.inserted == 0
    (after,) = open_rejects(here)
    assert "vol" in after["reason"]
    assert "retryAt" not in after
    assert after["rawPayload"] == before["rawPayload"]
    here.assert_accounted()


def test_B12_a_mended_worker_reads_live_rows_again(deployment: Deployment, blind: Callable[[Any], Blind]) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login()
    line = world.connect(simulator, account=simulator.accounts[0])
    for symbol in ("AAPL", "MSFT", "KO"):
        line.trade(symbol=symbol, side="B")
    set_blind = blind(ibkr_live)
    set_blind(True)
    assert line.sync().rejected == 3
    set_blind(False)
    # Eight days later the live API has forgotten them.
    world.clock.advance(8 * 86_400)
    simulator.login()
    retry(line)
    line.sync()
    line.assert_exact()
    assert open_rejects(line) == []
    line.assert_accounted()


@pytest.mark.parametrize("kind", ["activity", "confirm"])
def test_B12_a_mended_worker_reads_statement_rows_again(
    deployment: Deployment, blind: Callable[[Any], Blind], kind: str
) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(sec_types=("STK",))
    line = connect(world, simulator, activity=kind == "activity", confirm=kind == "confirm")
    ago = 3 * 86_400 if kind == "activity" else 3600
    for symbol in ("AAPL", "MSFT", "KO"):
        line.trade(symbol=symbol, side="S", ago_seconds=ago)
    set_blind = blind(ibkr_flex)
    set_blind(True)
    assert line.sync().rejected == 3
    set_blind(False)
    # The service has no report now: what comes, comes from the payloads.
    simulator.flex.plant(FlexCode(code=1019, times=None))
    world.clock.advance(60)
    world.tell_convex_the_time()
    retry(line)
    line.sync("scheduled")
    sources = {row["source"] for row in line.executions()}
    assert sources == {"ibkr_flex_activity" if kind == "activity" else "ibkr_flex_confirm"}
    line.assert_exact()
    assert open_rejects(line) == []
    line.assert_accounted()


def test_B18_a_row_of_another_account_waits_for_that_accounts_connection(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(accounts=("U1110001", "U1110002"))
    line = world.connect(simulator, account="U1110001")
    other = world.connect(simulator, account="U1110002")
    other.trade(symbol="AAPL", side="B")
    other.user.mutation("tradeImport/connections:disconnect", {"connectionId": other.connection_id})
    line.sync()
    (reject,) = open_rejects(line)
    assert reject["accountRef"] == "U1110002"
    retry(line)
    line.sync()
    (still,) = open_rejects(line)
    assert "U1110002" in still["reason"]
    assert line.executions() == []


ROW = (
    '{"accountId":"U9990009","symbol":"KO","assetCategory":"STK","dateTime":"20260910;101500","buySell":"BUY",'
    '"quantity":"5","tradePrice":"71.15","ibCommission":"-1","ibExecID":"0000f1a2.68c7d001.01.01"}'
)


@pytest.mark.parametrize(
    ("payload", "account", "why"),
    [
        ("[1, 2]", None, "not kept whole"),
        ("no JSON", None, "not kept whole"),
        ("[" * 60_000, None, "not kept whole"),
        (CUT_SHORT + json.dumps(ROW[:80]) + "}", None, "not kept whole"),
        (ROW, "U9990009", "account U9990009. A connection to that account imports it"),
    ],
    ids=["list", "no JSON", "deep", "cut short", "another account"],
)
def test_B12_what_cannot_be_read_again_stays_and_says_why(
    deployment: Deployment, payload: str, account: str | None, why: str
) -> None:
    world = IbkrWorld(deployment, start=NOON)
    line = connect(world, world.login(sec_types=("STK",)), confirm=False)
    line.sync()
    lease = world.store.claim(line.connection_id, "manual")
    assert isinstance(lease, Lease)
    job = world.store.job(lease)
    job.ingest(
        [], [Reject.of(payload, "an older version could not read this", account_ref=account)], coverage=[], extras={}
    )
    job.finish(JobOutcome(status="succeeded", reason="none"), Counts(rejected=1, fetched=1), next_sync_in=0)
    assert retry(line)["marked"] == 1
    world.clock.advance(900)
    line.sync()
    (reject,) = open_rejects(line)
    assert why in reject["reason"]
    assert "retryAt" not in reject
    assert line.executions() == []
