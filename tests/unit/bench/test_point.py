from __future__ import annotations

import pytest

from cluster.bench.load import ClosedLoop, OpenLoop
from cluster.bench.point import Point, knee
from cluster.bench.sample import Sample
from cluster.bench.server_metrics import Breakdown
from cluster.core.errors import Code
from tests.unit.bench.bench_samples import a_sample


def closed(concurrency: int, sample: Sample) -> Point:
    return Point(load=ClosedLoop(concurrency), sample=sample)


def opened(rate: float, sample: Sample) -> Point:
    return Point(load=OpenLoop(rate=rate), sample=sample)


# A server that does four at a time, each in a millisecond, to more and more callers.
SWEEP = [
    closed(1, a_sample([1.0] * 100)),
    closed(2, a_sample([1.0] * 200)),
    closed(4, a_sample([1.1] * 380)),
    closed(8, a_sample([2.0] * 400)),
    closed(16, a_sample([4.0] * 402)),
]


def test_the_knee_is_where_throughput_stops_paying_for_latency() -> None:
    assert knee(SWEEP, None) is SWEEP[2]


def test_the_knee_of_a_server_whose_throughput_keeps_growing_slower_than_its_latency() -> None:
    loads = {1: (1908, 0.52), 4: (3493, 1.14), 16: (5351, 2.89), 64: (7900, 8.08)}
    sweep = [closed(load, a_sample([latency] * count)) for load, (count, latency) in loads.items()]
    assert knee(sweep, None) is sweep[2]


def test_a_curve_without_a_bend_has_no_knee() -> None:
    sweep = [closed(count, a_sample([latency] * count)) for count, latency in ((100, 1.0), (150, 5.0), (300, 9.0))]
    assert knee(sweep, None) is None


def test_while_latency_has_hardly_grown_the_last_load_is_still_below_the_knee() -> None:
    sweep = [opened(rate, a_sample([latency] * rate)) for rate, latency in ((100, 0.39), (500, 0.3), (900, 0.41))]
    assert knee(sweep, None) is sweep[2]


def test_with_a_budget_it_is_the_most_throughput_that_holds_it() -> None:
    assert knee(SWEEP, 3.0) is SWEEP[3]
    assert knee(SWEEP, 0.5) is None


def test_one_or_two_loads_have_no_knee_but_may_hold_a_budget() -> None:
    assert knee(SWEEP[:1], None) is None
    assert knee(SWEEP[:2], None) is None
    assert knee(SWEEP[:1], 3.0) is SWEEP[0]


def test_where_nothing_succeeded_is_no_knee() -> None:
    failed = closed(8, a_sample([], errors={Code.UNAVAILABLE: 9}))
    assert knee([failed] * 3, None) is None
    assert knee([failed], 1000.0) is None


def test_a_load_that_fails_more_than_now_and_then_holds_no_budget() -> None:
    assert closed(1, a_sample([1.0] * 200, errors={Code.RESOURCE_EXHAUSTED: 2})).holds(10)
    assert not closed(1, a_sample([1.0] * 200, errors={Code.RESOURCE_EXHAUSTED: 20})).holds(10)


def test_an_open_loop_whose_answers_fall_behind_does_not_hold_its_rate() -> None:
    behind = opened(1000, a_sample([1.0] * 700, scheduled=1000))
    assert behind.remarks() == ["rate not held"]
    assert not behind.holds(10)
    assert opened(1000, a_sample([1.0] * 900, scheduled=1000, errors={Code.RESOURCE_EXHAUSTED: 90})).rate_held


def test_a_client_without_time_left_is_told() -> None:
    assert closed(1, a_sample(cpu_s=(0.2, 0.95))).remarks() == ["client saturated"]
    assert opened(1, a_sample([1.0] * 100, scheduled=100, late=5)).remarks() == ["sent late"]
    assert opened(1, a_sample([1.0] * 500, scheduled=500, late=5)).remarks() == []
    assert closed(1, a_sample(cpu_s=(0.5, 0.5))).remarks() == []


def test_an_interrupted_measurement_is_told_as_such_alone() -> None:
    point = Point(load=ClosedLoop(1), sample=a_sample(), stable=False, interrupted=True)
    assert point.remarks() == ["interrupted"]
    assert Point(load=ClosedLoop(1), sample=a_sample(), stable=False).remarks() == ["not stable"]


def test_what_the_server_does_not_account_for_was_outside() -> None:
    def outside(request_us: float) -> float | None:
        found = Breakdown(requests=1, request_us=request_us, stages=(), rows_per_run=None)
        return Point(load=ClosedLoop(1), sample=a_sample([1.0]), breakdown=found).outside_us

    assert outside(600) == pytest.approx(400)
    assert outside(1200) == 0
    assert SWEEP[0].outside_us is None
