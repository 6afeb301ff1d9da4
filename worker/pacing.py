"""Rate limits kept on our side: the counter a broker keeps, kept here too, so that it never says no."""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from worker import metrics
from worker.clock import Clock
from worker.errors import RetryLater

LONGEST_SLEEP = 60.0


@dataclass(frozen=True, slots=True)
class Tier:
    """Kraken's call counter by verification tier: it may rise to `ceiling` and drains all the time."""

    ceiling: float
    decay_per_second: float


TIERS: Mapping[str, Tier] = MappingProxyType(
    {"starter": Tier(15, 0.33), "intermediate": Tier(20, 0.5), "pro": Tier(20, 1.0)}
)
"""Reference kraken 3.1."""

HEADROOM = 3.0
"""Left free for the account's other tools and for calls that arrive late (reference kraken 3.2)."""


class DecayingCounter:
    """A counter that calls raise and time lowers; whoever would raise it too far waits first.

    One for each API key in the process: the broker counts by key, not by connection or thread.
    """

    def __init__(
        self,
        ceiling: float,
        decay_per_second: float,
        clock: Clock,
        *,
        headroom: float = HEADROOM,
        kind: str = "kraken",
    ) -> None:
        self._ceiling = ceiling
        self._limit = ceiling - headroom
        self._decay = decay_per_second
        self._clock = clock
        self._kind = kind
        self._lock = threading.Lock()
        self._level = 0.0
        self._at = self._born = clock.monotonic()
        self._inherited = False
        self._silent_until: float | None = None

    @property
    def drain_seconds(self) -> float:
        """How long a full counter takes to empty."""
        return self._ceiling / self._decay

    def acquire(self, cost: float) -> None:
        """Count a call, after waiting just as long as it takes to fit under the ceiling.

        The cost is booked before the wait, so that threads queue up behind each other instead of waking
        together. A wait over a minute, or a key that was told to be silent, raises RetryLater.
        """
        with self._lock:
            self._refuse_while_silent()
            level = self._decayed()
            wait = (level + cost - self._limit) / self._decay if cost > 0 else 0.0
            if wait > LONGEST_SLEEP:
                raise _used_up(self._clock, wait)
            self._level = level + cost
        if wait > 0:
            metrics.broker_wait(self._kind, wait)
            self._clock.sleep(wait)

    def fill(self) -> None:
        """The broker says the limit is reached, whatever we counted: believe it."""
        with self._lock:
            self._level = max(self._decayed(), self._ceiling)

    @property
    def level(self) -> float:
        """How full the counter is."""
        with self._lock:
            return self._decayed()

    def start_at(self, level: float, *, since: float) -> None:
        """Another process left the counter at `level`, `since` seconds ago."""
        with self._lock:
            left = min(self._ceiling, level) - max(0.0, since) * self._decay
            self._level = max(self._decayed(), left)

    def inherit(self) -> None:
        """Another process used this key until it ended, not long ago: what it called may still weigh.

        How much is unknown, so a counter that was full when this process began is assumed.
        """
        with self._lock:
            if not self._inherited:
                self._inherited = True
                age = self._clock.monotonic() - self._born
                left = max(0.0, self._ceiling - age * self._decay)
                self._level = min(self._ceiling, self._decayed() + left)

    def silence(self, seconds: float) -> None:
        """No call at all for so long (reference kraken 3.3: a lockout, which more calls prolong)."""
        with self._lock:
            until = self._clock.monotonic() + seconds
            self._silent_until = max(until, self._silent_until or until)

    def _decayed(self) -> float:
        now = self._clock.monotonic()
        self._level = max(0.0, self._level - (now - self._at) * self._decay)
        self._at = now
        return self._level

    def _refuse_while_silent(self) -> None:
        if self._silent_until is None:
            return
        left = self._silent_until - self._clock.monotonic()
        if left > 0:
            raise _used_up(self._clock, left)
        self._silent_until = None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` calls in any `seconds`."""

    calls: int
    seconds: float


SLACK = 0.05
"""Seconds added to every interval. The broker measures with its own clock: one that rounds to milliseconds would see
4.999 s of our 5, and one that NTP slows down as far as it may, by 500 ppm, sees 59.97 s of our minute."""

JITTER = 0.2
"""At most so many seconds more, by chance, so that several workers do not fall into step."""

_GLANCE = 0.5
"""How long a waiter on the real clock may overlook a stop request or the broker's wish for silence."""


class Pacer:
    """The line of one login: one request at a time, each as soon as every limit that applies to it allows.

    Whoever may go goes in order of arrival; a call that waits for its endpoint's own limit lets the calls to
    other endpoints pass. An interval counts from the end of the earlier call to the start of the later one, so
    that however long each of them travels, they arrive no closer than allowed.

    One for each login in the process: Interactive Brokers counts by login (reference ibkr 2.5), whatever
    connection, job or keepalive makes the call.
    """

    def __init__(
        self,
        everywhere: Limit,
        endpoints: Mapping[str, Limit],
        clock: Clock,
        *,
        kind: str,
        jitter: float = JITTER,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._everywhere = _Gate(everywhere)
        self._endpoints = {endpoint: _Gate(limit) for endpoint, limit in endpoints.items()}
        self._clock = clock
        self._kind = kind
        self._jitter = jitter
        self._chance = chance
        self._changed = threading.Condition()
        self._queue: list[_Ticket] = []
        self._calling: _Ticket | None = None
        self._ended: float | None = None
        self._silent_until = -math.inf

    @contextmanager
    def turn(self, endpoint: str) -> Iterator[None]:
        """One request to `endpoint` belongs inside; turns do not nest.

        Raises RetryLater before any wait where the limits and the calls ahead would make it last more than a
        minute, and as soon as the broker wants silence; Stopped when the worker is asked to stop meanwhile.
        """
        ticket = _Ticket(self._gates(endpoint))
        self._wait_for(ticket)
        try:
            yield
        finally:
            with self._changed:
                self._ended = self._clock.monotonic()
                margin = SLACK + self._jitter * self._chance()
                for gate in ticket.gates:
                    gate.count(self._ended + margin)
                self._calling = None
                self._changed.notify_all()

    def assume(self, endpoint: str, *, ended: float) -> None:
        """Another process called `endpoint` too, and its call ended so many seconds ago."""
        with self._changed:
            at = self._clock.monotonic() - max(0.0, ended) + SLACK
            for gate in self._gates(endpoint):
                gate.inherit(at)

    def recent(self, endpoint: str) -> tuple[float, ...]:
        """Seconds since each of the last calls to `endpoint` that its own limit still counts, the oldest first."""
        with self._changed:
            now = self._clock.monotonic()
            return tuple(max(0.0, now - end) for end in self._endpoints[endpoint].counted(now))

    def silence(self, seconds: float) -> None:
        """No call at all for so long: the penalty box after a 429 (reference ibkr 2.4). The longest wish wins.

        Say it inside the turn that was refused: then not even the call next in line gets through.
        """
        with self._changed:
            self._silent_until = max(self._silent_until, self._clock.monotonic() + seconds)
            self._changed.notify_all()

    @property
    def silent_for(self) -> float:
        """Seconds until calls are allowed again; 0 when they are."""
        with self._changed:
            return max(0.0, self._silent_until - self._clock.monotonic())

    @property
    def idle_for(self) -> float:
        """Seconds since the last call ended; 0 during one, infinite before the first."""
        with self._changed:
            if self._calling is not None:
                return 0.0
            return math.inf if self._ended is None else self._clock.monotonic() - self._ended

    def _gates(self, endpoint: str) -> tuple[_Gate, ...]:
        own = self._endpoints.get(endpoint)
        return (self._everywhere,) if own is None else (self._everywhere, own)

    def _wait_for(self, ticket: _Ticket) -> None:
        """Returns when `ticket` is the one that calls."""
        arrived = self._clock.monotonic()
        with self._changed:
            self._refuse_while_silent()
            self._refuse_long_wait(ticket)
            self._queue.append(ticket)
        try:
            while not self._admit(ticket):
                pass
        except BaseException:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()
            raise
        waited = self._clock.monotonic() - arrived
        if waited > 0:
            metrics.broker_wait(self._kind, waited)

    def _admit(self, ticket: _Ticket) -> bool:
        """Lets `ticket` call if nothing is in its way, else waits for a moment."""
        wait = 0.0
        with self._changed:
            self._refuse_while_silent()
            if self._calling is None:
                now = self._clock.monotonic()
                if ticket is min(self._queue, key=lambda queued: max(now, queued.opens())):
                    wait = ticket.opens() - now
                    if wait <= 0:
                        self._queue.remove(ticket)
                        self._calling = ticket
                        return True
            if wait == 0:
                self._changed.wait(_GLANCE)
        # Without the lock, and also for no time at all: this is where a stop request is noticed.
        self._clock.sleep(min(wait, _GLANCE))
        return False

    def _refuse_long_wait(self, ticket: _Ticket) -> None:
        now = self._clock.monotonic()
        ahead = [*self._queue, *([self._calling] if self._calling else [])]
        # A limit of just a minute is waited for, with all that is added to it and what floats round off.
        longest = LONGEST_SLEEP + 2 * SLACK + self._jitter
        for gate in ticket.gates:
            before = sum(gate in other.gates for other in ahead)
            wait = max(0.0, gate.opens() - now) + before // gate.limit.calls * gate.limit.seconds
            if wait > longest:
                raise _used_up(self._clock, wait)

    def _refuse_while_silent(self) -> None:
        left = self._silent_until - self._clock.monotonic()
        if left > 0:
            raise RetryLater(
                "The broker has asked for silence after too many calls; the sync goes on by itself when that is over.",
                until=_appointment(self._clock, left),
                reason="rate_limited",
                code="silenced",
            )


class _Gate:
    """One limit, and when each of the last calls it counted ceases to count."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._ends: deque[float] = deque(maxlen=limit.calls)

    def opens(self) -> float:
        """From when on one more call fits."""
        return self._ends[0] if len(self._ends) == self.limit.calls else -math.inf

    def count(self, end: float) -> None:
        """A call has ended."""
        self._ends.append(end + self.limit.seconds)

    def counted(self, now: float) -> list[float]:
        """The ends of the calls that still count."""
        return [opens - self.limit.seconds for opens in self._ends if opens > now]

    def inherit(self, end: float) -> None:
        """A call of somebody else ended then; it is news only where nothing later is known."""
        if not self._ends or self._ends[-1] < end + self.limit.seconds:
            self.count(end)


class _Ticket:
    """A place in the line. Its own object, because two equal calls are two."""

    def __init__(self, gates: tuple[_Gate, ...]) -> None:
        self.gates = gates

    def opens(self) -> float:
        """From when on all its gates are open."""
        return max(gate.opens() for gate in self.gates)


def _used_up(clock: Clock, seconds: float) -> RetryLater:
    return RetryLater(
        "The broker's rate limit is used up; the sync goes on by itself when it has recovered.",
        until=_appointment(clock, seconds),
        reason="rate_limited",
    )


def _appointment(clock: Clock, seconds: float) -> int:
    return clock.now() + int(seconds * 1000) + 1
