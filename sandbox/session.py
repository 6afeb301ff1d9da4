"""`python -m sandbox.session expire`: play with the session of a simulated Interactive Brokers login.

Without `--at` it finds the gateway of the running `make demo`.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
from pathlib import Path

import httpx

from sandbox.processes import ROOT

DEMO = ROOT / ".build" / "demo.json"
"""Where the running demo says what its gateway's address is."""

DEEDS = {
    "expire": "nobody is logged in any more, as after every midnight",
    "login": "a person logs in at the gateway",
    "compete": "somebody opens TWS with the same username",
    "release": "and closes it again",
    "drop": "the brokerage session is lost, the login stays",
    "penalise": "the login goes into the penalty box for a quarter of an hour",
}


def client(address: str) -> httpx.Client:
    """A client for a simulator on this machine; it signs its own certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return httpx.Client(base_url=address, verify=context, timeout=10)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.session", description=__doc__)
    parser.add_argument("deed", choices=DEEDS, help="; ".join(f"{deed}: {what}" for deed, what in DEEDS.items()))
    parser.add_argument("--at", metavar="ADDRESS", help="the simulator's address, as it printed it")
    options = parser.parse_args()
    address = options.at or _address_of_the_demo(DEMO)
    if address is None:
        print("no demo is running here; start `make demo`, or name a simulator with --at", file=sys.stderr)
        return 2
    try:
        with client(address) as simulator:
            simulator.post("/sandbox/session", json={"do": options.deed}).raise_for_status()
            state = simulator.get("/sandbox/state").raise_for_status().json()
    except httpx.HTTPError as error:
        print(f"the simulator at {address} does not answer: {error}", file=sys.stderr)
        return 1
    print(f"{DEEDS[options.deed]}; logged in: {state['loggedIn']}, brokerage session: {state['brokerage'] or 'none'}")
    return 0


def _address_of_the_demo(note: Path) -> str | None:
    try:
        address = json.loads(note.read_text())["gateway"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return address if isinstance(address, str) else None


if __name__ == "__main__":
    sys.exit(main())
