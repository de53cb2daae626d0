"""Which calls run on the event loop, on durations that a test makes up."""

from __future__ import annotations

from servables.short_runs import FEW_CORES, LONG_S, SHORT_ON_FEW_CORES_S, SHORT_S, SUSPENDED_RUNS, TRIALS, ShortRuns

MICRO = 1e-6


def learnt(duration_s: float, signature: str = "serving_default", size_bytes: int = 12) -> ShortRuns:
    runs = ShortRuns(cores=8)
    for _ in range(TRIALS):
        runs.ran(signature, size_bytes, duration_s, inline=False)
    return runs


def test_nothing_is_short_until_it_has_been_seen_often_enough() -> None:
    runs = ShortRuns(cores=8)
    for _ in range(TRIALS - 1):
        runs.ran("serving_default", 12, 5 * MICRO, inline=False)
    assert not runs.short("serving_default", 12)

    runs.ran("serving_default", 12, 5 * MICRO, inline=False)

    assert runs.short("serving_default", 12)


def test_a_call_that_waited_for_the_interpreter_does_not_hide_that_calls_are_short() -> None:
    runs = ShortRuns(cores=8)
    for number in range(TRIALS):
        runs.ran("serving_default", 12, 5 * MICRO if number == 3 else 900 * MICRO, inline=False)

    assert runs.short("serving_default", 12)


def test_calls_longer_than_a_hand_over_stay_in_threads() -> None:
    assert not learnt(2 * SHORT_S).short("serving_default", 12)


def test_signatures_and_sizes_are_learnt_apart() -> None:
    runs = learnt(5 * MICRO)

    assert runs.short("serving_default", 15)
    assert not runs.short("serving_default", 16)
    assert not runs.short("other", 12)


def test_calls_that_get_longer_go_back_to_threads_and_may_return() -> None:
    runs = learnt(5 * MICRO)
    runs.ran("serving_default", 12, LONG_S / 2, inline=True)
    assert not runs.short("serving_default", 12)

    for _ in range(TRIALS):
        runs.ran("serving_default", 12, 5 * MICRO, inline=False)

    assert runs.short("serving_default", 12)


def test_a_signature_that_has_blocked_the_loop_stays_in_threads_for_a_while_and_then_twice_as_long() -> None:
    runs = learnt(5 * MICRO)
    for _ in range(TRIALS):
        runs.ran("serving_default", 1200, 5 * MICRO, inline=False)

    for suspended in (SUSPENDED_RUNS, 2 * SUSPENDED_RUNS):
        runs.ran("serving_default", 12, 2 * LONG_S, inline=True)
        for _ in range(suspended):
            assert not runs.short("serving_default", 12)
            assert not runs.short("serving_default", 1200)
            runs.ran("serving_default", 1200, 5 * MICRO, inline=False)
        assert runs.short("serving_default", 12)


def test_where_cores_are_few_longer_calls_are_short() -> None:
    runs = ShortRuns(FEW_CORES)
    for _ in range(TRIALS):
        runs.ran("serving_default", 12, SHORT_ON_FEW_CORES_S / 2, inline=False)

    assert SHORT_ON_FEW_CORES_S / 2 > SHORT_S
    assert runs.short("serving_default", 12)
