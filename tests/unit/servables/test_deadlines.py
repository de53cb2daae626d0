from __future__ import annotations

import math

import pytest

from servables.deadlines import Deadlines


class Waiting:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.waiting = True


@pytest.fixture
def deadlines() -> Deadlines[Waiting]:
    return Deadlines()


def test_pops_what_is_over_earliest_first(deadlines: Deadlines[Waiting]) -> None:
    late, early, later = Waiting(2.0), Waiting(1.0), Waiting(3.0)
    for waiter in (late, early, later):
        deadlines.add(waiter)

    assert deadlines.pop_expired(2.0) == [early, late]
    assert deadlines.earliest() == 3.0


def test_passes_over_what_no_longer_waits(deadlines: Deadlines[Waiting]) -> None:
    gone, waiting = Waiting(1.0), Waiting(2.0)
    deadlines.add(gone)
    deadlines.add(waiting)
    gone.waiting = False

    assert deadlines.earliest() == 2.0
    assert deadlines.pop_expired(5.0) == [waiting]


def test_infinite_deadlines_never_expire(deadlines: Deadlines[Waiting]) -> None:
    deadlines.add(Waiting(math.inf))

    assert deadlines.earliest() == math.inf
    assert deadlines.pop_expired(1e30) == []


def test_sweeps_keep_what_waits_behind_many_that_do_not(deadlines: Deadlines[Waiting]) -> None:
    waiting = [Waiting(float(deadline)) for deadline in (1, 5000)]
    for waiter in waiting:
        deadlines.add(waiter)
    for deadline in range(2, 1000):
        passing = Waiting(float(deadline))
        deadlines.add(passing)
        passing.waiting = False

    assert len(deadlines) <= 200
    assert deadlines.pop_expired(1e30) == waiting
