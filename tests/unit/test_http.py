"""`Http` over real sockets: everything a server, or whoever sits on the way, can do wrong."""

from __future__ import annotations

import datetime as dt
import gzip
import ipaddress
import json
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from worker import log
from worker.clock import SystemClock
from worker.errors import Rejected, Unavailable
from worker.http import Answer, Http, check_base_url, document

Talk = Callable[[socket.socket], None]


class Server:
    """Accepts connections, reads each request's head, then lets `talk` say whatever it likes."""

    def __init__(self, talk: Talk, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._talk = talk
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}"

    def wait(self, seconds: float) -> bool:
        """True once the test is over."""
        return self._over.wait(seconds)

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                if self._context:
                    connection = self._context.wrap_socket(connection, server_side=True)
                head = b""
                while b"\r\n\r\n" not in head:
                    part = connection.recv(65536)
                    if not part:
                        return
                    head += part
                self.requests.append(head)
                self._talk(connection)
        except OSError:
            return


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


def answering(body: bytes, *headers: str, status: str = "200 OK") -> Talk:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def talk(connection: socket.socket) -> None:
        connection.sendall(raw)

    return talk


JSON = "content-type: application/json; charset=utf-8"


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


def test_A13_a_redirect_is_not_followed(serve: Serve) -> None:
    target = serve(answering(b"{}", JSON))
    server = serve(answering(b"", f"location: {target.url}/", status="307 Temporary Redirect"))
    with pytest.raises(Rejected) as caught:
        client(server.url).request("POST", "/", content=b"secret", headers={"API-Key": "k"})
    assert caught.value.code == "redirected"
    assert target.connections == 0


def certificate(folder: Path, name: str, *, days: int = 1) -> tuple[ssl.SSLContext, Path]:
    """A server context with a self-signed certificate for `name`, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    alternative: x509.GeneralName
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=10))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = folder / "certificate.pem"
    chain.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, private)
    return context, chain


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
    assert server.requests == []


def test_A14_a_valid_certificate_is_accepted(serve: Serve, tmp_path: Path) -> None:
    context, chain = certificate(tmp_path, "127.0.0.1")
    server = serve(answering(b"{}", JSON), context)
    trust = ssl.create_default_context(cafile=str(chain))
    assert client(server.url, verify=trust).request("GET", "/").status == 200


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
