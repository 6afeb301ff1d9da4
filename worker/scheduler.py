"""Timers, requests and signals become "run what is due" on a thread pool.

Due times live in Convex (`nextSyncAt`, `requestedAt`), so they survive restarts and hold for several workers: the
scheduler only decides when to ask for a lease, Convex decides whether it is granted. It learns what is due from
the watch, from a wake of the Sync now endpoint, and from a slow poll that covers both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

import schedule

from worker import __version__, log, metrics
from worker.clock import Clock
from worker.errors import ConvexRefused, ConvexUnavailable, Stopped
from worker.models import DueConnection, JobMode, Refusal
from worker.store import Store
from worker.sync import Report, Syncer

_LOG = log.get(__name__)

BEAT_SECONDS: Final = 30
"""`rules/health.ts` calls a worker offline after four missed ones."""
AWAY_SECONDS: Final = 5.0
"""How often Convex is asked while it is away, so that work goes on soon after its return (fault D1)."""
REFUSED_SECONDS: Final = 5.0
"""How long a refused connection is left alone: the worker's clock may be seconds ahead of Convex's."""
GRACE_SECONDS: Final = 6.0
"""How long running jobs may take to finish their page after SIGTERM; containers are killed after ten."""
ABANDON_SECONDS: Final = 1.5
CLOCK_STEP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the worker can do its work, and in a few words why not."""

    ready: bool
    reason: str


class Scheduler:
    """Runs until stopped; `update` and `wake` may be called from any thread."""

    def __init__(
        self,
        store: Store,
        syncer: Syncer,
        clock: Clock,
        *,
        stop: threading.Event,
        pool_size: int = 4,
        poll_seconds: float = 30,
        watch_alive: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._syncer = syncer
        self._clock = clock
        self._stop = stop
        self._poll_seconds = poll_seconds
        self._watch_alive = watch_alive
        self._pool = ThreadPoolExecutor(pool_size, thread_name_prefix="sync")
        self._changed = threading.Condition()
        self._connections: dict[str, DueConnection] = {}
        self._running: dict[str, Future[Report]] = {}
        self._not_before: dict[str, float] = {}
        self._backfilling: set[str] = set()
        self._nudged: set[str] = set()
        self._freed: set[str] = set()
        self._poll_now = True
        self._news = 0
        self._convex_away = False
        self._asking_convex = False
        self._last_poll: float | None = None
        self._started_at = clock.now()
        self.gave_up = False
        """After `run`: a job did not end in time and was ended for its thread."""

    def update(self, connections: Sequence[DueConnection]) -> None:
        """Take over what Convex says is there now; the watch calls this."""
        with self._changed:
            self._news += 1
            if self._convex_away:
                self._poll_now = True
            fresh = {connection.connection_id: connection for connection in connections}
            for connection_id, connection in fresh.items():
                if self._connections.get(connection_id) != connection:
                    self._not_before.pop(connection_id, None)
            self._connections = fresh
            metrics.keep_connections(fresh.keys())
            self._changed.notify_all()

    def wake(self, connection_id: str | None) -> None:
        """Look at once: somebody pressed Sync now. Whether there is a request, Convex knows."""
        with self._changed:
            if connection_id is None or connection_id not in self._connections:
                self._poll_now = True
            else:
                self._nudged.add(connection_id)
            self._changed.notify_all()

    def hasten(self, connection_ids: Collection[str]) -> None:
        """Sync these although they are not due: what blocked them is over."""
        with self._changed:
            self._freed.update(connection_ids)
            self._changed.notify_all()

    def readiness(self) -> Readiness:
        """Ready while Convex answered within the last three polls."""
        last = self._store.last_answer
        if last is None:
            return Readiness(ready=False, reason="Convex has not answered yet")
        silence = self._clock.monotonic() - last
        if self._convex_away or silence > max(3 * self._poll_seconds, 3 * BEAT_SECONDS):
            return Readiness(ready=False, reason="Convex does not answer")
        return Readiness(ready=True, reason="ok")

    def run(self) -> None:
        """Run what is due until `stop` is set, then let running jobs finish their page and free their leases."""
        timetable = self._timetable()
        step = _StepDetector(self._clock)
        try:
            while not self._stop.is_set():
                if step.stepped():
                    # `schedule` counts wall time; after a step of the clock its next runs would be hours off (C12).
                    timetable = self._timetable()
                timetable.run_pending()
                if self._poll_now:
                    self._poll()
                self._dispatch()
                with self._changed:
                    if not (self._nudged or self._freed or self._poll_now or self._stop.is_set()):
                        self._changed.wait(timeout=min(1.0, self._idle_seconds()))
        finally:
            self._drain()

    def interrupt(self) -> None:
        """Called by a signal handler on the thread of `run`: a call to Convex under way is given up at once.

        Convex may have accepted the connection and never answer; the process has ten seconds to leave.
        """
        if self._asking_convex:
            raise Stopped

    def run_once(self, *, everything: bool = False, only: str | None = None) -> Iterator[Report]:
        """Run what is due, or `everything`, or one connection, until it is read; yields each report as it comes.

        Raises ConvexUnavailable or ConvexRefused before the first report.
        """
        self._store.beat(__version__, self._started_at)
        self.update(self._store.watch())
        now = self._clock.now()
        chosen = [
            connection
            for connection in self.connections
            if connection.connection_id == only
            or (only is None and (everything or is_due(connection, now) or heals(connection)))
        ]
        mode: JobMode = "manual" if everything or only else "scheduled"
        with self._pool:
            jobs = {self._submit(connection, mode): connection for connection in chosen}
            while jobs:
                done, _ = wait(jobs, return_when=FIRST_COMPLETED)
                for job in done:
                    connection, report = jobs.pop(job), job.result()
                    yield report
                    if report.unfinished and not self._stop.is_set():
                        jobs[self._submit(connection, "backfill")] = connection

    def _submit(self, connection: DueConnection, mode: JobMode) -> Future[Report]:
        return self._pool.submit(
            self._syncer.run,
            connection.connection_id,
            mode,
            label=connection.label or "",
            early=heals(connection),
        )

    @property
    def connections(self) -> list[DueConnection]:
        """What Convex said last."""
        with self._changed:
            return list(self._connections.values())

    def _timetable(self) -> schedule.Scheduler:
        timetable = schedule.Scheduler()
        timetable.every(BEAT_SECONDS).seconds.do(self._beat)
        timetable.every(max(1, round(self._poll_seconds))).seconds.do(self._poll_if_blind)
        timetable.every(round(AWAY_SECONDS)).seconds.do(self._poll_if_away)
        self._beat()
        return timetable

    def _idle_seconds(self) -> float:
        now = self._clock.now()
        due = [c.next_sync_at - now for c in self._connections.values() if c.connection_id not in self._running]
        return max(0.05, min([ms / 1000 for ms in due if ms > 0], default=1.0))

    def _beat(self) -> None:
        self._tell_convex(lambda: self._store.beat(__version__, self._started_at))

    def _poll_if_blind(self) -> None:
        # A live watch tells everything at once; a poll every tenth turn covers one that hangs silently.
        silence = self._clock.monotonic() - (self._last_poll or -1e9)
        blind = self._convex_away or not self._watch_alive()
        if silence >= (self._poll_seconds if blind else 10 * self._poll_seconds):
            self._poll()

    def _poll_if_away(self) -> None:
        if self._convex_away:
            self._poll()

    def _poll(self) -> None:
        self._last_poll = self._clock.monotonic()
        self._poll_now = False
        self._tell_convex(self._look)

    def _look(self) -> None:
        before = self._news
        connections = self._store.watch()
        with self._changed:
            # What the watch told while the answer travelled is newer than the answer, and is not told again.
            if self._news == before:
                self.update(connections)

    def _tell_convex(self, call: Callable[[], None]) -> None:
        """Call, and log only the edge: away once, back once."""
        if self._stop.is_set():
            return
        try:
            self._asking_convex = True
            try:
                call()
            finally:
                self._asking_convex = False
        except (ConvexUnavailable, ConvexRefused) as error:
            if not self._convex_away:
                _LOG.warning("convex.away", error=str(error))
            self._convex_away = True
            self._poll_now = False
        except Stopped:
            return
        else:
            if self._convex_away:
                _LOG.info("convex.back")
                self._poll_now = True
            self._convex_away = False

    def _dispatch(self) -> None:
        with self._changed:
            now = self._clock.monotonic()
            for connection_id, job in list(self._running.items()):
                if job.done():
                    del self._running[connection_id]
            for connection in self._connections.values():
                connection_id = connection.connection_id
                freed = connection_id in self._freed
                nudged = connection_id in self._nudged or freed
                if connection_id in self._running or not (nudged or is_due(connection, self._clock.now())):
                    continue
                if not nudged and self._not_before.get(connection_id, 0.0) > now:
                    continue
                # Until Convex shows a change, this row is not asked for again before the next poll.
                self._not_before[connection_id] = now + self._poll_seconds
                mode: JobMode = "backfill" if connection_id in self._backfilling else "scheduled"
                self._running[connection_id] = self._pool.submit(
                    self._run, connection_id, mode, connection.label, freed
                )
            # A nudge for a running job is dropped: the request is recorded, and the job's end either serves it or
            # leaves it for the next look at Convex.
            self._nudged.clear()
            self._freed.clear()

    def _run(self, connection_id: str, mode: JobMode, label: str | None, early: bool) -> Report:
        report = self._syncer.run(connection_id, mode, label=label or "", early=early)
        with self._changed:
            if report.unfinished:
                self._backfilling.add(connection_id)
            else:
                self._backfilling.discard(connection_id)
            if isinstance(report.outcome, Refusal):
                self._not_before[connection_id] = self._clock.monotonic() + REFUSED_SECONDS
            elif not self._watch_alive():
                self._poll_now = True
            self._changed.notify_all()
        return report

    def _drain(self) -> None:
        running = [job for job in self._running.values() if not job.done()]
        self._pool.shutdown(wait=False, cancel_futures=True)
        deadline = self._clock.monotonic() + GRACE_SECONDS
        for job in running:
            try:
                job.exception(timeout=max(0.0, deadline - self._clock.monotonic()))
            except TimeoutError:
                _LOG.warning("scheduler.gave_up_waiting")
                self.gave_up = True
                # Convex may be what the job waits for, so this too may not take long. The lease ends by itself.
                abandoning = threading.Thread(target=self._syncer.abandon, daemon=True)
                abandoning.start()
                abandoning.join(ABANDON_SECONDS)
                return
            except BaseException:  # noqa: BLE001, S112 - a cancelled future; nothing ran, nothing is held
                continue


def is_due(connection: DueConnection, now: int) -> bool:
    """Pure: whether a lease of this connection is worth asking for. Convex has the last word."""
    if connection.status == "disconnected":
        return False
    if connection.lease_expires_at is not None and connection.lease_expires_at > now:
        return False
    if connection.requested_at is not None:
        return True
    return connection.status != "needs_reauth" and connection.next_sync_at <= now


def heals(connection: DueConnection) -> bool:
    """Pure: whether what blocks the connection may have ended without anybody telling Convex: a login at a gateway."""
    return connection.status == "needs_reauth" and connection.kind in ("ibkr_gateway", "ibkr_oauth")


class _StepDetector:
    """Notices when wall time and monotonic time part company."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._difference = self._measure()

    def _measure(self) -> float:
        return self._clock.now() / 1000 - self._clock.monotonic()

    def stepped(self) -> bool:
        difference = self._measure()
        moved = abs(difference - self._difference) > CLOCK_STEP_SECONDS
        self._difference = difference
        return moved
