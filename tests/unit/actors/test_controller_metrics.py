from __future__ import annotations

from cluster.actors.controller_metrics import ControllerMetrics
from cluster.core import metric_catalog as catalog
from cluster.core.resource_ledger import Totals
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import PublicState, ServableState


def versions(metrics: ControllerMetrics) -> dict[tuple[str, ...], float]:
    metrics.refresh(Totals(0, 0, 0), Totals(0, 0, 0))
    return {key.labels: value[0] for key, value in metrics.cells.changes().items() if key.metric == catalog.VERSIONS.name}


def test_a_model_that_was_never_available_has_none_available() -> None:
    metrics = ControllerMetrics()
    metrics.observe(
        [ServableState(ServableId("m", 1), PublicState.END), ServableState(ServableId("m", 2), PublicState.LOADING)]
    )
    counted = versions(metrics)
    assert counted == {("m", state.name): int(state in (PublicState.END, PublicState.LOADING)) for state in PublicState}


def test_a_model_without_versions_is_not_counted_any_more() -> None:
    metrics = ControllerMetrics()
    metrics.observe([ServableState(ServableId("m", 1), PublicState.AVAILABLE)])
    assert versions(metrics)["m", "AVAILABLE"] == 1
    metrics.observe([])
    assert versions(metrics) == {}
