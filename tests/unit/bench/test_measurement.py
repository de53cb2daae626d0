from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.bench.measurement import WINDOWS, Measurement, Schedule, is_stable
from tests.unit.bench.bench_samples import a_sample


def schedule(window_s: float = 1.0, percent: float | None = 10.0, max_windows: int = 6) -> Schedule:
    return Schedule(warmup_s=1.0, window_s=window_s, stability_percent=percent, max_windows=max_windows)


def add(measurement: Measurement, *counts: int, latency_ms: float = 1.0) -> None:
    for count in counts:
        measurement.add(a_sample([latency_ms] * count))


@pytest.mark.parametrize(("window_s", "ticks", "tick_s"), [(2.0, 2, 1.0), (2.5, 2, 1.25), (0.3, 1, 0.3), (1.0, 1, 1.0)])
def test_ticks_come_about_once_a_second_and_fill_a_window(window_s: float, ticks: int, tick_s: float) -> None:
    assert (schedule(window_s).ticks_per_window, schedule(window_s).tick_s) == (ticks, tick_s)


def test_is_done_when_three_windows_agree() -> None:
    measurement = Measurement(schedule())
    add(measurement, 50, 100, 104)
    assert (measurement.done, measurement.stable) == (False, False)
    add(measurement, 98)
    assert (measurement.done, measurement.stable) == (True, True)
    assert measurement.sample().requests_per_s == pytest.approx((100 + 104 + 98) / 3)


def test_throughput_that_holds_is_not_stable_while_p99_still_moves() -> None:
    measurement = Measurement(schedule())
    add(measurement, 100, 100)
    add(measurement, 100, latency_ms=2.0)
    assert measurement.stable is False


def test_gives_up_on_stability_after_so_many_windows_and_says_so() -> None:
    measurement = Measurement(schedule(max_windows=4))
    add(measurement, 10, 20, 40)
    assert not measurement.done
    add(measurement, 80)
    assert (measurement.done, measurement.stable) == (True, False)
    assert measurement.sample().succeeded == 20 + 40 + 80


def test_windows_are_made_of_whole_ticks() -> None:
    measurement = Measurement(schedule(window_s=2.0))
    add(measurement, *[50, 150] * 2, 50)
    assert not measurement.done
    add(measurement, 150)
    assert measurement.done
    assert measurement.sample().elapsed_s == 6.0


def test_a_given_duration_is_one_window_and_no_question_of_stability() -> None:
    measurement = Measurement(schedule(window_s=3.0, percent=None, max_windows=1))
    add(measurement, 1, 100)
    assert not measurement.done
    add(measurement, 1000)
    assert (measurement.done, measurement.stable) == (True, None)
    assert measurement.sample().succeeded == 1101


def test_a_measurement_that_was_cut_short_is_what_there_is() -> None:
    measurement = Measurement(schedule(window_s=5.0))
    assert not measurement.begun
    add(measurement, 10, 20)
    assert measurement.begun
    assert measurement.sample().succeeded == 30


def test_windows_without_a_success_are_never_stable() -> None:
    assert not is_stable([a_sample([])] * WINDOWS, 10)


@given(counts=st.lists(st.integers(1, 200), min_size=WINDOWS, max_size=WINDOWS), percent=st.floats(1, 100))
def test_stable_means_within_so_many_percent_of_the_mean(counts: list[int], percent: float) -> None:
    mean = sum(counts) / WINDOWS
    away = max(abs(count - mean) for count in counts) / mean * 100
    if abs(away - percent) > 1e-6:
        assert is_stable([a_sample([1.0] * count) for count in counts], percent) == (away < percent)
