"""`trade-sync parse ibkr-live`: files in, JSON lines out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from worker.cli import app
from worker.errors import UnusableFile
from worker.parse import parse_ibkr_live

FILE = Path(__file__).parent.parent / "fixtures" / "ibkr" / "trades.json"
ROWS: list[dict[str, Any]] = json.loads(FILE.read_text())
SHARE = json.dumps(ROWS[0])


def parsed(path: Path, account: str = " u7000001 ", *others: str) -> tuple[int, list[dict[str, Any]]]:
    out = io.StringIO()
    status = parse_ibkr_live(path, account, others, out)
    return status, [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_an_answer() -> None:
    status, lines = parsed(FILE, "u7000001", "U7000002")
    assert status == 0
    assert [(e["type"], e["symbol"], e.get("side"), e["quantity"], e["price"], e["fee"]) for e in lines[:-1]] == [
        ("execution", "BRK.B", "buy", "3", "501.25", "1"),
        ("execution", "MES MAR26", "sell", "2", "5400.25", "1.24"),
        ("execution", "AAPL  260320C00190000", "buy", "1", "3.45", "0.65"),
        ("execution", "EUR/USD", "sell", "20000", "1.08125", "2"),
        ("execution", "MES (EX3) MAR26 5300 Put Fut. Option", None, "2", "0", "0"),
    ]
    assert lines[-1] == {
        "type": "report", "rows": 6, "executions": 5, "kinds": {"expiry": 1, "fill": 4}, "rejects": 0, "skipped": 1,
        "notices": [], "warnings": [],
    }  # fmt: skip


def test_B18_rows_of_an_account_nobody_named_are_rejects() -> None:
    status, lines = parsed(FILE)
    assert status == 2
    (reject,) = (line for line in lines if line["type"] == "reject")
    assert (reject["accountRef"], reject["externalExecutionId"]) == ("U7000002", "0001f4ed.69a1b2c8.01")
    report = lines[-1]
    assert (report["rows"], report["executions"], report["rejects"], report["skipped"]) == (6, 5, 1, 0)
    assert report["notices"] == [
        "This login also trades account U7000002, which no connection imports. Add a connection for it."
    ]


def test_B12_rejects_are_printed_and_counted(write: Any) -> None:
    status, lines = parsed(write(json.dumps([ROWS[0], ROWS[1] | {"size": "1,000"}, 5])))
    assert status == 2
    assert sorted(line["reason"] for line in lines if line["type"] == "reject") == [
        "size is not a number: '1,000'",
        "the trade is not an object",
    ]
    assert (lines[-1]["rows"], lines[-1]["executions"], lines[-1]["rejects"]) == (3, 1, 2)


def test_one_answer_a_line_of_overlapping_polls(write: Any) -> None:
    nameless = ROWS[2] | {"execution_id": ""}
    late = ROWS[1] | {"commission": "9.99"}
    answers: list[list[Any]] = [[], ROWS[:2], [nameless, late], [nameless, nameless, ROWS[0]]]
    status, lines = parsed(write("\n\n".join(map(json.dumps, answers)) + "\n"))
    assert status == 0
    executions = lines[:-1]
    assert sorted(e["symbol"] for e in executions) == ["AAPL  260320C00190000"] * 2 + ["BRK.B", "MES MAR26"]
    assert [e["fee"] for e in executions if e["symbol"] == "MES MAR26"] == ["9.99"], "the last one said"
    assert len({e["ingestionHash"] for e in executions}) == 4
    assert lines[-1]["rows"] == 4
    assert lines[-1]["warnings"] == ["3 rows came more than once in the file; each was read once."]


def test_B10_both_revisions_of_an_execution_are_shown(write: Any) -> None:
    corrected = ROWS[0] | {"execution_id": "0001f4e8.69a1b2c3.01.02", "price": "501.20", "net_amount": 1503.60}
    _, lines = parsed(write(json.dumps([corrected, ROWS[0]])))
    assert [(e["externalExecutionId"], e["revision"], e["price"]) for e in lines[:-1]] == [
        ("0001f4e8.69a1b2c3.01", 1, "501.25"),
        ("0001f4e8.69a1b2c3.01", 2, "501.2"),
    ]


@pytest.mark.parametrize("content", ["[]", " [ ]\n", "[]\n[]\n"])
def test_an_empty_answer_is_valid_and_proves_nothing(write: Any, content: str) -> None:
    status, lines = parsed(write(content))
    assert status == 0
    assert lines == [
        {
            "type": "report", "rows": 0, "executions": 0, "kinds": {}, "rejects": 0, "skipped": 0, "notices": [],
            "warnings": ["The file holds no rows. An empty answer does not prove that there were no trades."],
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"error":"not authenticated","statusCode":401}', "error answer, not trades: 'not authenticated'"),
        ('{"error":"Please query /accounts first"}', "error answer, not trades: 'Please query /accounts first'"),
        ('{"authenticated":false,"connected":true}', "about the session, not trades"),
        ('{"session":"x","iserver":{"authStatus":{}}}', "about the session, not trades"),
        ('{"USER_ID":1,"RESULT":true}', "about the session, not trades"),
        (SHARE, "which is a list"),
        ("null", "which is a list"),
        ('"[]"', "which is a list"),
        ("{}", "which is a list"),
        ('[{"accountId":"U1","currency":"USD"}]', "a list, but not of trades"),
        ('[{"orderId":1,"side":"BUY","ticker":"AAPL"}]', "a list, but not of trades"),
        ("[1,2]", "a list, but not of trades"),
        ("[[]]", "a list, but not of trades"),
        ("<!DOCTYPE html><p>Login", "a web page"),
        ("\n <html><body>Access Denied", "a web page"),
        ("<FlexQueryResponse/>", "XML"),
        (f"[{SHARE}]\n{{half", "line 2, is not JSON"),
        (f'[{SHARE}]\n{{"error":"no session"}}\n', "line 2, is an error answer"),
        (f"[{SHARE}", "not JSON"),
        pytest.param("[" * 100_000, "not JSON", id="deep"),
        ("execution_id,symbol\n", "not JSON"),
        ("", "empty"),
        (" \n", "empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"PK\x03\x04rest", "ZIP"),
    ],
)
def test_an_unusable_file_is_never_zero_rows(write: Any, content: str | bytes, words: str) -> None:
    out = io.StringIO()
    with pytest.raises(UnusableFile) as caught:
        parse_ibkr_live(write(content), "U7000001", (), out)
    assert out.getvalue() == ""
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_F2_an_error_answer_is_quoted_briefly(write: Any) -> None:
    with pytest.raises(UnusableFile) as caught:
        parsed(write(json.dumps({"error": "x" * 10_000})))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((str(FILE), "--account", "U7000001", "--other-account", "U7000002", "--other-account", "U7000003"), 0),
        ((str(FILE), "--account", "U7000001"), 2),
        ((str(FILE) + ".none", "--account", "U7000001"), 1),
    ],
    ids=["all well", "rejects", "unusable"],
)
def test_the_command_and_its_exit_status(arguments: tuple[str, ...], status: int) -> None:
    result = CliRunner().invoke(app, ["parse", "ibkr-live", *arguments])
    assert result.exit_code == status
    if status == 1:
        assert result.stdout == ""
        assert result.stderr.startswith("trade-sync: ")
        assert "cannot be read" in result.stderr
    else:
        assert json.loads(result.stdout.splitlines()[-1])["type"] == "report"
