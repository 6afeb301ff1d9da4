"""The Convex subscription that tells the scheduler what is due as soon as it is.

Only a quicker way to learn what the slow poll learns too; so it may fail in any way, as long as it never takes the
worker along and always tries again. The client lives in a child process (`subscription.py` says why). A new child
with a new token replaces it before the token ends: unlike `set_auth`, whose failure is silent, its first answer
proves that token, socket and server work.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from pydantic import TypeAdapter

from worker import log
from worker.clock import Clock
from worker.errors import Stopped
from worker.identity import Identity
from worker.models import DueConnection

_LOG = log.get(__name__)

FUNCTION: Final = "tradeImport/worker:watch"
FIRST_ANSWER_SECONDS: Final = 20.0
BACKOFF_SECONDS: Final = 10.0
_TICK_SECONDS: Final = 0.25

_SUBSCRIPTION = Path(__file__).with_name("subscription.py")
_ANSWER: TypeAdapter[list[DueConnection]] = TypeAdapter(list[DueConnection])


class Watch:
    """Runs on a thread of its own from `start` until `stop` is set.

    `on_change` gets the whole list each time it changes, and once after each reconnection, on that thread.
    """

    def __init__(
        self,
        url: str,
        identity: Identity,
        clock: Clock,
        on_change: Callable[[list[DueConnection]], None],
        stop: threading.Event,
    ) -> None:
        self._url = url
        self._identity = identity
        self._clock = clock
        self._on_change = on_change
        self._stop = stop
        self._alive = False
        self._last_change_at: int | None = None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def last_change_at(self) -> int | None:
        """When Convex last told anything, in epoch milliseconds."""
        return self._last_change_at

    def alive(self) -> bool:
        """Whether the present subscription has answered. It may have died unnoticed since; hence the slow poll."""
        return self._alive

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float = 5.0) -> None:
        """Wait for the end after `stop` was set; the child ends with the thread."""
        self._thread.join(timeout)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self._hold_one()
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever it was, the next child may do better
                if self._alive or failures == 0:
                    failures = 0
                    _LOG.warning("watch.lost", error=str(error) or type(error).__name__)
                failures += 1
                self._alive = False
                try:
                    self._clock.sleep(random.uniform(0.5, 1) * min(BACKOFF_SECONDS, 2.0 ** (failures - 1)))  # noqa: S311
                except Stopped:
                    return

    def _hold_one(self) -> None:
        """One child, for as long as its token is good; raises when it fails before."""
        with _child(self._url, self._identity.renew()) as answers:
            renew_at = self._clock.now() + self._identity.renew_after * 1000
            deadline: float | None = self._clock.monotonic() + FIRST_ANSWER_SECONDS
            for line in answers:
                if self._stop.is_set() or self._clock.now() >= renew_at:
                    return
                if line is not None:
                    self._take(line)
                    deadline = None
                elif deadline is not None and self._clock.monotonic() > deadline:
                    raise TimeoutError("Convex does not answer the subscription, or refuses the worker's token")
            raise ConnectionError("the subscription's process ended")

    def _take(self, line: bytes) -> None:
        answer = json.loads(line)
        if "error" in answer:
            raise ConnectionError(answer["error"])
        connections = _ANSWER.validate_python(answer["value"])
        if not self._alive:
            _LOG.info("watch.open", connections=len(connections))
        self._alive = True
        self._last_change_at = self._clock.now()
        self._on_change(connections)


@contextmanager
def _child(url: str, token: str) -> Iterator[Iterator[bytes | None]]:
    """A subscription's process and its answers; ended on leaving, which loses nothing, as it only reads."""
    # -P: this folder must not become importable as top level, where `http` would hide the standard library's.
    process = subprocess.Popen(  # noqa: S603 - our own file, run by our own interpreter
        [sys.executable, "-P", str(_SUBSCRIPTION)],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith("TRADE_SYNC_")},
    )
    stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    try:
        # Through stdin, because arguments and environment can be read by others on the machine.
        wanted = {"url": url, "token": token, "function": FUNCTION, "seconds": FIRST_ANSWER_SECONDS}
        stdin.write(json.dumps(wanted).encode() + b"\n")
        yield _lines(stdout)
    finally:
        process.kill()
        process.wait()
        stdin.close()
        stdout.close()


def _lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Each line as it comes, and None whenever a tick passes without one; ends with the stream."""
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(_TICK_SECONDS):
                yield None
                continue
            chunk = os.read(stream.fileno(), 65536)
            if not chunk:
                return
            *complete, buffer = (buffer + chunk).split(b"\n")
            yield from complete
