"""The call counter and the line of a login: never over a limit, never slower than needed."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.clock import VirtualClock
from worker import metrics, pacing
from worker.clock import Clock, SystemClock
from worker.errors import RetryLater, Stopped
from worker.pacing import HEADROOM, JITTER, SLACK, TIERS, DecayingCounter, Limit, Pacer

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


class Login:
    """What a broker sees of one login's calls: when each arrived, and how many were under way at once."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, str]] = []
        self.under_way = 0
        self.together = 0

    def call(self, clock: VirtualClock, endpoint: str, *, before: float = 0.0, after: float = 0.0) -> None:
        """One request: it arrives `before` seconds after it is sent, the answer is there `after` seconds later."""
        self.under_way += 1
        self.together = max(self.together, self.under_way)
        clock.advance(before)
        self.arrivals.append((clock.monotonic(), endpoint))
        clock.advance(after)
        self.under_way -= 1

    def violations(self, everywhere: Limit, endpoints: dict[str, Limit]) -> int:
        """By a server's clock that is slow by 500 ppm and knows whole milliseconds only."""
        stamps = [(int(at * 999.5), endpoint) for at, endpoint in self.arrivals]
        count = _violations([at for at, _ in stamps], everywhere)
        for name, limit in endpoints.items():
            count += _violations([at for at, endpoint in stamps if endpoint == name], limit)
        return count


def _violations(stamps: list[int], limit: Limit) -> int:
    """Calls that have `limit.calls` others before them within the window."""
    return sum(
        later - first < limit.seconds * 1000 for first, later in zip(stamps, stamps[limit.calls :], strict=False)
    )


EVERYWHERE = Limit(10, 1.0)
ENDPOINTS = {"trades": Limit(1, 5.0), "tickle": Limit(1, 1.0), "validate": Limit(1, 60.0)}
"""Reference ibkr 2.5."""


def line(clock: Clock, *, jitter: float = 0.0) -> Pacer:
    return Pacer(EVERYWHERE, ENDPOINTS, clock, kind="ibkr_gateway", jitter=jitter)


def together(*jobs: Callable[[], object]) -> list[BaseException | None]:
    """What each job raised, all of them run at the same time."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.exception(60) for future in [pool.submit(job) for job in jobs]]


def test_the_audit_of_these_tests_counts_what_comes_too_early() -> None:
    login = Login()
    login.arrivals = [(0.0, "trades"), (5.002, "trades"), *((5.1 + n / 20, "status") for n in range(11))]
    # The second trades call is early by this server's clock, and two of the twelve in a second are too many.
    assert login.violations(EVERYWHERE, ENDPOINTS) == 3
    login.arrivals = [(0.0, "trades"), (5.004, "trades"), *((6.1 + n / 9, "status") for n in range(20))]
    assert login.violations(EVERYWHERE, ENDPOINTS) == 0


Step = tuple[str, float, float, float]
steps = st.lists(
    st.tuples(
        st.sampled_from(["trades", "tickle", "validate", "accounts", "status"]),
        st.sampled_from([0.0, 0.0, 0.3, 4.0, 20.0]) | st.floats(0, 10),
        st.sampled_from([0.0, 0.05, 2.0]) | st.floats(0, 12),
        st.sampled_from([0.0, 0.05, 2.0]) | st.floats(0, 12),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(jobs=st.lists(steps, min_size=1, max_size=4), jitter=st.sampled_from([0.0, 0.2]))
def test_I5_no_window_ever_sees_too_many_calls(jobs: list[list[Step]], jitter: float) -> None:
    clock, login = VirtualClock(NOW), Login()
    pacer = line(clock, jitter=jitter)

    def run(job: list[Step]) -> None:
        for endpoint, pause, before, after in job:
            clock.advance(pause)
            with suppress(RetryLater), pacer.turn(endpoint):
                login.call(clock, endpoint, before=before, after=after)

    assert together(*(partial(run, job) for job in jobs)) == [None] * len(jobs)
    assert login.violations(EVERYWHERE, ENDPOINTS) == 0
    assert login.together <= 1


def test_A15_a_hundred_thousand_calls_from_many_threads_break_no_limit() -> None:
    clock, login = VirtualClock(NOW), Login()
    pacer = line(clock, jitter=JITTER)
    endpoints = ["trades", "accounts", "tickle", "status"]

    def run(seed: int) -> None:
        chance = random.Random(seed)
        for n in range(25_000):
            with pacer.turn(endpoints[(seed + n) % 4]):
                login.call(clock, endpoints[(seed + n) % 4], before=chance.random() / 10, after=chance.random() / 10)

    assert together(*(partial(run, seed) for seed in range(4))) == [None] * 4
    assert len(login.arrivals) == 100_000
    assert login.violations(EVERYWHERE, ENDPOINTS) == 0
    assert login.together == 1


@pytest.mark.parametrize(
    ("endpoint", "calls", "seconds"),
    [
        ("trades", 21, 20 * (5 + SLACK)),
        ("tickle", 21, 20 * (1 + SLACK)),
        ("validate", 3, 2 * (60 + SLACK)),
        # Ten at once, and again as soon as the first of the ten is a second old.
        ("accounts", 10, 0.0),
        ("accounts", 11, 1 + SLACK),
        ("accounts", 35, 3 * (1 + SLACK)),
    ],
)
def test_a_lone_caller_is_as_fast_as_the_limits_allow(endpoint: str, calls: int, seconds: float) -> None:
    clock = VirtualClock(NOW)
    pacer = line(clock)
    for _ in range(calls):
        with pacer.turn(endpoint):
            pass
    assert clock.monotonic() == pytest.approx(seconds, abs=1e-4)


def test_an_interval_counts_from_the_end_of_the_earlier_call() -> None:
    clock = VirtualClock(NOW)
    pacer = line(clock)
    with pacer.turn("trades"):
        clock.advance(8)
    with pacer.turn("trades"):
        assert clock.monotonic() == pytest.approx(8 + 5 + SLACK, abs=1e-4)


def test_a_call_that_failed_counts_too() -> None:
    clock = VirtualClock(NOW)
    pacer = line(clock)
    with pytest.raises(OSError, match="reset"), pacer.turn("trades"):
        raise OSError("reset")
    with pacer.turn("trades"):
        assert clock.monotonic() == pytest.approx(5 + SLACK, abs=1e-4)


def test_waits_are_longer_by_chance_and_never_shorter() -> None:
    clock = VirtualClock(NOW)
    pacer = Pacer(EVERYWHERE, ENDPOINTS, clock, kind="ibkr_gateway", jitter=0.2, chance=lambda: 0.5)
    for _ in range(2):
        with pacer.turn("trades"):
            pass
    assert clock.monotonic() == pytest.approx(5 + SLACK + 0.1, abs=1e-4)


def test_waits_are_measured() -> None:
    def waited() -> float:
        return metrics.REGISTRY.get_sample_value("trade_sync_broker_wait_seconds_total", {"kind": "test_waits"}) or 0.0

    clock = VirtualClock(NOW)
    pacer = Pacer(EVERYWHERE, ENDPOINTS, clock, kind="test_waits", jitter=0.0)
    before = waited()
    for endpoint in ("trades", "tickle", "trades"):
        with pacer.turn(endpoint):
            pass
    assert waited() - before == pytest.approx(5 + SLACK, abs=1e-4)


class Watched(VirtualClock):
    """Tells when a thread has waited in the line for the first time."""

    def __init__(self, start_ms: int, *, stop: threading.Event | None = None) -> None:
        super().__init__(start_ms, stop=stop)
        self.waiting = threading.Semaphore(0)
        self._seen: set[int] = set()

    def sleep(self, seconds: float) -> None:
        if threading.get_ident() not in self._seen:
            self._seen.add(threading.get_ident())
            self.waiting.release()
        super().sleep(seconds)


@pytest.fixture
def quick_glances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_GLANCE", 0.01)


@pytest.mark.usefixtures("quick_glances")
def test_whoever_may_call_calls_in_order_of_arrival() -> None:
    clock = Watched(NOW)
    pacer = line(clock)
    order: list[str] = []

    def run(name: str, endpoint: str) -> None:
        with pacer.turn(endpoint):
            order.append(name)

    with pacer.turn("trades"):
        pass
    with ThreadPoolExecutor(5) as pool, pacer.turn("status"):
        for name, endpoint in [
            ("a", "trades"),
            ("b", "accounts"),
            ("c", "trades"),
            ("d", "tickle"),
            ("e", "status"),
        ]:
            pool.submit(run, name, endpoint)
            assert clock.waiting.acquire(timeout=30)
        assert order == []
    # The trades calls wait for their own limit and let the others pass.
    assert order == ["b", "d", "e", "a", "c"]


@pytest.mark.usefixtures("quick_glances")
def test_A6_silence_sends_away_everyone_who_waits_and_everyone_who_comes() -> None:
    clock = Watched(NOW)
    pacer = line(clock)
    called: list[str] = []

    def run(endpoint: str) -> None:
        with pacer.turn(endpoint):
            called.append(endpoint)

    with ThreadPoolExecutor(3) as pool, pacer.turn("status"):
        waiters = [pool.submit(run, endpoint) for endpoint in ("trades", "tickle", "accounts")]
        for _ in waiters:
            assert clock.waiting.acquire(timeout=30)
        pacer.silence(900)
        # Sent away while the refused call is still under way.
        refusals = [waiter.exception(30) for waiter in waiters]
    with pytest.raises(RetryLater) as newcomer:
        run("status")
    for refusal in (*refusals, newcomer.value):
        assert isinstance(refusal, RetryLater)
        assert (refusal.reason, refusal.code) == ("rate_limited", "silenced")
        assert "silence" in refusal.sentence
        assert NOW + 900_000 <= refusal.until <= NOW + 900_001
    assert called == []
    assert clock.monotonic() == 0


@pytest.mark.usefixtures("quick_glances")
def test_A6_silence_reaches_one_who_waits_for_a_limit() -> None:
    """It was asked for by a call that overtook him."""
    clock = Watched(NOW)
    pacer = line(clock)
    with pacer.turn("validate"):
        pass
    overtaking = threading.Event()

    def run() -> None:
        with pacer.turn("validate"):
            raise AssertionError("called into the silence")

    def sleep(seconds: float) -> None:
        clock.waiting.release()
        assert overtaking.wait(30)
        VirtualClock.sleep(clock, seconds)

    clock.sleep = sleep  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(run)
        assert clock.waiting.acquire(timeout=30)
        with pacer.turn("tickle"):
            pacer.silence(900)
        overtaking.set()
        assert isinstance(waiter.exception(30), RetryLater)
    assert clock.monotonic() < 1


def test_the_longest_wish_for_silence_wins_and_calls_go_on_after_it() -> None:
    clock = VirtualClock(NOW)
    pacer = line(clock)
    assert pacer.silent_for == 0
    pacer.silence(900)
    clock.advance(100)
    pacer.silence(30)
    assert pacer.silent_for == pytest.approx(800)
    clock.advance(100)
    pacer.silence(1000)
    assert pacer.silent_for == pytest.approx(1000)
    clock.advance(999.999)
    with pytest.raises(RetryLater), pacer.turn("tickle"):
        pass
    clock.advance(0.001)
    assert pacer.silent_for == 0
    with pacer.turn("tickle"):
        assert clock.monotonic() == pytest.approx(1200)


def test_idle_time_counts_from_the_end_of_the_last_call() -> None:
    clock = VirtualClock(NOW)
    pacer = line(clock)
    assert pacer.idle_for == math.inf
    clock.advance(7)
    assert pacer.idle_for == math.inf
    with pacer.turn("tickle"):
        clock.advance(3)
        assert pacer.idle_for == 0
    assert pacer.idle_for == 0
    clock.advance(61)
    assert pacer.idle_for == pytest.approx(61)


def test_a_wait_of_more_than_a_minute_in_line_is_an_appointment() -> None:
    clock = VirtualClock(NOW)
    pacer = Pacer(EVERYWHERE, {"performance": Limit(1, 900.0)}, clock, kind="ibkr_gateway", jitter=0.0)
    with pacer.turn("performance"):
        pass
    clock.advance(300)
    with pytest.raises(RetryLater) as caught, pacer.turn("performance"):
        pass
    assert caught.value.reason == "rate_limited"
    assert NOW + 900_000 <= caught.value.until <= NOW + 901_000
    assert clock.monotonic() == 300
    with pacer.turn("status"):
        assert clock.monotonic() == 300


@given(st.floats(0, 10_000), st.floats(0, 1))
def test_a_limit_of_just_a_minute_is_waited_for(moment: float, chance: float) -> None:
    clock = VirtualClock(NOW)
    clock.advance(moment)
    pacer = Pacer(EVERYWHERE, ENDPOINTS, clock, kind="ibkr_gateway", jitter=0.2, chance=lambda: chance)
    for _ in range(2):
        with pacer.turn("validate"):
            pass
    assert clock.monotonic() == pytest.approx(moment + 60 + SLACK + 0.2 * chance, abs=1e-4)


def test_silence_is_what_counts_while_a_limit_is_used_up_too() -> None:
    clock = VirtualClock(NOW)
    pacer = Pacer(EVERYWHERE, {"performance": Limit(1, 900.0)}, clock, kind="ibkr_gateway", jitter=0.0)
    with pacer.turn("performance"):
        pacer.silence(1800)
    with pytest.raises(RetryLater) as caught, pacer.turn("performance"):
        pass
    assert caught.value.code == "silenced"
    assert caught.value.until >= NOW + 1_800_000


@pytest.mark.usefixtures("quick_glances")
def test_the_calls_ahead_in_the_line_count_towards_the_minute() -> None:
    clock = Watched(NOW)
    pacer = line(clock)
    calls: list[float] = []

    def run() -> None:
        with pacer.turn("trades"):
            calls.append(clock.monotonic())

    with ThreadPoolExecutor(12) as pool, pacer.turn("trades"):
        for _ in range(12):
            pool.submit(run)
            assert clock.waiting.acquire(timeout=30)
        # One under way and twelve in line: the thirteenth would wait for 65 s.
        with pytest.raises(RetryLater) as caught:
            run()
        assert NOW + 65_000 <= caught.value.until <= NOW + 66_000
    assert calls == pytest.approx([n * (5 + SLACK) for n in range(1, 13)], abs=1e-3)


@pytest.mark.usefixtures("quick_glances")
def test_E1_a_stop_request_ends_every_wait_and_breaks_nothing() -> None:
    stop = threading.Event()
    clock = Watched(NOW, stop=stop)
    pacer = line(clock)

    def run(endpoint: str) -> None:
        with pacer.turn(endpoint):
            raise AssertionError("called after the stop request")

    with ThreadPoolExecutor(3) as pool, pacer.turn("status"):
        waiters = [pool.submit(run, endpoint) for endpoint in ("trades", "tickle", "status")]
        for _ in waiters:
            assert clock.waiting.acquire(timeout=30)
        stop.set()
        # Also those behind a call that takes its time.
        assert all(isinstance(waiter.exception(30), Stopped) for waiter in waiters)
    stop.clear()
    with pacer.turn("status"):
        pass
    assert clock.monotonic() == 0


def test_E1_a_stop_request_ends_a_wait_on_the_real_clock() -> None:
    stop = threading.Event()
    pacer = line(SystemClock(stop=stop))
    with pacer.turn("validate"):
        pass
    with ThreadPoolExecutor(1) as pool:

        def run() -> None:
            with pacer.turn("validate"):
                raise AssertionError("called after the stop request")

        waiter = pool.submit(run)
        started = time.monotonic()
        stop.set()
        assert isinstance(waiter.exception(30), Stopped)
        assert time.monotonic() - started < 5


def test_I5_the_limits_hold_on_the_real_clock() -> None:
    everywhere, endpoints = Limit(4, 0.2), {"trades": Limit(1, 0.15)}
    pacer = Pacer(everywhere, endpoints, SystemClock(), kind="ibkr_gateway", jitter=0.01)
    login = Login()

    def run(endpoint: str) -> None:
        for _ in range(3):
            with pacer.turn(endpoint):
                login.arrivals.append((time.monotonic(), endpoint))

    assert together(*(partial(run, endpoint) for endpoint in ("trades", "status", "status"))) == [None] * 3
    assert len(login.arrivals) == 9
    assert login.violations(everywhere, endpoints) == 0


def calls(pacer: Pacer, clock: VirtualClock, endpoint: str, *pauses: float) -> None:
    for pause in pauses:
        clock.advance(pause)
        with pacer.turn(endpoint):
            clock.advance(0.5)


MINUTE_LIMIT = Limit(3, 60.0)


def minute_line(clock: Clock) -> Pacer:
    """Three calls a minute to `flex`, one a second to anything (as reference ibkr 4.1, with fewer calls)."""
    return Pacer(Limit(1, 1.0), {"flex": MINUTE_LIMIT, "other": Limit(1, 1.0)}, clock, kind="ibkr_flex", jitter=0.0)


def test_A15_recent_calls_are_those_that_still_count_the_oldest_first() -> None:
    clock = VirtualClock(NOW)
    pacer = minute_line(clock)
    assert pacer.recent("flex") == ()
    calls(pacer, clock, "flex", 5, 10)
    calls(pacer, clock, "other", 3)
    clock.advance(2)
    # They ended 2 + 3 + 0.5 and 10 + 0.5 more seconds ago; the margin makes them a little younger.
    assert pacer.recent("flex") == pytest.approx((16.0, 5.5), abs=SLACK + 1e-6)
    assert pacer.recent("other") == (), "a second counts there"
    clock.advance(45)
    assert pacer.recent("flex") == pytest.approx((50.5,), abs=SLACK + 1e-6)
    clock.advance(10)
    assert pacer.recent("flex") == ()
    assert all(ago >= 0 for ago in pacer.recent("flex"))


def test_A15_no_more_calls_are_recent_than_the_limit_counts() -> None:
    clock = VirtualClock(NOW)
    pacer = minute_line(clock)
    calls(pacer, clock, "flex", *[1.0] * 7)
    assert len(pacer.recent("flex")) == 3


def hand_over(giver: Pacer, taker: Pacer) -> None:
    """What a note of a job does for the next process: the oldest call first."""
    for ago in giver.recent("flex"):
        taker.assume("flex", ended=ago)


@given(
    jobs=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.floats(0, 30), min_size=1, max_size=4), st.floats(0, 70)),
        min_size=2,
        max_size=12,
    )
)
def test_A15_processes_that_hand_their_calls_on_keep_the_limit_together(
    jobs: list[tuple[int, list[float], float]],
) -> None:
    clock, login = VirtualClock(NOW), Login()
    pacers = [minute_line(clock) for _ in range(3)]
    last = pacers[0]
    for process, pauses, idle in jobs:
        hand_over(last, pacers[process])
        last = pacers[process]
        for pause in pauses:
            clock.advance(pause)
            with last.turn("flex"):
                login.call(clock, "flex", before=0.1, after=0.1)
        clock.advance(idle)
    assert login.violations(Limit(1, 1.0), {"flex": MINUTE_LIMIT}) == 0
