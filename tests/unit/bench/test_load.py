from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.bench.load import Arrivals, ClosedLoop, OpenLoop


@given(concurrency=st.integers(1, 500), processes=st.integers(1, 20))
def test_processes_share_the_concurrency_evenly(concurrency: int, processes: int) -> None:
    shares = [ClosedLoop(concurrency).share(index, processes) for index in range(processes)]
    assert sum(shares) == concurrency
    assert max(shares) - min(shares) <= 1


@given(rate=st.floats(1, 1e5), processes=st.integers(1, 8))
def test_constant_arrivals_of_all_processes_are_evenly_spaced(rate: float, processes: int) -> None:
    load = OpenLoop(rate=rate, arrivals=Arrivals.CONSTANT)
    times = sorted(time for index in range(processes) for time in itertools.islice(load.send_times(index, processes), 50))
    assert times == pytest.approx([number / rate for number in range(50 * processes)])


@pytest.mark.parametrize("processes", [1, 4])
def test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_users(processes: int) -> None:
    load = OpenLoop(rate=1000, seed=7)
    count = 40_000 // processes
    times = sorted(time for index in range(processes) for time in itertools.islice(load.send_times(index, processes), count))
    end = min(max(itertools.islice(load.send_times(index, processes), count)) for index in range(processes))
    times = [time for time in times if time <= end]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1e-3, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.05)  # as an exponential distribution has it


def test_poisson_arrivals_are_the_same_for_the_same_seed_and_others_for_another_process() -> None:
    def first(seed: int, index: int) -> list[float]:
        return list(itertools.islice(OpenLoop(rate=10, seed=seed).send_times(index, 2), 5))

    assert first(1, 0) == first(1, 0)
    assert first(1, 0) != first(2, 0)
    assert first(1, 0) != first(1, 1)


def test_every_process_of_an_open_loop_can_send() -> None:
    assert [OpenLoop(rate=1, max_in_flight=2).share(index, 3) for index in range(3)] == [1, 1, 1]
