"""One HTTP exchange with every bound it needs: total time, size, redirects, certificates, host.

`Http.request` returns whatever the server answered, a refusal too; what a status means is the caller's
business. `Http.download` does the same with a body too large for memory. What never became an answer is raised:
`Unavailable` for a broken or late exchange, `Rejected` for one that must not be tried again (redirect, wrong
certificate).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import ipaddress
import json
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from email.message import Message
from typing import IO, Any, Literal, assert_never
from urllib.parse import urlsplit

import httpcore
import httpx

from worker import log, metrics
from worker.clock import Clock
from worker.errors import Rejected, Unavailable

MAX_BYTES = 16 * 1024 * 1024
DEADLINE = 30.0
_CHUNK = 64 * 1024
_TIMEOUTS = (httpx.TimeoutException, httpcore.TimeoutException)
_BROKEN = (
    httpx.TransportError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ConnectionNotAvailable,
    httpcore.UnsupportedProtocol,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are case-insensitive; the body is decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Download:
    """What came back without its body, of which `size` bytes were written elsewhere, decompressed."""

    status: int
    headers: Mapping[str, str]
    size: int


class Http:
    """A pooled client for one host.

    `deadline` ends the whole exchange, also one that drips a byte a second (faults A2, A3). `count` is told
    `(kind, outcome)` of every exchange. `transport` replaces the network, for simulators in the process.

    Two kinds of trust replace the public authorities of `verify`. With `pinned`, the SHA-256 fingerprint of a
    certificate in hex, exactly that certificate is accepted, whatever its name, date or issuer. With `loopback`
    any certificate is, but connections go to this machine only; with both, both are asked for.

    `redirects` says whether a 3xx is a failure or an answer like any other. It is never followed.
    """

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        *,
        kind: str,
        transport: httpx.BaseTransport | None = None,
        deadline: float = DEADLINE,
        max_bytes: int = MAX_BYTES,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        pinned: str | None = None,
        loopback: bool = False,
        redirects: Literal["refuse", "answer"] = "refuse",
        count: Callable[[str, str], None] = metrics.broker_call,
    ) -> None:
        parts = urlsplit(base_url)
        if pinned is not None and parts.scheme != "https":
            raise ValueError("only an https address has a certificate that can be pinned")
        self._base_url = base_url.rstrip("/")
        self._host = parts.netloc
        self._redirects = redirects
        self._clock = clock
        self._kind = kind
        self._seconds = deadline
        self._max_bytes = max_bytes
        self._count = count
        self._deadline = _Deadline(clock)
        trust = _Trust(
            self._host,
            verify=verify if pinned is None and not loopback else False,
            pinned=None if pinned is None else read_fingerprint(pinned),
            # A name that means this machine must not lead elsewhere, whoever answers for it (fault F7).
            loopback=loopback or is_loopback(parts.hostname or ""),
        )
        self._client = httpx.Client(
            transport=transport or _Transport(self._deadline, trust),
            headers={"user-agent": "trade-sync-worker", "accept-encoding": "gzip", **(headers or {})},
            timeout=deadline,
            follow_redirects=False,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """One exchange, no retry."""
        body = io.BytesIO()
        got = self._exchange(
            _Ask(method, path, content, headers, params), body, seconds=self._seconds, max_bytes=self._max_bytes
        )
        return Answer(got.status, got.headers, body.getvalue())

    def download(
        self,
        path: str,
        sink: IO[bytes],
        *,
        params: Mapping[str, str] | None = None,
        deadline: float | None = None,
        max_bytes: int | None = None,
    ) -> Download:
        """One GET, no retry, whose body is written to `sink` as it arrives; after a failure a part of it is there.

        `deadline` and `max_bytes` replace those of the client: a large file may take longer than an answer. A
        server that falls silent still ends it after the client's own deadline.
        """
        return self._exchange(
            _Ask("GET", path, params=params),
            sink,
            seconds=self._seconds if deadline is None else deadline,
            max_bytes=self._max_bytes if max_bytes is None else max_bytes,
        )

    def close(self) -> None:
        self._client.close()

    def _exchange(self, ask: _Ask, sink: IO[bytes], *, seconds: float, max_bytes: int) -> Download:
        if not ask.path.startswith("/") or ask.path.startswith("//"):
            raise ValueError(f"{ask.path!r} is not a path on {self._host}")
        outcome = "broken"
        try:
            with self._deadline.within(seconds):
                got = self._transfer(ask, sink, min(seconds, self._seconds), max_bytes)
            outcome = f"{got.status // 100}xx"
        except Rejected:
            outcome = "untrusted"
            raise
        except _TIMEOUTS as error:
            outcome = "timeout"
            raise Unavailable(
                f"{self._host} did not answer within {seconds:g} s."
                if seconds <= self._seconds
                else f"{self._host} fell silent for {self._seconds:g} s, or was not done after {seconds:g} s.",
                code="timeout",
                detail=_reason(error),
            ) from error
        except _BROKEN as error:
            untrusted = _certificate_error(error)
            if untrusted is not None:
                outcome = "untrusted"
                raise Rejected(
                    f"{self._host} shows a certificate that is not valid for it, so nothing was sent.",
                    code="untrusted_certificate",
                    action="Check the address, the machine's clock and whether a proxy intercepts TLS.",
                    detail=untrusted.verify_message,
                ) from error
            raise Unavailable(
                f"The connection to {self._host} could not be made or broke off.",
                code="unreachable",
                detail=_reason(error),
            ) from error
        finally:
            self._count(self._kind, outcome)
        if not 300 <= got.status < 400:
            return got
        match self._redirects:
            case "answer":
                return got
            case "refuse":
                raise Rejected(
                    f"{self._host} sends the worker to another address, which it does not follow.",
                    code="redirected",
                    action="Check the configured address.",
                    detail=f"HTTP {got.status}",
                )
            case _:
                assert_never(self._redirects)

    def _transfer(self, ask: _Ask, sink: IO[bytes], silence: float, max_bytes: int) -> Download:
        with self._client.stream(
            ask.method,
            self._base_url + ask.path,
            content=ask.content,
            headers=ask.headers,
            params=ask.params,
            timeout=silence,
        ) as response:
            encoding = response.headers.get("content-encoding", "identity").strip().lower()
            body = _Plain(self._host, encoding, sink, max_bytes)
            # The raw stream: httpx would inflate a chunk of any size at once.
            assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - narrows the type
            for chunk in response.stream:
                body.take(chunk)
                self._deadline.check()
            return Download(response.status_code, response.headers, body.end())


@dataclass(frozen=True, slots=True)
class _Ask:
    """What is sent."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] | None = None
    params: Mapping[str, str] | None = None


class _Plain:
    """A body on its way into `sink`, decompressed, stopped as soon as it is larger than `max_bytes` in either form."""

    def __init__(self, host: str, encoding: str, sink: IO[bytes], max_bytes: int) -> None:
        self._host = host
        self._encoding = encoding
        self._sink = sink
        self._max_bytes = max_bytes
        self._inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if encoding in ("gzip", "x-gzip") else None
        self._received = 0
        self._size = 0

    def take(self, chunk: bytes) -> None:
        """A part of the body has arrived."""
        self._received += len(chunk)
        if self._received > self._max_bytes:
            raise self._too_large()
        if not chunk:
            return
        if self._inflate is None:
            if self._encoding not in ("", "identity"):
                raise _unexpected(self._host, f"content-encoding {self._encoding[:40]}")
            self._write(chunk)
            return
        while chunk:
            try:
                self._write(self._inflate.decompress(chunk, _CHUNK))
            except zlib.error as error:
                raise _unexpected(self._host, f"content-encoding gzip, but {error}") from error
            chunk = self._inflate.unconsumed_tail

    def end(self) -> int:
        """The size, once all of it has arrived."""
        if self._inflate is not None and self._received:
            self._write(self._inflate.flush())
            if not self._inflate.eof:
                raise _unexpected(self._host, "gzip body cut short")
        return self._size

    def _write(self, plain: bytes) -> None:
        self._size += len(plain)
        if self._size > self._max_bytes:
            raise self._too_large()
        self._sink.write(plain)

    def _too_large(self) -> Unavailable:
        return Unavailable(
            f"The answer of {self._host} is larger than {self._max_bytes // 1024 // 1024} MiB; reading was stopped.",
            code="answer_too_large",
        )


def document(answer: Answer) -> Any:
    """The JSON document of an answer, numbers exact: `Decimal` for any with a point or exponent, else `int`.

    An HTML page, a byte order mark, another charset, half a document: none of them is data, and none of them
    proves anything but trouble on the way, hence `Unavailable` (faults A11, A12). A bare `NaN` is let through
    as a Decimal: that is one broken number, and the normaliser quarantines its row.
    """
    header = Message()
    header["content-type"] = answer.headers.get("content-type", "application/json")
    kind, charset = header.get_content_type(), header.get_content_charset("utf-8")
    if kind != "application/json" and not kind.endswith("+json"):
        raise _unexpected("The server", f"HTTP {answer.status}, {kind}: {_excerpt(answer.body)}")
    if charset.replace("_", "-") not in ("utf-8", "utf8", "us-ascii"):
        raise _unexpected("The server", f"HTTP {answer.status}, charset {charset[:40]}")
    try:
        return json.loads(answer.body.decode("utf-8"), parse_float=Decimal, parse_constant=Decimal)
    except (ValueError, RecursionError) as error:
        raise _unexpected("The server", f"HTTP {answer.status}, {error}: {_excerpt(answer.body)}") from error


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port in their one spelling: lower case, the port always known."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://" + (f"[{self.host}]" if ":" in self.host else self.host) + f":{self.port}"


def read_origin(url: str) -> Origin:
    """The origin that `url` is, or ValueError with what is wrong with it (fault F7)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("not an https:// address") from None
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port is not a number from 1 to 65535") from None
    host = (parts.hostname or "").lower()
    # urlsplit forgives line ends and tabs inside an address; nothing that comes after it may have to.
    if parts.scheme not in ("https", "http") or not host or not url.isprintable() or " " in url:
        raise ValueError("not an https:// address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address must not hold a user name or password")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("only scheme and host are expected, no path or query")
    if port == 0:
        raise ValueError("the port is not a number from 1 to 65535")
    return Origin(parts.scheme, host, port or (443 if parts.scheme == "https" else 80))


def check_base_url(url: str, allowed_hosts: Collection[str], *, loopback: bool = False) -> str:
    """`url` without a trailing slash, or ValueError with what is wrong with it (fault F7).

    Allowed are https to a named host of `allowed_hosts` and, with `loopback`, http or https to this machine.
    Credentials go to that address, so anything else (another host, `user@host`, a metadata address, `file:`)
    is refused before a socket is opened.
    """
    origin = read_origin(url)
    if loopback and is_loopback(origin.host):
        return url.rstrip("/")
    if origin.scheme != "https":
        raise ValueError("http is allowed on this machine only, use https")
    if origin.host not in allowed_hosts:
        raise ValueError(f"{origin.host} is not one of {', '.join(sorted(allowed_hosts))}")
    if origin.port != 443:
        raise ValueError("only the standard https port is allowed")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine. An IPv4 address dressed as IPv6 is nobody's way to write that."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def read_fingerprint(text: str) -> bytes:
    """The SHA-256 that `text` spells in hex, with or without colons, or ValueError."""
    try:
        digest = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("a SHA-256 fingerprint has 64 hex digits")
    return digest


def _unexpected(who: str, detail: str) -> Unavailable:
    return Unavailable(
        f"{who} answered with something other than the expected document.", code="unexpected_answer", detail=detail
    )


def _excerpt(body: bytes) -> str:
    return repr(log.redact(body[:8192].decode("utf-8", "replace"))[:120])


def _reason(error: Exception) -> str:
    return log.redact(f"{type(error).__name__}: {error}")[:200]


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return None


@dataclass(frozen=True, slots=True)
class _Trust:
    """Which machine a connection may go to, and which certificate that must show, before a request is sent."""

    host: str
    verify: ssl.SSLContext | bool
    pinned: bytes | None
    loopback: bool

    def context(self) -> ssl.SSLContext:
        return self.verify if isinstance(self.verify, ssl.SSLContext) else httpx.create_ssl_context(self.verify)

    def check_addresses(self, addresses: Iterable[str]) -> None:
        """All of them, before the first is tried: raises Rejected for a name that leads to another machine."""
        if self.loopback and not all(is_loopback(address) for address in addresses):
            raise Rejected(
                f"{self.host} should be this machine, but the name leads to another one, so nothing was sent.",
                code="untrusted_address",
                action="Check what the name resolves to, or use 127.0.0.1.",
            )

    def check_certificate(self, connection: object) -> None:
        """Right after the handshake: raises Rejected for another certificate than the pinned one."""
        if self.pinned is None:
            return
        shown = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
        fingerprint = hashlib.sha256(shown or b"").digest()
        if shown is None or fingerprint != self.pinned:
            raise Rejected(
                f"{self.host} shows another certificate than the pinned one, so nothing was sent. The SHA-256 "
                f"fingerprint of what it shows is {fingerprint.hex(':').upper()}.",
                code="untrusted_certificate",
                action="Compare this fingerprint with the server's own. Where they agree, the setting is out of date; "
                "where not, somebody sits in between.",
            )


class _Deadline(threading.local):
    """When the exchange of the current thread must be over.

    Time-outs of sockets restart with every byte; each of them is therefore cut to what is left in total.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: float | None = None

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        self._ends = self._clock.monotonic() + seconds
        try:
            yield
        finally:
            self._ends = None

    def left(self, timeout: float | None = None) -> float | None:
        if self._ends is None:
            return timeout
        left = self._ends - self._clock.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the total time is used up")
        return left if timeout is None else min(timeout, left)

    def check(self) -> None:
        self.left()


class _Stream(httpcore.NetworkStream):
    """A socket whose every operation ends with the exchange's deadline, and whose other end is trusted."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline, trust: _Trust) -> None:
        self._inner = inner
        self._deadline = deadline
        self._trust = trust

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        try:
            self._trust.check_certificate(inner.get_extra_info("socket"))
        except Rejected:
            inner.close()
            raise
        return _Stream(inner, self._deadline, self._trust)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens sockets within the deadline, also when a name has several addresses that do not answer."""

    def __init__(self, deadline: _Deadline, trust: _Trust) -> None:
        self._inner = httpcore.SyncBackend()
        self._deadline = deadline
        self._trust = trust

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} has no address: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        self._trust.check_addresses(addresses)
        for position, address in enumerate(addresses):
            left = self._deadline.left(timeout)
            share = left and left / (len(addresses) - position)
            try:
                inner = self._inner.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(addresses) - 1:
                    raise
            else:
                return _Stream(inner, self._deadline, self._trust)
        raise httpcore.ConnectError(f"{host} has no address")


class _Transport(httpx.BaseTransport):
    """httpx over a pool whose sockets know the deadline; httpx offers no way to hand one in."""

    def __init__(self, deadline: _Deadline, trust: _Trust) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=trust.context(), keepalive_expiry=20.0, network_backend=_Backend(deadline, trust)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Body(answer.stream),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner

    def close(self) -> None:
        self._inner.close()
