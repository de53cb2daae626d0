"""docs/monitoring.md's table of metrics.

Run as `python -m cluster.core.metric_reference`; what it prints belongs between the table's marks.
"""

from __future__ import annotations

from cluster.core.metric_catalog import METRICS
from cluster.core.metrics import Metric


def metric_reference() -> str:
    """A table row for each metric, in the order of the catalog."""
    rows = ["| metric | type | labels | what |", "|---|---|---|---|"]
    return "\n".join(rows + [_row(metric) for metric in METRICS]) + "\n"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
    return f"| `{metric.name}` | {metric.kind.value} | {labels} | {metric.help} |"


if __name__ == "__main__":
    print(metric_reference(), end="")
