"""What all kinds of files have in common: read as text, often as JSON, and their meaning printed as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TextIO

from worker.errors import UnusableFile
from worker.models import Normalized, Reject

COMPLETE: Final = 0
WITH_REJECTS: Final = 2


def read_text(path: Path) -> str:
    """The file's text; UnusableFile if it has none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnusableFile(f"{path} cannot be read: {error.strerror}") from None
    if data[:2] == b"PK":
        raise UnusableFile(f"{path} is a ZIP archive; unpack it and name the file inside")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableFile(f"{path} is not UTF-8 text") from None
    if not text.strip():
        raise UnusableFile(f"{path} is empty")
    return text


def read_json(text: str, what: str) -> Any:
    """The document, its decimals exact; UnusableFile if it is none. `what` names it."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=Decimal)
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f"{what} is not JSON: {error}") from None


def read_documents(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """The whole file as one document, else one document a line, each with words for where it stands."""
    try:
        whole = read_json(text, str(path))
    except UnusableFile:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2:
            raise
        for number, line in lines:
            where = f"{path}, line {number},"
            yield where, read_json(line, where)
    else:
        yield str(path), whole


def write_lines(meaning: Normalized, rejects: Sequence[Reject], report: Mapping[str, Any], out: TextIO) -> int:
    """Print executions, rejects and the report, each a line; returns the exit status."""
    lines = (
        *({"type": "execution", **execution.to_wire()} for execution in meaning.executions),
        *({"type": "reject", **reject.to_wire()} for reject in rejects),
        {"type": "report", **report},
    )
    for line in lines:
        out.write(json.dumps(line) + "\n")
    return WITH_REJECTS if rejects else COMPLETE
