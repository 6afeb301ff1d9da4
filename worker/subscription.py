"""A process of its own that holds one Convex subscription; started by `watch.py`, by path.

The client cannot share a process with the worker. Its `subscribe` holds the interpreter lock until the socket is
open: on a dead port, a mute one or behind a proxy that answers 503 every thread stands still and SIGTERM is not
served. A rejected token hangs it in silence, nothing in it has a time-out, and it prints the server's log lines to
stdout (reference convex 0 and 4). Seen from outside, all of that is a deadline and a kill.

stdin: one JSON line {"url", "token", "function", "seconds"}, then open for as long as the answers are wanted;
`seconds` is how long the first connection may take.
stdout: one JSON line an answer, {"value": …}; or {"error": "…"} and the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from typing import Any, TextIO

from convex import ConvexClient, convex_to_json


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where the client prints the server's log lines
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which then closes stdin
    wanted = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        asyncio.run(_hold(wanted, answers))
    except Exception as error:  # noqa: BLE001 - the client raises bare Exceptions; the parent decides what follows
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")


async def _hold(wanted: dict[str, Any], answers: TextIO) -> None:
    # While `subscribe` holds the lock, only the kernel can end this process: not even a closed stdin is noticed.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, wanted["seconds"])
    client = ConvexClient(wanted["url"])
    client.set_auth(wanted["token"])
    subscription = client.subscribe(wanted["function"], {})
    signal.setitimer(signal.ITIMER_REAL, 0)
    async for value in subscription:
        answers.write(json.dumps({"value": convex_to_json(value)}) + "\n")


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
