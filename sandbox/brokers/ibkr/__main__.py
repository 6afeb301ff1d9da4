"""`python -m sandbox.brokers.ibkr`: a Client Portal gateway and a Flex Web Service of your own on loopback.

They run until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sandbox.brokers.commandline import clock_of, parser_of, serve
from sandbox.brokers.ibkr.control import RemoteControlled
from sandbox.brokers.ibkr.inputs import Setup
from sandbox.brokers.ibkr.oauth import Consumer
from sandbox.brokers.ibkr.simulator import BASE, IbkrSimulator
from sandbox.brokers.serving import BrokerServer


def _alias(text: str) -> tuple[str, str]:
    account, _, alias = text.partition("=")
    if not (account and alias):
        raise argparse.ArgumentTypeError("expected ACCOUNT=ALIAS")
    return account, alias


def _arguments() -> argparse.Namespace:
    parser = parser_of("ibkr", __doc__)
    parser.add_argument("--http", action="store_true", help="plain HTTP instead of a self-signed certificate")
    parser.add_argument("--trades", type=int, default=60, help="size of the history")
    parser.add_argument("--days", type=float, default=6.0, help="length of the history")
    parser.add_argument("--years", type=float, default=0.0, help="traded as busily so long before; Flex shows it")
    parser.add_argument("--seed", default="1", help="the same seed makes the same trader and the same account")
    parser.add_argument("--account", action="append", default=[], metavar="ID", help="default: one from the seed")
    parser.add_argument("--alias", action="append", default=[], type=_alias, metavar="ACCOUNT=ALIAS")
    parser.add_argument("--sec-type", action="append", default=[], metavar="STK", help="trade only this kind")
    parser.add_argument("--region", choices=("america", "europe", "asia"), default="america")
    parser.add_argument("--logged-out", action="store_true", help="nobody has logged in yet")
    parser.add_argument("--no-reset", action="store_true", help="sessions outlive midnight (a day at most)")
    parser.add_argument("--oauth-dir", type=Path, metavar="DIR", help="make an OAuth consumer; its keys go here")
    return parser.parse_args()


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
    simulator = IbkrSimulator(
        clock_of(options),
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

    def describe(server: BrokerServer) -> dict[str, Any]:
        simulator.address = server.address
        return {
            "baseUrl": f"{server.address}{BASE}",
            "loginUrl": f"{server.address}/",
            "fingerprint": server.fingerprint,
            "accounts": list(simulator.accounts),
            "oauth": None if options.oauth_dir is None else _write_keys(simulator.oauth, options.oauth_dir),
            "flex": {
                "address": server.address,
                "token": simulator.flex.token,
                "activityQuery": simulator.flex.activity_query,
                "confirmQuery": simulator.flex.confirm_query,
            },
        }

    serve(RemoteControlled(simulator), options, describe, tls=not options.http)


if __name__ == "__main__":
    main()
