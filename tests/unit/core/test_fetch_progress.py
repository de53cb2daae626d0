"""How far fetching is, and how it is told."""

from __future__ import annotations

import pytest

from cluster.core.fetch_progress import FetchProgress, ProgressMeter, total_progress

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("progress", "told"),
    [
        (FetchProgress(120 * MEBIBYTE, 512 * MEBIBYTE, 84.2 * MEBIBYTE), "120 of 512 MiB, 84 MiB/s"),
        (FetchProgress(MEBIBYTE // 2, MEBIBYTE, MEBIBYTE / 4), "0.5 of 1.0 MiB, 0.2 MiB/s"),
        (FetchProgress(0, 512 * MEBIBYTE, 0.0, "the store is away"), "0 of 512 MiB, 0 MiB/s: the store is away"),
        (FetchProgress(0, 0, trouble="the store is away"), "the store is away"),
        (FetchProgress(0, 0), "its listing"),
    ],
)
def test_it_is_told_in_mebibytes(progress: FetchProgress, told: str) -> None:
    assert str(progress) == told


def test_the_speed_is_that_of_the_last_seconds() -> None:
    meter = ProgressMeter(now=0.0)
    assert meter.read(0, 10_000, now=0.0).bytes_per_s == 0.0
    for second in range(1, 11):
        steady = meter.read(second * 100, 10_000, now=float(second))
    assert steady.bytes_per_s == pytest.approx(100.0)
    assert meter.read(1000, 10_000, now=13.0).bytes_per_s == pytest.approx(50.0)
    assert meter.read(1000, 10_000, now=40.0).bytes_per_s < 1.0


def test_what_was_there_before_does_not_count_as_speed() -> None:
    meter = ProgressMeter(now=0.0)
    assert meter.read(5000, 10_000, now=1.0).bytes_per_s == 0.0


def test_parts_that_are_fetched_again_are_no_negative_speed() -> None:
    meter = ProgressMeter(now=0.0)
    meter.read(5000, 10_000, now=1.0)
    assert meter.read(100, 10_000, now=2.0).bytes_per_s == 0.0


def test_what_nodes_fetch_is_summed_up() -> None:
    total = total_progress([FetchProgress(1, 10, 2.0), FetchProgress(3, 10, 4.0, "slow"), FetchProgress(5, 10, 6.0)])
    assert total == FetchProgress(9, 30, 12.0, "slow")
