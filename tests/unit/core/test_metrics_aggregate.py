from __future__ import annotations

import random

import pytest

from cluster.core.metrics import CellKey, Kind, Metric, MetricCells, Value
from cluster.core.metrics_aggregate import FOLD_AFTER_S, MetricsAggregate

COUNTER = Metric("requests", Kind.COUNTER, ("model",))
GAUGE = Metric("waiting", Kind.GAUGE)
HISTOGRAM = Metric("micros", Kind.HISTOGRAM, (), (10.0,))
METRICS = (COUNTER, GAUGE, HISTOGRAM)
LEASE_S = 15.0
REQUESTS = CellKey("requests", ("m",))
WAITING = CellKey("waiting")


def aggregate() -> MetricsAggregate:
    return MetricsAggregate(METRICS, LEASE_S)


def test_processes_add_up() -> None:
    sums = aggregate()
    sums.report("a", {REQUESTS: (3,), WAITING: (1,), CellKey("micros"): (30, 2, 1)}, 0)
    sums.report("b", {REQUESTS: (4,), WAITING: (2,), CellKey("micros"): (5, 1, 0)}, 0)
    assert sums.sums(1) == {REQUESTS: (7,), WAITING: (3,), CellKey("micros"): (35, 3, 1)}


def test_a_report_that_comes_twice_counts_once() -> None:
    sums = aggregate()
    sums.report("a", {REQUESTS: (3,)}, 0)
    sums.report("a", {REQUESTS: (3,)}, 1)
    assert sums.sums(1) == {REQUESTS: (3,)}


def test_counts_that_a_report_does_not_name_have_not_changed() -> None:
    sums = aggregate()
    sums.report("a", {REQUESTS: (3,), WAITING: (1,)}, 0)
    sums.report("a", {WAITING: (2,)}, 1)
    assert sums.sums(1) == {REQUESTS: (3,), WAITING: (2,)}


def test_gauges_that_a_report_does_not_name_are_no_more() -> None:
    sums = aggregate()
    sums.report("a", {REQUESTS: (3,), WAITING: (1,)}, 0)
    sums.report("a", {REQUESTS: (4,)}, 1)
    assert sums.sums(1) == {REQUESTS: (4,)}


@pytest.mark.parametrize("silent_s", [LEASE_S + 1, FOLD_AFTER_S + 1])
def test_a_process_that_is_gone_leaves_its_counts_but_not_its_gauges(silent_s: float) -> None:
    sums = aggregate()
    sums.report("a", {REQUESTS: (3,), WAITING: (1,)}, 0)
    assert sums.sums(silent_s) == {REQUESTS: (3,)}
    assert sums.live(silent_s) == ()


def test_a_process_that_was_only_silent_is_not_counted_twice() -> None:
    sums = aggregate()
    sums.report("a", {REQUESTS: (3,)}, 0)
    assert sums.sums(LEASE_S + 1) == {REQUESTS: (3,)}
    sums.report("a", {REQUESTS: (5,)}, LEASE_S + 2)
    assert sums.sums(LEASE_S + 3) == {REQUESTS: (5,)}


class TestRestart:
    def restored(self, now: float) -> MetricsAggregate:
        first = aggregate()
        first.report("dead", {REQUESTS: (10,)}, 0)
        first.report("alive", {REQUESTS: (5,), WAITING: (4,)}, 0)
        second = aggregate()
        second.restore(first.save(1), now)
        return second

    def test_goes_on_from_the_sums(self) -> None:
        assert self.restored(100).sums(100) == {REQUESTS: (15,)}

    def test_counts_once_what_the_living_report_again(self) -> None:
        sums = self.restored(100)
        sums.report("alive", {REQUESTS: (7,), WAITING: (1,)}, 101)
        assert sums.sums(102) == {REQUESTS: (15,), WAITING: (1,)}
        sums.report("alive", {REQUESTS: (8,)}, 100 + LEASE_S + 1)
        assert sums.sums(100 + LEASE_S + 1)[REQUESTS] == (15,)
        sums.report("alive", {REQUESTS: (10,)}, 100 + LEASE_S + 2)
        assert sums.sums(100 + LEASE_S + 2)[REQUESTS] == (17,)


@pytest.mark.parametrize("seed", range(20))
def test_no_sum_of_counts_ever_falls(seed: int) -> None:
    """Processes come, count, fall silent, come back and die, and the aggregate itself restarts in between."""
    rng = random.Random(seed)
    sums = aggregate()
    cells: dict[str, MetricCells] = {}
    seen: dict[CellKey, Value] = {}
    now = 0.0
    for step in range(400):
        now += rng.choice((0.1, 1.0, LEASE_S, FOLD_AFTER_S / 2))
        if len(cells) < 5 and rng.random() < 0.2:
            cells[f"p{step}"] = MetricCells()
        for name in list(cells):
            cells[name].counter(COUNTER, rng.choice("mn")).add(rng.randint(0, 3))
            cells[name].histogram(HISTOGRAM).observe(rng.randint(0, 20))
            cells[name].gauge(GAUGE).set(rng.randint(0, 9))
            sums.report(name, cells[name].changes(), now)
            if rng.random() < 0.05:
                del cells[name]
        if rng.random() < 0.05:
            saved, sums = sums.save(now), aggregate()
            sums.restore(saved, now)
            for held in cells.values():
                held.forget_reports()
        values = sums.sums(now)
        for key, before in seen.items():
            assert all(new >= old for new, old in zip(values[key], before, strict=True)), (step, key)
        seen = {key: value for key, value in values.items() if key.metric != GAUGE.name}
