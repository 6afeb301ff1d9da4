"""The subscription against the local Convex server: what it hears, and what it survives.

A relay stands between the two, so that the network can fail in each way that a real one does.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import pytest

from tests.support.deployment import Client, Deployment
from worker import watch as watch_module
from worker.clock import SystemClock
from worker.identity import Identity, jwks_data_uri, make_key_pair, public_jwk
from worker.models import DueConnection
from worker.watch import Watch

Mode = Literal["forward", "mute", "503", "closed"]


class Relay:
    """A TCP relay whose network can be changed at any moment; a change cuts what is open."""

    def __init__(self, target: str, mode: Mode = "forward") -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = host, int(port)
        self._mode: Mode = mode
        self._open: list[socket.socket] = []
        self._called = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def become(self, mode: Mode) -> None:
        self._mode = mode
        for wire in self._open:
            cut(wire)
        self._open.clear()

    def wait_for_a_caller(self) -> None:
        assert self._called.wait(15)

    def close(self) -> None:
        self.become("closed")
        cut(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._called.set()
            match self._mode:
                case "mute":
                    self._open.append(near)
                case "503":
                    near.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                    near.close()
                case "closed":
                    near.close()
                case "forward":
                    far = socket.create_connection(self._target)
                    self._open += [near, far]
                    threading.Thread(target=pump, args=(near, far), daemon=True).start()


def cut(wire: socket.socket) -> None:
    with suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)
    wire.close()


def pump(near: socket.socket, far: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in selector.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    chunk = source.recv(65536)
                    if not chunk:
                        return
                    key.data.sendall(chunk)
        except (OSError, ValueError):
            return
        finally:
            cut(near)
            cut(far)


class Heard:
    """What `on_change` was given, and a way to wait for more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.lists: list[list[DueConnection]] = []

    def __call__(self, connections: list[DueConnection]) -> None:
        with self._changed:
            self.lists.append(connections)
            self._changed.notify_all()

    def wait(self, holds: Callable[[list[list[DueConnection]]], bool], seconds: float) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.lists), seconds), self.lists


class Started:
    """Every child process that a watch started."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.calls: list[tuple[Any, dict[str, Any]]] = []

    def __call__(self, arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        self.calls.append((arguments, options))
        self.processes.append(subprocess.Popen(arguments, **options))
        return self.processes[-1]


class _Subprocess:
    """The module as watch.py sees it, with a recording Popen."""

    PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

    def __init__(self, popen: Started) -> None:
        self.Popen = popen


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    popen = Started()
    monkeypatch.setattr(watch_module, "subprocess", _Subprocess(popen))
    yield popen
    assert popen.processes
    assert all(process.returncode is not None for process in popen.processes), "a child outlived its watch"


@contextmanager
def watching(
    address: str,
    private_key: str,
    on_change: Callable[[list[DueConnection]], None],
    *,
    lifetime: int = 900,
) -> Iterator[Watch]:
    stop = threading.Event()
    clock = SystemClock(stop=stop)
    watch = Watch(address, Identity(private_key, clock, lifetime), clock, on_change, stop)
    watch.start()
    try:
        yield watch
    finally:
        before = time.monotonic()
        stop.set()
        watch.join()
        assert time.monotonic() - before < 2, "the watch delays the worker's end"


@pytest.fixture
def relay(deployment: Deployment) -> Iterator[Relay]:
    running = Relay(deployment.address)
    yield running
    running.close()


def connect(user: Client, label: str) -> str:
    connection_id: str = user.mutation(
        "tradeImport/connections:create",
        {
            "kind": "kraken",
            "label": label,
            "auth": {"kind": "kraken", "apiKey": "an-api-key-for-tests", "apiSecret": "c2VjcmV0LW9mLXRoZS10ZXN0LTA="},
        },
    )
    return connection_id


def find(lists: list[list[DueConnection]], connection_id: str) -> DueConnection | None:
    return next((c for c in lists[-1] if c.connection_id == connection_id), None) if lists else None


def test_hears_of_a_new_connection_and_of_sync_now(deployment: Deployment, started: Started) -> None:
    heard = Heard()
    before = SystemClock().now()
    with watching(deployment.address, deployment.private_key, heard) as watch:
        heard.wait(lambda lists: len(lists) >= 1, 15)
        assert watch.alive()
        user = deployment.user()
        connection_id = connect(user, "heard")
        heard.wait(lambda lists: find(lists, connection_id) is not None, 5)
        first = find(heard.lists, connection_id)
        assert first is not None
        assert (first.kind, first.status, first.label) == ("kraken", "active", "heard")
        user.mutation("tradeImport/sync:syncNow", {"connectionId": connection_id})
        heard.wait(lambda lists: getattr(find(lists, connection_id), "requested_at", None) is not None, 5)
        assert watch.last_change_at is not None
        assert watch.last_change_at >= before


def test_F1_the_child_gets_no_secret_by_argument_or_environment(
    deployment: Deployment, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADE_SYNC_PRIVATE_KEY", "canary-of-the-environment")
    heard = Heard()
    with watching(deployment.address, deployment.private_key, heard):
        heard.wait(lambda lists: len(lists) >= 1, 15)
    ((arguments, options),) = started.calls
    assert "eyJ" not in " ".join(arguments)
    assert "canary-of-the-environment" not in options["env"].values()


def test_log_lines_of_the_server_stay_out_of_the_answers_and_of_stdout(
    started: Started, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    taken: list[bytes] = []
    take = Watch._take
    monkeypatch.setattr(Watch, "_take", lambda self, line: (taken.append(line), take(self, line)))
    heard = Heard()
    with (
        Deployment("--dev", "--functions", "tests/fixtures/noisy-convex") as noisy,
        watching(noisy.address, noisy.private_key, heard, lifetime=2),
    ):
        heard.wait(lambda lists: len(lists) >= 3, 15)
    assert set(taken) == {b'{"value": []}'}
    assert "noise" not in capfd.readouterr().out


@pytest.mark.parametrize("mode", ["closed", "mute", "503"])
def test_D1_an_absent_server_freezes_nothing_and_is_found_when_it_returns(
    relay: Relay, deployment: Deployment, started: Started, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    monkeypatch.setattr(watch_module, "FIRST_ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(watch_module, "BACKOFF_SECONDS", 0.2)
    relay.become(mode)
    heard = Heard()
    with watching(relay.address, deployment.private_key, heard) as watch:
        slowest, last = 0.0, time.monotonic()
        while time.monotonic() < last + 0.5 and len(started.processes) < 3:
            last = time.monotonic()
            time.sleep(0.01)
            slowest = max(slowest, time.monotonic() - last)
        assert len(started.processes) >= 3, "a child that hears nothing is replaced"
        assert slowest < 0.5, "the interpreter stood still"
        assert not watch.alive()
        assert heard.lists == []
        relay.become("forward")
        heard.wait(lambda lists: len(lists) >= 1, 15)
        assert watch.alive()


def test_a_dead_port_at_start_does_not_delay_the_end(started: Started) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with watching(f"http://127.0.0.1:{port}", make_key_pair().private_pem, Heard()) as watch:
        deadline = time.monotonic() + 10
        while not started.processes and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not watch.alive()


def test_a_cut_connection_is_made_again(relay: Relay, deployment: Deployment, started: Started) -> None:
    heard = Heard()
    with watching(relay.address, deployment.private_key, heard):
        heard.wait(lambda lists: len(lists) >= 1, 15)
        relay.become("closed")
        relay.become("forward")
        connection_id = connect(deployment.user(), "after the cut")
        heard.wait(lambda lists: find(lists, connection_id) is not None, 30)


def test_a_killed_child_is_replaced(deployment: Deployment, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "BACKOFF_SECONDS", 0.2)
    heard = Heard()
    with watching(deployment.address, deployment.private_key, heard):
        heard.wait(lambda lists: len(lists) >= 1, 15)
        started.processes[0].kill()
        heard.wait(lambda lists: len(lists) >= 2, 15)
        connection_id = connect(deployment.user(), "after the kill")
        heard.wait(lambda lists: find(lists, connection_id) is not None, 5)


def test_D6_a_refused_token_is_noticed_and_heals_when_convex_learns_the_key(
    deployment: Deployment, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "FIRST_ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(watch_module, "BACKOFF_SECONDS", 0.2)
    stranger = make_key_pair()
    known = public_jwk(deployment.private_key)
    heard = Heard()
    with watching(deployment.address, stranger.private_pem, heard) as watch:
        deadline = time.monotonic() + 20
        while len(started.processes) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(started.processes) >= 3, "a child whose token is refused hears nothing and is replaced"
        assert heard.lists == []
        assert not watch.alive()
        deployment.set_env("TRADE_SYNC_JWKS", jwks_data_uri(known, public_jwk(stranger.private_pem)))
        try:
            heard.wait(lambda lists: len(lists) >= 1, 15)
            assert watch.alive()
        finally:
            deployment.set_env("TRADE_SYNC_JWKS", jwks_data_uri(known))


def test_D6_the_token_is_replaced_before_it_ends(deployment: Deployment, started: Started) -> None:
    heard = Heard()
    # Two seconds are the whole life of a token: what is heard after that was heard with a later one.
    with watching(deployment.address, deployment.private_key, heard, lifetime=2):
        heard.wait(lambda lists: len(lists) >= 1, 15)
        begun = time.monotonic()
        heard.wait(lambda lists: len(lists) >= 4, 15)
        assert time.monotonic() - begun > 2
        connection_id = connect(deployment.user(), "after the renewal")
        heard.wait(lambda lists: find(lists, connection_id) is not None, 5)
        assert len(started.processes) >= 4


def test_a_listener_that_fails_is_called_again(
    deployment: Deployment, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "BACKOFF_SECONDS", 0.2)
    heard = Heard()

    def fail_once(connections: list[DueConnection]) -> None:
        heard(connections)
        if len(heard.lists) == 1:
            raise RuntimeError("a mistake in the scheduler")

    with watching(deployment.address, deployment.private_key, fail_once):
        heard.wait(lambda lists: len(lists) >= 2, 15)


HOLD = """
import subprocess, sys, threading
from worker import log, watch
from worker.clock import SystemClock
from worker.identity import Identity

popen = subprocess.Popen

def tell(*arguments, **options):
    child = popen(*arguments, **options)
    print(child.pid, flush=True)
    return child

log.configure()
subprocess.Popen = tell
watch.FIRST_ANSWER_SECONDS = 3.0
clock = SystemClock()
identity = Identity(sys.stdin.read(), clock)
watch.Watch(sys.argv[1], identity, clock, lambda _: print("heard", flush=True), threading.Event()).start()
threading.Event().wait()
"""


@pytest.mark.parametrize("mode", ["forward", "mute"])
def test_E2_a_killed_worker_leaves_no_child(relay: Relay, deployment: Deployment, mode: Mode) -> None:
    relay.become(mode)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, relay.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(deployment.private_key)
            worker.stdin.close()
            child = int(worker.stdout.readline())
            if mode == "forward":
                assert worker.stdout.readline() == "heard\n"
            else:
                relay.wait_for_a_caller()
        finally:
            worker.kill()
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and is_running(child):
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Whether a process that is not our child runs; one that nobody has reaped yet does not count."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip() != "" and not state.startswith("Z")
