"""Kraken's limits are kept, and not by much more waiting than they cost (reference kraken 3.1, 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tests.support.world import World
from worker.models import JobOutcome

MakeWorld = Callable[..., World]

TIERS = {"starter": (15, 0.33), "intermediate": (20, 0.5), "pro": (20, 1.0)}


def least_seconds(trades: int, tier: str) -> float:
    """T_min of reference kraken 3.2: P pages of 50 at cost 2, against a ceiling that drains."""
    ceiling, decay = TIERS[tier]
    return max(0.0, (2 * math.ceil(trades / 50) - ceiling) / decay)


@pytest.mark.timeout(300)
def test_B20_five_thousand_trades_on_a_starter_key_take_hardly_longer_than_they_must(world: MakeWorld) -> None:
    here = world(trades=5000, seed="5000", tier="starter")
    begun = here.clock.monotonic()
    report = here.sync()
    took = here.clock.monotonic() - begun
    assert report.outcome == JobOutcome(status="succeeded")
    here.assert_exact()
    assert here.kraken.audit.rate_breaches == 0
    assert took <= 1.05 * least_seconds(5000, "starter"), took


@pytest.mark.parametrize("tier", ["intermediate", "pro"])
def test_faster_tiers_wait_less_and_break_nothing(world: MakeWorld, tier: str) -> None:
    here = world(trades=1000, seed=tier, tier=tier, create={"settings": {"intervalMinutes": 15, "krakenTier": tier}})
    begun = here.clock.monotonic()
    here.sync()
    took = here.clock.monotonic() - begun
    here.assert_exact()
    assert here.kraken.audit.rate_breaches == 0
    # Up to three more calls (the key, the newest hour) than 20 pages, at cost 2, with 3 points left free.
    ceiling, decay = TIERS[tier]
    assert took <= (2 * (20 + 3) + 3 - ceiling) / decay + 10
