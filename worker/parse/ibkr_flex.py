"""Flex statements of Interactive Brokers."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO, assert_never

from worker.errors import IncompleteReport, UnusableFile
from worker.models import Execution, Reject
from worker.normalize.fields import shown
from worker.normalize.flex_check import check_query
from worker.normalize.flex_document import (
    DocumentEnds,
    FlexRefusal,
    FlexRow,
    StatementBegins,
    StatementEnds,
    StatementEvent,
    read_flex,
)
from worker.normalize.ibkr_flex import Drift, account_of, canonical_account, is_execution, kind_of_row, normalize_row
from worker.parse.files import COMPLETE, WITH_REJECTS

_IN_MEMORY: Final = 4 * 1024 * 1024
_MOST_NAMES: Final = 10_000
_OTHERS: Final = "others"
_TYPES: Final = frozenset({"AF", "TCF"})


def parse_ibkr_flex(path: Path, account: str | None, out: TextIO) -> int:
    """Print the executions and rejects of a statement, and a final report; of `account` only, where one is named.

    The statement is read in one pass and constant memory; nothing is printed before it has proved whole. Returns 0
    without rejects, 2 with some. Raises UnusableFile for what is no whole statement, or has none of `account`.
    """
    wanted = canonical_account(account or "") or None
    found = _Found()
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="ascii") as lines:
        for event in _statement_events(path):
            match event:
                case StatementBegins():
                    found.begin(event)
                case FlexRow():
                    meaning = _meaning(event, wanted, found)
                    if meaning is not None:
                        lines.write(_line(meaning))
                case StatementEnds():
                    found.end(event)
                case DocumentEnds():
                    pass
                case _:
                    assert_never(event)
        if wanted is not None and wanted not in found.accounts:
            there = ", ".join(sorted(found.accounts)) or "none"
            raise UnusableFile(f"{path} holds no statement of account {shown(wanted)}; its accounts: {there}")
        lines.seek(0)
        shutil.copyfileobj(lines, out)
    out.write(json.dumps({"type": "report", **found.report()}) + "\n")
    return WITH_REJECTS if found.rejects else COMPLETE


def check_flex_file(path: Path, out: TextIO) -> int:
    """Print what the Flex query of a statement leaves out, and what each thing costs.

    Returns 0 when nothing is missing, else 2. Raises UnusableFile for what is no whole statement.
    """
    check = check_query(_statement_events(path))
    period = f"{check.from_day or 'an unknown day'} to {check.to_day or 'an unknown day'}"
    out.write(f"Accounts: {', '.join(check.accounts) or 'none'}. Period: {period}. Trades: {check.executions}.\n")
    if not check.missing:
        out.write("Nothing is missing in this Flex query.\n")
        return COMPLETE
    out.write(f"Missing in this Flex query ({len(check.missing)}):\n")
    out.writelines(f"- {missing.sentence}\n" for missing in check.missing)
    return WITH_REJECTS


def _statement_events(path: Path) -> Iterator[StatementEvent]:
    try:
        with path.open("rb") as stream:
            for event in read_flex(stream):
                if isinstance(event, FlexRefusal):
                    raise UnusableFile(f"{path} {_words(event)}")
                yield event
    except OSError as error:
        raise UnusableFile(f"{path} cannot be read: {error.strerror}") from None
    except IncompleteReport as incomplete:
        raise UnusableFile(f"{path}: {incomplete.sentence}") from None


def _words(refusal: FlexRefusal) -> str:
    if refusal.code is None and refusal.reference_code is not None:
        return "is the Flex service's receipt for a request, not the statement; that is to be fetched with its code"
    said = f"{refusal.code or 'no code'}, {shown(refusal.message)}"
    return f"is an error answer of the Flex service, not a statement: {said}"


@dataclass(slots=True)
class _Found:
    """What a document has shown so far; its size does not follow the document's."""

    drift: Drift = field(default_factory=Drift)
    query: str = ""
    kind: str = ""
    accounts: set[str] = field(default_factory=set)
    days: tuple[dt.date, dt.date] | None = None
    statements: int = 0
    sections: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    executions: int = 0
    rejects: int = 0
    skipped: int = 0

    def begin(self, statement: StatementBegins) -> None:
        self.statements += 1
        self.query, self.kind = statement.query_name, statement.type
        if self.kind not in _TYPES:
            self.drift.note(f"The statement is of a type unknown to this version: {shown(self.kind)}")
        self.add_account(canonical_account(statement.account))
        for name, text, day in (
            ("fromDate", statement.from_date, statement.from_day),
            ("toDate", statement.to_date, statement.to_day),
        ):
            if day is None:
                self.drift.note(f"A statement's {name} cannot be read: {shown(text)}")
            else:
                first, last = self.days or (day, day)
                self.days = min(first, day), max(last, day)

    def end(self, statement: StatementEnds) -> None:
        self.sections.update(statement.sections)
        if not statement.sections:
            self.drift.note(
                f"The statement of {shown(statement.account)} has no section with trades: its Flex query asks for "
                "none. That does not mean that there were none."
            )

    def add_account(self, account: str) -> None:
        if account and len(self.accounts) < _MOST_NAMES:
            self.accounts.add(account)

    def ignore(self, kind: str) -> None:
        self.ignored[kind if kind in self.ignored or len(self.ignored) < _MOST_NAMES else _OTHERS] += 1

    def report(self) -> dict[str, Any]:
        first, last = self.days or (None, None)
        return {
            "queryName": self.query,
            "statementType": self.kind,
            "accounts": sorted(self.accounts),
            "from": first and first.isoformat(),
            "to": last and last.isoformat(),
            "statements": self.statements,
            "sections": dict(sorted(self.sections.items())),
            "rows": self.executions + self.rejects,
            "executions": self.executions,
            "kinds": dict(sorted(self.kinds.items())),
            "rejects": self.rejects,
            "skipped": self.skipped,
            "ignored": dict(sorted(self.ignored.items())),
            "notices": [],
            "warnings": self.drift.warnings,
        }


def _meaning(row: FlexRow, wanted: str | None, found: _Found) -> Execution | Reject | None:
    """What a row says; None for one that is no execution, or of another account, each counted."""
    if not is_execution(row, found.drift):
        found.ignore(kind_of_row(row))
        return None
    account = account_of(row)
    if account is not None:
        found.add_account(account)
        if wanted is not None and account != wanted:
            found.skipped += 1
            return None
    meaning = normalize_row(row, found.drift)
    if isinstance(meaning, Execution):
        found.executions += 1
        found.kinds[meaning.kind] += 1
    else:
        found.rejects += 1
    return meaning


def _line(meaning: Execution | Reject) -> str:
    kind = "execution" if isinstance(meaning, Execution) else "reject"
    text = meaning.model_dump_json(by_alias=True, exclude_none=True)
    if not text.isascii():
        text = json.dumps(meaning.to_wire())
    return f'{{"type":"{kind}",{text[1:]}\n'
