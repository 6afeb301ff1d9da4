"""How a simulated broker is reached: over real HTTP on loopback, or in-process as an httpx transport.

A broker turns a Request into an Answer and never touches a socket. An Answer also says how it is to be
delivered, so that a hung or dripping connection behaves alike on the wire and on a virtual clock.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Protocol, assert_never
from urllib.parse import urlsplit

import httpx

from sandbox.brokers.certificate import SelfSigned, self_signed
from worker.clock import Clock

MAX_REQUEST_BYTES = 1 << 20
_ENDLESS_CHUNK = b" " * 16_384

Way = Literal["whole", "cut", "drip", "endless", "hang", "reset", "refuse"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer travels.

    cut: the connection ends after the body although more was announced (`announced` bytes) · drip: `rate`
    bytes a second · endless: the body and then blanks for ever · hang: no answer at all · reset: the
    connection breaks · refuse: as if nobody listened; on a socket that already accepted, the same as reset.
    """

    way: Way = "whole"
    delay: float = 0.0
    rate: float = 1.0
    announced: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    host: str
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}{self.path}" + (f"?{self.query}" if self.query else "")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    delivery: Delivery = Delivery()
    when_delivered: Callable[[], None] | None = None
    """Called once the answer is on its way, however that went."""

    @classmethod
    def of_json(cls, document: object, status: int = 200) -> Answer:
        return cls(status, dump_json(document).encode(), {"Content-Type": "application/json; charset=utf-8"})


class Broker(Protocol):
    def handle(self, request: Request) -> Answer: ...


def dump_json(value: object) -> str:
    """JSON in which a Decimal is a number with exactly its digits; a float could change the last of seven."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(key))}:{dump_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(dump_json(item) for item in value) + "]"
    return json.dumps(value)


class InProcessTransport(httpx.BaseTransport):
    """Serves an httpx client without a socket; waiting costs only virtual time."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._broker.handle(
            Request(
                method=request.method,
                path=request.url.path,
                query=request.url.query.decode(),
                headers={name.lower(): value for name, value in request.headers.items()},
                body=request.read(),
                host=request.url.netloc.decode(),
                scheme=request.url.scheme,
            )
        )
        try:
            return self._delivered(request, answer)
        finally:
            if answer.when_delivered is not None:
                answer.when_delivered()

    def _delivered(self, request: httpx.Request, answer: Answer) -> httpx.Response:
        delivery = answer.delivery
        self._wait(request, delivery.delay)
        match delivery.way:
            case "refuse":
                raise httpx.ConnectError("Connection refused", request=request)
            case "reset":
                raise httpx.ReadError("Connection reset by peer", request=request)
            case "hang":
                self._wait(request, float("inf"))
            case "whole" | "cut" | "drip" | "endless":
                pass
            case _:
                assert_never(delivery.way)
        headers = dict(answer.headers)
        if delivery.way != "endless":
            headers["Content-Length"] = str(delivery.announced or len(answer.body))
        return httpx.Response(
            answer.status, headers=headers, stream=_Body(answer, self._clock, request), request=request
        )

    def _wait(self, request: httpx.Request, seconds: float) -> None:
        limit = request.extensions.get("timeout", {}).get("read")
        if limit is None and seconds == float("inf"):
            raise AssertionError("the client set no time-out: on a real network it would wait for ever")
        if limit is not None and seconds > limit:
            self._clock.sleep(limit)
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        if seconds > 0:
            self._clock.sleep(seconds)


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: Answer, clock: Clock, request: httpx.Request) -> None:
        self._answer = answer
        self._clock = clock
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        body, delivery = self._answer.body, self._answer.delivery
        if delivery.way == "drip":
            for position in range(len(body)):
                self._clock.sleep(1 / delivery.rate)
                yield body[position : position + 1]
            return
        yield body
        if delivery.way == "cut":
            raise httpx.RemoteProtocolError(
                "peer closed connection without sending complete message body", request=self._request
            )
        while delivery.way == "endless":
            yield _ENDLESS_CHUNK


class _Http(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], certificate: SelfSigned | None
    ) -> None:
        self._open: set[socket.socket] = set()
        self._certificate = certificate
        super().__init__(address, handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self._certificate is not None:
            # Here, in the connection's own thread: a client that never shakes hands must not hold up others.
            request = self._certificate.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)

    def hang_up(self) -> None:
        """End kept-alive connections too: a broker that is down answers on none."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # under TLS, if any

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


class BrokerServer:
    """A broker behind real sockets on loopback, one thread a connection; `tls` with a certificate of its own."""

    def __init__(self, broker: Broker, port: int = 0, *, tls: bool = False) -> None:
        self._stop = threading.Event()
        self._certificate = self_signed() if tls else None
        self._http = _Http(
            ("127.0.0.1", port), _handler_for(broker, self._stop, "https" if tls else "http"), self._certificate
        )
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"{'http' if self._certificate is None else 'https'}://127.0.0.1:{self._http.server_port}"

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of the certificate, as openssl writes it; None without TLS."""
        return None if self._certificate is None else self._certificate.fingerprint

    @property
    def certificate(self) -> str | None:
        """The certificate as PEM; None without TLS."""
        return None if self._certificate is None else self._certificate.pem

    def close(self) -> None:
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up()
        self._thread.join()

    def __enter__(self) -> BrokerServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _handler_for(broker: Broker, stop: threading.Event, scheme: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def do_DELETE(self) -> None:
            self._serve()

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent: standard output belongs to the one JSON line, calls are in the audit."""

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > MAX_REQUEST_BYTES:
                self.close_connection = True
                self.send_error(413)
                return
            target = urlsplit(self.path)
            request = Request(
                method=self.command,
                path=target.path,
                query=target.query,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(length),
                host=self.headers.get("Host", ""),
                scheme=scheme,
            )
            answer = broker.handle(request)
            try:
                self._deliver(answer)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                self.close_connection = True  # the client gave up first, which is what most faults are for
            finally:
                if answer.when_delivered is not None:
                    answer.when_delivered()

        def _deliver(self, answer: Answer) -> None:
            delivery = answer.delivery
            if delivery.delay > 0 and not self._pause(delivery.delay):
                return
            match delivery.way:
                case "hang":
                    self._pause(None)
                    self.close_connection = True
                case "reset" | "refuse":
                    self._reset()
                case "whole":
                    self.wfile.write(self._head(answer, len(answer.body)) + answer.body)
                case "cut":
                    self.close_connection = True
                    self.wfile.write(self._head(answer, delivery.announced or len(answer.body) + 1) + answer.body)
                case "drip":
                    self.wfile.write(self._head(answer, len(answer.body)))
                    for position in range(len(answer.body)):
                        if not self._pause(1 / delivery.rate):
                            return
                        self.wfile.write(answer.body[position : position + 1])
                case "endless":
                    self.close_connection = True
                    self.wfile.write(self._head(answer, None) + answer.body)
                    while not stop.is_set():
                        self.wfile.write(_ENDLESS_CHUNK)
                case _:
                    assert_never(delivery.way)

        def _head(self, answer: Answer, length: int | None) -> bytes:
            lines = [f"HTTP/1.1 {answer.status} {self.responses.get(answer.status, ('', ''))[0]}"]
            lines += [f"{name}: {value}" for name, value in answer.headers.items()]
            lines += [f"Date: {self.date_time_string()}"]
            if length is not None:
                lines += [f"Content-Length: {length}"]
            if self.close_connection:
                lines += ["Connection: close"]
            return "\r\n".join([*lines, "", ""]).encode("latin-1")

        def _pause(self, seconds: float | None) -> bool:
            """Wait that long (None: for ever); False as soon as the client leaves or the server stops."""
            waited = 0.0
            while seconds is None or waited < seconds:
                slice_ = 0.05 if seconds is None else min(0.05, seconds - waited)
                if stop.wait(slice_) or self._client_left():
                    self.close_connection = True
                    return False
                waited += slice_
            return True

        def _client_left(self) -> bool:
            try:
                # Under TLS, if any: its sockets cannot peek.
                return len(socket.socket.recv(self.connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)) == 0
            except BlockingIOError:
                return False
            except OSError:
                return True

        def _reset(self) -> None:
            """Close with RST instead of FIN; the reader shares the socket, so it has to be closed first."""
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    return Handler
