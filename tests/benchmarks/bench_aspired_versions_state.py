"""The state machine of the controller, with as many streams as a large server has."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cluster.core.events import Event, Loaded, Quiesced, StreamOptions, TimePassed, Unloaded, VersionsAspired
from cluster.core.instructions import Load, Quiesce, Unload
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import PublicState
from tests.fakes.driven_state import DrivenState, version

COUNTS = (1, 30, 200)


def serving(count: int) -> DrivenState:
    """So many streams, each with version 1 AVAILABLE."""
    streams = [f"m{number}" for number in range(count)]
    driven = DrivenState({stream: StreamOptions() for stream in streams})
    for stream in streams:
        driven.serve(1, stream)
    return driven


@pytest.mark.parametrize("count", COUNTS)
def bench_time_passes(benchmark: BenchmarkFixture, count: int) -> None:
    driven = serving(count)
    assert benchmark(driven.state.handle, TimePassed(), driven.now) == []


@pytest.mark.parametrize("count", COUNTS)
def bench_a_list_is_said_again(benchmark: BenchmarkFixture, count: int) -> None:
    driven = serving(count)
    event = VersionsAspired("m0", (version(1, stream="m0"),))
    assert benchmark(driven.state.handle, event, driven.now) == []


@pytest.mark.parametrize("count", COUNTS)
def bench_a_swap(benchmark: BenchmarkFixture, count: int) -> None:
    """From the list that has only the next version to the end of the last one's unloading; a fresh state in each round."""

    def swap(driven: DrivenState) -> DrivenState:
        old, new = ServableId("m0", 1), ServableId("m0", 2)
        events: list[Event] = [VersionsAspired("m0", (version(2, stream="m0"),))]
        for event in events:
            for told in driven.state.handle(event, driven.now):
                match told:
                    case Load():
                        events.append(Loaded(new, told.instruction_id))
                    case Quiesce():
                        events.append(Quiesced(old, told.instruction_id))
                    case Unload():
                        events.append(Unloaded(old, told.instruction_id))
                    case _:
                        pass
        return driven

    swapped = benchmark.pedantic(swap, setup=lambda: ((serving(count),), {}), rounds=10)  # type: ignore[no-untyped-call]

    assert swapped.public("m0") == {1: PublicState.END, 2: PublicState.AVAILABLE}
