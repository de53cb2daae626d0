from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from servables.long_lived_heap import freeze_heap


@pytest.fixture(autouse=True)
def collector_as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_is_alive_is_looked_at_no_more() -> None:
    lives: list[object] = [[]]
    freeze_heap()
    assert not any(each is lives for each in gc.get_objects())


def test_cycles_made_later_are_still_collected() -> None:
    freeze_heap()
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1


def test_garbage_is_not_frozen() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    marker = id(cycle)
    del cycle
    freeze_heap()
    gc.unfreeze()
    assert not any(id(each) == marker for each in gc.get_objects() if isinstance(each, list) and each and each[0] is each)
