"""Guards of the live import that no fault row names: siblings, restarts and keepalive beside each other."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import Any

import pytest

from sandbox.brokers.ibkr.simulator import IbkrSimulator
from tests.support.deployment import Deployment
from tests.support.ibkr_world import IbkrWorld, Line
from worker.models import DueConnection, JobOutcome
from worker.sync import Report

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
NOON = 1_789_488_000_000
"""Tuesday 2026-09-15, noon in New York: twelve hours to the next reset."""


@pytest.fixture
def world(deployment: Deployment) -> IbkrWorld:
    return IbkrWorld(deployment, start=NOON)


def code_of(report: Report) -> str:
    assert isinstance(report.outcome, JobOutcome), report
    assert report.outcome.problem is not None, report
    return report.outcome.problem.code


def calls(simulator: IbkrSimulator) -> list[str]:
    return [call.path.removeprefix("/v1/api") for call in simulator.audit.calls]


def oauth_auth(simulator: IbkrSimulator) -> dict[str, str]:
    consumer = simulator.oauth
    return {
        "kind": "ibkr_oauth",
        "consumerKey": consumer.consumer_key,
        "accessToken": consumer.access_token,
        "accessTokenSecret": consumer.access_token_secret,
        "signatureKey": consumer.signature_key,
        "encryptionKey": consumer.encryption_key,
        "dhParam": consumer.dh_param,
    }


def due_of(world: IbkrWorld) -> list[DueConnection]:
    world.learn()
    return [known.due for known in world._due.values()]


def two_of_a_login(world: IbkrWorld) -> tuple[IbkrSimulator, Line, Line]:
    simulator = world.login(accounts=("U1110001", "U1110002"), trades=10)
    return simulator, world.connect(simulator, account="U1110001"), world.connect(simulator, account="U1110002")


# What blocks one connection of a login


def test_C1_a_login_heals_every_connection_of_it_although_one_was_synced_by_hand_first(world: IbkrWorld) -> None:
    simulator, first, second = two_of_a_login(world)
    simulator.expire()
    assert {code_of(first.sync()), code_of(second.sync())} == {"ibkr_login_needed"}
    world.clock.advance(10)
    simulator.login()
    first.sync("manual")
    assert first.health() == "ok"
    world.learn()
    world.drive(world.clock.now() + 3 * MINUTE)
    assert second.health() == "ok"
    second.assert_exact()


def test_a_blocked_connection_is_looked_at_each_interval_although_its_sibling_is_synced_all_the_time(
    world: IbkrWorld,
) -> None:
    simulator = world.login(accounts=("U1110001",), trades=10)
    world.connect(simulator, account="U1110001", settings={"intervalMinutes": 5})
    blocked = world.connect(simulator, account="U1110003")
    assert code_of(blocked.sync()) == "other_account"
    world.drive(world.clock.now() + 61 * MINUTE, step=5)
    # At once, and then at each of its own quarters of an hour.
    assert 4 <= len(blocked.jobs()) <= 5
    simulator.accounts = ("U1110001", "U1110003")
    world.drive(world.clock.now() + 17 * MINUTE, step=5)
    assert blocked.health() == "ok"


def test_a_session_is_kept_alive_for_one_connection_while_another_of_its_login_is_blocked(world: IbkrWorld) -> None:
    simulator = world.login(oauth=True, accounts=("U1110001",), trades=10, logged_in=False)
    auth = oauth_auth(simulator)
    good = world.connect(simulator, account="U1110001", auth=auth, settings={"intervalMinutes": 60})
    bad = world.connect(simulator, account="U1110009", auth=auth, settings={"intervalMinutes": 60})
    good.sync()
    report = bad.sync()
    assert isinstance(report.outcome, JobOutcome)
    assert report.outcome.problem is not None
    assert report.outcome.problem.action == "update_credentials"
    assert "gateway" not in report.outcome.problem.sentence, "OAuth has none"
    simulator.audit.clear()
    world.drive(world.clock.now() + 50 * MINUTE, step=5)
    assert set(calls(simulator)) == {"/tickle"}
    assert 40 <= len(simulator.audit.calls) <= 60
    world.drive(world.clock.now() + 24 * 60 * MINUTE, step=30)
    assert 3 <= len(bad.jobs()) <= 6, "a look every six hours, although the login is never idle"


def test_C1_a_new_workers_first_look_is_made_up_for_when_convex_was_away(world: IbkrWorld) -> None:
    simulator = world.login(trades=5)
    line = world.connect(simulator)
    simulator.expire()
    line.sync()
    world.restart()
    due = due_of(world)
    assert world.ibkr.tend(due) == {line.connection_id}
    # Nothing came of it. It is offered again, not every few seconds, until a job was opened.
    world.clock.advance(30)
    assert world.ibkr.tend(due) == frozenset()
    world.clock.advance(30)
    assert world.ibkr.tend(due) == {line.connection_id}
    line.sync()
    world.clock.advance(300)
    assert world.ibkr.tend(due) == frozenset()


def test_a_connection_to_a_gateway_that_is_not_allowed_is_looked_at_a_few_times_a_day(world: IbkrWorld) -> None:
    simulator = world.login()
    line = world.connect(simulator, auth={"kind": "ibkr_gateway", "baseUrl": "https://gateway.example:5000"})
    assert code_of(line.sync()) == "ibkr_gateway_not_allowed"
    world.drive(world.clock.now() + DAY, step=60)
    assert 4 <= len(line.jobs()) <= 5
    world.user.mutation(
        "tradeImport/connections:updateCredentials",
        {"connectionId": line.connection_id, "auth": {"kind": "ibkr_gateway", "baseUrl": "https://gw.example:5000"}},
    )
    assert code_of(line.sync()) == "ibkr_gateway_not_allowed"
    assert world.ibkr.tend(due_of(world)) == frozenset(), "these were looked at just now"


def test_A15_a_login_is_not_forgotten_while_a_connection_begins_to_use_it(world: IbkrWorld) -> None:
    """`tend` runs in its own thread, and a login without a user is forgotten."""
    simulator, first, second = two_of_a_login(world)
    due = due_of(world)
    lock = _SlowLock()
    opened: list[str] = []

    def transport(address: str) -> Any:
        opened.append(address)
        if len(opened) == 1:
            threads.append(threading.Thread(target=world.ibkr.tend, args=(due,)))
            threads[0].start()
            assert lock.contended.wait(5)
        return simulator.transport()

    threads: list[threading.Thread] = []
    world.ibkr._transport = transport
    world.ibkr._lock = lock  # type: ignore[assignment]
    first.sync()
    threads[0].join(5)
    second.sync()
    assert len(opened) == 1, "one login, one line"


class _SlowLock:
    """A lock whose waiters come before the thread that has just let it go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.contended = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.contended.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if self.contended.is_set():
            time.sleep(0.02)


# What the owner asked for


def test_rows_before_the_wished_start_are_not_imported_although_the_api_shows_them(world: IbkrWorld) -> None:
    simulator = world.login()
    line = world.connect(simulator, settings={"importFrom": NOON - DAY})
    line._account = simulator.accounts[0]
    early = line.trade(symbol="AAPL", side="B", size=Decimal(1), time=Decimal((NOON - DAY) // 1000 - 1))
    late = line.trade(symbol="AAPL", side="S", size=Decimal(1), time=Decimal((NOON - DAY) // 1000))
    report = line.sync()
    assert (report.fetched, report.inserted) == (1, 1)
    assert set(line.stored()) == {late[0].family}
    assert early[0].family != late[0].family
    line.assert_accounted()
    assert line.sync().known == 1
