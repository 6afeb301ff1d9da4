"""The worker's HTTP endpoint: Sync now, health and metrics.

    POST /v1/sync   signed by Convex; wakes the scheduler. Every refusal looks the same, whatever the cause.
    GET  /healthz   the process is alive
    GET  /readyz    it can do its work: 200, or 503 with the reason
    GET  /metrics   for Prometheus

A Sync now request is only a hint: the wish itself is recorded in Convex, so a lost or repeated one does no harm.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from worker import log, metrics
from worker.clock import Clock
from worker.errors import SettingsInvalid

_LOG = log.get(__name__)

WINDOW_SECONDS: Final = 300
BODY_BYTES: Final = 4096
BODY_SECONDS: Final = 5.0
STOP_SECONDS: Final = 3.0

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
# Letters and digits on a deployment; the local server's engine adds a semicolon and the table.
_CONNECTION_ID = re.compile(r"[A-Za-z0-9_;-]{1,64}")
_ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_NO_STORE = {"cache-control": "no-store"}


class Readiness(Protocol):
    """What `/readyz` is told; `reason` is a word or two and names no connection."""

    @property
    def ready(self) -> bool: ...

    @property
    def reason(self) -> str: ...


class Refused(Exception):
    """Why a Sync now request is not believed; for the log only."""


class SyncNowGuard:
    """Decides whether a Sync now request comes from Convex, and only now."""

    def __init__(self, secret: SecretStr | None, clock: Clock) -> None:
        # Without a secret a random one does the same work, so that nobody can tell the difference.
        self._configured = secret is not None
        self._key = secret.get_secret_value().encode() if secret else secrets.token_bytes(32)
        self._clock = clock
        self._seen: dict[str, int] = {}

    def admit(self, timestamp: str, signature: str, body: bytes) -> str | None:
        """The connection that `body` asks for, None for «whatever is due»; raises Refused."""
        digest = hmac.new(self._key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        genuine = hmac.compare_digest(f"v1={digest}".encode(), signature.encode())
        if not genuine or not self._configured:
            raise Refused("signature" if self._configured else "no_secret_configured")
        now = self._clock.now() // 1000
        if not _TIMESTAMP.fullmatch(timestamp) or abs(now - int(timestamp)) > WINDOW_SECONDS:
            raise Refused("timestamp")
        # Only genuine signatures are remembered, each until its timestamp is refused anyway: the list stays short.
        self._seen = {seen: until for seen, until in self._seen.items() if until >= now}
        if digest in self._seen:
            raise Refused("replayed")
        self._seen[digest] = int(timestamp) + WINDOW_SECONDS
        return _connection_id(body)


def _connection_id(body: bytes) -> str | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("body") from None
    if not isinstance(document, dict) or not document.keys() <= {"connectionId"}:
        raise Refused("body")
    connection_id = document.get("connectionId")
    if connection_id is None and "connectionId" not in document:
        return None
    if not isinstance(connection_id, str) or not _CONNECTION_ID.fullmatch(connection_id):
        raise Refused("body")
    return connection_id


class ApiServer:
    """Serves from a thread of its own between `start` and `stop`.

    `wake` and `ready` are called on that thread and must return at once.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        secret: SecretStr | None,
        wake: Callable[[str | None], None],
        ready: Callable[[], Readiness],
        clock: Clock,
    ) -> None:
        self._host = host
        self._port = port
        self._guard = SyncNowGuard(secret, clock)
        self._wake = wake
        self._ready = ready
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listen and return the port; raises SettingsInvalid when the address cannot be had."""
        listener = self._listen()
        config = uvicorn.Config(
            self._app(),
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            limit_concurrency=64,
            timeout_graceful_shutdown=int(STOP_SECONDS),
        )
        self._server = uvicorn.Server(config)
        # The socket listens already: a request that comes before the loop runs waits in its queue.
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="api", daemon=True
        )
        self._thread.start()
        port: int = listener.getsockname()[1]
        return port

    def stop(self) -> None:
        """Finish running requests, a few seconds at most, and close the socket."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=STOP_SECONDS + 2)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            return socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            raise SettingsInvalid(
                [
                    f"TRADE_SYNC_API_PORT: cannot listen on {self._host} port {self._port} ({error.strerror}). "
                    "Choose another port, 0 for any free one, or off."
                ]
            ) from None

    def _app(self) -> Starlette:
        app = Starlette(
            routes=[
                Route("/v1/sync", self._sync, methods=_ANY_METHOD),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: _not_here},
        )
        app.router.redirect_slashes = False
        return app

    async def _sync(self, request: Request) -> Response:
        try:
            body = await asyncio.wait_for(_posted(request), BODY_SECONDS)
            headers = request.headers
            connection_id = self._guard.admit(
                headers.get("x-trade-sync-timestamp", ""), headers.get("x-trade-sync-signature", ""), body
            )
        except (Refused, ClientDisconnect, TimeoutError) as refusal:
            _LOG.info("api.sync_refused", reason=str(refusal) or "unreadable")
            return _answer({"error": "refused"}, 401)
        self._wake(connection_id)
        return _answer({"accepted": True}, 202)

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    async def _readyz(self, _: Request) -> Response:
        standing = self._ready()
        return JSONResponse(
            {"ready": standing.ready, "reason": standing.reason},
            status_code=200 if standing.ready else 503,
            headers=_NO_STORE,
        )

    async def _metrics(self, _: Request) -> Response:
        return Response(metrics.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})


async def _posted(request: Request) -> bytes:
    if request.method != "POST":
        raise Refused("method")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise Refused("size")
    return body


def _answer(document: dict[str, Any], status: int) -> Response:
    # Always closed: a refused body may be unread, and a connection that lives on would tell which refusal it was.
    return JSONResponse(document, status_code=status, headers={**_NO_STORE, "connection": "close"})


async def _not_here(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "not found"}, status_code=404, headers=_NO_STORE)
