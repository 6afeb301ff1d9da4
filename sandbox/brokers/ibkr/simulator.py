"""One Interactive Brokers login behind a Client Portal gateway, and the same login through OAuth 1.0a.

Facts and their sources: reference ibkr 1-3 and 5; the login's Flex Web Service is in `flex`. The same object answers
sockets (serving.BrokerServer) and httpx clients in this process (`transport`); every call to it is audited.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import httpx

from sandbox.brokers.audit import Audit, Call
from sandbox.brokers.faults import FaultScript
from sandbox.brokers.ibkr import answers, catalogue
from sandbox.brokers.ibkr.answers import Names
from sandbox.brokers.ibkr.flex.bookings import ids_of
from sandbox.brokers.ibkr.flex.contracts import contract_of
from sandbox.brokers.ibkr.flex.service import BASE as FLEX_BASE
from sandbox.brokers.ibkr.flex.service import FlexService
from sandbox.brokers.ibkr.inputs import Cancellation, Correction, NewFill, Quirks, Setup
from sandbox.brokers.ibkr.ledger import Entry, Fill, Ledger, Look, split_id
from sandbox.brokers.ibkr.life import Life
from sandbox.brokers.ibkr.oauth import Authority, Consumer, NotAccepted
from sandbox.brokers.ibkr.pacing import Pacing
from sandbox.brokers.ibkr.session import Brokerage, Channel, Session, Status
from sandbox.brokers.serving import Answer, Delivery, InProcessTransport, Request
from worker.clock import Clock

BASE = "/v1/api"
DAY_MS = 86_400_000
MEMORY_DAYS = 7


class _Refused(Exception):
    """The call ends with this answer."""

    def __init__(self, answer: Answer, outcome: str) -> None:
        super().__init__(outcome)
        self.answer = answer
        self.outcome = outcome


def _error(text: str, status: int) -> _Refused:
    return _Refused(answers.error(text, status), text)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One call that was let in."""

    channel: Channel
    params: Mapping[str, Any]
    now_ms: int
    monotonic: float


class IbkrSimulator:
    def __init__(self, clock: Clock, setup: Setup | None = None) -> None:
        self.clock = clock
        self.setup = setup or Setup()
        self.accounts = self.setup.accounts or (answers.account_of_seed(self.setup.seed),)
        self.address = self.setup.address
        self.audit = Audit()
        self.faults = FaultScript(envelope=_envelope)
        self.quirks = Quirks()
        self._lock = threading.RLock()
        self._in_flight = 0
        self._in_flight_lock = threading.Lock()
        self._names = Names.of_seed(self.setup.seed)
        self._selected = self.accounts[0]
        self._authority: Authority | None = None
        self._random = Random(f"ibkr shuffle {self.setup.seed}")
        self._life = Life(self.setup.seed, self.accounts, self.setup.sec_types)

        now = clock.now()
        end = self.setup.end or now
        self._opened_ms = end - 400 * DAY_MS
        recent = end - int(self.setup.days * DAY_MS)
        self.ledger = Ledger(self._life.past(self.setup.trades, recent, end))
        self._remember_years(recent)
        self._next_fill_at = now + self._fill_gap()
        self.pacing = Pacing()
        self.session = Session(
            self.setup.region,
            now,
            nightly_reset=self.setup.nightly_reset,
            outage_minutes=self.setup.outage_minutes,
        )
        self.flex = FlexService(
            self.ledger, self.accounts, self.setup.aliases, clock, self.audit, self.faults, seed=self.setup.seed
        )
        self._calls = self._table()
        if self.setup.logged_in:
            self.login()

    # What happens to the login, for tests in the same process.

    def login(self) -> None:
        """A person logs in at the gateway."""
        with self._lock:
            self._settle()
            self.session.log_in(
                self.clock.now(),
                self.clock.monotonic(),
                ready_in=self.quirks.no_bridge_seconds,
                doubtful=self.quirks.doubtful_login,
            )

    def expire(self) -> None:
        """Every session of the login ends, the OAuth ones too."""
        with self._lock:
            self.session.expire()
            if self._authority is not None:
                self._authority.end()

    def drop_brokerage(self) -> None:
        """The brokerage session ends; whoever is logged in still is."""
        with self._lock:
            self.session.brokerage = None

    def compete(self, *, stealing: bool = True) -> None:
        """Another application logs in with the username and takes the brokerage session, or only contests it."""
        with self._lock:
            self._settle()
            self.session.compete(stealing=stealing)

    def release(self) -> None:
        """The other application leaves."""
        with self._lock:
            self.session.release()

    def maintenance(self, until_ms: int, *, refusing: bool = False) -> None:
        """From now until then /iserver answers 503; `refusing`: nobody listens at all. A time past ends it."""
        with self._lock:
            self._settle()
            self.session.maintain(until_ms, refusing=refusing)

    def penalise(self) -> None:
        """Put the login into the penalty box, as another program's calls might."""
        with self._lock:
            self.pacing.penalise(self.clock.monotonic())

    # The account.

    @property
    def oauth(self) -> Consumer:
        """What a user of OAuth holds; made when first asked for."""
        return self._authorised().consumer

    def transport(self) -> httpx.BaseTransport:
        """An httpx transport that ends here; waiting costs the simulator's clock, not yours."""
        return InProcessTransport(self, self.clock)

    def respond(self, request: httpx.Request) -> httpx.Response:
        """The same as a side effect for respx."""
        return self.transport().handle_request(request)

    def oracle(self) -> list[dict[str, Any]]:
        """Every execution that has happened, oldest first, once, in its highest revision."""
        with self._lock:
            self._grow()
            now = self.clock.now()
            return [self._truth(entry, now) for entry in self.ledger.entries() if entry.newest.time_ms <= now]

    def memory_start(self) -> int:
        """The oldest instant, in epoch milliseconds, that the trades list can show now."""
        return self.session.day_start(self.clock.now(), MEMORY_DAYS - 1)

    def book(self, new: NewFill) -> list[Fill]:
        """Let trades happen."""
        with self._lock:
            fills = self._combo(new) if new.legs else self._invented(new)
            for fill in fills:
                self.ledger.book(fill)
            return fills

    def correct(self, exec_id: str, **changes: Any) -> Fill:
        """The exchange corrects an execution; see Correction for what may change."""
        return self.apply(Correction(exec_id=exec_id, **changes))

    def apply(self, change: Correction) -> Fill:
        with self._lock:
            before = self.ledger.find(change.exec_id, change.account)
            family, revision = split_id(before.execution_id)
            if before.execution_id == family:
                raise ValueError(f"{family} has no last segment that could be raised")
            digits = len(before.execution_id.rpartition(".")[2])
            changes = {
                name: value
                for name in ("side", "size", "price", "commission")
                if (value := getattr(change, name)) is not None
            }
            after = replace(
                before,
                execution_id=f"{family}.{revision + 1:0{digits}}",
                overrides={**before.overrides, **change.overrides},
                booked_ms=self.clock.now(),
                **changes,
            )
            self.ledger.correct(change.exec_id, change.account, after)
            return after

    def cancel(self, exec_id: str, account: str | None = None) -> dict[str, Any]:
        """The exchange takes an execution back, now; returns its line of the oracle."""
        return self.take_back(Cancellation(exec_id=exec_id, account=account))

    def take_back(self, change: Cancellation) -> dict[str, Any]:
        with self._lock:
            now = self.clock.now()
            return self._truth(self.ledger.cancel(change.exec_id, change.account, now), now)

    def state(self) -> dict[str, Any]:
        """What a person at the gateway's screen would know."""
        with self._lock:
            self._settle()
            now, session = self.clock.now(), self.session
            return {
                "accounts": list(self.accounts),
                "region": self.setup.region,
                "loggedIn": session.sso,
                "brokerage": None if session.brokerage is None else session.brokerage.channel,
                "competitor": session.competitor,
                "maintenance": session.down(now),
                "penaltySeconds": self.pacing.remaining(self.clock.monotonic()),
                "nextResetMs": session.next_reset_ms,
                "nowMs": now,
            }

    # Calls.

    def handle(self, request: Request) -> Answer:
        """The answer. Whoever delivers it calls its `when_delivered` afterwards: until then the call is in flight."""
        if not request.path.startswith((f"{BASE}/", FLEX_BASE)):
            with self._lock:
                return self._at_the_browser(request)
        with self._in_flight_lock:
            self._in_flight += 1
            self.audit.max_in_flight = max(self.audit.max_in_flight, self._in_flight)
        with self._lock:
            return replace(self._answered(request), when_delivered=self._delivered)

    def _delivered(self) -> None:
        with self._in_flight_lock:
            self._in_flight -= 1

    def _answered(self, request: Request) -> Answer:
        self._grow()
        if request.path.startswith(FLEX_BASE):
            return self.flex.handle(request)
        self._settle()
        path = request.path.removeprefix(BASE).rstrip("/") or "/"
        call = self._noted(request, f"{BASE}{path}")
        fault = self.faults.take(call.path)
        if fault is None:
            return self._judged(request, path, call)
        answer = self._judged(request, path, call) if fault.processed else Answer(200, b"")
        call.outcome = fault.describe()
        answer = fault.distort(request, answer, self.faults.envelope)
        if answer.status == 429 and "retry-after" not in map(str.lower, answer.headers):
            # A 429 that names no time means the box, whoever decided on it.
            self.pacing.penalise(self.clock.monotonic())
        call.status = answer.status
        return answer

    def _noted(self, request: Request, path: str) -> Call:
        call = Call(
            at=self.clock.now(),
            elapsed=self.clock.monotonic(),
            method=request.method,
            host=request.host,
            path=path,
            user_agent=request.headers.get("user-agent", ""),
        )
        self.audit.calls.append(call)
        return call

    def _judged(self, request: Request, path: str, call: Call) -> Answer:
        try:
            answer = self._result(request, path, call)
            call.outcome = "ok"
        except _Refused as refused:
            answer, call.outcome = refused.answer, refused.outcome
        call.status = answer.status
        return answer

    def _result(self, request: Request, path: str, call: Call) -> Answer:
        now, monotonic = self.clock.now(), self.clock.monotonic()
        channel: Channel = "oauth" if "authorization" in request.headers else "gateway"
        call.key = channel
        call.forbidden = _would_trade(request.method, path)
        ask = _Ask(channel, _params(request), now, monotonic)
        call.params = {
            name: str(ask.params[name])
            for name in ("days", "accountId", "publish", "compete", "acctId")
            if name in ask.params
        }
        call.takeover = path == "/iserver/auth/ssodh/init" and ask.params.get("compete") is True
        if self.session.refusing(now):
            raise _Refused(Answer(503, b"", delivery=Delivery("refuse")), "connection refused")
        if self.pacing.boxed(monotonic):
            call.penalty = True
            raise _Refused(answers.too_many(self.quirks.retry_after), "penalty box")
        if not self.pacing.admit(path, monotonic):
            call.breach = True
            self.pacing.penalise(monotonic)
            raise _Refused(answers.too_many(self.quirks.retry_after), "too many requests")
        if path == "/oauth/live_session_token" and request.method == "POST":
            return self._handshake(request, ask)
        self._require_login(request, path, ask)
        self.session.touch(monotonic)
        if call.forbidden:
            raise _error("this login may not trade", 403)
        if path.startswith("/iserver") and self.session.down(now):
            raise _Refused(answers.unavailable(empty=self.quirks.unavailable_empty), "maintenance")
        answer = self._calls.get((request.method, path))
        if answer is None:
            raise _error("Not Found", 404)
        return Answer.of_json(answer(ask))

    def _require_login(self, request: Request, path: str, ask: _Ask) -> None:
        if ask.channel == "oauth":
            self._require_signature(request, ask)
        elif not self.session.sso:
            if path == "/iserver/auth/status" and self.quirks.logged_out_status == "body":
                raise _Refused(self._status_answer(answers.logged_out(self._names)), "not logged in")
            if path == "/tickle" and self.quirks.tickle_refusal == "no_session":
                raise _Refused(Answer.of_json({"error": "no session"}), "no session")
            if path == "/tickle" and self.quirks.tickle_refusal == "fail":
                raise _Refused(Answer.of_json({"error": "failed to process request"}), "failed to process request")
            raise _Refused(answers.not_logged_in(self.quirks.refusal), "not authenticated")

    def _require_signature(self, request: Request, ask: _Ask) -> None:
        if self.quirks.oauth_inactive:
            raise _error("id: 39687, error: invalid consumer", 401)
        if self.quirks.oauth_stale:
            raise _error("gone", 410)
        try:
            self._authorised().check(request, ask.now_ms, self.address, self.quirks.oauth_query)
        except NotAccepted as refusal:
            raise _error(str(refusal), 401) from None

    def _handshake(self, request: Request, ask: _Ask) -> Answer:
        if self.quirks.oauth_inactive:
            raise _error("id: 39687, error: invalid consumer", 401)
        try:
            document = self._authorised().handshake(request, ask.now_ms, self.address)
        except NotAccepted as refusal:
            raise _error(str(refusal), 401) from None
        self.quirks.oauth_stale = False
        return Answer.of_json(document)

    def _table(self) -> dict[tuple[str, str], Callable[[_Ask], Any]]:
        return {
            ("GET", "/tickle"): self._tickle,
            ("POST", "/tickle"): self._tickle,
            ("GET", "/iserver/auth/status"): self._auth_status,
            ("POST", "/iserver/auth/status"): self._auth_status,
            ("POST", "/iserver/auth/ssodh/init"): self._init,
            ("POST", "/iserver/reauthenticate"): self._reauthenticate,
            ("GET", "/sso/validate"): self._validate,
            ("POST", "/logout"): self._log_out,
            ("GET", "/iserver/accounts"): self._iserver_accounts,
            ("POST", "/iserver/account"): self._switch,
            ("GET", "/iserver/account/trades"): self._trades,
            ("GET", "/iserver/account/orders"): self._orders,
            ("GET", "/portfolio/accounts"): self._portfolio_accounts,
            ("GET", "/portfolio/subaccounts"): self._portfolio_accounts,
        }

    # Sessions.

    def _tickle(self, ask: _Ask) -> Any:
        status = self._told(self.session.status(ask.channel, ask.now_ms), fail=False)
        sso_fields = self.quirks.sso_fields and ask.channel == "gateway"
        return answers.tickle(status, self._names, sso_fields=sso_fields)

    def _auth_status(self, ask: _Ask) -> Any:
        return self._told(self.session.status(ask.channel, ask.now_ms), fail=True)

    def _init(self, ask: _Ask) -> Any:
        if ask.params.get("publish") is not True:
            raise _error("publish must be true", 500)
        if self.quirks.oauth_no_dh_token and ask.channel == "oauth":
            raise _Refused(Answer.of_json({"error": "failed to generate sso dh token"}, 500), "no sso dh token")
        self.session.open(
            ask.channel,
            ask.now_ms,
            ask.monotonic,
            compete=ask.params.get("compete") is True,
            ready_in=self.quirks.no_bridge_seconds,
        )
        return self._told(self.session.status(ask.channel, ask.now_ms), fail=False)

    def _reauthenticate(self, ask: _Ask) -> Any:
        self.session.open(ask.channel, ask.now_ms, ask.monotonic, compete=False, ready_in=self.quirks.no_bridge_seconds)
        return {"message": "triggered"}

    def _validate(self, ask: _Ask) -> Any:
        since = self.session.sso_since_ms
        if ask.channel != "gateway" or since is None:
            raise _error("not authenticated", 401)
        return answers.sso_validate(self._names, since_ms=since, now_ms=ask.now_ms)

    def _log_out(self, ask: _Ask) -> Any:
        if ask.channel == "oauth":
            self._authorised().end()
            if self.session.brokerage is not None and self.session.brokerage.channel == "oauth":
                self.session.brokerage = None
        else:
            self.session.log_out()
        return {"status": True}

    def _told(self, status: Status, *, fail: bool) -> dict[str, Any]:
        document = answers.auth_status(status, self._names, established=self.quirks.established, fail=fail)
        return self._bent(document)

    def _status_answer(self, document: dict[str, Any]) -> Answer:
        return Answer.of_json(self._bent(document))

    def _bent(self, document: dict[str, Any]) -> dict[str, Any]:
        if not self.quirks.status_fields:
            return document
        return {name: value for name, value in (document | self.quirks.status_fields).items() if value is not None}

    # Accounts and trades.

    def _iserver_accounts(self, ask: _Ask) -> Any:
        self._bridge(ask).accounts_asked = True
        return answers.iserver_accounts(self.accounts, self.setup.aliases, self._selected, self._names)

    def _portfolio_accounts(self, _: _Ask) -> Any:
        return answers.portfolio_accounts(self.accounts, self.setup.aliases, self._opened_ms)

    def _switch(self, ask: _Ask) -> Any:
        self._bridge(ask)
        account = str(ask.params.get("acctId", ""))
        if account not in self.accounts:
            raise _error(f"accountId is not valid: {account}", 400)
        self._selected = account
        return {"set": True, "acctId": account}

    def _orders(self, ask: _Ask) -> Any:
        self._accounts_first(ask)
        return {"orders": [], "snapshot": True}

    def _trades(self, ask: _Ask) -> Any:
        brokerage = self._accounts_first(ask)
        account = ask.params.get("accountId")
        if account is not None and account not in self.accounts:
            raise _error(f"accountId is not valid: {account}", 400)
        days = _days(ask.params.get("days"))
        primed, brokerage.primed = brokerage.primed, True
        quirks = self.quirks
        if (
            (quirks.priming and not primed)
            or (quirks.short_days_empty and "days" in ask.params and days <= 2)
            or (quirks.account_filter == "required" and account is None)
        ):
            return []
        only = self._only(account)
        look = self._look(ask.now_ms)
        rows = [
            fill.row(look)
            for fill in self.ledger.listed(
                self._seen_until(brokerage.renewed_ms, ask.now_ms),
                self.session.day_start(ask.now_ms, min(days, MEMORY_DAYS) - 1),
                revisions=quirks.corrections,
            )
            if only in (None, fill.account)
        ]
        if quirks.shuffled:
            self._random.shuffle(rows)
        return rows

    def _only(self, account: str | None) -> str | None:
        match self.quirks.account_filter:
            case "ignored":
                return None
            case "selected":
                return self._selected
            case "filters" | "required":
                return account

    def _seen_until(self, renewed_ms: int, now_ms: int) -> int:
        stale = self.quirks.stale_after_seconds
        return now_ms if stale is None else min(now_ms, renewed_ms + int(stale * 1000))

    def _look(self, now_ms: int) -> Look:
        quirks = self.quirks
        return Look(
            now_ms=now_ms,
            submitter=self._names.user_name,
            aliases=self.setup.aliases,
            numbers=quirks.numbers,
            order_ids=quirks.order_ids,
            commission_ms=int(quirks.commission_seconds * 1000),
            extra=quirks.unknown_fields,
        )

    def _bridge(self, ask: _Ask) -> Brokerage:
        brokerage = self.session.brokerage
        if brokerage is None or brokerage.channel != ask.channel or ask.monotonic < brokerage.ready_at:
            raise _Refused(answers.no_bridge(), "no bridge")
        return brokerage

    def _accounts_first(self, ask: _Ask) -> Brokerage:
        brokerage = self._bridge(ask)
        if not brokerage.accounts_asked:
            raise _error("Bad Request: Please query /accounts first", self.quirks.accounts_first_status)
        return brokerage

    # The browser.

    def _at_the_browser(self, request: Request) -> Answer:
        """The gateway's own pages. A login is audited, so that nobody but a person gets away with one."""
        self._settle()
        call = self._noted(request, request.path)
        if self.session.refusing(self.clock.now()):
            answer = Answer(503, b"", delivery=Delivery("refuse"))
        elif request.path == "/sso/Login" and request.method == "POST":
            self.login()
            answer = answers.login_succeeded()
        elif request.path in ("/", "/sso/Login") and request.method == "GET":
            answer = answers.login_page()
        else:
            answer = answers.login_page(404)
        call.key, call.outcome, call.status = "browser", "page", answer.status
        return answer

    # Time and life.

    def _settle(self) -> None:
        self.session.settle(self.clock.now(), self.clock.monotonic(), sso_idle=self.quirks.sso_idle_seconds)

    def _fill_gap(self) -> int:
        return int((self.setup.fill_every or 0) * 1000)

    def _grow(self) -> None:
        """Let happen what has happened since the last call."""
        gap = self._fill_gap()
        while gap and self._next_fill_at <= self.clock.now():
            self.ledger.book(self._life.next(self._next_fill_at))
            self._next_fill_at += gap

    def _remember_years(self, until_ms: int) -> None:
        """What happened before the recent days: as much a day as in them."""
        if self.setup.years and self.setup.trades:
            start = until_ms - int(self.setup.years * 365 * DAY_MS)
            count = round(self.setup.trades * self.setup.years * 365 / self.setup.days)
            for fill in self._life.past(count, start, until_ms):
                self.ledger.book(fill)

    def _truth(self, entry: Entry, now: int) -> dict[str, Any]:
        """A line of the oracle, with what only statements know."""
        return entry.newest.truth(now) | ids_of(entry)

    def _invented(self, new: NewFill) -> list[Fill]:
        now = self.clock.now()
        at = now - int(new.ago_seconds * 1000) if new.time is None else int(new.time * 1000)
        instrument = self._instrument(new)
        if new.assignment:
            option = contract_of(instrument)
            stock = catalogue.find(option.underlying, "STK", None)
            if option.strike is None or stock is None:
                raise ValueError(f"{instrument.symbol} {instrument.sec_type} is no option on a stock of this trader's")
            self._require_account(new.account)
            return self._life.assignment(instrument, stock, at, new.size or Decimal(1), option.strike, new.account)
        if new.expiry:
            fill = self._life.expiry(instrument, at, new.size or Decimal(1), new.account)
            fill = replace(fill, execution_id=new.exec_id or fill.execution_id, side=new.side or fill.side)
        else:
            fill = self._life.fill(
                instrument, at, account=new.account, side=new.side, size=new.size, price=new.price,
                commission=new.commission, execution_id=new.exec_id, order_id=new.order_id,
            )  # fmt: skip
        fill = replace(
            fill,
            commission=None if new.no_commission else fill.commission,
            order_ref=new.order_ref,
            overrides=new.overrides,
            visible_ms=fill.time_ms if new.visible_in_seconds is None else now + int(new.visible_in_seconds * 1000),
        )
        self._require_account(fill.account)
        return [fill, *(replace(fill, execution_id=self._life.execution_id()) for _ in range(new.count - 1))]

    def _require_account(self, account: str | None) -> None:
        if account is not None and account not in self.accounts:
            raise ValueError(f"this login has no account {account}")

    def _instrument(self, new: NewFill) -> catalogue.Instrument:
        if new.symbol is None and new.sec_type is None and new.conid is None:
            instrument = catalogue.TRADED[0]
        else:
            known = catalogue.find(new.symbol, new.sec_type, new.conid)
            instrument = known or catalogue.unlisted(
                new.symbol or "XYZ", new.sec_type or "STK", new.conid or self._life.conid()
            )
        return replace(
            instrument,
            multiplier=instrument.multiplier if new.multiplier is None else new.multiplier,
            currency=new.currency or instrument.currency,
        )

    def _combo(self, new: NewFill) -> list[Fill]:
        """Legs share the first two segments of their ids and the order (reference ibkr 2.8, 2.9)."""
        whole = self._invented(new.model_copy(update={"legs": [], "sec_type": new.sec_type or "BAG"}))[0]
        first, second, *_ = whole.execution_id.split(".")
        fills = [replace(whole, echo=True)] if new.bag else []
        for number, leg in enumerate(new.legs, start=2):
            fill = self._invented(leg)[0]
            fills.append(
                replace(
                    fill,
                    account=whole.account,
                    execution_id=leg.exec_id or f"{first}.{second}.{number:02}.01",
                    order_id=whole.order_id,
                    time_ms=whole.time_ms,
                    visible_ms=whole.visible_ms,
                )
            )
        return fills

    def _authorised(self) -> Authority:
        if self._authority is None:
            self._authority = Authority(self.setup.seed)
        return self._authority


def _envelope(text: str, status: int) -> dict[str, Any]:
    """How this broker words an error; in a 200 it names no status."""
    return {"error": text} if status == 200 else {"error": text, "statusCode": status}


def _would_trade(method: str, path: str) -> bool:
    """Would this call place, change or cancel an order?"""
    if method == "GET":
        return False
    parts = path.split("/")[2:]
    return path.startswith("/iserver/reply") or (
        path.startswith("/iserver/account/") and any(part.startswith("order") for part in parts)
    )


def _params(request: Request) -> dict[str, Any]:
    """Query and body together: text from a query or a form, JSON values from JSON."""
    params: dict[str, Any] = dict(parse_qsl(request.query, keep_blank_values=True))
    if not request.body:
        return params
    try:
        text = request.body.decode()
        if not text.lstrip().startswith("{"):
            return params | dict(parse_qsl(text, keep_blank_values=True))
        document = json.loads(text)
    except ValueError:
        raise _error("Bad Request: body", 400) from None
    return {**params, **document}


def _days(given: Any) -> int:
    """The documented default is the current day alone."""
    if given is None:
        return 1
    text = str(given)
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise _error("Bad Request: days", 400)
    return int(text)
