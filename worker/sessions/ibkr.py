"""Interactive Brokers live: what a job needs of it, and the logins that outlive jobs.

A login is a gateway's or an OAuth consumer's. All connections that use it share it, with its pacing, its penalty box
and its session; between jobs `tend` keeps that session alive and notices when a blocked one is free again.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, assert_never
from urllib.parse import urlsplit

import httpx

from worker import log
from worker.clock import Clock
from worker.connectors.ibkr_doors import GatewayDoor, OAuthDoor
from worker.connectors.ibkr_gateways import Gateway, find_gateway, open_gateway_http
from worker.connectors.ibkr_live import MEMORY_MS, IbkrLiveConnector
from worker.connectors.ibkr_login import BASE_PATH, Login
from worker.connectors.ibkr_oauth import load_keys
from worker.coverage import Windowing
from worker.errors import Failure
from worker.http import Http, is_loopback
from worker.models import DueConnection, IbkrGatewayAuth, IbkrOAuthAuth, Keepalive, Lease, Normalized, Page
from worker.normalize.ibkr_flex import Drift, flex_row_of, normalize_rows
from worker.normalize.ibkr_live import normalize_trades
from worker.retry import RetryBudget, RetryPolicy

_LOG = log.get(__name__)

MINUTE_MS: Final = 60_000

LIVE_WINDOWING: Final = Windowing(
    source="ibkr_live",
    # One answer holds all the API remembers, so everything is read again each time (reference ibkr 2.7).
    overlap=MEMORY_MS,
    deep_overlap=MEMORY_MS,
    deep_every=24 * 60 * MINUTE_MS,
    settle=5 * MINUTE_MS,
    memory=MEMORY_MS,
)

TICKLE_SECONDS: Final = 55.0
"""An idle session ends after five or six minutes; the documents advise about a minute (reference ibkr 2.6)."""
PROBE_SECONDS: Final = 55.0
"""Less than a minute, so that a login is noticed within one however the turns fall."""
OAUTH_PROBE_SECONDS: Final = 6 * 3600.0
"""What blocks an OAuth consumer takes days: its activation (reference ibkr 3.3)."""
_STRANGER_SECONDS: Final = 6 * 3600.0


class IbkrSession:
    """One job's connector and what its rows mean. Rows before `import_from` are skipped: the owner wants none."""

    def __init__(
        self,
        connector: IbkrLiveConnector,
        other_accounts: Sequence[str],
        note: Callable[[bool], str],
        *,
        import_from: int | None,
    ) -> None:
        self._connector = connector
        self._other_accounts = frozenset(other_accounts)
        self._note = note
        self._import_from = import_from

    @property
    def connector(self) -> IbkrLiveConnector:
        return self._connector

    def normalize(self, page: Page, account_ref: str) -> Normalized:
        meaning = normalize_trades(
            page.records, account_ref, aliases=self._connector.aliases, other_accounts=self._other_accounts
        )
        # The API is asked for all it remembers, whatever the window.
        return meaning.since(self._import_from)

    def read_again(self, row: Mapping[str, Any], account_ref: str) -> Normalized:
        # A statement that was imported as a file leaves its rejects with the connection too.
        if (statement_row := flex_row_of(row)) is not None:
            return normalize_rows([statement_row], (account_ref,), Drift()).since(self._import_from)
        return self.normalize(Page([row]), account_ref)

    def notes(self, *, ended: bool = False) -> dict[str, str]:
        return {"login": self._note(ended)}


@dataclass(slots=True)
class _Use:
    """A connection that uses a login."""

    login: Login
    auth_version: int
    keepalive: Keepalive
    interval: float
    looked_at: float
    """Monotonic time at which its last job ended, or it was last said to be free."""


@dataclass(frozen=True, slots=True)
class _Look:
    """When a connection without a login here was last looked at, and for how long that is enough."""

    auth_version: int
    at: float
    pause: float


@dataclass(slots=True)
class _Shared:
    """What connections share while any of them uses a login."""

    login: Login
    budget: RetryBudget = field(default_factory=RetryBudget)


class Ibkr:
    """Opens sessions and keeps logins. `transport` replaces the network, for simulators in the process."""

    def __init__(
        self,
        clock: Clock,
        *,
        worker_id: str,
        gateways: Sequence[Gateway],
        oauth_url: str,
        oauth_keys: Path | None = None,
        transport: Callable[[str], httpx.BaseTransport] | None = None,
    ) -> None:
        self._clock = clock
        self._worker_id = worker_id
        self._gateways = tuple(gateways)
        self._oauth_url = oauth_url
        self._oauth_keys = oauth_keys
        self._transport = transport
        self._lock = threading.Lock()
        self._logins: dict[tuple[str, ...], _Shared] = {}
        self._uses: dict[str, _Use] = {}
        self._looks: dict[str, _Look] = {}

    def open(self, lease: Lease, probe: bool) -> IbkrSession:
        """One job's session; raises AuthFailed when the connection's gateway or keys cannot be used at all."""
        connection, opened = lease.connection, self._clock.monotonic()
        # In one step, or `tend` could forget the login in between and a second one would pace itself.
        with self._lock:
            self._looks[connection.connection_id] = _Look(connection.auth_version, opened, _STRANGER_SECONDS)
            shared = self._login_of(lease)
            use = _Use(
                login=shared.login,
                auth_version=connection.auth_version,
                keepalive=connection.settings.ibkr_keepalive,
                interval=connection.settings.interval_minutes * 60.0,
                looked_at=opened,
            )
            self._uses[connection.connection_id] = use

        def now() -> int:
            # Convex's time: a gateway tells none, and the worker's own clock may be wrong (fault C12).
            return lease.server_now + round((self._clock.monotonic() - opened) * 1000)

        for noted in (lease.extras.get("login"), *lease.sibling_notes):
            _recall(shared.login, noted, now(), self._clock.monotonic())
        connector = IbkrLiveConnector(
            shared.login,
            account=connection.account_ref,
            taken=connection.taken_accounts,
            region=connection.settings.ibkr_region,
            clock=self._clock,
            now=now,
            budget=shared.budget,
            policy=RetryPolicy(attempts=1) if probe else RetryPolicy(),
        )

        def note(ended: bool) -> str:
            if ended:
                use.looked_at = self._clock.monotonic()
            return _note(shared.login, now(), self._clock.monotonic())

        return IbkrSession(connector, connection.other_accounts, note, import_from=connection.settings.import_from)

    def tend(self, connections: Sequence[DueConnection]) -> frozenset[str]:
        """Keep sessions up and look whether blocked ones are free again; to be called every few seconds.

        Returns the connections that should be synced now although Convex does not call them due: what blocked them
        is over, or this process has never looked.
        """
        ours = {c.connection_id: c for c in connections if c.kind in ("ibkr_gateway", "ibkr_oauth")}
        self._forget_all_but(ours)
        blocked = [c for c in ours.values() if c.status == "needs_reauth"]
        free = {c.connection_id for c in blocked if self._is_stranger(c)}
        # A login is one worker's to keep alive: two, each with a pace of its own, would tickle within one second.
        kept = {c.connection_id for c in ours.values() if c.kept_by in (None, self._worker_id)}
        with self._lock:
            uses = dict(self._uses)
        for login in {id(use.login): use.login for use in uses.values()}.values():
            using = {connection_id: use for connection_id, use in uses.items() if use.login is login}
            waiting = {c.connection_id: using[c.connection_id] for c in blocked if c.connection_id in using}
            if login.silent_for > 0:
                continue
            try:
                asked = self._keep_alive(login, [use for connection_id, use in using.items() if connection_id in kept])
                asked = asked or (bool(waiting) and self._probe(login))
            except Failure as failure:
                # A blip: the next turn tries again, for as long as it takes (fault C6).
                _LOG.info("ibkr.keepalive_failed", error=str(failure))
                continue
            if asked:
                free |= self._freed(login, waiting)
        return frozenset(free)

    def _keep_alive(self, login: Login, uses: Sequence[_Use]) -> bool:
        """A tickle, where a session is up that nobody contests and somebody wants it kept (reference ibkr 2.6).

        Returns whether one was made.
        """
        wanted = any(use.keepalive == "always" for use in uses)
        match login.state:
            case "ready" if wanted and login.idle_for >= TICKLE_SECONDS:
                state = login.ask("tickle")
                if state != "ready":
                    _LOG.info("ibkr.session_changed", state=state)
                return True
            case "ready" | "contested" | "brokerage_lost" | "in_use" | "logged_out" | None:
                # Contested or in use: a tickle would fight for the session. Lost: the next poll sees to it.
                return False
            case _:
                assert_never(login.state)

    def _probe(self, login: Login) -> bool:
        """One cheap call a minute, to see whether a person has logged in; whether there is something to be judged.

        OAuth has nobody to wait for, so nothing is asked there.
        """
        if login.headless:
            return True
        if login.idle_for < PROBE_SECONDS:
            return False
        login.ask("status")
        return True

    def _freed(self, login: Login, waiting: Mapping[str, _Use]) -> set[str]:
        """The connections worth a look: all that were blocked before somebody logged in.

        Where a session was up all the time, something else blocks: another user's login, say. That is worth a look
        at each interval only; an OAuth consumer that is not let in at all, every few hours.
        """
        if login.state == "logged_out" and not login.headless:
            return set()
        now = self._clock.monotonic()
        freed: set[str] = set()
        for connection_id, use in waiting.items():
            # With OAuth a session that is gone comes back soon; a key that is not active takes days.
            slow = login.headless and login.state != "logged_out"
            pause = OAUTH_PROBE_SECONDS if slow else use.interval
            if login.logged_in_at > use.looked_at or now - use.looked_at >= pause:
                use.looked_at = now
                freed.add(connection_id)
        return freed

    def _is_stranger(self, connection: DueConnection) -> bool:
        """Blocked since before this process began, so that nobody here watches its login yet."""
        now = self._clock.monotonic()
        with self._lock:
            if connection.connection_id in self._uses:
                return False
            look = self._looks.get(connection.connection_id)
            if look is not None and look.auth_version == connection.auth_version and now - look.at < look.pause:
                return False
            # Until a job has come of it, which takes Convex too.
            self._looks[connection.connection_id] = _Look(connection.auth_version, now, PROBE_SECONDS)
            return True

    def _forget_all_but(self, connections: dict[str, DueConnection]) -> None:
        """Connections that were removed or got other credentials no longer use their login."""
        with self._lock:
            for connection_id, use in list(self._uses.items()):
                found = connections.get(connection_id)
                if found is None or found.auth_version > use.auth_version:
                    del self._uses[connection_id]
            used = {id(use.login) for use in self._uses.values()}
            for name, shared in list(self._logins.items()):
                if id(shared.login) not in used and shared.login.silent_for == 0:
                    # Not closed: a job may still be using it. Its sockets end with it.
                    del self._logins[name]

    def _login_of(self, lease: Lease) -> _Shared:
        """The connection's login, made at its first use. The caller holds the lock."""
        auth = lease.connection.auth
        match auth:
            case IbkrGatewayAuth():
                gateway = find_gateway(self._gateways, auth.base_url, lease.connection.owner_id)
                name: tuple[str, ...] = ("gateway", gateway.address)
                if name not in self._logins:
                    transport = self._transport(gateway.address) if self._transport else None
                    http = open_gateway_http(gateway, self._clock, transport=transport)
                    self._logins[name] = _Shared(Login(http, GatewayDoor(gateway.address), self._clock))
                return self._logins[name]
            case IbkrOAuthAuth():
                name = ("oauth", hashlib.sha256(auth.model_dump_json().encode()).hexdigest())
                if name not in self._logins:
                    keys = load_keys(auth, self._oauth_keys)
                    transport = self._transport(self._oauth_url) if self._transport else None
                    http = Http(
                        self._oauth_url,
                        self._clock,
                        kind="ibkr",
                        transport=transport,
                        redirects="answer",
                        # The simulator signs its own certificate, as a gateway does.
                        loopback=is_loopback(urlsplit(self._oauth_url).hostname or ""),
                    )
                    door = OAuthDoor(keys, self._clock, base=self._oauth_url + BASE_PATH, address=self._oauth_url)
                    self._logins[name] = _Shared(Login(http, door, self._clock))
                return self._logins[name]
            case _:
                raise TypeError(f"an Interactive Brokers connection has credentials of kind {auth.kind}")


def _note(login: Login, now: int, monotonic: float) -> str:
    """What the next process must know of the login (faults A6, A15); times are Convex's."""
    noted: dict[str, int] = {}
    if login.read_at is not None:
        noted["readAt"] = now - round((monotonic - login.read_at) * 1000)
    if math.isfinite(login.idle_for):
        noted["calledAt"] = now - round(login.idle_for * 1000)
    if login.silent_for > 0:
        noted["silentUntil"] = now + round(login.silent_for * 1000)
    return json.dumps(noted)


def _recall(login: Login, note: str | None, now: int, monotonic: float) -> None:
    """Keep to what was noted, here or by another process; a note that cannot be read is as good as none."""
    try:
        noted = json.loads(note or "{}")
        silent, read = int(noted.get("silentUntil", 0)) - now, now - int(noted.get("readAt", 0))
        called = now - int(noted.get("calledAt", 0))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return
    # More than a day was never asked for: such a note is not to be believed.
    if 0 < silent <= 24 * 60 * MINUTE_MS:
        login.silence(silent / 1000)
    if login.read_at is None or monotonic - login.read_at > read / 1000:
        login.assume_read(ended=read / 1000)
    login.assume_called(ended=called / 1000)
