"""Pure: when Interactive Brokers takes its servers down by plan. A failure then is maintenance, not a fault.

The table holds what is published, in the wall-clock time of the zone it is published for, daylight saving
included; the page's ET, CET and HKT are read as New York, Zurich and Hong Kong. Where only «about» or «evening» is
published, the hours are ours and the row says so. They are generous, because they are asked only about failures: a
row that is too long makes a real fault show later, one that is too short shows a fault that is none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from worker.models import Region

SETTLING_MS = 5 * 60_000
"""Counted as part of every outage: servers come back one after another, and the published end is a plan."""

_NEW_YORK = ZoneInfo("America/New_York")
_ZURICH = ZoneInfo("Europe/Zurich")
_HONG_KONG = ZoneInfo("Asia/Hong_Kong")

_FRIDAY = frozenset({4})
_SATURDAY = frozenset({5})
_EVERY_DAY = frozenset(range(7))
_SUNDAY_TO_FRIDAY = _EVERY_DAY - _SATURDAY


@dataclass(frozen=True, slots=True)
class Outage:
    """A planned stretch `[start, end)` in epoch milliseconds. `name` goes into a sentence: «daily server reset»."""

    name: str
    end: int
    start: int


@dataclass(frozen=True, slots=True)
class _Row:
    """One planned outage on the wall clock of `zone`, on each of the weekdays on which it begins (Monday is 0).

    `start` and `end` count from the midnight of that day; after 24 hours comes the next day.
    """

    name: str
    zone: ZoneInfo
    days: frozenset[int]
    start: timedelta
    end: timedelta

    def on(self, day: dt.date) -> Outage | None:
        """The outage that begins on `day`, if one does."""
        if day.weekday() not in self.days:
            return None
        midnight = dt.datetime.combine(day, dt.time.min)
        start = (midnight + self.start).replace(tzinfo=self.zone, fold=0)
        # An end in the hour that autumn repeats is its second pass: which one is meant is not published.
        end = (midnight + self.end).replace(tzinfo=self.zone, fold=1)
        return Outage(self.name, end=_milliseconds(end) + SETTLING_MS, start=_milliseconds(start))


def outage_at(now_ms: int, region: Region) -> Outage | None:
    """The planned outage under way at `now_ms`, as one stretch to the end of all that overlap or touch it.

    Its name is that of its longest part.
    """
    parts = sorted(_parts(now_ms, region), key=lambda part: part.start)
    stretch: list[Outage] = []
    for part in parts:
        if stretch and part.start > max(known.end for known in stretch):
            if part.start > now_ms:
                break
            stretch = []
        stretch.append(part)
    end = max(part.end for part in stretch)
    start = stretch[0].start
    if not start <= now_ms < end:
        return None
    longest = max(stretch, key=lambda part: part.end - part.start)
    return Outage(longest.name, end=end, start=start)


def _parts(now_ms: int, region: Region) -> Iterator[Outage]:
    """Every outage of the days around `now_ms`: no stretch lasts longer than a day."""
    for row in _TABLE[region]:
        today = dt.datetime.fromtimestamp(now_ms / 1000, row.zone).date()
        for offset in range(-2, 3):
            if part := row.on(today + timedelta(days=offset)):
                yield part


def _milliseconds(moment: dt.datetime) -> int:
    return int(moment.timestamp()) * 1000


def _rows(zone: ZoneInfo, *resets: _Row) -> tuple[_Row, ...]:
    return (
        # Reference ibkr 2.6: sessions end at 00:00 of the region. For how long is not published: half an hour is ours.
        _Row("midnight session reset", zone, _EVERY_DAY, timedelta(), timedelta(minutes=30)),
        # Reference ibkr 2.6: a short outage of /iserver about 01:00 each night. The twenty minutes are ours.
        _Row("nightly restart", zone, _EVERY_DAY, timedelta(minutes=55), timedelta(hours=1, minutes=15)),
        *resets,
        # System status page, 2026: Friday 23:00 to Saturday 03:00 ET, in every region.
        _Row("weekend reset", _NEW_YORK, _FRIDAY, timedelta(hours=23), timedelta(hours=27)),
        # Reference ibkr 2.6: the whole Web API on Saturday evening, without hours. From 18:00 to midnight is ours.
        _Row("Saturday maintenance", zone, _SATURDAY, timedelta(hours=18), timedelta(hours=24)),
    )


def _daily(zone: ZoneInfo, start: timedelta, end: timedelta) -> _Row:
    """System status page, 2026: the daily reset schedule, Sunday to Friday."""
    return _Row("daily server reset", zone, _SUNDAY_TO_FRIDAY, start, end)


_TABLE: Mapping[Region, tuple[_Row, ...]] = MappingProxyType(
    {
        "america": _rows(_NEW_YORK, _daily(_NEW_YORK, timedelta(minutes=15), timedelta(hours=1, minutes=45))),
        "europe": _rows(_ZURICH, _daily(_ZURICH, timedelta(hours=6, minutes=25), timedelta(hours=7, minutes=45))),
        "asia": _rows(
            _HONG_KONG,
            _daily(_HONG_KONG, timedelta(hours=4, minutes=45), timedelta(hours=6, minutes=5)),
            _daily(_HONG_KONG, timedelta(hours=20, minutes=15), timedelta(hours=21, minutes=15)),
        ),
    }
)
