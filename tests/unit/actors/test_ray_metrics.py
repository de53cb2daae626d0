from __future__ import annotations

from typing import Any

import pytest

from cluster.actors import ray_metrics
from cluster.actors.ray_metrics import RayMetrics
from cluster.core import metric_catalog as catalog
from cluster.core.metrics import MetricCells


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], float]:
    """What Ray's gauges were last set to."""
    levels: dict[tuple[str, ...], float] = {}

    class Gauge:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self._name = name

        def set(self, value: float, tags: dict[str, Any]) -> None:
            levels[(self._name, *tags.values())] = value

    monkeypatch.setattr(ray_metrics.metrics, "Gauge", Gauge)
    return levels


def test_a_gauge_that_is_no_more_is_zero(levels: dict[tuple[str, ...], float]) -> None:
    cells, mirror = MetricCells(), RayMetrics()
    for version in ("1", "2"):
        cells.set_gauges(catalog.REPLICAS, {("m", version, "READY"): 3})
        mirror.update(cells.changes())
    assert levels == {("aspired_replicas", "m", "1", "READY"): 0, ("aspired_replicas", "m", "2", "READY"): 3}
