"""`python -m sandbox.brokers.kraken`: a Kraken of your own on loopback, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse

from sandbox.brokers.commandline import clock_of, parser_of, serve
from sandbox.brokers.kraken.control import RemoteControlled
from sandbox.brokers.kraken.simulator import KrakenSimulator, Setup


def _arguments() -> argparse.Namespace:
    parser = parser_of("kraken", __doc__)
    parser.add_argument("--tier", choices=("starter", "intermediate", "pro"), default="starter")
    parser.add_argument("--trades", type=int, default=200, help="size of the history")
    parser.add_argument("--years", type=float, default=3.0, help="length of the history")
    parser.add_argument("--seed", default="1", help="the same seed makes the same trader and the same key")
    parser.add_argument("--lag", type=float, default=0.0, metavar="SECONDS", help="REST shows fills that much later")
    parser.add_argument("--permission", action="append", metavar="NAME", help="default: query-closed-trades only")
    parser.add_argument("--otp", help="the key demands this second factor")
    parser.add_argument("--nonce-window", type=int, default=0)
    parser.add_argument("--public-burst", type=int, default=10, help="public calls at once; 1 is strict")
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    defaults = Setup()
    simulator = KrakenSimulator(
        clock_of(options),
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
    serve(
        RemoteControlled(simulator),
        options,
        lambda _: {
            "apiKey": simulator.key.key,
            "apiSecret": simulator.key.secret,
            "accountRef": simulator.account_ref,
        },
        tls=False,
    )


if __name__ == "__main__":
    main()
