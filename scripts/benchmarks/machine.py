"""Where figures come from: the machine, the versions, the revision."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    processor: str
    cores: int
    """That this process may use."""
    memory_gib: float
    python: str
    tensorflow: str
    ray: str
    revision: str
    """Of git; with "+" when files differ from it, "" outside a checkout."""

    def __str__(self) -> str:
        return (
            f"{self.cores} cores of {self.processor}, {self.memory_gib:.0f} GiB, Python {self.python}, "
            f"TensorFlow {self.tensorflow}, Ray {self.ray}" + (f", revision {self.revision}" if self.revision else "")
        )


def this_machine() -> Machine:
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return Machine(
        model.group(1) if model else platform.machine(),
        len(os.sched_getaffinity(0)),
        memory,
        platform.python_version(),
        version("tensorflow"),
        version("ray"),
        _revision(),
    )


def _revision() -> str:
    commit = _git("rev-parse", "--short", "HEAD")
    return commit and commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
