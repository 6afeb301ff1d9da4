"""A worker process as an operator runs it, for tests that press, stop and kill it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from sandbox.brokers.kraken.simulator import KrakenSimulator, Setup
from sandbox.brokers.serving import BrokerServer
from sandbox.processes import ROOT, free_port
from tests.support.deployment import SECRET, Client, Deployment
from worker.clock import SystemClock


def eventually(condition: Callable[[], Any], *, within: float, what: str) -> Any:
    """The first true value of `condition`, looked at every 20 ms; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {within} s: {what}")


class Account:
    """A simulated Kraken account over real HTTP, and its owner's connection to it."""

    def __init__(
        self, deployment: Deployment, server: BrokerServer, kraken: KrakenSimulator, user: Client, **auth: str
    ) -> None:
        self.deployment = deployment
        self.server = server
        self.kraken = kraken
        self.user = user
        self.connection_id: str = user.mutation(
            "tradeImport/connections:create",
            {
                "kind": "kraken",
                "auth": {"kind": "kraken", "apiKey": kraken.key.key, "apiSecret": kraken.key.secret, **auth},
            },
        )

    def press_sync_now(self) -> Any:
        return self.user.mutation("tradeImport/sync:syncNow", {"connectionId": self.connection_id})

    def jobs(self) -> list[dict[str, Any]]:
        """Oldest first."""
        rows = [row for row in self.deployment.documents("importJobs") if row["connectionId"] == self.connection_id]
        return sorted(rows, key=lambda row: row["_creationTime"])

    def ended_jobs(self) -> list[dict[str, Any]]:
        return [job for job in self.jobs() if job["status"] != "running"]

    def state(self) -> dict[str, Any]:
        (row,) = [
            row for row in self.deployment.documents("connectionSyncState") if row["connectionId"] == self.connection_id
        ]
        return row

    def stored(self) -> set[str]:
        return {
            row["externalExecutionId"]
            for row in self.deployment.documents("externalExecutions")
            if row["connectionId"] == self.connection_id
        }

    def truth(self) -> set[str]:
        return {fill["txid"] for fill in self.kraken.oracle()}


def kraken_server(**setup: Any) -> tuple[KrakenSimulator, BrokerServer]:
    """A simulator on this machine's clock, served on a free port; the caller enters and leaves the server."""
    kraken = KrakenSimulator(SystemClock(), Setup(**setup))
    return kraken, BrokerServer(kraken)


class Daemon:
    """`trade-sync run` in a process of its own."""

    def __init__(
        self,
        deployment: Deployment,
        kraken_address: str,
        tmp: Path,
        *,
        convex_url: str | None = None,
        **settings: str,
    ) -> None:
        self.port = free_port()
        self._tmp = tmp
        self._env = {
            **os.environ,
            "CONVEX_URL": convex_url or deployment.address,
            "KRAKEN_BASE_URL": kraken_address,
            "TRADE_SYNC_PRIVATE_KEY": deployment.private_key,
            "TRADE_SYNC_SECRET": SECRET,
            "TRADE_SYNC_API_PORT": str(self.port),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self._tmp / f"daemon-{self.port}.log"

    def start(self) -> Self:
        with self.log_file.open("ab") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run"], cwd=ROOT, env=self._env, stdout=log_file, stderr=log_file
            )
        return self

    def wait_ready(self, within: float = 20) -> None:
        eventually(lambda: self.get("/readyz") == 200, within=within, what="the worker is ready")

    def get(self, path: str) -> int | None:
        """The status of a GET, None when nobody listens."""
        try:
            return httpx.get(self.address + path, timeout=5).status_code
        except httpx.TransportError:
            return None

    def command_lines(self) -> list[str]:
        """Of the worker and its children, as anybody on the machine can read them."""
        assert self._process is not None
        worker = Path(f"/proc/{self._process.pid}")
        children = [
            Path("/proc") / child for task in worker.glob("task/*/children") for child in task.read_text().split()
        ]
        return [(process / "cmdline").read_text().replace("\0", " ") for process in (worker, *children)]

    def terminate(self, within: float = 12) -> tuple[int, float]:
        """SIGTERM; returns the exit status and how long it took."""
        assert self._process is not None
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(timeout=within)
        return status, time.monotonic() - begun

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=12)
            except subprocess.TimeoutExpired:
                self.kill()
