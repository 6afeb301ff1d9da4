"""Starting the sandbox's servers as children, and ending them again.

Each server prints one JSON line when it is ready and leaves when its standard input closes, so that none
outlives whoever started it, even when that was killed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60.0


class Child:
    """A running server. `info` is the JSON line it printed."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.info: dict[str, Any] = self._first_line(command)
        except BaseException:
            self.stop()
            raise
        threading.Thread(target=self._drain, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it as an operator would; by force after ten seconds."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def _first_line(self, command: Sequence[str]) -> dict[str, Any]:
        killer = threading.Timer(READY_SECONDS, self._process.kill)
        killer.start()
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        finally:
            killer.cancel()
        if not line:
            raise RuntimeError(f"{' '.join(command[:4])} … ended or stayed silent; what it said is above")
        info: dict[str, Any] = json.loads(line)
        return info

    def _drain(self) -> None:
        # A full pipe would stop the child.
        assert self._process.stdout is not None
        for _ in self._process.stdout:
            pass


def start_convex(env: Mapping[str, str], *options: str) -> Child:
    """The local Convex server over the project's functions; `options` may say otherwise."""
    variables = [part for name, value in env.items() for part in ("--env", f"{name}={value}")]
    return Child(
        [
            # Not node_modules/.bin/tsx: that is two processes, and a signal reaches only the first.
            "node",
            "--import",
            "tsx",
            "sandbox/convex-server/main.ts",
            "--functions",
            "convex",
            "--port",
            "0",
            "--exit-with-stdin",
            *variables,
            *options,
        ]
    )


def start_kraken(*options: str) -> Child:
    """The Kraken simulator."""
    return Child([sys.executable, "-m", "sandbox.brokers.kraken", "--port", "0", "--exit-with-stdin", *options])


def start_ibkr(*options: str) -> Child:
    """The simulator of Interactive Brokers' Client Portal gateway."""
    return Child([sys.executable, "-m", "sandbox.brokers.ibkr", "--port", "0", "--exit-with-stdin", *options])


def start_pages(convex: str, *options: str) -> Child:
    """The built pages (`make pages`), for the deployment at the address `convex`."""
    return Child(["node", "web/serve.mjs", "--exit-with-stdin", *options], env={"CONVEX_URL": convex})


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
