"""A simulated broker as a process of its own, as an outsider starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def standalone_broker(name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m sandbox.brokers.NAME` on a free port; ended by force if it does not end by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"sandbox.brokers.{name}", "--port", "0", *options, "--exit-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def announced(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON line it prints when it is ready."""
    assert process.stdout is not None
    document = json.loads(process.stdout.readline())
    assert isinstance(document, dict)
    return document
