"""`trade-sync parse kraken-trades`: files in, JSON lines out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from worker.errors import UnusableFile
from worker.parse import parse_kraken_trades

FIXTURES = Path(__file__).parent.parent / "fixtures" / "kraken"
TRADES = (FIXTURES / "trades-history.json").read_text()


def parsed(path: Path, pairs: Path | None = FIXTURES / "asset-pairs.json") -> tuple[int, list[dict[str, Any]]]:
    out = io.StringIO()
    status = parse_kraken_trades(path, " ACCOUNT 1 ", pairs, out)
    return status, [json.loads(line) for line in out.getvalue().splitlines()]


def of_type(kind: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == kind]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: str | bytes, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_an_envelope() -> None:
    status, lines = parsed(FIXTURES / "trades-history.json")
    assert status == 0
    executions = of_type("execution", lines)
    assert [(e["symbol"], e["side"], e["quantity"], e["price"], e["fee"], e["assetClass"]) for e in executions] == [
        ("BTC/EUR", "buy", "0.0125", "78250.1", "2.44532", "crypto"),
        ("BTC/EUR", "buy", "0.0125", "78250.1", "2.44532", "crypto"),
        ("ETH/USD", "sell", "2", "2050.25", "10.6613", "crypto"),
        ("ETH/USD", "buy", "2", "2000", "10.4", "crypto"),
        ("AAPLx/USD", "buy", "1.5", "251.37", "-0.07541", "tokenized"),
        ("ICN/BTC", "sell", "10", "0.00031", "0.00001", "crypto"),
        ("QQQQWWWW", "buy", "1", "1", "0", "other"),
    ]
    assert {e["accountRef"] for e in executions} == {"ACCOUNT 1"}
    report = lines[-1]
    assert {name: report[name] for name in ("type", "rows", "executions", "rejects")} == {
        "type": "report",
        "rows": 7,
        "executions": 7,
        "rejects": 0,
    }
    assert len(report["warnings"]) == 2, "the field venue_hint, the pair QQQQWWWW"


def test_one_envelope_a_line_with_overlapping_pages(write: Any) -> None:
    trades = json.loads(TRADES)["result"]["trades"]
    names = list(trades)
    pages = [names[:4], names[3:]]
    text = "\n".join(
        json.dumps({"error": [], "result": {"count": 7, "trades": {name: trades[name] for name in page}}})
        for page in pages
    )
    status, lines = parsed(write(text + "\n\n"))
    assert (status, lines[-1]["rows"], lines[-1]["executions"]) == (0, 7, 7)
    assert any("1 rows came more than once" in warning for warning in lines[-1]["warnings"])


def test_a_page_of_more_says_so(write: Any) -> None:
    document = json.loads(TRADES)
    document["result"]["count"] = "2346"
    _, lines = parsed(write(json.dumps(document)))
    assert "The file holds 7 trades of 2346 that Kraken counts." in lines[-1]["warnings"]


def test_rejects_are_printed_and_counted(write: Any) -> None:
    document = json.loads(TRADES)
    document["result"]["trades"]["TJR4QA-2WPLM-ZX7K3B"]["vol"] = "a lot"
    document["error"] = ["WGeneral:take care"]
    status, lines = parsed(write(json.dumps(document)))
    assert status == 2
    (reject,) = of_type("reject", lines)
    assert reject["reason"] == "vol is not a number: 'a lot'"
    assert json.loads(reject["rawPayload"])["vol"] == "a lot"
    assert (lines[-1]["rows"], lines[-1]["executions"], lines[-1]["rejects"]) == (7, 6, 1)
    assert "WGeneral:take care" in lines[-1]["warnings"]


def test_no_trades_are_no_fault(write: Any) -> None:
    status, lines = parsed(write('{"error":[],"result":{"count":0,"trades":{}}}'))
    assert (status, lines) == (0, [{"type": "report", "rows": 0, "executions": 0, "rejects": 0, "warnings": []}])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"error":["EAPI:Invalid key"]}', "error answer of Kraken, not trades: EAPI:Invalid key"),
        ('{"error":["WGeneral:x","EService:Busy"]}', "EService:Busy"),
        (TRADES.replace("\n", "") + '\n{"error":["EAPI:Rate limit exceeded"]}\n', "line 2"),
        (TRADES.replace("\n", "") + "\n{half", "line 2"),
        ('{"error":[]}', "not an answer of TradesHistory"),
        ('{"error":[],"result":{}}', "not an answer of TradesHistory"),
        ('{"error":[],"result":{"trades":[],"count":0}}', "not an answer of TradesHistory"),
        ('{"error":[],"result":{"ledger":{"L1":{"refid":"T1"}},"count":1}}', "not an answer of TradesHistory"),
        ('{"trades":{}}', "not an answer of Kraken"),
        ("[]", "not an answer of Kraken"),
        (TRADES[:-40], "not JSON"),
        ("", "empty"),
        ("  \n", "empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"PK\x03\x04rest", "ZIP"),
        ("<html>sign in</html>", "not a trades export"),
        ("txid,refid,time,type,subtype,aclass,asset,amount,fee,balance\n", "not a trades export"),
        ("pair,time,type,vol,fee\n", "neither a price nor a cost"),
        ("pair,time,type,vol,fee,price,price\n", "not a trades export"),
        ('pair,time,type,vol,fee,price\n"' + "x" * 200_000, "not CSV"),
    ],
)
def test_an_unusable_file_is_never_zero_rows(write: Any, content: str | bytes, words: str) -> None:
    out = io.StringIO()
    with pytest.raises(UnusableFile) as caught:
        parse_kraken_trades(write(content), "A", None, out)
    assert out.getvalue() == ""
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UnusableFile, match="cannot be read"):
            parse_kraken_trades(path, "A", None, io.StringIO())


@pytest.mark.parametrize(
    "content", ["", "x", '{"error":["EGeneral:Internal error"]}', '{"error":[],"result":{}}', "[]", '{"a":1}']
)
def test_asset_pairs_that_are_none_are_unusable(write: Any, content: str) -> None:
    with pytest.raises(UnusableFile):
        parsed(FIXTURES / "trades-history.json", write(content))


def test_asset_pairs_may_come_without_their_envelope(write: Any) -> None:
    bare = json.dumps(json.loads((FIXTURES / "asset-pairs.json").read_text())["result"])
    status, lines = parsed(FIXTURES / "trades-history.json", write(bare))
    assert (status, lines[0]["symbol"]) == (0, "BTC/EUR")


def without_raw(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("rawPayload", "rawSymbol")}


def test_an_export_means_the_same_as_the_api() -> None:
    from_api = {line.get("externalExecutionId"): line for line in parsed(FIXTURES / "trades-history.json")[1]}
    compared = 0
    for export in ("trades-2021.csv", "trades-2025.csv"):
        for line in of_type("execution", parsed(FIXTURES / export)[1]):
            if line["externalExecutionId"] in from_api:
                assert without_raw(line) == without_raw(from_api[line["externalExecutionId"]])
                compared += 1
    assert compared == 3


def test_an_export_with_shifted_and_short_lines() -> None:
    status, lines = parsed(FIXTURES / "trades-2025.csv")
    assert status == 2
    spot, ledgers, trades = of_type("execution", lines)
    assert spot["flags"] == []
    # «ledgers» holds an unquoted comma: nothing behind it may be taken for a position.
    assert (ledgers["externalExecutionId"], ledgers["flags"]) == ("TLEDGR-SHIFT-AAAAAA", [])
    assert json.loads(ledgers["rawPayload"])["ledgers"] == "LQQQQQ-AAAAA-AAAAA2,LQQQQQ-AAAAA-AAAAA3"
    assert json.loads(ledgers["rawPayload"])["costusd"] == "1500"
    # «trades» does.
    assert (trades["openClose"], trades["occurredAt"]) == ("open", 1764374400000)
    assert json.loads(trades["rawPayload"])["trades"] == "TCLOSE-AAAAA-AAAAA6,TCLOSE-AAAAA-AAAAA7"
    broken, short = of_type("reject", lines)
    assert broken["reason"] == "line 5: the line has 26 cells for 25 columns"
    assert short["reason"] == "line 6: the line has 9 cells for 25 columns"
    assert "2,900.50" in json.loads(broken["rawPayload"])["line"]
    assert any("date without a time" in warning for warning in lines[-1]["warnings"])
    assert lines[-1]["rows"] == 5


def test_B6_an_export_without_ids_and_prices() -> None:
    status, lines = parsed(FIXTURES / "trades-reduced.csv")
    assert status == 0
    one, two, three = of_type("execution", lines)
    assert [line["price"] for line in (one, two, three)] == ["25", "25", "3.333333333333333333"]
    assert {line["assetClass"] for line in (one, two, three)} == {"stock"}
    assert "externalExecutionId" not in one
    assert one["ingestionHash"] != two["ingestionHash"]
    assert len(lines[-1]["warnings"]) == 2


def test_exports_come_with_tabs_and_a_byte_order_mark_too(write: Any) -> None:
    table = (FIXTURES / "trades-reduced.csv").read_text().replace(",", "\t")
    status, lines = parsed(write(b"\xef\xbb\xbf" + table.replace("\n", "\r\n").encode()))
    assert (status, lines[-1]["executions"]) == (0, 3)


def test_B12_a_blank_id_in_a_file_with_ids_is_a_fault_of_that_row(write: Any) -> None:
    text = "txid,pair,time,type,vol,fee,price\n,XBTUSD,2024-01-01 00:00:00,buy,1,0,1\nT1,XBTUSD,2024-01-01,buy,1,0,1\n"
    status, lines = parsed(write(text))
    assert status == 2
    assert [line["reason"] for line in of_type("reject", lines)] == ["txid is empty"]


@pytest.mark.parametrize("cell", ["1,234.5", "NaN", "=1+1", "1e999999", "-1"])
def test_B15_bad_numbers_in_an_export_are_rejects(write: Any, cell: str) -> None:
    text = f'txid,pair,time,type,vol,fee,price\nT1,XBTUSD,2024-01-01,buy,"{cell}",0,1\n'
    status, lines = parsed(write(text))
    assert (status, lines[-1]["rejects"]) == (2, 1)
