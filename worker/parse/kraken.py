"""Kraken's TradesHistory answers and trades exports."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from worker.connectors.kraken_errors import envelope
from worker.connectors.kraken_walk import count_of
from worker.errors import BadRecord, UnusableFile
from worker.models import Reject
from worker.normalize.fields import parse_decimal, parse_utc, raw_payload
from worker.normalize.kraken import normalize_trades
from worker.normalize.symbols import PairBook
from worker.parse.files import read_documents, read_json, read_text, write_lines

_NEEDED_COLUMNS = frozenset({"pair", "time", "type", "vol", "fee"})
_COLUMN_NAMES = {"posttxid": "postxid", "posstatuscode": "posstatus"}
"""Renamed by Kraken in 2025 (reference kraken 1.7)."""

_COST_TOLERANCE = Decimal("0.01")
"""Costs are rounded to a few digits, which shows in small ones."""

_Row = Mapping[str, Any]


def parse_kraken_trades(path: Path, account: str, asset_pairs_path: Path | None, out: TextIO) -> int:
    """Print the executions and rejects of a TradesHistory answer or a trades export, and a final report.

    Returns 0 without rejects, 2 with some. Raises UnusableFile for a file that is neither, or an error answer:
    that is not «zero rows».
    """
    pairs = _pair_book(asset_pairs_path)
    text = read_text(path)
    rows: list[_Row]
    rejects: list[Reject]
    if text.lstrip()[:1] in ("{", "["):
        rows, rejects, warnings, has_price = *_of_envelopes(text, path), True
    else:
        rows, rejects, warnings, has_price = _of_export(text, path)
    distinct, repeated = _distinct(rows)
    if repeated:
        warnings = [*warnings, f"{repeated} rows came more than once in the file; each was read once."]
    meaning, _ = normalize_trades(distinct, account.strip(), pairs, derive_price=not has_price)
    rejects = [*rejects, *meaning.rejects]
    report = {
        "rows": len(meaning.executions) + len(rejects),
        "executions": len(meaning.executions),
        "rejects": len(rejects),
        "warnings": [*warnings, *meaning.warnings],
    }
    return write_lines(meaning, rejects, report, out)


def _distinct(rows: Sequence[_Row]) -> tuple[list[_Row], int]:
    """One row for each trade id, the last one said; rows without an id are all kept."""
    by_id: dict[str, _Row] = {}
    for position, row in enumerate(rows):
        txid = row.get("txid")
        by_id[f"id {txid}" if isinstance(txid, str) and txid else f"row {position}"] = row
    return list(by_id.values()), len(rows) - len(by_id)


def _pair_book(path: Path | None) -> PairBook:
    if path is None:
        return PairBook()
    data = read_json(read_text(path), str(path))
    content = envelope(data)
    if content is not None:
        if content.error:
            raise UnusableFile(f"{path} is an error answer of Kraken: {content.error}")
        data = content.result
    if not isinstance(data, Mapping) or not any(isinstance(e, Mapping) and "base" in e for e in data.values()):
        raise UnusableFile(f"{path} is not an AssetPairs answer")
    return PairBook.of(data)


# TradesHistory answers


def _of_envelopes(text: str, path: Path) -> tuple[list[_Row], list[Reject], list[str]]:
    rows: list[_Row] = []
    warnings: dict[str, None] = {}
    count = 0
    for where, document in read_documents(text, path):
        trades, said, noted = _trades(document, where)
        rows += ({**row, "txid": txid} if isinstance(row, Mapping) else _unreadable(txid, row) for txid, row in trades)
        count = max(count, said or 0)
        warnings |= dict.fromkeys(noted)
    different = len({row["txid"] for row in rows})
    if count > different:
        warnings[f"The file holds {different} trades of {count} that Kraken counts."] = None
    return rows, [], list(warnings)


def _trades(document: Any, where: str) -> tuple[list[tuple[str, Any]], int | None, tuple[str, ...]]:
    content = envelope(document)
    if content is None:
        raise UnusableFile(f"{where} is not an answer of Kraken's API")
    if content.error:
        raise UnusableFile(f"{where} is an error answer of Kraken, not trades: {content.error}")
    result = content.result
    if isinstance(result, Mapping) and isinstance(result.get("trades"), Mapping):
        return list(result["trades"].items()), count_of(result.get("count")), content.warnings
    # QueryTrades answers with the trades alone.
    if isinstance(result, Mapping) and result and all(_looks_like_trade(row) for row in result.values()):
        return list(result.items()), None, content.warnings
    raise UnusableFile(f"{where} is not an answer of TradesHistory")


def _looks_like_trade(row: Any) -> bool:
    return isinstance(row, Mapping) and {"ordertxid", "pair", "vol"} <= row.keys()


def _unreadable(txid: str, row: Any) -> _Row:
    return {"unreadable": row, "txid": txid}


# Trades exports


def _of_export(text: str, path: Path) -> tuple[list[_Row], list[Reject], list[str], bool]:
    """Rows of a CSV or TSV export, columns by name (reference kraken 1.7), and whether it has prices."""
    delimiter = "\t" if "\t" in text.splitlines()[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        table = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UnusableFile(f"{path}, line {reader.line_num}, is not CSV: {error}") from None
    columns = [_COLUMN_NAMES.get(name.strip().lower(), name.strip().lower()) for name in table[0][1]]
    if _NEEDED_COLUMNS - set(columns) or len(set(columns)) < len(columns):
        raise UnusableFile(f"{path} is not a trades export of Kraken: its first line names other columns")
    has_price = "price" in columns
    if not has_price and "cost" not in columns:
        raise UnusableFile(f"{path} has neither a price nor a cost column")
    rows: list[_Row] = []
    rejects: list[Reject] = []
    for number, cells in table[1:]:
        try:
            row = _row(columns, cells)
        except BadRecord as bad:
            rejects.append(Reject.of(raw_payload({"line": delimiter.join(cells)}), f"line {number}: {bad.sentence}"))
        else:
            # A trade id that is blank in a file with that column is a fault of the row, not a shorter export.
            rows.append({name: cell for name, cell in row.items() if cell or name == "txid"})
    warnings = []
    if "txid" not in columns:
        warnings.append("The file has no txid column: its trades are told apart by their content only.")
    if not has_price:
        warnings.append("The file has no price column: prices are cost divided by volume.")
    if any(len(row.get("time", "")) == len("2025-01-31") for row in rows):
        warnings.append("Some trades have a date without a time of day: they count as midnight UTC.")
    return rows, rejects, warnings, has_price


def _row(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """A line's cells under their columns' names.

    Cells with several values hold commas; where those are not quoted, the line has too many cells and the rest
    of it is shifted. The one column that can have taken them in is found by what then stands in the others.
    """
    surplus = len(cells) - len(columns)
    if surplus < 0:
        raise BadRecord(f"the line has {len(cells)} cells for {len(columns)} columns", field="line")
    trimmed = [cell.strip() for cell in cells]
    if surplus == 0:
        return dict(zip(columns, trimmed, strict=True))
    for several in ("trades", "ledgers"):
        if several in columns:
            at = columns.index(several)
            values, rest = trimmed[at : at + surplus + 1], trimmed[at + surplus + 1 :]
            row = dict(zip(columns, [*trimmed[:at], ",".join(values), *rest], strict=True))
            if all(_is_id(value) for value in values) and _makes_sense(row):
                return row
    raise BadRecord(f"the line has {len(cells)} cells for {len(columns)} columns", field="line")


def _is_id(value: str) -> bool:
    return any(character.isalpha() for character in value)


def _makes_sense(row: Mapping[str, str]) -> bool:
    """Whether every cell of a mended line is of its column's kind, and price times volume is its cost.

    Without the latter, a comma in an amount (`2,900.50`) would pass for one in a list and shift the amounts.
    """
    amounts: dict[str, Decimal] = {}
    try:
        parse_utc(row["time"], "time")
        for name in ("price", "cost", "fee", "vol", "margin", "cprice", "ccost", "cfee", "cvol", "cmargin", "net"):
            if row.get(name):
                amounts[name] = parse_decimal(row[name], name)
        error = abs(amounts["price"] * amounts["vol"] - amounts["cost"])
    except (BadRecord, KeyError):
        return False
    return (
        row["type"] in ("buy", "sell")
        and row.get("posstatus", "") in ("", "open", "closed")
        and error <= amounts["cost"] * _COST_TOLERANCE
    )
