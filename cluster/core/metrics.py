"""Counting: what is measured, and the cells that hold the values of one process."""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

MAX_CELLS_PER_METRIC = 5000
"""Clients choose some label values (a model's name, for one): what comes beyond this many is counted together."""
MAX_LABEL_CHARS = 256
OTHER = "(other)"


class Kind(enum.Enum):
    """The values are Prometheus's names."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured. `bounds` are a histogram's upper bounds, increasing; beyond the last one lies one bucket more."""

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    help: str = ""


class CellKey(NamedTuple):
    """One series: a metric's name and the values of its labels, in the metric's order."""

    metric: str
    labels: tuple[str, ...] = ()


_Labels = TypeVar("_Labels", bound=tuple[str, ...])
Value = tuple[float, ...]
"""A counter's or a gauge's value alone; a histogram's sum and then the count of each of its buckets. Counters add up."""


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """The bounds scale, scale*growth, ... (TensorFlow: `monitoring::Buckets::Exponential`)."""
    return tuple(scale * growth**power for power in range(count))


class Counter:
    """Only grows."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total: float = 0

    def add(self, amount: float = 1) -> None:
        self.total += amount

    def value(self) -> Value:
        return (self.total,)


class Gauge:
    """What is there now."""

    __slots__ = ("level",)

    def __init__(self) -> None:
        self.level: float = 0

    def set(self, level: float) -> None:
        self.level = level

    def value(self) -> Value:
        return (self.level,)


class Histogram:
    """How often values up to each bound were observed, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum: float = 0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def value(self) -> Value:
        return (self._sum, *self._counts)


class MetricCells:
    """The cells of one process, made when they are first asked for; callers may keep them.

    Who counts on several threads holds a lock while it does (`servables.run_metrics`). Reports need none.
    """

    def __init__(self) -> None:
        self._cells: dict[CellKey, Counter | Gauge | Histogram] = {}
        self._cells_of: dict[str, int] = {}
        self._reported: dict[CellKey, Value] = {}

    def counter(self, metric: Metric, *labels: str) -> Counter:
        cell = self._cell(metric, labels)
        assert isinstance(cell, Counter), metric
        return cell

    def gauge(self, metric: Metric, *labels: str) -> Gauge:
        cell = self._cell(metric, labels)
        assert isinstance(cell, Gauge), metric
        return cell

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        cell = self._cell(metric, labels)
        assert isinstance(cell, Histogram), metric
        return cell

    def set_gauges(self, metric: Metric, levels: Mapping[_Labels, float]) -> None:
        """These are all the gauges of the metric: one of other label values is no more."""
        for key in [key for key in self._cells if key.metric == metric.name]:
            del self._cells[key]
        self._cells_of.pop(metric.name, None)
        for labels, level in levels.items():
            gauge = self.gauge(metric, *labels)
            gauge.set(gauge.level + level)  # those that are counted together add up

    def changes(self) -> dict[CellKey, Value]:
        """All gauges; and the values of the rest, each as a whole, that are not what the last call returned."""
        changed = {}
        for key, cell in list(self._cells.items()):
            value = cell.value()
            if isinstance(cell, Gauge):
                changed[key] = value
            elif self._reported.get(key) != value:
                changed[key] = self._reported[key] = value
        return changed

    def forget_reports(self) -> None:
        """The next `changes` are all values: whom they were told has forgotten them."""
        self._reported.clear()

    def _cell(self, metric: Metric, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        key = CellKey(metric.name, labels)
        cell = self._cells.get(key)
        return cell if cell is not None else self._new_cell(metric, labels)

    def _new_cell(self, metric: Metric, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        assert len(labels) == len(metric.labels), (metric, labels)
        key = CellKey(metric.name, tuple(label[:MAX_LABEL_CHARS] for label in labels))
        if key not in self._cells and self._cells_of.get(metric.name, 0) >= MAX_CELLS_PER_METRIC:
            key = CellKey(metric.name, (OTHER,) * len(labels))
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = _empty_cell(metric)
            self._cells_of[metric.name] = self._cells_of.get(metric.name, 0) + 1
        return cell


def _empty_cell(metric: Metric) -> Counter | Gauge | Histogram:
    match metric.kind:
        case Kind.COUNTER:
            return Counter()
        case Kind.GAUGE:
            return Gauge()
        case Kind.HISTOGRAM:
            return Histogram(metric.bounds)
