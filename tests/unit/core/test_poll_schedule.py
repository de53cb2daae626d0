from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from cluster.core.errors import Code
from cluster.core.poll_schedule import JITTER, LONGEST_BACKOFF_S, PollSchedule
from tests.fakes.manual_clock import ManualClock


def pauses(codes: Sequence[Code], interval_s: float = 1.0, chance: float = 1.0) -> list[float]:
    schedule = PollSchedule(interval_s, lambda: chance)
    return [schedule.after(code) for code in codes]


def test_an_interval_varies_by_a_tenth() -> None:
    assert pauses([Code.OK] * 3, 10.0, chance=1.0)[1:] == pytest.approx([10 * (1 + JITTER)] * 2)
    assert pauses([Code.OK] * 3, 10.0, chance=0.0)[1:] == pytest.approx([10 * (1 - JITTER)] * 2)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code.UNAVAILABLE, [2, 4, 8, 10, 10, 10, 10]),
        (Code.UNAUTHENTICATED, [2, 4, 8, 10, 10, 10, 10]),
        (Code.DEADLINE_EXCEEDED, [2, 4, 8, 10, 10, 10, 10]),
        (Code.RESOURCE_EXHAUSTED, [2, 4, 8, 16, 30, 30, 30]),
    ],
)
def test_trouble_doubles_the_interval_up_to_a_bound_and_success_ends_it(code: Code, expected: list[float]) -> None:
    assert pauses([code] * 7) == expected
    assert pauses([code] * 7 + [Code.OK, code])[-2:] == pytest.approx([1 + JITTER, 2])


def test_an_interval_longer_than_the_bound_is_not_shortened() -> None:
    assert pauses([Code.UNAVAILABLE] * 2, 300.0) == [300, 300]


def test_a_path_that_is_not_there_is_looked_for_as_often_as_ever() -> None:
    assert pauses([Code.NOT_FOUND] * 20) == pytest.approx([1.0] + [1 + JITTER] * 19)


def test_an_outage_of_days_overflows_nothing() -> None:
    assert pauses([Code.UNAVAILABLE] * 20_000)[-1] == LONGEST_BACKOFF_S


def test_a_thousand_streams_spread_out_ease_off_in_an_outage_and_all_come_back() -> None:
    """In virtual time; the storage is down from 100 to 400 s."""
    streams, down, up, end = 1000, 100.0, 400.0, 500.0
    clock, chance = ManualClock(), random.Random(1)
    polls: Counter[int] = Counter()
    seen_after_outage: dict[int, float] = {}

    def poll(stream: int, schedule: PollSchedule) -> None:
        polls[int(clock.now)] += 1
        out = down <= clock.now < up
        if not out and clock.now >= up:
            seen_after_outage.setdefault(stream, clock.now - up)
        clock.after(schedule.after(Code.UNAVAILABLE if out else Code.OK), lambda: poll(stream, schedule))

    for stream in range(streams):
        poll(stream, PollSchedule(1.0, chance.random))
    clock.run_until(end)
    steady = [polls[second] for second in range(10, 100)]
    assert max(steady) < 1.2 * streams
    assert min(steady) > 0.8 * streams
    outage = [polls[second] for second in range(160, 400)]
    assert max(outage) < 1.6 * streams / (LONGEST_BACKOFF_S * 0.75)
    assert len(seen_after_outage) == streams
    assert max(seen_after_outage.values()) <= LONGEST_BACKOFF_S
    assert max(polls[second] for second in range(400, 500)) < 1.2 * streams, "they do not all come back at one moment"
