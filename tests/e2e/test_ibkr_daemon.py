"""The daemon and Interactive Brokers: a gateway's own certificate, its login page, one line for everybody who calls.

Real processes, real sockets, real time; the simulator is in this process, so that a test can look into its audit.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.inputs import NewFill, Quirks
from sandbox.processes import ROOT
from tests.support.daemon import Daemon, IbkrAccount, IbkrGateway, eventually, quiet_region
from tests.support.deployment import SECRET, Deployment
from tests.support.hasty_worker import MINUTE_SECONDS
from worker.clock import SystemClock
from worker.connectors.ibkr_calendar import outage_at

TRADES = "/v1/api/iserver/account/trades"
TICKLE = "/v1/api/tickle"

MakeGateway = Callable[..., IbkrGateway]


@pytest.fixture
def own_deployment() -> Iterator[Deployment]:
    """A daemon sees every connection of its deployment, so each test has one to itself."""
    with Deployment() as deployment:
        yield deployment


@pytest.fixture
def make_gateway() -> Iterator[MakeGateway]:
    with ExitStack() as stack:
        yield lambda **setup: stack.enter_context(IbkrGateway(**setup))


@pytest.fixture
def no_reset() -> None:
    """Friday night in New York resets every region, and a session lost then asks nothing of anybody (fault C4)."""
    if outage_at(SystemClock().now() + 60_000, quiet_region()) is not None:
        pytest.skip("Interactive Brokers resets all its regions at this hour of the week")


def gaps(gateway: IbkrGateway, path: str) -> list[float]:
    """Seconds between the calls of one endpoint, by the gateway's own clock."""
    times = [call.elapsed for call in gateway.simulator.audit.calls if call.path == path]
    return [later - earlier for earlier, later in pairwise(times)]


def assert_polite(gateway: IbkrGateway) -> None:
    audit = gateway.simulator.audit
    assert (audit.rate_breaches, audit.penalty_calls, audit.takeovers, audit.forbidden) == (0, 0, 0, 0)


class Pressing:
    """«Sync now», pressed by several impatient people from when the block is entered until it is left."""

    def __init__(self, *accounts: IbkrAccount, people: int = 4) -> None:
        self._accounts = accounts
        self._leave = threading.Event()
        self._people = [threading.Thread(target=self._press) for _ in range(people)]
        self.answers: list[str] = []

    def _press(self) -> None:
        while not self._leave.wait(0.05):
            for account in self._accounts:
                self.answers.append(account.press_sync_now()["result"])

    def __enter__(self) -> Pressing:
        for person in self._people:
            person.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        for person in self._people:
            person.join()


def test_A15_schedule_sync_now_and_keepalive_share_one_line(
    own_deployment: Deployment, make_gateway: MakeGateway, tmp_path: Path
) -> None:
    gateway = make_gateway(seed="one line", trades=40, accounts=("U1110001", "U1110002"))
    silent = make_gateway(seed="silent", accounts=("U2220001", "U2220002"))
    silent.simulator.faults.plant(Fault(path="auth/status", hang=True, times=None))
    user = own_deployment.user()

    def connect(login: IbkrGateway) -> list[IbkrAccount]:
        return [
            IbkrAccount(own_deployment, user, login.simulator, login.auth, account=account, intervalMinutes=1)
            for account in login.simulator.accounts
        ]

    one, other = (
        Daemon(
            own_deployment, None, tmp_path, module="tests.support.hasty_worker",
            IBKR_GATEWAYS=f"{gateway.address} {silent.address}", TRADE_SYNC_POOL_SIZE="2", TRADE_SYNC_WORKER_ID=name,
        )
        for name in ("one", "other")
    )  # fmt: skip
    accounts = connect(gateway)
    with one:
        eventually(lambda: all(account.jobs() for account in accounts), within=20, what="the schedule began both")
        with Pressing(*accounts) as pressing:
            eventually(
                lambda: all(account.ended_jobs() for account in accounts), within=30, what="the first jobs ended"
            )
        # Both hands of the first process are full from now on; only its keepalive has nothing to wait for.
        busy = connect(silent)
        eventually(lambda: all(account.jobs() for account in busy), within=10, what="the first process is busy")
        with other:
            for account in accounts:
                gateway.simulator.book(NewFill(account=account.account, ago_seconds=1))
            with Pressing(*accounts):
                eventually(
                    lambda: all(len(account.ended_jobs()) >= 2 for account in accounts),
                    within=40, what="the second process served Sync now for both",
                )  # fmt: skip
            # Long enough for a keepalive that should be the other's to show itself.
            time.sleep(2 * MINUTE_SECONDS)
        one.kill()
    assert pressing.answers.count("joined") > 10
    assert_polite(gateway)
    assert gateway.simulator.audit.max_in_flight == 1
    assert min(gaps(gateway, TRADES)) >= 5.0
    assert min(gaps(gateway, TICKLE)) >= 1.0
    for account in accounts:
        jobs = account.jobs()
        assert [(job["mode"], job["workerId"]) for job in jobs[:2]] == [("scheduled", "one"), ("manual", "other")]
        assert {job["status"] for job in jobs} == {"succeeded"}
        assert account.stored() == account.truth()


@pytest.mark.usefixtures("no_reset")
def test_C1_an_expired_session_asks_for_a_login_and_heals_after_it(
    own_deployment: Deployment, make_gateway: MakeGateway, tmp_path: Path
) -> None:
    gateway = make_gateway(seed="expires", trades=10)
    gateway.simulator.quirks = Quirks(priming=False)
    here = IbkrAccount(own_deployment, own_deployment.user(), gateway.simulator, gateway.auth)
    settings = {"IBKR_GATEWAYS": gateway.address}
    with Daemon(own_deployment, None, tmp_path, module="tests.support.hasty_worker", **settings):
        eventually(here.ended_jobs, within=20, what="the first job ended")
        assert here.stored() == here.truth()
        gateway.control("expire")
        gateway.simulator.audit.clear()
        here.press_sync_now()
        blocked = eventually(
            lambda: len(here.ended_jobs()) == 2 and here.connection(), within=10, what="it was noticed"
        )
        assert blocked["status"] == "needs_reauth"
        assert blocked["problem"] == {
            "code": "ibkr_login_needed",
            "sentence": f"Log in to the Interactive Brokers gateway at {gateway.address}. The import then goes on by "
            "itself.",
            "action": "log_in",
            "url": gateway.address,
        }
        assert blocked["health"]["state"] == "needs_reauth"
        assert here.jobs()[-1]["status"] == "blocked_reauth"
        # Two calls told that nobody is logged in; since then one cheap call a «minute», and nothing that logs in.
        eventually(lambda: len(gateway.calls()) >= 5, within=10, what="the worker looks for a login")
        found_out, looks = gateway.calls()[:2], gateway.calls()[2:]
        assert set(found_out) <= {"/iserver/auth/status", "/tickle"}
        assert set(looks) == {"/iserver/auth/status"}
        assert min(gaps(gateway, "/v1/api/iserver/auth/status")) >= 1.0
        assert here.connection()["status"] == "needs_reauth"
        gateway.simulator.book(NewFill(ago_seconds=1))
        gateway.log_in_by_page()
        healed = eventually(
            lambda: here.connection()["status"] == "active" and here.connection(), within=15, what="it healed"
        )
    assert healed["problem"] is None
    assert healed["health"]["state"] == "ok"
    assert here.stored() == here.truth()
    assert [job["mode"] for job in here.jobs()] == ["scheduled", "manual", "scheduled"]
    assert_polite(gateway)


def test_A14_a_gateway_that_shows_another_certificate_gets_no_request(
    own_deployment: Deployment, make_gateway: MakeGateway, tmp_path: Path
) -> None:
    gateway = make_gateway(seed="pinned", trades=5)
    gateway.simulator.quirks = Quirks(priming=False)
    assert gateway.server.fingerprint is not None
    here = IbkrAccount(own_deployment, own_deployment.user(), gateway.simulator, gateway.auth)
    another = "AB:" * 31 + "CD"
    with Daemon(own_deployment, None, tmp_path, IBKR_GATEWAYS=f"{gateway.address}#sha256={another}"):
        eventually(here.ended_jobs, within=20, what="the first job ended")
    refused = here.connection()
    assert refused["status"] == "error"
    assert refused["problem"]["code"] == "untrusted_certificate"
    assert "shows another certificate than the pinned one, so nothing was sent" in refused["problem"]["sentence"]
    # So that the operator can compare, and correct the setting.
    assert gateway.server.fingerprint in refused["problem"]["sentence"]
    assert gateway.simulator.audit.calls == []
    here.press_sync_now()
    with Daemon(own_deployment, None, tmp_path, IBKR_GATEWAYS=f"{gateway.address}#sha256={gateway.server.fingerprint}"):
        eventually(lambda: here.connection()["status"] == "active", within=20, what="the right pin lets it in")
    assert here.stored() == here.truth()


def test_A14_a_gateway_by_another_name_than_this_machines_needs_its_pin(
    own_deployment: Deployment, make_gateway: MakeGateway, tmp_path: Path
) -> None:
    gateway = make_gateway(seed="named", trades=5)
    gateway.simulator.quirks = Quirks(priming=False)
    port = gateway.address.rpartition(":")[2]
    address = f"https://{name_of_loopback()}:{port}"
    here = IbkrAccount(
        own_deployment, own_deployment.user(), gateway.simulator, {"kind": "ibkr_gateway", "baseUrl": address}
    )
    unpinned = trade_sync("sync", own_deployment, IBKR_GATEWAYS=address)
    assert unpinned.returncode == 2
    assert "a gateway on another machine needs #sha256=" in unpinned.stderr
    unlisted = trade_sync("sync", own_deployment, IBKR_GATEWAYS=gateway.address)
    assert unlisted.returncode == 2
    assert f"This worker may not use a gateway at {address}." in unlisted.stdout
    assert gateway.simulator.audit.calls == []
    # The certificate is not made out to this name: the fingerprint is what counts.
    done = trade_sync("sync", own_deployment, IBKR_GATEWAYS=f"{address}#sha256={gateway.server.fingerprint}")
    assert done.returncode == 0, done.stderr
    assert here.stored() == here.truth()


@pytest.mark.usefixtures("no_reset")
def test_C1_sync_from_cron_says_who_must_act_and_heals_after_the_login(
    own_deployment: Deployment, make_gateway: MakeGateway
) -> None:
    gateway = make_gateway(seed="cron", trades=10)
    gateway.simulator.quirks = Quirks(priming=False)
    here = IbkrAccount(own_deployment, own_deployment.user(), gateway.simulator, gateway.auth)
    fine = trade_sync("sync", own_deployment, IBKR_GATEWAYS=gateway.address)
    assert fine.returncode == 0, fine.stderr
    assert "succeeded: 10 fetched" in fine.stdout
    here.press_sync_now()
    gateway.control("expire")
    for _ in range(2):
        blocked = trade_sync("sync", own_deployment, IBKR_GATEWAYS=gateway.address)
        assert blocked.returncode == 2, blocked.stderr
        assert f"Log in to the Interactive Brokers gateway at {gateway.address}." in blocked.stdout
        assert here.connection()["status"] == "needs_reauth"
    gateway.simulator.book(NewFill(ago_seconds=1))
    gateway.log_in_by_page()
    healed = trade_sync("sync", own_deployment, IBKR_GATEWAYS=gateway.address)
    assert healed.returncode == 0, healed.stderr
    assert here.connection()["status"] == "active"
    assert here.stored() == here.truth()
    assert_polite(gateway)
    assert min(gaps(gateway, TRADES)) >= 5.0


def trade_sync(command: str, deployment: Deployment, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command as cron runs it."""
    return subprocess.run(
        [sys.executable, "-m", "worker", command],
        cwd=ROOT,
        env={
            **os.environ,
            "CONVEX_URL": deployment.address,
            "TRADE_SYNC_PRIVATE_KEY": deployment.private_key,
            "TRADE_SYNC_SECRET": SECRET,
            **settings,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def name_of_loopback() -> str:
    """A name of this machine that does not say so, as one of a gateway elsewhere would be."""
    for name in (socket.gethostname().lower(), "ip4-loopback", "localhost4"):
        try:
            found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
        except OSError:
            continue
        if found == {"127.0.0.1"}:
            return name
    pytest.skip("this machine knows 127.0.0.1 as localhost only")
