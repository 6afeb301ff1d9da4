"""Answers of Interactive Brokers' /iserver/account/trades."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from worker.errors import UnusableFile
from worker.normalize.fields import raw_payload, shown
from worker.normalize.ibkr_live import normalize_trades
from worker.parse.files import read_documents, read_text, write_lines

_MARKS: Final = frozenset({"execution_id", "side", "size", "price", "trade_time", "trade_time_r"})
"""Fields of a trade that no other list of the API has; two of them tell one, whatever else is missing."""

_NO_PROOF: Final = "The file holds no rows. An empty answer does not prove that there were no trades."


def parse_ibkr_live(path: Path, account: str, other_accounts: Collection[str], out: TextIO) -> int:
    """Print the executions and rejects of an answer, or of one answer a line, and a final report.

    Returns 0 without rejects, 2 with some. Raises UnusableFile for anything else, such as an error or a status
    answer: that is not «zero rows».
    """
    text = read_text(path)
    _refuse_markup(text, path)
    answers = [_rows(document, where) for where, document in read_documents(text, path)]
    rows = _distinct(answers)
    meaning = normalize_trades(rows, account, aliases={}, other_accounts=other_accounts)
    warnings = [] if rows else [_NO_PROOF]
    if repeated := sum(map(len, answers)) - len(rows):
        warnings.append(f"{repeated} rows came more than once in the file; each was read once.")
    report = {
        "rows": len(rows),
        "executions": len(meaning.executions),
        "kinds": dict(sorted(Counter(execution.kind for execution in meaning.executions).items())),
        "rejects": len(meaning.rejects),
        "skipped": meaning.skipped,
        "notices": meaning.notices,
        "warnings": [*warnings, *meaning.warnings],
    }
    return write_lines(meaning, meaning.rejects, report, out)


def _refuse_markup(text: str, path: Path) -> None:
    start = text.lstrip()[:1000].lower()
    if not start.startswith("<"):
        return
    if "<html" in start or start.startswith("<!doctype html"):
        raise UnusableFile(f"{path} is a web page, not trades; a gateway in which nobody is logged in answers so")
    raise UnusableFile(f"{path} is XML, not an answer of the live API")


def _rows(document: Any, where: str) -> list[Any]:
    match document:
        case []:
            return []
        case list() if any(_looks_like_trade(row) for row in document):
            return document
        case list():
            raise UnusableFile(f"{where} is a list, but not of trades")
        case {"error": error, **_rest} if error:
            raise UnusableFile(f"{where} is an error answer, not trades: {shown(str(error))}")
        case {"authenticated": _, **_rest} | {"iserver": _, **_rest} | {"RESULT": _, **_rest}:
            raise UnusableFile(f"{where} is an answer about the session, not trades")
        case _:
            raise UnusableFile(f"{where} is not an answer of /iserver/account/trades, which is a list")


def _looks_like_trade(row: Any) -> bool:
    return isinstance(row, Mapping) and len(_MARKS & row.keys()) >= 2


def _distinct(answers: list[list[Any]]) -> list[Any]:
    """One row for each execution id, the last one said.

    Rows without an id are told apart by their content: as many alike are kept as the answer with most of them has.
    """
    rows: dict[tuple[str, ...], Any] = {}
    for answer in answers:
        alike: Counter[str] = Counter()
        for row in answer:
            execution_id = row.get("execution_id") if isinstance(row, Mapping) else None
            if isinstance(execution_id, str) and execution_id.strip():
                rows[str(row.get("accountCode")), execution_id] = row
            else:
                content = raw_payload({"row": row})
                rows[content, str(alike[content])] = row
                alike[content] += 1
    return list(rows.values())
