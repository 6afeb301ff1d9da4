"""`Http` over real sockets: everything a server, or whoever sits on the way, can do wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import resource
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import JSON, Server, Talk, answering, certificate, fingerprint
from worker import log
from worker.clock import SystemClock
from worker.errors import Rejected, Unavailable
from worker.http import Answer, Http, check_base_url, document, is_loopback, read_fingerprint, read_origin

Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(talk: Talk, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(talk, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def client(url: str, **settings: object) -> Http:
    return Http(url, SystemClock(), kind="kraken", count=lambda *_: None, **settings)  # type: ignore[arg-type]


def test_returns_status_headers_and_body_of_any_answer(serve: Serve) -> None:
    server = serve(answering(b'{"error":["E"]}', JSON, "retry-after: 7", status="503 Service Unavailable"))
    outcomes: list[tuple[str, str]] = []
    http = Http(server.url, SystemClock(), kind="kraken", count=lambda *call: outcomes.append(call))
    answer = http.request("POST", "/0/private/TradesHistory", content=b"nonce=1", headers={"API-Key": "k"})
    assert (answer.status, answer.body, answer.headers["Retry-After"]) == (503, b'{"error":["E"]}', "7")
    assert outcomes == [("kraken", "5xx")]
    assert server.requests[0].startswith(b"POST /0/private/TradesHistory HTTP/1.1\r\n")
    assert b"\r\nAPI-Key: k\r\n" in server.requests[0]


@pytest.mark.parametrize("path", ["//elsewhere.example/x", "https://elsewhere.example/x", "x"])
def test_F6_a_path_cannot_name_another_host(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        client("http://127.0.0.1:1").request("GET", path)


def test_A1_a_refused_connection_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        client(f"http://127.0.0.1:{port}").request("GET", "/")
    assert caught.value.code == "unreachable"


def test_A1_a_name_that_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(Unavailable) as caught:
        client("http://nowhere.invalid").request("GET", "/")
    assert caught.value.code == "unreachable"


def test_A1_a_reset_connection_is_unavailable(serve: Serve) -> None:
    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    with pytest.raises(Unavailable) as caught:
        client(serve(reset).url).request("GET", "/")
    assert caught.value.code == "unreachable"


def test_A2_a_silent_server_ends_with_the_deadline(serve: Serve) -> None:
    server = serve(lambda _: server.wait(20) and None)
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        client(server.url, deadline=0.5).request("GET", "/")
    assert caught.value.code == "timeout"
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    "prefix",
    [b"HTTP/1.1 200 OK\r\nx-slow: ", b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"],
    ids=["in the headers", "in the body"],
)
def test_A3_a_slow_drip_ends_with_the_deadline(serve: Serve, prefix: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(prefix)
        while not server.wait(0.1):
            connection.sendall(b"x")

    server = serve(drip)
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        client(server.url, deadline=0.7).request("GET", "/")
    assert caught.value.code == "timeout"
    assert 0.6 < time.monotonic() - began < 1.7


def test_A3_an_upload_that_nobody_reads_ends_with_the_deadline(serve: Serve) -> None:
    def never_read_on(connection: socket.socket) -> None:
        server.wait(20)

    server = serve(never_read_on)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        client(server.url, deadline=0.5).request("POST", "/", content=b"x" * 30_000_000)
    assert time.monotonic() - began < 1.5


def test_A4_an_endless_body_is_read_to_the_cap_only(serve: Serve) -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        block = b"x" * 65536
        while not server.wait(0):
            connection.sendall(block)
            sent += len(block)

    server = serve(endless)
    with pytest.raises(Unavailable) as caught:
        client(server.url, max_bytes=1024 * 1024).request("GET", "/")
    assert caught.value.code == "answer_too_large"
    assert sent < 16 * 1024 * 1024, "stopped reading, apart from what socket buffers hold"


def test_A4_a_compressed_bomb_is_not_inflated(serve: Serve) -> None:
    cap = 1024 * 1024
    bomb = gzip.compress(b"\0" * (200 * cap))
    assert len(bomb) < cap
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unavailable) as caught:
        client(serve(answering(bomb, "content-encoding: gzip")).url, max_bytes=cap).request("GET", "/")
    assert caught.value.code == "answer_too_large"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before <= 11 * 1024, "kilobytes"


def test_reads_gzip(serve: Serve) -> None:
    server = serve(answering(gzip.compress(b'{"a":1.10}', mtime=0), JSON, "content-encoding: gzip"))
    assert document(client(server.url).request("GET", "/")) == {"a": Decimal("1.10")}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_B20_a_download_goes_to_its_sink_and_not_into_memory(serve: Serve, packed: bool) -> None:
    block = bytes(range(256)) * 4096  # 1 MiB
    squeeze = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    encoding = b"content-encoding: gzip\r\n" if packed else b""

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + encoding + b"connection: close\r\n\r\n")
        for _ in range(64):
            connection.sendall(squeeze.compress(block) if packed else block)
        connection.sendall(squeeze.flush() if packed else b"")

    class Sink(io.BytesIO):
        """Remembers only how much came, and what."""

        def __init__(self) -> None:
            self.digest = hashlib.sha256()

        def write(self, chunk: Any) -> int:
            self.digest.update(chunk)
            return len(chunk)

    expected = hashlib.sha256()
    for _ in range(64):
        expected.update(block)
    sink = Sink()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    got = client(serve(talk).url, max_bytes=1024).download("/", sink, max_bytes=65 * 1024 * 1024)
    assert (got.status, got.size) == (200, 64 * len(block))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before <= 11 * 1024, "kilobytes"
    assert sink.digest.digest() == expected.digest()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_A4_a_download_stops_at_its_own_cap(serve: Serve, packed: bool) -> None:
    plain = b"\0" * (8 * 1024 * 1024)
    server = serve(
        answering(gzip.compress(plain), "content-encoding: gzip") if packed else answering(plain)
    )  # fmt: skip
    sink = io.BytesIO()
    with pytest.raises(Unavailable) as caught:
        client(server.url).download("/", sink, max_bytes=1024 * 1024)
    assert caught.value.code == "answer_too_large"
    assert len(sink.getvalue()) <= 1024 * 1024


def test_A3_a_download_ends_with_its_own_deadline(serve: Serve) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not server.wait(0.1):
            connection.sendall(b"x")

    server = serve(drip)
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        client(server.url, deadline=0.3).download("/", io.BytesIO(), deadline=0.7)
    assert caught.value.code == "timeout"
    assert 0.6 < time.monotonic() - began < 1.7


def test_a_download_may_take_longer_than_an_answer(serve: Serve) -> None:
    def slow(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n")
        for _ in range(8):
            server.wait(0.1)
            connection.sendall(b"x")

    server = serve(slow)
    sink = io.BytesIO()
    assert client(server.url, deadline=0.5).download("/", sink, deadline=5).size == 8
    assert sink.getvalue() == b"x" * 8


def test_A2_a_download_that_falls_silent_ends_after_the_time_of_an_answer(serve: Serve) -> None:
    def silent(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nx")
        server.wait(20)

    server = serve(silent)
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        client(server.url, deadline=0.5).download("/", io.BytesIO(), deadline=15)
    assert caught.value.code == "timeout"
    assert time.monotonic() - began < 1.5


def test_A12_a_download_shorter_than_announced_is_unavailable(serve: Serve) -> None:
    def cut(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n<half")

    with pytest.raises(Unavailable):
        client(serve(cut).url).download("/", io.BytesIO())


def test_A13_a_redirect_is_not_followed(serve: Serve) -> None:
    target = serve(answering(b"{}", JSON))
    server = serve(answering(b"", f"location: {target.url}/", status="307 Temporary Redirect"))
    with pytest.raises(Rejected) as caught:
        client(server.url).request("POST", "/", content=b"secret", headers={"API-Key": "k"})
    assert caught.value.code == "redirected"
    assert target.connections == 0


@pytest.mark.parametrize("case", ["self-signed", "expired", "wrong host"])
def test_A14_an_invalid_certificate_is_refused_before_anything_is_sent(serve: Serve, tmp_path: Path, case: str) -> None:
    context, chain = certificate(
        tmp_path, "kraken.example" if case == "wrong host" else "127.0.0.1", days=-1 if case == "expired" else 1
    )
    server = serve(answering(b"{}", JSON), context)
    trust = ssl.create_default_context(cafile=None if case == "self-signed" else str(chain))
    with pytest.raises(Rejected) as caught:
        client(server.url, verify=trust).request("GET", "/", headers={"API-Key": "k"})
    assert caught.value.code == "untrusted_certificate"
    assert "certificate" in caught.value.sentence
    server.settle()
    assert (server.connections, bytes(server.received)) == (1, b"")


def test_A14_a_valid_certificate_is_accepted(serve: Serve, tmp_path: Path) -> None:
    context, chain = certificate(tmp_path, "127.0.0.1")
    server = serve(answering(b"{}", JSON), context)
    trust = ssl.create_default_context(cafile=str(chain))
    assert client(server.url, verify=trust).request("GET", "/").status == 200


@pytest.mark.parametrize("case", ["valid", "expired", "wrong host"])
def test_A14_a_pinned_certificate_is_accepted_whatever_its_name_and_date(
    serve: Serve, tmp_path: Path, case: str
) -> None:
    context, chain = certificate(
        tmp_path, "gateway.example" if case == "wrong host" else "127.0.0.1", days=-1 if case == "expired" else 1
    )
    server = serve(answering(b"{}", JSON), context)
    assert client(server.url, pinned=fingerprint(chain)).request("GET", "/").status == 200


def test_A14_another_certificate_than_the_pinned_one_is_refused_before_anything_is_sent(
    serve: Serve, tmp_path: Path
) -> None:
    context, chain = certificate(tmp_path, "127.0.0.1")
    server = serve(answering(b"{}", JSON), context)
    seen = fingerprint(chain)
    pinned = seen[:-1] + ("0" if seen[-1] != "0" else "1")
    outcomes: list[tuple[str, str]] = []
    http = Http(server.url, SystemClock(), kind="ibkr", pinned=pinned, count=lambda *call: outcomes.append(call))
    with pytest.raises(Rejected) as caught:
        http.request("GET", "/", headers={"Cookie": "secret"})
    assert caught.value.code == "untrusted_certificate"
    assert ":".join(seen[at : at + 2] for at in range(0, 64, 2)).upper() in caught.value.sentence
    assert outcomes == [("ibkr", "untrusted")]
    server.settle()
    assert (server.connections, bytes(server.received)) == (1, b"")


def test_A14_every_new_connection_is_held_against_the_pin(serve: Serve, tmp_path: Path) -> None:
    context, chain = certificate(tmp_path, "127.0.0.1")
    server = serve(answering(b"{}", JSON), context)
    http = client(server.url, pinned=fingerprint(chain))
    assert http.request("GET", "/first").status == 200
    (tmp_path / "other").mkdir()
    _, other = certificate(tmp_path / "other", "127.0.0.1")
    context.load_cert_chain(other, other.with_name("key.pem"))
    with pytest.raises(Rejected):
        http.request("GET", "/second")
    server.settle()
    assert len(server.requests) == 1


def test_A14_a_server_without_tls_gets_nothing_either(serve: Serve) -> None:
    server = serve(answering(b"{}", JSON))
    with pytest.raises(Unavailable):
        client(server.url.replace("http:", "https:"), pinned="00" * 32, deadline=2.0).request(
            "GET", "/", headers={"Cookie": "secret"}
        )
    server.settle()
    assert b"secret" not in server.received


@pytest.mark.parametrize(
    ("url", "pinned"),
    [("http://127.0.0.1:1", "00" * 32), ("https://127.0.0.1:1", "00" * 31), ("https://127.0.0.1:1", "")],
    ids=["no TLS", "too short", "empty"],
)
def test_A14_a_pin_that_could_not_be_checked_is_an_error(url: str, pinned: str) -> None:
    with pytest.raises(ValueError, match=r"pinned|fingerprint"):
        client(url, pinned=pinned)


def test_a_fingerprint_is_read_in_both_spellings() -> None:
    digest = bytes(range(32))
    assert read_fingerprint(digest.hex()) == read_fingerprint(digest.hex(":").upper()) == digest
    for text in ("", "00" * 31, "00" * 33, "sha256", "g0" * 32):
        with pytest.raises(ValueError, match="64 hex digits"):
            read_fingerprint(text)


def test_on_this_machine_any_certificate_will_do(serve: Serve, tmp_path: Path) -> None:
    context, _ = certificate(tmp_path, "whatever.example", days=-1)
    server = serve(answering(b"{}", JSON), context)
    assert client(server.url, loopback=True).request("GET", "/").status == 200


def test_A14_a_pin_counts_on_this_machine_too(serve: Serve, tmp_path: Path) -> None:
    context, chain = certificate(tmp_path, "whatever.example")
    server = serve(answering(b"{}", JSON), context)
    assert client(server.url, loopback=True, pinned=fingerprint(chain)).request("GET", "/").status == 200
    with pytest.raises(Rejected):
        client(server.url, loopback=True, pinned="00" * 32).request("GET", "/")


class Resolver:
    """Answers for one name as `script` says, in turn and then as the last time; for literals truthfully."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, *script: list[str]) -> None:
        self.asked = 0
        self._name = name
        self._script = script
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._answer)

    def _answer(self, host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host != self._name:
            return self._real(host, port, *args, **kwargs)
        addresses = self._script[min(self.asked, len(self._script) - 1)]
        self.asked += 1
        return [found for address in addresses for found in self._real(address, port, type=socket.SOCK_STREAM)]


@pytest.mark.parametrize(
    "addresses",
    [
        ["192.0.2.1"],
        ["169.254.169.254"],
        ["127.0.0.1", "192.0.2.1"],
        ["192.0.2.1", "127.0.0.1"],
        ["::1", "2001:db8::1"],
        ["0.0.0.0"],
        ["::"],
        ["::ffff:127.0.0.1"],
    ],
    ids=",".join,
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_F7_a_name_of_this_machine_that_leads_elsewhere_gets_no_connection(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, addresses: list[str]
) -> None:
    server = serve(answering(b"{}", JSON), certificate(tmp_path, "localhost")[0] if scheme == "https" else None)
    connected: list[object] = []
    resolver = Resolver(monkeypatch, "localhost", addresses)
    monkeypatch.setattr(socket, "create_connection", lambda *args, **_: connected.append(args))
    with pytest.raises(Rejected) as caught:
        client(f"{scheme}://localhost:{server.port}", loopback=True).request("GET", "/", headers={"Cookie": "secret"})
    assert caught.value.code == "untrusted_address"
    assert (resolver.asked, connected, server.connections) == (1, [], 0)


def test_F7_a_name_that_changes_after_the_check_gets_no_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answering(b"{}", JSON))
    resolver = Resolver(monkeypatch, "localhost", ["127.0.0.1"], ["192.0.2.1"])
    http = client(f"http://localhost:{server.port}", loopback=True)
    assert http.request("GET", "/").status == 200
    assert resolver.asked == 1, "what was checked is what was connected to"
    with pytest.raises(Rejected) as caught:
        http.request("GET", "/")
    assert caught.value.code == "untrusted_address"
    server.settle()
    assert (resolver.asked, server.connections) == (2, 1)


def test_F7_any_client_of_a_loopback_name_stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, "localhost", ["192.0.2.1"])
    with pytest.raises(Rejected) as caught:
        client("http://localhost:1").request("GET", "/")
    assert caught.value.code == "untrusted_address"


@pytest.mark.parametrize("location", ["https://elsewhere.example/sso/Login", "/sso/Login", ""])
def test_A13_a_redirect_can_be_an_answer_and_is_not_followed_then_either(serve: Serve, location: str) -> None:
    target = serve(answering(b"{}", JSON))
    server = serve(answering(b"", f"location: {location or target.url}", status="302 Found"))
    answered = client(server.url, redirects="answer").request("GET", "/", headers={"Cookie": "secret"})
    assert (answered.status, answered.headers["location"]) == (302, location or target.url)
    server.settle()
    target.settle()
    assert (server.connections, target.connections) == (1, 0)


def answer(body: bytes, content_type: str = "application/json") -> Answer:
    return Answer(200, {"content-type": content_type}, body)


def test_document_keeps_numbers_exact() -> None:
    read = document(answer(b'{"time":1710429248.3052235,"n":12345678901234567890123,"vol":"0.10"}'))
    assert read == {"time": Decimal("1710429248.3052235"), "n": 12345678901234567890123, "vol": "0.10"}
    assert document(answer(b"[NaN]"))[0].is_nan()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>502</html>", "text/html"),
        (b"<html>200</html>", "application/json"),
        (b'{"error":[]}', "text/html; charset=utf-8"),
        (b'\xef\xbb\xbf{"error":[]}', "application/json"),
        ('{"error":[]}'.encode("utf-16"), "application/json"),
        (b'{"error":["\xe9"]}', "application/json"),
        (b'{"error":[]}', "application/json; charset=utf-16"),
        (b"", "application/json"),
        (b'{"error":[]} trailing', "application/json"),
        (b'{"n":' + b"9" * 5000 + b"}", "application/json"),
        (b"[" * 100_000, "application/json"),
    ],
)
def test_A11_anything_but_the_expected_document_is_unavailable(body: bytes, content_type: str) -> None:
    with pytest.raises(Unavailable) as caught:
        document(answer(body, content_type))
    assert caught.value.code == "unexpected_answer"


@pytest.mark.parametrize("body", [b'{"error":[]}', gzip.compress(b'{"error":[]}', mtime=0)[:-6]])
def test_A11_a_body_that_is_not_the_gzip_it_claims_to_be_is_unavailable(serve: Serve, body: bytes) -> None:
    server = serve(answering(body, JSON, "content-encoding: gzip"))
    with pytest.raises(Unavailable) as caught:
        client(server.url).request("GET", "/")
    assert caught.value.code == "unexpected_answer"


def test_A12_a_document_cut_anywhere_is_unavailable() -> None:
    whole = json.dumps({"error": [], "result": {"trades": {"T": {"vol": "1.0"}}, "count": 1}}).encode()
    for cut in range(len(whole)):
        with pytest.raises(Unavailable):
            document(answer(whole[:cut]))


def test_A12_a_body_shorter_than_announced_is_unavailable(serve: Serve) -> None:
    def cut(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b'{"error":[]}')

    with pytest.raises(Unavailable):
        client(serve(cut).url).request("GET", "/")


def test_F2_what_the_log_gets_of_a_strange_answer_holds_no_secret() -> None:
    log.protect("canary-secret-0123")
    with pytest.raises(Unavailable) as caught:
        document(answer(b"<html>canary-secret-0123</html>", "text/html"))
    assert "canary" not in str(caught.value)


ALLOWED = ("api.kraken.com",)


@pytest.mark.parametrize("url", ["https://api.kraken.com", "https://api.kraken.com/", "https://API.kraken.com:443"])
def test_F7_the_named_host_is_allowed(url: str) -> None:
    assert check_base_url(url, ALLOWED) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.kraken.com",
        "https://api.kraken.com.evil.example",
        "https://evil.example",
        "https://api.kraken.com@evil.example",
        "https://user:password@api.kraken.com",
        "https://api.kraken.com:8443",
        "https://api.kraken.com:99999",
        "https://api.kraken.com/elsewhere",
        "https://api.kraken.com?x=1",
        "https://api.kraken.com#x",
        "http://169.254.169.254",
        "https://169.254.169.254",
        "http://[fd00:ec2::254]",
        "http://2130706433",
        "file:///etc/passwd",
        "ftp://api.kraken.com",
        "api.kraken.com",
        "",
    ],
)
@pytest.mark.parametrize("loopback", [False, True])
def test_F7_any_other_address_is_refused(url: str, loopback: bool) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check_base_url(url, ALLOWED, loopback=loopback)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:8080"])
def test_F7_this_machine_is_allowed_only_when_that_is_configured(url: str) -> None:
    assert check_base_url(url, ALLOWED, loopback=True) == url
    with pytest.raises(ValueError, match="https"):
        check_base_url(url, ALLOWED)


def test_F7_only_one_spelling_each_means_this_machine() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(
        map(
            is_loopback,
            ("", "0.0.0.0", "::", "2130706433", "127.1", "0x7f.1", "::ffff:127.0.0.1", "localhost.example", "10.0.0.1"),
        )
    )


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Gateway.LAN:5000/", "https://gateway.lan:5000"),
        ("https://gateway.lan", "https://gateway.lan:443"),
        ("http://localhost", "http://localhost:80"),
        ("https://[::1]:5000", "https://[::1]:5000"),
    ],
)
def test_an_origin_has_one_spelling(url: str, origin: str) -> None:
    assert str(read_origin(url)) == origin
    assert read_origin(origin) == read_origin(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1",
        "https://gateway.lan:0",
        "https://gateway.lan:x",
        "https://gate\nway.lan",
        "https://a b",
        "https://",
    ],
)
def test_F7_what_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"not an https|port"):
        read_origin(url)
