"""Flex statements from files: what they cover, and whose they are."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.support.deployment import Deployment
from tests.support.ibkr_world import IbkrWorld, Line
from worker.brokers import Broker
from worker.models import JobOutcome
from worker.replay import unpack_reports
from worker.sessions.flex_files import WINDOWING, open_files
from worker.sync import Report, Syncer

NOON = 1_789_488_000_000
"""Tuesday 2026-09-15, noon in New York."""
ACCOUNT = "U7770001"


def statement(
    first: str, last: str, made: str, *, account: str = ACCOUNT, number: int = 1, section: str = "Trades"
) -> str:
    row = (
        f'<Trade accountId="{account}" currency="USD" assetCategory="STK" symbol="KO" conid="8894" multiplier="1" '
        f'tradeID="90{number}" transactionID="80{number}" dateTime="{first};101500" buySell="BUY" quantity="5" '
        f'tradePrice="71.15" ibCommission="-1" ibCommissionCurrency="USD" transactionType="ExchTrade" '
        f'ibExecID="0000f1a2.68c7d0{number:02}.01.01" levelOfDetail="EXECUTION" />'
    )
    return (
        f'<FlexStatement accountId="{account}" fromDate="{first}" toDate="{last}" period="" whenGenerated="{made}">'
        f"<{section}>{row if section == 'Trades' else ''}</{section}></FlexStatement>"
    )


def document(path: Path, *statements: str) -> Path:
    path.write_text(
        f'<FlexQueryResponse queryName="own" type="AF"><FlexStatements count="{len(statements)}">'
        + "".join(statements)
        + "</FlexStatements></FlexQueryResponse>"
    )
    return path


def import_files(world: IbkrWorld, line: Line, *paths: Path) -> Report:
    world.tell_convex_the_time()
    broker = Broker(WINDOWING, open_files(paths, open_file=lambda path: path.open("rb")))
    return Syncer(world.store, {"ibkr_gateway": broker}, world.clock).run(line.connection_id, "manual")


def outcome_of(report: Report) -> JobOutcome:
    assert isinstance(report.outcome, JobOutcome), report
    return report.outcome


def covered(line: Line) -> list[tuple[int, int]]:
    return [(int(i["start"]), int(i["end"])) for i in line.cursor()["coverage"] if i["source"] == "ibkr_flex_activity"]


@pytest.fixture
def world(deployment: Deployment) -> IbkrWorld:
    made = IbkrWorld(deployment, start=NOON)
    made.login(accounts=(ACCOUNT,))
    return made


def connect(world: IbkrWorld, account: str | None = ACCOUNT) -> Line:
    (simulator,) = world.simulators.values()
    return world.connect(simulator, account=account)


def test_a_statement_covers_from_the_evening_before_to_its_last_evening(world: IbkrWorld, tmp_path: Path) -> None:
    line = connect(world)
    file = document(tmp_path / "a.xml", statement("20260803", "20260807", "20260810;070000"))
    assert import_files(world, line, file).inserted == 1
    # 17:00 in New York is 21:00 UTC in summer: Sunday the 2nd to Friday the 7th.
    assert covered(line) == [(1_785_704_400_000, 1_786_136_400_000)]


def test_days_that_were_not_final_when_the_statement_was_made_are_not_covered(world: IbkrWorld, tmp_path: Path) -> None:
    line = connect(world)
    file = document(tmp_path / "a.xml", statement("20260803", "20260807", "20260806;160000"))
    import_files(world, line, file)
    # Made on Thursday afternoon: final up to Wednesday the 5th.
    assert covered(line) == [(1_785_704_400_000, 1_785_963_600_000)]


def test_days_between_two_statements_of_a_file_stay_uncovered(world: IbkrWorld, tmp_path: Path) -> None:
    line = connect(world)
    file = document(
        tmp_path / "a.xml",
        statement("20260803", "20260804", "20260901;070000", number=1),
        statement("20260806", "20260807", "20260901;070000", number=2),
    )
    assert import_files(world, line, file).inserted == 2
    day = 24 * 3_600_000
    assert covered(line) == [
        (1_785_704_400_000, 1_785_704_400_000 + 2 * day),
        (1_785_704_400_000 + 3 * day, 1_785_704_400_000 + 5 * day),
    ]


def test_a_statement_without_trades_covers_nothing(world: IbkrWorld, tmp_path: Path) -> None:
    line = connect(world)
    file = document(tmp_path / "a.xml", statement("20260803", "20260807", "20260810;070000", section="CashReport"))
    report = import_files(world, line, file)
    assert outcome_of(report).reason == "incomplete_report"
    assert outcome_of(report).problem is not None
    assert "a.xml" in outcome_of(report).problem.sentence  # type: ignore[union-attr]


def test_a_statement_without_trades_among_others_with_them_stops_the_file(world: IbkrWorld, tmp_path: Path) -> None:
    line = connect(world)
    file = document(
        tmp_path / "a.xml",
        statement("20260803", "20260804", "20260901;070000"),
        statement("20260805", "20260807", "20260901;070000", section="CashReport"),
    )
    assert outcome_of(import_files(world, line, file)).reason == "incomplete_report"
    assert (line.executions(), covered(line)) == ([], [])


def test_files_are_read_once_whatever_gaps_the_connection_has(world: IbkrWorld, tmp_path: Path) -> None:
    line = connect(world)
    world.tell_convex_the_time()
    line.user.mutation(
        "tradeImport/connections:updateSettings",
        {"connectionId": line.connection_id, "importFrom": NOON - 90 * 24 * 3_600_000},
    )
    files = [
        document(tmp_path / f"{n}.xml", statement(f"2026080{n}", f"2026080{n}", "20260901;070000", number=n))
        for n in (3, 5, 7)
    ]
    assert import_files(world, line, *files).fetched == 3
    again = import_files(world, line, *files)
    assert (again.fetched, again.inserted, again.known) == (3, 0, 3)


def test_B18_a_connection_without_an_account_gets_that_of_the_files(world: IbkrWorld, tmp_path: Path) -> None:
    line = connect(world, account=None)
    both = document(
        tmp_path / "both.xml",
        statement("20260803", "20260807", "20260810;070000"),
        statement("20260803", "20260807", "20260810;070000", account="U7770002", number=2),
    )
    report = import_files(world, line, both)
    assert outcome_of(report).reason == "incomplete_report"
    assert line.connection()["accountRef"] is None
    one = document(tmp_path / "one.xml", statement("20260803", "20260807", "20260810;070000"))
    assert import_files(world, line, one).inserted == 1
    assert line.connection()["accountRef"] == ACCOUNT
    # Bound now: of the other file only this account's rows are its own.
    report = import_files(world, line, both)
    assert {row["accountRef"] for row in line.executions()} == {ACCOUNT}
    assert "U7770002" in (outcome_of(report).problem.sentence if outcome_of(report).problem else "")  # type: ignore[union-attr]


def test_B18_one_file_of_another_account_stops_all_before_a_row_is_read(world: IbkrWorld, tmp_path: Path) -> None:
    line = connect(world)
    own = document(tmp_path / "own.xml", statement("20260803", "20260807", "20260810;070000"))
    other = document(
        tmp_path / "other.xml", statement("20260803", "20260807", "20260810;070000", account="U7770002", number=2)
    )
    report = import_files(world, line, own, other)
    assert outcome_of(report).reason == "incomplete_report"
    problem = outcome_of(report).problem
    assert problem is not None
    told = f"other.xml cannot be imported. The Flex report has no statement of account {ACCOUNT}, only of U7770002."
    assert problem.sentence.startswith(told)
    assert (line.executions(), covered(line)) == ([], [])


def test_a_file_of_confirmations_is_kept_as_such_and_covers_nothing(world: IbkrWorld, tmp_path: Path) -> None:
    line = connect(world)
    text = statement("20260803", "20260807", "20260810;070000").replace("<Trade ", "<TradeConfirm ")
    for activity, confirm in (("Trades>", "TradeConfirms>"), ("tradePrice", "price"), ("ibExecID", "execID")):
        text = text.replace(activity, confirm)
    assert import_files(world, line, document(tmp_path / "today.xml", text)).inserted == 1
    (report,) = world.deployment.documents("importReports", connectionId=line.connection_id)
    (row,) = line.executions()
    assert (report["source"], row["source"]) == ("ibkr_flex_confirm", "ibkr_flex_confirm")
    assert covered(line) == []


def test_I2_what_is_left_out_for_its_age_is_not_covered(world: IbkrWorld, tmp_path: Path) -> None:
    """An owner who wants older trades later must not be told that they are there."""
    line = connect(world)
    files = [
        document(tmp_path / "old.xml", statement("20260803", "20260807", "20260901;070000")),
        document(tmp_path / "new.xml", statement("20260810", "20260814", "20260901;070000", number=2)),
    ]
    wednesday = 1_786_536_000_000  # 2026-08-12, 12:00 UTC
    world.tell_convex_the_time()
    line.user.mutation(
        "tradeImport/connections:updateSettings", {"connectionId": line.connection_id, "importFrom": wednesday}
    )
    assert import_files(world, line, *files).inserted == 0
    assert covered(line) == [(wednesday, 1_786_741_200_000)], "to Friday the 14th, 17:00 in New York"
    world.tell_convex_the_time()
    line.user.mutation("tradeImport/connections:updateSettings", {"connectionId": line.connection_id, "importFrom": 0})
    assert import_files(world, line, *files).inserted == 2
    assert covered(line) == [(1_785_704_400_000, 1_786_136_400_000), (1_786_309_200_000, 1_786_741_200_000)]


@pytest.mark.parametrize("member", ["../../outside", "/outside", "a-thousand-times-larger"])
def test_F9_an_archive_is_not_unpacked(world: IbkrWorld, tmp_path: Path, member: str) -> None:
    line = connect(world)
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    path = folder / "statement.xml"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, b"\0" * (1 << 24))
    assert path.stat().st_size < (1 << 24) // 900
    report = import_files(world, line, path)
    assert outcome_of(report).reason == "incomplete_report"
    assert "ZIP archive" in str(outcome_of(report).problem)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
    assert line.executions() == []


@pytest.mark.parametrize("name", ["..\\..\\x", "-rf", "a\nb.xml", "\u202elmx.exe", "%2e%2e%2fx", "C:x"])
def test_F9_the_name_of_a_file_decides_nothing(world: IbkrWorld, tmp_path: Path, name: str) -> None:
    line = connect(world)
    path = document(tmp_path / name, statement("20260803", "20260807", "20260810;070000"))
    assert import_files(world, line, path).inserted == 1
    (job,) = line.jobs()
    folder = tmp_path / "again"
    folder.mkdir()
    (written,) = unpack_reports(world.store, job["_id"], folder).paths
    assert written.parent == folder
    assert written.name.startswith("1-activity-2026-")
    assert written.read_bytes() == path.read_bytes()
    assert sorted(each.name for each in tmp_path.rglob("*") if each.is_file()) == sorted([name, written.name])
