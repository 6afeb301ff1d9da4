"""The local Convex server over this project's functions, with an identity for a worker and a user.

`python -m sandbox.convex` prints one JSON line when it is ready, and serves until it is stopped:

    address, siteAddress   where the functions and the HTTP routes are
    adminKey               for `Authorization: Convex …`, as of a self-hosted deployment
    userToken              a user of the app, for `Authorization: Bearer …` (an hour; /sandbox/token makes more)
    workerPrivateKey       the worker's TRADE_SYNC_PRIVATE_KEY
    syncSecret             the worker's TRADE_SYNC_SECRET
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import httpx

from sandbox.processes import start_convex
from worker.identity import make_key_pair


@dataclass(frozen=True, slots=True)
class LocalConvex:
    """A running server and what its clients need to know."""

    address: str
    siteAddress: str  # noqa: N815 - printed as it is
    adminKey: str  # noqa: N815
    userToken: str  # noqa: N815
    workerPrivateKey: str  # noqa: N815
    syncSecret: str  # noqa: N815


@contextlib.contextmanager
def local_convex(*options: str, env: Mapping[str, str] | None = None, user: str = "demo") -> Iterator[LocalConvex]:
    """Start the server with keys of its own; `env` adds variables of the deployment."""
    keys, secret = make_key_pair(), secrets.token_hex(24)
    variables = {"TRADE_SYNC_JWKS": keys.jwks_data_uri, "TRADE_SYNC_SECRET": secret, **(env or {})}
    with start_convex(variables, *options) as server:
        address = server.info["address"]
        token = httpx.post(f"{address}/sandbox/token", json={"subject": user}).raise_for_status().json()["token"]
        yield LocalConvex(
            address=address,
            siteAddress=server.info["siteAddress"],
            adminKey=server.info["adminKey"],
            userToken=token,
            workerPrivateKey=keys.private_pem,
            syncSecret=secret,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of the deployment")
    parser.add_argument("--user", default="demo", help="whose token is printed")
    parser.add_argument("--dev", action="store_true", help="error texts as a development deployment shows them")
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    env = dict(pair.split("=", 1) for pair in options.env)
    extra = ["--dev"] if options.dev else []
    with local_convex("--port", str(options.port), *extra, env=env, user=options.user) as server:
        print(json.dumps(asdict(server)), flush=True)
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
