"""Builds the worker from its settings, and keeps it running until a signal.

The only place where objects are made; everything else is handed what it needs.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Final

from worker import __version__, log
from worker.api import ApiServer
from worker.brokers import broker_table
from worker.clock import SystemClock
from worker.http import Http
from worker.identity import Identity
from worker.scheduler import Scheduler
from worker.settings import Settings
from worker.store import Store
from worker.sync import Syncer
from worker.watch import Watch

_LOG = log.get(__name__)

CONVEX_DEADLINE: Final = 30.0


class Worker:
    """One worker: store, syncer, scheduler and, for one that stays, watch and API."""

    def __init__(self, settings: Settings) -> None:
        self.stop = threading.Event()
        self.clock = SystemClock(stop=self.stop)
        self.identity = Identity(settings.private_key_pem, self.clock)
        http = Http(
            settings.convex_url,
            self.clock,
            kind="convex",
            deadline=CONVEX_DEADLINE,
            count=lambda _kind, _outcome: None,  # the store counts calls by function instead
        )
        self.store = Store(http, settings.convex_url, self.identity, self.clock, settings.worker_id)
        syncer = Syncer(
            self.store,
            broker_table(settings, self.clock),
            self.clock,
            stop=self.stop,
            job_seconds=settings.job_seconds,
        )
        self.scheduler = Scheduler(
            self.store,
            syncer,
            self.clock,
            stop=self.stop,
            pool_size=settings.pool_size,
            poll_seconds=settings.poll_seconds,
        )
