"""Which connections are asked for, as a table."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import pytest

from worker.clock import SystemClock
from worker.errors import ConvexUnavailable
from worker.models import DueConnection
from worker.scheduler import Scheduler, is_due
from worker.sync import Syncer

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


class SlowConvex:
    """A store whose answer to `watch` travels while something else happens."""

    last_answer = None

    def __init__(self, answer: list[DueConnection]) -> None:
        self._answer = answer
        self.meanwhile: Callable[[], None] = lambda: None

    def watch(self) -> list[DueConnection]:
        answer = list(self._answer)
        self.meanwhile()
        return answer


def scheduler(store: SlowConvex) -> Scheduler:
    clock = SystemClock()
    return Scheduler(store, cast(Syncer, None), clock, stop=threading.Event())  # type: ignore[arg-type]


def test_a_request_heard_while_a_poll_travels_is_not_forgotten() -> None:
    store = SlowConvex([connection()])
    here = scheduler(store)
    store.meanwhile = lambda: here.update([connection(requestedAt=NOW)])
    here._poll()
    assert [c.requested_at for c in here.connections] == [NOW]


def test_a_poll_without_news_is_taken_over() -> None:
    here = scheduler(SlowConvex([connection(requestedAt=NOW)]))
    here._poll()
    assert [c.requested_at for c in here.connections] == [NOW]


def test_E1_nothing_is_asked_of_convex_once_stopped() -> None:
    stop = threading.Event()
    store = SlowConvex([connection()])
    here = Scheduler(store, cast(Syncer, None), SystemClock(), stop=stop)  # type: ignore[arg-type]
    asked: list[int] = []
    store.meanwhile = lambda: asked.append(1)
    stop.set()
    here._poll()
    assert asked == []


class Convex:
    """A store that is away until it is back."""

    last_answer = None

    def __init__(self) -> None:
        self.away = True
        self.asked = 0

    def watch(self) -> list[DueConnection]:
        self.asked += 1
        if self.away:
            raise ConvexUnavailable("nobody answers")
        return [connection()]


def test_D1_while_convex_is_away_it_is_asked_every_few_seconds_even_with_a_live_watch() -> None:
    convex = Convex()
    here = Scheduler(
        convex,  # type: ignore[arg-type]
        cast(Syncer, None),
        SystemClock(),
        stop=threading.Event(),
        poll_seconds=300,
        watch_alive=lambda: True,
    )
    here._poll()
    here._poll_if_blind()
    assert convex.asked == 1, "the slow poll is not due"
    here._poll_if_away()
    assert convex.asked == 2
    convex.away = False
    here._poll_if_away()
    assert [c.connection_id for c in here.connections] == ["c1"]
    here._poll_if_away()
    assert convex.asked == 3, "it is back; the slow poll does from here"


def test_D1_news_of_the_watch_while_convex_seemed_away_is_a_reason_to_look() -> None:
    convex = Convex()
    here = scheduler(cast(SlowConvex, convex))
    here._poll()
    assert not here._poll_now
    here.update([connection()])
    assert here._poll_now
