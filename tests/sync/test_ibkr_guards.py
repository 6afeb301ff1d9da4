"""Guards of the live import that no fault row names: siblings, restarts and keepalive beside each other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.simulator import IbkrSimulator, Quirks
from sandbox.clock import VirtualClock
from tests.support.deployment import Deployment
from tests.support.ibkr_world import IbkrWorld, Line
from worker.errors import Stopped
from worker.keepalive import Keepalive
from worker.models import Counts, DueConnection, JobOutcome, Lease, Refusal
from worker.sync import CANCELLED, Report

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
    assert [job["stats"]["skipped"] for job in line.jobs()] == [1]
    assert set(line.stored()) == {late[0].family}
    assert early[0].family != late[0].family
    line.assert_accounted()
    assert line.sync().known == 1


# What another process must know, and what it must not believe


def open_with(world: IbkrWorld, line: Line, *notes: str) -> Any:
    """The login as a new job finds it whose connection, then siblings, carry `notes`."""
    world.tell_convex_the_time()
    lease = world.store.claim(line.connection_id, "manual")
    assert isinstance(lease, Lease), lease
    world.store.job(lease).finish(CANCELLED, Counts(), next_sync_in=0)
    changed = lease.model_copy(update={"extras": {"login": notes[0]}, "sibling_notes": notes[1:]})
    return world.ibkr.open(changed, False).connector._login


@pytest.mark.parametrize("sibling", [False, True], ids=["own-note", "siblings-note"])
def test_A15_a_new_process_keeps_the_pace_of_the_trades_call(world: IbkrWorld, sibling: bool) -> None:
    simulator, first, second = two_of_a_login(world)
    first.sync()
    world.restart()
    (second if sibling else first).sync()
    assert calls(simulator).count("/iserver/account/trades") >= 2
    assert simulator.audit.rate_breaches == 0


@pytest.mark.parametrize("sibling", [False, True], ids=["own-note", "siblings-note"])
def test_A6_a_new_process_keeps_to_the_penalty_box(world: IbkrWorld, sibling: bool) -> None:
    simulator, first, second = two_of_a_login(world)
    simulator.faults.plant(Fault(path="trades", status=429, processed=False))
    first.sync()
    made = len(simulator.audit.calls)
    world.restart()
    world.clock.advance(14 * 60)
    assert code_of((second if sibling else first).sync()) == "silenced"
    assert len(simulator.audit.calls) == made


def test_A6_the_penalty_box_outlasts_the_connection_that_met_it(world: IbkrWorld) -> None:
    simulator = world.login(accounts=("U1110001",), trades=5)
    line = world.connect(simulator, account="U1110001")
    simulator.faults.plant(Fault(path="trades", status=429, processed=False))
    line.sync()
    made = len(simulator.audit.calls)
    line.user.mutation("tradeImport/connections:disconnect", {"connectionId": line.connection_id})
    world.ibkr.tend(due_of(world))
    again = world.connect(simulator, account="U1110001")
    assert code_of(again.sync()) == "silenced"
    assert len(simulator.audit.calls) == made


@pytest.mark.parametrize(
    "note",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        '{"silentUntil": 1e999}',
        '{"silentUntil": "soon"}',
        f'{{"silentUntil": {NOON * 2}}}',
    ],
)
def test_a_note_that_cannot_be_meant_silences_nobody(world: IbkrWorld, note: str) -> None:
    login = open_with(world, world.connect(world.login()), note)
    assert login.silent_for == 0


def test_a_note_older_than_what_is_known_changes_nothing(world: IbkrWorld) -> None:
    line = world.connect(world.login(trades=3))
    line.sync()
    world.clock.advance(3)
    known = line.cursor()["extras"]["login"]
    read_at = json.loads(known)["readAt"]
    login = open_with(world, line, known, json.dumps({"readAt": read_at - 60_000}))
    assert world.clock.monotonic() - login.read_at == pytest.approx(3, abs=0.5)


def test_C12_times_are_convexs_where_the_workers_clock_is_wrong(world: IbkrWorld) -> None:
    line = world.connect(world.login(trades=3, nightly_reset=False))
    world.tell_convex_the_time()
    lease = world.store.claim(line.connection_id, "manual")
    assert isinstance(lease, Lease)
    world.clock.step(2 * 3600)
    standing = world.ibkr.open(lease, False).connector.check(inspect=False)
    assert standing.now == pytest.approx(lease.server_now, abs=MINUTE)


# Keepalive


def test_A15_keepalive_is_the_business_of_the_worker_that_leased_last(world: IbkrWorld) -> None:
    simulator = world.login(trades=3, accounts=("U1110001", "U1110002"))
    mine, theirs = (world.connect(simulator, account=account) for account in simulator.accounts)
    mine.sync()

    def tickles_in_an_hour() -> int:
        simulator.audit.clear()
        due = due_of(world)
        for _ in range(60):
            world.clock.advance(60)
            world.ibkr.tend(due)
        assert set(calls(simulator)) <= {"/tickle"}
        return len(calls(simulator))

    assert tickles_in_an_hour() == 60
    # Another worker syncs another connection of the same login, which this worker has never seen.
    world.tell_convex_the_time()
    another = world.deployment.store(world.clock, worker_id="another")
    assert isinstance(another.claim(theirs.connection_id, "manual"), Lease)
    assert tickles_in_an_hour() == 0
    mine.sync()
    assert tickles_in_an_hour() == 60


def test_keepalive_ends_with_the_credentials_it_belongs_to(world: IbkrWorld) -> None:
    simulator, other = world.login(trades=3), world.login()
    line = world.connect(simulator)
    line.sync()
    simulator.audit.clear()
    address = next(address for address, each in world.simulators.items() if each is other)
    world.user.mutation(
        "tradeImport/connections:updateCredentials",
        {"connectionId": line.connection_id, "auth": {"kind": "ibkr_gateway", "baseUrl": address}},
    )
    world.clock.advance(60)
    world.ibkr.tend(due_of(world))
    assert calls(simulator) == []
    assert world.ibkr._logins == {}


def test_a_worker_that_did_not_see_new_credentials_fail_looks_at_them_itself(world: IbkrWorld) -> None:
    line = world.connect(world.login(), auth={"kind": "ibkr_gateway", "baseUrl": "https://gateway.example:5000"})
    line.sync()
    waiting = world.ibkr
    assert waiting.tend(due_of(world)) == frozenset()
    world.user.mutation(
        "tradeImport/connections:updateCredentials",
        {"connectionId": line.connection_id, "auth": {"kind": "ibkr_gateway", "baseUrl": "https://gw.example:5000"}},
    )
    world.restart()
    line.sync()
    assert waiting.tend(due_of(world)) == {line.connection_id}


class _Tended:
    """A broker that does, turn after turn, what it was told to."""

    def __init__(self, *turns: BaseException | frozenset[str]) -> None:
        self._turns = list(turns)

    def tend(self, connections: Sequence[DueConnection]) -> frozenset[str]:
        assert list(connections) == []
        turn = self._turns.pop(0)
        if isinstance(turn, BaseException):
            raise turn
        return turn


def test_C6_keepalive_outlives_its_own_bugs_and_tells_of_what_is_free() -> None:
    hastened: list[Collection[str]] = []
    tended = _Tended(KeyError("a bug"), frozenset(), Stopped(), frozenset({"c1"}))
    keepalive = Keepalive(tended, list, hastened.append, VirtualClock(NOON), threading.Event())
    for _ in range(4):
        keepalive.turn()
    assert hastened == [{"c1"}]


# Resets


def test_C4_the_reset_is_that_of_the_connections_region(world: IbkrWorld) -> None:
    simulator = world.login(trades=3)
    america = world.connect(simulator, account=simulator.accounts[0])
    world.clock.advance((6 * 60 + 10) * 60)  # ten past six in the evening in New York, ten past midnight in Zurich
    simulator.faults.plant(Fault(status=503, times=None, processed=False))
    for region, reason in (("america", "unavailable"), ("europe", "maintenance")):
        world.tell_convex_the_time()
        world.user.mutation(
            "tradeImport/connections:updateSettings", {"connectionId": america.connection_id, "ibkrRegion": region}
        )
        report = america.sync()
        assert isinstance(report.outcome, JobOutcome)
        assert report.outcome.reason == reason


# OAuth


def test_C1_a_session_token_that_was_never_let_in_is_not_renewed_in_a_circle(world: IbkrWorld) -> None:
    simulator = world.login(oauth=True, trades=3, logged_in=False)
    line = world.connect(simulator, auth=oauth_auth(simulator))
    for path in ("status", "init"):
        simulator.faults.plant(Fault(path=path, status=401, times=None, processed=False))
    assert code_of(line.sync()) == "ibkr_oauth_no_session"
    assert calls(simulator) == [
        "/oauth/live_session_token",
        "/iserver/auth/status",
        "/oauth/live_session_token",
        "/iserver/auth/ssodh/init",
    ]


def test_C3_a_session_token_that_went_stale_under_a_job_is_renewed_and_the_job_goes_on(world: IbkrWorld) -> None:
    simulator = world.login(oauth=True, trades=3, logged_in=False)
    line = world.connect(simulator, auth=oauth_auth(simulator))
    simulator.faults.plant(Fault(path="trades", status=410, processed=False))
    report = line.sync()
    assert isinstance(report.outcome, JobOutcome)
    assert report.outcome.status == "succeeded"
    assert calls(simulator).count("/oauth/live_session_token") == 2
    line.assert_exact()


def test_a_session_token_is_replaced_before_it_ends(world: IbkrWorld) -> None:
    simulator = world.login(oauth=True, trades=3, logged_in=False, nightly_reset=False)
    line = world.connect(simulator, auth=oauth_auth(simulator))
    line.sync()
    world.clock.advance(23 * 3600 + 55 * 60)
    simulator.audit.clear()
    line.sync()
    assert calls(simulator)[0] == "/oauth/live_session_token"
    assert calls(simulator).count("/oauth/live_session_token") == 1


# Offers


def test_a_connection_that_is_free_is_offered_once_an_interval_whatever_comes_of_it(world: IbkrWorld) -> None:
    simulator = world.login(trades=3)
    line = world.connect(simulator)
    simulator.expire()
    line.sync()
    simulator.login()
    due, offers = due_of(world), 0
    for _ in range(31):
        world.clock.advance(60)
        offers += line.connection_id in world.ibkr.tend(due)
    assert offers == 3, "after the login, and at the two quarters of an hour that follow"


def test_a_login_noticed_by_a_job_that_failed_for_another_reason_is_no_reason_for_the_next(world: IbkrWorld) -> None:
    simulator = world.login(accounts=("U1110001",), trades=3)
    line = world.connect(simulator, account="U1110009")
    simulator.expire()
    assert code_of(line.sync()) == "ibkr_login_needed"
    simulator.quirks = Quirks(doubtful_login=True)
    simulator.login()
    # The job takes a while until it notices.
    simulator.faults.plant(Fault(path="status", status=503, processed=False))
    assert code_of(line.sync()) == "other_account"
    jobs = len(line.jobs())
    world.drive(world.clock.now() + 5 * MINUTE)
    assert len(line.jobs()) == jobs


def test_A15_two_workers_never_hold_leases_of_one_login_at_once(world: IbkrWorld) -> None:
    simulator, first, second = two_of_a_login(world)
    elsewhere = world.connect(world.login(), account="U3330001")
    world.tell_convex_the_time()
    another = world.deployment.store(world.clock, worker_id="another")
    lease = another.claim(first.connection_id, "manual")
    assert isinstance(lease, Lease)
    refused = world.store.claim(second.connection_id, "manual")
    assert isinstance(refused, Refusal)
    assert refused.reason == "held"
    assert calls(simulator) == []
    assert isinstance(world.store.claim(elsewhere.connection_id, "manual"), Lease), "another login"
    another.job(lease).finish(CANCELLED, Counts(), next_sync_in=0)
    assert isinstance(world.store.claim(second.connection_id, "manual"), Lease)


def test_C2_a_contest_at_the_first_look_is_not_remembered_as_a_lasting_notice(world: IbkrWorld) -> None:
    simulator = world.login(trades=3)
    line = world.connect(simulator)
    simulator.compete(stealing=False)
    assert code_of(line.sync()) == "notice"
    simulator.release()
    report = line.sync()
    assert isinstance(report.outcome, JobOutcome)
    assert report.outcome.problem is None
