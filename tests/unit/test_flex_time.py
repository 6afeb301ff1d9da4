"""Dates and times of Flex statements (reference ibkr 4.5). Instants are computed by hand from the two offsets."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import BadRecord, SettingsInvalid
from worker.normalize import flex_time
from worker.normalize.flex_time import join_moment, parse_day, parse_moment, verify_zone_database


def ms(utc: str) -> int:
    return int(dt.datetime.fromisoformat(utc).timestamp()) * 1000


@pytest.mark.parametrize(
    ("text", "utc", "doubt"),
    [
        # Winter is five hours behind UTC, summer four; in 2026 the clocks change on 8 March and 1 November.
        ("20260810;093518", "2026-08-10T13:35:18+00:00", None),
        ("20260115;093518", "2026-01-15T14:35:18+00:00", None),
        ("20260308;015959", "2026-03-08T06:59:59+00:00", None),
        ("20260308;030000", "2026-03-08T07:00:00+00:00", None),
        ("20261101;013000", "2026-11-01T05:30:00+00:00", "repeated_hour"),
        ("20260810", "2026-08-10T04:00:00+00:00", "no_time_of_day"),
        # The edges of the two odd hours.
        ("20260308;020000", "2026-03-08T07:00:00+00:00", "skipped_hour"),
        ("20260308;023000", "2026-03-08T07:30:00+00:00", "skipped_hour"),
        ("20260308;025959", "2026-03-08T07:59:59+00:00", "skipped_hour"),
        ("20261101;005959", "2026-11-01T04:59:59+00:00", None),
        ("20261101;010000", "2026-11-01T05:00:00+00:00", "repeated_hour"),
        ("20261101;015959", "2026-11-01T05:59:59+00:00", "repeated_hour"),
        ("20261101;020000", "2026-11-01T07:00:00+00:00", None),
        # A suffix says which of the two.
        ("20261101;013000 EDT", "2026-11-01T05:30:00+00:00", None),
        ("20261101;013000 EST", "2026-11-01T06:30:00+00:00", None),
        ("2026-04-02;11:08:05 EDT", "2026-04-02T15:08:05+00:00", None),
        ("20260115;093518EST", "2026-01-15T14:35:18+00:00", None),
        # Separators, and both spellings of either half.
        ("20260810,093518", "2026-08-10T13:35:18+00:00", None),
        ("20260810, 09:35:18", "2026-08-10T13:35:18+00:00", None),
        ("2026-08-10 093518", "2026-08-10T13:35:18+00:00", None),
        ("20260810093518", "2026-08-10T13:35:18+00:00", None),
        ("2026-08-10T09:35:18", "2026-08-10T13:35:18+00:00", None),
        ("2026-08-1009:35:18", "2026-08-10T13:35:18+00:00", None),
        ("2026-08-10", "2026-08-10T04:00:00+00:00", "no_time_of_day"),
        ("20260810;000000", "2026-08-10T04:00:00+00:00", "midnight"),
        ("20260810;235959", "2026-08-11T03:59:59+00:00", None),
        # Until 2006 the clocks changed on the first Sunday of April.
        ("20060402;030000", "2006-04-02T07:00:00+00:00", None),
        ("20060312;120000", "2006-03-12T17:00:00+00:00", None),
    ],
)
def test_B19_the_eastern_time_table(text: str, utc: str, doubt: str | None) -> None:
    assert parse_moment(text, "dateTime") == (ms(utc), doubt)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("08/10/2026;093518", "Date Format"),
        ("10/08/26;093518", "Date Format"),
        ("10-AUG-26;09:35:18", "Date Format"),
        ("10.08.2026", "Date Format"),
        ("", "Date Format"),
        ("20260810;9:35 AM", "Time Format"),
        ("20260810;0935", "Time Format"),
        ("20260810;240000", "Time Format"),
        ("20260810;093560", "Time Format"),
        ("20260810;09:3518", "Time Format"),
        ("20260810;;093518", "Time Format"),
        ("20260810;093518 CET", "zone"),
        ("20260810;093518 UTC", "zone"),
        ("MULTI", "several executions"),
        ("20260230;093518", "not a time"),
        ("20261301;093518", "not a time"),
        ("19991231;093518", "not a time"),
        ("21000101;093518", "not a time"),
        ("00000000;000000", "not a time"),
        ("٢٠٢٦٠٨١٠;093518", "Date Format"),
    ],
)
def test_B19_other_texts_are_refused_with_the_setting_to_change(text: str, words: str) -> None:
    with pytest.raises(BadRecord) as caught:
        parse_moment(text, "dateTime")
    assert words in caught.value.sentence
    assert caught.value.sentence.startswith("dateTime is ")


@pytest.mark.parametrize(
    ("date", "time", "utc", "doubt"),
    [
        ("20170907", "145036", "2017-09-07T18:50:36+00:00", None),
        ("2011-08-11", "16:20:00", "2011-08-11T20:20:00+00:00", None),
        ("20131106", "033513 EST", "2013-11-06T08:35:13+00:00", None),
        ("20230123", None, "2023-01-23T05:00:00+00:00", "no_time_of_day"),
        ("20261101", "013000", "2026-11-01T05:30:00+00:00", "repeated_hour"),
    ],
)
def test_a_date_and_a_time_in_two_fields(date: str, time: str | None, utc: str, doubt: str | None) -> None:
    assert join_moment(date, time, "tradeDate", "tradeTime") == (ms(utc), doubt)


@pytest.mark.parametrize(
    ("date", "time", "field"),
    [("MULTI", None, "tradeDate"), ("20170907", "1450", "tradeTime"), ("x", "1", "tradeDate")],
)
def test_of_two_fields_the_wrong_one_is_named(date: str, time: str | None, field: str) -> None:
    with pytest.raises(BadRecord) as caught:
        join_moment(date, time, "tradeDate", "tradeTime")
    assert caught.value.field == field


@given(st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2099, 12, 31)))  # noqa: DTZ001 - as a clock shows it
def test_every_second_of_a_century_is_that_of_the_zone(local: dt.datetime) -> None:
    expected = local.replace(microsecond=0, tzinfo=ZoneInfo("America/New_York"), fold=0)
    assert parse_moment(f"{local:%Y%m%d;%H%M%S}", "dateTime").ms == int(expected.timestamp()) * 1000


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20230630", dt.date(2023, 6, 30)),
        ("2026-04-09", dt.date(2026, 4, 9)),
        ("2026-04-09;21:23:54 EDT", dt.date(2026, 4, 9)),
        ("20100505 12:30:45", dt.date(2010, 5, 5)),
        ("04/09/2026", None),
        ("20260230", None),
        ("", None),
    ],
)
def test_days(text: str, day: dt.date | None) -> None:
    assert parse_day(text) == day


def test_B19_the_zone_database_of_this_machine() -> None:
    verify_zone_database()


def test_B19_a_missing_or_wrong_zone_database_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex_time, "ZONE", "America/Nowhere")
    with pytest.raises(SettingsInvalid, match="tzdata"):
        verify_zone_database()
    monkeypatch.setattr(flex_time, "ZONE", "America/Chicago")
    with pytest.raises(SettingsInvalid, match="America/Chicago"):
        verify_zone_database()
