"""Pure: a Flex document read in one pass and constant memory (reference ibkr 4.2, 4.3).

What comes from the network or from a person's disk is XML by strangers. Documents that declare a type or entities,
that nest deeply or hold anything huge are refused where that shows, and nothing outside them is ever read.
Only a whole document with a statement proves anything: every other one is an IncompleteReport, and what was read of
it must not be stored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Literal, NamedTuple, NoReturn, get_args
from xml.parsers import expat

from worker.errors import IncompleteReport
from worker.models import Source
from worker.normalize.fields import shown
from worker.normalize.flex_time import parse_day

Section = Literal["Trades", "TradeConfirms"]
SECTIONS: Final[tuple[Section, ...]] = get_args(Section)
SOURCES: Final[Mapping[Section, Source]] = {"Trades": "ibkr_flex_activity", "TradeConfirms": "ibkr_flex_confirm"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a document and its parts may be. Real rows have a hundred attributes and three kilobytes."""

    document_bytes: int = 1 << 30
    element_bytes: int = 256 * 1024
    """Without the beginning or end of an element: one start tag, comment or text."""
    depth: int = 32
    attributes: int = 1000
    name_letters: int = 128 * 1024
    """In the different names of all elements and attributes together."""
    statements: int = 100_000


@dataclass(frozen=True, slots=True)
class FlexRefusal:
    """An answer of the service that is no statement: it has `status`, and a code or a reference to ask again with."""

    code: int | None
    message: str
    status: str = ""
    reference_code: str | None = None
    url: str | None = None


class StatementBegins(NamedTuple):
    """A FlexStatement; days and times as they were written, `""` where they were not."""

    query_name: str
    type: str
    account: str
    from_date: str
    to_date: str
    period: str
    when_generated: str

    @property
    def from_day(self) -> dt.date | None:
        """The first day; None where the date cannot be read."""
        return parse_day(self.from_date)

    @property
    def to_day(self) -> dt.date | None:
        """The last day; None where the date cannot be read."""
        return parse_day(self.to_date)


class FlexRow(NamedTuple):
    """An element of a section with trades. `account` is the statement's; the row's own attribute outranks it."""

    section: Section
    element: str
    attributes: Mapping[str, str]
    account: str


class StatementEnds(NamedTuple):
    """A statement was whole. Of the sections with trades it had these, rows in them or not.

    A section that is absent is one that the Flex query does not ask for.
    """

    account: str
    sections: frozenset[Section]


class DocumentEnds(NamedTuple):
    """The document was whole and had this many statements."""

    statements: int


StatementEvent = StatementBegins | FlexRow | StatementEnds | DocumentEnds
FlexEvent = StatementEvent | FlexRefusal
"""A document is a FlexRefusal alone, or its statements with their rows and then DocumentEnds."""

_CHUNK: Final = 64 * 1024
_ROOT, _STATEMENTS, _STATEMENT, _SECTION, _ROW = 1, 2, 3, 4, 5
"""Depths. A row within another element of its section is deeper, and a row all the same."""

_CUT_SHORT: Final = frozenset(
    (
        expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS],
        expat.errors.codes[expat.errors.XML_ERROR_UNCLOSED_TOKEN],
        expat.errors.codes[expat.errors.XML_ERROR_PARTIAL_CHAR],
        expat.errors.codes[expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION],
    )
)
_TRY_AGAIN: Final = "Download it again."
_FROM_THE_PORTAL: Final = "Download a Flex statement in the format XML."


def read_flex(stream: BinaryIO, limits: Limits = Limits()) -> Iterator[FlexEvent]:
    """The document's events in their order.

    Raises IncompleteReport for a document that is not a whole Flex document, as soon as that shows, and always
    instead of DocumentEnds.
    """
    reader = _Reader(limits)
    size = quiet = 0
    while chunk := stream.read(_CHUNK):
        if not size:
            _refuse_other_formats(chunk)
        size += len(chunk)
        if size > limits.document_bytes:
            _refuse(
                "flex_too_large", f"The file is larger than {limits.document_bytes >> 20} MiB", "Ask for fewer days."
            )
        before = reader.elements
        reader.feed(chunk)
        quiet = 0 if reader.elements != before else quiet + len(chunk)
        if quiet > limits.element_bytes:
            _refuse("flex_hostile", "A part of the file is far larger than anything in a Flex statement")
        yield from reader.take()
    if not size:
        _refuse("flex_empty", "The file is empty", _TRY_AGAIN)
    reader.finish()
    yield from reader.take()


def read_refusal(stream: BinaryIO) -> FlexRefusal | None:
    """The service's own answer, if that is what the document is. Raises IncompleteReport for what is no Flex document.

    Of a statement only the beginning is read.
    """
    first = next(read_flex(stream), None)
    return first if isinstance(first, FlexRefusal) else None


def _refuse(code: str, sentence: str, action: str = "") -> NoReturn:
    action = action or _FROM_THE_PORTAL
    raise IncompleteReport(f"{sentence}. {action}", code=code, action=action)


def _refuse_other_formats(start: bytes) -> None:
    text = start[:1000].lstrip().lower()
    if start[:2] == b"PK":
        _refuse("flex_not_xml", "The file is a ZIP archive", "Unpack it and use the file inside.")
    if b"<html" in text or text.startswith(b"<!doctype html"):
        _refuse("flex_web_page", "The file is a web page, not a Flex statement")


class _Reader:
    """Expat's callbacks, and where in the document they are."""

    def __init__(self, limits: Limits) -> None:
        self.elements = 0
        self._limits = limits
        self._events: list[FlexEvent] = []
        self._depth = 0
        self._names: dict[str, str] = {}
        self._names_before = 0
        self._query = ("", "")
        self._in_statements = False
        self._expected: str | None = None
        self._counted = self._statements = 0
        self._account: str | None = None
        self._sections: set[Section] = set()
        self._section: Section | None = None
        self._answer: dict[str, str] | None = None
        self._answering: str | None = None
        parser = expat.ParserCreate(None, None, self._names)
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse_declaration
        parser.EntityDeclHandler = self._refuse_declaration
        parser.UnparsedEntityDeclHandler = self._refuse_declaration
        parser.ExternalEntityRefHandler = self._refuse_declaration
        parser.SkippedEntityHandler = self._refuse_declaration
        self._parser = parser

    def feed(self, chunk: bytes) -> None:
        self._parse(chunk, False)
        if len(self._names) != self._names_before:
            self._names_before = len(self._names)
            if sum(map(len, self._names)) > self._limits.name_letters:
                _refuse("flex_hostile", "The file has more names than any Flex statement")

    def finish(self) -> None:
        self._parse(b"", True)
        if self._answer is not None:
            self._events.append(_refusal(self._answer))
            return
        if not self._statements:
            _refuse("flex_no_statement", "The file holds no statement at all", _TRY_AGAIN)
        self._events.append(DocumentEnds(self._statements))

    def take(self) -> list[FlexEvent]:
        """The events since the last time."""
        events, self._events = self._events, []
        return events

    def _parse(self, chunk: bytes, last: bool) -> None:
        try:
            self._parser.Parse(chunk, last)
        except expat.ExpatError as error:
            if last and error.code in _CUT_SHORT:
                _refuse("flex_truncated", "The file ends in the middle of the document", _TRY_AGAIN)
            where = f"line {error.lineno}: {expat.ErrorString(error.code)}"
            if self._depth == 0 and not self.elements:
                _refuse("flex_not_xml", f"The file is not a Flex statement ({where})")
            _refuse("flex_malformed", f"The file is not well-formed XML ({where})", _TRY_AGAIN)
        except (LookupError, ValueError):
            _refuse("flex_not_xml", "The file is in an unknown text encoding")

    def _refuse_declaration(self, *_declared: Any) -> NoReturn:
        _refuse("flex_hostile", "The file declares a document type or entities, which a Flex statement never does")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        depth = self._depth = self._depth + 1
        if depth > self._limits.depth:
            _refuse("flex_hostile", f"The file nests elements deeper than {self._limits.depth}")
        if len(attributes) > self._limits.attributes:
            _refuse("flex_hostile", f"An element has more than {self._limits.attributes} attributes")
        if depth >= _ROW:
            if self._section is not None:
                self._events.append(FlexRow(self._section, name, attributes, self._account or ""))
            return
        if depth == _ROOT:
            self._begin_document(name, attributes)
        elif depth == _SECTION and self._account is not None:
            self._begin_section(name)
        elif depth == _STATEMENT and self._in_statements and name == "FlexStatement":
            self._begin_statement(attributes)
        elif depth == _STATEMENTS and self._answer is not None:
            self._answering = name
        elif depth == _STATEMENTS and name == "FlexStatements":
            self._in_statements = True
            self._expected, self._counted = attributes.get("count"), self._statements

    def _end(self, _name: str) -> None:
        self.elements += 1
        depth = self._depth
        self._depth = depth - 1
        if depth >= _ROW:
            return
        if depth == _SECTION:
            self._section = None
        elif depth == _STATEMENT and self._account is not None:
            self._events.append(StatementEnds(self._account, frozenset(self._sections)))
            self._account = None
        elif depth == _STATEMENTS:
            self._answering = None
            if self._in_statements:
                self._in_statements = False
                self._check_count()

    def _text(self, text: str) -> None:
        if self._answer is not None and self._answering is not None and self._depth == _STATEMENTS:
            said = self._answer.get(self._answering, "") + text
            if len(said) > self._limits.element_bytes:
                _refuse("flex_hostile", "A part of the file is far larger than anything in a Flex statement")
            self._answer[self._answering] = said

    def _begin_document(self, name: str, attributes: dict[str, str]) -> None:
        if name == "FlexQueryResponse":
            self._query = (attributes.get("queryName", ""), attributes.get("type", ""))
        elif name == "FlexStatementResponse":
            self._answer = {}
            self._parser.CharacterDataHandler = self._text
        elif name.lower() == "html":
            _refuse("flex_web_page", "The file is a web page, not a Flex statement")
        else:
            _refuse("flex_not_a_statement", f"The file is XML, but not a Flex statement: {shown(name)}")

    def _begin_section(self, name: str) -> None:
        for section in SECTIONS:
            if name == section:
                self._section = section
                self._sections.add(section)

    def _begin_statement(self, attributes: dict[str, str]) -> None:
        self._statements += 1
        if self._statements > self._limits.statements:
            _refuse("flex_hostile", f"The file holds more than {self._limits.statements} statements")
        said = {name: value.strip() for name, value in attributes.items()}
        self._account = said.get("accountId", "")
        self._sections.clear()
        self._events.append(
            StatementBegins(
                *self._query,
                self._account,
                said.get("fromDate", ""),
                said.get("toDate", ""),
                said.get("period", ""),
                said.get("whenGenerated", ""),
            )
        )

    def _check_count(self) -> None:
        """A statement too few is one whose trades are missing."""
        counted = self._statements - self._counted
        if self._expected is not None and self._expected.strip() != str(counted):
            _refuse(
                "flex_count_disagrees",
                f"The file announces {shown(self._expected)} statements and holds {counted}",
                _TRY_AGAIN,
            )


def _refusal(answer: Mapping[str, str]) -> FlexRefusal:
    said = {name.lower(): text.strip() for name, text in answer.items()}
    code = said.get("errorcode", "")
    return FlexRefusal(
        code=int(code) if code.isascii() and code.isdigit() and len(code) < 10 else None,
        message=said.get("errormessage", ""),
        status=said.get("status", ""),
        reference_code=said.get("referencecode") or None,
        url=said.get("url") or None,
    )
