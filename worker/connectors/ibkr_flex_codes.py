"""What the Flex Web Service's error codes mean: reference ibkr 4.2 as data, and the envelope they come in.

Answers arrive with HTTP 200 whatever they say, so the XML is judged, never the status (4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal
from xml.parsers import expat

from worker import log

Then = Literal[
    "ask_again",  # the same call after a pause
    "begin_again",  # ask for a new statement after a pause
    "earlier_end",  # the last day may not be final: ask for a statement that ends sooner
    "silence",  # nobody uses the token for a minute
    "stop",  # asking again changes nothing
]
Ends = Literal[
    "wait",  # a date, not a fault: a later sync finds the statement
    "person",  # somebody must act
    "refused",  # our request or the query is wrong, which may mend itself
    "broken",  # the service is in trouble
]

HEAD_BYTES: Final = 64 * 1024
"""Enough to tell a statement from anything else; an envelope is a few hundred bytes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from a code.

    `then` happens up to `times` times within a fetch (None: while there is time), each time after about `pause`
    seconds; after that the fetch ends with a failure of the kind `ends`, whose words are `sentence`.
    """

    then: Then
    ends: Ends
    sentence: str
    pause: float = 0.0
    times: int | None = None


_NOT_YET = "Interactive Brokers has not finished the data of this statement yet; the import fetches it later by itself."
_BUSY = "Interactive Brokers' report service is busy; the import tries again later by itself."
_TOKEN = "In Client Portal, under Performance & Reports, Flex Queries, Flex Web Service, "  # noqa: S105 - a place
_QUERY = "In Client Portal, under Performance & Reports, Flex Queries, "

RULES: Final[Mapping[int, Rule]] = MappingProxyType(
    {
        1001: Rule(
            "begin_again",
            "wait",
            "Interactive Brokers could not make this statement, so the import tries again later. If this stays, run "
            "the query in Client Portal under Performance & Reports, Flex Queries: it may be broken there, hold no "
            "day of the requested range, or IBKR_FLEX_URL may be an address that no longer serves.",
            pause=30,
        ),
        1003: Rule("earlier_end", "wait", _NOT_YET),
        **dict.fromkeys(range(1004, 1009), Rule("begin_again", "wait", _NOT_YET, pause=30)),
        1009: Rule("ask_again", "wait", _BUSY, pause=60),
        1010: Rule("stop", "person", f"This Flex query is of an old type. {_QUERY}make a new one and enter its id."),
        1011: Rule(
            "stop",
            "person",
            f"The Flex Web Service is switched off for this username. {_TOKEN}switch it on, and enter the token again.",
        ),
        1012: Rule("stop", "person", f"The Flex token has expired. {_TOKEN}make a new one and enter it."),
        1013: Rule(
            "stop",
            "person",
            f"The Flex token may not be used from this machine's address. {_TOKEN}allow the worker's address or make "
            "a token without such a limit, and enter it again.",
        ),
        1014: Rule(
            "stop",
            "person",
            f"Interactive Brokers knows no such Flex query for this token's username. {_QUERY}look up its id and "
            "enter it.",
        ),
        1015: Rule(
            "stop",
            "person",
            f"Interactive Brokers does not know this Flex token; a newer one may have replaced it. {_TOKEN}make a new "
            "one and enter it.",
        ),
        1016: Rule(
            "stop",
            "person",
            f"The Flex query names an account that this username cannot see. {_QUERY}correct its accounts, and save "
            "the connection again.",
        ),
        1017: Rule("begin_again", "broken", "Interactive Brokers no longer knows the statement it announced.", times=1),
        1018: Rule(
            "silence",
            "wait",
            "Too many requests were made with this Flex token. The import goes on by itself; check that no other "
            "program uses the same token.",
            pause=60,
            times=2,
        ),
        1019: Rule(
            "ask_again",
            "wait",
            "Interactive Brokers is still making this statement, which can last a weekend; the import fetches it "
            "later by itself.",
            pause=10,
        ),
        1020: Rule(
            "begin_again",
            "refused",
            "Interactive Brokers cannot validate this Flex request. Token and query must be of the same username, and "
            "a query that was just changed may need an hour; run it in Client Portal to see whether it works. The "
            "import tries again at the next sync.",
            pause=60,
            times=2,
        ),
        1021: Rule("ask_again", "wait", _BUSY, pause=30),
        1025: Rule(
            "stop",
            "person",
            "Interactive Brokers has locked this Flex token after too many failed attempts. Wait an hour, then "
            "enter the token again, or a new one.",
        ),
    }
)
"""Every code that is known. Any other is refused: what is not understood is never «no trades»."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A `FlexStatementResponse`: a reference and where to fetch it, or a code. Texts hold no secret."""

    status: str = ""
    reference: str | None = None
    url: str | None = None
    code: str | None = None
    message: str = ""


def read_head(head: bytes) -> Envelope | Literal["statement"] | None:
    """What begins with `head`: a statement, an envelope, or None for anything else, HTML and DTDs included.

    A document that is cut inside its envelope is something else too. No entity is expanded and nothing is fetched.
    """
    reader = _Reader()
    try:
        return reader.read(head[:HEAD_BYTES])
    except expat.ExpatError:
        return None


class _Statement(Exception):
    """The root element says that this is a statement; what follows is for others to read."""


class _Reader:
    """One pass over the first bytes. Quotes, attributes and the spelling of names vary (4.1)."""

    def __init__(self) -> None:
        self._depth = 0
        self._field = ""
        self._fields: dict[str, list[str]] = {}
        self._whole = False

    def read(self, head: bytes) -> Envelope | Literal["statement"] | None:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._refuse
        try:
            parser.Parse(head, True)
        except _Statement:
            return "statement"
        return self._envelope() if self._whole else None

    def _start(self, name: str, _: object) -> None:
        if self._depth == 0:
            if name == "FlexQueryResponse":
                raise _Statement
            if name != "FlexStatementResponse":
                raise expat.ExpatError("another root")
        self._depth += 1
        if self._depth == 2:
            self._field = name.lower()

    def _end(self, _: str) -> None:
        self._depth -= 1
        self._whole = self._depth == 0

    def _text(self, text: str) -> None:
        if self._depth == 2:
            self._fields.setdefault(self._field, []).append(text)

    def _refuse(self, *_: object) -> None:
        raise expat.ExpatError("a DTD")

    def _envelope(self) -> Envelope:
        found = {name: " ".join("".join(texts).split()) for name, texts in self._fields.items()}
        return Envelope(
            status=log.redact(found.get("status", ""))[:40],
            reference=found.get("referencecode") or None,
            url=found.get("url") or None,
            code=found.get("errorcode") or None,
            message=log.redact(found.get("errormessage", ""))[:200],
        )
