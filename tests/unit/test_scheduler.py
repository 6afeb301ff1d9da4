"""Which connections are asked for, as a table."""

from __future__ import annotations

import pytest

from worker.models import DueConnection
from worker.scheduler import is_due

NOW = 1_790_000_000_000


def connection(**changes: object) -> DueConnection:
    return DueConnection.model_validate(
        {
            "connectionId": "c1",
            "kind": "kraken",
            "status": "active",
            "nextSyncAt": NOW + 1,
            "authVersion": 1,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({}, False),
        ({"nextSyncAt": NOW}, True),
        ({"nextSyncAt": NOW, "status": "error"}, True),
        ({"requestedAt": NOW - 5}, True),
        ({"nextSyncAt": 0, "status": "needs_reauth"}, False),
        ({"requestedAt": NOW - 5, "status": "needs_reauth"}, True),
        ({"nextSyncAt": 0, "status": "disconnected"}, False),
        ({"requestedAt": NOW - 5, "status": "disconnected"}, False),
        ({"nextSyncAt": 0, "leaseExpiresAt": NOW + 1}, False),
        ({"requestedAt": NOW - 5, "leaseExpiresAt": NOW + 1}, False),
        ({"nextSyncAt": 0, "leaseExpiresAt": NOW}, True),
    ],
)
def test_a_connection_is_asked_for_when(changes: dict[str, object], due: bool) -> None:
    assert is_due(connection(**changes), NOW) is due
