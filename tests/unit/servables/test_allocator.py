"""What a process does with the memory of a large request, asked in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_PAGE_FAULTS = """
import resource, sys
from servables.allocator import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else True
for round in range(12):
    if round == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * (6 << 20) for _ in range(4)]
    del blocks
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    """Pages that the system had to find for four blocks of 6 MiB, ten times, once the process had had them before."""
    command = [sys.executable, "-c", _PAGE_FAULTS, mode]
    done = subprocess.run(command, cwd=_ROOT, env={}, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    assert kept == "True"
    return int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_memory_of_large_blocks_is_kept_for_the_next_ones() -> None:
    assert page_faults("keep") < 100 < page_faults("leave")
