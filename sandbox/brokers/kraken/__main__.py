"""`python -m sandbox.brokers.kraken`: a Kraken of your own on loopback, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime

from sandbox.brokers.kraken.control import RemoteControlled
from sandbox.brokers.kraken.simulator import KrakenSimulator, Setup
from sandbox.brokers.serving import BrokerServer
from sandbox.clock import VirtualClock
from worker.clock import SystemClock


def _end(text: str) -> int | None:
    """`now`, epoch milliseconds, or an ISO date and time (UTC unless it says otherwise)."""
    if text == "now":
        return None
    if text.isdigit():
        return int(text)
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.brokers.kraken", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--tier", choices=("starter", "intermediate", "pro"), default="starter")
    parser.add_argument("--trades", type=int, default=200, help="size of the history")
    parser.add_argument("--years", type=float, default=3.0, help="length of the history")
    parser.add_argument("--end", type=_end, default=None, metavar="now|MS|ISO", help="when the history ends")
    parser.add_argument("--seed", default="1", help="the same seed makes the same trader and the same key")
    parser.add_argument("--fill-every", type=float, metavar="SECONDS", help="let a new fill appear by itself")
    parser.add_argument("--lag", type=float, default=0.0, metavar="SECONDS", help="REST shows fills that much later")
    parser.add_argument("--permission", action="append", metavar="NAME", help="default: query-closed-trades only")
    parser.add_argument("--otp", help="the key demands this second factor")
    parser.add_argument("--nonce-window", type=int, default=0)
    parser.add_argument("--public-burst", type=int, default=10, help="public calls at once; 1 is strict")
    parser.add_argument("--virtual-clock", type=int, metavar="START_MS", help="time passes by POST /sandbox/clock only")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input closes")
    return parser.parse_args()


def _stop_with_stdin(stop: threading.Event) -> None:
    # Not sys.stdin: its lock would be held by this thread when the interpreter ends on a signal.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def main() -> None:
    options = _arguments()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    clock = SystemClock() if options.virtual_clock is None else VirtualClock(options.virtual_clock)
    defaults = Setup()
    simulator = KrakenSimulator(
        clock,
        Setup(
            seed=options.seed,
            tier=options.tier,
            trades=options.trades,
            years=options.years,
            end=options.end,
            fill_every=options.fill_every,
            lag=options.lag,
            permissions=tuple(options.permission or defaults.permissions),
            otp=options.otp,
            nonce_window=options.nonce_window,
            public_burst=options.public_burst,
        ),
    )
    with BrokerServer(RemoteControlled(simulator), options.port) as server:
        print(
            json.dumps(
                {
                    "address": server.address,
                    "apiKey": simulator.key.key,
                    "apiSecret": simulator.key.secret,
                    "accountRef": simulator.account_ref,
                    "oracle": f"{server.address}/sandbox/oracle",
                    "audit": f"{server.address}/sandbox/audit",
                    "control": f"{server.address}/sandbox",
                }
            ),
            flush=True,
        )
        if options.exit_with_stdin:
            threading.Thread(target=_stop_with_stdin, args=(stop,), daemon=True).start()
        stop.wait()


if __name__ == "__main__":
    main()
