"""Kraken spot, read only: signed requests, key inspection, and the paged read of executed trades.

Section numbers are those of reference kraken. What a page means is `worker.normalize.kraken`'s business.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
import hashlib
import hmac
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import urlencode

import httpx

from worker import log
from worker.clock import Clock
from worker.connectors.kraken_errors import Rule, classify, envelope, throttled_until
from worker.connectors.kraken_walk import CUT_PAGES, PAGE, Row, Walk, count_of
from worker.errors import AuthFailed, Failure, IncompleteReport, Rejected, RetryLater, Unavailable
from worker.http import Answer, Http, document
from worker.models import KrakenAuth, Page, Standing, Window
from worker.pacing import LONGEST_SLEEP, DecayingCounter
from worker.retry import LONGEST_DELAY, RetryBudget, RetryPolicy, asked_wait, retrying

_LOG = log.get(__name__)

HOST: Final = "api.kraken.com"
BASE_URL: Final = f"https://{HOST}"

LOCKOUT_SECONDS: Final = 15 * 60.0
MAINTENANCE_SECONDS: Final = 15 * 60.0
NOT_READY_SECONDS: Final = 60.0
PUBLIC_BURST: Final = 10.0
EXPIRY_WARNING_DAYS: Final = 14
_MAX_THROTTLED: Final = 3

Endpoint = Literal[
    "SystemStatus", "Time", "MaintenanceSchedule", "AssetPairs", "Assets", "GetApiKeyInfo", "TradesHistory"
]


@dataclass(frozen=True, slots=True)
class Read:
    """A call this connector makes: what it costs (3.1), and a member without which its result is no answer."""

    access: Literal["public", "private"]
    cost: int = 0
    holds: str = ""


READS: Final[Mapping[Endpoint, Read]] = MappingProxyType(
    {
        "SystemStatus": Read("public", holds="status"),
        "Time": Read("public", holds="unixtime"),
        "MaintenanceSchedule": Read("public"),
        "AssetPairs": Read("public"),
        "Assets": Read("public"),
        "GetApiKeyInfo": Read("private", cost=1),
        "TradesHistory": Read("private", cost=2, holds="trades"),
    }
)
"""All of Kraken that is ever called (fault F6): nothing here can change an account."""

_FORBIDDEN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "modify-trades": "Create & modify orders",
        "close-trades": "Cancel & close orders",
        "withdraw-funds": "Withdraw funds",
        "add-funds": "Deposit funds",
        "earn-funds": "Earn funds",
        "add-withdraw-address": "Add withdrawal addresses",
        "update-withdraw-address": "Update withdrawal addresses",
    }
)
_HARMLESS: Final = frozenset(
    {
        "query-closed-trades",
        "query-open-trades",
        "query-ledger",
        "query-funds",
        "export-data",
        "create-ws-token",
    }
)
_NEEDED: Final = "query-closed-trades"
_STATES: Final = frozenset({"online", "maintenance", "cancel_only", "post_only", "limit_only"})


class Nonces:
    """The rising numbers of one API key (2.2): one set for each key in the process.

    Whoever takes a number keeps the others waiting until the request is out and answered, so that numbers
    arrive in the order they were made. Nanoseconds by the wall clock, but never less than the last plus one:
    clock steps and threads cannot make one fall.
    """

    def __init__(self, clock: Clock, last: int = 0) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = last

    @contextlib.contextmanager
    def next(self) -> Iterator[int]:
        with self._lock:
            self._last = max(self._last + 1, self._clock.now() * 1_000_000)
            yield self._last

    @property
    def last(self) -> int:
        """The highest number so far."""
        return self._last

    def rise_to(self, nonce: int) -> None:
        """Go on above `nonce`, which Kraken may have seen; a number out of int64 is not believed."""
        with self._lock:
            if nonce < 2**63:
                self._last = max(self._last, nonce)


def sign(secret: bytes, path: str, nonce: str, body: str) -> str:
    """The API-Sign header (2.1)."""
    digest = hashlib.sha256((nonce + body).encode()).digest()
    return base64.b64encode(hmac.new(secret, path.encode() + digest, hashlib.sha512).digest()).decode()


@dataclass(frozen=True, slots=True)
class RawPairs:
    """AssetPairs and Assets as Kraken answers them, currencies and tokenised assets together."""

    pairs: Mapping[str, Any]
    assets: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Trouble:
    """An error that needs more than backing off."""

    rule: Rule
    text: str
    wait: float = 0.0


def public_counter(clock: Clock) -> DecayingCounter:
    """About one public call a second for an address, with some at once (3.1): for all connections of the process."""
    return DecayingCounter(PUBLIC_BURST, 1.0, clock)


class KrakenConnector:
    """A `worker.models.Connector`.

    `nonces` and `counter` belong to the API key, `budget` to the connection and `public` to the address: share them
    within the process.
    `policy` says how often one request is tried; a half-open breaker wants `RetryPolicy(attempts=1)`.
    """

    def __init__(
        self,
        auth: KrakenAuth,
        *,
        clock: Clock,
        nonces: Nonces,
        counter: DecayingCounter,
        public: DecayingCounter | None = None,
        base_url: str = BASE_URL,
        transport: httpx.BaseTransport | None = None,
        budget: RetryBudget | None = None,
        policy: RetryPolicy | None = None,
        chance: Callable[[], float] = random.random,
        cut_pages: int = CUT_PAGES,
    ) -> None:
        log.protect(auth.api_key.strip(), auth.api_secret.strip(), auth.otp)
        self._key = auth.api_key.strip()
        self._secret_text = auth.api_secret.strip()
        self._otp = {"otp": auth.otp} if auth.otp else {}
        self._clock = clock
        self._nonces = nonces
        self._counter = counter
        self._public = public or public_counter(clock)
        self._budget = budget or RetryBudget()
        self._policy = policy or RetryPolicy()
        self._chance = chance
        self._cut_every = cut_pages * PAGE
        self._http = Http(base_url, clock, kind="kraken", transport=transport)

    # The Connector protocol

    def check(self, *, inspect: bool) -> Standing:
        """System status, and with `inspect` what the key may do, whose it is and when it ends (2.3, 3.4)."""
        status = self._call("SystemStatus")
        now = self._broker_time(status)
        state = str(status["status"])
        if state == "maintenance":
            raise RetryLater(
                "Kraken is under maintenance. The sync goes on by itself afterwards.",
                until=self._clock.now() + self._maintenance_left(now),
                reason="maintenance",
            )
        if state not in _STATES:
            _LOG.warning("kraken.unknown_status", status=state[:40])
        return self._inspected(now) if inspect else Standing(now=now)

    def fetch(self, window: Window, resume: str | None = None) -> Iterator[Page]:
        """The trades of `window`, newest first, each page sorted by time and id.

        Bounds are sent as whole seconds, rounded outwards: whether Kraken honours fractions is unknown (1.1),
        and a row that comes twice does no harm. `kraken_walk` says when the window is complete.
        """
        walk = Walk.resumed(resume, window, self._cut_every)
        if walk.ofs:
            self._counter.inherit()
        while True:
            rest = walk.rest_if_cut()
            records, rows, count = self._trades(rest or walk)
            drained: Window | None = None
            if rest is not None:
                if not walk.proves(rest, count):
                    _LOG.info("kraken.window_not_cut", counted=walk.count, seen=walk.seen, older=count)
                    continue
                drained = Window(start=rest.window.end, end=walk.window.end)
                walk = walk.cut(rest)
            step = walk.take(rows, count)
            match step:
                case "complete":
                    end = drained.end if drained else walk.window.end
                    yield Page(records, drained=Window(start=walk.window.start, end=end), total=walk.total)
                    return
                case "more":
                    yield Page(records, drained=drained, resume=walk.token(), total=walk.total)
                case "again":
                    _LOG.info("kraken.window_moved", seen=walk.seen, count=walk.count)
                    walk = walk.restarted()
                    yield Page(records, drained=drained, resume=walk.token(), total=count)
                case "incomplete" | "endless":
                    yield Page(records, drained=drained)
                    raise _not_whole(walk, endless=step == "endless")

    def close(self) -> None:
        self._http.close()

    # Reference data

    def fetch_pairs(self) -> RawPairs:
        """All pairs and assets. Without filter: long lists in the address made Kraken's proxy fail (4.1)."""
        pairs: dict[str, Any] = {}
        assets: dict[str, Any] = {}
        for endpoint, fields, found in (
            ("AssetPairs", {}, pairs),
            ("AssetPairs", {"aclass_base": "tokenized_asset"}, pairs),
            ("Assets", {}, assets),
            ("Assets", {"aclass": "tokenized_asset"}, assets),
        ):
            self._clock.sleep(1.0)  # public calls: about one a second for an address (3.1)
            try:
                found.update(self._call(endpoint, fields))  # type: ignore[arg-type]
            except Rejected as refusal:
                if not fields:
                    raise
                _LOG.warning("kraken.no_tokenised_assets", error=str(refusal))
        return RawPairs(pairs, assets)

    # Trades

    def _trades(self, walk: Walk) -> tuple[list[Mapping[str, Any]], list[Row], int | None]:
        fields = {"end": str(-(-walk.window.end // 1000)), "ofs": str(walk.ofs)}
        if walk.window.start > 0:
            fields["start"] = str(walk.window.start // 1000)
        result = self._call("TradesHistory", fields)
        found = [(Row(txid, _time(raw)), raw) for txid, raw in result["trades"].items()]
        found.sort(key=lambda pair: (pair[0].time or Decimal(0), pair[0].txid))
        records: list[Mapping[str, Any]] = [
            {**raw, "txid": row.txid} if isinstance(raw, Mapping) else {"unreadable": raw, "txid": row.txid}
            for row, raw in found
        ]
        return records, [row for row, _ in found], count_of(result.get("count"))

    # The key

    def _inspected(self, now: int) -> Standing:
        try:
            raw = self._call("GetApiKeyInfo")
        except Rejected as refusal:
            # Not offered to every account (2.3); the cheapest signed read proves the key at least works.
            if refusal.code not in ("kraken_bug", "kraken_disabled"):
                raise
            raw = {}
        info = {str(name).replace("_", "").lower(): value for name, value in raw.items()}
        permissions = info.get("permissions")
        if not isinstance(permissions, list):
            self._call("TradesHistory", {"start": "0", "end": "0"})
            return Standing(
                now=now,
                notices=(
                    "Kraken does not tell what this API key may do. Make sure that only Query closed orders & trades "
                    "is ticked.",
                ),
            )
        self._nonces.rise_to(_integer(info.get("nonce")))
        notices = (
            *_judge_permissions([log.redact(str(name)) for name in permissions]),
            *_judge_validity(_integer(info.get("validuntil")), now),
            *_judge_range(_integer(info.get("queryfrom")), _integer(info.get("queryto"))),
        )
        account = info.get("iban")
        return Standing(
            now=now,
            account_ref=account.strip() or None if isinstance(account, str) else None,
            notices=notices,
        )

    # Time and maintenance

    def _broker_time(self, status: Mapping[str, Any]) -> int:
        stamp = _instant(status.get("timestamp"))
        if stamp is None:
            stamp = _integer(self._call("Time")["unixtime"]) * 1000
        if stamp <= 0:
            raise _transient("Kraken does not tell the time.", "kraken_no_time")
        return stamp

    def _maintenance_left(self, now: int) -> int:
        """Milliseconds until the announced end, else a quarter of an hour."""
        left = int(MAINTENANCE_SECONDS * 1000)
        try:
            events = self._call("MaintenanceSchedule").get("events")
        except Failure as failure:
            _LOG.info("kraken.no_schedule", error=str(failure))
            return left
        for event in events if isinstance(events, list) else ():
            if isinstance(event, Mapping):
                start, end = _instant(event.get("expected_start_utc")), _instant(event.get("expected_end_utc"))
                if start is not None and end is not None and start <= now < end:
                    return min(end - now, int(LONGEST_DELAY * 1000))
        return left

    # One call

    def _call(self, endpoint: Endpoint, fields: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        """The result of a read, after whatever waiting and trying again its errors ask for (3.3)."""
        throttled = 0
        nonce_refused = False
        while True:
            reply = retrying(
                lambda: self._exchange(endpoint, fields or {}),
                clock=self._clock,
                budget=self._budget,
                policy=self._policy,
                chance=self._chance,
            )
            if not isinstance(reply, _Trouble):
                return reply
            match reply.rule.action:
                case "throttle" | "wait_until":
                    throttled += 1
                    self._wait_out(reply, throttled)
                case "nonce" if not nonce_refused:
                    nonce_refused = True
                case "lockout":
                    self._counter.silence(LOCKOUT_SECONDS)
                    raise RetryLater(
                        "Kraken has locked this key or address out for a while, after too many refused calls. The "
                        "sync goes on by itself; check that no other program uses the key.",
                        until=self._clock.now() + int(LOCKOUT_SECONDS * 1000),
                        reason="rate_limited",
                        code="kraken_lockout",
                        detail=reply.text,
                    )
                case "not_ready":
                    raise RetryLater(
                        "Kraken is still making the report; the sync fetches it when it is ready.",
                        until=self._clock.now() + int(NOT_READY_SECONDS * 1000),
                        reason="report_not_ready",
                        detail=reply.text,
                    )
                case _:
                    raise _final(reply, endpoint)

    def _wait_out(self, trouble: _Trouble, times: int) -> None:
        """Keep still as long as a rate limit asks; longer than a minute becomes an appointment."""
        named = throttled_until(trouble.text) if trouble.rule.action == "wait_until" else None
        if named is None:
            self._counter.fill()
            wait = self._counter.drain_seconds * 2.0 ** (times - 1)
        else:
            wait = max((named - self._clock.now()) / 1000, 2.0**times)
        wait = min(max(wait, trouble.wait), LONGEST_DELAY)
        if wait > LONGEST_SLEEP or times > _MAX_THROTTLED:
            raise RetryLater(
                "Kraken's rate limit is used up; the sync goes on by itself when it has recovered.",
                until=self._clock.now() + int(wait * 1000) + 1,
                reason="rate_limited",
                detail=trouble.text,
            )
        self._clock.sleep(wait)

    def _exchange(self, endpoint: Endpoint, fields: Mapping[str, str]) -> Mapping[str, Any] | _Trouble:
        """One request and what its answer means; raises Unavailable for what backing off may mend."""
        read = READS[endpoint]
        path = f"/0/{read.access}/{endpoint}"
        self._counter.acquire(read.cost)
        if read.access == "public":
            self._public.acquire(1)
            return self._read(self._http.request("GET", path, params=fields), read)
        secret = self._secret()
        with self._nonces.next() as nonce:
            body = urlencode({"nonce": nonce, **fields, **self._otp})
            answer = self._http.request(
                "POST",
                path,
                content=body.encode(),
                headers={
                    "API-Key": self._key,
                    "API-Sign": sign(secret, path, str(nonce), body),
                    "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
                },
            )
        return self._read(answer, read)

    def _read(self, answer: Answer, read: Read) -> Mapping[str, Any] | _Trouble:
        """The body before the status: Kraken's own texts also come with 4xx and 5xx (3.3)."""
        strange: Unavailable | None = None
        try:
            data = document(answer)
        except Unavailable as error:
            data, strange = None, error
        content = envelope(data)
        for warning in content.warnings if content else ():
            _LOG.warning("kraken.warning", text=warning)
        if content is not None and content.error is not None:
            rule = classify(content.error)
            if rule.action != "unknown" or answer.status == 200:
                return self._trouble(rule, content.error, answer)
        if answer.status != 200:
            return self._refused(answer, is_json=strange is None)
        if strange is not None:
            raise strange
        result = content.result if content else None
        if not isinstance(result, Mapping) or (read.holds and read.holds not in result):
            raise _transient("Kraken answered without a result.", "kraken_no_result")
        if read.holds == "trades" and not isinstance(result["trades"], Mapping):
            raise _transient("Kraken answered without a result.", "kraken_no_result")
        return result

    def _trouble(self, rule: Rule, text: str, answer: Answer) -> _Trouble:
        match rule.action:
            case "transient":
                wait = asked_wait(answer.headers, self._clock)
                raise _transient("Kraken cannot answer at the moment.", "kraken_unavailable", text, wait)
            case "unknown":
                raise _transient(
                    f"Kraken answered with an error unknown to this version: {text}", "kraken_unknown", text
                )
            case "throttle":
                return _Trouble(rule, text, asked_wait(answer.headers, self._clock))
            case _:
                return _Trouble(rule, text)

    def _refused(self, answer: Answer, *, is_json: bool) -> _Trouble:
        """A status without a text we know. A proxy's HTML page says nothing about the key (3.3)."""
        text = f"HTTP {answer.status}"
        match answer.status:
            case 429:
                return _Trouble(_THROTTLED, text, asked_wait(answer.headers, self._clock))
            case 401 | 403 if is_json:
                return _Trouble(_NOT_ALLOWED, text)
            case status if 400 <= status < 500 and status not in (401, 403, 404, 408):
                return _Trouble(_WRONG, text)
            case _:
                wait = asked_wait(answer.headers, self._clock)
                raise _transient("Kraken cannot answer at the moment.", "kraken_unavailable", text, wait)

    def _secret(self) -> bytes:
        """The secret's bytes; refuses credentials that cannot be real without bothering Kraken."""
        try:
            secret = base64.b64decode(self._secret_text, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if not secret or not self._key.isascii() or not self._key.isprintable() or not self._key:
            raise AuthFailed(
                "The Kraken API key or secret was not copied whole. Enter both again.",
                code="kraken_credentials_malformed",
                action="update_credentials",
            )
        return secret


_THROTTLED = Rule("", "throttle")
_WRONG = Rule("", "bug")
_NOT_ALLOWED = Rule("", "credentials", "Kraken does not let this API key in. Enter the key again or make a new one.")


def _final(trouble: _Trouble, endpoint: Endpoint) -> Failure:
    """The failure that ends a job for `trouble`: asking again would change nothing, or make it worse."""
    match trouble.rule.action:
        case "credentials":
            return AuthFailed(
                trouble.rule.sentence, code="kraken_credentials", action="update_credentials", detail=trouble.text
            )
        case "nonce":
            return AuthFailed(
                "Kraken refuses this worker's nonces: another program uses the same API key, or a clock was wrong. "
                "Make a key for this worker alone and enter it.",
                code="kraken_nonce",
                action="update_credentials",
                detail=trouble.text,
            )
        case "disabled":
            return Rejected(
                f"Kraken has switched {endpoint} off for this key or for everyone.",
                code="kraken_disabled",
                detail=trouble.text,
            )
        case _:
            return Rejected(
                f"Kraken does not understand the worker's request ({trouble.text}). This needs a newer version.",
                code="kraken_bug",
                detail=f"{endpoint}: {trouble.text}",
            )


def _transient(sentence: str, code: str, detail: str = "", wait: float = 0.0) -> Unavailable:
    return Unavailable(sentence, code=code, detail=detail, wait=wait)


def _not_whole(walk: Walk, *, endless: bool) -> IncompleteReport:
    if endless:
        return IncompleteReport(
            "Kraken keeps sending pages without an end. What it gave is stored; the time range is read again.",
            code="kraken_endless",
            detail=f"stopped at position {walk.ofs}, {walk.seen} different trades, count {walk.count}",
        )
    return IncompleteReport(
        f"Kraken counts {walk.count} trades in a time range but hands out {walk.seen}. What it gave is stored; the "
        "range is read again at the next sync.",
        code="kraken_incomplete",
    )


def _judge_permissions(permissions: list[str]) -> tuple[str, ...]:
    """Refuses a key that can do harm or cannot read; returns what is worth a notice."""
    excess = [f"{label} ({name})" for name, label in _FORBIDDEN.items() if name in permissions]
    if excess:
        raise AuthFailed(
            f"This Kraken API key can do more than read. On kraken.com, under Settings, API, edit it, untick "
            f"{', '.join(excess)} and save; or make a key with Query closed orders & trades only.",
            code="kraken_key_can_trade",
            action="update_credentials",
        )
    if _NEEDED not in permissions:
        raise AuthFailed(
            f"This Kraken API key may not read trades. On kraken.com, under Settings, API, edit it and tick Query "
            f"closed orders & trades ({_NEEDED}).",
            code="kraken_key_cannot_read",
            action="update_credentials",
        )
    strange = sorted(log.redact(name[:40]) for name in set(permissions) - _HARMLESS)
    if not strange:
        return ()
    return (f"This API key has permissions unknown to this version: {', '.join(strange)}. Untick them if you can.",)


def _judge_validity(valid_until: int, now: int) -> tuple[str, ...]:
    """Refuses a key that has ended; announces the end of one that soon will. 0 = no end."""
    left = valid_until * 1000 - now
    if valid_until == 0 or left > EXPIRY_WARNING_DAYS * 86_400_000:
        return ()
    if left <= 0:
        raise AuthFailed(
            f"This Kraken API key ended on {_day(valid_until)}. Make a new one and enter it.",
            code="kraken_key_expired",
            action="update_credentials",
        )
    return (f"This Kraken API key ends on {_day(valid_until)}. Make a new one before that day.",)


def _judge_range(query_from: int, query_to: int) -> tuple[str, ...]:
    bounds = [f"from {_day(query_from)}"] if query_from else []
    bounds += [f"until {_day(query_to)}"] if query_to else []
    if not bounds:
        return ()
    return (f"This Kraken API key shows trades {' '.join(bounds)} only. Older or newer ones cannot be imported.",)


def _day(seconds: int) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "an unknown day"


def _integer(value: Any) -> int:
    """A number that may come as text; 0 for anything else."""
    try:
        return int(str(value))
    except ValueError:
        return 0


def _instant(text: Any) -> int | None:
    """Epoch milliseconds of an ISO time with its zone, else None."""
    try:
        moment = dt.datetime.fromisoformat(text)
        return None if moment.tzinfo is None else round(moment.timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _time(raw: Any) -> Decimal | None:
    value = raw.get("time") if isinstance(raw, Mapping) else None
    try:
        time = Decimal(value) if isinstance(value, str | int | Decimal) else None
    except InvalidOperation:
        return None
    return time if time is not None and time.is_finite() and 0 < time < 10**11 else None
