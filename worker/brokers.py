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

from worker.clock import Clock
from worker.connectors.kraken import KrakenConnector, Nonces
from worker.connectors.kraken_walk import CUT_PAGES
from worker.coverage import Windowing
from worker.models import Connection, ConnectionKind, Connector, Normalized, Page
from worker.normalize.kraken import normalize_trades
from worker.normalize.symbols import PairBook
from worker.pacing import TIERS, DecayingCounter
from worker.retry import RetryBudget, RetryPolicy

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

    def __init__(
        self, connector: KrakenConnector, pairs: PairBook, refresh: Callable[[KrakenConnector], PairBook]
    ) -> None:
        self._connector = connector
        self._pairs = pairs
        self._refresh: Callable[[KrakenConnector], PairBook] | None = refresh

    @property
    def connector(self) -> KrakenConnector:
        return self._connector

    def normalize(self, page: Page, account_ref: str) -> Normalized:
        if self._refresh is not None and not all(self._pairs.knows(row) for row in page.records):
            # Once a job: a pair that is in no list any more stays unresolved, and is kept as such.
            refresh, self._refresh = self._refresh, None
            self._pairs = self._pairs.merge(refresh(self._connector))
        normalized, self._pairs = normalize_trades(page.records, account_ref, self._pairs)
        return normalized

    def notes(self) -> dict[str, str]:
        return {"pairs": self._pairs.dumps()}


class Kraken:
    """Opens Kraken sessions, and keeps what belongs to an API key or to the exchange rather than to one job."""

    PAIRS_AGE: Final = 3600.0
    """Seconds for which the lists of pairs are good enough; an unknown pair asks for them again after that."""

    def __init__(
        self,
        clock: Clock,
        base_url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        cut_pages: int = CUT_PAGES,
    ) -> None:
        self._clock = clock
        self._cut_pages = cut_pages
        self._base_url = base_url
        self._transport = transport
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[Nonces, DecayingCounter, RetryBudget]] = {}
        self._pairs = PairBook()
        self._pairs_at: float | None = None

    def broker(self) -> Broker:
        """The row of the table."""
        return Broker(KRAKEN_WINDOWING, self._open)

    def _open(self, connection: Connection, notes: Mapping[str, str], probe: bool) -> KrakenSession:
        nonces, counter, budget = self._of_key(connection)
        connector = KrakenConnector(
            connection.auth,
            clock=self._clock,
            nonces=nonces,
            counter=counter,
            budget=budget,
            policy=RetryPolicy(attempts=1) if probe else RetryPolicy(),
            base_url=self._base_url,
            transport=self._transport,
            cut_pages=self._cut_pages,
        )
        with self._lock:
            pairs = self._pairs.merge(PairBook.loads(notes.get("pairs")))
        return KrakenSession(connector, pairs, self._fresh_pairs)

    def _of_key(self, connection: Connection) -> tuple[Nonces, DecayingCounter, RetryBudget]:
        """What two connections with one key must share (reference kraken 2.2, 3.1)."""
        tier = TIERS[connection.settings.kraken_tier]
        with self._lock:
            key = connection.auth.api_key
            if key not in self._keys:
                self._keys[key] = (
                    Nonces(self._clock),
                    DecayingCounter(tier.ceiling, tier.decay_per_second, self._clock),
                    RetryBudget(),
                )
            return self._keys[key]

    def _fresh_pairs(self, connector: KrakenConnector) -> PairBook:
        now = self._clock.monotonic()
        with self._lock:
            if self._pairs_at is not None and now - self._pairs_at < self.PAIRS_AGE:
                return self._pairs
        raw = connector.fetch_pairs()
        with self._lock:
            # Merged, never replaced: delisted pairs vanish from the lists (reference kraken 4.3).
            self._pairs = self._pairs.merge(PairBook.of(raw.pairs, raw.assets))
            self._pairs_at = now
            return self._pairs


def broker_table(clock: Clock, *, kraken_base_url: str) -> dict[ConnectionKind, Broker]:
    """Every kind of connection this worker can sync."""
    return {"kraken": Kraken(clock, kraken_base_url).broker()}
