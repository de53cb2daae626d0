"""All scenarios, in the order in which they run: those that share servers follow each other."""

from __future__ import annotations

from scripts.benchmarks import small_requests
from scripts.benchmarks.scenario import Scenario


def scenarios() -> list[Scenario]:
    return [*small_requests.scenarios()]
