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
        return remarks

    @property
    def client_saturated(self) -> bool:
        """Whether the generators had no time left, so that the server may be faster than these figures."""
        sample = self.sample
        late = isinstance(self.load, OpenLoop) and sample.late > MAX_LATE_SHARE * sample.scheduled
        return late or sample.client_cpu_share > SATURATED_SHARE


def knee(points: Sequence[Point], budget_ms: float | None) -> Point | None:
    """The load to run at. With a budget: the highest throughput whose p99 holds it; None if no load does.

    Without: where throughput per mean latency is highest (Kleinrock's power), beyond which waiting grows faster than work done.
    None for fewer than two loads, or when nothing succeeded.
    """
    if budget_ms is not None:
        return max((point for point in points if point.holds(budget_ms)), key=_throughput, default=None)
    served = [point for point in points if point.sample.succeeded]
    return max(served, key=_power) if len(served) > 1 else None


def _throughput(point: Point) -> float:
    return point.sample.requests_per_s


def _power(point: Point) -> float:
    return point.sample.requests_per_s / point.sample.latencies.mean_s
