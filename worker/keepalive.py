"""Between jobs: sessions stay up, and a login made by a person is noticed without a click.

A thread of its own, because a gateway that does not answer may take half a minute to be given up on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from worker import log
from worker.clock import Clock
from worker.errors import Stopped
from worker.models import DueConnection

_LOG = log.get(__name__)

TURN_SECONDS: Final = 5.0
"""How often is looked whether a call is due; the calls themselves are about a minute apart."""


class Tended(Protocol):
    """A broker whose sessions need somebody between jobs."""

    def tend(self, connections: Sequence[DueConnection]) -> frozenset[str]:
        """One turn; returns the connections whose obstacle is gone."""
        ...


class Keepalive:
    """Runs from `start` until `stop` is set. `hasten` is told of connections that can be synced again."""

    def __init__(
        self,
        tended: Tended,
        connections: Callable[[], Sequence[DueConnection]],
        hasten: Callable[[Collection[str]], None],
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._tended = tended
        self._connections = connections
        self._hasten = hasten
        self._clock = clock
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name="keepalive", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def turn(self) -> None:
        """Look once; whatever goes wrong, the next turn comes."""
        try:
            free = self._tended.tend(self._connections())
        except Stopped:
            return
        except Exception:  # noqa: BLE001 - a bug here must not leave sessions to die from now on (fault C6)
            _LOG.exception("keepalive.bug")
            return
        if free:
            self._hasten(free)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.turn()
            try:
                self._clock.sleep(TURN_SECONDS)
            except Stopped:
                return
