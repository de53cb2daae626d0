from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.bench.latency_histogram import RELATIVE_ERROR, SHORTEST_S, LatencyHistogram

LATENCIES = st.lists(st.floats(SHORTEST_S, 1000), min_size=1, max_size=200)


@given(latencies=LATENCIES, percent=st.floats(0, 100))
def test_a_percentile_is_that_of_the_sorted_latencies_but_for_the_width_of_a_bucket(
    latencies: list[float], percent: float
) -> None:
    rank = max(1, math.ceil(round(percent / 100 * len(latencies), 6)))
    exact = sorted(latencies)[rank - 1]
    found = LatencyHistogram.of(latencies).percentile_s(percent)
    assert exact * (1 - 1e-9) <= found <= exact * (1 + RELATIVE_ERROR) * (1 + 1e-9)


@given(latencies=LATENCIES, cut=st.integers(0, 200))
def test_merged_parts_are_the_histogram_of_the_whole(latencies: list[float], cut: int) -> None:
    whole = LatencyHistogram.of(latencies)
    merged = LatencyHistogram.merged([LatencyHistogram.of(latencies[:cut]), LatencyHistogram.of(latencies[cut:])])
    assert (merged.count, merged.longest_s) == (whole.count, whole.longest_s)
    assert merged.mean_s == pytest.approx(whole.mean_s)
    for percent in (0, 50, 90, 99, 99.9, 100):
        assert merged.percentile_s(percent) == whole.percentile_s(percent)


def test_the_hundredth_percentile_is_the_longest() -> None:
    assert LatencyHistogram.of([0.001, 0.0123456]).percentile_s(100) == 0.0123456


@pytest.mark.parametrize("empty", [LatencyHistogram.of([]), LatencyHistogram.merged([])])
def test_nothing_has_no_latency(empty: LatencyHistogram) -> None:
    assert (empty.count, empty.mean_s, empty.longest_s, empty.percentile_s(99)) == (0, 0.0, 0.0, 0.0)


def test_what_no_bucket_is_made_for_counts_in_the_nearest() -> None:
    histogram = LatencyHistogram.of([0.0, 1e-9, 1e9])
    assert histogram.count == 3
    assert histogram.percentile_s(50) == pytest.approx(SHORTEST_S, rel=0.01)
    assert histogram.percentile_s(100) > 86_400


def test_crosses_processes() -> None:
    histogram = pickle.loads(pickle.dumps(LatencyHistogram.of([0.002] * 10)))
    assert (histogram.count, histogram.percentile_s(50)) == (10, 0.002)
