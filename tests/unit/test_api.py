"""The worker's endpoint over real sockets: who is believed, and that refusals tell nothing."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from worker import metrics
from worker.api import ApiServer
from worker.errors import SettingsInvalid

SECRET = "a-shared-secret-of-forty-characters-long"
NOW = 1_760_000_000
BODY = b'{"connectionId":"jd7abcdefghijklmnopqrstuvwxyz012"}'


class Hands:
    """A clock that stands still until it is moved."""

    ms = NOW * 1000

    def now(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000

    def sleep(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


@dataclass(frozen=True)
class Standing:
    ready: bool
    reason: str


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class World:
    secret: str | None = SECRET
    clock: Hands = field(default_factory=Hands)
    woken: list[str | None] = field(default_factory=list)
    standing: Standing = field(default_factory=lambda: Standing(True, "ok"))
    port: int = 0

    def server(self) -> ApiServer:
        return ApiServer(
            "127.0.0.1",
            0,
            secret=SecretStr(self.secret) if self.secret else None,
            wake=self.woken.append,
            ready=lambda: self.standing,
            clock=self.clock,
        )

    def ask(
        self,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        method: str = "POST",
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def press(self, body: bytes = BODY, *, at: int | str = NOW, **headers: str) -> Answer:
        return self.ask("/v1/sync", body, {**signed(body, at), **headers})


def signed(body: bytes, at: int | str = NOW, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), str(at).encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Trade-Sync-Timestamp": str(at), "X-Trade-Sync-Signature": f"v1={digest}"}


@pytest.fixture
def serve() -> Iterator[Callable[[World], World]]:
    servers: list[ApiServer] = []

    def start(world: World) -> World:
        servers.append(world.server())
        world.port = servers[-1].start()
        return world

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def shut() -> Iterator[World]:
    """One server for all requests that must have no effect."""
    world = World()
    server = world.server()
    world.port = server.start()
    yield world
    server.stop()


@pytest.fixture
def world(serve: Callable[[World], World]) -> World:
    return serve(World())


REFUSAL = Answer(
    401,
    [
        ("content-length", "19"),
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("connection", "close"),
    ],
    b'{"error":"refused"}',
)


def refused(answer: Answer) -> bool:
    assert sorted(answer.headers) == sorted(REFUSAL.headers)
    return (answer.status, answer.body) == (REFUSAL.status, REFUSAL.body)


def test_a_signed_press_wakes_the_scheduler(world: World) -> None:
    answer = world.press()
    assert (answer.status, json.loads(answer.body)) == (202, {"accepted": True})
    assert world.woken == ["jd7abcdefghijklmnopqrstuvwxyz012"]


def test_a_press_for_everything(world: World) -> None:
    assert world.press(b"{}").status == 202
    assert world.woken == [None]


@pytest.mark.parametrize("seconds", [-300, 300])
def test_the_window_is_300_seconds_both_ways(world: World, seconds: int) -> None:
    assert world.press(at=NOW + seconds).status == 202


GENUINE = signed(BODY)
FORGERIES: dict[str, dict[str, str]] = {
    "no headers at all": {},
    "no timestamp": {"X-Trade-Sync-Signature": GENUINE["X-Trade-Sync-Signature"]},
    "no signature": {"X-Trade-Sync-Timestamp": str(NOW)},
    "empty signature": {**GENUINE, "X-Trade-Sync-Signature": ""},
    "another secret": signed(BODY, secret="another-secret-of-forty-characters-long!"),
    "another body": signed(BODY + b" "),
    "another timestamp": {**GENUINE, "X-Trade-Sync-Timestamp": str(NOW + 1)},
    "last digit changed": {
        **GENUINE,
        "X-Trade-Sync-Signature": GENUINE["X-Trade-Sync-Signature"][:-1]
        + ("0" if GENUINE["X-Trade-Sync-Signature"][-1] != "0" else "1"),
    },
    "cut short": {**GENUINE, "X-Trade-Sync-Signature": GENUINE["X-Trade-Sync-Signature"][:-2]},
    "another version": {**GENUINE, "X-Trade-Sync-Signature": "v2=" + GENUINE["X-Trade-Sync-Signature"][3:]},
    "no version": {**GENUINE, "X-Trade-Sync-Signature": GENUINE["X-Trade-Sync-Signature"][3:]},
    "algorithm none": {**GENUINE, "X-Trade-Sync-Signature": "none="},
    "not ASCII": {**GENUINE, "X-Trade-Sync-Signature": "v1=é"},
    "a user's token instead": {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyIn0."},
    "too old": signed(BODY, NOW - 301),
    "from the future": signed(BODY, NOW + 301),
    "milliseconds": signed(BODY, NOW * 1000),
    "negative": signed(BODY, -NOW),
    "not a number": signed(BODY, "soon"),
    "other digits": signed(BODY, "１７６００"),
    "empty timestamp": signed(BODY, ""),
    "a huge number": signed(BODY, "9" * 5000),
}


@pytest.mark.parametrize("headers", FORGERIES.values(), ids=FORGERIES)
def test_F3_refused_alike_and_without_effect(shut: World, headers: dict[str, str]) -> None:
    sent = {name: value.encode() for name, value in headers.items()}
    assert refused(shut.ask("/v1/sync", BODY, sent))  # type: ignore[arg-type]
    assert shut.woken == []


BODIES = {
    "empty": b"",
    "not JSON": b"connectionId=1",
    "not an object": b'["jd7abc"]',
    "null": b"null",
    "null id": b'{"connectionId":null}',
    "number": b'{"connectionId":7}',
    "empty id": b'{"connectionId":""}',
    "path": b'{"connectionId":"../../etc/passwd"}',
    "newline": b'{"connectionId":"abc\\n"}',
    "long id": b'{"connectionId":"' + b"a" * 65 + b'"}',
    "extra field": b'{"connectionId":"abc","mode":"backfill"}',
    "not UTF-8": b'{"connectionId":"\xff"}',
    "deep": b"[" * 4000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_F3_a_genuine_signature_does_not_excuse_a_bad_body(shut: World, body: bytes) -> None:
    assert refused(shut.press(body))
    assert shut.woken == []


def test_F3_a_replay_is_refused_while_its_timestamp_is_good(world: World) -> None:
    assert world.press().status == 202
    assert refused(world.press())
    world.clock.ms += 300_000
    assert refused(world.press())
    world.clock.ms += 1000
    assert refused(world.press())  # now because it is old
    assert world.press(at=NOW + 301).status == 202
    assert len(world.woken) == 2


def test_F3_without_a_secret_everything_is_refused_in_the_same_way(serve: Callable[[World], World]) -> None:
    world = serve(World(secret=None))
    assert refused(world.press())
    assert refused(world.ask("/v1/sync", BODY, signed(BODY, secret="")))
    assert world.woken == []


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_F3_other_methods_are_refused_alike(shut: World, method: str) -> None:
    assert refused(shut.ask("/v1/sync", BODY, signed(BODY), method))
    assert shut.woken == []


def test_F3_a_body_above_4_kib_is_refused_alike(world: World) -> None:
    fitting = b'{"connectionId":"abc"' + b" " * (4096 - 22) + b"}"
    assert len(fitting) == 4096
    assert refused(world.press(fitting + b" "))
    assert refused(world.press(b" " * 1_000_000))
    assert world.woken == []
    assert world.press(fitting).status == 202


def test_F3_an_endless_body_is_cut_off(world: World) -> None:
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as wire:
        wire.sendall(b"POST /v1/sync HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 50_000_000:
                wire.sendall(b"1000\r\n" + b"a" * 4096 + b"\r\n")
                sent += 4096
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 50_000_000
    assert world.press().status == 202  # and the endpoint is as well as before


def test_health(world: World) -> None:
    answer = world.ask("/healthz", method="GET")
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


def test_D1_readiness_follows_the_worker_and_names_no_one(world: World) -> None:
    answer = world.ask("/readyz", method="GET")
    assert (answer.status, json.loads(answer.body)) == (200, {"ready": True, "reason": "ok"})
    world.standing = Standing(False, "Convex does not answer")
    answer = world.ask("/readyz", method="GET")
    assert (answer.status, json.loads(answer.body)) == (503, {"ready": False, "reason": "Convex does not answer"})


def test_metrics(world: World) -> None:
    metrics.broker_call("kraken", "ok")
    answer = world.ask("/metrics", method="GET")
    assert answer.status == 200
    assert dict(answer.headers)["content-type"].startswith("text/plain; version=")
    assert b'trade_sync_broker_calls_total{kind="kraken",outcome="ok"}' in answer.body


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/v1", "/v1/sync/", "/healthz/", "/v1/sync/x", "/metrics/x"]
)
def test_there_is_nothing_else(shut: World, path: str) -> None:
    answer = shut.ask(path, BODY, signed(BODY))
    assert (answer.status, json.loads(answer.body)) == (404, {"error": "not found"})
    assert shut.woken == []


@pytest.mark.parametrize("path", ["/v1/sync", "/healthz", "/readyz", "/metrics", "/nowhere"])
def test_the_server_does_not_name_itself(shut: World, path: str) -> None:
    names = {name.lower() for name, _ in shut.ask(path, method="GET").headers}
    assert names.isdisjoint({"server", "x-powered-by", "allow"})


def test_F14_listens_where_told_and_nowhere_else(world: World) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", world.port), timeout=5)


def test_a_taken_port_gives_one_clear_sentence(world: World) -> None:
    second = ApiServer(
        "127.0.0.1", world.port, secret=None, wake=world.woken.append, ready=lambda: world.standing, clock=world.clock
    )
    with pytest.raises(SettingsInvalid) as caught:
        second.start()
    (problem,) = caught.value.problems
    assert problem.startswith("TRADE_SYNC_API_PORT")
    assert str(world.port) in problem
    second.stop()


def test_stop_frees_the_port_even_with_an_idle_connection_open() -> None:
    world = World()
    server = world.server()
    world.port = server.start()
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", world.port), timeout=5)
