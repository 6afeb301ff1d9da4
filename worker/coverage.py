"""Pure: interval algebra. Coverage is the cursor: closed time ranges proven complete, per source.

Every range here is `(start, end]` in epoch milliseconds. Reading what is not covered, newest first, is at
once incremental sync, backfill and repair of gaps; a margin before the covered edge is read again because
brokers book late and correct (reference kraken 0 fact 4, 1.5 step 7).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from worker.models import Interval, Source, Window


@dataclass(frozen=True, slots=True)
class Windowing:
    """How one source is read; times in milliseconds.

    `overlap` is re-read before the covered edge at every sync, `deep_overlap` once in `deep_every`. A range
    counts as settled, and may become coverage, once it is `settle` old: rows can appear that late. `memory` is how
    far back the source can be read at all, `depth` how far back a first import reads where its owner names no start;
    None is for ever.
    """

    source: Source
    overlap: int
    deep_overlap: int
    deep_every: int
    settle: int
    memory: int | None = None
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A window that was read in part, and the connector's note of where to go on."""

    window: Window
    resume: str


def dump_bookmarks(bookmarks: Iterable[Bookmark]) -> str:
    """Bookmarks as text for the lease's extras."""
    return json.dumps([[b.window.start, b.window.end, b.resume] for b in bookmarks])


def load_bookmarks(text: str | None, within: Window) -> tuple[Bookmark, ...]:
    """The bookmarks in `text` whose windows lie `within` what is read at all.

    One that cannot be read, ends in the future or begins before the owner's import start is dropped: that costs a
    re-read.
    """
    try:
        return tuple(
            Bookmark(Window(start=int(start), end=int(end)), str(resume))
            for start, end, resume in json.loads(text or "[]")
            if within.start <= int(start) < int(end) <= within.end
        )
    except (ValueError, TypeError):
        return ()


def merge(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """The same ranges, sorted by source and time, touching and overlapping ones made one."""
    merged: list[Interval] = []
    for interval in sorted(intervals, key=lambda i: (i.source, i.start, i.end)):
        if interval.end <= interval.start:
            continue
        last = merged[-1] if merged else None
        if last and last.source == interval.source and interval.start <= last.end:
            merged[-1] = Interval(source=last.source, start=last.start, end=max(last.end, interval.end))
        else:
            merged.append(interval)
    return tuple(merged)


def add(coverage: Iterable[Interval], source: Source, window: Window) -> tuple[Interval, ...]:
    """Coverage after `window` of `source` was drained."""
    return merge((*coverage, Interval(source=source, start=window.start, end=window.end)))


def trusted(coverage: Iterable[Interval], now: int) -> tuple[Interval, ...]:
    """What of a stored coverage can be believed at the broker's time `now`.

    A range that ends in the future proves nothing about the time until then (fault D10: a stored state from
    the future must import nothing wrong), so it is cut at `now`.
    """
    return merge(
        Interval(source=i.source, start=i.start, end=min(i.end, now)) for i in coverage if i.start < min(i.end, now)
    )


def gaps(coverage: Iterable[Interval], source: Source, within: Window) -> tuple[Window, ...]:
    """The parts of `within` that `source` has not covered, newest first."""
    found: list[Window] = []
    edge = within.end
    for interval in reversed([i for i in merge(coverage) if i.source == source]):
        if interval.start >= edge:
            continue
        if interval.end < edge and interval.end >= within.start:
            found.append(Window(start=max(interval.end, within.start), end=edge))
        elif interval.end < within.start:
            break
        edge = min(edge, interval.start)
        if edge <= within.start:
            return tuple(found)
    if edge > within.start:
        found.append(Window(start=within.start, end=edge))
    return tuple(found)


def lost(coverage: Iterable[Interval], *, floor: int | None, horizon: int) -> tuple[Window, ...]:
    """What a source that remembers nothing before `horizon` can no longer prove: the gaps until then, oldest first.

    Sources complete each other, so a gap is what none of them covers. It counts from `floor`, the owner's import
    start; without one from where the coverage begins, because nothing before that was ever promised.
    """
    spans = sorted((i.start, i.end) for i in coverage if i.start < i.end)
    edge = floor if floor is not None else spans[0][0] if spans else horizon
    found: list[Window] = []
    for start, end in (*spans, (horizon, horizon)):
        if edge < min(start, horizon):
            found.append(Window(start=edge, end=min(start, horizon)))
        edge = max(edge, end)
    return tuple(found)


def newest_window(
    coverage: Iterable[Interval],
    windowing: Windowing,
    *,
    floor: int,
    now: int,
    deep: bool,
    bookmarks: Iterable[Bookmark] = (),
) -> Window:
    """The window every job reads first: from a margin before the covered edge up to the broker's now.

    A first import has no edge yet. It gets a short newest window, so that today's trades show at once; the
    history before it is a gap that `older_windows` yields, frozen at a settled end so that nothing shifts
    while it is paged.
    """
    edges = [i.end for i in coverage if i.source == windowing.source and i.end <= now]
    edges += [bookmark.window.end for bookmark in bookmarks]
    edge = max(edges, default=now - windowing.settle)
    margin = windowing.deep_overlap if deep and edges else windowing.overlap
    return Window(start=min(max(floor, edge - margin), now), end=now)


def older_windows(
    coverage: Iterable[Interval],
    windowing: Windowing,
    *,
    floor: int,
    before: int,
    bookmarks: Iterable[Bookmark] = (),
) -> tuple[tuple[Window, str | None], ...]:
    """The uncovered windows of `(floor, before]`, newest first, each with where to resume it.

    Bookmarked windows stay whole, because their bookmark counts from their own end.
    """
    marked = {(b.window.start, b.window.end): b for b in bookmarks}
    taken = merge(
        (
            *coverage,
            *(Interval(source=windowing.source, start=start, end=end) for start, end in marked),
        )
    )
    windows: list[tuple[Window, str | None]] = [(b.window, b.resume) for b in marked.values()]
    if before > floor:
        windows += [(gap, None) for gap in gaps(taken, windowing.source, Window(start=floor, end=before))]
    return tuple(sorted(windows, key=lambda item: item[0].end, reverse=True))


def settled(window: Window, windowing: Windowing, now: int) -> Window | None:
    """How far a drained window carries: not into the time in which rows can still appear."""
    end = min(window.end, now - windowing.settle)
    return Window(start=window.start, end=end) if end > window.start else None


def complete_up_to(coverage: Iterable[Interval], source: Source) -> int | None:
    """The end of the newest covered range of `source`."""
    return max((i.end for i in coverage if i.source == source), default=None)
