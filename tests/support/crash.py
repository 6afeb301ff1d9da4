"""A worker that dies at a numbered call (fault E2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.world import World


class Killed(BaseException):
    """The process is gone. No Exception, so nothing of the worker's own handles it: like a SIGKILL, it leaves the
    lease behind.
    """


class CrashPoint:
    """Counts the calls to broker and Convex, and dies before or after the n-th."""

    def __init__(self, here: World, number: int, *, after: bool) -> None:
        self.calls = 0
        self._number = number
        self._after = after
        here.kraken.handle = self._around(here.kraken.handle)  # type: ignore[method-assign]
        here.store._call = self._around(here.store._call)  # type: ignore[method-assign]

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            mine = self.calls == self._number
            if mine and not self._after:
                raise Killed
            result = call(*args, **kwargs)
            if mine:
                raise Killed
            return result

        return counted
