"""Servers on loopback that do anything a broker, or whoever sits on the way, can do; with certificates of any kind."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

JSON = "content-type: application/json; charset=utf-8"

Talk = Callable[[socket.socket], None]


class Server:
    """Accepts connections, reads each request's head, then lets `talk` say whatever it likes."""

    def __init__(self, talk: Talk, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.received = bytearray()
        """Every byte of a request, also of one that never became whole; of TLS, what came through it."""
        self.connections = 0
        self._talk = talk
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._probe: tuple[str, int] | None = None
        self._probed = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}"

    def wait(self, seconds: float) -> bool:
        """True once the test is over."""
        return self._over.wait(seconds)

    def settle(self) -> None:
        """Wait until all that clients did before is in `connections` and `received`; they must have hung up."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._probe = probe.getsockname()
            probe.connect(("127.0.0.1", self.port))
            assert self._probed.wait(5)
        for thread in self._threads[1:]:
            thread.join(5)
            assert not thread.is_alive()

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            if peer == self._probe:
                connection.close()
                self._probed.set()
                continue
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
                    self.received += part
                self.requests.append(head)
                self._talk(connection)
        except OSError:
            return


def answering(body: bytes, *headers: str, status: str = "200 OK") -> Talk:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def talk(connection: socket.socket) -> None:
        connection.sendall(raw)

    return talk


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


def fingerprint(chain: Path) -> str:
    """The SHA-256 of the certificate in a PEM file, in hex."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain.read_text())).hexdigest()
