"""The call counter: never over the ceiling, never slower than needed."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.clock import VirtualClock
from worker.errors import RetryLater
from worker.pacing import HEADROOM, TIERS, DecayingCounter

NOW = 1_700_000_000_000


class Kraken:
    """The counter of reference kraken 3.1 as Kraken keeps it; counts what it would have refused."""

    def __init__(self, tier: str, clock: VirtualClock) -> None:
        self._ceiling, self._decay = TIERS[tier].ceiling, TIERS[tier].decay_per_second
        self._clock = clock
        self._level = 0.0
        self._at = clock.monotonic()
        self.refused = 0

    def call(self, cost: float) -> None:
        now = self._clock.monotonic()
        self._level = max(0.0, self._level - (now - self._at) * self._decay) + cost
        self._at = now
        self.refused += self._level > self._ceiling + 1e-9


def counter(tier: str, clock: VirtualClock, headroom: float = HEADROOM) -> DecayingCounter:
    return DecayingCounter(TIERS[tier].ceiling, TIERS[tier].decay_per_second, clock, headroom=headroom)


@pytest.mark.parametrize("tier", sorted(TIERS))
def test_100_history_calls_take_the_least_time_the_tier_allows(tier: str) -> None:
    clock = VirtualClock(NOW)
    kraken, ours = Kraken(tier, clock), counter(tier, clock)
    for _ in range(100):
        ours.acquire(2)
        kraken.call(2)
    assert kraken.refused == 0
    # (2·P − C) / d of reference kraken 3.2, with C less the headroom.
    bound = (200 - (TIERS[tier].ceiling - HEADROOM)) / TIERS[tier].decay_per_second
    assert clock.monotonic() == pytest.approx(bound, rel=1e-6)


@given(
    tier=st.sampled_from(sorted(TIERS)),
    steps=st.lists(st.tuples(st.floats(0, 100), st.sampled_from([1, 2]), st.floats(0, 5)), max_size=60),
)
def test_I5_never_over_the_ceiling_however_calls_and_latencies_fall(
    tier: str, steps: list[tuple[float, int, float]]
) -> None:
    clock = VirtualClock(NOW)
    kraken, ours = Kraken(tier, clock), counter(tier, clock)
    for pause, cost, latency in steps:
        clock.advance(pause)
        ours.acquire(cost)
        clock.advance(latency)
        kraken.call(cost)
    assert kraken.refused == 0


def test_A7_a_rate_limit_answer_fills_the_counter() -> None:
    clock = VirtualClock(NOW)
    ours = counter("starter", clock)
    ours.fill()
    ours.acquire(2)
    # From 15 down to 10, so that 2 more make the ceiling less its headroom.
    assert clock.monotonic() == pytest.approx(5 / 0.33, rel=1e-6)


def test_C8_a_silenced_key_is_not_used() -> None:
    clock = VirtualClock(NOW)
    ours = counter("starter", clock)
    ours.silence(900)
    for cost in (0, 1, 2):
        with pytest.raises(RetryLater) as caught:
            ours.acquire(cost)
        assert NOW + 900_000 <= caught.value.until <= NOW + 900_001
    assert clock.monotonic() == 0
    clock.advance(900)
    ours.acquire(2)
    assert clock.monotonic() == 900


def test_a_wait_over_a_minute_is_an_appointment() -> None:
    clock = VirtualClock(NOW)
    ours = counter("starter", clock)
    with pytest.raises(RetryLater) as caught:
        ours.acquire(40)
    assert caught.value.until >= NOW + 84_848
    assert clock.monotonic() == 0


def test_free_calls_do_not_wait() -> None:
    clock = VirtualClock(NOW)
    ours = counter("starter", clock)
    ours.fill()
    ours.acquire(0)
    assert clock.monotonic() == 0


def test_threads_queue_behind_each_other() -> None:
    """The sum of all waits is what one thread would have waited, whatever the interleaving."""
    waits: list[float] = []

    class Frozen(VirtualClock):
        """Time stands still, so that every thread meets the same instant."""

        def sleep(self, seconds: float) -> None:
            waits.append(seconds)

    ours = counter("pro", Frozen(NOW))
    threads = [threading.Thread(target=ours.acquire, args=(2,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 17 of 20 are free at once: eight calls of 2. The ninth waits 1 s, then 3 s, … 15 s.
    assert sorted(waits) == pytest.approx([1, 3, 5, 7, 9, 11, 13, 15])
