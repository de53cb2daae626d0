"""When enough has been measured: after a given time, or when the figures have come to rest (after perf_analyzer)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.bench.sample import Sample, one_after_another

WINDOWS = 3
"""So many windows in a row must agree, and are what is reported."""
_TICK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long a load is kept up. `warmup_s` comes first and is not counted.

    With `stability_percent`, windows of `window_s` follow until throughput and p99 of the last WINDOWS are each within so many
    percent of their mean, or until there are `max_windows`; without, one window.
    """

    warmup_s: float
    window_s: float
    stability_percent: float | None = None
    max_windows: int = 1

    @property
    def ticks_per_window(self) -> int:
        return max(1, math.floor(self.window_s / _TICK_S))

    @property
    def tick_s(self) -> float:
        """How often generators report: about once a second, and at the end of each window."""
        return self.window_s / self.ticks_per_window


class Measurement:
    """Gathers one load's ticks, which come without the warm-up, until `done`."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._ticks: list[Sample] = []

    def add(self, tick: Sample) -> None:
        self._ticks.append(tick)

    @property
    def begun(self) -> bool:
        return bool(self._ticks)

    @property
    def stable(self) -> bool | None:
        """Whether the figures have come to rest; None where that was not asked for."""
        if self._schedule.stability_percent is None:
            return None
        return is_stable(self._windows(), self._schedule.stability_percent)

    @property
    def done(self) -> bool:
        return len(self._windows()) >= self._schedule.max_windows or bool(self.stable)

    def sample(self) -> Sample:
        """The windows that count; of a measurement that was cut short, whatever there is."""
        windows = self._windows()
        return one_after_another(windows[-WINDOWS:] if windows else self._ticks)

    def _windows(self) -> list[Sample]:
        length = self._schedule.ticks_per_window
        return [
            one_after_another(self._ticks[start : start + length]) for start in range(0, len(self._ticks) - length + 1, length)
        ]


def is_stable(windows: Sequence[Sample], percent: float) -> bool:
    """Whether throughput and p99 of each of the last WINDOWS are within `percent` of their mean. Never without a success."""
    last = windows[-WINDOWS:]
    return len(last) == WINDOWS and all(_agree(last, figure, percent) for figure in (_throughput, _p99_s))


def _agree(windows: Sequence[Sample], figure: Callable[[Sample], float], percent: float) -> bool:
    values = [figure(window) for window in windows]
    mean = sum(values) / len(values)
    return mean > 0 and all(abs(value - mean) <= mean * percent / 100 for value in values)


def _throughput(window: Sample) -> float:
    return window.requests_per_s


def _p99_s(window: Sample) -> float:
    return window.latencies.percentile_s(99)
