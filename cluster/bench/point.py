"""What was found at one load, and which load of a sweep is the one to run at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.bench.load import Load, OpenLoop
from cluster.bench.sample import Sample
from cluster.bench.server_metrics import Breakdown

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

SATURATED_SHARE = 0.85
"""Of a core: a generator that uses more is what the figures measure."""
MAX_LATE_SHARE = 0.01
MIN_RATE_SHARE = 0.95
MAX_FAILED_SHARE = 0.01
"""With more failures a load is not one that the server can take."""

KNEE_GROWTH = 1.5
"""Mean latencies of a sweep that do not differ by this factor are alike, and show no knee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One load of a sweep. `stable` is None where it was not judged; `interrupted` when the measurement was cut short."""

    load: Load
    sample: Sample
    stable: bool | None = None
    breakdown: Breakdown | None = None
    interrupted: bool = False

    @property
    def rate_held(self) -> bool:
        """Whether an open loop's requests were answered about as fast as they were sent. A closed loop's always are."""
        ended = self.sample.succeeded + self.sample.failed
        return not isinstance(self.load, OpenLoop) or ended >= MIN_RATE_SHARE * self.sample.scheduled

    @property
    def outside_us(self) -> float | None:
        """What a request spends outside the server's own account of it: the network, the kernels, and this client."""
        if self.breakdown is None or not self.sample.succeeded:
            return None
        return max(0.0, self.sample.latencies.mean_s * 1e6 - self.breakdown.request_us)

    def percentile_ms(self, percent: float) -> float:
        return self.sample.latencies.percentile_s(percent) * 1e3

    def holds(self, budget_ms: float) -> bool:
        """Whether this load was served, with a p99 within the budget."""
        sample = self.sample
        served = sample.succeeded > 0 and sample.failed_share <= MAX_FAILED_SHARE and self.rate_held
        return served and self.percentile_ms(99) <= budget_ms

    def remarks(self) -> list[str]:
        """What a reader of the figures must know, in a few words each."""
        remarks = []
        if self.interrupted:
            remarks.append("interrupted")
        if self.stable is False and not self.interrupted:
            remarks.append("not stable")
        if not self.rate_held:
            remarks.append("rate not held")
        if self.client_saturated:
            remarks.append("client saturated")
        if self.sent_late:
            remarks.append("sent late")
        return remarks

    @property
    def client_saturated(self) -> bool:
        """Whether a generator had no time left, so that the server may be faster than these figures."""
        return self.sample.client_cpu_share > SATURATED_SHARE

    @property
    def sent_late(self) -> bool:
        """Whether requests of an open loop left later than they should, which lengthens their latencies."""
        return isinstance(self.load, OpenLoop) and self.sample.late > MAX_LATE_SHARE * self.sample.scheduled


def knee(points: Sequence[Point], budget_ms: float | None) -> Point | None:
    """The load to run at. With a budget: the highest throughput whose p99 holds it; None if no load does.

    Without: where the curve of throughput over mean latency is furthest above the straight line between its ends (Kneedle,
    Satopaa et al.), so that further load costs more latency than it brings; the last load while latency has hardly grown. None
    for a curve that is nowhere above that line, or has fewer than three loads at which something succeeded.
    """
    if budget_ms is not None:
        return max((point for point in points if point.holds(budget_ms)), key=_throughput, default=None)
    served = [point for point in points if point.sample.succeeded]
    if len(served) < 3:
        return None
    throughputs, latencies = list(map(_throughput, served)), list(map(_latency_s, served))
    if max(latencies) < KNEE_GROWTH * min(latencies):
        return max(served, key=_throughput)
    heights = [gained - paid for gained, paid in zip(_normalized(throughputs), _normalized(latencies), strict=True)]
    return served[heights.index(max(heights))] if max(heights) > 0 else None


def _normalized(values: Sequence[float]) -> list[float]:
    """From 0 for the least to 1 for the greatest."""
    least, range_ = min(values), max(values) - min(values)
    return [(value - least) / range_ if range_ else 0.0 for value in values]


def _throughput(point: Point) -> float:
    return point.sample.requests_per_s


def _latency_s(point: Point) -> float:
    return point.sample.latencies.mean_s
