"""What a version's queue does under more work than it can do, in virtual time."""

from __future__ import annotations

import random

import pytest

from tests.simulation.simulated_queue import SimulatedQueue

SEEDS = range(3)


def exponential(rate: float, seed: int) -> SimulatedQueue:
    """A queue whose calls take a time by chance: `rate` of them are served in a second."""
    chance = random.Random(seed)
    return SimulatedQueue(lambda: chance.expovariate(rate / 2), servers=2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rate", [20.0, 200.0, 600.0])
def test_at_ten_times_the_load_accepted_calls_wait_for_a_bounded_time_and_nothing_is_lost(rate: float, seed: int) -> None:
    queue = exponential(rate, seed)
    queue.arrive_all(10 * rate, 60.0, seed)
    assert max(queue.waits_s) < 2 * 10.0
    settled = [wait for wait, at in zip(queue.waits_s, queue.served_at, strict=True) if at > 40.0]
    assert max(settled) < 1.5 * 10.0
    assert queue.served_calls > 0.95 * rate * 60.0


@pytest.mark.parametrize("seed", SEEDS)
def test_below_what_is_served_nothing_is_refused(seed: int) -> None:
    queue = exponential(200.0, seed)
    queue.arrive_all(180.0, 120.0, seed)
    assert queue.refused_at == []


@pytest.mark.parametrize("rate", [150.0, 1000.0, 10_000.0])
def test_a_thousand_clients_that_wait_for_their_answers_are_never_refused(rate: float) -> None:
    queue = exponential(rate, 0)
    queue.close_loop(1000)
    queue.clock.run_until(20.0)
    assert queue.refused_at == []


def test_a_slow_model_refuses_no_small_crowd() -> None:
    queue = SimulatedQueue(lambda: 5.0, servers=2)
    queue.close_loop(100)
    queue.clock.run_until(200.0)
    assert queue.refused_at == []


def test_batches_that_end_together_are_no_stand_still() -> None:
    queue = SimulatedQueue(lambda: 2.0, servers=256)
    queue.close_loop(1000)
    queue.clock.run_until(60.0)
    assert queue.refused_at == []


def test_calls_that_cannot_be_answered_before_their_deadline_are_refused_and_the_rest_are_in_time() -> None:
    queue = exponential(1000.0, 0)
    queue.arrive_all(5000.0, 20.0, timeout_s=0.5)
    settled = [wait for wait, at in zip(queue.waits_s, queue.served_at, strict=True) if at > 5.0]
    assert sum(wait <= 0.5 for wait in settled) > 0.5 * len(settled)
    assert max(settled) < 1.0


def test_when_the_flood_is_over_everything_is_taken_again() -> None:
    queue = exponential(200.0, 0)
    queue.arrive_all(2000.0, 30.0)
    assert queue.refused_at
    queue.clock.advance(30.0)
    assert queue.outstanding == 0
    refused = len(queue.refused_at)
    queue.arrive_all(180.0, 60.0)
    assert len(queue.refused_at) == refused


def test_a_version_that_becomes_fast_takes_more_at_once() -> None:
    service_s = [0.1]
    queue = SimulatedQueue(lambda: service_s[0], servers=2)
    queue.arrive_all(200.0, 30.0)
    slow = queue.served_calls
    assert queue.refused_at
    service_s[0] = 0.001
    queue.arrive_all(200.0, 60.0)
    assert queue.served_calls > slow + 0.9 * 200 * 55
    assert not any(at > 60.0 for at in queue.refused_at)


def test_a_version_that_stands_still_takes_no_more_than_a_crowd_and_what_came_before_that_was_known() -> None:
    queue = SimulatedQueue(lambda: 1e9, servers=2)
    queue.arrive_all(500.0, 60.0)
    assert queue.outstanding <= 500 * 6
