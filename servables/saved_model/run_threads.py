"""Whose threads a session callable's runs use: TensorFlow's pool, or the thread that calls.

Handing a run to the pool and back costs more than a small graph's ops do; a graph with long ops side by side is done sooner in
the pool. Which kind a graph is depends on its inputs too, so it is learnt, for each size of inputs apart, from runs that
requests asked for anyway.
"""

from __future__ import annotations

import enum

from servables.suspension import Suspension

TRIALS = 6
"""Runs that are timed on either side before the choice; the first of each does not count, since it optimizes the graph."""
LONGEST_IN_CALLER_S = 0.001
"""Only shorter runs are tried in the caller's thread: there TensorFlow does not end a run whose time is over."""
OVERRUN_S = 0.05
"""A run in the caller's thread that takes longer sends all runs back to the pool for a while."""
SUSPENDED_RUNS = 1000
"""After the first such run."""


class RunThreads(enum.IntEnum):
    """The values are those of `RunOptions.inter_op_thread_pool`."""

    POOL = 0
    CALLER = -1


class ThreadChoice:
    """The choice for one way through a graph. Pure; may be used by several threads: a timing that is lost does no harm."""

    __slots__ = ("_classes", "_fixed", "_suspension")

    def __init__(self, fixed: RunThreads | None = None) -> None:
        """`fixed` chooses for good, for instance for a graph that keeps state: what it may wait for is not known."""
        self._fixed = fixed
        self._classes: dict[int, _SizeClass] = {}
        self._suspension = Suspension(SUSPENDED_RUNS)

    def threads(self, size_bytes: int) -> RunThreads:
        """Where a run with inputs of this size goes."""
        if self._fixed is not None:
            return self._fixed
        if self._suspension.active:
            return RunThreads.POOL
        found = self._classes.get(size_bytes.bit_length())
        if found is None:
            found = self._classes.setdefault(size_bytes.bit_length(), _SizeClass())
        return found.threads

    @property
    def in_caller(self) -> bool:
        """Whether inputs of some size go to the caller's thread for good."""
        if self._fixed is not None:
            return self._fixed is RunThreads.CALLER
        return any(each.settled and each.threads is RunThreads.CALLER for each in list(self._classes.values()))

    def ran(self, threads: RunThreads, size_bytes: int, duration_s: float) -> None:
        """A run has taken so long."""
        if self._fixed is not None:
            return
        if self._suspension.active:
            self._suspension.ran()
        elif threads is RunThreads.CALLER and duration_s > OVERRUN_S:
            self._suspension.begin()
        else:
            found = self._classes.get(size_bytes.bit_length())
            if found is not None and not found.settled:
                found.ran(threads, duration_s)


class _SizeClass:
    """Inputs whose sizes have the same highest bit. The shortest run on either side decides: all else is what others did."""

    __slots__ = ("_runs", "_shortest_s", "settled", "threads")

    def __init__(self) -> None:
        self.threads = RunThreads.POOL
        self.settled = False
        self._runs = dict.fromkeys(RunThreads, 0)
        self._shortest_s = dict.fromkeys(RunThreads, float("inf"))

    def ran(self, threads: RunThreads, duration_s: float) -> None:
        self._runs[threads] += 1
        if self._runs[threads] > 1:
            self._shortest_s[threads] = min(self._shortest_s[threads], duration_s)
        if self._runs[threads] < TRIALS or threads is not self.threads:
            return
        pool_s, caller_s = self._shortest_s[RunThreads.POOL], self._shortest_s[RunThreads.CALLER]
        if threads is RunThreads.POOL and pool_s < LONGEST_IN_CALLER_S:
            self.threads = RunThreads.CALLER
            return
        self.threads = RunThreads.CALLER if caller_s < pool_s else RunThreads.POOL
        self.settled = True
