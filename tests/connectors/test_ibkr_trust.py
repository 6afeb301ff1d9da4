"""Which gateways may be used, and that nothing reaches any other machine. Sections are those of reference ibkr."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sandbox.clock import VirtualClock
from tests.support.servers import JSON, Server, Talk, answering, certificate, fingerprint
from worker.clock import SystemClock
from worker.connectors.ibkr_gateways import DEFAULT, Gateway, find_gateway, open_gateway_http, parse_gateways
from worker.errors import AuthFailed, Rejected
from worker.http import Http

PIN = "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"
ALICE = "https://your-app.clerk.accounts.dev|user_2abc"
BOB = "https://your-app.clerk.accounts.dev|user_2xyz"

Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(talk: Talk | None = None, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(talk or answering(b"{}", JSON), context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every look-up of a name and every connection that is tried."""
    tried: list[object] = []

    def refuse(*args: object, **_: object) -> None:
        tried.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


# The list


@pytest.mark.parametrize(
    ("text", "gateways"),
    [
        (DEFAULT, [Gateway("https://localhost:5000")]),
        ("http://127.0.0.1:8080", [Gateway("http://127.0.0.1:8080")]),
        ("https://[::1]:5000", [Gateway("https://[::1]:5000")]),
        (f"https://gw.lan:5000#sha256={PIN}", [Gateway("https://gw.lan:5000", PIN.lower())]),
        (f"https://10.0.0.5#sha256={PIN}", [Gateway("https://10.0.0.5:443", PIN.lower())]),
        (
            f"https://GW.lan:5000/#sha256={':'.join(PIN[at : at + 2] for at in range(0, 64, 2))}",
            [Gateway("https://gw.lan:5000", PIN.lower())],
        ),
        (f"https://localhost:5000;owner={ALICE}", [Gateway("https://localhost:5000", None, ALICE)]),
        (f"https://gw:5000#sha256={PIN};owner={ALICE}", [Gateway("https://gw:5000", PIN.lower(), ALICE)]),
        ("https://localhost:5000;owner=a%2Cb%20c%25d;#e", [Gateway("https://localhost:5000", None, "a,b c%d;#e")]),
        (
            f"\n https://localhost:5000,\thttps://localhost:5001;owner={BOB} ,,\nhttps://gw_2.lan:1#sha256={PIN}\n",
            [
                Gateway("https://localhost:5000"),
                Gateway("https://localhost:5001", None, BOB),
                Gateway("https://gw_2.lan:1", PIN.lower()),
            ],
        ),
    ],
    ids=[
        "the usual one", "http here", "IPv6", "pinned", "no port", "colons", "one user's", "both", "escaped", "several",
    ],
)  # fmt: skip
def test_reads_the_list_of_gateways(text: str, gateways: list[Gateway]) -> None:
    assert list(parse_gateways(text)) == gateways


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("https://gw.lan:5000", "fingerprint"),
        ("https://10.0.0.5:5000", "fingerprint"),
        ("https://gw.lan:5000#sha256=", "64 hex digits"),
        (f"https://gw.lan:5000#sha256={PIN[:-2]}", "64 hex digits"),
        (f"https://gw.lan:5000#sha1={PIN}", "#sha256="),
        (f"https://gw.lan:5000;owner={ALICE}", "fingerprint"),
        ("http://gw.lan:5000", "https"),
        (f"http://gw.lan:5000#sha256={PIN}", "https"),
        (f"http://localhost:5000#sha256={PIN}", "no certificate"),
        ("https://localhost:5000;owner=", "owner"),
        ("https://localhost:5000;owner=%ff", "%25"),
        ("https://localhost:5000;own=x", "owner"),
        ("https://localhost:5000/v1/api", "path"),
        ("https://localhost:5000?x=1", "path"),
        ("https://user:word@localhost:5000", "user name"),
        ("https://localhost:0", "port"),
        ("https://localhost:66000", "port"),
        ("localhost:5000", "https"),
        ("file:///etc/passwd", "https"),
        (f"https://0.0.0.0:5000#sha256={PIN}", "IP address"),
        (f"https://[::]:5000#sha256={PIN}", "IP address"),
        (f"https://169.254.169.254#sha256={PIN}", "IP address"),
        (f"https://[fe80::1]:5000#sha256={PIN}", "IP address"),
        (f"https://[::1%25lo]:5000#sha256={PIN}", "IP address"),
        (f"https://224.0.0.1:5000#sha256={PIN}", "IP address"),
        (f"https://[::ffff:127.0.0.1]:5000#sha256={PIN}", "IP address"),
        (f"https://[::ffff:169.254.169.254]:5000#sha256={PIN}", "IP address"),
        (f"https://2130706433:5000#sha256={PIN}", "usual spelling"),
        (f"https://127.1:5000#sha256={PIN}", "usual spelling"),
        (f"https://127.0.0.0x1:5000#sha256={PIN}", "usual spelling"),
        (f"https://0177.0.0.1:5000#sha256={PIN}", "usual spelling"),
        (f"https://gw.lan.:5000#sha256={PIN}", "usual spelling"),
        (f"https://gätäwäy:5000#sha256={PIN}", "usual spelling"),
        ("https://localhost:4999", "twice"),
        ("https://127.0.0.1:4999/", "twice"),
        (f"https://[::1]:4999;owner={ALICE}", "twice"),
    ],
)
def test_F7_an_entry_that_is_wrong_is_named_by_its_number(entry: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^entry 2: ") as caught:
        parse_gateways(f"https://localhost:4999 {entry}")
    assert said in str(caught.value)
    assert entry not in str(caught.value)


@pytest.mark.parametrize("text", ["", " ,\n"])
def test_an_empty_list_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=DEFAULT):
        parse_gateways(text)


# Who may use which

LISTED = parse_gateways(
    f"https://localhost:5000 https://localhost:5001;owner={ALICE} https://gw.lan:5000#sha256={PIN};owner={BOB}"
)


@pytest.mark.parametrize(
    ("base_url", "owner", "position"),
    [
        ("https://localhost:5000", ALICE, 0),
        (" https://LOCALHOST:5000/ ", BOB, 0),
        ("https://127.0.0.1:5000", ALICE, 0),
        ("https://[::1]:5000", ALICE, 0),
        ("https://127.0.0.1:5001", ALICE, 1),
        ("https://GW.lan:5000", BOB, 2),
    ],
)
def test_finds_the_gateway_that_an_address_means(base_url: str, owner: str, position: int) -> None:
    assert find_gateway(LISTED, base_url, owner) is LISTED[position]


REFUSED = [
    "https://localhost:5002",
    "http://localhost:5000",
    "https://127.0.0.2:5000",
    "https://gw.lan:5001",
    "https://gw.lan.evil.example:5000",
    "https://localhost:5000.evil.example",
    "https://localhost:5000@evil.example",
    "https://evil.example\\@localhost:5000",
    "https://user:pass-canary@localhost:5000",
    "https://localhost:5000/v1/api",
    "https://localhost:5000?x=1",
    "https://localhost:5000#sha256=00",
    "https://localhost:5000;owner=x",
    "http://169.254.169.254",
    "https://169.254.169.254/latest/meta-data",
    "http://[fd00:ec2::254]",
    "http://metadata.google.internal",
    "file:///etc/passwd",
    "file://localhost:5000",
    "gopher://localhost:5000",
    "https://0.0.0.0:5000",
    "https://0:5000",
    "https://[::]:5000",
    "https://2130706433:5000",
    "https://0x7f000001:5000",
    "https://017700000001:5000",
    "https://127.1:5000",
    "https://[::ffff:127.0.0.1]:5000",
    "https://[::ffff:7f00:1]:5000",
    "https://local\nhost:5000",
    "https://",
    "localhost:5000",
    "",
]


@pytest.mark.parametrize("base_url", REFUSED, ids=[f"{number}" for number in range(len(REFUSED))])
def test_F7_an_address_that_is_not_listed_is_refused_without_a_connection(
    no_network: list[object], base_url: str
) -> None:
    with pytest.raises(AuthFailed) as caught:
        open_gateway_http(find_gateway(LISTED, base_url, ALICE), VirtualClock(0)).request("GET", "/v1/api/tickle")
    assert caught.value.code == "ibkr_gateway_not_allowed"
    assert "IBKR_GATEWAYS" in caught.value.sentence
    assert base_url.rpartition("@")[2] in caught.value.sentence
    assert "canary" not in str(caught.value)
    assert no_network == []


def test_F4_the_gateway_of_another_user_is_refused_like_one_that_is_not_listed(no_network: list[object]) -> None:
    said = []
    for gateways in (LISTED, LISTED[:2]):
        with pytest.raises(AuthFailed) as caught:
            find_gateway(gateways, "https://gw.lan:5000", ALICE)
        said.append((str(caught.value), caught.value.code, caught.value.action, caught.value.detail, caught.value.url))
    assert said[0] == said[1]
    assert "https://gw.lan:5000" in said[0][0]
    assert BOB not in said[0][0]
    assert no_network == []


def test_a_long_address_is_shown_in_part() -> None:
    with pytest.raises(AuthFailed) as caught:
        find_gateway(LISTED, "https://" + "x" * 10_000, ALICE)
    assert len(caught.value.sentence) < 300


# The connection


def gateway_http(gateway: Gateway) -> Http:
    return open_gateway_http(gateway, SystemClock())


def ask(http: Http) -> int:
    return http.request("GET", "/v1/api/tickle", headers={"Authorization": "OAuth secret"}).status


def test_the_certificate_that_a_gateway_signs_itself_is_accepted_on_this_machine(serve: Serve, tmp_path: Path) -> None:
    server = serve(context=certificate(tmp_path, "gateway.example", days=-1)[0])
    (gateway,) = parse_gateways(server.url)
    assert ask(gateway_http(gateway)) == 200


@pytest.mark.parametrize("case", ["self-signed", "expired", "wrong host"])
def test_A14_elsewhere_only_the_pinned_certificate_is_accepted(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    context, chain = certificate(
        tmp_path, "other.example" if case == "wrong host" else "gw.lan", days=-1 if case == "expired" else 1
    )
    server = serve(context=context)
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **kwargs: resolve("127.0.0.1" if host == "gw.lan" else host, *args, **kwargs),
    )
    (wrong,) = parse_gateways(f"https://gw.lan:{server.port}#sha256={PIN}")
    with pytest.raises(Rejected) as caught:
        ask(gateway_http(wrong))
    assert caught.value.code == "untrusted_certificate"
    server.settle()
    assert (server.connections, bytes(server.received)) == (1, b"")
    (right,) = parse_gateways(f"https://gw.lan:{server.port}#sha256={fingerprint(chain)}")
    assert ask(gateway_http(right)) == 200


def test_F7_a_gateway_on_this_machine_whose_name_leads_elsewhere_gets_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected: list[object] = []
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *args, **kwargs: resolve("192.0.2.7", *args, **kwargs))
    monkeypatch.setattr(socket, "create_connection", lambda *args, **_: connected.append(args))
    with pytest.raises(Rejected) as caught:
        ask(gateway_http(find_gateway(LISTED, "https://localhost:5000", ALICE)))
    assert caught.value.code == "untrusted_address"
    assert connected == []


def test_A13_the_redirect_to_the_login_page_is_an_answer(serve: Serve) -> None:
    login = serve()
    server = serve(answering(b"", f"location: {login.url}/sso/Login", status="302 Found"))
    (gateway,) = parse_gateways(server.url)
    assert ask(gateway_http(gateway)) == 302
    login.settle()
    assert login.connections == 0


def test_a_simulator_in_the_process_can_stand_for_a_gateway() -> None:
    seen: list[httpx.URL] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.url)
        return httpx.Response(200, json={})

    gateway = find_gateway(LISTED, "https://gw.lan:5000", BOB)
    http = open_gateway_http(gateway, VirtualClock(0), httpx.MockTransport(handle))
    assert ask(http) == 200
    assert [str(url) for url in seen] == ["https://gw.lan:5000/v1/api/tickle"]
