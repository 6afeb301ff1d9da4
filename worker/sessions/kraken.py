"""Kraken: what a job needs of it, and what belongs to an API key or to the exchange rather than to one job."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from worker.clock import Clock
from worker.connectors.kraken import KrakenConnector, Nonces, public_counter
from worker.connectors.kraken_walk import CUT_PAGES
from worker.coverage import Windowing
from worker.models import KrakenAuth, Lease, Normalized, Page
from worker.normalize.kraken import normalize_trades
from worker.normalize.symbols import PairBook
from worker.pacing import TIERS, DecayingCounter, Tier
from worker.retry import RetryBudget, RetryPolicy

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

WINDOWING: Final = Windowing(
    source="kraken_trades",
    # One page for most accounts; late rows are minutes late (reference kraken 1.5 step 2, 0 fact 4).
    overlap=HOUR_MS,
    deep_overlap=7 * DAY_MS,
    deep_every=DAY_MS,
    settle=3 * MINUTE_MS,
)


class ApiKey:
    """What two connections with one API key must share (reference kraken 2.2, 3.1), and what outlives the process.

    The note on it holds the last nonce and how much of the rate limit is used, so that the next process, whose
    clock may be an hour behind ours, goes on where this one stopped (fault C9). Its time is Convex's.
    """

    SPARE_NONCES: Final = 300 * 10**9
    """Nanoseconds: as many numbers as a lease may have used up after its last note, when its process was killed. Not
    added to the note of a job that ended, or a worker started every minute would run away from the clock."""

    def __init__(self, clock: Clock, tier: Tier) -> None:
        self.nonces = Nonces(clock)
        self.counter = DecayingCounter(tier.ceiling, tier.decay_per_second, clock)
        self.budget = RetryBudget()
        self._fresh = True

    def recall(self, note: str | None, now: int) -> None:
        """Go on behind what was noted; a note that cannot be read is as good as none."""
        try:
            noted = json.loads(note or "{}")
            nonce, level, at = int(noted.get("nonce", 0)), float(noted.get("level", 0)), int(noted.get("at", now))
        except (ValueError, TypeError, AttributeError):
            return
        if nonce > self.nonces.last:
            self.nonces.rise_to(nonce if noted.get("ended") is True else nonce + self.SPARE_NONCES)
        if self._fresh:
            self.counter.start_at(level, since=(now - at) / 1000)
        self._fresh = False

    def note(self, now: int, *, ended: bool) -> str:
        """What `recall` wants to know; `ended` says that the job makes no more calls."""
        return json.dumps(
            {"nonce": str(self.nonces.last), "level": round(self.counter.level, 2), "at": now, "ended": ended}
        )


class KrakenSession:
    """A connector, the names of the pairs its rows speak of, and its key."""

    def __init__(
        self,
        connector: KrakenConnector,
        pairs: PairBook,
        refresh: Callable[[KrakenConnector], PairBook],
        note_on_key: Callable[[bool], str],
    ) -> None:
        self._connector = connector
        self._pairs = pairs
        self._note_on_key = note_on_key
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

    def read_again(self, row: Mapping[str, Any], account_ref: str) -> Normalized:
        return self.normalize(Page([row]), account_ref)

    def notes(self, *, ended: bool = False) -> dict[str, str]:
        return {"pairs": self._pairs.dumps(), "key": self._note_on_key(ended)}


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
        self._keys: dict[str, ApiKey] = {}
        self._public = public_counter(clock)
        self._pairs = PairBook()
        self._pairs_at: float | None = None

    def open(self, lease: Lease, probe: bool) -> KrakenSession:
        """One job's session."""
        auth = lease.connection.auth
        if not isinstance(auth, KrakenAuth):
            raise TypeError(f"a Kraken connection has credentials of kind {auth.kind}")
        key = self._key_of(lease, auth)
        opened = self._clock.monotonic()
        connector = KrakenConnector(
            auth,
            clock=self._clock,
            nonces=key.nonces,
            counter=key.counter,
            public=self._public,
            budget=key.budget,
            policy=RetryPolicy(attempts=1) if probe else RetryPolicy(),
            base_url=self._base_url,
            transport=self._transport,
            cut_pages=self._cut_pages,
        )
        with self._lock:
            pairs = self._pairs.merge(PairBook.loads(lease.extras.get("pairs")))

        def note(ended: bool) -> str:
            return key.note(lease.server_now + round((self._clock.monotonic() - opened) * 1000), ended=ended)

        return KrakenSession(connector, pairs, self._fresh_pairs, note)

    def _key_of(self, lease: Lease, auth: KrakenAuth) -> ApiKey:
        with self._lock:
            name = auth.api_key
            if name not in self._keys:
                self._keys[name] = ApiKey(self._clock, TIERS[lease.connection.settings.kraken_tier])
            self._keys[name].recall(lease.extras.get("key"), lease.server_now)
            return self._keys[name]

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
