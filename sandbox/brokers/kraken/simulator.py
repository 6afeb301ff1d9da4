"""Kraken's spot REST API, as far as an importer can reach, with an oracle behind it.

Facts and their sources: reference kraken. The same object answers sockets (serving.BrokerServer) and httpx
clients in this process (`transport`); every call to it is audited.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal
from urllib.parse import parse_qsl

import httpx
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sandbox.brokers.audit import Audit, Call, masked
from sandbox.brokers.faults import FaultScript
from sandbox.brokers.kraken import books, catalogue
from sandbox.brokers.kraken.access import (
    READ_ONLY,
    ApiKey,
    Counter,
    Door,
    KrakenError,
    Lockout,
    Moment,
    Tier,
)  # fmt: skip
from sandbox.brokers.kraken.history import KINDS, TICKS, Fill, History
from sandbox.brokers.kraken.life import Life
from sandbox.brokers.serving import Answer, InProcessTransport, Request
from worker.clock import Clock

PAGE = 50
DAY_MS = 86_400_000
_TICKS_PER_MS = TICKS // 1000

Status = Literal["online", "maintenance", "cancel_only", "post_only"]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class NewFill(_Input):
    """A fill to book. What is not given, the simulated trader decides."""

    count: int = Field(1, ge=1, description="so many, alike to the last digit")
    pair: str | None = None
    aclass: str | None = None
    type: Literal["buy", "sell"] | None = None
    ordertype: str | None = None
    price: Decimal | None = None
    vol: Decimal | None = None
    fee: Decimal | None = None
    maker: bool | None = None
    leverage: int = 0
    misc: str = ""
    ordertxid: str | None = None
    txid: str | None = None
    time: Decimal | None = Field(None, description="epoch seconds, past or future; default: now")
    ago_seconds: float = 0.0
    visible_in_seconds: float | None = Field(None, description="REST shows it that much after now (late booking)")
    overrides: dict[str, Any] = {}


class Quirks(_Input):
    """Known and suspected oddities of Kraken's answers (reference kraken 1.2-1.6, 2.3)."""

    count: Literal["int", "string", "missing"] = "int"
    count_off_by: int = 0
    shuffled: bool = Field(False, description="object order says nothing")
    short_page_at: int | None = Field(None, description="the page at this `ofs` holds only `short_page_rows` rows")
    short_page_rows: int = 0
    short_page_times: int | None = None
    endless_pages: bool = Field(False, description="past the end the list starts again")
    whole_seconds: bool = Field(False, description="fractions of `start` and `end` are cut off")
    ignore_without_count: bool = False
    string_times: bool = False
    unknown_fields: dict[str, Any] = Field({}, description="added to every row")
    no_result: bool = Field(False, description="success without `result`, as empty accounts have got")
    key_info: Literal["camel", "snake", "unknown"] = "camel"


class KeyChange(_Input):
    permissions: list[str] | None = None
    nonce_window: int | None = None
    otp: str | None = None
    valid_until: int | None = None
    query_from: int | None = None
    query_to: int | None = None
    revoke: bool = False
    rotate: bool = Field(False, description="revoke this key and issue another with the same rights")


@dataclass(frozen=True, slots=True)
class Setup:
    """How a simulation starts. `end` is epoch milliseconds; absent means now."""

    seed: str = "1"
    tier: Tier = "starter"
    trades: int = 0
    years: float = 3.0
    end: int | None = None
    fill_every: float | None = None
    lag: float = 0.0
    permissions: tuple[str, ...] = READ_ONLY
    otp: str | None = None
    nonce_window: int = 0
    public_burst: int = 10
    lockout_after: int = 10


@dataclass(frozen=True, slots=True)
class _Private:
    cost: int
    permission: str | None
    answer: Callable[[ApiKey, Mapping[str, str]], Any] | None
    """None: never granted. It would trade or move money."""


@dataclass(slots=True)
class _Exchange:
    status: Status = "online"
    advisory: dict[str, Any] = field(default_factory=dict)


class KrakenSimulator:
    def __init__(self, clock: Clock, setup: Setup | None = None) -> None:
        self.clock = clock
        self.setup = setup or Setup()
        self.audit = Audit()
        self.faults = FaultScript()
        self.quirks = Quirks()
        self._exchange = _Exchange()
        self._lock = threading.RLock()
        self._rotations = 0
        self._life = Life(self.setup.seed)
        self.account_ref = _account_ref(self.setup.seed)

        end = self.setup.end or clock.now()
        start = end - int(self.setup.years * 365 * DAY_MS)
        past = self._life.past(self.setup.trades, start * _TICKS_PER_MS, end * _TICKS_PER_MS)
        self.history = History(map(self._lagging, past))
        self._next_fill_at = clock.now() + self._fill_gap()

        self._keys: dict[str, ApiKey] = {}
        self._counters: dict[str, Counter] = {}
        self._key = self._issue(
            ApiKey.of_seed(self.setup.seed, created=start // 1000, permissions=self.setup.permissions)
        )
        self._key.otp = self.setup.otp
        self._key.nonce_window = self.setup.nonce_window
        self._door = Door(self._keys, Lockout(self.setup.lockout_after))
        self._per_ip = Counter(self.setup.public_burst, 1.0)
        self._public: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "Time": self._time,
            "SystemStatus": self._system_status,
            "AssetPairs": self._asset_pairs,
            "Assets": self._assets,
        }
        self._private = self._private_calls()

    # The account, for tests in the same process.

    @property
    def key(self) -> ApiKey:
        """The key that is valid now."""
        return self._key

    @property
    def counter(self) -> Counter:
        return self._counters[self._key.key]

    def transport(self) -> httpx.BaseTransport:
        """An httpx transport that ends here; waiting costs the simulator's clock, not yours."""
        return InProcessTransport(self, self.clock)

    def respond(self, request: httpx.Request) -> httpx.Response:
        """The same as a side effect for respx."""
        return self.transport().handle_request(request)

    def oracle(self) -> list[dict[str, Any]]:
        """Every fill that has happened, oldest first, whether or not REST shows it yet."""
        with self._lock:
            self._grow()
            now = self._ticks()
            return [fill.truth(now) for fill in self.history.all() if fill.ticks <= now]

    def book(self, new: NewFill) -> list[Fill]:
        """Let trades happen."""
        with self._lock:
            fills = list(self._invented(new))
            for fill in fills:
                self.history.book(fill)
            return fills

    def set_status(self, status: Status, advisory: Mapping[str, Any] | None = None) -> None:
        with self._lock:
            self._exchange = _Exchange(status, dict(advisory or {}))

    def change_key(self, change: KeyChange) -> ApiKey:
        """What the owner of the account does on the key page; returns the key that is valid afterwards."""
        with self._lock:
            key = self._key
            key.modified = self.clock.now() // 1000
            for name in ("nonce_window", "otp", "valid_until", "query_from", "query_to"):
                if name in change.model_fields_set:
                    setattr(key, name, getattr(change, name))
            if change.permissions is not None:
                key.permissions = tuple(change.permissions)
            if change.revoke or change.rotate:
                key.revoked = True
            if change.rotate:
                self._rotations += 1
                fresh = ApiKey.of_seed(f"{self.setup.seed} rotation {self._rotations}", created=key.modified)
                self._key = self._issue(
                    replace(fresh, permissions=key.permissions, otp=key.otp, nonce_window=key.nonce_window)
                )
            return self._key

    # Calls.

    def handle(self, request: Request) -> Answer:
        with self._lock:
            self._grow()
            call = Call(
                at=self.clock.now(),
                elapsed=self.clock.monotonic(),
                method=request.method,
                host=request.host,
                path=request.path,
                user_agent=request.headers.get("user-agent", ""),
            )
            self.audit.calls.append(call)
            fault = self.faults.take(request.path)
            if fault is None:
                return self._judged(request, call)
            answer = self._judged(request, call) if fault.processed else Answer(200, b"")
            call.outcome = fault.describe()
            answer = fault.distort(request, answer)
            call.status = answer.status
            return answer

    def _judged(self, request: Request, call: Call) -> Answer:
        try:
            document: dict[str, Any] = {"error": [], "result": self._result(request, call)}
            if document["result"] is None:
                del document["result"]
            call.outcome = "ok"
        except KrakenError as error:
            document = {"error": [str(error)]}
            call.outcome = str(error)
        call.status = 200
        return Answer.of_json(document)

    def _result(self, request: Request, call: Call) -> Any:
        params = _params(request)
        call.params = {name: value for name, value in params.items() if name not in ("nonce", "otp")}
        match request.path.split("/"):
            case ["", "0", "public", name]:
                return self._answer_public(name, params, call)
            case ["", "0", "private", *name]:
                return self._answer_private("/".join(name), request, params, call)
            case _:
                raise KrakenError("EGeneral:Unknown method")

    def _answer_public(self, name: str, params: Mapping[str, str], call: Call) -> Any:
        call.cost = 1
        now = self.clock.monotonic()
        allowed = self._per_ip.charge(1, now)
        call.counter = self._per_ip.level(now)
        if not allowed:
            call.breach = True
            raise KrakenError("EGeneral:Too many requests")
        if name not in self._public:
            raise KrakenError("EGeneral:Unknown method")
        return self._public[name](params)

    def _answer_private(self, name: str, request: Request, params: Mapping[str, str], call: Call) -> Any:
        method = self._private.get(name)
        call.key = masked(request.headers.get("api-key", ""))
        call.nonce = params.get("nonce", "")
        call.forbidden = method is not None and method.answer is None
        if self._exchange.status == "maintenance":
            raise KrakenError("EService:Unavailable")
        now = self.clock.monotonic()
        at = Moment(self.clock.now() / 1000, now)
        key = self._door.admit(request.path, request.headers, params, request.body, at)
        call.cost = method.cost if method else 1
        counter = self._counters[key.key]
        allowed = counter.charge(call.cost, now)
        call.counter = counter.level(now)
        if not allowed:
            call.breach = True
            raise KrakenError("EAPI:Rate limit exceeded")
        if method is None:
            raise KrakenError("EGeneral:Unknown method")
        if method.answer is None:
            raise KrakenError("EGeneral:Permission denied")
        if method.permission is not None:
            key.require(method.permission)
        return method.answer(key, params)

    def _private_calls(self) -> dict[str, _Private]:
        table = {
            "TradesHistory": _Private(2, "query-closed-trades", self._trades_history),
            "QueryTrades": _Private(1, "query-closed-trades", self._query_trades),
            "ClosedOrders": _Private(2, "query-closed-trades", self._closed_orders),
            "OpenOrders": _Private(1, "query-open-trades", self._open_orders),
            "Ledgers": _Private(2, "query-ledger", self._ledgers),
            "Balance": _Private(1, "query-funds", self._balance),
            "BalanceEx": _Private(1, "query-funds", self._balance_ex),
            "GetApiKeyInfo": _Private(1, None, self._key_info),
        }
        never = (
            "AddOrder", "AddOrderBatch", "AmendOrder", "EditOrder", "CancelOrder", "CancelAll", "CancelOrderBatch",
            "CancelAllOrdersAfter", "Withdraw", "WithdrawCancel", "WithdrawAddresses", "WithdrawInfo", "WalletTransfer",
            "DepositAddresses", "DepositMethods", "Earn/Allocate", "Earn/Deallocate", "AccountTransfer",
        )  # fmt: skip
        return table | {name: _Private(1, None, None) for name in never}

    # Public endpoints.

    def _time(self, _: Mapping[str, str]) -> Any:
        seconds = self.clock.now() // 1000
        stamp = datetime.fromtimestamp(seconds, UTC)
        # Two-digit year, day padded with a blank (reference kraken 3.4).
        return {"unixtime": seconds, "rfc1123": f"{stamp:%a}, {stamp.day:2d} {stamp:%b %y %H:%M:%S} +0000"}

    def _system_status(self, _: Mapping[str, str]) -> Any:
        stamp = datetime.fromtimestamp(self.clock.now() // 1000, UTC)
        return {
            "status": self._exchange.status,
            "timestamp": f"{stamp:%Y-%m-%dT%H:%M:%SZ}",
            "upcoming_maintenance": [],
            "emergency": [],
        } | self._exchange.advisory

    def _asset_pairs(self, params: Mapping[str, str]) -> Any:
        rows = catalogue.asset_pairs(params.get("aclass_base", "currency"))
        return _selected(rows, params.get("pair"), "EQuery:Unknown asset pair")

    def _assets(self, params: Mapping[str, str]) -> Any:
        rows = catalogue.assets(params.get("aclass", "currency"))
        return _selected(rows, params.get("asset"), "EQuery:Unknown asset")

    # Private endpoints.

    def _trades_history(self, key: ApiKey, params: Mapping[str, str]) -> Any:
        if self.quirks.no_result:
            return None
        kind = KINDS.get(params.get("type", "all"))
        if kind is None:
            raise KrakenError("EGeneral:Invalid arguments:type")
        if params.get("rebase_multiplier", "rebased") not in ("rebased", "base"):
            raise KrakenError("EGeneral:Invalid arguments:rebase_multiplier")
        _flag(params, "consolidate_taker")
        ofs = _whole(params, "ofs")
        with_trades, with_ledgers = _flag(params, "trades"), _flag(params, "ledgers")
        fills = self._visible_to(key, self._bound(params, "start"), self._bound(params, "end"))
        if kind is not KINDS["all"]:
            fills = [fill for fill in fills if kind(fill)]
        now = self._ticks()
        rows = {
            fill.txid: self._row(fill, now, trades=with_trades, ledgers=with_ledgers) for fill in self._page(fills, ofs)
        }
        result: dict[str, Any] = {"trades": rows}
        count = len(fills) + self.quirks.count_off_by
        hidden = _flag(params, "without_count") and not self.quirks.ignore_without_count
        if self.quirks.count != "missing" and not hidden:
            result["count"] = str(count) if self.quirks.count == "string" else count
        return result

    def _page(self, fills: list[Fill], ofs: int) -> list[Fill]:
        quirks = self.quirks
        if quirks.endless_pages and fills:
            return [fills[(ofs + row) % len(fills)] for row in range(min(PAGE, len(fills)))]
        rows = PAGE
        if quirks.short_page_at == ofs and quirks.short_page_times != 0:
            rows = quirks.short_page_rows
            if quirks.short_page_times is not None:
                quirks.short_page_times -= 1
        page = fills[ofs : ofs + rows]
        # Sorted by txid is as arbitrary as any order, and the same for the same page.
        return sorted(page, key=lambda fill: fill.txid) if quirks.shuffled else page

    def _row(self, fill: Fill, now: int, *, trades: bool = False, ledgers: bool = False) -> dict[str, Any]:
        row = fill.row(now, trades=trades, ledgers=ledgers) | self.quirks.unknown_fields
        if self.quirks.string_times and isinstance(row.get("time"), Decimal):
            row["time"] = format(row["time"], "f")
        return row

    def _query_trades(self, key: ApiKey, params: Mapping[str, str]) -> Any:
        wanted = params.get("txid", "").split(",")
        if not all(wanted) or len(wanted) > 20:
            raise KrakenError("EGeneral:Invalid arguments:txid")
        visible = {fill.txid: fill for fill in self._visible_to(key, None, None)}
        now = self._ticks()
        trades = _flag(params, "trades")
        return {txid: self._row(visible[txid], now, trades=trades) for txid in wanted if txid in visible}

    def _closed_orders(self, key: ApiKey, params: Mapping[str, str]) -> Any:
        fills = self._visible_to(key, self._bound(params, "start"), self._bound(params, "end"))
        return _paged("closed", books.orders(fills, trades=_flag(params, "trades")), params)

    def _open_orders(self, _key: ApiKey, _params: Mapping[str, str]) -> Any:
        return {"open": {}}

    def _ledgers(self, key: ApiKey, params: Mapping[str, str]) -> Any:
        fills = self._visible_to(key, self._bound(params, "start"), self._bound(params, "end"))
        return _paged("ledger", books.ledger(fills, params.get("aclass", "currency")), params)

    def _balance(self, key: ApiKey, _: Mapping[str, str]) -> Any:
        return books.balances(self._visible_to(key, None, None))

    def _balance_ex(self, key: ApiKey, _: Mapping[str, str]) -> Any:
        held = books.balances(self._visible_to(key, None, None))
        return {asset: {"balance": amount, "hold_trade": "0.0000000000"} for asset, amount in held.items()}

    def _key_info(self, key: ApiKey, _: Mapping[str, str]) -> Any:
        if self.quirks.key_info == "unknown":
            raise KrakenError("EGeneral:Unknown method")
        info = {
            "api_key_name": key.name,
            "api_key": key.key,
            "nonce": str(key.highest_nonce),
            "nonce_window": key.nonce_window,
            "permissions": list(key.permissions),
            "iban": self.account_ref,
            "valid_until": str(key.valid_until),
            "query_from": str(key.query_from),
            "query_to": str(key.query_to),
            "created_time": str(key.created),
            "modified_time": str(key.modified),
            "ip_allowlist": [],
            "last_used": str(key.last_used),
        }
        return info if self.quirks.key_info == "snake" else {to_camel(name): value for name, value in info.items()}

    def _visible_to(self, key: ApiKey, after: tuple[int, str] | None, upto: tuple[int, str] | None) -> list[Fill]:
        """A key limited in time sees a cut history, without any error (reference kraken 2.3)."""
        fills = self.history.between(self._ticks(), after, upto)
        if key.query_from or key.query_to:
            until = key.query_to or 1 << 62
            fills = [fill for fill in fills if key.query_from * TICKS <= fill.ticks <= until * TICKS]
        return fills

    def _bound(self, params: Mapping[str, str], name: Literal["start", "end"]) -> tuple[int, str] | None:
        """A time or a txid as a place in the list. A time includes, or excludes, all fills of that very moment."""
        text = params.get(name, "")
        if not text:
            return None
        if (fill := self.history.find(text)) is not None:
            return fill.place
        try:
            seconds = Decimal(text)
            ticks = int((seconds // 1 if self.quirks.whole_seconds else seconds) * TICKS)
        except (InvalidOperation, ValueError, OverflowError):
            raise KrakenError(f"EGeneral:Invalid arguments:{name}") from None
        return ticks, "\U0010ffff"

    # Time and life.

    def _ticks(self) -> int:
        return self.clock.now() * _TICKS_PER_MS

    def _lagging(self, fill: Fill) -> Fill:
        return replace(fill, visible=fill.ticks + int(self.setup.lag * TICKS)) if self.setup.lag else fill

    def _fill_gap(self) -> int:
        return int((self.setup.fill_every or 0) * 1000)

    def _grow(self) -> None:
        """Let happen what has happened since the last call."""
        gap = self._fill_gap()
        while gap and self._next_fill_at <= self.clock.now():
            self.history.book(self._lagging(self._life.next(self._next_fill_at * _TICKS_PER_MS)))
            self._next_fill_at += gap

    def _invented(self, new: NewFill) -> list[Fill]:
        now = self._ticks()
        at = now - int(new.ago_seconds * TICKS) if new.time is None else int(new.time * TICKS)
        if new.pair is None:
            pair = catalogue.LISTED["XXBTZUSD"]
        else:
            known = catalogue.KNOWN.get(new.pair)
            pair = known or catalogue.unlisted(new.pair, new.pair, "ZUSD", "10", aclass=new.aclass or "forex")
        fill = self._life.fill(
            pair, at, type_=new.type, price=new.price, vol=new.vol, fee=new.fee, ordertxid=new.ordertxid,
            ordertype=new.ordertype, maker=new.maker, leverage=new.leverage, misc=new.misc,
        )  # fmt: skip
        if new.visible_in_seconds is not None:
            visible = now + int(new.visible_in_seconds * TICKS)
        else:
            visible = at + int(self.setup.lag * TICKS)
        fill = replace(
            fill, txid=new.txid or fill.txid, aclass=new.aclass or fill.aclass, visible=visible,
            overrides=new.overrides,
        )  # fmt: skip
        return [fill, *(replace(fill, txid=self._life.txid("T")) for _ in range(new.count - 1))]

    def _issue(self, key: ApiKey) -> ApiKey:
        self._keys[key.key] = key
        self._counters[key.key] = Counter.of_tier(self.setup.tier)
        return key


def _account_ref(seed: str) -> str:
    """In the shape of the account ids that GetApiKeyInfo reports as `iban`."""
    letters = Life(f"{seed} account").txid("A").replace("-", "")
    return f"AA{sum(map(ord, seed)) % 90 + 10} N84G {letters[1:5]} {letters[5:9]}"


def _params(request: Request) -> dict[str, str]:
    """Query and body, form or JSON, as text: the nonce must be read exactly as it was signed."""
    params = dict(parse_qsl(request.query, keep_blank_values=True))
    if not request.body:
        return params
    try:
        text = request.body.decode()
        if not text.lstrip().startswith("{"):
            return params | dict(parse_qsl(text, keep_blank_values=True))
        document = json.loads(text, parse_float=str, parse_int=str)
    except ValueError:
        raise KrakenError("EAPI:Bad request") from None
    return params | {name: _text(value) for name, value in document.items() if value is not None}


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(map(_text, value))
        case _:
            return str(value)


def _flag(params: Mapping[str, str], name: str) -> bool:
    text = params.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise KrakenError(f"EGeneral:Invalid arguments:{name}")
    return text in ("true", "1")


def _whole(params: Mapping[str, str], name: str) -> int:
    text = params.get(name) or "0"
    if not (text.isascii() and text.isdigit()):
        raise KrakenError(f"EGeneral:Invalid arguments:{name}")
    return int(text)


def _paged(name: str, rows: dict[str, Any], params: Mapping[str, str]) -> dict[str, Any]:
    ofs = _whole(params, "ofs")
    result: dict[str, Any] = {name: dict(list(rows.items())[ofs : ofs + PAGE])}
    return result if _flag(params, "without_count") else result | {"count": len(rows)}


def _selected(rows: dict[str, dict[str, Any]], names: str | None, unknown: str) -> dict[str, dict[str, Any]]:
    if not names:
        return rows
    by_name = {row["altname"]: name for name, row in rows.items()} | {name: name for name in rows}
    if not all(name in by_name for name in names.split(",")):
        raise KrakenError(unknown)
    return {by_name[name]: rows[by_name[name]] for name in names.split(",")}
