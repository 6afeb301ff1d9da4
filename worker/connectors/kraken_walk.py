"""Pure: how far a paged read of TradesHistory is, and when it is proven complete.

Kraken lists a window newest first, fifty rows a page, addressed by position (`ofs`). The window is frozen, so
positions stay put unless a late row is booked into it; then every row behind it moves down by one, and a
bookmark would skip nothing but could miss the newcomer. The rules of reference kraken 1.5 step 4 notice that:

- complete: a page is short and as many different trades were seen as `count` says;
- without a `count`: complete at an empty page;
- `count` changed, or a trade came twice, while walking: the list moved; walk once more from the start;
- fewer trades than `count` at the end: walk once more; still fewer: incomplete, the window is not covered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any, Literal

from worker.models import Window

PAGE = 50
CUT_PAGES = 64
PAGE_CAP = 10_000
"""Half a million trades in one window: whoever gets there is being led around in circles."""

Step = Literal["more", "again", "complete", "incomplete", "endless"]


@dataclass(frozen=True, slots=True)
class Row:
    """What paging needs of a trade: its id and its time, None when that cannot be read."""

    txid: str
    time: Decimal | None

    @property
    def second(self) -> int | None:
        """The first whole second not before the trade."""
        return None if self.time is None else int(self.time.to_integral_value(ROUND_CEILING))


@dataclass(slots=True)
class Walk:
    """One pass over a frozen window.

    `earlier` counts different trades read before a restart of the process, none of them older than
    `earlier_oldest`; their ids are gone, which is why it is a number.
    """

    window: Window
    cut_every: int = CUT_PAGES * PAGE
    ofs: int = 0
    count: int | None = None
    rewalked: bool = False
    earlier: int = 0
    earlier_oldest: int | None = None
    newest_first: bool = True
    before: int = 0
    """Trades in newer parts of the first window, cut off and drained already."""
    _seconds: dict[str, int | None] = field(default_factory=dict)
    _oldest: Decimal | None = None
    _idle_pages: int = 0
    _next_cut: int = 0

    def __post_init__(self) -> None:
        self._next_cut = (self.ofs // self.cut_every + 1) * self.cut_every

    @classmethod
    def resumed(cls, token: str | None, window: Window, cut_every: int = CUT_PAGES * PAGE) -> Walk:
        """The walk that `token` describes, or a new one when the token is of another window or unreadable."""
        try:
            noted = json.loads(token or "null")
            if noted is None or (noted["start"], noted["end"]) != (window.start, window.end):
                return cls(window, cut_every)
            return cls(
                window,
                cut_every,
                ofs=int(noted["ofs"]),
                count=noted["count"],
                rewalked=bool(noted["rewalked"]),
                earlier=int(noted["seen"]),
                earlier_oldest=noted["oldest"],
                newest_first=bool(noted["newestFirst"]),
                before=int(noted["before"]),
            )
        except (ValueError, KeyError, TypeError):
            return cls(window, cut_every)

    def token(self) -> str:
        """Where to go on after a crash, for the same window."""
        return json.dumps(
            {
                "start": self.window.start,
                "end": self.window.end,
                "ofs": self.ofs,
                "seen": self.seen,
                "count": self.count,
                "oldest": self.oldest_second,
                "rewalked": self.rewalked,
                "newestFirst": self.newest_first,
                "before": self.before,
            },
            separators=(",", ":"),
        )

    @property
    def seen(self) -> int:
        """Different trades read so far."""
        return self.earlier + len(self._seconds)

    @property
    def total(self) -> int | None:
        return None if self.count is None else self.before + self.count

    @property
    def oldest_second(self) -> int | None:
        if self._oldest is None:
            return self.earlier_oldest
        return int(self._oldest.to_integral_value(ROUND_CEILING))

    def take(self, rows: Sequence[Row], count: int | None) -> Step:
        """Note a page and say what follows from it."""
        moved = self.ofs > 0 and None not in (count, self.count) and count != self.count
        moved = moved or any(row.txid in self._seconds for row in rows)
        had = len(self._seconds)
        self._note(rows)
        self.ofs += len(rows)
        self.count = self.count if count is None else count
        if moved and not self.rewalked:
            return "again"
        if not rows or (len(rows) < PAGE and self.count is not None):
            if self.count is None or self.seen >= self.count:
                return "complete"
            if not rows:
                return "incomplete" if self.rewalked else "again"
        self._idle_pages = self._idle_pages + 1 if len(self._seconds) == had else 0
        if self._idle_pages >= 3 or self.ofs >= PAGE_CAP * PAGE:
            return "endless"
        return "more"

    def restarted(self) -> Walk:
        """The second and last pass over the same window."""
        return Walk(self.window, self.cut_every, rewalked=True, before=self.before)

    def rest_if_cut(self) -> Walk | None:
        """The older part of a long window, from the second in which reading has arrived; None when not due.

        Long windows are cut while they are read, so that coverage grows during a first import and positions
        stay small. All rows after that second are read, because the list is newest first; `proves` checks it
        by the counts.
        """
        if self.ofs < self._next_cut:
            return None
        self._next_cut = self.ofs + self.cut_every
        edge = self.oldest_second
        if edge is None or self.count is None or not self.newest_first:
            return None
        if not self.window.start < edge * 1000 < self.window.end:
            return None
        if self.earlier and (self.earlier_oldest is None or self.earlier_oldest <= edge):
            return None
        return Walk(Window(start=self.window.start, end=edge * 1000), self.cut_every)

    def proves(self, rest: Walk, rest_count: int | None) -> bool:
        """Whether the rows read after the edge, and those Kraken counts up to it, are all there are."""
        return rest_count is not None and self._after(rest) + rest_count == self.count

    def cut(self, rest: Walk) -> Walk:
        """`rest`, knowing how much was cut off."""
        return replace(rest, before=self.before + self._after(rest))

    def _after(self, rest: Walk) -> int:
        edge = rest.window.end // 1000
        return self.earlier + sum(second is not None and second > edge for second in self._seconds.values())

    def _note(self, rows: Sequence[Row]) -> None:
        times = [row.time for row in rows if row.time is not None]
        if len(times) < len(rows) or (times and self._oldest is not None and max(times) > self._oldest):
            self.newest_first = False
        if times:
            self._oldest = min(times) if self._oldest is None else min(self._oldest, *times)
        self._seconds.update((row.txid, row.second) for row in rows)


def count_of(value: Any) -> int | None:
    """Kraken's `count`, which is a number or, in old answers, a string."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return None
