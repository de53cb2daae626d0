from __future__ import annotations

import pytest

from cluster.bench.sample import one_after_another, side_by_side
from cluster.core.errors import Code
from tests.unit.bench.bench_samples import a_sample


def test_generators_side_by_side_add_their_requests_to_the_same_time() -> None:
    both = side_by_side(
        [a_sample([1] * 100, elapsed_s=2.0, cpu_s=(0.2,)), a_sample([3] * 300, elapsed_s=2.0, cpu_s=(1.0,), late=2)]
    )
    assert (both.requests_per_s, both.rows_per_s, both.late) == (200, 200, 2)
    assert both.client_cpu_shares == (0.1, 0.5)
    assert both.client_cpu_share == 0.5
    assert both.latencies.mean_s == pytest.approx(0.0025)


def test_samples_one_after_another_add_their_time_too() -> None:
    all_of_it = one_after_another([a_sample([1] * 100, cpu_s=(0.1, 0.2)), a_sample([1] * 300, cpu_s=(0.3, 0.4))])
    assert (all_of_it.elapsed_s, all_of_it.requests_per_s) == (2.0, 200)
    assert all_of_it.cpu_s == pytest.approx((0.4, 0.6))


def test_failures_are_counted_by_code_and_are_no_throughput() -> None:
    sample = side_by_side(
        [
            a_sample([1], errors={Code.UNAVAILABLE: 1}),
            a_sample([1], errors={Code.UNAVAILABLE: 1, Code.RESOURCE_EXHAUSTED: 4}),
        ]
    )
    assert sample.errors == {Code.UNAVAILABLE: 2, Code.RESOURCE_EXHAUSTED: 4}
    assert sample.messages == {Code.UNAVAILABLE: "it is UNAVAILABLE", Code.RESOURCE_EXHAUSTED: "it is RESOURCE_EXHAUSTED"}
    assert (sample.requests_per_s, sample.failed, sample.failed_share) == (2, 6, 0.75)


def test_no_samples_are_an_empty_one() -> None:
    nothing = one_after_another([])
    assert (nothing.elapsed_s, nothing.requests_per_s, nothing.rows_per_s, nothing.failed_share) == (0, 0, 0, 0)
