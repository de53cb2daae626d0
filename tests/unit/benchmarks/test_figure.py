"""Ratios are formed round by round, and verdicts are of their median."""

from __future__ import annotations

import pytest

from scripts.benchmarks.figure import Figure, Spread, Target


def figure(aspired: tuple[float, ...], peer: tuple[float, ...] = (), target: Target | None = None) -> Figure:
    return Figure(scenario="row", quantity="throughput", unit="requests/s", aspired=aspired, peer=peer, target=target)


def test_a_slow_round_is_slow_for_both() -> None:
    assert figure((300.0, 30.0, 310.0), (100.0, 10.0, 100.0)).ratios == (3.0, 3.0, 3.1)


def test_without_a_peer_there_is_no_ratio() -> None:
    assert figure((300.0,)).ratios == ()


def test_the_spread_is_median_least_and_greatest() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (None, "-"),
        (Target(at_least=3.0), "met"),
        (Target(at_least=3.1), "not met"),
        (Target(at_most=3.0), "met"),
        (Target(at_most=2.9), "not met"),
    ],
)
def test_the_median_ratio_meets_a_target_or_not(target: Target | None, verdict: str) -> None:
    assert figure((100.0, 300.0, 900.0), (100.0, 100.0, 100.0), target).verdict == verdict


def test_without_a_peer_the_value_itself_meets_the_target() -> None:
    assert figure((2.0, 2.5, 9.0), target=Target(at_most=3.0, unit="s")).verdict == "met"


def test_targets_are_said_in_words() -> None:
    assert str(Target(at_least=1.3)) == "at least 1.3x"
    assert str(Target(at_most=3.0, unit="s")) == "at most 3 s"


@pytest.mark.parametrize(("aspired", "peer"), [((), ()), ((1.0, 2.0), (1.0,))])
def test_rounds_without_their_counterpart_are_refused(aspired: tuple[float, ...], peer: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="row, throughput"):
        figure(aspired, peer)
