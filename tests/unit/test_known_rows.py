"""The memory of rows that Convex holds already is bounded, and only for the next fence."""

from __future__ import annotations

from worker.models import Lease
from worker.reading import KnownRows


def lease(fence: int, connection_id: str = "c1") -> Lease:
    return Lease.model_validate(
        {
            "jobId": "j", "fence": fence, "mode": "scheduled", "expiresAt": 2, "serverNow": 1,
            "connection": {
                "connectionId": connection_id, "provider": "kraken", "kind": "kraken", "ownerId": "o1", "ownRef": "c1",
                "status": "active", "auth": {"kind": "kraken", "apiKey": "k", "apiSecret": "s"},
                "authVersion": 1, "settings": {},
            },
        }
    )  # fmt: skip


def test_the_next_lease_remembers_and_any_other_forgets() -> None:
    known = KnownRows()
    known.open(lease(1))["row"] = "digest"
    assert known.open(lease(2)) == {"row": "digest"}
    assert known.open(lease(4)) == {}
    known.open(lease(5))["row"] = "digest"
    assert known.open(lease(6, "c2")) == {}


def test_B20_the_oldest_rows_beyond_the_limit_are_forgotten() -> None:
    known = KnownRows()
    known.open(lease(1)).update((str(number), "digest") for number in range(KnownRows.LIMIT + 10))
    rows = known.open(lease(2))
    assert len(rows) == KnownRows.LIMIT
    assert "9" not in rows
    assert "10" in rows
