from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from cluster.core.metric_catalog import METRICS
from cluster.core.metrics import (
    MAX_CELLS_PER_METRIC,
    MAX_LABEL_CHARS,
    OTHER,
    CellKey,
    Kind,
    Metric,
    MetricCells,
    exponential,
)
from cluster.core.prometheus_text import prometheus_text

COUNTER = Metric("requests", Kind.COUNTER, ("model",), help="Requests.")
GAUGE = Metric("waiting", Kind.GAUGE, ("model",))
HISTOGRAM = Metric("micros", Kind.HISTOGRAM, (), (10.0, 18.0))


class TestCells:
    def test_a_cell_is_made_once_and_may_be_kept(self) -> None:
        cells = MetricCells()
        kept = cells.counter(COUNTER, "m")
        kept.add()
        cells.counter(COUNTER, "m").add(2)
        assert cells.changes() == {CellKey("requests", ("m",)): (3,)}

    def test_only_what_has_changed_is_reported_but_whole(self) -> None:
        cells = MetricCells()
        cells.counter(COUNTER, "a").add()
        cells.counter(COUNTER, "b").add()
        assert len(cells.changes()) == 2
        cells.counter(COUNTER, "b").add()
        assert cells.changes() == {CellKey("requests", ("b",)): (2,)}
        assert cells.changes() == {}

    def test_everything_is_reported_again_to_whom_has_forgotten(self) -> None:
        cells = MetricCells()
        cells.counter(COUNTER, "a").add()
        first = cells.changes()
        cells.forget_reports()
        assert cells.changes() == first

    def test_a_value_on_a_bound_belongs_below_it(self) -> None:
        cells = MetricCells()
        for value in (3, 10, 10.1, 18.1, 1e9):
            cells.histogram(HISTOGRAM).observe(value)
        assert cells.changes()[CellKey("micros")][1:] == (2, 1, 2)

    def test_gauges_are_reported_whether_they_have_changed_or_not(self) -> None:
        cells = MetricCells()
        cells.gauge(GAUGE, "a").set(3)
        assert cells.changes() == cells.changes() == {CellKey("waiting", ("a",)): (3,)}

    def test_gauges_that_are_not_named_any_more_are_no_more(self) -> None:
        cells = MetricCells()
        cells.set_gauges(GAUGE, {("a",): 3, ("b",): 1})
        cells.set_gauges(GAUGE, {("b",): 2})
        assert cells.changes() == {CellKey("waiting", ("b",)): (2,)}

    def test_gauges_that_come_and_go_for_ever_are_never_counted_together(self) -> None:
        cells = MetricCells()
        for number in range(MAX_CELLS_PER_METRIC + 100):
            cells.set_gauges(GAUGE, {(f"m{number}",): 1})
        assert cells.changes() == {CellKey("waiting", (f"m{number}",)): (1,)}

    def test_too_many_gauges_add_up(self) -> None:
        cells = MetricCells()
        cells.set_gauges(GAUGE, {(f"m{number}",): 2 for number in range(MAX_CELLS_PER_METRIC + 100)})
        assert cells.changes()[CellKey("waiting", (OTHER,))] == (200,)

    def test_label_values_that_clients_make_up_cost_bounded_memory(self) -> None:
        cells = MetricCells()
        for number in range(MAX_CELLS_PER_METRIC + 100):
            cells.counter(COUNTER, f"m{number}").add()
        cells.counter(COUNTER, "m0").add()
        changes = cells.changes()
        assert len(changes) == MAX_CELLS_PER_METRIC + 1
        assert changes[CellKey("requests", (OTHER,))] == (100,)
        assert changes[CellKey("requests", ("m0",))] == (2,)

    def test_long_label_values_are_cut(self) -> None:
        cells = MetricCells()
        cells.counter(COUNTER, "x" * 100_000).add()
        assert [key.labels for key in cells.changes()] == [("x" * MAX_LABEL_CHARS,)]


class TestPrometheusText:
    def test_is_laid_out_as_tf_serving_lays_it_out(self) -> None:
        cells = MetricCells()
        cells.counter(COUNTER, "m").add(7)
        cells.gauge(GAUGE, "m").set(0.5)
        for value in (3, 12, 99):
            cells.histogram(HISTOGRAM).observe(value)
        assert prometheus_text([COUNTER, GAUGE, HISTOGRAM], cells.changes()).splitlines() == [
            "# HELP requests Requests.",
            "# TYPE requests counter",
            'requests{model="m"} 7',
            "# TYPE waiting gauge",
            'waiting{model="m"} 0.5',
            "# TYPE micros histogram",
            'micros_bucket{le="10"} 1',
            'micros_bucket{le="18"} 2',
            'micros_bucket{le="+Inf"} 3',
            "micros_sum{} 114",
            "micros_count{} 3",
        ]

    def test_a_metric_without_series_still_has_its_type(self) -> None:
        assert prometheus_text([COUNTER], {}) == "# HELP requests Requests.\n# TYPE requests counter\n"

    def test_any_label_value_survives(self) -> None:
        name = 'a "quoted" \\ back\nslash'
        cells = MetricCells()
        cells.counter(COUNTER, name).add()
        (family,) = text_string_to_metric_families(prometheus_text([COUNTER], cells.changes()))
        assert [sample.labels for sample in family.samples] == [{"model": name}]

    def test_every_metric_of_the_catalog_is_understood_by_prometheus(self) -> None:
        cells = MetricCells()
        for metric in METRICS:
            labels = ["x"] * len(metric.labels)
            match metric.kind:
                case Kind.COUNTER:
                    cells.counter(metric, *labels).add()
                case Kind.GAUGE:
                    cells.gauge(metric, *labels).set(1)
                case Kind.HISTOGRAM:
                    cells.histogram(metric, *labels).observe(20)
        families = list(text_string_to_metric_families(prometheus_text(METRICS, cells.changes())))
        # The parser takes `_total` off the names of counters.
        assert [family.name for family in families] == [metric.name.removesuffix("_total") for metric in METRICS]
        assert all(family.documentation and family.samples for family in families)


def test_tf_serving_has_these_names_labels_and_buckets() -> None:
    latency, sizes = exponential(10, 1.8, 33), exponential(1, 2, 14)
    assert [f"{bound:g}" for bound in latency[:4]] == ["10", "18", "32.4", "58.32"]
    expected: dict[str, tuple[Kind, tuple[str, ...], tuple[float, ...]]] = {
        ":tensorflow:serving:request_count": (Kind.COUNTER, ("model_name", "status"), ()),
        ":tensorflow:serving:request_latency": (Kind.HISTOGRAM, ("model_name", "API", "entrypoint"), latency),
        ":tensorflow:serving:runtime_latency": (Kind.HISTOGRAM, ("model_name", "API", "runtime"), latency),
        ":tensorflow:serving:request_example_counts": (Kind.HISTOGRAM, ("model",), sizes),
        ":tensorflow:serving:request_example_count_total": (Kind.COUNTER, ("model",), ()),
        ":tensorflow:serving:request_log_count": (Kind.COUNTER, ("model_name", "status_code"), ()),
        ":tensorflow:serving:model_warmup_latency": (Kind.HISTOGRAM, ("model_path", "status"), latency),
        ":tensorflow:serving:model_warmup_records_read": (Kind.COUNTER, ("model_path", "status"), ()),
        ":tensorflow:serving:batching_session:queuing_latency": (
            Kind.HISTOGRAM,
            ("thread_pool_name",),
            exponential(100, 1.2, 52),
        ),
        ":tensorflow:serving:batching_session:wrapped_run_count": (Kind.COUNTER, (), ()),
        ":tensorflow:serving:batching_session:padding_size": (Kind.HISTOGRAM, ("execution_batch_size",), sizes),
        ":tensorflow:serving:batching_session:input_batch_size": (Kind.HISTOGRAM, (), sizes),
        ":tensorflow:serving:batching_session:processed_batch_size": (Kind.HISTOGRAM, (), sizes),
        ":tensorflow:serving:mlmd_map": (Kind.GAUGE, ("model_name", "version"), ()),
        ":tensorflow:cc:saved_model:load_attempt_count": (Kind.COUNTER, ("model_path", "status"), ()),
        ":tensorflow:cc:saved_model:load_latency": (Kind.COUNTER, ("model_path",), ()),
        ":tensorflow:core:graph_runs": (Kind.COUNTER, (), ()),
        ":tensorflow:core:graph_run_time_usecs": (Kind.COUNTER, (), ()),
        ":tensorflow:core:direct_session_runs": (Kind.COUNTER, (), ()),
    }
    theirs = [metric for metric in METRICS if not metric.name.startswith("aspired_")]
    assert {metric.name: (metric.kind, metric.labels, metric.bounds) for metric in theirs} == expected
