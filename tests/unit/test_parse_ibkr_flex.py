"""`trade-sync parse ibkr-flex` and `trade-sync check-flex`: statements in, JSON lines or sentences out."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from worker.cli import app
from worker.errors import UnusableFile
from worker.parse import check_flex_file, parse_ibkr_flex

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "ibkr" / "flex"
ACTIVITY, CONFIRM = FIXTURES / "activity.xml", FIXTURES / "confirm.xml"

Write = Callable[[str | bytes], Path]


def parsed(path: Path, account: str | None = None) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    out = io.StringIO()
    status = parse_ibkr_flex(path, account, out)
    *rows, report = (json.loads(line) for line in out.getvalue().splitlines())
    return status, rows, report


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "statement.xml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_statement() -> None:
    status, rows, report = parsed(ACTIVITY)
    assert status == 0
    assert [
        (r["type"], r["accountRef"], r["kind"], r["symbol"], r["side"], r["quantity"], r["price"]) for r in rows
    ] == [
        ("execution", "U7000001", "fill", "BRK.B", "buy", "3", "501.25"),
        ("execution", "U7000001", "fill", "AAPL  260320P00190000", "sell", "1200", "3.45"),
        ("execution", "U7000001", "fill", "SIE", "sell", "11.5", "230.1"),
        ("execution", "U7000001", "cancel", "SIE", "sell", "11.5", "230.1"),
        ("execution", "U7000001", "fill", "SIE", "sell", "11.75", "230.1"),
        ("execution", "U7000001", "expiry", "AAPL  260320P00190000", "buy", "1200", "0"),
        ("execution", "U7000002", "fill", "EUR/USD", "sell", "20000", "1.08125"),
    ]
    assert rows[3]["cancels"] == "tx:4100000003"
    assert report == {
        "type": "report", "queryName": "Journal", "statementType": "AF", "accounts": ["U7000001", "U7000002"],
        "from": "2026-03-02", "to": "2026-03-31", "statements": 2, "sections": {"Trades": 2}, "rows": 7,
        "executions": 7, "kinds": {"cancel": 1, "expiry": 1, "fill": 5}, "rejects": 0, "skipped": 0,
        "ignored": {"Lot": 2, "Order": 1, "SymbolSummary": 1}, "notices": [], "warnings": [],
    }  # fmt: skip


def test_B18_rows_of_one_account_only() -> None:
    status, rows, report = parsed(ACTIVITY, " u7000002 ")
    assert status == 0
    assert [row["accountRef"] for row in rows] == ["U7000002"]
    assert (report["rows"], report["skipped"]) == (1, 6)
    assert report["accounts"] == ["U7000001", "U7000002"]


def test_B18_an_account_that_is_not_there_is_never_zero_rows() -> None:
    out = io.StringIO()
    with pytest.raises(UnusableFile, match="no statement of account 'U9'; its accounts: U7000001, U7000002"):
        parse_ibkr_flex(ACTIVITY, "U9", out)
    assert out.getvalue() == ""


def test_B12_rejects_are_printed_and_counted(write: Write) -> None:
    text = (
        ACTIVITY.read_text().replace('quantity="-20000"', 'quantity="-20,00"').replace("20260305;101501", "20260305;1")
    )
    status, rows, report = parsed(write(text))
    assert status == 2
    assert [row["reason"] for row in rows if row["type"] == "reject"] == [
        "Trade 4100000001, BRK B, 20260305;1: dateTime is not a time: '20260305;1'. "
        "Set «Time Format» of the Flex query to HHmmss or HH:mm:ss.",
        "Trade 4100000007, EUR.USD, 20260312;171500: quantity is not a number: '-20,00'",
    ]
    assert (report["rows"], report["executions"], report["rejects"]) == (7, 5, 2)


def test_what_is_not_ascii_is_printed_for_any_terminal(write: Write) -> None:
    _, rows, _ = parsed(write(ACTIVITY.read_text().replace('symbol="SIE"', 'symbol="ČEZ"')))
    assert {row["symbol"] for row in rows} >= {"ČEZ"}
    out = io.StringIO()
    parse_ibkr_flex(write(ACTIVITY.read_text().replace('symbol="SIE"', 'symbol="ČEZ"')), None, out)
    assert out.getvalue().isascii()


def test_B23_a_statement_whose_query_does_not_ask_for_trades_says_so(write: Write) -> None:
    head = '<FlexQueryResponse queryName="Q" type="AF"><FlexStatements count="1">'
    foot = "</FlexStatements></FlexQueryResponse>"
    begin = '<FlexStatement accountId="U1" fromDate="20260302" toDate="20260331">'
    status, rows, report = parsed(write(f"{head}{begin}</FlexStatement>{foot}"))
    assert (status, rows, report["rows"], report["sections"]) == (0, [], 0, {})
    assert report["warnings"] == [
        "The statement of 'U1' has no section with trades: its Flex query asks for none. "
        "That does not mean that there were none."
    ]
    _, _, report = parsed(write(f"{head}{begin}<Trades/></FlexStatement>{foot}"))
    assert (report["sections"], report["warnings"]) == ({"Trades": 1}, [])


def test_a_period_that_cannot_be_read_is_said(write: Write) -> None:
    _, _, report = parsed(write(CONFIRM.read_text().replace("fromDate='2026-03-05'", "fromDate='03/05/2026'")))
    assert (report["from"], report["to"]) == ("2026-03-05", "2026-03-05")
    assert report["warnings"] == ["A statement's fromDate cannot be read: '03/05/2026'"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        (ACTIVITY.read_bytes()[:-30], "ends in the middle"),
        (ACTIVITY.read_text().replace('count="2"', 'count="3"'), "announces '3' statements and holds 2"),
        ("<html><body>Login", "a web page"),
        (b"PK\x03\x04rest", "ZIP"),
        ("[]", "not a Flex statement"),
        (
            "<FlexStatementResponse><Status>Fail</Status><ErrorCode>1012</ErrorCode>"
            "<ErrorMessage>Token has expired.</ErrorMessage></FlexStatementResponse>",
            "error answer of the Flex service, not a statement: 1012, 'Token has expired.'",
        ),
        (
            "<FlexStatementResponse><Status>Success</Status><ReferenceCode>77</ReferenceCode></FlexStatementResponse>",
            "receipt for a request",
        ),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><FlexQueryResponse/>", "declares a document type"),
    ],
    ids=["empty", "cut", "count", "html", "zip", "json", "error", "receipt", "entities"],
)
def test_an_unusable_file_is_never_zero_rows(write: Write, content: str | bytes, words: str) -> None:
    path = write(content)
    out = io.StringIO()
    for read in (lambda: parse_ibkr_flex(path, None, out), lambda: check_flex_file(path, out)):
        with pytest.raises(UnusableFile) as caught:
            read()
        assert words in str(caught.value)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    assert out.getvalue() == ""


def test_what_check_flex_says(write: Write) -> None:
    out = io.StringIO()
    assert check_flex_file(ACTIVITY, out) == 0
    assert out.getvalue() == (
        "Accounts: U7000001, U7000002. Period: 2026-03-02 to 2026-03-31. Trades: 7.\n"
        "Nothing is missing in this Flex query.\n"
    )
    out = io.StringIO()
    assert check_flex_file(write(ACTIVITY.read_text().replace("ibExecID=", "x=").replace("conid=", "y=")), out) == 2
    assert out.getvalue() == (
        "Accounts: U7000001, U7000002. Period: 2026-03-02 to 2026-03-31. Trades: 7.\n"
        "Missing in this Flex query (2):\n"
        "- Trades: box «IB Execution ID» (ibExecID): a trade that the live API has brought comes a second time, and "
        "corrections count as new trades.\n"
        "- Trades: box «Conid» (conid): instruments with several symbols cannot be recognised as one.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("parse", "ibkr-flex", str(ACTIVITY)), 0),
        (("parse", "ibkr-flex", str(CONFIRM), "--account", "U7000001"), 0),
        (("parse", "ibkr-flex", f"{ACTIVITY}.none"), 1),
        (("parse", "ibkr-flex", str(FIXTURES)), 1),
        (("check-flex", str(CONFIRM)), 0),
        (("check-flex", f"{ACTIVITY}.none"), 1),
    ],
    ids=["activity", "confirm", "no file", "folder", "check", "check no file"],
)
def test_the_commands_and_their_exit_status(arguments: tuple[str, ...], status: int) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == status
    if status:
        assert result.stdout == ""
        assert result.stderr.startswith("trade-sync: ")
        assert "cannot be read" in result.stderr


def test_the_commands_report_what_needs_a_person(write: Write) -> None:
    path = str(write(ACTIVITY.read_text().replace('quantity="3"', 'quantity="x"')))
    assert CliRunner().invoke(app, ["parse", "ibkr-flex", path]).exit_code == 2
    path = str(write(ACTIVITY.read_text().replace("conid=", "x=")))
    assert CliRunner().invoke(app, ["check-flex", path]).exit_code == 2


PEAK_OF_THE_COMMAND = """
import io, sys
from typer.testing import CliRunner
from worker.cli import app
result = CliRunner().invoke(app, ["parse", "ibkr-flex", sys.argv[1]])
assert "worker.daemon" not in sys.modules
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
print(result.exit_code, peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_F8_the_command_refuses_a_hostile_file_within_a_small_memory(write: Write) -> None:
    names = "abcdefghij"
    entities = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in pairwise(names))
    path = write(f'<!DOCTYPE x [<!ENTITY a "lol">{entities}]><FlexQueryResponse q="&j;"/>')
    done = subprocess.run(
        [sys.executable, "-c", PEAK_OF_THE_COMMAND, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    status, peak = done.stdout.split()
    assert status == "1"
    assert float(peak) <= 64
