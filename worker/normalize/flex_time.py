"""Pure: dates and times of a Flex statement (reference ibkr 4.5).

They are written in the format that the Flex query's owner has chosen, as a rule without a zone: then they are US
Eastern, with daylight saving. Formats whose day and month could be told apart only by guessing are refused.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from worker.errors import BadRecord, SettingsInvalid
from worker.normalize.fields import shown

ZONE: Final = "America/New_York"

CHANGE_DATE_FORMAT: Final = "Set «Date Format» of the Flex query to yyyyMMdd or yyyy-MM-dd."
CHANGE_TIME_FORMAT: Final = "Set «Time Format» of the Flex query to HHmmss or HH:mm:ss."

Doubt = Literal["no_time_of_day", "repeated_hour", "skipped_hour", "midnight"]
"""What an instant is not sure of. A skipped hour does not exist on the clocks: it is read as if they had not been put
forward, so 02:30 is the instant of 03:30."""


class Moment(NamedTuple):
    """An instant in UTC epoch milliseconds, and the doubt about it, if any."""

    ms: int
    doubt: Doubt | None = None


_DATE = r"(\d{4})(-?)(\d{2})\2(\d{2})"
_CLOCK = r"([01]\d|2[0-3])(:?)([0-5]\d)\6([0-5]\d)"
_STAMP = re.compile(rf"{_DATE}(?:(?:;|, ?| |T)?{_CLOCK}(?: ?([A-Z]{{1,5}}))?)?", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3])(:?)([0-5]\d)\2([0-5]\d)(?: ?([A-Z]{1,5}))?", re.ASCII)
_DAY = re.compile(_DATE, re.ASCII)
_AMBIGUOUS = re.compile(r"\d{1,2}/\d{1,2}/\d{2,4}|\d{1,2}-[A-Za-z]{3}-\d{2,4}", re.ASCII)
_SEVERAL: Final = "MULTI"

_OFFSETS_OF_SUFFIX: Final = MappingProxyType({"EST": -5, "EDT": -4})
_FIRST_YEAR, _LAST_YEAR = 2000, 2099
_HOUR_MS: Final = 3_600_000

_KNOWN_INSTANTS: Final = (
    (dt.datetime(2026, 1, 15, 9, 35, 18), -5),  # noqa: DTZ001 - clocks of the zone in question
    (dt.datetime(2026, 3, 8, 3, 0), -4),  # noqa: DTZ001
    (dt.datetime(2026, 8, 10, 9, 35, 18), -4),  # noqa: DTZ001
    (dt.datetime(2026, 11, 1, 3, 0), -5),  # noqa: DTZ001
)


def verify_zone_database() -> None:
    """Raise SettingsInvalid unless this machine knows US Eastern time and its daylight saving.

    Without it every trade of a Flex statement would stand at a wrong time.
    """
    try:
        zone = ZoneInfo(ZONE)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        zone = None
    if zone is None or any(
        moment.replace(tzinfo=zone).utcoffset() != dt.timedelta(hours=hours) for moment, hours in _KNOWN_INSTANTS
    ):
        problem = f"the zone database is missing or wrong for {ZONE}"
        raise SettingsInvalid([f"{problem}; install the Python package tzdata, or unset PYTHONTZPATH"])


def parse_moment(text: str, field: str) -> Moment:
    """The instant of a date and time; BadRecord, with the setting to change, where it cannot be told."""
    match = _STAMP.fullmatch(text)
    if match is None:
        raise _refusal(text, field)
    year, _, month, day, hour, _, minute, second, suffix = match.groups()
    clock = (hour, minute, second, suffix) if hour else None
    return _moment(year + month + day, clock, text, field)


def join_moment(date: str, time: str | None, date_field: str, time_field: str) -> Moment:
    """The instant of a date and a time that stand in two fields."""
    match = _DAY.fullmatch(date)
    if match is None:
        raise _refusal(date, date_field)
    clock = None
    if time is not None:
        found = _TIME.fullmatch(time)
        if found is None:
            raise _refusal(time, time_field)
        hour, _, minute, second, suffix = found.groups()
        clock = (hour, minute, second, suffix)
    return _moment(match[1] + match[3] + match[4], clock, date, date_field)


def parse_day(text: str) -> dt.date | None:
    """The day of a date, with or without a time of day; None where it cannot be told."""
    match = _STAMP.fullmatch(text.strip())
    if match is None:
        return None
    try:
        return dt.date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None


def is_ambiguous_date(text: str) -> bool:
    """Whether the date is in a format whose day and month look alike."""
    return _AMBIGUOUS.match(text.strip()) is not None


def _moment(date: str, clock: tuple[str, str, str, str | None] | None, text: str, field: str) -> Moment:
    hour, minute, second, suffix = clock or ("00", "00", "00", None)
    if suffix is not None:
        offset = _OFFSETS_OF_SUFFIX.get(suffix)
        if offset is None:
            raise BadRecord(
                f"{field} is in a time zone that this version does not know: {shown(text)}. "
                "Choose a «Time Format» without a zone for the Flex query.",
                field=field,
            )
        start, doubt = _utc_hour(date, hour), None
        start = start if start is None else start - offset * _HOUR_MS
    else:
        start, doubt = _eastern_hour(date, hour)
    if start is None:
        raise BadRecord(f"{field} is not a time between {_FIRST_YEAR} and {_LAST_YEAR}: {shown(text)}", field=field)
    if clock is None:
        return Moment(start, "no_time_of_day")
    if doubt is None and hour == minute == second == "00":
        doubt = "midnight"
    return Moment(start + (int(minute) * 60 + int(second)) * 1000, doubt)


@lru_cache(maxsize=1024)
def _utc_hour(date: str, hour: str) -> int | None:
    try:
        start = dt.datetime(int(date[:4]), int(date[4:6]), int(date[6:]), int(hour), tzinfo=dt.UTC)
    except ValueError:
        return None
    return int(start.timestamp()) * 1000 if _FIRST_YEAR <= start.year <= _LAST_YEAR else None


@lru_cache(maxsize=4096)
def _eastern_hour(date: str, hour: str) -> tuple[int | None, Doubt | None]:
    """When an hour of a day begins, and whether the clocks skip or repeat it: they change at full hours."""
    as_utc = _utc_hour(date, hour)
    if as_utc is None:
        return None, None
    local = dt.datetime.fromtimestamp(as_utc // 1000, dt.UTC).replace(tzinfo=ZoneInfo(ZONE))
    first, second = local.utcoffset(), local.replace(fold=1).utcoffset()
    if first is None or second is None:
        return None, None
    doubt: Doubt | None = None
    if first != second:
        doubt = "repeated_hour" if first > second else "skipped_hour"
    return as_utc - int(first.total_seconds()) * 1000, doubt


def _refusal(text: str, field: str) -> BadRecord:
    if text.upper() == _SEVERAL:
        return BadRecord(f"{field} is MULTI: the row stands for several executions", field=field)
    if _AMBIGUOUS.match(text):
        sentence = f"{field} is {shown(text)}, whose day and month could be taken for each other. {CHANGE_DATE_FORMAT}"
    elif _DAY.match(text):
        sentence = f"{field} is not a time: {shown(text)}. {CHANGE_TIME_FORMAT}"
    else:
        sentence = f"{field} is not a date: {shown(text)}. {CHANGE_DATE_FORMAT}"
    return BadRecord(sentence, field=field)
