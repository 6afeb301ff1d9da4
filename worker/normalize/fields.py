"""Pure: one field of a broker's row, read exactly or refused with the field's name."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from worker import log
from worker.errors import BadRecord

MAX_DIGITS = 40
"""On either side of the point. More is no amount but an attack or an accident."""

RAW_LIMIT = 64 * 1024
_CUT = "truncated"
CUT_SHORT = f'{{"{_CUT}":'
"""How the payload of a larger row begins."""

_DEEPEST = 32
_MOST_CACHED = 4096

_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,6})?", re.ASCII)
_UTC = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}:\d{2})(\.\d{1,12})?(?:Z|[+]00:?00)?)?",
    re.ASCII,
)
_YEAR_2100 = 4_102_444_800


def parse_decimal(value: object, field: str) -> Decimal:
    """The exact number in text, Decimal or int; BadRecord for anything else.

    `1,234.5`, NaN, an empty text, 1e999999 and digits of other scripts are refused, never repaired.
    """
    if isinstance(value, str):
        text = value.strip()
        if len(text) <= MAX_DIGITS and _PLAIN_NUMBER.fullmatch(text):
            return Decimal(text) or Decimal(0)
        if not text:
            raise BadRecord(f"{field} is empty", field=field)
        if not _NUMBER.fullmatch(text):
            raise BadRecord(f"{field} is not a number: {shown(text)}", field=field)
        value = _decimal(text, field)
    elif isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    elif not isinstance(value, Decimal):
        raise BadRecord(f"{field} is {'missing' if value is None else 'not a number'}", field=field)
    if not value.is_finite():
        raise BadRecord(f"{field} is not a finite number", field=field)
    if _is_too_long(value):
        raise BadRecord(f"{field} has more than {MAX_DIGITS} digits before or after the point", field=field)
    return value if value else Decimal(0)


def _is_too_long(number: Decimal) -> bool:
    text = str(number)
    if len(text) <= MAX_DIGITS and "E" not in text:
        return False
    exponent = number.as_tuple().exponent
    return (number and number.adjusted() >= MAX_DIGITS) or (isinstance(exponent, int) and abs(exponent) > MAX_DIGITS)


def _decimal(text: str, field: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise BadRecord(f"{field} is not a number: {shown(text)}", field=field) from None


def parse_seconds(value: object, field: str) -> int:
    """Epoch seconds, with as many decimals as there are, as milliseconds rounded down.

    Down, so that a fill never moves into the next second, window or day.
    """
    seconds = parse_decimal(value, field)
    if not 0 < seconds < _YEAR_2100:
        raise BadRecord(f"{field} is not a time between 1970 and 2100", field=field)
    return int((seconds * 1000).to_integral_value(ROUND_FLOOR))


def parse_utc(text: str, field: str) -> int:
    """`2021-11-19 20:33:54.1631` or a bare date, both UTC, as milliseconds rounded down."""
    match = _UTC.fullmatch(text.strip())
    if match is None:
        raise BadRecord(f"{field} is not a UTC time: {shown(text)}", field=field)
    date, clock, fraction = match.groups()
    try:
        moment = dt.datetime.fromisoformat(f"{date}T{clock or '00:00:00'}+00:00")
    except ValueError:
        raise BadRecord(f"{field} is not a time: {shown(text)}", field=field) from None
    return parse_seconds(Decimal(int(moment.timestamp())) + Decimal(f"0{fraction or '.0'}"), field)


def text_of(row: Mapping[str, Any], field: str) -> str | None:
    """A text field, trimmed; None when absent or empty. Numbers are spelled out, anything else is refused."""
    value = row.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise BadRecord(f"{field} is not a text", field=field)
        value = str(value)
    text = value.strip()
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        # Half of a character that JSON could spell and UTF-8 cannot; neither hash nor Convex would take it.
        raise BadRecord(f"{field} is not a text", field=field)
    return text or None


def shown(text: str) -> str:
    """Broker text for a reason: short, quoted, without secrets."""
    return repr(log.redact(text[:8192])[:40])


def raw_payload(row: Mapping[str, Any]) -> str:
    """The row as JSON text: numbers spelled as they were sent, secrets removed, at most 64 KiB."""
    text = _flat_json(row)
    if text is None:
        text = _json(row)
    if len(text.encode()) <= RAW_LIMIT:
        return text
    # Half the limit: escaping a text can double it.
    return json.dumps({_CUT: text.encode()[: RAW_LIMIT // 2 - 64].decode("utf-8", "ignore")})


def _flat_json(row: Mapping[str, Any]) -> str | None:
    """What `_json` says of a row without secrets and without things inside things; None for any other row.

    A row costs one search for secrets instead of two a field. It is the fields' own texts that are searched: in
    JSON a secret may be spelled otherwise.
    """
    names = tuple(row)
    frame = _frame(names, log.secrets_known()) if len("".join(names)) <= _MOST_CACHED else None
    if frame is None:
        return None
    values = row.values()
    parts = [*frame]
    try:
        parts[1::2] = [_SPELLINGS[type(value)](value) for value in values]
    except (KeyError, ValueError):
        return None
    texts = "\n".join([value for value in values if type(value) is str])
    return "".join(parts) if log.redact(texts) == texts else None


def _spell(number: Decimal) -> str:
    if not number.is_finite():
        raise ValueError("JSON has no such number")
    return str(number)


_SPELLINGS: Final[Mapping[type, Callable[[Any], str]]] = {
    str: encode_basestring_ascii,
    int: repr,
    bool: json.dumps,
    type(None): json.dumps,
    Decimal: _spell,
}


@lru_cache(maxsize=256)
def _frame(names: tuple[str, ...], _secrets_known: int) -> tuple[str, ...] | None:
    """The JSON of a row with these names, in parts: every second is empty, for a value.

    None where a name is a secret or says that its value is one. Rows of one kind have the same names.
    """
    if any(log.redact(name) != name or log.redact_value("?", name) != "?" for name in names):
        return None
    members = ",".join(f"{json.dumps(name)}:\n\n" for name in names)
    return tuple(f"{{{members}}}".split("\n"))


def _json(value: Any, name: str = "", depth: int = 0) -> str:
    match value:
        case Mapping() | list() | tuple() if depth == _DEEPEST:
            return '"…"'
        case Mapping():
            members = (
                f"{json.dumps(log.redact(str(key)))}:{_json(item, str(key), depth + 1)}" for key, item in value.items()
            )
            return "{" + ",".join(members) + "}"
        case list() | tuple():
            return "[" + ",".join(_json(item, name, depth + 1) for item in value) + "]"
        case Decimal() if value.is_finite():
            return str(value)
        case Decimal():
            return json.dumps(str(value))
        case _:
            return json.dumps(log.redact_value(value, name))
