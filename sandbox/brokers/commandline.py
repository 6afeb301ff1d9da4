"""Starting a simulated broker as a process of its own: one JSON line, then serve until told to stop."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sandbox.brokers.serving import Broker, BrokerServer
from sandbox.clock import VirtualClock
from worker.clock import Clock, SystemClock


def parser_of(broker: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every simulated broker has."""
    parser = argparse.ArgumentParser(prog=f"python -m sandbox.brokers.{broker}", description=description)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--end", type=_moment, default=None, metavar="now|MS|ISO", help="when the history ends")
    parser.add_argument("--fill-every", type=float, metavar="SECONDS", help="let a new fill appear by itself")
    parser.add_argument("--virtual-clock", type=int, metavar="START_MS", help="time passes by POST /sandbox/clock only")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input closes")
    return parser


def clock_of(options: argparse.Namespace) -> Clock:
    """The machine's clock, or one that passes on demand."""
    return SystemClock() if options.virtual_clock is None else VirtualClock(options.virtual_clock)


def serve(
    broker: Broker, options: argparse.Namespace, describe: Callable[[BrokerServer], dict[str, Any]], *, tls: bool
) -> None:
    """Print what `describe` says of the server, with the addresses all have, and serve until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with BrokerServer(broker, options.port, tls=tls) as server:
        control = f"{server.address}/sandbox"
        common = {"oracle": f"{control}/oracle", "audit": f"{control}/audit", "control": control}
        print(json.dumps({"address": server.address, **describe(server), **common}), flush=True)
        if options.exit_with_stdin:
            threading.Thread(target=_stop_with_stdin, args=(stop,), daemon=True).start()
        stop.wait()


def _moment(text: str) -> int | None:
    """`now`, epoch milliseconds, or an ISO date and time (UTC unless it says otherwise)."""
    if text == "now":
        return None
    if text.isdigit():
        return int(text)
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _stop_with_stdin(stop: threading.Event) -> None:
    # Not sys.stdin: its lock would be held by this thread when the interpreter ends on a signal.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()
