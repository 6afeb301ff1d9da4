"""The frozen values that travel between the rooms of the worker.

Names are those of the Convex validators (`convex/tradeImport/validators.ts`); pydantic's aliases turn
`occurred_at` into `occurredAt` on the wire. Instants are UTC epoch milliseconds. Amounts are Decimal here
and plain decimal strings on the wire: no exponent, no trailing zeros, no negative zero.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any, BinaryIO, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from worker.errors import RetryLater

Provider = Literal["ibkr", "kraken"]
ConnectionKind = Literal["kraken", "ibkr_gateway", "ibkr_oauth", "ibkr_flex"]
ConnectionStatus = Literal["active", "needs_reauth", "error", "disconnected"]
Source = Literal["kraken_trades", "ibkr_live", "ibkr_flex_activity", "ibkr_flex_confirm"]
ExecutionKind = Literal["fill", "cancel", "expiry", "assignment", "exercise"]
AssetClass = Literal[
    "stock", "fund", "crypto", "option", "future", "future_option", "forex", "cfd", "bond", "warrant",
    "tokenized", "other",
]  # fmt: skip
Side = Literal["buy", "sell"]
OpenClose = Literal["open", "close", "close_open"]
ExecutionFlag = Literal[
    "margin", "liquidation", "position_open", "position_close", "unresolved_symbol", "no_time_of_day",
    "ambiguous_time",
]  # fmt: skip
Region = Literal["america", "europe", "asia"]
Keepalive = Literal["always", "around_polls"]
JobMode = Literal["scheduled", "manual", "backfill"]
JobStatus = Literal["succeeded", "partial", "failed", "blocked_reauth"]
JobReason = Literal[
    "none", "maintenance", "rate_limited", "report_not_ready", "session_in_use", "auth", "unavailable", "rejected",
    "bad_records", "incomplete_report", "gap", "lease_lost", "cancelled",
]  # fmt: skip


def plain(value: Decimal) -> str:
    """The one spelling of a decimal: `30010`, `0.00000001`, never `3.001E+4`, never `-0`."""
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _exact(value: object) -> object:
    if isinstance(value, float):
        raise ValueError("amounts are Decimal or text, never float")
    return value


Amount = Annotated[
    Decimal,
    BeforeValidator(_exact),
    PlainSerializer(plain, return_type=str),
]


class Wire(BaseModel):
    """A frozen value with camelCase names on the wire.

    Fields this version does not know are ignored: Convex may be newer.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        ser_json_inf_nan="strings",
    )

    def to_wire(self) -> dict[str, Any]:
        """What Convex receives: no nulls, because `v.optional` does not accept them."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Execution(Wire):
    """A fill at the broker in its canonical form (DESIGN section 6)."""

    provider: Provider
    source: Source
    account_ref: str
    external_execution_id: str | None = None
    revision: int = 1
    external_order_id: str | None = None
    kind: ExecutionKind = "fill"
    occurred_at: int
    symbol: str
    raw_symbol: str
    asset_class: AssetClass
    side: Side | None = None
    """Absent only where the broker states none: the removal of an expired position. A fill always has one."""
    quantity: Amount
    price: Amount
    fee: Amount
    currency: str | None = None
    fee_currency: str | None = None
    multiplier: str | None = None
    conid: str | None = None
    open_close: OpenClose | None = None
    cancels: str | None = None
    """For `kind = cancel`: `tx:<transaction id>` or `trade:<trade id>` of the booking it voids."""
    transaction_id: str | None = None
    trade_id: str | None = None
    """Interactive Brokers' ids of the booking: its cancel names them. A rebooking keeps the trade id."""
    flags: tuple[ExecutionFlag, ...] = ()
    ingestion_hash: str
    raw_payload: str

    @property
    def key(self) -> str:
        """What identifies it within its account."""
        return self.external_execution_id or self.ingestion_hash

    @property
    def version(self) -> str:
        """What identifies this revision of it."""
        return f"{self.key} {self.revision}"

    def digest(self) -> str:
        """Changes when anything about the execution does; lets the worker keep known rows at home."""
        return _sha256(json.dumps(self.to_wire(), sort_keys=True))


class Reject(Wire):
    """A broker's row that could not be understood, kept so that a mended normaliser can read it again.

    `fingerprint` is the same for the same row, however often it is fetched.
    """

    reason: str
    raw_payload: str
    fingerprint: str
    external_execution_id: str | None = None
    account_ref: str | None = None
    """The account of a row that belongs to another one than its connection's."""

    @classmethod
    def of(
        cls,
        raw_payload: str,
        reason: str,
        external_execution_id: str | None = None,
        *,
        account_ref: str | None = None,
    ) -> Reject:
        """A reject whose fingerprint follows from its row."""
        return cls(
            reason=reason,
            raw_payload=raw_payload,
            fingerprint=_sha256(raw_payload),
            external_execution_id=external_execution_id,
            account_ref=account_ref,
        )


class Retried(Wire):
    """A reject that its owner wants read again, as it is stored."""

    fingerprint: str
    raw_payload: str
    external_execution_id: str | None = None
    account_ref: str | None = None


class Unsettled(Wire):
    """A reject that was read again and still cannot be imported, and why."""

    fingerprint: str
    reason: str


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ingestion_hash(
    *,
    provider: Provider,
    account_ref: str,
    symbol: str,
    side: Side | None,
    quantity: Decimal,
    price: Decimal,
    occurred_at: int,
    repeat: int,
) -> str:
    """Fallback identity of a row that has no native id (DESIGN section 6).

    `repeat` counts identical rows within one document from 0, so that two equal fills stay two.
    """
    return _sha256(
        "\n".join(
            (
                provider, account_ref, symbol, side or "none", plain(quantity), plain(price),
                str(occurred_at // 1000), str(repeat),
            )
        )
    )  # fmt: skip


class Window(Wire):
    """A time range being read, half-open: `start` is exclusive, `end` inclusive, as Kraken's bounds are."""

    start: int
    end: int


class Interval(Wire):
    """A time range `(start, end]` proven complete for one source."""

    source: Source
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class RawReport:
    """A document as it came from a broker, to be kept. `digest` is that of its content, `size` its bytes."""

    source: Source
    digest: str
    size: int
    file: BinaryIO


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a broker, or a part of one, in the broker's own words.

    `drained` is the window that is completely read with this page, if any: only that may become coverage.
    `resume` is the connector's own bookmark: handed back to `fetch` for the same window after a crash, the
    reading goes on behind this page. `skipped` counts rows that are no executions, `total` is what the broker says
    the whole window holds. `report` is the document that the next pages are made of, as it came; `remarks` are
    sentences about it that belong to this job alone: nothing stands open with them. `unserved` says why the broker
    has nothing yet for what is left of the window: other windows are read all the same, and the job ends with it.
    """

    records: Sequence[Any]
    drained: Window | None = None
    resume: str | None = None
    skipped: int = 0
    total: int | None = None
    report: RawReport | None = None
    remarks: tuple[str, ...] = ()
    unserved: RetryLater | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a connector's `check` learnt.

    `now` is the broker's own time: windows end there, never at the worker's clock. `account_ref` is the
    account the broker reports, where it does. `notices` are sentences for the connection's owner that stand until
    the next inspection, `news` those that are true of this moment only.
    """

    now: int
    account_ref: str | None = None
    notices: tuple[str, ...] = ()
    news: tuple[str, ...] = ()


class Connector(Protocol):
    """What a broker must be able to do for us; nothing more is asked of one."""

    def check(self, *, inspect: bool) -> Standing:
        """The cheapest call that shows the broker can be read; raises a Failure if it cannot.

        With `inspect`, the credentials themselves are examined too: what they may do, whose they are, when
        they end. That costs a call, so it happens at the first use of credentials and once a day.
        """
        ...

    def fetch(self, window: Window, resume: str | None = None) -> Iterator[Page]:
        """The raw pages of `window`, the last of them with `drained` set; raises a Failure."""
        ...

    def close(self) -> None:
        """Let go of sockets."""
        ...


@dataclass(frozen=True, slots=True)
class Normalized:
    """What a page means. Every record is an execution, a reject, or counted as skipped.

    `skipped` are rows that say nothing new: another connection's account, a combo whose legs are there too.
    `warnings` are for the log, `notices` are sentences for the connection's owner.
    """

    executions: tuple[Execution, ...] = ()
    rejects: tuple[Reject, ...] = ()
    warnings: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    skipped: int = 0

    def since(self, instant: int | None) -> Normalized:
        """Without the executions before `instant`, which are counted as skipped: the owner wants none of them."""
        wanted = tuple(row for row in self.executions if instant is None or row.occurred_at >= instant)
        return replace(self, executions=wanted, skipped=self.skipped + len(self.executions) - len(wanted))


class BreakerState(Wire):
    """The circuit breaker of one connection; lives with the connection and survives restarts."""

    phase: Literal["closed", "open", "half_open"] = "closed"
    failures: int = 0
    opened_at: int | None = None
    until: int | None = None


class KrakenAuth(Wire):
    """A Kraken API key. Never printed: see `log.py`."""

    kind: Literal["kraken"]
    api_key: str
    api_secret: str
    otp: str | None = None

    def __repr__(self) -> str:
        return "KrakenAuth(…)"

    __str__ = __repr__


class IbkrGatewayAuth(Wire):
    """The address of a Client Portal gateway in which a person is logged in."""

    kind: Literal["ibkr_gateway"]
    base_url: str


class IbkrOAuthAuth(Wire):
    """A consumer of Interactive Brokers' OAuth 1.0a. Never printed: see `log.py`.

    Keys that are absent are read from the worker's own files (`IBKR_OAUTH_KEYS`).
    """

    kind: Literal["ibkr_oauth"]
    consumer_key: str
    access_token: str
    access_token_secret: str
    signature_key: str | None = None
    encryption_key: str | None = None
    dh_param: str | None = None
    realm: str | None = None

    def __repr__(self) -> str:
        return "IbkrOAuthAuth(…)"

    __str__ = __repr__


class IbkrFlexAuth(Wire):
    """A token of the Flex Web Service and the queries it may run, one at least. Never printed: see `log.py`."""

    kind: Literal["ibkr_flex"]
    token: str
    activity_query_id: str | None = None
    confirm_query_id: str | None = None
    token_ends_at: int | None = None
    """Epoch ms, as its owner read it in Client Portal: the service tells nobody."""

    def __repr__(self) -> str:
        return "IbkrFlexAuth(…)"

    __str__ = __repr__


Auth = Annotated[KrakenAuth | IbkrGatewayAuth | IbkrOAuthAuth | IbkrFlexAuth, Field(discriminator="kind")]


class ConnectionSettings(Wire):
    """What the owner may set for one connection."""

    interval_minutes: int = 15
    import_from: int | None = None
    kraken_tier: Literal["starter", "intermediate", "pro"] = "starter"
    ibkr_region: Region = "america"
    """Where the login's servers are: their nightly resets are at other hours."""
    ibkr_keepalive: Keepalive = "always"


class Connection(Wire):
    """A brokerage connection as a lease shows it to the worker.

    `account_ref` is absent until the broker's account is known; `own_ref` is the stable reference used when
    the broker never names one. `other_accounts` are those of the owner's other connections to this broker,
    `taken_accounts` those of them that go through the same login.
    `auth_version` rises with every change of the credentials.
    """

    connection_id: str
    owner_id: str
    provider: Provider
    kind: ConnectionKind
    own_ref: str
    account_ref: str | None = None
    other_accounts: tuple[str, ...] = ()
    taken_accounts: tuple[str, ...] = ()
    label: str | None = None
    status: ConnectionStatus
    auth: Auth
    auth_version: int
    settings: ConnectionSettings


class DueConnection(Wire):
    """One line of `worker.watch`: enough to decide whether to claim."""

    connection_id: str
    kind: ConnectionKind
    status: ConnectionStatus
    next_sync_at: int
    requested_at: int | None = None
    lease_expires_at: int | None = None
    auth_version: int
    label: str | None = None
    kept_by: str | None = None
    """The worker that got the last lease of its login, and so keeps the login's session up."""


class Lease(Wire):
    """The right to sync one connection until `expires_at`, and all that is known about it.

    `server_now` is Convex's clock at the grant. `extras` are the worker's own notes on the connection.
    """

    job_id: str
    fence: int
    mode: JobMode
    expires_at: int
    server_now: int
    connection: Connection
    coverage: tuple[Interval, ...] = ()
    extras: dict[str, str] = Field(default_factory=dict)
    sibling_coverage: tuple[Interval, ...] = ()
    """What the owner's other connections to the same account have proven complete."""
    sibling_notes: tuple[str, ...] = ()
    """What the owner's other connections of the same login noted about it."""
    breaker: BreakerState = BreakerState()
    rejects: tuple[Retried, ...] = ()
    """Rows nobody could read, that the owner wants tried again."""


class Refusal(Wire):
    """Why a claim was not granted."""

    reason: Literal["held", "not_due", "disconnected", "unknown"]


class Ingested(Wire):
    """What became of a batch, and until when the lease now runs."""

    inserted: int
    updated: int
    known: int
    held: int
    rejected: int
    expires_at: int
    server_now: int


class Room(Wire):
    """Where a report is kept, how many parts it has there, and how many of them are there already."""

    report_id: str
    parts: int
    parts_kept: int


class KeptReport(Wire):
    """A report that Convex keeps whole; `parts` is 0 where it was too large to be kept. `kept_at` is epoch ms."""

    report_id: str
    source: Source
    digest: str
    size: int
    parts: int
    kept_at: float


class KeptReports(Wire):
    """The reports that a job of a connection received; `dropped` of them are no longer kept."""

    connection_id: str
    kind: ConnectionKind
    account_ref: str | None
    import_from: int | None
    reports: tuple[KeptReport, ...]
    dropped: int


class Change(Wire):
    """One fact of an execution that would be another; None where it is not stated."""

    fact: str
    before: str | None
    after: str | None


class Difference(Wire):
    """What storing an execution again would do. `outdated`: the broker has said something else since."""

    fate: Literal["new", "changed", "known", "outdated"]
    changes: tuple[Change, ...]


class Progress(Wire):
    """How far a long read is: rows read so far, and the broker's own total where it says one."""

    rows: int
    total: int | None = None
    complete_back_to: int | None = None


class Problem(Wire):
    """One open problem of a connection: what the Import Errors panel shows."""

    code: str
    sentence: str
    action: str = ""
    url: str | None = None
    """The address to open, where the action needs one."""


class JobOutcome(Wire):
    """How a job ended."""

    status: JobStatus
    reason: JobReason = "none"
    problem: Problem | None = None


class Counts(Wire):
    """What the worker alone can count: rows fetched, those it already knew, those that are no executions."""

    fetched: int = 0
    remembered: int = 0
    skipped: int = 0
    errors: int = 0
