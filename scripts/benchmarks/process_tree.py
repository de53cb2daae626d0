"""The processes of a server, as /proc has them: their memory and processor time, and their end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """`pss_bytes` shares a page among all processes that have it, so that sums are true."""

    kind: str
    pss_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """Seconds of processor time, in a process' own code and in the kernel on its behalf."""

    user_s: float
    kernel_s: float

    def __sub__(self, other: ProcessorTime) -> ProcessorTime:
        return ProcessorTime(self.user_s - other.user_s, self.kernel_s - other.kernel_s)

    def __truediv__(self, units: float) -> ProcessorTime:
        return ProcessorTime(self.user_s / units, self.kernel_s / units)


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose parent ends, so that `descendants` misses none."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """All below `root`, without it; those that end meanwhile may be missing."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        with contextlib.suppress(OSError):
            children.setdefault(_stat(pid)[1], []).append(pid)
    found, left = [], [root]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def cpu_s(root: int) -> float:
    """Processor time of `root` and all below it so far."""
    total = 0
    for pid in (root, *descendants(root)):
        with contextlib.suppress(OSError):
            total += sum(_stat(pid)[11:13])
    return total / _TICKS_PER_S


def processor_time_by_kind(root: int) -> dict[str, ProcessorTime]:
    """The same, by what processes are for, in their own code and in the kernel."""
    user: Counter[str] = Counter()
    kernel: Counter[str] = Counter()
    for pid in (root, *descendants(root)):
        with contextlib.suppress(OSError):
            kind, (user_ticks, kernel_ticks) = _kind(pid), _stat(pid)[11:13]
            user[kind] += user_ticks
            kernel[kind] += kernel_ticks
    return {kind: ProcessorTime(user[kind] / _TICKS_PER_S, kernel[kind] / _TICKS_PER_S) for kind in user}


def memory(root: int) -> list[ProcessMemory]:
    """What `root` and all below it have in memory."""
    found = []
    for pid in (root, *descendants(root)):
        with contextlib.suppress(OSError, AttributeError):
            rollup = Path("/proc", str(pid), "smaps_rollup").read_text()
            kilobytes = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE).group(1)  # type: ignore[union-attr]
            found.append(ProcessMemory(_kind(pid), int(kilobytes) << 10))
    return found


def end_descendants(grace_s: float) -> None:
    """Ends all below this process: by SIGTERM, and by SIGKILL what is still there after `grace_s`."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + grace_s
        while descendants(os.getpid()) and time.monotonic() < deadline:
            _reap()
            time.sleep(0.05)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _kind(pid: int) -> str:
    return process_kind(Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())


def process_kind(command_line: str) -> str:
    """What a process is for: Ray's workers say so in their titles, the others are known by what they run."""
    if replica := re.match(r"ray::ServeReplica:([^:]+):(\S+)", command_line):
        return "frontend" if replica.group(2) == "frontend" else "version replica"
    if worker := re.match(r"ray::(\w+)", command_line):
        return worker.group(1)
    if program := re.search(
        r"-m (cluster[\w.]*)|/ray/\S*?(\w+)\.py|/(gcs_server|raylet)\b|servables\.\w+\.(fork_server)\b", command_line
    ):
        return next(name for name in program.groups() if name)
    return Path(command_line.split(" ")[0]).name


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/PID/stat from `ppid` on, at the places that they have after the state; [1] is the parent."""
    text = Path("/proc", str(pid), "stat").read_text()
    return [0, *map(int, text[text.rindex(")") + 4 :].split())]


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())
