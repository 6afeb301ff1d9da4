"""`trade-sync import-flex`: downloaded statements, through the real command, into the real functions."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from sandbox.brokers.ibkr.simulator import IbkrSimulator, NewFill, Setup
from sandbox.clock import VirtualClock
from sandbox.processes import ROOT
from tests.support.deployment import Deployment
from tests.support.imported import Imported
from worker.clock import SystemClock
from worker.connectors.ibkr_flex import FlexClient, flex_pacer

ACCOUNT = "U7770001"
DAY = 24 * 3_600_000


def statement(simulator: IbkrSimulator, path: Path) -> Path:
    """What a person would download: the service's own document of the query's own period."""
    client = FlexClient(
        simulator.flex.token,
        clock=simulator.clock,
        pacer=flex_pacer(simulator.clock),
        transport=lambda _: simulator.transport(),
    )
    document = io.BytesIO()
    client.fetch_statement(simulator.flex.activity_query, None, document)
    path.write_bytes(document.read())
    return path


def simulated(now: int, *, account: str = ACCOUNT) -> IbkrSimulator:
    simulator = IbkrSimulator(VirtualClock(now), Setup(accounts=(account,), trades=0, logged_in=False))
    for days in (3, 20, 40):
        simulator.book(NewFill(symbol="AAPL", side="B", size=Decimal(days), ago_seconds=days * DAY / 1000))
    return simulator


def run(deployment: Deployment, *args: str) -> subprocess.CompletedProcess[str]:
    ours = ("TRADE_SYNC_", "CONVEX_", "KRAKEN_", "IBKR_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env |= {"CONVEX_URL": deployment.address, "TRADE_SYNC_PRIVATE_KEY": deployment.private_key}
    return subprocess.run(
        [sys.executable, "-m", "worker", "import-flex", *args],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def connect(deployment: Deployment) -> Imported:
    user = deployment.user()
    connection_id = user.mutation(
        "tradeImport/connections:create",
        {
            "kind": "ibkr_gateway",
            "accountRef": ACCOUNT,
            "auth": {"kind": "ibkr_gateway", "baseUrl": "https://localhost:5000"},
        },
    )
    return Imported(deployment, user, connection_id)


def test_statements_from_files_are_imported_once(deployment: Deployment, tmp_path: Path) -> None:
    simulator, line = simulated(SystemClock().now()), connect(deployment)
    file = statement(simulator, tmp_path / "activity.xml")
    done = run(deployment, str(file), "--connection", line.connection_id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 inserted" in done.stdout
    truth = {fill["family"] for fill in simulator.oracle()}
    assert {row["externalExecutionId"] for row in line.executions()} == truth
    assert line.connection()["completeFrom"] is not None
    again = run(deployment, str(file), "--connection", line.connection_id)
    assert again.returncode == 0
    assert "0 inserted, 0 updated, 3 known" in again.stdout
    line.assert_accounted()


def test_a_file_of_another_account_or_half_a_file_brings_nothing(deployment: Deployment, tmp_path: Path) -> None:
    line = connect(deployment)
    other = statement(simulated(SystemClock().now(), account="U9990009"), tmp_path / "other.xml")
    refused = run(deployment, str(other), "--connection", line.connection_id)
    assert refused.returncode == 1
    assert "no statement of account U7770001, only of U9990009" in refused.stdout
    whole = statement(simulated(SystemClock().now()), tmp_path / "whole.xml")
    half = tmp_path / "half.xml"
    half.write_bytes(whole.read_bytes()[:-40])
    refused = run(deployment, str(whole), str(half), "--connection", line.connection_id)
    assert refused.returncode == 1
    assert line.executions() == []
    unknown = run(deployment, str(whole), "--connection", "nobody")
    assert unknown.returncode == 1
    assert "there is no connection nobody" in unknown.stderr
