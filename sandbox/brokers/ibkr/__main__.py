"""`python -m sandbox.brokers.ibkr`: a Client Portal gateway and a Flex Web Service of your own on loopback.

They run until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from sandbox.brokers.ibkr.control import RemoteControlled
from sandbox.brokers.ibkr.inputs import Setup
from sandbox.brokers.ibkr.oauth import Consumer
from sandbox.brokers.ibkr.simulator import BASE, IbkrSimulator
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


def _alias(text: str) -> tuple[str, str]:
    account, _, alias = text.partition("=")
    if not (account and alias):
        raise argparse.ArgumentTypeError("expected ACCOUNT=ALIAS")
    return account, alias


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.brokers.ibkr", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--http", action="store_true", help="plain HTTP instead of a self-signed certificate")
    parser.add_argument("--trades", type=int, default=60, help="size of the history")
    parser.add_argument("--days", type=float, default=6.0, help="length of the history")
    parser.add_argument("--years", type=float, default=0.0, help="traded as busily so long before; Flex shows it")
    parser.add_argument("--end", type=_end, default=None, metavar="now|MS|ISO", help="when the history ends")
    parser.add_argument("--seed", default="1", help="the same seed makes the same trader and the same account")
    parser.add_argument("--account", action="append", default=[], metavar="ID", help="default: one from the seed")
    parser.add_argument("--alias", action="append", default=[], type=_alias, metavar="ACCOUNT=ALIAS")
    parser.add_argument("--fill-every", type=float, metavar="SECONDS", help="let a new fill appear by itself")
    parser.add_argument("--sec-type", action="append", default=[], metavar="STK", help="trade only this kind")
    parser.add_argument("--region", choices=("america", "europe", "asia"), default="america")
    parser.add_argument("--logged-out", action="store_true", help="nobody has logged in yet")
    parser.add_argument("--no-reset", action="store_true", help="sessions outlive midnight (a day at most)")
    parser.add_argument("--oauth-dir", type=Path, metavar="DIR", help="make an OAuth consumer; its keys go here")
    parser.add_argument("--virtual-clock", type=int, metavar="START_MS", help="time passes by POST /sandbox/clock only")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input closes")
    return parser.parse_args()


def _stop_with_stdin(stop: threading.Event) -> None:
    # Not sys.stdin: its lock would be held by this thread when the interpreter ends on a signal.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def _write_keys(consumer: Consumer, directory: Path) -> dict[str, str]:
    """The files the self-service page leaves one with; returns what is not in files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("private_signature.pem", consumer.signature_key),
        ("private_encryption.pem", consumer.encryption_key),
        ("dhparam.pem", consumer.dh_param),
    ):
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(text)
    return {
        "consumerKey": consumer.consumer_key,
        "accessToken": consumer.access_token,
        "accessTokenSecret": consumer.access_token_secret,
        "realm": consumer.realm,
        "directory": str(directory),
    }


def main() -> None:
    options = _arguments()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    clock = SystemClock() if options.virtual_clock is None else VirtualClock(options.virtual_clock)
    simulator = IbkrSimulator(
        clock,
        Setup(
            seed=options.seed,
            accounts=tuple(options.account),
            aliases=dict(options.alias),
            sec_types=tuple(options.sec_type),
            region=options.region,
            trades=options.trades,
            days=options.days,
            years=options.years,
            end=options.end,
            fill_every=options.fill_every,
            logged_in=not options.logged_out,
            nightly_reset=not options.no_reset,
        ),
    )
    with BrokerServer(RemoteControlled(simulator), options.port, tls=not options.http) as server:
        simulator.address = server.address
        oauth = None if options.oauth_dir is None else _write_keys(simulator.oauth, options.oauth_dir)
        print(
            json.dumps(
                {
                    "address": server.address,
                    "baseUrl": f"{server.address}{BASE}",
                    "loginUrl": f"{server.address}/",
                    "fingerprint": server.fingerprint,
                    "accounts": list(simulator.accounts),
                    "oauth": oauth,
                    "flex": {
                        "address": server.address,
                        "token": simulator.flex.token,
                        "activityQuery": simulator.flex.activity_query,
                        "confirmQuery": simulator.flex.confirm_query,
                    },
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
