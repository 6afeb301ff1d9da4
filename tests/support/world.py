"""A Kraken account, a connection to it and a worker, on one virtual clock, against a real Convex server."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from decimal import Decimal
from typing import Any

from sandbox.brokers.kraken.simulator import KrakenSimulator, NewFill, Setup
from sandbox.clock import VirtualClock
from tests.support.deployment import Deployment
from tests.support.imported import Imported
from worker.brokers import Broker
from worker.connectors.kraken_walk import CUT_PAGES
from worker.models import JobMode
from worker.sessions.kraken import WINDOWING, Kraken
from worker.sync import Report, Syncer


class WorkerClock:
    """The worker's own clock: time passes for it as for all, but an administrator may have set it wrong (fault C12)."""

    def __init__(self, true: VirtualClock) -> None:
        self._true = true
        self.offset = 0.0

    def now(self) -> int:
        return self._true.now() + round(self.offset * 1000)

    def monotonic(self) -> float:
        return self._true.monotonic()

    def sleep(self, seconds: float) -> None:
        self._true.sleep(seconds)


class World(Imported):
    """`sync()` is one job; `stored()` what Convex holds; `truth()` what the broker's ledger says."""

    def __init__(
        self,
        deployment: Deployment,
        setup: Setup | None = None,
        *,
        job_seconds: float = 3600,
        cut_pages: int = CUT_PAGES,
        **create: Any,
    ) -> None:
        self.stop = threading.Event()
        self.clock = VirtualClock(int(time.time() * 1000), stop=self.stop)
        self.worker_clock = WorkerClock(self.clock)
        self.kraken = KrakenSimulator(self.clock, setup or Setup())
        user = deployment.user()
        self.job_seconds = job_seconds
        self.cut_pages = cut_pages
        self._ahead = 0
        deployment.shift_clock(0)
        connection_id = user.mutation(
            "tradeImport/connections:create",
            {
                "kind": "kraken",
                "auth": {"kind": "kraken", "apiKey": self.kraken.key.key, "apiSecret": self.kraken.key.secret},
                **create,
            },
        )
        super().__init__(deployment, user, connection_id)
        self.restart()

    def restart(self) -> None:
        """A new worker process, as far as memory goes."""
        clock = self.worker_clock
        # The real clock follows Convex's, which is what signs good tokens under a wrong one.
        self.store = self.deployment.store(clock, token_clock=self.clock)
        kraken = Kraken(clock, "https://api.kraken.com", transport=self.kraken.transport(), cut_pages=self.cut_pages)
        self.syncer = Syncer(
            self.store, {"kraken": Broker(WINDOWING, kraken.open)}, clock, stop=self.stop, job_seconds=self.job_seconds
        )

    def expire_leases(self) -> None:
        """Let more time pass than a lease lasts, for Convex and for the worker alike."""
        self._ahead += 301
        self.deployment.shift_clock(self._ahead * 1000)
        self.clock.advance(301)

    def sync(self, mode: JobMode = "manual") -> Report:
        return self.syncer.run(self.connection_id, mode)

    def trade(self, **fill: Any) -> list[str]:
        """Let one trade (or order) happen now, or as `fill` says; returns its txids."""
        return [f.txid for f in self.kraken.book(NewFill(**fill))]

    def truth(self) -> dict[str, tuple[Any, ...]]:
        return {
            fill["txid"]: _facts(fill["timeMs"], fill["type"], fill["vol"], fill["price"], fill["fee"])
            for fill in self.kraken.oracle()
        }

    def stored(self) -> dict[str, tuple[Any, ...]]:
        rows = self.executions()
        found = {
            row["externalExecutionId"]: _facts(
                int(row["occurredAt"]), row["side"], row["quantity"], row["price"], row["fee"]
            )
            for row in rows
        }
        assert len(found) == len(rows), "an execution is stored twice"
        return found

    def assert_exact(self) -> None:
        """I1: Convex holds exactly the broker's ledger, to the last digit."""
        assert self.stored() == self.truth()

    def assert_covered_is_stored(self, *, late: Collection[str] = ()) -> None:
        """I2: nothing lies in a covered range without being stored, but what was booked `late`."""
        cursors = self.deployment.documents("importCursorState", connectionId=self.connection_id)
        ranges = [(interval["start"], interval["end"]) for cursor in cursors for interval in cursor["coverage"]]
        stored = {row["externalExecutionId"] for row in self.executions()}
        missing = {
            txid
            for txid, (at, *_) in self.truth().items()
            if txid not in stored and txid not in late and any(start < at <= end for start, end in ranges)
        }
        assert not missing


def _facts(at: int, side: str, quantity: str, price: str, fee: str) -> tuple[Any, ...]:
    return at, side, Decimal(quantity), Decimal(price), Decimal(fee)
