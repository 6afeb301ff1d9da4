"""Interval algebra: checked against a brute-force set of seconds, and by hand for the rules."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import coverage
from worker.coverage import Bookmark, Windowing
from worker.models import Interval, Window

SOURCE = "kraken_trades"
HOUR = 3_600_000
WINDOWING = Windowing(source=SOURCE, overlap=HOUR, deep_overlap=7 * 24 * HOUR, deep_every=24 * HOUR, settle=180_000)


def span(start: int, end: int) -> Interval:
    return Interval(source=SOURCE, start=start, end=end)


def instants(start: int, end: int) -> set[int]:
    """The whole instants of `(start, end]`."""
    return set(range(start + 1, end + 1))


intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: span(min(pair), max(pair))), max_size=8
)


@given(intervals)
def test_merge_keeps_exactly_the_same_instants(ranges: list[Interval]) -> None:
    merged = coverage.merge(ranges)
    assert set().union(*(instants(i.start, i.end) for i in merged)) == set().union(
        *(instants(i.start, i.end) for i in ranges)
    )
    assert all(left.end < right.start for left, right in pairwise(merged))


@given(intervals, st.integers(0, 60), st.integers(0, 60))
def test_gaps_are_what_is_missing_newest_first(ranges: list[Interval], one: int, other: int) -> None:
    within = Window(start=min(one, other), end=max(one, other))
    found = coverage.gaps(ranges, SOURCE, within)
    covered = set().union(*(instants(i.start, i.end) for i in ranges))
    missing = instants(within.start, within.end) - covered
    assert set().union(*(instants(w.start, w.end) for w in found)) == missing
    assert [w.end for w in found] == sorted((w.end for w in found), reverse=True)


def test_another_source_covers_nothing() -> None:
    other = Interval(source="ibkr_live", start=0, end=100)
    assert coverage.gaps([other], SOURCE, Window(start=0, end=100)) == (Window(start=0, end=100),)


def test_first_import_looks_at_the_last_hour_first_and_then_at_all_that_is_settled() -> None:
    now = 1000 * HOUR
    newest = coverage.newest_window((), WINDOWING, floor=0, now=now, deep=True)
    assert newest == Window(start=now - 180_000 - HOUR, end=now)
    assert coverage.older_windows((), WINDOWING, floor=0, before=newest.start) == (
        (Window(start=0, end=now - 180_000 - HOUR), None),
    )


def test_a_usual_poll_reads_one_window_that_overlaps_by_an_hour() -> None:
    now = 1000 * HOUR
    covered = (span(0, now - HOUR),)
    newest = coverage.newest_window(covered, WINDOWING, floor=0, now=now, deep=False)
    assert newest == Window(start=now - 2 * HOUR, end=now)
    assert coverage.older_windows(covered, WINDOWING, floor=0, before=newest.start) == ()


def test_B4_once_a_day_the_margin_is_a_week() -> None:
    now = 1000 * HOUR
    covered = (span(0, now - HOUR),)
    newest = coverage.newest_window(covered, WINDOWING, floor=0, now=now, deep=True)
    assert newest == Window(start=now - HOUR - 7 * 24 * HOUR, end=now)


def test_nothing_before_the_import_start_is_read() -> None:
    now = 1000 * HOUR
    floor = now - 2 * HOUR
    newest = coverage.newest_window((span(floor, now - 100),), WINDOWING, floor=floor, now=now, deep=True)
    assert newest.start == floor


def test_a_hole_left_by_an_outage_is_read_after_the_newest_window() -> None:
    now = 1000 * HOUR
    covered = (span(0, 100 * HOUR), span(200 * HOUR, now - HOUR))
    newest = coverage.newest_window(covered, WINDOWING, floor=0, now=now, deep=False)
    assert coverage.older_windows(covered, WINDOWING, floor=0, before=newest.start) == (
        (Window(start=100 * HOUR, end=200 * HOUR), None),
    )


def test_a_bookmarked_window_is_resumed_whole_and_counts_as_the_edge() -> None:
    now = 1000 * HOUR
    marked = Bookmark(Window(start=0, end=now - 10 * HOUR), "page 7")
    newest = coverage.newest_window((), WINDOWING, floor=0, now=now, deep=False, bookmarks=[marked])
    assert newest == Window(start=now - 11 * HOUR, end=now)
    assert coverage.older_windows((), WINDOWING, floor=0, before=newest.start, bookmarks=[marked]) == (
        (marked.window, "page 7"),
    )


def test_a_drained_window_carries_only_as_far_as_rows_have_settled() -> None:
    now = 1000 * HOUR
    assert coverage.settled(Window(start=0, end=now), WINDOWING, now) == Window(start=0, end=now - 180_000)
    assert coverage.settled(Window(start=now - 1000, end=now), WINDOWING, now) is None


def test_D10_coverage_from_the_future_proves_nothing() -> None:
    assert coverage.trusted((span(0, 50), span(60, 5000), span(200, 300)), 100) == (span(0, 50), span(60, 100))


def test_D10_unreadable_bookmarks_cost_a_reread_only() -> None:
    for text in (None, "", "{", "null", '[["x",2,"r"]]', "[[1,2]]", "7", '[[5,4,"r"]]', '[[1,101,"r"]]'):
        assert coverage.load_bookmarks(text, Window(start=0, end=100)) == ()


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(41, 90), st.text(max_size=20)), max_size=4))
def test_bookmarks_survive_their_text(marks: list[tuple[int, int, str]]) -> None:
    bookmarks = tuple(Bookmark(Window(start=a, end=b), text) for a, b, text in marks)
    assert coverage.load_bookmarks(coverage.dump_bookmarks(bookmarks), Window(start=0, end=100)) == bookmarks


def test_a_bookmark_of_what_is_no_longer_wanted_is_dropped() -> None:
    text = coverage.dump_bookmarks([Bookmark(Window(start=10, end=50), "r")])
    assert coverage.load_bookmarks(text, Window(start=11, end=100)) == ()
    assert len(coverage.load_bookmarks(text, Window(start=10, end=100))) == 1


sources = st.sampled_from(["ibkr_live", "ibkr_flex_activity", "ibkr_flex_confirm"])
mixed = st.lists(
    st.tuples(sources, st.integers(0, 60), st.integers(0, 60)).map(
        lambda one: Interval(source=one[0], start=min(one[1:]), end=max(one[1:]))
    ),
    max_size=8,
)


@given(mixed, st.none() | st.integers(0, 60), st.integers(0, 60))
def test_lost_is_what_no_source_covers_before_the_horizon_oldest_first(
    ranges: list[Interval], floor: int | None, horizon: int
) -> None:
    found = coverage.lost(ranges, floor=floor, horizon=horizon)
    covered = set().union(*(instants(i.start, i.end) for i in ranges))
    begins = floor if floor is not None else min((t - 1 for t in covered), default=horizon)
    assert set().union(*(instants(w.start, w.end) for w in found)) == instants(begins, horizon) - covered
    assert all(w.start < w.end for w in found)
    assert all(left.end < right.start for left, right in pairwise(found))


DAY = 24 * HOUR


def live(start: int, end: int) -> Interval:
    return Interval(source="ibkr_live", start=start, end=end)


def flex(start: int, end: int) -> Interval:
    return Interval(source="ibkr_flex_activity", start=start, end=end)


@pytest.mark.parametrize(
    ("ranges", "floor", "gaps"),
    [
        pytest.param((), None, (), id="nothing was ever promised"),
        pytest.param((), 10 * DAY, ((10, 93),), id="a first import that wants more than is remembered"),
        pytest.param((), 95 * DAY, (), id="a first import that wants less"),
        pytest.param((live(50 * DAY, 99 * DAY),), None, (), id="in step"),
        pytest.param((live(50 * DAY, 91 * DAY),), None, ((91, 93),), id="nine days away, seven remembered"),
        pytest.param((live(50 * DAY, 94 * DAY),), None, (), id="six days away"),
        pytest.param((live(50 * DAY, 80 * DAY), live(85 * DAY, 90 * DAY)), None, ((80, 85), (90, 93)), id="two holes"),
        pytest.param((live(50 * DAY, 80 * DAY), flex(79 * DAY, 96 * DAY)), None, (), id="filled by the other source"),
        pytest.param((live(50 * DAY, 80 * DAY), flex(60 * DAY, 91 * DAY)), None, ((91, 93),), id="filled in part"),
        pytest.param((live(50 * DAY, 80 * DAY),), 90 * DAY, ((90, 93),), id="only what the owner wants"),
        pytest.param((live(95 * DAY, 99 * DAY),), None, (), id="all within memory"),
        pytest.param((live(95 * DAY, 99 * DAY),), 90 * DAY, ((90, 93),), id="wanted earlier than it began"),
    ],
)
def test_an_absence_longer_than_the_source_remembers_leaves_a_gap(
    ranges: tuple[Interval, ...], floor: int | None, gaps: tuple[tuple[int, int], ...]
) -> None:
    """On day 100, of a source with seven days of memory."""
    expected = tuple(Window(start=start * DAY, end=end * DAY) for start, end in gaps)
    assert coverage.lost(ranges, floor=floor, horizon=93 * DAY) == expected


def test_a_source_remembers_for_ever_unless_it_says_otherwise() -> None:
    assert WINDOWING.memory is None
