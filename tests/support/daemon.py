"""A worker process as an operator runs it, for tests that press, stop and kill it.

With it what it imports from: simulated accounts behind real sockets, and their owners' connections to them.
"""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from sandbox.brokers.ibkr import inputs as ibkr_inputs
from sandbox.brokers.ibkr.control import RemoteControlled
from sandbox.brokers.ibkr.simulator import IbkrSimulator
from sandbox.brokers.kraken.simulator import KrakenSimulator, Setup
from sandbox.brokers.serving import BrokerServer
from sandbox.processes import ROOT, free_port
from tests.support.deployment import SECRET, Client, Deployment
from tests.support.imported import Imported
from worker.clock import SystemClock
from worker.connectors.ibkr_calendar import outage_at
from worker.models import Region


def eventually(condition: Callable[[], Any], *, within: float, what: str) -> Any:
    """The first true value of `condition`, looked at every 20 ms; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {within} s: {what}")


class Connected(Imported):
    """A connection as its owner uses it."""

    def press_sync_now(self) -> Any:
        return self.user.mutation("tradeImport/sync:syncNow", {"connectionId": self.connection_id})

    def ended_jobs(self) -> list[dict[str, Any]]:
        return [job for job in self.jobs() if job["status"] != "running"]

    def state(self) -> dict[str, Any]:
        (row,) = self.deployment.documents("connectionSyncState", connectionId=self.connection_id)
        return row


class Account(Connected):
    """A simulated Kraken account over real HTTP, and its owner's connection to it."""

    def __init__(
        self, deployment: Deployment, server: BrokerServer, kraken: KrakenSimulator, user: Client, **auth: str
    ) -> None:
        self.server = server
        self.kraken = kraken
        connection_id = user.mutation(
            "tradeImport/connections:create",
            {
                "kind": "kraken",
                "auth": {"kind": "kraken", "apiKey": kraken.key.key, "apiSecret": kraken.key.secret, **auth},
            },
        )
        super().__init__(deployment, user, connection_id)

    def stored(self) -> set[str]:
        return {row["externalExecutionId"] for row in self.executions()}

    def truth(self) -> set[str]:
        return {fill["txid"] for fill in self.kraken.oracle()}


class IbkrAccount(Connected):
    """An account of a simulated login, and its owner's connection to it."""

    def __init__(
        self,
        deployment: Deployment,
        user: Client,
        simulator: IbkrSimulator,
        auth: dict[str, str],
        *,
        account: str | None = None,
        **settings: Any,
    ) -> None:
        self.account = account or simulator.accounts[0]
        self._simulator = simulator
        connection_id = user.mutation(
            "tradeImport/connections:create",
            {
                "kind": auth["kind"],
                "auth": auth,
                "settings": {"intervalMinutes": 15, "ibkrRegion": quiet_region(), **settings},
                **({} if account is None else {"accountRef": account}),
            },
        )
        super().__init__(deployment, user, connection_id)

    def stored(self) -> list[str]:
        """Every stored execution, as often as it is stored."""
        return sorted(row["externalExecutionId"] for row in self.executions())

    def truth(self) -> list[str]:
        return sorted(fill["family"] for fill in self._simulator.oracle() if fill["account"] == self.account)


class IbkrGateway:
    """A simulated login behind a gateway: https with a certificate of its own, a login page, a remote control."""

    def __init__(self, **setup: Any) -> None:
        # Real midnights must not end a test's session.
        self.simulator = IbkrSimulator(SystemClock(), ibkr_inputs.Setup(nightly_reset=False, **setup))
        self.server = BrokerServer(RemoteControlled(self.simulator), tls=True)
        self.address = self.simulator.address = self.server.address
        trust = ssl.create_default_context(cadata=self.server.certificate)
        self._browser = httpx.Client(base_url=self.address, verify=trust, timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self.server.close()

    @property
    def auth(self) -> dict[str, str]:
        return {"kind": "ibkr_gateway", "baseUrl": self.address}

    @property
    def oauth(self) -> dict[str, str]:
        """Everything a user of OAuth enters."""
        consumer = self.simulator.oauth
        return {
            "kind": "ibkr_oauth",
            "consumerKey": consumer.consumer_key,
            "accessToken": consumer.access_token,
            "accessTokenSecret": consumer.access_token_secret,
            "signatureKey": consumer.signature_key,
            "encryptionKey": consumer.encryption_key,
            "dhParam": consumer.dh_param,
        }

    def calls(self) -> list[str]:
        """What programs asked of the API; not what people did in a browser."""
        return [
            call.path.removeprefix("/v1/api") for call in self.simulator.audit.calls if call.path.startswith("/v1/api/")
        ]

    def log_in_by_page(self) -> None:
        """What a person does: open the address, fill in the form, send it."""
        page = self._browser.get("/")
        form = re.search(r'<form method="post" action="([^"]+)">', page.text)
        assert form is not None, page.text
        answer = self._browser.post(form[1], data={"username": "somebody"})
        assert "Client login succeeds" in answer.text

    def control(self, what: str) -> dict[str, Any]:
        """`expire`, `drop`, …: what happens to the login."""
        answer = self._browser.post("/sandbox/session", json={"do": what})
        answer.raise_for_status()
        state: dict[str, Any] = answer.json()
        return state


def quiet_region() -> Region:
    """A region without a planned reset now or soon: in one, a lost session counts as maintenance."""
    now = int(time.time() * 1000)
    regions: tuple[Region, ...] = ("america", "europe", "asia")
    return min(regions, key=lambda region: any(outage_at(now + at * 60_000, region) for at in range(0, 11)))


def kraken_server(**setup: Any) -> tuple[KrakenSimulator, BrokerServer]:
    """A simulator on this machine's clock, served on a free port; the caller enters and leaves the server."""
    kraken = KrakenSimulator(SystemClock(), Setup(**setup))
    return kraken, BrokerServer(kraken)


class Daemon:
    """`trade-sync run` in a process of its own."""

    def __init__(
        self,
        deployment: Deployment,
        kraken_address: str | None,
        tmp: Path,
        *,
        convex_url: str | None = None,
        module: str = "worker",
        **settings: str,
    ) -> None:
        self.port = free_port()
        self._tmp = tmp
        self._module = module
        self._env = {
            **os.environ,
            "CONVEX_URL": convex_url or deployment.address,
            **({} if kraken_address is None else {"KRAKEN_BASE_URL": kraken_address}),
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
                [sys.executable, "-m", self._module, "run"], cwd=ROOT, env=self._env, stdout=log_file, stderr=log_file
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
