"""What the controller counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from cluster.core import metric_catalog as catalog
from cluster.core.metrics import MetricCells
from cluster.core.resource_ledger import Totals
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import PublicState, ServableState


class ControllerMetrics:
    """Sees the public states after every change of them, and what the ledger says before every report."""

    def __init__(self) -> None:
        self.cells = MetricCells()
        self._states: dict[ServableId, PublicState] = {}

    def begin(self, states: Sequence[ServableState]) -> None:
        """These are the states that versions had before this process looked; they have not come into them now."""
        self._states = {state.id: state.state for state in states}

    def observe(self, states: Sequence[ServableState]) -> None:
        """Counts the versions that have come into another state."""
        for state in states:
            if self._states.get(state.id) is not state.state:
                self.cells.counter(catalog.TRANSITIONS, state.id.name, state.state.name).add()
        self.begin(states)

    def refresh(self, capacity: Totals, reserved: Totals) -> None:
        """Sets the gauges. A model has one for every state, so that none AVAILABLE is something that can be asked for."""
        versions = Counter((servable.name, state.name) for servable, state in self._states.items())
        names = {servable.name for servable in self._states}
        self.cells.set_gauges(
            catalog.VERSIONS, {(name, state.name): versions[name, state.name] for name in names for state in PublicState}
        )
        self.cells.set_gauges(catalog.RESOURCE_CAPACITY, _levels(capacity))
        self.cells.set_gauges(catalog.RESOURCE_RESERVED, _levels(reserved))


def _levels(totals: Totals) -> Mapping[tuple[str, ...], float]:
    return {("memory_bytes",): totals.memory_bytes, ("cpus",): totals.cpus, ("gpus",): totals.gpus}
