"""The container, as far as it can be shown without an engine: the script runs the Dockerfile and its result."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from worker.settings import table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
def test_the_dockerfile_builds_a_worker_that_starts_reports_and_stops() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check-container.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "none of them a tool",
        "without settings: exit 2",
        "/healthz 200, /readyz 503",
        "SIGTERM: exit 0",
    ):
        assert said in done.stdout


@pytest.mark.parametrize("name", ["compose.yaml", ".env.example"])
def test_settings_of_the_worker_are_spelt_as_the_worker_knows_them(name: str) -> None:
    named = set(re.findall(r"TRADE_SYNC_\w+", (ROOT / name).read_text()))
    of_convex = {"TRADE_SYNC_URL"}
    assert named
    assert named <= {setting for setting, _, _ in table()} | of_convex


def test_F14_compose_publishes_no_port_of_the_worker() -> None:
    worker = (ROOT / "compose.yaml").read_text().partition("\n  worker:")[2].partition("\nnetworks:")[0]
    assert "build: ." in worker
    assert "ports:" not in worker
