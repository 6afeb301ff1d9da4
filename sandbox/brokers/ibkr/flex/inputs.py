"""What a test or a demo decides about the simulated report service."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

CallName = Literal["*", "SendRequest", "GetStatement"]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class FlexCode(_Input):
    """An error code (reference ibkr 4.2) to answer with, `times` times (null: for ever)."""

    code: int
    call: CallName = "*"
    times: int | None = Field(1, ge=1)
    message: str | None = Field(None, description="other words than the service's own")


class FlexQuirks(_Input):
    """How the service and its statements behave (reference ibkr 4.1-4.5)."""

    generation_seconds: float = Field(3.0, description="how long a statement is being made (1019)")
    generation_polls: int = Field(0, description="so many polls are answered 1019, whatever the time")
    cache_seconds: float = Field(0.0, description="the same request so soon again gets the same document")
    reference_seconds: float = Field(3600.0, description="a reference code lives so long (then 1017)")

    ready_hour: float = Field(3.0, description="Eastern hour at which yesterday is final")
    late_days: int = Field(0, description="so many more days until a day is final")
    unfinalised: Literal["1003", "hang", "cut"] = Field(
        "1003", description="a request that ends later than the last final day; `hang`: 1019 for ever"
    )
    empty_window: Literal["statement", "1003"] = "statement"
    confirm_seconds: float = Field(420.0, description="so long after the fill a confirmation shows it")

    url: str | None = Field(None, description="what the first answer names; default: where it was asked")
    lower_url: bool = False
    single_quotes: bool = False
    timestamp: bool = Field(True, description="the envelope's attribute")
    echo_url: bool = Field(False, description="error texts and statements repeat the request, token included")

    times: Literal["compact", "dashed", "zoned"] = Field(
        "compact", description="`20260810;093518`, `2026-08-10;09:35:18`, `2026-08-10;09:35:18 EDT`"
    )
    confirm_times: Literal["compact", "dashed", "zoned"] = "compact"
    summaries: bool = Field(True, description="Order, SymbolSummary and AssetSummary rows among the executions")
    lots: bool = Field(False, description="CLOSED_LOT rows too")
    orig_transactions: bool = Field(True, description="origTransactionID is in the query")
    exec_ids: Literal["given", "blank", "N/A"] = "given"
    left_out: list[str] = Field([], description="attributes whose box is not ticked")
    unknown_fields: dict[str, Any] = Field({}, description="added to every row")
    unknown_parts: bool = Field(False, description="an element among the rows and a section that nobody has heard of")
    rows: dict[str, dict[str, str | None]] = Field(
        {}, description="by execution id: what else its own row says, in place of the truth; null leaves one out"
    )
    statement: dict[str, str] = Field({}, description="what else every FlexStatement says of itself")
    section: bool = Field(True, description="False: the query does not include trades at all")
    missing_accounts: list[str] = []
    count: int | None = Field(None, description="what FlexStatements claims to hold")
    dtd: bool = False
    shuffled: bool = False
