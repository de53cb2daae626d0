"""All scenarios, in the order in which they run: those that share servers follow each other."""

from __future__ import annotations

from scripts.benchmarks import compute_bound, footprint, large_requests, neighbours, overload, small_requests, stages, storage
from scripts.benchmarks.scenario import Scenario


def scenarios() -> list[Scenario]:
    return [
        *small_requests.scenarios(),
        *stages.scenarios(),
        *overload.scenarios(),
        *large_requests.scenarios(),
        *compute_bound.scenarios(),
        *neighbours.scenarios(),
        *footprint.scenarios(),
        *storage.scenarios(),
    ]
