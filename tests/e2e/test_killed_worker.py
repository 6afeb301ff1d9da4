"""`kill -9` at any moment: nothing lost, nothing twice, no window read again from its start (fault E2)."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.processes import ROOT, Child, start_kraken
from tests.support.deployment import Client, Deployment

KILLS = 20
TRADES = 5000
LEASE_SECONDS = 301


class Stage:
    """A simulator with a clock of its own, a connection to it, and the worker process to be killed."""

    def __init__(self, deployment: Deployment, kraken: Child) -> None:
        self._deployment = deployment
        self._kraken = httpx.Client(base_url=kraken.info["address"], timeout=60)
        self.user: Client = deployment.user()
        self.connection_id: str = self.user.mutation(
            "tradeImport/connections:create",
            {
                "kind": "kraken",
                "auth": {"kind": "kraken", "apiKey": kraken.info["apiKey"], "apiSecret": kraken.info["apiSecret"]},
            },
        )
        self._env = {
            **os.environ,
            "CONVEX_URL": deployment.address,
            "KRAKEN_BASE_URL": kraken.info["address"],
            "TRADE_SYNC_PRIVATE_KEY": deployment.private_key,
        }

    def start_worker(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.virtual_worker", self.connection_id], cwd=ROOT, env=self._env
        )

    def let_the_lease_end(self) -> None:
        """A dead worker's lease runs out; Convex's clock goes with the simulator's.

        What it sent last may be carried out only now, and prolong the lease once more.
        """
        for _ in range(10):
            now_ms = self._kraken.post("/sandbox/clock", json={"advanceSeconds": LEASE_SECONDS}).json()["nowMs"]
            self._deployment.shift_clock(now_ms - int(time.time() * 1000))
            leases = [state.get("lease") for state in self._deployment.documents("connectionSyncState")]
            if all(lease is None or lease["expiresAt"] <= now_ms for lease in leases):
                return
        raise AssertionError("the lease of a dead worker does not end")

    def histories(self) -> list[dict[str, Any]]:
        """Every TradesHistory call that was answered so far, in order.

        A kill can cut off a request in the middle of its body; that one is in the audit too, without its parameters.
        """
        calls: list[dict[str, Any]] = self._kraken.get("/sandbox/audit").json()["calls"]
        return [call for call in calls if call["path"].endswith("TradesHistory") and call["outcome"] == "ok"]

    def rate_breaches(self) -> int:
        return int(self._kraken.get("/sandbox/audit").json()["rateBreaches"])

    def truth(self) -> dict[str, tuple[int, Decimal, Decimal]]:
        return {
            fill["txid"]: (fill["timeMs"], Decimal(fill["vol"]), Decimal(fill["price"]))
            for fill in self._kraken.get("/sandbox/oracle").json()["fills"]
        }

    def stored(self) -> list[dict[str, Any]]:
        return self._deployment.documents("externalExecutions", connectionId=self.connection_id)

    def pages_stored(self) -> int:
        progress = [
            job["stats"]["inserted"]
            for job in self._deployment.documents("importJobs", connectionId=self.connection_id)
        ]
        return int(sum(progress)) // 50


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1])
def test_E2_killed_twenty_times_the_import_is_whole(seed: int) -> None:
    chance = random.Random(seed)
    start_ms = int(time.time() * 1000)
    with (
        Deployment() as deployment,
        start_kraken(
            "--trades", str(TRADES), "--years", "3", "--seed", f"kill {seed}", "--virtual-clock", str(start_ms)
        ) as kraken,
    ):
        stage = Stage(deployment, kraken)
        # Kills are spread over the whole import; the exact instant within a page is left to chance.
        for target in sorted(chance.sample(range(1, TRADES // 50), KILLS)):
            worker = stage.start_worker()
            try:
                while worker.poll() is None and len(stage.histories()) < target + 3:
                    time.sleep(0.01)
                time.sleep(chance.uniform(0, 0.06))
                assert worker.poll() is None, "the import was over before it could be killed"
            finally:
                worker.kill()
                worker.wait()
            stage.let_the_lease_end()
        assert stage.start_worker().wait(timeout=200) == 0

        rows = stage.stored()
        assert {
            row["externalExecutionId"]: (int(row["occurredAt"]), Decimal(row["quantity"]), Decimal(row["price"]))
            for row in rows
        } == stage.truth()
        assert len(rows) == TRADES
        assert all(len(row["tradeIds"]) in (1, 2) or row["state"] == "held" for row in rows)
        assert stage.rate_breaches() == 0
        assert_no_window_restarted(stage.histories())


@pytest.mark.timeout(240)
def test_B20_a_long_history_needs_little_memory() -> None:
    with (
        Deployment() as deployment,
        start_kraken(
            "--trades", "3000", "--seed", "memory", "--tier", "pro", "--virtual-clock", str(int(time.time() * 1000))
        ) as kraken,
    ):
        stage = Stage(deployment, kraken)
        worker = stage.start_worker()
        peak = 0
        while worker.poll() is None:
            peak = max(peak, peak_kib(worker.pid))
            time.sleep(0.05)
        assert worker.returncode == 0
        assert len(stage.stored()) == 3000
        # Most of it is the interpreter and its libraries; what grows is the memory of known rows, which is bounded.
        assert 0 < peak <= 200 * 1024, f"{peak} KiB"


def peak_kib(pid: int) -> int:
    """The largest resident size of a process so far; what `wait4` reports counts the parent it was forked from."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) if "VmHWM:" in status else 0


def assert_no_window_restarted(calls: list[dict[str, Any]]) -> None:
    """After its second page was asked for, a window is never asked for from position 0 again."""
    beyond_first: set[tuple[str, str]] = set()
    again = Counter[tuple[str, str]]()
    for call in calls:
        window = (call["params"].get("start", ""), call["params"]["end"])
        if int(call["params"]["ofs"]) > 0:
            beyond_first.add(window)
        elif window in beyond_first:
            again[window] += 1
    assert not again
