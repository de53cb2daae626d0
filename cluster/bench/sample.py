"""What the generators saw in a stretch of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.bench.latency_histogram import LatencyHistogram
from cluster.core.errors import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Requests that ended within `elapsed_s`. `latencies` and `rows` are those of requests that succeeded.

    `errors` counts the others; `messages` has one text for each of their codes. Of an open loop, `scheduled` are the requests
    whose time came, and `late` those of them that the generator itself sent late. `cpu_s` is what each generator used.
    """

    elapsed_s: float
    latencies: LatencyHistogram = field(default_factory=lambda: LatencyHistogram.of(()))
    rows: int = 0
    errors: Mapping[Code, int] = field(default_factory=dict)
    messages: Mapping[Code, str] = field(default_factory=dict)
    scheduled: int = 0
    late: int = 0
    cpu_s: tuple[float, ...] = ()

    @property
    def succeeded(self) -> int:
        return self.latencies.count

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def requests_per_s(self) -> float:
        return self.succeeded / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def failed_share(self) -> float:
        ended = self.succeeded + self.failed
        return self.failed / ended if ended else 0.0

    @property
    def client_cpu_shares(self) -> tuple[float, ...]:
        """How much of a core each generator used."""
        return tuple(cpu_s / self.elapsed_s if self.elapsed_s else 0.0 for cpu_s in self.cpu_s)

    @property
    def client_cpu_share(self) -> float:
        """How much of a core the busiest of them used."""
        return max(self.client_cpu_shares, default=0.0)


def side_by_side(samples: Sequence[Sample]) -> Sample:
    """What several generators saw in the same time; at least one sample."""
    return _summed(
        samples,
        elapsed_s=sum(sample.elapsed_s for sample in samples) / len(samples),
        cpu_s=tuple(cpu_s for sample in samples for cpu_s in sample.cpu_s),
    )


def one_after_another(samples: Sequence[Sample]) -> Sample:
    """What the same generators saw in consecutive stretches of time; none makes an empty sample."""
    return _summed(
        samples,
        elapsed_s=sum(sample.elapsed_s for sample in samples),
        cpu_s=tuple(sum(cpu_s) for cpu_s in zip(*(sample.cpu_s for sample in samples), strict=True)),
    )


def _summed(samples: Sequence[Sample], *, elapsed_s: float, cpu_s: tuple[float, ...]) -> Sample:
    errors: Counter[Code] = Counter()
    messages: dict[Code, str] = {}
    for sample in samples:
        errors.update(sample.errors)
        messages = {**sample.messages, **messages}
    return Sample(
        elapsed_s=elapsed_s,
        latencies=LatencyHistogram.merged(sample.latencies for sample in samples),
        rows=sum(sample.rows for sample in samples),
        errors=dict(errors),
        messages=messages,
        scheduled=sum(sample.scheduled for sample in samples),
        late=sum(sample.late for sample in samples),
        cpu_s=cpu_s,
    )
