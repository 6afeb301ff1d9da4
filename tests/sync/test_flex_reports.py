"""Kept reports, resumed imports, reminders: whole jobs against the simulated service and the real functions."""

from __future__ import annotations

import datetime as dt
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.brokers.ibkr.flex.inputs import FlexQuirks
from sandbox.brokers.ibkr.simulator import IbkrSimulator
from tests.support.crash import Killed
from tests.support.deployment import TABLES, Deployment
from tests.support.flex import (
    DAY,
    MINUTE,
    NOON,
    assert_paced,
    connect,
    ended,
    flex_auth,
    flex_calls,
    outcome_of,
    problem_of,
)
from tests.support.ibkr_world import IbkrWorld, Line
from worker.brokers import Broker
from worker.errors import ConvexRefused, ConvexUnavailable, IncompleteReport
from worker.replay import compare_reports, unpack_reports
from worker.reports import PART_BYTES, unpack_report
from worker.sessions.flex_files import WINDOWING, open_files
from worker.sync import Report, Syncer

WELL = ("succeeded", "none")
ACCOUNT = "U7770001"
LEASE_SECONDS = 301
SAME_STATEMENT = "served the same activity statement as before"
SAME_CONFIRMATIONS = "served the same trade confirmations as before"


def kept(line: Line) -> list[dict[str, Any]]:
    """What the connection keeps, the oldest first."""
    rows = line.deployment.documents("importReports", connectionId=line.connection_id)
    return sorted(rows, key=lambda row: row["_creationTime"])


def unpacked(world: IbkrWorld, job: dict[str, Any]) -> list[bytes]:
    """The reports of a job, as the broker sent them."""
    found = world.store.reports_of(job["_id"])
    assert found is not None
    documents = []
    for report in found.reports:
        sink = io.BytesIO()
        unpack_report(report, world.store.report_part, sink)
        documents.append(sink.read())
    return documents


class Served:
    """Every statement that the service hands out."""

    def __init__(self, simulator: IbkrSimulator) -> None:
        self.documents: list[bytes] = []
        delivered = simulator.flex._delivered

        def noted(*args: Any) -> bytes:
            document = delivered(*args)
            self.documents.append(document)
            return document

        simulator.flex._delivered = noted  # type: ignore[method-assign]


def past(world: IbkrWorld, *, days: float = 30) -> dict[str, Any]:
    """So many days of shares whose statements are all final."""
    return {"sec_types": ("STK",), "days": days, "end": world.clock.now() - 2 * DAY}


# Keeping.


def test_every_report_is_kept_as_it_was_served(deployment: Deployment, tmp_path: Path) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=40, **past(world))
    served = Served(simulator)
    line = connect(world, simulator)
    line.trade(symbol="AAPL", side="B", ago_seconds=3600)
    assert ended(line.sync()) == WELL
    (job,) = line.jobs()
    assert len(served.documents) >= 2
    assert unpacked(world, job) == served.documents
    assert [row["source"] for row in kept(line)][:2] == ["ibkr_flex_confirm", "ibkr_flex_activity"]
    assert [int(row["size"]) for row in kept(line)] == [len(document) for document in served.documents]
    assert sum(len(document) for document in served.documents) > 5 * sum(
        len(part["data"]["$bytes"]) for row in kept(line) for part in parts_of(line, row)
    ), "compressed"
    # Confirmations, the last days and the year before, read again: nothing that is not stored as it says.
    again = list(compare_reports(world.store, unpack_reports(world.store, job["_id"], tmp_path)))
    assert {row.fate for row in again} == {"known"}
    assert {row.meaning.external_execution_id for row in again} == set(line.stored())


def parts_of(line: Line, report: dict[str, Any]) -> list[dict[str, Any]]:
    return line.deployment.documents("importReportParts", reportId=report["_id"])


def test_the_same_content_made_at_another_time_is_kept_once_and_belongs_to_both_jobs(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=40, **past(world))
    line = connect(world, simulator, confirm=False)
    line.sync()
    line.sync()
    served = Served(simulator)
    before = kept(line)
    world.clock.advance(600)
    line.sync()
    world.clock.advance(600)
    line.sync()
    stamps = {re.findall(rb'whenGenerated="(.*?)"', document)[0] for document in served.documents}
    assert len(served.documents) == len(stamps) == 2, "two documents that differ in when they were made"
    assert kept(line) == before
    *_, third, fourth = line.jobs()
    assert third["reportIds"] == fourth["reportIds"] == [before[-1]["_id"]]
    (document,) = unpacked(world, fourth)
    assert re.sub(rb"whenGenerated=\S+", b"", document) == re.sub(rb"whenGenerated=\S+", b"", served.documents[-1])


def test_B18_a_report_that_is_refused_is_kept_all_the_same(deployment: Deployment, tmp_path: Path) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(accounts=("U1110001", "U1110002"), trades=20)
    served = Served(simulator)
    stranger = world.connect(simulator, account="U9990009", auth=flex_auth(simulator, confirm=False))
    world.clock.advance(1)
    report = stranger.sync("scheduled")
    assert ended(report) == ("failed", "incomplete_report")
    sentence = problem_of(report).sentence
    assert "no statement of account U9990009, only of U1110001, U1110002" in sentence
    assert stranger.connection()["problem"]["sentence"] == sentence
    assert (stranger.executions(), stranger.rejects(), stranger.trades()) == ([], [], [])
    assert stranger.connection()["completeUpTo"] is None
    (job,) = stranger.jobs()
    assert unpacked(world, job) == served.documents
    # It is not the last word: the next interval asks again, and the query may have been mended by then.
    assert stranger.connection()["nextSyncAt"] == pytest.approx(world.clock.now() + 15 * MINUTE, abs=MINUTE)
    world.clock.advance(16 * 60)
    assert ended(stranger.sync("scheduled")) == ("failed", "incomplete_report")
    assert len(stranger.jobs()) == 2
    assert stranger.jobs()[1]["reportIds"] == job["reportIds"]
    # Read again, it is as incomplete as before.
    with pytest.raises(IncompleteReport, match="no statement of account U9990009"):
        list(compare_reports(world.store, unpack_reports(world.store, job["_id"], tmp_path)))


def test_F2_a_token_that_a_statement_repeats_is_in_no_kept_report(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=12, **past(world))
    token = simulator.flex.token
    served = Served(simulator)
    line = connect(world, simulator)
    (fill,) = line.trade(symbol="AAPL", side="B", ago_seconds=10 * DAY / 1000)
    simulator.flex.quirks = FlexQuirks(echo_url=True, rows={fill.execution_id: {"orderReference": f"ref {token}"}})
    assert ended(line.sync()) == WELL
    (job,) = line.jobs()
    documents = unpacked(world, job)
    assert all(token.encode() in document for document in served.documents), "each of them repeats it"
    assert documents == [document.replace(token.encode(), b"*" * len(token)) for document in served.documents]
    for table in TABLES:
        for row in deployment.documents(table):
            row.pop("auth", None)
            assert token not in json.dumps(row), table


def test_a_large_report_is_kept_in_parts_and_one_that_is_too_large_is_noted(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, line = files(deployment)
    path = tmp_path / "large.xml"
    noise = random.Random(5)
    orders = "".join(f'<Order note="{noise.randbytes(7000).hex()}" />' for _ in range(100))
    path.write_bytes(document(3).replace(b"</Trades>", orders.encode() + b"</Trades>"))
    assert import_files(world, line, path).inserted == 3
    (report,) = kept(line)
    assert (report["parts"], len(report["partIds"])) == (2, 2)
    (job,) = line.jobs()
    assert unpacked(world, job) == [path.read_bytes()]
    assert PART_BYTES == 512 * 1024
    monkeypatch.setattr("worker.reports.MAX_PARTS", 1)
    path.write_bytes(path.read_bytes() + b"\n")
    assert import_files(world, line, path).known == 3
    _, noted = kept(line)
    assert (noted["parts"], noted["partIds"], int(noted["size"])) == (0, [], path.stat().st_size)
    assert parts_of(line, noted) == []


def test_what_convex_will_not_keep_stops_no_import(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=10, **past(world))
    line = connect(world, simulator, confirm=False)
    deployment.fault("tradeImport/reports:begin", "refuse", status=400, times=9)
    assert ended(line.sync()) == WELL
    line.assert_exact()
    assert kept(line) == []


# The same report again.


def notice(report: Report) -> str:
    problem = outcome_of(report).problem
    return "" if problem is None else problem.sentence


def test_a_forced_sync_says_that_the_report_is_the_same(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=30, **past(world))
    line = connect(world, simulator)
    first = line.sync()
    assert SAME_STATEMENT not in notice(first)
    assert SAME_CONFIRMATIONS not in notice(first)
    # The first look went a year back, this one goes back some days only: another document.
    assert SAME_CONFIRMATIONS in notice(line.sync())
    world.clock.advance(60)
    again = line.sync()
    assert ended(again) == WELL
    assert (again.inserted, again.updated) == (0, 0)
    assert SAME_STATEMENT in notice(again)
    assert SAME_CONFIRMATIONS in notice(again)
    assert line.connection()["problem"] is None, "nothing is wrong"
    assert line.jobs()[-1]["errorSummary"]["sentence"] == notice(again)
    world.clock.advance(16 * 60)
    quiet = line.sync("scheduled")
    assert (ended(quiet), notice(quiet), quiet.inserted) == (WELL, "", 0)
    assert line.connection()["problem"] is None
    line.trade(symbol="AAPL", side="B", ago_seconds=3 * DAY / 1000)
    changed = line.sync()
    assert changed.inserted == 1
    assert SAME_STATEMENT not in notice(changed)
    assert SAME_CONFIRMATIONS in notice(changed)
    line.assert_exact()


def test_a_report_that_was_not_stored_to_its_end_is_not_the_same_one(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=1200, **past(world, days=4))
    line = connect(world, simulator, confirm=False)
    Refusing(world, after=1)
    assert ended(line.sync()) == ("failed", "rejected")
    stored = len(line.executions())
    world.restart()
    again = line.sync()
    assert 0 < stored == 1200 - again.inserted
    assert SAME_STATEMENT not in notice(again)
    line.assert_exact()


# Resuming.

MANY = 2500
PAGE = 1000


def document(count: int, *, price: str = "71.15") -> bytes:
    """A statement of August with so many executions; `price` is the first one's."""
    rows = "".join(
        f'<Trade accountId="{ACCOUNT}" currency="USD" assetCategory="STK" symbol="KO" conid="8894" multiplier="1" '
        f'tradeID="9{number:05}" transactionID="8{number:05}" dateTime="20260803;{10 + number // 3600 % 10:02}'
        f'{number // 60 % 60:02}{number % 60:02}" buySell="BUY" quantity="{number + 1}" '
        f'tradePrice="{price if number == 0 else "71.15"}" ibCommission="-1" ibCommissionCurrency="USD" '
        f'transactionType="ExchTrade" ibExecID="0000f1a2.{number:08x}.01.01" levelOfDetail="EXECUTION" />'
        for number in range(count)
    )
    return (
        '<FlexQueryResponse queryName="own" type="AF"><FlexStatements count="1"><FlexStatement '
        f'accountId="{ACCOUNT}" fromDate="20260803" toDate="20260807" period="" whenGenerated="20260810;070000">'
        f"<Trades>{rows}</Trades></FlexStatement></FlexStatements></FlexQueryResponse>"
    ).encode()


def files(deployment: Deployment) -> tuple[IbkrWorld, Line]:
    world = IbkrWorld(deployment, start=NOON)
    return world, world.connect(world.login(accounts=(ACCOUNT,)), account=ACCOUNT)


def import_files(world: IbkrWorld, line: Line, *paths: Path) -> Report:
    world.tell_convex_the_time()
    broker = Broker(WINDOWING, open_files(paths, open_file=lambda path: path.open("rb")))
    return Syncer(world.store, {"ibkr_gateway": broker}, world.clock).run_files(line.connection_id)


class Watching:
    """Counts the rows that one process sends."""

    def __init__(self, world: IbkrWorld) -> None:
        self.rows = 0
        self.batches = 0
        self._around(world)

    def _around(self, world: IbkrWorld) -> None:
        call = world.store._call

        def watched(kind: str, function: str, args: dict[str, Any], **options: Any) -> Any:
            rows = len(args.get("executions", ())) if function == "ingest" else 0
            if rows:
                self.batches += 1
                self.rows += rows
            return self.take(lambda: call(kind, function, args, **options), rows)

        world.store._call = watched  # type: ignore[method-assign]

    def take(self, call: Callable[[], Any], rows: int) -> Any:
        return call()


class Dying(Watching):
    """From the n-th batch on, Convex is away, or the process is; a batch may arrive whose answer does not."""

    def __init__(self, world: IbkrWorld, *, after: int, how: type[BaseException], arrives: bool = False) -> None:
        self._after, self._how, self._arrives = after, how, arrives
        super().__init__(world)

    def take(self, call: Callable[[], Any], rows: int) -> Any:
        if self.batches <= self._after:
            return call()
        if self._arrives and self.batches == self._after + 1 and rows:
            call()
        raise self._how("away")


class Refusing(Watching):
    """The batch after the n-th is refused as a whole, all other calls go through."""

    def __init__(self, world: IbkrWorld, *, after: int) -> None:
        self._after = after
        super().__init__(world)

    def take(self, call: Callable[[], Any], rows: int) -> Any:
        if rows and self.batches == self._after + 1:
            raise ConvexRefused("Convex does not know this worker.", code="unauthorised")
        return call()


def assert_stored_once(line: Line, count: int) -> None:
    rows = line.executions()
    assert sorted(int(row["quantity"]) for row in rows) == list(range(1, count + 1))
    assert len({trade["executionId"] for trade in line.trades()}) == count


@pytest.mark.parametrize("arrives", [False, True], ids=["batch lost", "answer lost"])
@pytest.mark.parametrize("how", [ConvexUnavailable, Killed], ids=["Convex away", "killed"])
def test_E2_the_next_import_of_a_file_sends_only_the_rest(
    deployment: Deployment, tmp_path: Path, how: type[BaseException], arrives: bool
) -> None:
    world, line = files(deployment)
    path = tmp_path / "a.xml"
    path.write_bytes(document(MANY))
    # A page of a thousand rows is two batches; the second carries the place behind the page.
    dying = Dying(world, after=3, how=how, arrives=arrives)
    if how is Killed:
        with pytest.raises(Killed):
            import_files(world, line, path)
    else:
        assert import_files(world, line, path).outcome is None
    assert dying.batches >= 4
    pages, stored = (2, 2000) if arrives else (1, 1500)
    assert len(line.executions()) == stored
    world.clock.advance(LEASE_SECONDS)
    world.restart()
    rest = Watching(world)
    # Downloaded anew: the same content.
    path.write_bytes(document(MANY).replace(b"20260810;070000", b"20260811;070000"))
    report = import_files(world, line, path)
    assert ended(report) == WELL
    assert rest.rows == MANY - pages * PAGE
    assert (report.fetched, report.inserted) == (MANY - pages * PAGE, MANY - stored)
    assert_stored_once(line, MANY)
    line.assert_accounted()
    again = import_files(world, line, path)
    assert (again.fetched, again.inserted, again.known) == (MANY, 0, MANY), "a finished one is read whole"


def test_I2_a_page_that_was_refused_is_not_skipped(deployment: Deployment, tmp_path: Path) -> None:
    world, line = files(deployment)
    path = tmp_path / "a.xml"
    path.write_bytes(document(MANY))
    Refusing(world, after=2)
    assert ended(import_files(world, line, path)) == ("failed", "rejected")
    assert len(line.executions()) == PAGE
    assert line.connection()["completeUpTo"] is None
    world.restart()
    rest = Watching(world)
    assert ended(import_files(world, line, path)) == WELL
    assert rest.rows == MANY - PAGE
    assert_stored_once(line, MANY)


def test_I2_a_changed_file_starts_over(deployment: Deployment, tmp_path: Path) -> None:
    world, line = files(deployment)
    path = tmp_path / "a.xml"
    path.write_bytes(document(MANY))
    Dying(world, after=3, how=ConvexUnavailable)
    import_files(world, line, path)
    world.clock.advance(LEASE_SECONDS)
    world.restart()
    path.write_bytes(document(MANY, price="72.5"))
    rest = Watching(world)
    report = import_files(world, line, path)
    assert (rest.rows, report.updated, report.inserted) == (MANY, 1, MANY - 1500)
    assert_stored_once(line, MANY)
    assert {row["price"] for row in line.executions() if row["quantity"] == "1"} == {"72.5"}


def test_I2_an_earlier_beginning_of_the_import_reads_the_file_again(deployment: Deployment, tmp_path: Path) -> None:
    world, line = files(deployment)
    begin = int(dt.datetime(2026, 8, 3, 14, 30, tzinfo=dt.UTC).timestamp() * 1000)

    def import_since(instant: int) -> None:
        world.tell_convex_the_time()
        line.user.mutation(
            "tradeImport/connections:updateSettings", {"connectionId": line.connection_id, "importFrom": instant}
        )

    path = tmp_path / "a.xml"
    path.write_bytes(document(MANY))
    # 10:30 in New York: the first 1800 rows, one a second from 10:00 on, are not wanted.
    import_since(begin)
    Dying(world, after=1, how=ConvexUnavailable)
    import_files(world, line, path)
    assert 0 < len(line.executions()) < MANY - 1800
    world.clock.advance(LEASE_SECONDS)
    world.restart()
    import_since(begin - DAY)
    assert ended(import_files(world, line, path)) == WELL
    assert_stored_once(line, MANY)


def test_E2_confirmations_in_between_do_not_lose_the_place_in_a_statement(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=2600, **past(world, days=300))
    simulator.flex.quirks = FlexQuirks(summaries=False)
    line = connect(world, simulator)
    line.trade(symbol="AAPL", side="B", ago_seconds=3600)
    # The first job's death moves the border between the last days and the year before, the second's does not.
    for after in (2, 6):
        dying = Dying(world, after=after, how=Killed)
        with pytest.raises(Killed):
            line.sync()
        assert dying.batches == after + 1
        world.clock.advance(LEASE_SECONDS)
        world.restart()
    stored = len(line.executions())
    assert 1000 < stored < 2600
    rest = Watching(world)
    assert ended(line.sync()) == WELL
    # At most the page that was under way, and today's confirmation, are sent a second time.
    assert rest.rows <= 2601 - stored + PAGE
    assert rest.rows < stored
    line.assert_exact()


# Fault C10: the end of a token.


def test_C10_the_owner_hears_of_the_tokens_end_in_time(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=3, **past(world))
    ends = NOON + 20 * DAY
    auth = {**flex_auth(simulator, confirm=False), "tokenEndsAt": ends}
    line = world.connect(simulator, account=simulator.accounts[0], auth=auth)
    heard: dict[int, str] = {}
    world.clock.advance(1)
    for days in (20, 15, 14, 7, 3, 2, 1, 0):
        world.clock.advance((ends - days * DAY - world.clock.now()) / 1000)
        report = line.sync("scheduled")
        assert ended(report) == WELL, days
        heard[days] = notice(report)
        shown = line.connection()
        assert shown["credentialsEndAt"] == ends
        assert (shown["problem"] or {"sentence": ""})["sentence"] == heard[days]
        assert line.jobs()[-1].get("errorSummary", {"sentence": ""})["sentence"] == heard[days]
    assert heard[20] == heard[15] == ""
    assert all("ends on 2026-10-05, within two weeks" in heard[days] for days in (14, 7))
    assert all("ends on 2026-10-05, within three days" in heard[days] for days in (3, 2))
    assert "ends on 2026-10-05, within a day" in heard[1]
    assert "was to end on 2026-10-05" in heard[0]
    renewed = {**auth, "token": simulator.flex.renew_token(), "tokenEndsAt": ends + 365 * DAY}
    line.user.mutation(
        "tradeImport/connections:updateCredentials", {"connectionId": line.connection_id, "auth": renewed}
    )
    assert notice(line.sync("scheduled")) == ""
    assert line.connection()["credentialsEndAt"] == ends + 365 * DAY


# Fault A15: several processes, one token.


@pytest.mark.parametrize("same", [True, False], ids=["one connection", "two connections"])
def test_A15_the_calls_of_another_process_count(deployment: Deployment, same: bool) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=5, accounts=("U1110001", "U1110002"), **past(world))
    first = connect(world, simulator)
    second = first if same else world.connect(simulator, account="U1110002", auth=flex_auth(simulator))
    one = world.syncer
    world.restart()
    other = world.syncer
    began = world.clock.monotonic()
    for _ in range(4):
        for line, syncer in ((first, one), (second, other)):
            world.syncer = syncer
            assert ended(line.sync())[0] == "succeeded"
    calls = flex_calls(simulator)
    assert len(calls) >= 30, "each job has two statements made"
    assert_paced(calls)
    assert (simulator.audit.rate_breaches, simulator.audit.penalty_calls) == (0, 0)
    assert len({call.key for call in calls}) == 1
    # And no slower than ten a minute, but for the small margins and one job's patience with a statement.
    assert world.clock.monotonic() - began <= 60 * (len(calls) / 9 + 1)


def test_A15_a_process_counts_its_own_calls_once(deployment: Deployment) -> None:
    world = IbkrWorld(deployment, start=NOON)
    simulator = world.login(trades=5, accounts=("U1110001", "U1110002"), **past(world))
    lines = [
        world.connect(simulator, account=account, auth=flex_auth(simulator, activity=False))
        for account in simulator.accounts
    ]
    call = world.store._call

    def slow(*args: Any, **options: Any) -> Any:
        world.clock.advance(0.5)
        return call(*args, **options)

    world.store._call = slow  # type: ignore[method-assign]
    for line in lines * 2:
        assert ended(line.sync()) == WELL
    made = flex_calls(simulator)
    assert len(made) == 8, "two for each confirmation"
    assert made[-1].elapsed - made[0].elapsed < 60
    noted = json.loads(lines[-1].cursor()["extras"]["login"])["calls"]
    assert noted == pytest.approx([call.at for call in made], abs=1000)
    world.restart()
    assert ended(lines[0].sync()) == WELL
    assert_paced(flex_calls(simulator))
