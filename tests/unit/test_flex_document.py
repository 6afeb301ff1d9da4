"""The reader of Flex documents: what it yields, what it refuses, and that hostile files cost nothing."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.errors import IncompleteReport
from worker.normalize.flex_document import (
    DocumentEnds,
    FlexEvent,
    FlexRefusal,
    FlexRow,
    Limits,
    StatementBegins,
    StatementEnds,
    read_flex,
    read_refusal,
)

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "ibkr" / "flex"


def read(document: str | bytes, limits: Limits = Limits()) -> list[FlexEvent]:  # noqa: B008 - a frozen value
    return list(read_flex(io.BytesIO(document.encode() if isinstance(document, str) else document), limits))


def whole(statements: str, count: str = 'count="1"') -> str:
    head = '<FlexQueryResponse queryName="Q" type="AF"><FlexStatements '
    return f"{head}{count}>{statements}</FlexStatements></FlexQueryResponse>"


def statement(inside: str) -> str:
    return f'<FlexStatement accountId="U1" fromDate="20260302" toDate="2026-03-31">{inside}</FlexStatement>'


def test_a_document_s_events() -> None:
    events = read(
        whole(
            statement('<AccountInformation x="1"/><Trades><Trade a="1"/><Order b="2"/></Trades><Other><Trade/></Other>')
        )
    )
    begins, first, second, ends, end = events
    assert begins == StatementBegins("Q", "AF", "U1", "20260302", "2026-03-31", "", "")
    assert isinstance(begins, StatementBegins)
    assert (str(begins.from_day), str(begins.to_day)) == ("2026-03-02", "2026-03-31")
    assert first == FlexRow("Trades", "Trade", {"a": "1"}, "U1")
    assert second == FlexRow("Trades", "Order", {"b": "2"}, "U1")
    assert ends == StatementEnds("U1", frozenset({"Trades"}))
    assert end == DocumentEnds(1)


def test_B23_a_section_that_is_absent_is_told_from_an_empty_one() -> None:
    assert read(whole(statement("")))[1:] == [StatementEnds("U1", frozenset()), DocumentEnds(1)]
    assert read(whole(statement("<Trades></Trades>")))[1] == StatementEnds("U1", frozenset({"Trades"}))
    assert read(whole(statement("<TradeConfirms/>")))[1] == StatementEnds("U1", frozenset({"TradeConfirms"}))
    two = read(whole(statement("<Trades/>") + statement(""), 'count="2"'))
    assert [event.sections for event in two if isinstance(event, StatementEnds)] == [{"Trades"}, set()]


def test_B13_a_row_within_a_new_element_is_not_lost() -> None:
    events = read(whole(statement('<Trades><Group><Trade a="1"/></Group></Trades>')))
    assert [event.element for event in events if isinstance(event, FlexRow)] == ["Group", "Trade"]


def test_rows_are_told_in_pieces_of_any_size() -> None:
    class Dripping(io.RawIOBase):
        def __init__(self, data: bytes, piece: int) -> None:
            self.data, self.piece = io.BytesIO(data), piece

        def read(self, size: int = -1) -> bytes:
            return self.data.read(self.piece)

    data = (FIXTURES / "activity.xml").read_bytes()
    expected = read(data)
    for piece in (1, 7, 1000):
        assert list(read_flex(Dripping(data, piece))) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_encodings(encoding: str) -> None:
    declared = "" if encoding.startswith("utf-8") else f'<?xml version="1.0" encoding="{encoding}"?>'
    document = declared + whole(statement('<Trades><Trade symbol="BÄR"/></Trades>'))
    (row,) = (event for event in read(document.encode(encoding)) if isinstance(event, FlexRow))
    assert row.attributes == {"symbol": "BÄR"}


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("", "flex_empty"),
        ("<html><body>Access Denied</body></html>", "flex_web_page"),
        ("<!DOCTYPE html><p>Login", "flex_web_page"),
        ("\n <HTML>", "flex_web_page"),
        ("PK\x03\x04", "flex_not_xml"),
        ("symbol,quantity\n", "flex_not_xml"),
        ("{}", "flex_not_xml"),
        ('<?xml version="1.0" encoding="nonsense"?><FlexQueryResponse/>', "flex_not_xml"),
        ("<Envelope/>", "flex_not_a_statement"),
        ("<FlexStatement/>", "flex_not_a_statement"),
        ("<FlexQueryResponse/>", "flex_no_statement"),
        (whole("", ""), "flex_no_statement"),
        (whole("", 'count="0"'), "flex_no_statement"),
        (f"<FlexQueryResponse>{statement('<Trades/>')}</FlexQueryResponse>", "flex_no_statement"),
        (whole(statement("<Trades/>"), 'count="2"'), "flex_count_disagrees"),
        (whole(statement("<Trades/>") * 2), "flex_count_disagrees"),
        (whole(statement("<Trades/>"), 'count="one"'), "flex_count_disagrees"),
        (whole(statement("<Trades/>"))[:-1], "flex_truncated"),
        (whole(statement('<Trades><Trade a="1"/></Trades>'))[:130], "flex_truncated"),
        (whole(statement("<Trades></Order>")), "flex_malformed"),
        (whole(statement('<Trades><Trade a="1" a="2"/></Trades>')), "flex_malformed"),
        (whole(statement('<Trades><Trade a="&nbsp;"/></Trades>')), "flex_malformed"),
        (whole(statement("<Trades/>")) + "<more/>", "flex_malformed"),
        ("<FlexStatementResponse><Status>Fail</Status>", "flex_truncated"),
    ],
)
def test_what_is_no_whole_statement_is_never_no_trades(document: str, code: str) -> None:
    with pytest.raises(IncompleteReport) as caught:
        read(document)
    assert caught.value.code == code
    assert caught.value.action
    assert caught.value.sentence.endswith(caught.value.action)
    assert "\n" not in caught.value.sentence


def test_B11_every_cut_of_a_statement_is_noticed() -> None:
    data = (FIXTURES / "confirm.xml").read_bytes().rstrip()
    for length in range(len(data)):
        with pytest.raises(IncompleteReport):
            read(data[:length])
    assert isinstance(read(data)[-1], DocumentEnds)


def test_a_count_that_is_not_stated_is_not_asked_for() -> None:
    assert read(whole(statement("<Trades/>"), ""))[-1] == DocumentEnds(1)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            "<FlexStatementResponse timestamp='x'><Status>Fail</Status><ErrorCode> 1012 </ErrorCode>"
            "<ErrorMessage>Token has\nexpired.</ErrorMessage></FlexStatementResponse>",
            FlexRefusal(1012, "Token has\nexpired.", "Fail"),
        ),
        (
            "<FlexStatementResponse>\n<Status>Success</Status>\n<ReferenceCode>98765</ReferenceCode>\n"
            "<url>https://gdcdyn.interactivebrokers.com/x?a=1&amp;b=2</url>\n</FlexStatementResponse>",
            FlexRefusal(None, "", "Success", "98765", "https://gdcdyn.interactivebrokers.com/x?a=1&b=2"),
        ),
        ("<FlexStatementResponse/>", FlexRefusal(None, "")),
        (
            "<FlexStatementResponse><ErrorCode>many</ErrorCode><New><ErrorCode>1</ErrorCode></New></FlexStatementResponse>",
            FlexRefusal(None, ""),
        ),
        (
            "<FlexStatementResponse><FlexStatements count='1'><FlexStatement/></FlexStatements>"
            "</FlexStatementResponse>",
            FlexRefusal(None, ""),
        ),
    ],
)
def test_F2_an_answer_of_the_service_is_a_value(document: str, expected: FlexRefusal) -> None:
    assert read(document) == [expected]
    assert read_refusal(io.BytesIO(document.encode())) == expected


def test_a_statement_is_no_refusal() -> None:
    with (FIXTURES / "activity.xml").open("rb") as stream:
        assert read_refusal(stream) is None


@pytest.mark.parametrize(
    ("inside", "limits"),
    [
        pytest.param("<a>" * 30 + "</a>" * 30, Limits(), id="depth"),
        pytest.param(
            "<Trades><Trade " + " ".join(f'a{n}="1"' for n in range(1001)) + "/></Trades>", Limits(), id="names"
        ),
        pytest.param("".join(f"<a{n}/>" for n in range(400)), Limits(name_letters=1000), id="name letters"),
        pytest.param("<Trades/>" * 20_000, Limits(document_bytes=100_000), id="document"),
        pytest.param(f"<!-- {'x' * 400_000} -->", Limits(), id="comment"),
        pytest.param(f"<Note>{'x' * 400_000}</Note>", Limits(), id="text"),
        pytest.param(f"<Note><![CDATA[{'x' * 400_000}]]></Note>", Limits(), id="cdata"),
        pytest.param(f"<?x {'x' * 400_000}?>", Limits(), id="instruction"),
        pytest.param(f"<Note>{' ' * 400_000}</Note>", Limits(), id="blanks"),
        pytest.param(f'<Trades><Trade a="{"x" * 400_000}"/></Trades>', Limits(), id="attribute"),
    ],
)
def test_F8_every_limit_holds(inside: str, limits: Limits) -> None:
    document = whole(statement(inside))
    with pytest.raises(IncompleteReport) as caught:
        read(document, limits)
    assert caught.value.code in ("flex_hostile", "flex_too_large")


def test_F8_as_deep_as_allowed() -> None:
    assert read(whole(statement("<a>" * 29 + "</a>" * 29)))[-1] == DocumentEnds(1)


def test_F8_as_many_statements_as_allowed() -> None:
    document = whole(statement("<Trades/>") * 3, 'count="3"')
    assert read(document, Limits(statements=3))[-1] == DocumentEnds(3)
    with pytest.raises(IncompleteReport):
        read(document, Limits(statements=2))


@pytest.mark.parametrize(
    "declaration",
    [
        "<!DOCTYPE FlexQueryResponse>",
        '<!DOCTYPE FlexQueryResponse SYSTEM "file:///etc/hostname">',
        '<!DOCTYPE FlexQueryResponse PUBLIC "x" "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE FlexQueryResponse [<!ENTITY a "b">]>',
        '<!DOCTYPE FlexQueryResponse [<!ENTITY % a SYSTEM "file:///etc/hostname"> %a;]>',
    ],
)
def test_F8_any_declaration_is_refused(declaration: str) -> None:
    with pytest.raises(IncompleteReport) as caught:
        read(f'<?xml version="1.0"?>{declaration}{whole(statement("<Trades/>"))}')
    assert caught.value.code == "flex_hostile"


HOSTILE_CHILD = """
import io, json, resource, sys, time
from worker.errors import IncompleteReport
from worker.normalize.flex_document import read_flex

HEAD = b'<FlexQueryResponse><FlexStatements count="1"><FlexStatement accountId="U1"><Trades>'

def laughs(_):
    names = [chr(ord("a") + n) for n in range(10)]
    yield b"<!DOCTYPE x [" + f'<!ENTITY {names[0]} "{"lol" * 10}">'.encode()
    for one, other in zip(names, names[1:]):
        yield f'<!ENTITY {other} "{f"&{one};" * 10}">'.encode()
    yield b"]>" + HEAD + b'<Trade a="&j;"/>'

def quadratic(_):
    yield b'<!DOCTYPE x [<!ENTITY a "' + b"x" * 60_000 + b'">]>' + HEAD + b'<Trade a="' + b"&a;" * 60_000 + b'"/>'

def external(_):
    yield b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + HEAD + b"<Trade>&a;</Trade>"

def outside(_):
    yield b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + HEAD

def nesting(_):
    yield HEAD
    for _ in range(200_000):
        yield b"<a>"

def attribute(_):
    yield HEAD + b'<Trade a="'
    for _ in range(1024):
        yield b"x" * 2**20

def attributes(_):
    yield HEAD + b"<Trade "
    for number in range(10_000_000):
        yield b'a%d="1" ' % number

def names(_):
    yield HEAD
    for number in range(10_000_000):
        yield b"<a%d/>" % number

def text(_):
    yield HEAD + b"<Trade>"
    for _ in range(1024):
        yield b"x" * 2**20

class Stream:
    def __init__(self, pieces):
        self.pieces, self.rest = pieces, b""
    def read(self, size):
        while len(self.rest) < size and (piece := next(self.pieces, None)) is not None:
            self.rest += piece
        given, self.rest = self.rest[:size], self.rest[size:]
        return given

touched = []
watching = False
def audit(event, arguments):
    if watching and event.split(".")[0] in ("open", "socket", "urllib", "subprocess", "os"):
        touched.append(event)
sys.addaudithook(audit)
stream = Stream(globals()[sys.argv[1]](None))
watching, code = True, None
began = time.process_time()
try:
    for _ in read_flex(stream):
        pass
except IncompleteReport as refused:
    code = refused.code
took, watching = time.process_time() - began, False
try:
    # Of this program alone: what getrusage says begins with the size of the process that started it.
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
except FileNotFoundError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"code": code, "seconds": took, "peak": peak, "touched": touched}))
"""


@pytest.mark.parametrize(
    "attack",
    ["laughs", "quadratic", "external", "outside", "nesting", "attribute", "attributes", "names", "text"],
)
def test_F8_hostile_files_are_refused_quickly_and_cheaply(attack: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE_CHILD, attack], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    seen = json.loads(done.stdout)
    assert seen["code"] == "flex_hostile"
    assert seen["touched"] == []
    assert seen["seconds"] <= 1
    assert seen["peak"] <= 64


def many(count: int) -> Iterator[bytes]:
    yield b'<FlexQueryResponse type="AF"><FlexStatements count="1"><FlexStatement accountId="U1"><Trades>'
    for number in range(count):
        yield b'<Trade tradeID="%d" symbol="AAPL"/>\n' % number
    yield b"</Trades></FlexStatement></FlexStatements></FlexQueryResponse>"


def test_many_rows_come_in_their_order() -> None:
    rows = [event for event in read(b"".join(many(20_000))) if isinstance(event, FlexRow)]
    assert [row.attributes["tradeID"] for row in rows] == [str(number) for number in range(20_000)]
