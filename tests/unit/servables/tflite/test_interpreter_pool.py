"""Interpreters are lent to one run at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cluster.core.errors import DeadlineExceeded
from servables.servable import PlatformOptions
from servables.tflite import tflite_servable
from servables.tflite.interpreter_pool import InterpreterPool
from tests.unit.servables.tflite.conftest import Load


def pool_of(*interpreters: Any) -> InterpreterPool:
    return InterpreterPool(interpreters)


def test_runs_go_side_by_side_each_on_an_interpreter_of_its_own() -> None:
    pool = pool_of("a", "b", "c")
    together = threading.Barrier(3, timeout=60)

    def run(_: int) -> Any:
        with pool.lend(None) as interpreter:
            together.wait()
            return interpreter

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(run, range(3))) == ["a", "b", "c"]


def test_one_more_run_waits_for_an_interpreter() -> None:
    pool = pool_of("a")
    with ThreadPoolExecutor(1) as thread:
        with pool.lend(None):
            waiting = thread.submit(lambda: pool.lend(60.0).__enter__())
            assert not waiting.done()
        assert waiting.result(60) == "a"


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 0.001])
def test_a_run_whose_time_is_over_gets_none(timeout_s: float) -> None:
    pool = pool_of("a")
    with pool.lend(None), pytest.raises(DeadlineExceeded), pool.lend(timeout_s):
        raise AssertionError("lent twice")
    with pool.lend(60.0) as interpreter:
        assert interpreter == "a"


def test_a_run_that_fails_gives_its_interpreter_back() -> None:
    pool = pool_of("a")
    with pytest.raises(ZeroDivisionError), pool.lend(None):
        raise ZeroDivisionError
    with pool.lend(60.0) as interpreter:
        assert interpreter == "a"


def test_a_servable_has_as_many_interpreters_as_it_is_told(
    half_plus_two: bytes, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    class Counted(tflite_servable.Interpreter):
        def __init__(self, content: bytes, num_threads: int) -> None:
            made.append(num_threads)
            super().__init__(content, num_threads)

    monkeypatch.setattr(tflite_servable, "Interpreter", Counted)
    load(half_plus_two, PlatformOptions(num_tflite_pools=3, num_tflite_interpreters_per_pool=2))
    assert made == [1] * 6
    made.clear()
    load(half_plus_two, PlatformOptions(intra_op_parallelism_threads=2))
    assert made == [2]
