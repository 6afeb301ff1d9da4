"""A worker process whose time is the simulator's: `python -m tests.support.virtual_worker`, killed by tests.

It syncs one connection until nothing is left to read. Everything is the worker's own code but the clock, which
asks the simulator and, instead of sleeping, lets its time pass.
"""

from __future__ import annotations

import os
import sys

import httpx

from worker import log
from worker.brokers import Broker
from worker.http import Http
from worker.identity import Identity
from worker.models import JobOutcome
from worker.sessions.kraken import WINDOWING, Kraken
from worker.store import Store
from worker.sync import Syncer


class RemoteClock:
    """The clock of a simulator in another process."""

    def __init__(self, control: str) -> None:
        self._http = httpx.Client(base_url=control)

    def now(self) -> int:
        return int(self._read()["nowMs"])

    def monotonic(self) -> float:
        return float(self._read()["monotonic"])

    def sleep(self, seconds: float) -> None:
        self._http.post("/sandbox/clock", json={"advanceSeconds": seconds}).raise_for_status()

    def _read(self) -> dict[str, float]:
        reading: dict[str, float] = self._http.get("/sandbox/clock").raise_for_status().json()
        return reading


def main() -> int:
    log.configure(style="json", level="warning")
    clock = RemoteClock(os.environ["KRAKEN_BASE_URL"])
    address = os.environ["CONVEX_URL"]
    store = Store(
        Http(address, clock, kind="convex", deadline=3600, count=lambda _kind, _outcome: None),
        address,
        Identity(os.environ["TRADE_SYNC_PRIVATE_KEY"], clock),
        clock,
        f"virtual-{os.getpid()}",
    )
    kraken = Kraken(clock, os.environ["KRAKEN_BASE_URL"])
    syncer = Syncer(store, {"kraken": Broker(WINDOWING, kraken.open)}, clock)
    while True:
        report = syncer.run(sys.argv[1], "manual")
        if not report.unfinished:
            print(report.outcome)
            return 0 if isinstance(report.outcome, JobOutcome) and report.outcome.status == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
