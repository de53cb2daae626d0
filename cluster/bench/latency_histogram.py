"""Latencies as counts in fixed buckets, each at most 0.4 % wide (after HdrHistogram): small, and they add up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_STEPS = 256
"""Buckets between a power of two and the next."""
_OCTAVES = 37
_MICROS = 1e6
_BUCKETS = _STEPS * _OCTAVES

RELATIVE_ERROR = 1 / _STEPS
SHORTEST_S = 1 / _MICROS
"""Whatever is shorter counts as this; what is longer than a day counts as one."""


class LatencyHistogram:
    """Seconds in, seconds out. A value; `merged` makes a new one."""

    __slots__ = ("_counts", "_numbers", "count", "longest_s", "total_s")

    def __init__(
        self, numbers: NDArray[np.int64], counts: NDArray[np.int64], count: int, total_s: float, longest_s: float
    ) -> None:
        self._numbers = numbers  # of the buckets that are not empty, increasing
        self._counts = counts
        self.count = count
        self.total_s = total_s
        self.longest_s = longest_s

    @classmethod
    def of(cls, latencies_s: Sequence[float] | NDArray[np.float64]) -> LatencyHistogram:
        values = np.asarray(latencies_s, np.float64)
        if not values.size:
            return cls(_NONE, _NONE, 0, 0.0, 0.0)
        fractions, exponents = np.frexp(np.maximum(values * _MICROS, 1.0))
        buckets = (exponents - 1) * _STEPS + ((fractions - 0.5) * (2 * _STEPS)).astype(np.int64)
        numbers, counts = np.unique(np.minimum(buckets, _BUCKETS - 1), return_counts=True)
        return cls(
            numbers.astype(np.int64), counts.astype(np.int64), int(values.size), float(values.sum()), float(values.max())
        )

    @classmethod
    def merged(cls, histograms: Iterable[LatencyHistogram]) -> LatencyHistogram:
        """What one histogram of everything in `histograms` would be."""
        of = list(histograms)
        if not of:
            return cls.of(())
        dense = np.bincount(
            np.concatenate([one._numbers for one in of]), np.concatenate([one._counts for one in of]).astype(np.float64)
        ).astype(np.int64)
        numbers = np.flatnonzero(dense).astype(np.int64)
        return cls(
            numbers,
            dense[numbers],
            sum(one.count for one in of),
            sum(one.total_s for one in of),
            max(one.longest_s for one in of),
        )

    @property
    def mean_s(self) -> float:
        return self.total_s / self.count if self.count else 0.0

    def percentile_s(self, percent: float) -> float:
        """The latency that `percent` of all do not exceed, at most RELATIVE_ERROR too long; 0 where there are none."""
        if not self.count:
            return 0.0
        rank = max(1, int(np.ceil(round(percent / 100 * self.count, 6))))
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        octave, step = divmod(int(self._numbers[place]), _STEPS)
        upper_s = 2.0**octave * (1 + (step + 1) / _STEPS) / _MICROS
        return min(upper_s, max(self.longest_s, SHORTEST_S))


_NONE = np.empty(0, np.int64)
