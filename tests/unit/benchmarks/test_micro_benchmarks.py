"""The micro-benchmarks are run by nobody for months; here each runs once, untimed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_micro_benchmark_still_runs() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        "tests/benchmarks/pytest.ini",
        "tests/benchmarks",
        "--benchmark-disable",
        "-q",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 0, ended.stdout
