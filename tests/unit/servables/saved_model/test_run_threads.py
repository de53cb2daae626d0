"""The choice of the threads that run a graph, on timings that a test makes up."""

from __future__ import annotations

from servables.saved_model.run_threads import LONGEST_IN_CALLER_S, OVERRUN_S, SUSPENDED_RUNS, TRIALS, RunThreads, ThreadChoice

MICRO = 1e-6


def live(choice: ThreadChoice, durations_s: dict[RunThreads, float], runs: int, size_bytes: int = 12) -> list[RunThreads]:
    """What is chosen for so many runs, which take as long as `durations_s` says."""
    chosen = []
    for _ in range(runs):
        threads = choice.threads(size_bytes)
        chosen.append(threads)
        choice.ran(threads, size_bytes, durations_s[threads])
    return chosen


def test_a_small_graph_runs_in_the_callers_thread_once_both_have_been_tried() -> None:
    chosen = live(ThreadChoice(), {RunThreads.POOL: 15 * MICRO, RunThreads.CALLER: 5 * MICRO}, 100)

    assert chosen == [RunThreads.POOL] * TRIALS + [RunThreads.CALLER] * (100 - TRIALS)


def test_a_graph_with_ops_side_by_side_stays_in_the_pool() -> None:
    chosen = live(ThreadChoice(), {RunThreads.POOL: 200 * MICRO, RunThreads.CALLER: 300 * MICRO}, 100)

    assert chosen == [RunThreads.POOL] * TRIALS + [RunThreads.CALLER] * TRIALS + [RunThreads.POOL] * (100 - 2 * TRIALS)


def test_a_long_graph_is_never_tried_in_the_callers_thread_where_no_timeout_ends_it() -> None:
    durations_s = {RunThreads.POOL: LONGEST_IN_CALLER_S * 2, RunThreads.CALLER: MICRO}

    assert set(live(ThreadChoice(), durations_s, 100)) == {RunThreads.POOL}


def test_sizes_of_inputs_are_learnt_apart() -> None:
    choice = ThreadChoice()
    live(choice, {RunThreads.POOL: 15 * MICRO, RunThreads.CALLER: 5 * MICRO}, 100, size_bytes=100)
    live(choice, {RunThreads.POOL: 200 * MICRO, RunThreads.CALLER: 300 * MICRO}, 100, size_bytes=100_000)

    assert choice.threads(120) is RunThreads.CALLER
    assert choice.threads(100_000) is RunThreads.POOL
    assert choice.threads(10_000_000) is RunThreads.POOL


def test_the_first_run_on_either_side_does_not_count() -> None:
    choice = ThreadChoice()
    begun: set[RunThreads] = set()
    for _ in range(2 * TRIALS):
        threads = choice.threads(12)
        later_s = 15 * MICRO if threads is RunThreads.POOL else 5 * MICRO
        choice.ran(threads, 12, later_s if threads in begun else OVERRUN_S / 2)
        begun.add(threads)

    assert choice.threads(12) is RunThreads.CALLER


def test_a_run_that_does_not_seem_to_end_takes_all_runs_back_to_the_pool_for_a_while_and_then_twice_as_long() -> None:
    choice = ThreadChoice()
    durations_s = {RunThreads.POOL: 15 * MICRO, RunThreads.CALLER: 5 * MICRO}
    live(choice, durations_s, 100)

    for suspended in (SUSPENDED_RUNS, 2 * SUSPENDED_RUNS):
        choice.ran(RunThreads.CALLER, 12, OVERRUN_S * 2)
        assert set(live(choice, durations_s, suspended)) == {RunThreads.POOL}
        assert choice.threads(12) is RunThreads.CALLER


def test_a_fixed_choice_learns_nothing() -> None:
    choice = ThreadChoice(fixed=RunThreads.POOL)

    assert set(live(choice, dict.fromkeys(RunThreads, MICRO), 50)) == {RunThreads.POOL}


def test_tells_what_was_found_out() -> None:
    choice = ThreadChoice()
    assert not choice.in_caller

    live(choice, {RunThreads.POOL: 15 * MICRO, RunThreads.CALLER: 5 * MICRO}, 2 * TRIALS)

    assert choice.in_caller
    assert ThreadChoice(fixed=RunThreads.CALLER).in_caller
    assert not ThreadChoice(fixed=RunThreads.POOL).in_caller
