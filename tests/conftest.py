"""What all tests share: one local Convex server, in which every test is a user of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.deployment import Deployment


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    with Deployment() as running:
        yield running
