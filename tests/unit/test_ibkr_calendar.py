"""The planned outages of Interactive Brokers: instants worked out by hand, and a reading of the wall clock.

Published are local times. New York is UTC−5 and from 2026-03-08 to 2026-11-01 UTC−4, Zurich is UTC+1 and from
2026-03-29 to 2026-10-25 UTC+2, Hong Kong is always UTC+8.
"""

from __future__ import annotations

import datetime as dt
import time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.connectors.ibkr_calendar import SETTLING_MS, outage_at
from worker.models import Region

MIDNIGHT, NIGHTLY, DAILY = "midnight session reset", "nightly restart", "daily server reset"
WEEKEND, SATURDAY = "weekend reset", "Saturday maintenance"
REGIONS: tuple[Region, ...] = ("america", "europe", "asia")


def ms(text: str) -> int:
    """Epoch milliseconds of a time that says its offset."""
    moment = dt.datetime.fromisoformat(text)
    assert moment.tzinfo is not None
    return round(moment.timestamp() * 1000)


# 2026-01-14 is a Wednesday, 2026-07-15 too. Every end is the published one and five minutes.
STRETCHES: list[tuple[str, Region, str, str, str]] = [
    # New York: the midnight reset runs into the daily one; Sunday to Friday.
    (DAILY, "america", "2026-01-14T00:00-05:00", "2026-01-14T00:20-05:00", "2026-01-14T01:50-05:00"),
    (DAILY, "america", "2026-07-15T00:00-04:00", "2026-07-15T01:49-04:00", "2026-07-15T01:50-04:00"),
    # Friday 23:00 to Saturday 03:00 swallows Saturday's midnight.
    (WEEKEND, "america", "2026-01-16T23:00-05:00", "2026-01-17T00:10-05:00", "2026-01-17T03:05-05:00"),
    (WEEKEND, "america", "2026-07-17T23:00-04:00", "2026-07-17T23:00-04:00", "2026-07-18T03:05-04:00"),
    # Saturday evening runs into Sunday's midnight and daily resets.
    (SATURDAY, "america", "2026-01-17T18:00-05:00", "2026-01-17T20:00-05:00", "2026-01-18T01:50-05:00"),
    # The night that loses 02:00 to 03:00: nothing planned falls into it.
    (SATURDAY, "america", "2026-03-07T18:00-05:00", "2026-03-08T01:30-05:00", "2026-03-08T01:50-05:00"),
    (DAILY, "america", "2026-03-09T00:00-04:00", "2026-03-09T01:00-04:00", "2026-03-09T01:50-04:00"),
    # The night that has 01:00 to 02:00 twice: until the second 01:45.
    (SATURDAY, "america", "2026-10-31T18:00-04:00", "2026-11-01T01:55-04:00", "2026-11-01T01:50-05:00"),
    (DAILY, "america", "2026-11-02T00:00-05:00", "2026-11-02T00:00-05:00", "2026-11-02T01:50-05:00"),
    # Zurich: midnight, about 01:00 and the morning reset stand alone.
    (MIDNIGHT, "europe", "2026-01-14T00:00+01:00", "2026-01-14T00:34+01:00", "2026-01-14T00:35+01:00"),
    (NIGHTLY, "europe", "2026-01-14T00:55+01:00", "2026-01-14T01:00+01:00", "2026-01-14T01:20+01:00"),
    (DAILY, "europe", "2026-01-14T06:25+01:00", "2026-01-14T07:00+01:00", "2026-01-14T07:50+01:00"),
    (DAILY, "europe", "2026-07-15T06:25+02:00", "2026-07-15T07:00+02:00", "2026-07-15T07:50+02:00"),
    # Friday 23:00 in New York is Saturday 05:00 in Zurich, in the weeks between the two changes 04:00.
    (WEEKEND, "europe", "2026-01-17T05:00+01:00", "2026-01-17T06:00+01:00", "2026-01-17T09:05+01:00"),
    (WEEKEND, "europe", "2026-03-14T04:00+01:00", "2026-03-14T04:30+01:00", "2026-03-14T08:05+01:00"),
    (WEEKEND, "europe", "2026-10-31T04:00+01:00", "2026-10-31T04:30+01:00", "2026-10-31T08:05+01:00"),
    (SATURDAY, "europe", "2026-01-17T18:00+01:00", "2026-01-18T00:01+01:00", "2026-01-18T00:35+01:00"),
    # Both nights on which Zurich changes its clocks, at 02:00 and at 03:00.
    (NIGHTLY, "europe", "2026-03-29T00:55+01:00", "2026-03-29T01:00+01:00", "2026-03-29T01:20+01:00"),
    (DAILY, "europe", "2026-03-29T06:25+02:00", "2026-03-29T06:30+02:00", "2026-03-29T07:50+02:00"),
    (NIGHTLY, "europe", "2026-10-25T00:55+02:00", "2026-10-25T01:00+02:00", "2026-10-25T01:20+02:00"),
    (DAILY, "europe", "2026-10-25T06:25+01:00", "2026-10-25T06:30+01:00", "2026-10-25T07:50+01:00"),
    # Hong Kong: two daily resets, and the weekend's at 11:00 or 12:00 by New York's clock.
    (MIDNIGHT, "asia", "2026-01-14T00:00+08:00", "2026-01-14T00:00+08:00", "2026-01-14T00:35+08:00"),
    (NIGHTLY, "asia", "2026-01-14T00:55+08:00", "2026-01-14T00:55+08:00", "2026-01-14T01:20+08:00"),
    (DAILY, "asia", "2026-01-14T04:45+08:00", "2026-01-14T06:00+08:00", "2026-01-14T06:10+08:00"),
    (DAILY, "asia", "2026-01-14T20:15+08:00", "2026-01-14T21:00+08:00", "2026-01-14T21:20+08:00"),
    (WEEKEND, "asia", "2026-01-17T12:00+08:00", "2026-01-17T12:00+08:00", "2026-01-17T16:05+08:00"),
    (WEEKEND, "asia", "2026-07-18T11:00+08:00", "2026-07-18T12:00+08:00", "2026-07-18T15:05+08:00"),
    (SATURDAY, "asia", "2026-01-17T18:00+08:00", "2026-01-17T20:30+08:00", "2026-01-18T00:35+08:00"),
    (DAILY, "asia", "2026-01-18T20:15+08:00", "2026-01-18T20:30+08:00", "2026-01-18T21:20+08:00"),
    # The turn of the year.
    (DAILY, "america", "2027-01-01T00:00-05:00", "2027-01-01T00:00-05:00", "2027-01-01T01:50-05:00"),
]


@pytest.mark.parametrize(("name", "region", "start", "inside", "end"), STRETCHES, ids=lambda value: value)
def test_C4_each_planned_outage_is_known_from_its_start_to_its_end(
    name: str, region: Region, start: str, inside: str, end: str
) -> None:
    for moment in (ms(start), ms(inside), ms(end) - 1):
        outage = outage_at(moment, region)
        assert outage is not None
        assert (outage.name, outage.start, outage.end) == (name, ms(start), ms(end))
    assert outage_at(ms(start) - 1, region) is None
    assert outage_at(ms(end), region) is None


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("day", range(12, 17))
@pytest.mark.parametrize("hour", ["09:30", "12:00", "16:00", "17:59"])
def test_C5_nothing_is_planned_for_working_hours(region: Region, day: int, hour: str) -> None:
    offset = {"america": "-05:00", "europe": "+01:00", "asia": "+08:00"}[region]
    assert outage_at(ms(f"2026-01-{day}T{hour}{offset}"), region) is None


@pytest.mark.parametrize(
    ("region", "moment"),
    [
        # No daily reset on Saturday; the weekend's is over at 16:05 in Hong Kong.
        ("america", "2026-01-17T12:00-05:00"),
        ("asia", "2026-01-17T05:00+08:00"),
        ("asia", "2026-01-17T17:00+08:00"),
        # Zurich between its nightly restart and the weekend reset, and after it.
        ("europe", "2026-01-17T03:00+01:00"),
        ("europe", "2026-01-17T12:00+01:00"),
        ("europe", "2026-01-18T12:00+01:00"),
        # Another region's reset is not this one's.
        ("america", "2026-01-14T20:30+08:00"),
        ("europe", "2026-01-14T05:00+08:00"),
        ("asia", "2026-01-14T01:00-05:00"),
    ],
)
def test_C5_the_rest_of_the_weekend_and_other_regions_hours_are_not_planned(region: Region, moment: str) -> None:
    assert outage_at(ms(moment), region) is None


ZONES = {"america": "America/New_York", "europe": "Europe/Zurich", "asia": "Asia/Hong_Kong"}
DAILY_RESETS = {"america": [("00:15", "01:45")], "europe": [("06:25", "07:45")]}
DAILY_RESETS["asia"] = [("04:45", "06:05"), ("20:15", "21:15")]


def planned(moment_ms: int, region: Region) -> bool:
    """Whether the wall clocks show a time that the table of the page, or our reading of «evening», names."""
    utc = dt.datetime.fromtimestamp(moment_ms / 1000, dt.UTC)
    local = utc.astimezone(ZoneInfo(ZONES[region]))
    eastern = utc.astimezone(ZoneInfo("America/New_York"))
    clock = f"{local:%H:%M}"
    return (
        clock < "00:30"
        or "00:55" <= clock < "01:15"
        or (f"{local:%a}" != "Sat" and any(start <= clock < end for start, end in DAILY_RESETS[region]))
        or (f"{local:%a}" == "Sat" and clock >= "18:00")
        or (f"{eastern:%a}" == "Fri" and f"{eastern:%H:%M}" >= "23:00")
        or (f"{eastern:%a}" == "Sat" and f"{eastern:%H:%M}" < "03:00")
    )


moments = st.integers(ms("2025-01-01T00:00+00:00"), ms("2032-01-01T00:00+00:00"))


@given(moments, st.sampled_from(REGIONS))
def test_an_outage_is_a_planned_time_or_the_five_minutes_after(moment: int, region: Region) -> None:
    local = dt.datetime.fromtimestamp(moment / 1000, ZoneInfo(ZONES[region]))
    repeated = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    down = outage_at(moment, region) is not None
    if planned(moment, region) or planned(moment - SETTLING_MS, region):
        assert down
    elif not repeated:
        assert not down


@given(moments, st.sampled_from(REGIONS))
def test_an_outage_is_the_same_from_every_instant_of_it_and_over_at_its_end(moment: int, region: Region) -> None:
    outage = outage_at(moment, region)
    if outage is None:
        return
    assert outage.start <= moment < outage.end
    assert outage_at(outage.start, region) == outage_at(outage.end - 1, region) == outage
    assert outage_at(outage.end, region) is None
    assert outage_at(outage.start - 1, region) is None
    # From Saturday 18:00 to Sunday 01:50, and in autumn an hour more.
    assert outage.end - outage.start <= (9 * 60 - 10) * 60_000


def test_an_answer_takes_less_than_a_millisecond() -> None:
    noon = ms("2026-01-14T12:00+00:00")
    started = time.perf_counter()
    for minute in range(300):
        outage_at(noon + minute * 60_000, "asia")
    assert (time.perf_counter() - started) / 300 < 0.001
