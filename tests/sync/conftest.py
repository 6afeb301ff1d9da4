from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sandbox.brokers.kraken.simulator import Setup
from tests.support.deployment import Deployment
from tests.support.world import World
from worker.connectors.kraken_walk import CUT_PAGES


@pytest.fixture(autouse=True)
def _no_trace(deployment: Deployment) -> Iterator[None]:
    """The server is shared: leave it as it was."""
    yield
    deployment.clear_faults()
    deployment.shift_clock(0)


@pytest.fixture
def world(deployment: Deployment) -> Callable[..., World]:
    """Make a world: `world(trades=130, seed="7")`."""

    def make(
        *, job_seconds: float = 3600, cut_pages: int = CUT_PAGES, create: dict[str, Any] | None = None, **setup: Any
    ) -> World:
        return World(deployment, Setup(**setup), job_seconds=job_seconds, cut_pages=cut_pages, **(create or {}))

    return make
