"""The table: connection kind → connector, normaliser, pacing, windows.

A new broker is one connector, one normaliser, one module in `sessions` that joins the two, and one row here; its kind
and its credentials are added to `models.py` and `validators.ts`, and the compilers name the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from worker.coverage import Windowing
from worker.models import ConnectionKind, Connector, Lease, Normalized, Page
from worker.sessions import ibkr, ibkr_flex, kraken
from worker.sessions.ibkr import Ibkr
from worker.sessions.ibkr_flex import IbkrFlex
from worker.sessions.kraken import Kraken


class Session(Protocol):
    """One job's view of a broker: where rows come from and what they mean."""

    @property
    def connector(self) -> Connector: ...

    def normalize(self, page: Page, account_ref: str) -> Normalized:
        """The meaning of a page of this connector."""
        ...

    def read_again(self, row: Mapping[str, Any], account_ref: str) -> Normalized:
        """The meaning of one row as a reject kept it: its payload, decoded."""
        ...

    def notes(self, *, ended: bool = False) -> dict[str, str]:
        """What the next job should know, stored with the connection's coverage; `ended` after the last call."""
        ...


@dataclass(frozen=True, slots=True)
class Broker:
    """A row of the table.

    `open(lease, probe)` begins a job's session; with `probe` a half-open breaker wants each request asked once only.
    """

    windowing: Windowing
    open: Callable[[Lease, bool], Session]


def broker_table(kraken_broker: Kraken, ibkr_broker: Ibkr, flex_broker: IbkrFlex) -> Mapping[ConnectionKind, Broker]:
    """Every kind of connection this worker can sync."""
    return {
        "kraken": Broker(kraken.WINDOWING, kraken_broker.open),
        "ibkr_gateway": Broker(ibkr.LIVE_WINDOWING, ibkr_broker.open),
        "ibkr_oauth": Broker(ibkr.LIVE_WINDOWING, ibkr_broker.open),
        "ibkr_flex": Broker(ibkr_flex.WINDOWING, flex_broker.open),
    }
