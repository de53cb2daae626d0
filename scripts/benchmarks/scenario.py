"""One thing to measure, by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.core.errors import InvalidArgument
from scripts.benchmarks.figure import Figure

if TYPE_CHECKING:
    from scripts.benchmarks.workbench import Workbench

Measure = Callable[["Workbench"], list[Figure]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`needs` names the workbench's servers that it uses: they stay up until no scenario that is left needs them.

    `measure` returns figures of its own name only. Raises AspiredError when a server gives wrong answers.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    measure: Measure


def select(scenarios: Sequence[Scenario], patterns: Sequence[str]) -> list[Scenario]:
    """Those whose names match one of the patterns (`rest-*`), in their own order; all, without patterns.

    Raises InvalidArgument for a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(scenario.name, pattern) for scenario in scenarios):
            raise InvalidArgument(f"no row is named {pattern}: see scripts/bench --list")
    return [
        scenario
        for scenario in scenarios
        if not patterns or any(fnmatch.fnmatchcase(scenario.name, pattern) for pattern in patterns)
    ]
