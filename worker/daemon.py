"""Builds the worker from its settings, and keeps it running until a signal.

The only place where objects are made; everything else is handed what it needs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from worker import __version__, log
from worker.api import ApiServer
from worker.brokers import Broker, broker_table
from worker.clock import SystemClock
from worker.errors import UnusableFile
from worker.http import Http
from worker.identity import Identity
from worker.keepalive import Keepalive
from worker.models import ConnectionKind, DueConnection
from worker.normalize.flex_time import verify_zone_database
from worker.replay import Reread, Unpacked, compare_reports, unpack_reports
from worker.scheduler import Scheduler
from worker.sessions.flex_files import WINDOWING as FILES
from worker.sessions.flex_files import Open, open_files
from worker.sessions.ibkr import Ibkr
from worker.sessions.ibkr_flex import IbkrFlex
from worker.sessions.kraken import Kraken
from worker.settings import Settings
from worker.store import Store
from worker.sync import Report, Syncer
from worker.watch import Watch

_LOG = log.get(__name__)


class Worker:
    """Everything one worker process needs, wired together."""

    def __init__(self, settings: Settings) -> None:
        verify_zone_database()
        self.stop = threading.Event()
        self.clock = SystemClock(stop=self.stop)
        identity = Identity(settings.private_key_pem, self.clock)
        # The store counts calls by function; the transport need not count them again.
        http = Http(settings.convex_url, self.clock, kind="convex", count=lambda _kind, _outcome: None)
        store = Store(http, settings.convex_url, identity, self.clock, settings.worker_id)
        ibkr = Ibkr(
            self.clock,
            worker_id=settings.worker_id,
            gateways=settings.ibkr_gateways,
            oauth_url=settings.ibkr_oauth_url,
            oauth_keys=settings.ibkr_oauth_keys,
        )
        self._store = store
        self._syncer = Syncer(
            store,
            broker_table(
                Kraken(self.clock, settings.kraken_base_url), ibkr, IbkrFlex(self.clock, settings.ibkr_flex_url)
            ),
            self.clock,
            stop=self.stop,
            job_seconds=settings.job_seconds,
        )
        self.watch = Watch(settings.convex_url, identity, self.clock, self._changed, self.stop)
        self.scheduler = Scheduler(
            store,
            self._syncer,
            self.clock,
            stop=self.stop,
            pool_size=settings.pool_size,
            poll_seconds=settings.poll_seconds,
            watch_alive=self.watch.alive,
        )
        self.keepalive = Keepalive(
            ibkr, lambda: self.scheduler.connections, self.scheduler.hasten, self.clock, self.stop
        )
        self.api = ApiServer(
            settings.api_host,
            settings.api_port or 0,
            secret=settings.secret,
            wake=self.scheduler.wake,
            ready=self.scheduler.readiness,
            clock=self.clock,
        )

    def import_flex(self, connection_id: str, paths: Sequence[Path], open_file: Open) -> Report:
        """Import Flex statements from files into a connection to Interactive Brokers.

        Raises UnusableFile when there is no such connection; ConvexUnavailable or ConvexRefused when nobody answers.
        """
        kind = self._kind_of(connection_id)
        if kind == "kraken":
            raise UnusableFile(f"{connection_id} is a connection to Kraken; a Flex statement is Interactive Brokers'")
        return self._read_files(kind, paths, open_file).run_files(connection_id)

    def sync_flex(self, connection_id: str) -> Report:
        """Sync a connection that imports from Flex reports. Raises UnusableFile for any other."""
        if self._kind_of(connection_id) != "ibkr_flex":
            raise UnusableFile(f"{connection_id} has no Flex query; name a connection of kind ibkr_flex")
        return self._syncer.run(connection_id, "manual")

    def unpack_reports(self, job_id: str, directory: Path) -> Unpacked:
        """The kept reports of a job as files. Raises UnusableFile where there is none."""
        return unpack_reports(self._store, job_id, directory)

    def compare_reports(self, unpacked: Unpacked) -> Iterator[Reread]:
        """What storing the rows of a job's reports again would change."""
        return compare_reports(self._store, unpacked)

    def replay(self, unpacked: Unpacked) -> Report:
        """Store the rows of a job's reports again, as this version reads them."""
        syncer = self._read_files(unpacked.kept.kind, unpacked.paths, lambda path: path.open("rb"), afresh=True)
        return syncer.run_files(unpacked.kept.connection_id, replays=unpacked.job_id)

    def _kind_of(self, connection_id: str) -> ConnectionKind:
        for connection in self._store.watch():
            if connection.connection_id == connection_id:
                return connection.kind
        raise UnusableFile(f"there is no connection {connection_id}; see `connections.list`")

    def _read_files(
        self, kind: ConnectionKind, paths: Sequence[Path], open_file: Open, *, afresh: bool = False
    ) -> Syncer:
        broker = Broker(FILES, open_files(paths, open_file=open_file, afresh=afresh))
        return Syncer(self._store, {kind: broker}, self.clock, stop=self.stop)

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT let running jobs finish their page and free their leases."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self.stop.set()
            self.scheduler.interrupt()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    def _changed(self, connections: list[DueConnection]) -> None:
        self.scheduler.update(connections)


def run(settings: Settings) -> int:
    """Stay until SIGTERM or SIGINT; returns the exit status."""
    worker = Worker(settings)
    worker.stop_on_signals()
    port = worker.api.start() if settings.api_port is not None else None
    if settings.watch:
        worker.watch.start()
    worker.keepalive.start()
    _LOG.info("worker.started", version=__version__, worker=settings.worker_id, convex=settings.convex_url, port=port)
    try:
        worker.scheduler.run()
    finally:
        worker.stop.set()
        worker.api.stop()
        if settings.watch:
            worker.watch.join()
        _LOG.info("worker.stopped")
    if worker.scheduler.gave_up:
        # A thread still waits for a broker's answer. Its job was ended for it and its lease is free; the
        # interpreter would wait for the thread, the container's ten seconds would not.
        sys.stderr.flush()
        os._exit(0)
    return 0
