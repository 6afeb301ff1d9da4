"""`python -m worker.healthcheck`: exit 0 while the worker's process serves; the container's HEALTHCHECK.

Not readiness: a worker that waits for Convex to come back is doing what it should, and restarting it would not help.
"""

from __future__ import annotations

import http.client
import os
import sys


def main() -> int:
    port = os.environ.get("TRADE_SYNC_API_PORT") or "8787"
    if port == "off":
        return 0
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=4)
    try:
        connection.request("GET", "/healthz")
        return 0 if connection.getresponse().status == 200 else 1
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
