"""Large statements: memory does not follow their size, and ibflex is slower. `bench/flex_rows.py` measures more."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

PEAK = """
import sys
sys.path.insert(0, "bench")
import flex_rows
rows = int(sys.argv[1])
assert flex_rows.read_here(flex_rows.Statement(flex_rows.pieces(rows))) == rows
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024)
"""


def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flex_rows", ROOT / "bench" / "flex_rows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_B20_memory_does_not_follow_the_statement_s_size() -> None:
    def peak(rows: int) -> float:
        command = [sys.executable, "-c", PEAK, str(rows)]
        return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    few, many = peak(200), peak(10_000)  # 0.3 MB and 16 MB
    assert many <= 64
    assert many - few < 4


def test_B20_rows_are_read_faster_than_ibflex_reads_them() -> None:
    """Half of what the bench asks for, in CPU time and the best of several turns: a busy machine fails nothing."""
    readers = bench()
    here = ibflex = 0.0
    for _ in range(5):
        here = max(here, readers.measure("here", 2000)["rows_per_second"])
        ibflex = max(ibflex, readers.measure("ibflex", 2000)["rows_per_second"])
        if here >= 1.5 * ibflex:
            return
    assert here >= 1.5 * ibflex
