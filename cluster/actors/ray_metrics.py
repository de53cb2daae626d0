"""Aspired's metrics among Ray's own, for its dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util import metrics

from cluster.core.metric_catalog import METRICS
from cluster.core.metrics import CellKey, Kind, Value

_METRICS = {metric.name: metric for metric in METRICS}


class RayMetrics:
    """Mirrors the values of this process. Ray adds the labels that say which process it is.

    Ray takes no colons in names, and ends those of counters in `_total`: `:tensorflow:serving:request_count` is
    `ray_aspired_tensorflow_serving_request_count_total` there.
    A histogram becomes two counters, `..._sum` and `..._observations`, since Ray's own takes single observations only.
    """

    def __init__(self) -> None:
        self._counted: dict[CellKey, Value] = {}
        self._gauges: set[CellKey] = set()
        self._metrics: dict[str, Any] = {}

    def update(self, changes: Mapping[CellKey, Value]) -> None:
        """Takes what `MetricCells.changes` returns. A gauge that is no more is zero, for Ray forgets none."""
        gauges = {key for key in changes if _METRICS[key.metric].kind is Kind.GAUGE}
        gone: dict[CellKey, Value] = dict.fromkeys(self._gauges - gauges, (0,))
        self._gauges = gauges
        for key, value in (gone | dict(changes)).items():
            metric = _METRICS[key.metric]
            tags = {name: label or "-" for name, label in zip(metric.labels, key.labels, strict=True)}
            name = _ray_name(metric.name)
            if metric.kind is Kind.GAUGE:
                self._metric(metrics.Gauge, name, metric.help, metric.labels).set(value[0], tags)
                continue
            before = self._counted.get(key, (0,) * len(value))
            self._counted[key] = value
            if metric.kind is Kind.COUNTER:
                self._grow(name, metric.help, metric.labels, value[0] - before[0], tags)
            else:
                observations = sum(value[1:]) - sum(before[1:])
                self._grow(name + "_sum", metric.help, metric.labels, value[0] - before[0], tags)
                self._grow(name + "_observations", metric.help, metric.labels, observations, tags)

    def _grow(self, name: str, help: str, labels: tuple[str, ...], amount: float, tags: dict[str, str]) -> None:
        if amount > 0:
            self._metric(metrics.Counter, name, help, labels).inc(amount, tags)

    def _metric(self, kind: Any, name: str, help: str, labels: tuple[str, ...]) -> Any:
        metric = self._metrics.get(name)
        if metric is None:
            metric = self._metrics[name] = kind(name, description=help, tag_keys=labels)
        return metric


def _ray_name(name: str) -> str:
    flat = name.strip(":").replace(":", "_").removesuffix("_total")  # which Ray adds to counters
    return flat if flat.startswith("aspired_") else f"aspired_{flat}"
