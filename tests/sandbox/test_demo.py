"""`make demo` itself: what it shows is true, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from sandbox import session
from sandbox.processes import ROOT, start_ibkr


def descendants(pid: int) -> set[int]:
    """Every process below `pid`, as the kernel sees it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:  # noqa: PTH123
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry))
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.add(child)
            todo.append(child)
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if os.path.exists(f"/proc/{pid}")}  # noqa: PTH110


def test_demo_once_equals_the_ledger_and_prints_both_counts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.demo", "--once"],
        # As in the shell of somebody who has set up a real worker.
        env={**os.environ, "TRADE_SYNC_PRIVATE_KEY_FILE": "worker-key.pem", "CONVEX_URL": "https://x.convex.cloud"},
        cwd=ROOT, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the ledger of Kraken: 130 executions; Convex: 130 executions; equal" in done.stdout
    assert "130 fetched = 130 inserted + 0 updated + 0 known + 0 held + 0 rejected" in done.stdout
    assert re.search(
        r"the ledger of Interactive Brokers: (\d{3}) executions; Convex: \1 executions; equal", done.stdout
    )


def test_demo_once_fails_when_the_ledger_differs() -> None:
    """The comparison can fail: before the import, and after a trade that no sync has seen."""
    from sandbox import demo

    with demo.sandbox(fill_every=None) as world:
        assert not demo.compare(world), "nothing is imported yet"
        assert demo.run_once(world) == 0
        known = demo.ibkr_ledger(world)
        with session.client(world.ibkr.info["address"]) as gateway:
            gateway.post("/sandbox/fills", json={}).raise_for_status()
        assert len(demo.ibkr_ledger(world)) == len(known) + 1
        assert not demo.compare(world)
        assert not demo.equals("Kraken", {**demo.kraken_ledger(world), "T": next(iter(known.values()))}, [])


def test_the_session_command_ends_and_opens_the_session_of_a_simulated_login() -> None:
    def play(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sandbox.session", *args]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    with start_ibkr("--trades", "1") as gateway:
        address = gateway.info["address"]
        for deed, logged_in in (("expire", False), ("login", True), ("compete", True), ("release", True)):
            done = play(deed, "--at", address)
            assert done.returncode == 0, done.stderr
            with session.client(address) as client:
                assert client.get("/sandbox/state").json()["loggedIn"] is logged_in
    gone = play("expire", "--at", address)
    assert gone.returncode == 1
    assert "does not answer" in gone.stderr


@pytest.mark.timeout(180)
def test_demo_shows_both_ways_of_sync_now_and_stops_on_ctrl_c() -> None:
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "sandbox.demo"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    shown = ""
    below: set[int] = set()
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            shown += line
            if "Ctrl-C stops everything" in line:
                break
        below = descendants(demo.pid)
        assert len(below) >= 4, "server, two simulators and worker"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=20) == 0
    finally:
        if demo.poll() is None:
            demo.kill()
    assert "Sync now, posted to the worker's endpoint: succeeded" in shown
    assert "Sync now, without an inbound port, through the watch: succeeded" in shown
    deadline = time.monotonic() + 10
    while alive(below) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(below) == set()


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("sandbox.convex", {"address", "adminKey", "userToken", "workerPrivateKey", "syncSecret"}),
        ("sandbox.brokers.kraken", {"address", "apiKey", "apiSecret", "accountRef", "oracle", "audit"}),
        ("sandbox.brokers.ibkr", {"address", "accounts", "loginUrl", "fingerprint", "oracle", "audit"}),
    ],
)
def test_each_server_starts_alone_and_says_where_it_is(module: str, names: set[str]) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", module, "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        info = json.loads(server.stdout.readline())
        assert names <= info.keys()
        with session.client(info["address"]) as client:
            assert client.get("/version").status_code < 500
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=15) in (0, -signal.SIGTERM)
