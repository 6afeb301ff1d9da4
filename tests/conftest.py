"""What all tests share: one local Convex server, in which every test is a user of its own."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from tests.support.deployment import Deployment

# How long one example takes says how busy the machine is; examples are the same in every run.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    with Deployment() as running:
        yield running
