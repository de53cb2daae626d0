from __future__ import annotations

import pytest

from servables.frontend.refusal_pace import RefusalPace


def test_rare_refusals_cost_no_pause() -> None:
    pace = RefusalPace(refusals_per_s=10.0)
    assert [pace.pause_s(float(now)) for now in range(100)] == [0.0] * 100


def test_refusals_at_once_are_heard_one_after_the_other() -> None:
    pace = RefusalPace(refusals_per_s=1000.0)
    pauses = [pace.pause_s(100.0) for _ in range(500)]
    assert pauses == sorted(pauses)
    assert pauses[-1] - pauses[-2] == pytest.approx(1e-3)


def test_a_small_burst_is_heard_at_once() -> None:
    pace = RefusalPace(refusals_per_s=1000.0)
    assert not any(pace.pause_s(100.0) for _ in range(200))


def test_no_pause_is_longer_than_the_longest_and_a_flood_is_forgotten_after_it() -> None:
    pace = RefusalPace(refusals_per_s=1000.0, longest_pause_s=1.0)
    assert max(pace.pause_s(100.0) for _ in range(50_000)) == 1.0
    assert pace.pause_s(102.0) == 0.0


def test_clients_that_always_come_back_are_heard_at_the_rate() -> None:
    pace = RefusalPace(refusals_per_s=1000.0, longest_pause_s=1.0)
    due = [0.0] * 500
    refusals, now = 0, 0.0
    while now < 10.0:
        client = min(range(len(due)), key=due.__getitem__)
        now = max(now, due[client])
        due[client] = now + pace.pause_s(now) + 1e-6
        refusals += 1
    assert refusals <= 11_000  # ten seconds, each client once, and a burst
