"""`trade-sync` as it is, but for its keepalive: what takes a minute there takes two seconds here.

`python -m tests.support.hasty_worker run`, so that a test can watch a whole daemon tickle, probe and heal.
"""

from __future__ import annotations

from worker import cli, keepalive
from worker.sessions import ibkr

MINUTE_SECONDS = 2.0


def main() -> None:
    keepalive.TURN_SECONDS = 0.2  # type: ignore[misc]
    ibkr.TICKLE_SECONDS = MINUTE_SECONDS  # type: ignore[misc]
    ibkr.PROBE_SECONDS = MINUTE_SECONDS  # type: ignore[misc]
    cli.main()


if __name__ == "__main__":
    main()
