"""The daemon as a process: triggers, signals, neighbours. Real time, real sockets, real signals."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.kraken.simulator import NewFill
from sandbox.processes import free_port, start_convex
from tests.support.daemon import Account, Daemon, eventually, kraken_server
from tests.support.deployment import Deployment

MakeAccount = Callable[..., Account]


@pytest.fixture
def own_deployment() -> Iterator[Deployment]:
    """A daemon sees every connection of its deployment, so each test has one to itself."""
    with Deployment() as deployment:
        yield deployment


@pytest.fixture
def account(own_deployment: Deployment) -> Iterator[MakeAccount]:
    with ExitStack() as stack:

        def make(**setup: Any) -> Account:
            kraken, server = kraken_server(**setup)
            stack.enter_context(server)
            return Account(own_deployment, server, kraken, own_deployment.user())

        yield make


def first_job_over(account: Account) -> None:
    eventually(account.ended_jobs, within=20, what="the first job ended")


def test_a_new_connection_is_synced_by_itself(own_deployment: Deployment, account: MakeAccount, tmp_path: Path) -> None:
    here = account(trades=30, seed="new")
    with Daemon(own_deployment, here.server.address, tmp_path) as daemon:
        first_job_over(here)
        assert here.stored() == here.truth()
        daemon.wait_ready()
        assert daemon.get("/healthz") == 200
        exposition = httpx.get(f"{daemon.address}/metrics").text
        assert 'trade_sync_jobs_total{kind="kraken",reason="none",status="succeeded"} 1.0' in exposition
        assert 'trade_sync_rows_total{fate="inserted",kind="kraken"} 30.0' in exposition
        assert here.kraken.account_ref not in exposition
        assert here.connection_id not in exposition
        (beat,) = own_deployment.documents("workerHeartbeats")
        assert beat["version"]


@pytest.mark.parametrize("way", ["endpoint", "watch"])
def test_sync_now_is_served_within_two_seconds(
    own_deployment: Deployment, account: MakeAccount, tmp_path: Path, way: str
) -> None:
    here = account(trades=10, seed="now")
    # Each way alone: a daemon that hears nothing would find the request at its poll, five minutes later.
    settings = {"TRADE_SYNC_POLL_SECONDS": "300", "TRADE_SYNC_WATCH": "true" if way == "watch" else "false"}
    with Daemon(own_deployment, here.server.address, tmp_path, **settings) as daemon:
        if way == "endpoint":
            own_deployment.set_env("TRADE_SYNC_URL", daemon.address)
        first_job_over(here)
        daemon.wait_ready()
        here.kraken.book(NewFill(ago_seconds=2))
        pressed = time.monotonic()
        assert here.press_sync_now()["result"] == "queued"
        eventually(lambda: len(here.ended_jobs()) == 2, within=5, what="the request was served")
        assert time.monotonic() - pressed <= 2.0
        assert here.jobs()[-1]["mode"] == "manual"
        assert here.stored() == here.truth()
        assert "requestedAt" not in here.state()


def test_E8_pressed_twenty_times_it_is_one_job(
    own_deployment: Deployment, account: MakeAccount, tmp_path: Path
) -> None:
    here = account(trades=10, seed="twenty")
    with Daemon(own_deployment, here.server.address, tmp_path) as daemon:
        own_deployment.set_env("TRADE_SYNC_URL", daemon.address)
        first_job_over(here)
        daemon.wait_ready()
        for _ in range(20):
            here.press_sync_now()
        eventually(lambda: len(here.ended_jobs()) == 2, within=5, what="the request was served")
        time.sleep(1.5)  # long enough for a second job to show itself
        assert len(here.jobs()) == 2


def test_E8_pressed_during_a_job_it_joins(own_deployment: Deployment, account: MakeAccount, tmp_path: Path) -> None:
    here = account(trades=10, seed="join")
    here.kraken.faults.plant(Fault(path="TradesHistory", delay=1.5))
    with Daemon(own_deployment, here.server.address, tmp_path):
        eventually(here.jobs, within=20, what="the first job began")
        for _ in range(50):
            assert here.press_sync_now()["result"] == "joined"
        first_job_over(here)
        time.sleep(1.5)  # long enough for a second job to show itself
        assert len(here.jobs()) == 1
        assert "requestedAt" not in here.state()


def test_a_request_survives_the_worker_being_down(
    own_deployment: Deployment, account: MakeAccount, tmp_path: Path
) -> None:
    here = account(trades=10, seed="down")
    daemon = Daemon(own_deployment, here.server.address, tmp_path)
    with daemon:
        own_deployment.set_env("TRADE_SYNC_URL", daemon.address)
        first_job_over(here)
    here.kraken.book(NewFill(ago_seconds=2))
    assert here.press_sync_now()["result"] == "queued"
    with daemon:
        eventually(lambda: len(here.ended_jobs()) == 2, within=20, what="the request was served after the start")
    assert here.stored() == here.truth()


def test_a_request_without_a_good_signature_changes_nothing(
    own_deployment: Deployment, account: MakeAccount, tmp_path: Path
) -> None:
    here = account(trades=10, seed="forged")
    with Daemon(own_deployment, here.server.address, tmp_path) as daemon:
        first_job_over(here)
        daemon.wait_ready()
        calls = len(here.kraken.audit.calls)
        answers = {
            (answer.status_code, answer.text)
            for headers in (
                {},
                {"X-Trade-Sync-Timestamp": str(int(time.time())), "X-Trade-Sync-Signature": "v1=" + "0" * 64},
                {"X-Trade-Sync-Timestamp": "1", "X-Trade-Sync-Signature": "v1=" + "0" * 64},
            )
            for answer in [
                httpx.post(f"{daemon.address}/v1/sync", json={"connectionId": here.connection_id}, headers=headers)
            ]
        }
        assert answers == {(401, '{"error":"refused"}')}
        time.sleep(0.5)
        assert len(here.jobs()) == 1
        assert len(here.kraken.audit.calls) == calls


def test_E1_sigterm_while_idle(own_deployment: Deployment, account: MakeAccount, tmp_path: Path) -> None:
    here = account(trades=10, seed="idle")
    with Daemon(own_deployment, here.server.address, tmp_path) as daemon:
        first_job_over(here)
        status, seconds = daemon.terminate()
    assert status == 0
    assert seconds <= 10


@pytest.mark.parametrize(
    ("moment", "fault"),
    [
        ("fetching", Fault(path="TradesHistory", call=2, delay=2)),
        ("waiting for an answer that never comes", Fault(path="TradesHistory", call=2, hang=True)),
        ("backing off", Fault(path="TradesHistory", call=2, status=502, times=None)),
        ("waiting for the rate limit", Fault(path="TradesHistory", call=2, error="EAPI:Rate limit exceeded")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_E1_sigterm_while_reading(
    own_deployment: Deployment, account: MakeAccount, tmp_path: Path, moment: str, fault: Fault
) -> None:
    here = account(trades=120, seed="term")
    here.kraken.faults.plant(fault)
    with Daemon(own_deployment, here.server.address, tmp_path) as daemon:
        eventually(
            lambda: any(call.outcome.startswith("fault") for call in here.kraken.audit.calls),
            within=20,
            what=f"the worker is {moment}",
        )
        status, seconds = daemon.terminate()
    assert status == 0
    assert seconds <= 10, moment
    (job,) = here.jobs()
    assert (job["status"], job["reason"]) == ("failed", "cancelled")
    state = here.state()
    assert "lease" not in state
    # The next worker takes over at once and brings everything home, when the key's counter lets it.
    here.kraken.faults.clear()
    with Daemon(own_deployment, here.server.address, tmp_path):
        eventually(lambda: here.stored() == here.truth(), within=90, what="the next worker finished the import")


def test_E1_sigterm_while_writing(own_deployment: Deployment, account: MakeAccount, tmp_path: Path) -> None:
    here = account(trades=30, seed="write")
    own_deployment.fault("tradeImport/worker:ingest", "delay", ms=1500)
    with Daemon(own_deployment, here.server.address, tmp_path) as daemon:
        eventually(lambda: own_deployment.pending_faults() == [], within=20, what="the worker is writing")
        status, seconds = daemon.terminate()
    assert status == 0
    assert seconds <= 10
    assert here.stored(), "the page under way was stored"
    assert [job["status"] for job in here.jobs() if job["status"] == "running"] == []
    assert "lease" not in here.state()


def test_D1_started_while_convex_is_away(own_deployment: Deployment, account: MakeAccount, tmp_path: Path) -> None:
    here = account(trades=5, seed="away")
    port = free_port()
    with Daemon(own_deployment, here.server.address, tmp_path, convex_url=f"http://127.0.0.1:{port}") as daemon:
        eventually(lambda: daemon.get("/healthz") == 200, within=20, what="the process is alive")
        assert daemon.get("/readyz") == 503
        assert here.kraken.audit.calls == []
        with start_convex(own_deployment.env, "--port", str(port)):
            daemon.wait_ready(within=10)
        assert here.kraken.audit.calls == []


def test_A3_a_slow_connection_delays_no_other(own_deployment: Deployment, account: MakeAccount, tmp_path: Path) -> None:
    here = account(trades=10, seed="shared host")
    slow_account = Account(own_deployment, here.server, here.kraken, own_deployment.user())
    here.kraken.faults.plant(Fault(path="SystemStatus", delay=15))
    with Daemon(own_deployment, here.server.address, tmp_path):
        begun = time.monotonic()
        eventually(
            lambda: here.ended_jobs() or slow_account.ended_jobs(), within=20, what="the quick connection is done"
        )
        assert time.monotonic() - begun < 12
        assert not (here.ended_jobs() and slow_account.ended_jobs())


def test_E3_two_workers_never_sync_one_connection_at_once(
    own_deployment: Deployment, account: MakeAccount, tmp_path: Path
) -> None:
    here = account(trades=60, seed="two")
    with (
        Daemon(own_deployment, here.server.address, tmp_path) as one,
        Daemon(own_deployment, here.server.address, tmp_path) as other,
    ):
        first_job_over(here)
        one.wait_ready()
        other.wait_ready()
        time.sleep(1)
        assert len(here.jobs()) == 1
        here.press_sync_now()
        eventually(lambda: len(here.ended_jobs()) == 2, within=10, what="the request was served")
        time.sleep(1)
        assert len(here.jobs()) == 2
    assert here.stored() == here.truth()


def test_E2_a_killed_daemon_leaves_nothing_that_time_does_not_heal(
    own_deployment: Deployment, account: MakeAccount, tmp_path: Path
) -> None:
    # The killed daemon's lease is granted five minutes ago, so to speak.
    own_deployment.shift_clock(-301_000)
    here = account(trades=120, seed="killed")
    here.kraken.faults.plant(Fault(path="TradesHistory", call=3, delay=5))
    daemon = Daemon(own_deployment, here.server.address, tmp_path).start()
    eventually(here.stored, within=20, what="a page is stored")
    daemon.kill()
    own_deployment.shift_clock(0)
    with Daemon(own_deployment, here.server.address, tmp_path):
        eventually(lambda: here.stored() == here.truth(), within=30, what="the next worker finished the import")
    first, *_ = here.jobs()
    assert (first["status"], first["reason"]) == ("failed", "lease_lost")


def test_sigint_is_as_good_as_sigterm(own_deployment: Deployment, account: MakeAccount, tmp_path: Path) -> None:
    here = account(trades=1, seed="int")
    with Daemon(own_deployment, here.server.address, tmp_path) as daemon:
        first_job_over(here)
        assert daemon._process is not None
        daemon._process.send_signal(signal.SIGINT)
        assert daemon._process.wait(timeout=10) == 0


def test_E1_sigterm_while_convex_never_answers(
    own_deployment: Deployment, account: MakeAccount, tmp_path: Path
) -> None:
    here = account(trades=5, seed="hangs")
    own_deployment.fault("*", "hang", times=1000)
    with Daemon(own_deployment, here.server.address, tmp_path) as daemon:
        eventually(lambda: daemon.get("/healthz") == 200, within=20, what="the process is alive")
        time.sleep(1)
        status, seconds = daemon.terminate()
    assert status == 0
    assert seconds <= 10


def test_E1_sigterm_while_a_write_never_ends(own_deployment: Deployment, account: MakeAccount, tmp_path: Path) -> None:
    here = account(trades=5, seed="write hangs")
    own_deployment.fault("tradeImport/worker:ingest", "hang", times=1000)
    own_deployment.fault("tradeImport/worker:finish", "hang", times=1000)
    with Daemon(own_deployment, here.server.address, tmp_path) as daemon:
        eventually(here.jobs, within=20, what="the job began")
        time.sleep(6)
        status, seconds = daemon.terminate()
    assert status == 0
    assert seconds <= 10
