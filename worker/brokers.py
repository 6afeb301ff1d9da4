"""The table: connection kind → connector, normaliser, pacing, windows.

The only module that knows both halves of a broker. A new broker is one connector, one normaliser, one row here
and one literal in `validators.ts`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import httpx

from worker import log
from worker.clock import Clock
from worker.connectors.kraken import KrakenConnector, Nonces
from worker.coverage import Windowing
from worker.errors import Failure
from worker.models import Connection, ConnectionKind, Connector, Normalized, Page
from worker.normalize.kraken import normalize_trades
from worker.normalize.symbols import PairBook
from worker.pacing import TIERS, DecayingCounter

_LOG = log.get(__name__)

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS


class Session(Protocol):
    """One job's view of a broker: where rows come from and what they mean."""

    @property
    def connector(self) -> Connector: ...

    def normalize(self, page: Page, account_ref: str) -> Normalized:
        """The meaning of a page of this connector."""
        ...

    def notes(self) -> dict[str, str]:
        """What the next job should know, stored with the connection's coverage."""
        ...


@dataclass(frozen=True, slots=True)
class Broker:
    """A row of the table.

    `open(connection, notes, probe)` begins a job's session; with `probe` a half-open breaker wants each request
    asked once only.
    """

    windowing: Windowing
    open: Callable[[Connection, Mapping[str, str], bool], Session]


KRAKEN_WINDOWING: Final = Windowing(
    source="kraken_trades",
    # One page for most accounts; late rows are minutes late (reference kraken 1.5 step 2, 0 fact 4).
    overlap=HOUR_MS,
    deep_overlap=7 * DAY_MS,
    deep_every=DAY_MS,
    settle=3 * MINUTE_MS,
)


class KrakenSession:
    """A connector, and the names of the pairs its rows speak of."""

    def __init__(self, connector: KrakenConnector, pairs: PairBook, refresh: Callable[[KrakenConnector], PairBook]):
        self.connector = connector
        self._pairs = pairs
        self._refresh: Callable[[KrakenConnector], PairBook] | None = refresh

    def normalize(self, page: Page, account_ref: str) -> Normalized:
        if self._refresh is not None and any(not self._pairs.knows(row) for row in page.records):
            # Asked once a job at most: a pair that is in no list any more stays unresolved and is kept as such.
            refresh, self._refresh = self._refresh, None
            try:
                self._pairs = self._pairs.merge(refresh(self.connector))
            except Failure as failure:
                _LOG.warning("kraken.pairs_unavailable", error=str(failure))
                raise
        normalized, self._pairs = normalize_trades(page.records, account_ref, self._pairs)
        return normalized

    def notes(self) -> dict[str, str]:
        return {"pairs": self._pairs.dumps()}


class Kraken:
    """Opens Kraken sessions; keeps what belongs to an API key rather than to a job: nonces and the call counter."""

    def __init__(self, clock: Clock, base_url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._clock = clock
        self._base_url = base_url
        self._transport = transport
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[Nonces, DecayingCounter]] = {}
        self._pairs: PairBook | None = None
        self._pairs_at = 0.0
