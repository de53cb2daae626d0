"""Which calls take so little time that handing them to a thread costs more than running them."""

from __future__ import annotations

from servables.suspension import Suspension

SHORT_S = 50e-6
"""What a thread's taking a call and giving its reply back costs, more or less, with all else that waits for the interpreter."""
SHORT_ON_FEW_CORES_S = 500e-6
"""Where a frontend keeps one core busy and threads have only the other one, nothing is done sooner by handing it over."""
FEW_CORES = 2
TRIALS = 16
"""Runs in a thread before the choice: the shortest counts, since any of them may have waited for the interpreter."""
LONG_S = 0.005
"""A call that blocks the event loop for longer sends the whole signature back to threads for a while."""
SUSPENDED_RUNS = 1000
"""After the first such call."""
_WEIGHT = 1 / 16


class ShortRuns:
    """Learns from the runs that there are, for each signature and each size of inputs apart. Pure.

    `ran` may be told from several threads: a lost timing does no harm.
    """

    def __init__(self, cores: int) -> None:
        """`cores`: those that the process may use."""
        self._short_s = SHORT_ON_FEW_CORES_S if cores <= FEW_CORES else SHORT_S
        self._runs: dict[tuple[str, int], _Runs] = {}
        self._suspensions: dict[str, Suspension] = {}

    def short(self, signature_name: str, size_bytes: int) -> bool:
        """Whether a call may run where it is, blocking all else."""
        runs = self._runs.get((signature_name, size_bytes.bit_length()))
        if runs is None or not runs.short:
            return False
        suspension = self._suspensions.get(signature_name)
        return suspension is None or not suspension.active

    def ran(self, signature_name: str, size_bytes: int, duration_s: float, *, inline: bool) -> None:
        """A call has taken so long, in a thread or where it was (`inline`)."""
        suspension = self._suspensions.get(signature_name)
        if suspension is not None and suspension.active:
            suspension.ran()
            return
        if inline and duration_s > LONG_S:
            self._suspensions.setdefault(signature_name, Suspension(SUSPENDED_RUNS)).begin()
            return
        key = signature_name, size_bytes.bit_length()
        runs = self._runs.get(key)
        if runs is None:
            runs = self._runs[key] = _Runs(self._short_s)
        runs.ran(duration_s, inline)


class _Runs:
    __slots__ = ("_mean_s", "_short_s", "_shortest_s", "_trials", "short")

    def __init__(self, short_s: float) -> None:
        self.short = False
        self._short_s = short_s
        self._mean_s = 0.0
        self._begin_trials()

    def _begin_trials(self) -> None:
        self._trials = 0
        self._shortest_s = float("inf")

    def ran(self, duration_s: float, inline: bool) -> None:
        if inline:
            self._mean_s += (duration_s - self._mean_s) * _WEIGHT
            if self._mean_s > 2 * self._short_s:
                self.short = False
                self._begin_trials()
            return
        self._trials += 1
        self._shortest_s = min(self._shortest_s, duration_s)
        if self._trials >= TRIALS:
            self.short = self._shortest_s < self._short_s
            self._mean_s = self._shortest_s
            self._begin_trials()
