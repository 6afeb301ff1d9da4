"""What a test or a demo decides about the simulated login."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sandbox.brokers.ibkr.answers import Refusal
from sandbox.brokers.ibkr.ledger import Numbers
from sandbox.brokers.ibkr.oauth import QueryRule
from sandbox.brokers.ibkr.session import Region


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class NewFill(_Input):
    """An execution to book. What is not given, the simulated trader decides."""

    count: int = Field(1, ge=1, description="so many, alike to the last digit, with an id each")
    account: str | None = None
    symbol: str | None = None
    sec_type: str | None = None
    conid: int | None = None
    side: str | None = Field(None, description="B or S; anything else is shown as it is")
    size: Decimal | None = None
    price: Decimal | None = None
    commission: Decimal | None = None
    no_commission: bool = False
    multiplier: Decimal | None = None
    currency: str | None = None
    exec_id: str | None = None
    order_id: int | None = None
    order_ref: str | None = None
    expiry: bool = Field(False, description="the removal of an expired position: side X, price 0.0, no commission")
    assignment: bool = Field(False, description="a short option is assigned: it is removed, and its stock traded")
    legs: list[NewFill] = Field([], description="a combo: these are its executions")
    bag: bool = Field(False, description="with `legs`: the list also shows the combo itself, as a BAG row")
    time: Decimal | None = Field(None, description="epoch seconds, past or future; whole; default: now")
    ago_seconds: float = 0.0
    visible_in_seconds: float | None = Field(None, description="the list shows it that much after now (late booking)")
    overrides: dict[str, Any] = Field({}, description="fields of the row as they are shown; null removes one")


class Correction(_Input):
    """A higher revision of an execution: same id but for the last segment."""

    exec_id: str
    account: str | None = None
    side: str | None = None
    size: Decimal | None = None
    price: Decimal | None = None
    commission: Decimal | None = None
    overrides: dict[str, Any] = {}


class Cancellation(_Input):
    """The exchange takes an execution back."""

    exec_id: str
    account: str | None = None


class Quirks(_Input):
    """Known and suspected oddities of the API's answers (reference ibkr 2.3-2.8, 3.3)."""

    refusal: Refusal = Field("json", description="how it says that nobody is logged in")
    tickle_refusal: Literal["refusal", "no_session", "fail"] = "refusal"
    logged_out_status: Literal["body", "refusal"] = Field("body", description="auth/status without a login")
    doubtful_login: bool = Field(False, description="the first status after a login says authenticated false")
    no_bridge_seconds: float = Field(0.0, description="how long after its opening the brokerage session has no bridge")
    established: bool = Field(True, description="the field of 2026 builds")
    sso_fields: bool = Field(True, description="tickle has ssoExpires, collission and userId")
    status_fields: dict[str, Any] = Field({}, description="put over every auth status; null removes a field")
    sso_idle_seconds: float | None = Field(None, description="the SSO session too ends when idle for so long")
    unavailable_empty: bool = Field(False, description="503 without a body")
    retry_after: str | None = Field(None, description="the header of every 429")
    accounts_first_status: Literal[400, 500] = 400

    priming: bool = Field(True, description="the first trades call of a brokerage session answers []")
    short_days_empty: bool = Field(True, description="days=1 and days=2 answer []")
    account_filter: Literal["ignored", "selected", "filters", "required"] = Field(
        "ignored",
        description="what accountId does; `selected`: rows of the selected account only; `required`: [] without it",
    )
    corrections: Literal["newest", "all"] = Field("newest", description="which revisions the list shows")
    numbers: Numbers = "mixed"
    order_ids: bool = True
    commission_seconds: float = Field(0.0, description="so long after the fill its commission is absent")
    stale_after_seconds: float | None = Field(None, description="age at which a brokerage session's list freezes")
    shuffled: bool = False
    unknown_fields: dict[str, Any] = Field({}, description="added to every row")

    oauth_inactive: bool = Field(False, description="the consumer is not active yet")
    oauth_stale: bool = Field(False, description="410 to every signed call until a new live session token is made")
    oauth_no_dh_token: bool = Field(False, description="ssodh/init fails as for some individual logins")
    oauth_query: QueryRule = Field("either", description="whether query parameters belong in the signed text")


@dataclass(frozen=True, slots=True)
class Setup:
    """How a simulation starts. `end` is epoch milliseconds; absent means now.

    `years` is how long the account has traded before the `days`, just as busily; only statements reach back there.
    `sec_types` limits what the trader trades; empty means everything. `address` is where clients reach it, as far
    as it differs from the Host they send.
    """

    seed: str = "1"
    accounts: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    region: Region = "america"
    trades: int = 0
    days: float = 6.0
    years: float = 0.0
    end: int | None = None
    fill_every: float | None = None
    sec_types: tuple[str, ...] = ()
    logged_in: bool = True
    nightly_reset: bool = True
    outage_minutes: float = 0.0
    address: str | None = None
