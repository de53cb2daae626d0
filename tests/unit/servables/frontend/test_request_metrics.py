"""What a frontend counts of its requests; what it counts is seen in tests/contract/test_operator_routes.py."""

from __future__ import annotations

import tracemalloc

from cluster.core.errors import Code
from cluster.core.metrics import MAX_LABEL_CHARS, MetricCells
from servables.frontend.request_metrics import RequestMetrics

REQUESTS = 200
NAME_CHARS = 1 << 16


def test_names_that_clients_make_up_are_not_kept_at_length() -> None:
    metrics = RequestMetrics(MetricCells())
    tracemalloc.start()
    try:
        for number in range(REQUESTS):
            metrics.answered("REST", f"{number} {'m' * NAME_CHARS}", "predict", Code.NOT_FOUND, 0.0)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < REQUESTS * 8 * MAX_LABEL_CHARS
    assert len(metrics.cells.changes()) == REQUESTS
