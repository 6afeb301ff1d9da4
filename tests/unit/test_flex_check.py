"""What `check-flex` finds missing in a Flex query."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from worker.normalize.flex_check import _BOXES, QueryCheck, check_query
from worker.normalize.flex_document import FlexRefusal, StatementEvent, read_flex

FIXTURES = Path(__file__).parent.parent / "fixtures" / "ibkr" / "flex"
ACTIVITY = (FIXTURES / "activity.xml").read_text()
CONFIRM = (FIXTURES / "confirm.xml").read_text()


def check(document: str) -> QueryCheck:
    events: list[StatementEvent] = []
    for event in read_flex(io.BytesIO(document.encode())):
        assert not isinstance(event, FlexRefusal)
        events.append(event)
    return check_query(events)


def without(document: str, *attributes: str) -> str:
    """The document of a query in which these boxes are not ticked."""
    lines = document.splitlines()
    for name in attributes:
        for number, line in enumerate(lines):
            if line.lstrip().startswith(("<Trade ", "<TradeConfirm ")):
                lines[number], times = re.subn(rf" {name}=(['\"]).*?\1", "", line)
                assert times == 1
    return "\n".join(lines)


@pytest.mark.parametrize("document", [ACTIVITY, CONFIRM], ids=["activity", "confirm"])
def test_nothing_is_missing(document: str) -> None:
    assert check(document).missing == ()


def test_what_the_statement_is_of() -> None:
    found = check(ACTIVITY)
    assert found.accounts == ("U7000001", "U7000002")
    assert (str(found.from_day), str(found.to_day), found.executions) == ("2026-03-02", "2026-03-31", 7)


@pytest.mark.parametrize("name", [box.activity for box in _BOXES])
def test_every_box_of_an_activity_query(name: str) -> None:
    (missing,) = check(without(ACTIVITY, name)).missing
    assert missing.what.startswith("Trades: box «")
    assert missing.what.endswith(f"» ({name})")
    assert missing.cost


@pytest.mark.parametrize("name", [box.confirm for box in _BOXES if box.confirm])
def test_every_box_of_a_trade_confirmation_query(name: str) -> None:
    (missing,) = check(without(CONFIRM, name)).missing
    assert missing.what.endswith(f"» ({name})")


def test_all_boxes_are_named_in_one_go_worst_first() -> None:
    missing = check(without(ACTIVITY, "notes", "ibExecID", "quantity", "conid")).missing
    assert [re.findall(r"\((\w+)\)", one.what) for one in missing] == [["quantity"], ["ibExecID"], ["notes"], ["conid"]]
    assert "second time" in missing[1].sentence


def test_a_box_that_is_blank_is_ticked() -> None:
    assert check(re.sub(r'conid="\d+"', 'conid=""', ACTIVITY)).missing == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (r'dateTime="\d{8};', 'dateTime="03/05/2026;', "Date Format (dateTime is '03/05/2026;"),
        (r'dateTime="\d{8};', 'dateTime="05-MAR-26;', "yyyyMMdd"),
        (r'dateTime="(\d{8});\d+"', r'dateTime="\1;9:35 AM"', "Time Format"),
        (r'dateTime="(\d{8});\d+"', r'dateTime="\1"', "Time of day"),
        (r'fromDate="\d+"', 'fromDate="03/02/2026"', "Date Format (fromDate is '03/02/2026')"),
        (r'toDate="\d+"', "", "no toDate"),
        (r'<FlexStatement accountId="\w+"', "<FlexStatement", "names no account"),
    ],
)
def test_formats_and_statements(old: str, new: str, words: str) -> None:
    document, times = re.subn(old, new, ACTIVITY)
    assert times
    (missing,) = check(document).missing
    assert words in missing.sentence


def test_B23_a_section_that_the_query_does_not_ask_for() -> None:
    document = re.sub(r"<Trades>.*?</Trades>", "", ACTIVITY, flags=re.DOTALL)
    (missing,) = check(document).missing
    assert missing.what.startswith("Section with trades")


def test_B25_a_query_that_asks_for_sums_only() -> None:
    document = re.sub(r"<Trade .*?/>\n", "", ACTIVITY)
    (missing,) = check(document).missing
    assert missing.what == "Executions in the options of Trades"


def test_a_statement_without_trades_proves_no_box() -> None:
    document = re.sub(r"<Trades>.*?</Trades>", "<Trades/>", ACTIVITY, flags=re.DOTALL)
    (missing,) = check(document).missing
    assert "cannot be checked" in missing.cost
