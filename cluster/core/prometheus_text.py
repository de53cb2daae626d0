"""Prometheus's text format, as TF Serving writes it (`util/prometheus_exporter.cc`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cluster.core.metrics import CellKey, Kind, Metric, Value

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def prometheus_text(metrics: Iterable[Metric], values: Mapping[CellKey, Value]) -> str:
    """All series of `metrics`, in their order; one without series still has its `# TYPE` line."""
    of_metric: dict[str, list[CellKey]] = {}
    for key in sorted(values):
        of_metric.setdefault(key.metric, []).append(key)
    return "".join(
        line for metric in metrics for line in _lines(metric, ((key, values[key]) for key in of_metric.get(metric.name, ())))
    )


def _lines(metric: Metric, series: Iterable[tuple[CellKey, Value]]) -> Iterator[str]:
    if metric.help:
        yield f"# HELP {metric.name} {metric.help}\n"
    yield f"# TYPE {metric.name} {metric.kind.value}\n"
    for key, value in series:
        labels = [f'{name}="{_escaped(label)}"' for name, label in zip(metric.labels, key.labels, strict=True)]
        if metric.kind is Kind.HISTOGRAM:
            yield from _histogram_lines(metric, labels, value)
        else:
            yield f"{metric.name}{{{','.join(labels)}}} {_number(value[0])}\n"


def _histogram_lines(metric: Metric, labels: Sequence[str], value: Value) -> Iterator[str]:
    total, *counts = value
    cumulative = 0.0
    for bound, count in zip((*metric.bounds, float("inf")), counts, strict=True):
        cumulative += count
        limit = 'le="+Inf"' if bound == float("inf") else f'le="{bound:g}"'
        yield f"{metric.name}_bucket{{{','.join([*labels, limit])}}} {_number(cumulative)}\n"
    yield f"{metric.name}_sum{{{','.join(labels)}}} {_number(total)}\n"
    yield f"{metric.name}_count{{{','.join(labels)}}} {_number(cumulative)}\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
