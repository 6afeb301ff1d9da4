"""The local Convex server, as the `convex` package for Python sees it."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import jwt
import pytest
import requests
from convex import ConvexClient, ConvexError, ConvexInt64
from convex.http_client import ConvexExecutionError, ConvexHttpClient
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]
ISSUER, AUDIENCE, KEY_ID = "https://robot.example", "fixture", "robot-1"


class Robot:
    """The machine whose tokens the fixture's customJwt provider accepts."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        keys = json.dumps({"keys": [{**public, "kid": KEY_ID, "alg": "ES256"}]})
        self.jwks = "data:application/json;base64," + base64.b64encode(keys.encode()).decode()

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        standard = {"iss": ISSUER, "aud": AUDIENCE, "sub": "robot", "iat": now, "exp": now + 600}
        return jwt.encode({**standard, **claims}, self._key, algorithm="ES256", headers={"kid": KEY_ID})


class Server:
    def __init__(self, robot: Robot, *, port: int = 0) -> None:
        node = shutil.which("node")
        assert node is not None
        self._process = subprocess.Popen(
            [
                *(node, "--import", "tsx", "sandbox/convex-server/main.ts"),
                *("--functions", "tests/sandbox/fixture-convex", "--port", str(port)),
                *("--env", f"ROBOT_JWKS={robot.jwks}", "--exit-with-stdin"),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.ready = json.loads(self._process.stdout.readline())
        self.address: str = self.ready["address"]

    def control(self, method: str, what: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self.address}/sandbox/{what}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def texts(self, author: str) -> list[str]:
        return [row["text"] for row in self.control("GET", "documents?table=notes") if row["author"] == author]

    def stop(self) -> int:
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        code = self._process.wait(timeout=10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return code

    def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.stop()


@pytest.fixture(scope="module")
def robot() -> Robot:
    return Robot()


@pytest.fixture(scope="module")
def server(robot: Robot) -> Iterator[Server]:
    with Server(robot) as running:
        yield running


@pytest.fixture(params=["socket", "http"])
def client(request: pytest.FixtureRequest, server: Server) -> ConvexClient | ConvexHttpClient:
    return ConvexClient(server.address) if request.param == "socket" else ConvexHttpClient(server.address)


async def until(condition: Callable[[], Awaitable[bool] | bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while True:
        met = condition()
        if met if isinstance(met, bool) else await met:
            return
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        await asyncio.sleep(0.01)


def test_query_mutation_and_action(client: Any, request: pytest.FixtureRequest) -> None:
    author = request.node.name
    assert client.query("notes:byAuthor", {"author": author}) == []
    note_id = client.mutation("notes:add", {"author": author, "text": "one", "rank": 1})
    assert isinstance(note_id, str)
    assert client.query("notes:byAuthor", {"author": author}) == ["one"]
    assert client.action("notes:shout", {"text": "loud"}) == "LOUD"


def test_values_survive_the_round_trip(client: Any) -> None:
    value = {"whole": 1.0, "list": [0.5, -3.0, True, None, "text"], "int": ConvexInt64(2**60), "bytes": b"hi"}
    assert client.query("notes:echo", {"value": value}) == value


def test_convex_errors_carry_their_data_and_others_nothing(client: Any) -> None:
    with pytest.raises(ConvexError) as caught:
        client.mutation("notes:fail", {"data": {"code": "full", "left": 2}})
    assert caught.value.data == {"code": "full", "left": 2.0}
    for call in (lambda: client.mutation("notes:lies", {}), lambda: client.query("notes:crash", {})):
        with pytest.raises(Exception, match="Server Error") as plain:
            call()
        assert not isinstance(plain.value, ConvexError)
        assert "secret" not in str(plain.value)
    # The connection is as good as before.
    assert client.query("notes:echo", {"value": "still here"}) == "still here"


def test_internal_functions_do_not_exist_for_clients(client: Any, server: Server) -> None:
    with pytest.raises(Exception, match="Server Error"):
        client.query("notes:hidden", {})
    client.set_admin_auth(server.ready["adminKey"])
    assert client.query("notes:hidden", {}) == "for the server only"


def test_the_token_says_who_calls(client: Any, server: Server, robot: Robot) -> None:
    assert client.query("notes:whoAmI", {}) is None
    client.set_auth(robot.token(role="sync"))
    assert client.query("notes:whoAmI", {}) == {
        "issuer": ISSUER,
        "subject": "robot",
        "tokenIdentifier": f"{ISSUER}|robot",
        "role": "sync",
    }
    client.set_auth(server.control("POST", "token", {"subject": "ann"})["token"])
    assert client.query("notes:onlyForUsers", {}) == "ann"


def refused_tokens(robot: Robot) -> dict[str, str]:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "robot", "iat": now, "exp": now + 600}
    return {
        "forged": Robot().token(),
        "expired": robot.token(exp=now - 60),
        "wrong audience": robot.token(aud="somebody-else"),
        "unsigned": jwt.encode(claims, None, algorithm="none", headers={"kid": KEY_ID}),
    }


@pytest.mark.parametrize("which", ["forged", "expired", "wrong audience", "unsigned"])
def test_http_refuses_bad_tokens(server: Server, robot: Robot, which: str) -> None:
    client = ConvexHttpClient(server.address)
    client.set_auth(refused_tokens(robot)[which])
    with pytest.raises(Exception, match=r"^401 "):
        client.query("notes:whoAmI", {})


@pytest.mark.parametrize("which", ["forged", "expired", "wrong audience", "unsigned"])
def test_the_socket_refuses_bad_tokens(server: Server, robot: Robot, which: str) -> None:
    """The client shows a refused token only by its silence, so the server is asked what it ran."""
    refused, accepted = ConvexClient(server.address), ConvexClient(server.address)
    refused.set_auth(refused_tokens(robot)[which])
    accepted.set_auth(robot.token())
    server.control("DELETE", "calls")
    subscription = refused.subscribe("notes:onlyForUsers", {})
    assert accepted.query("notes:whoAmI", {})["subject"] == "robot"
    time.sleep(0.5)
    assert server.control("GET", "calls") == {"notes:whoAmI": 1}
    del subscription


def test_a_function_refuses_whoever_has_no_token(client: Any) -> None:
    with pytest.raises(ConvexError) as caught:
        client.query("notes:onlyForUsers", {})
    assert caught.value.data == {"code": "not_authenticated"}


def test_the_http_client_sees_infrastructure_errors(server: Server) -> None:
    client = ConvexHttpClient(server.address)
    server.control("POST", "faults", {"function": "notes:pulse", "kind": "conflict"})
    with pytest.raises(Exception, match=r"^503 OptimisticConcurrencyControlFailure: "):
        client.mutation("notes:pulse", {})
    with pytest.raises(ConvexExecutionError):
        client.mutation("notes:byAuthor", {"author": "a"})


def test_a_subscription_updates(server: Server) -> None:
    async def scenario() -> list[list[str]]:
        seen: list[list[str]] = []
        watching, writing = ConvexClient(server.address), ConvexClient(server.address)

        async def follow() -> None:
            async for texts in watching.subscribe("notes:byAuthor", {"author": "followed"}):
                seen.append(texts)

        task = asyncio.create_task(follow())
        await until(lambda: len(seen) == 1, "the first result")
        for text in ("one", "two"):
            writing.mutation("notes:add", {"author": "followed", "text": text})
            writing.mutation("notes:add", {"author": "somebody else", "text": text})
            await until(lambda text=text: seen[-1][-1:] == [text], text)  # type: ignore[misc]
        task.cancel()
        return seen

    assert asyncio.run(scenario()) == [[], ["one"], ["one", "two"]]


@pytest.mark.parametrize(
    ("kind", "times_applied"),
    # Every connection of this client is a new session, so the server cannot know a mutation sent again.
    [("die_before_commit", 1), ("die_after_commit", 2), ("die_before_transition", 2)],
)
def test_a_connection_lost_around_a_mutation(server: Server, kind: str, times_applied: int) -> None:
    client = ConvexClient(server.address)
    client.query("notes:echo", {"value": "connected"})
    server.control("POST", "faults", {"function": "notes:add", "kind": kind})
    client.mutation("notes:add", {"author": kind, "text": "x"})
    assert server.texts(kind) == ["x"] * times_applied


def test_a_subscription_goes_on_after_the_server_was_replaced(robot: Robot) -> None:
    async def scenario() -> None:
        seen: list[list[str]] = []
        with Server(robot) as first:
            client = ConvexClient(first.address)

            async def follow() -> None:
                async for texts in client.subscribe("notes:byAuthor", {"author": "a"}):
                    seen.append(texts)

            task = asyncio.create_task(follow())
            ConvexHttpClient(first.address).mutation("notes:add", {"author": "a", "text": "old"})
            await until(lambda: seen[-1:] == [["old"]], "the first server's note")
        port = int(first.address.rsplit(":", 1)[1])
        with Server(robot, port=port) as second:
            await until(lambda: seen[-1] == [], "the empty second server", seconds=30)
            ConvexHttpClient(second.address).mutation("notes:add", {"author": "a", "text": "new"})
            await until(lambda: seen[-1] == ["new"], "the second server's note")
            task.cancel()

    asyncio.run(scenario())


def test_the_server_ends_with_whoever_started_it(robot: Robot) -> None:
    with Server(robot) as told:
        assert told.stop() == 0
    with Server(robot) as orphaned:
        orphaned.close_stdin()
        assert orphaned.wait() == 0
