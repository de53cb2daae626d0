from __future__ import annotations

import pytest

from cluster.bench.server_metrics import Breakdown, Stage, breakdown, read_series
from cluster.core import metric_catalog as catalog
from cluster.core.errors import DataLoss
from cluster.core.metrics import MetricCells
from cluster.core.prometheus_text import prometheus_text


class Server:
    """Counts as a server does."""

    def __init__(self) -> None:
        self.cells = MetricCells()

    def answer(self, model: str = "m", requests: int = 10, request_us: float = 1000, runtime_us: float = 700) -> None:
        for _ in range(requests):
            self.cells.histogram(catalog.REQUEST_LATENCY, model, "predict", "REST").observe(request_us)
            self.cells.histogram(catalog.RUNTIME_LATENCY, model, "predict", "TF1").observe(runtime_us)

    def run(self, runs: int = 10, run_us: float = 200) -> None:
        self.cells.counter(catalog.GRAPH_RUNS).add(runs)
        self.cells.counter(catalog.GRAPH_RUN_TIME_USECS).add(runs * run_us)

    def batch(self, queue_us: float, rows: float) -> None:
        self.cells.histogram(catalog.QUEUING_LATENCY, "pool").observe(queue_us)
        self.cells.histogram(catalog.PROCESSED_BATCH_SIZE).observe(rows)

    def stage(self, name: str, micros: float, model: str = "m") -> None:
        self.cells.histogram(catalog.STAGE_LATENCY, model, name).observe(micros)

    def text(self) -> str:
        self.cells.forget_reports()
        return prometheus_text(catalog.METRICS, self.cells.changes())


def between(before: Server | None, after: Server, model: str = "m") -> Breakdown | None:
    return breakdown(read_series(before.text() if before else ""), read_series(after.text()), model)


def test_the_time_of_a_request_is_split_into_what_tf_servings_metrics_tell() -> None:
    server = Server()
    server.answer()
    server.run()
    assert between(None, server) == Breakdown(
        10, 1000, (Stage("codec", 300), Stage("hop", 500), Stage("run", 200)), rows_per_run=None
    )


def test_with_batching_the_queue_and_the_fill_of_batches_are_told() -> None:
    server = Server()
    server.answer()
    server.run(runs=5)
    server.batch(queue_us=100, rows=6)
    server.batch(queue_us=300, rows=2)
    found = between(None, server)
    assert found is not None
    assert found.stages == (Stage("codec", 300), Stage("hop", 300), Stage("queue", 200), Stage("run", 200))
    assert found.rows_per_run == 4


def test_only_what_came_between_the_readings_counts() -> None:
    server = Server()
    server.answer(requests=1000, request_us=9)
    before = read_series(server.text())
    server.answer(requests=4, request_us=500, runtime_us=400)
    found = breakdown(before, read_series(server.text()), "m")
    assert found is not None
    assert (found.requests, found.request_us, found.stages[0]) == (4, 500, Stage("codec", 100))


def test_other_models_do_not_count_and_a_model_without_requests_has_no_breakdown() -> None:
    server = Server()
    server.answer("m", request_us=100)
    server.answer("other", request_us=900)
    found = between(None, server)
    assert found is not None
    assert found.request_us == 100
    assert between(None, server, "idle") is None
    assert between(server, server) is None


def test_the_servers_own_stages_are_taken_in_the_order_of_a_requests_way() -> None:
    server = Server()
    server.answer()
    server.run()
    for number, stage in enumerate(("encode", "replica_run", "unheard_of", "decode", "replica")):
        server.stage(stage, number)
        server.stage(stage, 1e6, model="other")
    found = between(None, server)
    assert found is not None
    assert found.stages == (
        Stage("decode", 3),
        Stage("replica", 4),
        Stage("replica_run", 1),
        Stage("encode", 0),
        Stage("unheard_of", 2),
    )


def test_a_server_that_was_started_again_counts_from_zero() -> None:
    earlier, server = Server(), Server()
    earlier.answer(requests=100)
    server.answer(requests=5)
    assert between(earlier, server) is None


def test_a_models_name_may_hold_anything() -> None:
    server = Server()
    server.answer('a "b", c} \\ d')
    found = between(None, server, 'a "b", c} \\ d')
    assert found is not None
    assert found.requests == 10


@pytest.mark.parametrize("text", ["<html>", "a b c", "nothing"])
def test_what_is_no_metrics_is_told(text: str) -> None:
    with pytest.raises(DataLoss, match="not a line of Prometheus's text format"):
        read_series(text)
