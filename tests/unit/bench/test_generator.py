"""The loops, over slots whose requests end when the test says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from cluster.bench.generator import Generator, make_generator
from cluster.bench.load import Arrivals, ClosedLoop, OpenLoop
from cluster.bench.precise_timer import PreciseTimer
from cluster.bench.slot import Answered, Connections, Slot
from cluster.core.errors import AspiredError, Code, ResourceExhausted


class HeldSlot(Slot):
    def __init__(self, connections: HeldConnections, answered: Answered) -> None:
        super().__init__()
        self._connections = connections
        self._answered = answered

    def send(self, number: int) -> None:
        self.number = number
        self._connections.under_way.append(self)

    def end(self, error: AspiredError | None = None) -> None:
        self._connections.under_way.remove(self)
        self._answered(self, error)


class HeldConnections(Connections):
    """`under_way` are the slots with a request, the oldest first."""

    def __init__(self) -> None:
        self.under_way: list[HeldSlot] = []
        self.slots = 0

    def slot(self, answered: Answered) -> Slot:
        self.slots += 1
        return HeldSlot(self, answered)

    def expire(self, now: float) -> None:
        """Nothing takes too long."""

    async def close(self) -> None:
        """There is nothing to close."""

    @property
    def numbers(self) -> list[int]:
        return [slot.number for slot in self.under_way]


@pytest.fixture
def connections() -> HeldConnections:
    return HeldConnections()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def closed(connections: Connections, concurrency: int, rows: tuple[int, ...] = (1,)) -> Generator:
    return make_generator(ClosedLoop(concurrency), connections, rows, 0, 1)


def opened(connections: Connections, rate: float = 1000, max_in_flight: int = 1) -> Generator:
    load = OpenLoop(rate=rate, arrivals=Arrivals.CONSTANT, max_in_flight=max_in_flight)
    return make_generator(load, connections, (1,), 0, 1)


class TestClosedLoop:
    def test_keeps_its_concurrency_and_sends_requests_in_turn(self, connections: HeldConnections) -> None:
        generator = closed(connections, 2, rows=(1, 1, 1))
        generator.start()
        assert connections.numbers == [0, 1]
        connections.under_way[0].end()
        assert connections.numbers == [1, 2]
        connections.under_way[0].end(ResourceExhausted("full"))
        assert connections.numbers == [2, 0]
        assert connections.slots == 2

    def test_counts_rows_latencies_and_errors_since_the_last_sample(self, connections: HeldConnections) -> None:
        generator = closed(connections, 1, rows=(3, 5))
        generator.start()
        for error in (None, None, ResourceExhausted("full"), ResourceExhausted("still full")):
            connections.under_way[0].end(error)
        sample = generator.sample()
        assert (sample.succeeded, sample.rows) == (2, 8)
        assert (sample.errors, sample.messages) == ({Code.RESOURCE_EXHAUSTED: 2}, {Code.RESOURCE_EXHAUSTED: "full"})
        assert 0 < sample.latencies.longest_s <= sample.elapsed_s
        assert (generator.sample().succeeded, generator.sample().failed) == (0, 0)

    def test_sends_and_counts_nothing_after_it_has_stopped(self, connections: HeldConnections) -> None:
        generator = closed(connections, 1)
        generator.start()
        generator.stop()
        connections.under_way[0].end()
        assert connections.under_way == []
        assert generator.sample().succeeded == 0

    def test_processes_begin_at_different_requests(self, connections: HeldConnections) -> None:
        make_generator(ClosedLoop(2), connections, (1, 1, 1, 1), 1, 2).start()
        assert connections.numbers == [2]


class TestOpenLoop:
    async def test_sends_more_while_nothing_is_answered(self, connections: HeldConnections) -> None:
        generator = opened(connections, max_in_flight=5)
        generator.start()
        await until(lambda: len(connections.under_way) == 5)
        generator.stop()

    async def test_what_waits_for_a_slot_counts_from_when_it_should_have_been_sent(self, connections: HeldConnections) -> None:
        generator = opened(connections)
        generator.start()
        await until(lambda: len(connections.under_way) == 1)
        (slot,) = connections.under_way
        first = slot.begun
        scheduled = 0

        def have_come() -> bool:
            nonlocal scheduled
            scheduled += generator.sample().scheduled
            return scheduled > 10

        await until(have_come)
        now = time.perf_counter()
        slot.end()
        for number in range(1, 10):
            assert connections.under_way == [slot]
            assert slot.begun == pytest.approx(first + number / 1000, abs=1e-9)
            slot.end()
        assert slot.begun < now
        assert generator.sample().latencies.count == 10
        generator.stop()

    async def test_uses_a_slot_again_before_it_makes_another(self, connections: HeldConnections) -> None:
        generator = opened(connections, max_in_flight=5)
        generator.start()
        await until(lambda: bool(connections.under_way))
        for slot in list(connections.under_way):
            slot.end()
        slots = connections.slots
        await until(lambda: bool(connections.under_way))
        assert len(connections.under_way) == connections.slots or connections.slots == slots
        generator.stop()


async def test_a_timer_fires_once_for_each_time_and_not_before_it() -> None:
    fired: list[float] = []
    timer = PreciseTimer(asyncio.get_running_loop(), lambda: fired.append(time.perf_counter()))
    due = time.perf_counter() + 0.02
    timer.set(due)
    await until(lambda: bool(fired))
    assert fired[0] >= due
    timer.set(due)  # past: at once
    await until(lambda: len(fired) == 2)
    timer.close()
