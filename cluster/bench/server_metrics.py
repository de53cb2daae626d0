"""Where the server says the time went: the difference of two readings of its Prometheus metrics, TF Serving's or ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from cluster.core import metric_catalog as catalog
from cluster.core.errors import DataLoss

METRICS_PATH = "/monitoring/prometheus/metrics"

Series: TypeAlias = dict[str, float]
"""A series as the text names it, labels and all, and its value; of histograms the sums and counts."""

_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Stage:
    """What requests spent there on average."""

    name: str
    mean_us: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """`request_us` is the mean time of a request in the server, from its arrival to its answer; `stages` are parts of it.

    `rows_per_run` tells how full batches were; None without batching.
    """

    requests: int
    request_us: float
    stages: tuple[Stage, ...]
    rows_per_run: float | None


def read_series(text: str) -> Series:
    """Raises DataLoss for text that is not Prometheus's."""
    series: Series = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, value = line.rpartition(" ")
        if "_bucket{" in name:
            continue
        try:
            series[name] = float(value)
        except ValueError:
            raise DataLoss(f"not a line of Prometheus's text format: {line[:100]}") from None
        if not name:
            raise DataLoss(f"not a line of Prometheus's text format: {line[:100]}")
    return series


def breakdown(before: Series, after: Series, model: str) -> Breakdown | None:
    """Of the model's requests that were answered between two readings; None where there were none.

    From the stages' own histogram, where the server has it. Else from TF Serving's metrics, of which queue and run are those
    of all models: `codec` is what the frontend does, `hop` the way to the replica and back.
    """
    spent = _Spent(before, after)
    requests, request_us = spent.mean(catalog.REQUEST_LATENCY.name, model_name=model)
    if not requests:
        return None
    rows_runs, rows_per_run = spent.mean(catalog.PROCESSED_BATCH_SIZE.name)
    stages = tuple(_own_stages(spent, model)) or tuple(_derived_stages(spent, model, request_us))
    return Breakdown(requests, request_us, stages, rows_per_run if rows_runs else None)


class _Spent:
    def __init__(self, before: Series, after: Series) -> None:
        # A server that was started again counts from zero.
        self._grown = {name: max(0.0, value - before.get(name, 0.0)) for name, value in after.items()}
        self._labels = {name: {label: _unescaped(value) for label, value in _LABEL.findall(name)} for name in after}

    def total(self, metric: str, **labels: str) -> float:
        return sum(
            value
            for name, value in self._grown.items()
            if name.partition("{")[0] == metric and labels.items() <= self._labels[name].items()
        )

    def mean(self, metric: str, **labels: str) -> tuple[int, float]:
        """A histogram's count and mean."""
        count = self.total(f"{metric}_count", **labels)
        return int(count), self.total(f"{metric}_sum", **labels) / count if count else 0.0

    def values_of(self, metric: str, label: str) -> list[str]:
        """A label's values, in the order of the text."""
        found = (self._labels[name].get(label) for name in self._grown if name.partition("{")[0] == metric)
        return list(dict.fromkeys(value for value in found if value is not None))


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], value)


def _own_stages(spent: _Spent, model: str) -> Iterator[Stage]:
    names = spent.values_of(f"{catalog.STAGE_LATENCY.name}_count", "stage")
    known = [name for name in catalog.STAGES if name in names]
    for name in (*known, *(name for name in names if name not in known)):
        count, mean_us = spent.mean(catalog.STAGE_LATENCY.name, model_name=model, stage=name)
        if count:
            yield Stage(name, mean_us)


def _derived_stages(spent: _Spent, model: str, request_us: float) -> Iterator[Stage]:
    answered, runtime_us = spent.mean(catalog.RUNTIME_LATENCY.name, model_name=model)
    runs = spent.total(catalog.GRAPH_RUNS.name)
    run_us = spent.total(catalog.GRAPH_RUN_TIME_USECS.name) / runs if runs else 0.0
    queued, queue_us = spent.mean(catalog.QUEUING_LATENCY.name)
    if answered:
        yield Stage("codec", max(0.0, request_us - runtime_us))
        yield Stage("hop", max(0.0, runtime_us - queue_us - run_us))
    if queued:
        yield Stage("queue", queue_us)
    if runs:
        yield Stage("run", run_us)
