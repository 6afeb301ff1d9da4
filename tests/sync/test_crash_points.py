"""The worker dies at every numbered point of a job (fault E2): before and after each call it makes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.crash import CrashPoint, Killed
from tests.support.world import World
from worker.models import JobOutcome

MakeWorld = Callable[..., World]
TRADES = 230
"""Five pages; with two pages a cut (`cut_pages`), the history is drained in several windows."""


def uncrash(here: World) -> None:
    del here.kraken.handle
    here.expire_leases()
    here.restart()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_E2_death_at_any_call_costs_nothing(world: MakeWorld, after: bool) -> None:
    number = 0
    while True:
        number += 1
        here = world(trades=TRADES, seed="E2", cut_pages=2)
        point = CrashPoint(here, number, after=after)
        try:
            here.sync()
        except Killed:
            uncrash(here)
        else:
            break
        report = here.sync()
        assert report.outcome == JobOutcome(status="succeeded"), number
        here.assert_exact()
        assert_no_window_restarted(here)
        assert [job["status"] for job in here.jobs() if job["status"] == "running"] == []
    assert number > 15, "a job of this history makes more calls than that"
    assert point.calls == number - 1
    assert len({call.params["end"] for call in here.kraken.audit.calls if call.params.get("ofs") == "0"}) >= 3, "no cut"


@pytest.mark.timeout(240)
def test_E2_death_at_every_single_call_in_turn_still_arrives(world: MakeWorld) -> None:
    """A life is eleven calls: claim, status, key, newest page, a page, four lists of pairs, ingest, and one more."""
    here = world(trades=TRADES, seed="E2 in turn", cut_pages=2)
    for _ in range(60):
        CrashPoint(here, 11, after=True)
        try:
            report = here.sync()
        except Killed:
            uncrash(here)
        else:
            assert report.outcome == JobOutcome(status="succeeded")
            break
    else:
        pytest.fail("sixty lives did not get through a history of five pages")
    del here.kraken.handle
    here.assert_exact()
    assert_no_window_restarted(here)


def assert_no_window_restarted(here: World) -> None:
    """After its second page was asked for, a window is never asked for from position 0 again."""
    begun: set[tuple[str, str]] = set()
    for call in here.kraken.audit.calls:
        if call.path.endswith("TradesHistory"):
            window = (call.params.get("start", ""), call.params["end"])
            if int(call.params["ofs"]) > 0:
                begun.add(window)
            else:
                assert window not in begun
