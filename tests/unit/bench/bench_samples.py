"""Samples as a generator would give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.bench.latency_histogram import LatencyHistogram
from cluster.bench.sample import Sample
from cluster.core.errors import Code


def a_sample(
    latencies_ms: Sequence[float] = (1.0,),
    *,
    elapsed_s: float = 1.0,
    errors: Mapping[Code, int] | None = None,
    scheduled: int = 0,
    late: int = 0,
    cpu_s: tuple[float, ...] = (0.1,),
) -> Sample:
    """One row for each request."""
    return Sample(
        elapsed_s=elapsed_s,
        latencies=LatencyHistogram.of([latency / 1e3 for latency in latencies_ms]),
        rows=len(latencies_ms),
        errors=errors or {},
        messages={code: f"it is {code.name}" for code in errors or {}},
        scheduled=scheduled,
        late=late,
        cpu_s=cpu_s,
    )
