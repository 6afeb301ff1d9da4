"""Interactive Brokers logins, connections to them and a worker, on one virtual clock, against a real Convex server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx

from sandbox.brokers.ibkr.simulator import IbkrSimulator, NewFill, Setup
from sandbox.clock import VirtualClock
from tests.support.deployment import Client, Deployment
from tests.support.imported import Imported
from worker.brokers import Broker
from worker.connectors.ibkr_gateways import Gateway
from worker.models import DueConnection, JobMode, JobOutcome
from worker.scheduler import is_due
from worker.sessions import ibkr_flex
from worker.sessions.ibkr import LIVE_WINDOWING, Ibkr
from worker.sync import Report, Syncer

OAUTH_URL = "https://api.ibkr.com"
FLEX_URL = "https://ndcdyn.interactivebrokers.com"
WORKER_ID = "worker-of-the-world"


def gateway_address(position: int) -> str:
    return f"https://localhost:{5000 + position}"


class Line(Imported):
    """One connection to one login."""

    def __init__(self, world: IbkrWorld, simulator: IbkrSimulator, connection_id: str, account: str | None) -> None:
        super().__init__(world.deployment, world.user, connection_id)
        self.simulator = simulator
        self._world = world
        self._account = account

    @property
    def account(self) -> str:
        """The account it imports: what it was created with, or was bound to."""
        if self._account is None:
            self._account = self.connection()["accountRef"]
        return self._account

    def sync(self, mode: JobMode = "manual", *, early: bool = False) -> Report:
        return self._world.sync(self, mode, early=early)

    def trade(self, **fill: Any) -> list[Any]:
        return list(self.simulator.book(NewFill(**{"account": self.account, **fill})))

    def truth(self) -> dict[str, tuple[Any, ...]]:
        """The account's true executions by family."""
        return {
            fill["family"]: (
                int(fill["revision"]),
                int(fill["timeMs"]) // 1000 * 1000,
                {"B": "buy", "S": "sell"}.get(fill["side"]),
                Decimal(fill["size"]),
                Decimal(fill["price"]),
                Decimal(fill["commission"] or 0),
            )
            for fill in self.simulator.oracle()
            if fill["account"] == self.account
        }

    def stored(self) -> dict[str, tuple[Any, ...]]:
        rows = self.executions()
        found = {
            row["externalExecutionId"]: (
                int(row["revision"]), int(row["occurredAt"]), row.get("side"),
                Decimal(row["quantity"]), Decimal(row["price"]), Decimal(row["fee"]),
            )
            for row in rows
        }  # fmt: skip
        assert len(found) == len(rows), "an execution is stored twice"
        return found

    def assert_exact(self) -> None:
        assert self.stored() == self.truth()

    def health(self) -> str:
        """The state, as the owner's page would show it at this moment of the virtual clock."""
        return str(self.view()["health"]["state"])

    def view(self) -> dict[str, Any]:
        self._world.tell_convex_the_time()
        now = self._world.clock.now()
        self._world.store.beat("test", now)
        (row,) = [
            row
            for row in self.user.query("tradeImport/connections:list", {"now": now})
            if row["connectionId"] == self.connection_id
        ]
        return row


@dataclass(slots=True)
class _Due:
    """What Convex would tell the worker of a connection."""

    line: Line
    due: DueConnection


class IbkrWorld:
    """Logins on one clock. `drive` lets time pass as the daemon would: due jobs run, keepalive turns."""

    def __init__(self, deployment: Deployment, *, start: int | None = None, oauth_keys: Any = None) -> None:
        self.deployment = deployment
        self.stop = threading.Event()
        self.clock = VirtualClock(start if start is not None else int(time.time() * 1000), stop=self.stop)
        self.user: Client = deployment.user()
        self.simulators: dict[str, IbkrSimulator] = {}
        self.lines: list[Line] = []
        self.gateways: list[Gateway] = []
        self._oauth_keys = oauth_keys
        self.reports: list[tuple[int, Line, Report]] = []
        self._due: dict[str, _Due] = {}
        self.restart()

    def login(self, *, oauth: bool = False, **setup: Any) -> IbkrSimulator:
        """One more login with a gateway of its own, or behind the OAuth address."""
        address = OAUTH_URL if oauth else gateway_address(len(self.simulators))
        simulator = IbkrSimulator(self.clock, Setup(address=address, **setup))
        self.simulators[address] = simulator
        if not oauth:
            self.gateways.append(Gateway(address))
        self.restart()
        return simulator

    def connect(
        self,
        simulator: IbkrSimulator,
        *,
        account: str | None = None,
        settings: Mapping[str, Any] | None = None,
        auth: Mapping[str, Any] | None = None,
    ) -> Line:
        """One more connection of the user to a login."""
        self.tell_convex_the_time()
        address = next(address for address, each in self.simulators.items() if each is simulator)
        credentials = auth or {"kind": "ibkr_gateway", "baseUrl": address}
        args: dict[str, Any] = {
            "kind": credentials["kind"],
            "auth": dict(credentials),
            "settings": {"intervalMinutes": 15, **(settings or {})},
        }
        if account is not None:
            args["accountRef"] = account
        line = Line(self, simulator, self.user.mutation("tradeImport/connections:create", args), account)
        self.lines.append(line)
        self.learn()
        return line

    def restart(self) -> None:
        """A new worker process, as far as memory goes."""
        self.store = self.deployment.store(self.clock, worker_id=WORKER_ID)
        self.ibkr = Ibkr(
            self.clock,
            worker_id=WORKER_ID,
            gateways=self.gateways,
            oauth_url=OAUTH_URL,
            oauth_keys=self._oauth_keys,
            transport=lambda address: self.simulators[address].transport(),
        )
        broker = Broker(LIVE_WINDOWING, self.ibkr.open)
        # One simulated login serves its reports too; which of them, its token says.
        flex = ibkr_flex.IbkrFlex(self.clock, FLEX_URL, transport=lambda _: self._flex_transport())
        self.syncer = Syncer(
            self.store,
            {"ibkr_gateway": broker, "ibkr_oauth": broker, "ibkr_flex": Broker(ibkr_flex.WINDOWING, flex.open)},
            self.clock,
            stop=self.stop,
            job_seconds=3600,
        )

    def _flex_transport(self) -> httpx.BaseTransport:
        (simulator,) = self.simulators.values()
        return simulator.transport()

    def tell_convex_the_time(self) -> None:
        self.deployment.shift_clock(self.clock.now() - int(time.time() * 1000))

    def learn(self) -> None:
        """Ask Convex what is due, as the worker's watch does."""
        self.tell_convex_the_time()
        by_id = {line.connection_id: line for line in self.lines}
        self._due = {
            due.connection_id: _Due(by_id[due.connection_id], due)
            for due in self.store.watch()
            if due.connection_id in by_id
        }

    def sync(self, line: Line, mode: JobMode = "manual", *, early: bool = False) -> Report:
        """One job, and what Convex says of the connection afterwards."""
        self.tell_convex_the_time()
        report = self.syncer.run(line.connection_id, mode, early=early)
        self.reports.append((self.clock.now(), line, report))
        known = self._due.get(line.connection_id)
        if known is not None and isinstance(report.outcome, JobOutcome):
            blocked = report.outcome.status == "blocked_reauth"
            self._due[line.connection_id] = _Due(
                line,
                known.due.model_copy(
                    update={
                        "status": "needs_reauth" if blocked else "active",
                        # Convex's clock runs on by the real milliseconds a job takes.
                        "next_sync_at": self.clock.now() + report.next_sync_in + 1000,
                        "requested_at": None,
                    }
                ),
            )
        return report

    def drive(
        self,
        until: int,
        *,
        step: float = 60.0,
        events: Sequence[tuple[int, Callable[[], object]]] = (),
        after_job: Callable[[Line, Report], None] | None = None,
        down: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """Let the time until `until` pass; `events` happen at their instants, `down` says when no worker runs."""
        waiting = sorted(events, key=lambda event: event[0])
        while self.clock.now() < until:
            while waiting and waiting[0][0] <= self.clock.now():
                waiting.pop(0)[1]()
            if not down(self.clock.now()):
                self._turn(after_job)
            self.clock.advance(min(step, max(0.001, (until - self.clock.now()) / 1000)))
        for _, event in waiting:
            event()

    def _turn(self, after_job: Callable[[Line, Report], None] | None) -> None:
        free = self.ibkr.tend([known.due for known in self._due.values()])
        for known in list(self._due.values()):
            early = known.due.connection_id in free
            if early or is_due(known.due, self.clock.now()):
                report = self.sync(known.line, "scheduled", early=early)
                if after_job is not None:
                    after_job(known.line, report)
