"""The cache of callables and the steps of their timeouts."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servables.saved_model.session_callables import CallableKey, SessionCallable, SessionCallables, timeout_bucket_ms


class Function:
    """Stands for what a session compiles."""

    def __call__(self, *_arrays: object) -> list[Any]:
        return []


def key(name: str) -> CallableKey:
    return CallableKey(name, frozenset(), frozenset({"y"}), 0)


class Factory:
    """Makes callables, and remembers for which keys."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, wanted: CallableKey) -> SessionCallable:
        self.made.append(wanted.signature_name)
        return SessionCallable(function=Function(), feeds=(), twins=(), fetches={})


def test_makes_a_callable_once() -> None:
    factory = Factory()
    callables = SessionCallables(factory, capacity=2)
    assert callables.get(key("a")) is callables.get(key("a"))
    assert factory.made == ["a"]


def test_forgets_the_one_not_used_for_longest() -> None:
    factory = Factory()
    callables = SessionCallables(factory, capacity=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        callables.get(key(name))
    assert factory.made == ["a", "b", "c", "b"]
    assert len(callables) == 2


def test_lets_go_of_what_it_forgets() -> None:
    callables = SessionCallables(Factory(), capacity=1)
    forgotten = weakref.ref(callables.get(key("a")).function)
    callables.get(key("b"))
    gc.collect()
    assert forgotten() is None
    cleared = weakref.ref(callables.get(key("b")).function)
    callables.clear()
    gc.collect()
    assert cleared() is None


def test_a_failure_is_not_kept() -> None:
    factory = Factory()
    failures = [ValueError("first time")]

    def make(wanted: CallableKey) -> SessionCallable:
        if failures:
            raise failures.pop()
        return factory(wanted)

    callables = SessionCallables(make, capacity=1)
    with pytest.raises(ValueError, match="first time"):
        callables.get(key("a"))
    callables.get(key("a"))
    assert factory.made == ["a"]


def test_threads_that_want_the_same_callable_make_it_once() -> None:
    factory = Factory()
    callables = SessionCallables(factory, capacity=1)
    with ThreadPoolExecutor(8) as threads:
        assert len(set(map(id, threads.map(lambda _: callables.get(key("a")), range(32))))) == 1
    assert factory.made == ["a"]


def test_one_that_is_being_made_holds_up_no_other() -> None:
    making, finish = threading.Event(), threading.Event()

    def make(wanted: CallableKey) -> SessionCallable:
        if wanted == key("slow"):
            making.set()
            finish.wait(timeout=30)
        return SessionCallable(function=Function(), feeds=(), twins=(), fetches={})

    callables = SessionCallables(make, capacity=2)
    ready = callables.get(key("ready"))
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(callables.get, key("slow"))
        assert making.wait(timeout=30)
        assert callables.get(key("ready")) is ready
        finish.set()
        assert slow.result(timeout=30) is callables.get(key("slow"))


@given(st.floats(min_value=1e-6, max_value=800.0))
def test_a_bucket_is_long_enough_and_at_most_four_times_too_long(timeout_s: float) -> None:
    bucket_ms = timeout_bucket_ms(timeout_s)
    assert bucket_ms >= timeout_s * 1000
    assert bucket_ms == 50 or bucket_ms < 4 * timeout_s * 1000


def test_no_timeout_and_very_long_ones_are_none() -> None:
    assert timeout_bucket_ms(None) == 0
    assert timeout_bucket_ms(3600.0) == 0


def test_common_timeouts_are_few_buckets() -> None:
    assert len({timeout_bucket_ms(tenths / 10) for tenths in range(1, 6000)}) <= 7
