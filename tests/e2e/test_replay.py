"""`trade-sync replay` and `check-flex --connection`: real commands, what they change and what they leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from sandbox.processes import ROOT, Child, start_ibkr
from tests.support.daemon import Connected, eventually
from tests.support.deployment import Deployment
from worker.brokers import Broker
from worker.cli import app
from worker.clock import SystemClock
from worker.models import Counts, Execution, JobOutcome, Lease, Normalized, Problem, RawReport
from worker.normalize.ibkr_flex import Drift, normalize_rows
from worker.sessions import ibkr_flex
from worker.sessions.flex_files import WINDOWING, open_files
from worker.sync import Report, Syncer

ACCOUNT = "U7770001"
DAY = 24 * 3_600_000
LEASE_SECONDS = 301


@dataclass(frozen=True, slots=True)
class Row:
    """An execution of a statement."""

    number: int
    price: str = "71.15"
    fee: str = "1"
    day: str = "20260803"

    @property
    def key(self) -> str:
        return f"0000f1a2.{self.number:08x}.01"

    def __str__(self) -> str:
        time = f"{10 + self.number // 3600:02}{self.number // 60 % 60:02}{self.number % 60:02}"
        return (
            f'<Trade accountId="{ACCOUNT}" currency="USD" assetCategory="STK" symbol="KO" conid="8894" multiplier="1" '
            f'tradeID="9{self.number:05}" transactionID="8{self.number:05}" dateTime="{self.day};{time}" buySell="BUY" '
            f'quantity="{self.number}" tradePrice="{self.price}" ibCommission="-{self.fee}" '
            f'ibCommissionCurrency="USD" transactionType="ExchTrade" ibExecID="{self.key}.01" '
            'levelOfDetail="EXECUTION" />'
        )


def statement(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text(
        '<FlexQueryResponse queryName="own" type="AF"><FlexStatements count="1"><FlexStatement '
        f'accountId="{ACCOUNT}" fromDate="20260803" toDate="20260807" period="" whenGenerated="20260810;070000">'
        f"<Trades>{''.join(map(str, rows))}</Trades></FlexStatement></FlexStatements></FlexQueryResponse>"
    )
    return path


class Line(Connected):
    """A gateway connection that nobody polls, and files for it."""

    def __init__(self, deployment: Deployment) -> None:
        user = deployment.user()
        auth = {"kind": "ibkr_gateway", "baseUrl": "https://localhost:5000"}
        args = {"kind": "ibkr_gateway", "accountRef": ACCOUNT, "auth": auth}
        super().__init__(deployment, user, user.mutation("tradeImport/connections:create", args))

    def import_here(self, *paths: Path) -> Report:
        """An import in this process, whose normaliser a test may have changed."""
        broker = Broker(WINDOWING, open_files(paths, open_file=lambda path: path.open("rb")))
        syncer = Syncer(self.deployment.store(), {"ibkr_gateway": broker}, SystemClock())
        report = syncer.run_files(self.connection_id)
        assert isinstance(report.outcome, JobOutcome), report
        return report

    def lease(self) -> Lease:
        lease = self.deployment.store().claim(self.connection_id, "manual")
        assert isinstance(lease, Lease)
        return lease

    def stored(self) -> dict[str, dict[str, Any]]:
        rows = self.executions()
        found = {row["externalExecutionId"]: told(row) for row in rows}
        assert len(found) == len(rows)
        return found

    def documents(self) -> dict[str, list[dict[str, Any]]]:
        """All that belongs to the owner or the connection, but for positions, which settle by themselves."""
        (connection,) = self.deployment.documents("brokerageConnections", _id=self.connection_id)
        return {
            table: [
                told(row)
                for row in rows
                if row.get("ownerId") == connection["ownerId"] or row.get("connectionId") == self.connection_id
            ]
            for table, rows in self.deployment.everything().items()
            if table != "importPositions"
        }


def told(row: dict[str, Any]) -> dict[str, Any]:
    """The document without what is derived of it a few seconds later."""
    return {field: value for field, value in row.items() if field != "derived"}


def trade_sync(deployment: Deployment, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *args],
        cwd=ROOT, env=environment(deployment, **settings), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def environment(deployment: Deployment, **settings: str) -> dict[str, str]:
    ours = ("TRADE_SYNC_", "CONVEX_", "KRAKEN_", "IBKR_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **clean,
        "CONVEX_URL": deployment.address,
        "TRADE_SYNC_PRIVATE_KEY": deployment.private_key,
        "TRADE_SYNC_LOG_LEVEL": "error",
        **settings,
    }


def output(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


@pytest.fixture
def broken_parser(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A version that misses row 2, reads a tenth of row 1's price and takes row 5's date for granted."""

    def normalize(rows: Any, accounts: Any, drift: Drift) -> Normalized:
        meaning = normalize_rows(rows, accounts, drift)
        return replace(meaning, executions=tuple(misread(meaning.executions)))

    def misread(executions: Sequence[Execution]) -> Iterator[Execution]:
        for row in executions:
            if row.key == Row(1).key:
                yield row.model_copy(update={"price": row.price / 10})
            elif row.key != Row(2).key:
                yield row

    monkeypatch.setattr(ibkr_flex, "normalize_rows", normalize)
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("broken_parser")
def test_replay_shows_what_a_mended_parser_makes_of_a_job_and_then_does_it(
    deployment: Deployment, tmp_path: Path
) -> None:
    line = Line(deployment)
    bad = Row(4, price="seventy")
    report = line.import_here(statement(tmp_path / "a.xml", [Row(1), Row(2), Row(3), bad]))
    assert (report.inserted, report.rejected, report.job_id is not None) == (2, 1, True)
    job = report.job_id or ""
    wrong = line.stored()
    assert (wrong[Row(1).key]["price"], Row(2).key in wrong) == ("7.115", False)
    plan = line.user.mutation(
        "tradePlans:createTradePlan",
        {
            "name": "Cola", "instrumentSymbol": "KO", "status": "active", "entryConditions": "", "exitConditions": "",
            "targetConditions": "",
        },
    )  # fmt: skip
    (reviewed,) = [trade for trade in line.trades() if trade["quantity"] == 1]
    line.user.mutation("tradeImport/inbox:review", {"tradeIds": [reviewed["_id"]], "tradePlanId": plan})
    line.user.mutation("trades:updateTrade", {"tradeId": reviewed["_id"], "notes": "mine"})

    before = line.documents()
    shown = trade_sync(deployment, "replay", job, "--dry-run")
    assert shown.returncode == 0, output(shown)
    *differences, counts = shown.stdout.splitlines()
    assert f"~ {Row(1).key}: price 7.115 -> 71.15" in differences
    # 10:00:02 in New York is 14:00:02 UTC in summer.
    assert f"+ {Row(2).key}: buy 2 KO at 71.15, 2026-08-03 14:00:02 UTC" in differences
    (unread,) = (text for text in differences if text.startswith("! "))
    assert unread.startswith(f"! {bad.key}: Trade 800004, KO, ")
    assert "seventy" in unread
    assert len(differences) == 3
    assert counts == "1 new, 1 changed, 1 known, 0 outdated, 1 unreadable"
    assert line.documents() == before, "looking changes nothing"

    done = trade_sync(deployment, "replay", job)
    assert done.returncode == 0, output(done)
    assert done.stdout.splitlines()[:-1] == shown.stdout.splitlines()
    assert "succeeded: 4 fetched, 1 inserted, 1 updated, 2 known, 0 held, 0 rejected" in done.stdout
    rows = line.stored()
    assert {key: row["price"] for key, row in rows.items()} == {Row(n).key: "71.15" for n in (1, 2, 3)}
    (after,) = [trade for trade in line.trades() if trade["_id"] == reviewed["_id"]]
    assert after["price"] == 71.15
    assert "changed_by_broker" in after["importFlags"]
    assert (after["inboxStatus"], after["tradePlanId"], after["notes"]) == ("reviewed", plan, "mine")
    assert len(line.trades()) == 3

    settled = {table: rows for table, rows in line.documents().items() if table in ("externalExecutions", "trades")}
    for which in (job, line.jobs()[-1]["_id"]):
        again = trade_sync(deployment, "replay", which)
        assert again.returncode == 0, output(again)
        assert "0 new, 0 changed, 3 known, 0 outdated, 1 unreadable" in again.stdout
        assert "0 inserted, 0 updated, 4 known" in again.stdout
    assert {table: line.documents()[table] for table in settled} == settled
    assert len(line.documents()["importReports"]) == 1, "one report, however often it is read"
    for stats in (job["stats"] for job in line.jobs()[1:]):
        assert stats["fetched"] == stats["inserted"] + stats["updated"] + stats["known"] == 4


def test_what_the_broker_said_later_stands(deployment: Deployment, tmp_path: Path) -> None:
    line = Line(deployment)
    first = line.import_here(statement(tmp_path / "a.xml", [Row(1, fee="1"), Row(2)]))
    later = line.import_here(statement(tmp_path / "a.xml", [Row(1, fee="1.25"), Row(2)]))
    assert later.updated == 1
    before = line.stored()
    done = trade_sync(deployment, "replay", first.job_id or "")
    assert done.returncode == 0, output(done)
    assert "0 new, 0 changed, 1 known, 1 outdated, 0 unreadable" in done.stdout
    assert "0 inserted, 0 updated, 2 known" in done.stdout
    assert line.stored() == before
    assert before[Row(1).key]["fee"] == "1.25"
    # Nor by way of the replay, which received the old report too.
    again = trade_sync(deployment, "replay", line.jobs()[-1]["_id"])
    assert "0 changed, 1 known, 1 outdated" in again.stdout
    assert line.stored() == before


def test_a_job_that_cannot_be_replayed_is_one_sentence(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(deployment)
    empty = tmp_path / "half.xml"
    empty.write_text("<FlexQueryResponse>")
    without = line.import_here(empty).job_id or ""
    dropped = line.import_here(statement(tmp_path / "old.xml", [Row(2)])).job_id or ""
    with monkeypatch.context() as patch:
        patch.setattr("worker.reports.MAX_PARTS", 0)
        too_large = line.import_here(statement(tmp_path / "large.xml", [Row(1)])).job_id or ""
    lease = line.lease()
    store = deployment.store()
    job = store.job(lease)
    for number in range(29):
        report = RawReport("ibkr_flex_activity", f"digest {number}", 1, (tmp_path / "old.xml").open("rb"))
        with report.file:
            job.begin_report(report, 1, "bytes")
    job.finish(JobOutcome(status="succeeded"), Counts(), next_sync_in=0)
    before = line.documents()
    for which, words in (
        ("nobody", "there is no job nobody"),
        (line.connection_id, "there is no job"),
        (without, "no report was received with it"),
        (too_large, "was too large to be kept"),
        (dropped, "its reports are not kept any more"),
        (lease.job_id, "or not whole"),
    ):
        refused = trade_sync(deployment, "replay", which)
        assert refused.returncode == 1, output(refused)
        assert refused.stdout == ""
        assert refused.stderr.startswith("trade-sync: ")
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1, "one sentence"
    assert line.documents() == before


def test_files_leave_the_connection_as_it_was(deployment: Deployment, tmp_path: Path) -> None:
    line = Line(deployment)
    file = statement(tmp_path / "a.xml", [Row(1)])
    store = deployment.store(worker_id="the daemon")
    lease = store.claim(line.connection_id, "manual")
    assert isinstance(lease, Lease)
    problem = Problem(code="ibkr_login_needed", sentence="Log in.", action="log_in", url="https://localhost:5000")
    store.job(lease).finish(
        JobOutcome(status="blocked_reauth", reason="auth", problem=problem),
        Counts(errors=1),
        breaker=lease.breaker.model_copy(update={"failures": 1}),
        next_sync_in=900_000,
    )
    # Right after a job has served a request, the next one is refused.
    deployment.shift_clock(60_000)
    try:
        assert line.press_sync_now()["result"] == "queued"
    finally:
        deployment.shift_clock(0)
    before = {name: value for name, value in line.state().items() if name not in ("fence", "notifiedAt")}
    shown = {**line.connection(), "completeFrom": None, "completeUpTo": None}
    assert (shown["status"], before["requestedAt"] > 0, before["keptBy"]) == ("needs_reauth", True, "the daemon")

    imported = trade_sync(deployment, "import-flex", str(file), "--connection", line.connection_id)
    assert imported.returncode == 0, output(imported)
    replayed = trade_sync(deployment, "replay", line.jobs()[-1]["_id"])
    assert replayed.returncode == 0, output(replayed)

    assert [job["status"] for job in line.jobs()] == ["blocked_reauth", "succeeded", "succeeded"]
    assert list(line.stored()) == [Row(1).key]
    after = {name: value for name, value in line.state().items() if name not in ("fence", "notifiedAt")}
    assert after == before
    assert {**line.connection(), "completeFrom": None, "completeUpTo": None} == shown
    # The request still stands for the next job that asks the broker.
    store.job(line.lease()).finish(JobOutcome(status="succeeded"), Counts(), next_sync_in=900_000)
    assert "requestedAt" not in line.state()
    assert line.connection()["status"] == "active"


def test_a_connection_that_somebody_else_holds_is_not_replayed_and_says_so(
    deployment: Deployment, tmp_path: Path
) -> None:
    line = Line(deployment)
    file = statement(tmp_path / "a.xml", [Row(1)])
    job = line.import_here(file).job_id or ""
    held = deployment.store().job(line.lease())
    for args in (("replay", job), ("import-flex", str(file), "--connection", line.connection_id)):
        refused = trade_sync(deployment, *args)
        assert refused.returncode == 1, output(refused)
        assert "is being synced by another worker" in refused.stdout
    held.finish(JobOutcome(status="succeeded"), Counts(), next_sync_in=0)


MANY = 3500


@pytest.mark.timeout(120)
def test_E2_an_import_killed_in_the_middle_sends_only_the_rest_and_its_replay_everything(tmp_path: Path) -> None:
    file = statement(tmp_path / "a.xml", (Row(number) for number in range(1, MANY + 1)))
    with Deployment() as deployment:
        line = Line(deployment)
        command = [sys.executable, "-m", "worker", "import-flex", str(file), "--connection", line.connection_id]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(deployment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            eventually(lambda: deployment.calls().get("tradeImport/worker:ingest", 0) >= 3, within=60, what="a page")
            assert process.poll() is None, "the import was over before it could be killed"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        deployment.shift_clock(LEASE_SECONDS * 1000)
        done = trade_sync(deployment, "import-flex", str(file), "--connection", line.connection_id)
        assert done.returncode == 0, output(done)
        killed, rest = line.jobs()
        assert (killed["status"], killed["reason"]) == ("failed", "lease_lost")
        before = int(killed["stats"]["inserted"])
        pages = before // 1000
        assert pages >= 1
        # A page is two batches of 500, and the second carries the place behind the page.
        assert rest["stats"]["fetched"] == MANY - pages * 1000
        assert rest["stats"]["inserted"] == MANY - before
        assert sorted(int(row["quantity"]) for row in line.stored().values()) == list(range(1, MANY + 1))
        assert killed["reportIds"] == rest["reportIds"]
        # All rows of the report, not only those behind the place where the job died.
        replayed = trade_sync(deployment, "replay", killed["_id"])
        assert replayed.returncode == 0, output(replayed)
        assert f"{MANY} fetched, 0 inserted, 0 updated, {MANY} known" in replayed.stdout


# check-flex --connection.


@pytest.fixture
def ibkr() -> Iterator[Child]:
    with start_ibkr("--http", "--trades", "20", "--days", "5", "--sec-type", "STK", "--seed", "check") as running:
        yield running


def flex_connection(deployment: Deployment, ibkr: Child) -> Connected:
    flex = ibkr.info["flex"]
    user = deployment.user()
    args = {
        "kind": "ibkr_flex",
        "accountRef": ibkr.info["accounts"][0],
        "auth": {"kind": "ibkr_flex", "token": flex["token"], "activityQueryId": flex["activityQuery"]},
        # One statement a sync: each takes the service some seconds.
        "settings": {"intervalMinutes": 15, "importFrom": SystemClock().now() - 6 * DAY},
    }
    return Connected(deployment, user, user.mutation("tradeImport/connections:create", args))


def test_check_flex_names_what_a_connections_query_leaves_out(deployment: Deployment, ibkr: Child) -> None:
    line = flex_connection(deployment, ibkr)
    control = httpx.Client(base_url=ibkr.info["flex"]["address"], timeout=30)

    def check() -> subprocess.CompletedProcess[str]:
        address = ibkr.info["flex"]["address"]
        return trade_sync(deployment, "check-flex", "--connection", line.connection_id, IBKR_FLEX_URL=address)

    control.post("/sandbox/flex/quirks", json={"leftOut": ["notes", "tradeID"], "summaries": False}).raise_for_status()
    found = check()
    assert found.returncode == 2, output(found)
    assert "Missing in this Flex query (2):" in found.stdout
    assert {"(notes)", "(tradeID)"} == {word for word in ("(notes)", "(tradeID)", "(ibExecID)") if word in found.stdout}
    assert found.stdout.startswith("1-activity-")
    # It is a sync as any other: what came is imported, and its report is kept.
    assert "succeeded" in found.stderr
    assert line.executions()
    control.post("/sandbox/flex/quirks", json={}).raise_for_status()
    whole = check()
    assert whole.returncode == 0, output(whole)
    assert "Nothing is missing in this Flex query." in whole.stdout
    control.post("/sandbox/flex/token", json={"do": "expire"}).raise_for_status()
    over = check()
    assert over.returncode == 1, output(over)
    assert "no report was received with it" in over.stderr
    assert line.connection()["status"] == "needs_reauth"


def test_check_flex_needs_a_file_or_a_connection_with_flex_queries(deployment: Deployment, tmp_path: Path) -> None:
    file = statement(tmp_path / "a.xml", [Row(1)])
    user = deployment.user()
    auth = {
        "kind": "kraken",
        "apiKey": "canary-key-1234567890abcd",
        "apiSecret": "Y2FuYXJ5LXNlY3JldC1jYW5hcnktc2VjcmV0",
    }
    kraken = user.mutation("tradeImport/connections:create", {"kind": "kraken", "auth": auth})
    for args, status, words in (
        (("--connection", kraken), 1, "has no Flex query"),
        (("--connection", "nobody"), 1, "there is no connection nobody"),
    ):
        done = trade_sync(deployment, "check-flex", *args)
        assert (done.returncode, done.stdout) == (status, ""), args
        assert words in done.stderr
    for few_or_many in ((), (str(file), "--connection", kraken)):
        refused = CliRunner().invoke(app, ["check-flex", *few_or_many])
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "name a file or a connection, and not both" in refused.stderr
    assert Connected(deployment, user, kraken).jobs() == []
