"""Sends requests in a closed or an open loop, and notes how long each took."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Sequence

from cluster.bench.latency_histogram import LatencyHistogram
from cluster.bench.load import ClosedLoop, Load, OpenLoop
from cluster.bench.precise_timer import PreciseTimer
from cluster.bench.sample import Sample
from cluster.bench.slot import Connections, Slot
from cluster.core.errors import AspiredError, Code

LATE_S = 0.001
"""A request that is sent so long after its time, though a slot was free, is late by this generator's own fault."""


class Generator(ABC):
    """One load, from `start` to `stop`; in an event loop. `rows` are those of each request, which are sent in turn."""

    def __init__(self, connections: Connections, rows: Sequence[int], first: int) -> None:
        self._connections = connections
        self._row_counts = rows
        self._next = first % len(rows)
        self._stopped = False
        self._latencies: list[float] = []
        self._rows = 0
        self._errors: Counter[Code] = Counter()
        self._messages: dict[Code, str] = {}
        self._scheduled = 0
        self._late = 0
        self._sampled = time.perf_counter()
        self._cpu_s = time.process_time()

    @abstractmethod
    def start(self) -> None:
        """Begins to send."""

    def stop(self) -> None:
        """Sends nothing more; what is under way counts no more."""
        self._stopped = True

    def sample(self) -> Sample:
        """What ended since the last call."""
        now, cpu_s = time.perf_counter(), time.process_time()
        self._connections.expire(now)
        sample = Sample(
            elapsed_s=now - self._sampled,
            latencies=LatencyHistogram.of(self._latencies),
            rows=self._rows,
            errors=dict(self._errors),
            messages=self._messages,
            scheduled=self._scheduled,
            late=self._late,
            cpu_s=(cpu_s - self._cpu_s,),
        )
        self._latencies, self._rows, self._errors, self._messages = [], 0, Counter(), {}
        self._scheduled = self._late = 0
        self._sampled, self._cpu_s = now, cpu_s
        return sample

    @abstractmethod
    def _free(self, slot: Slot) -> None:
        """The slot's request has ended."""

    def _send(self, slot: Slot, begun: float) -> None:
        slot.begun = begun
        number = self._next
        self._next = number + 1 if number + 1 < len(self._row_counts) else 0
        slot.send(number)

    def _answered(self, slot: Slot, error: AspiredError | None) -> None:
        if self._stopped:
            return
        if error is None:
            self._latencies.append(time.perf_counter() - slot.begun)
            self._rows += self._row_counts[slot.number]
        else:
            self._errors[error.code] += 1
            self._messages.setdefault(error.code, error.message)
        self._free(slot)


class ClosedLoopGenerator(Generator):
    def __init__(self, connections: Connections, rows: Sequence[int], first: int, concurrency: int) -> None:
        super().__init__(connections, rows, first)
        self._slots = [connections.slot(self._answered) for _ in range(concurrency)]

    def start(self) -> None:
        for slot in self._slots:
            self._send(slot, time.perf_counter())

    def _free(self, slot: Slot) -> None:
        self._send(slot, time.perf_counter())


class OpenLoopGenerator(Generator):
    def __init__(
        self, connections: Connections, rows: Sequence[int], first: int, load: OpenLoop, index: int, processes: int
    ) -> None:
        super().__init__(connections, rows, first)
        self._times = load.send_times(index, processes)
        self._unused = load.share(index, processes)  # slots that may still be made
        self._idle: list[Slot] = []
        self._waiting: deque[float] = deque()
        self._began = 0.0
        self._due = 0.0
        self._timer = PreciseTimer(asyncio.get_running_loop(), self._send_due)

    def start(self) -> None:
        self._began = time.perf_counter()
        self._due = self._began + next(self._times)
        self._timer.set(self._due)

    def stop(self) -> None:
        super().stop()
        self._timer.close()

    def _send_due(self) -> None:
        while self._due <= (now := time.perf_counter()):
            self._scheduled += 1
            slot = self._idle_slot()
            if slot is None:
                self._waiting.append(self._due)
            else:
                self._late += now - self._due > LATE_S
                self._send(slot, self._due)
            self._due = self._began + next(self._times)
        self._timer.set(self._due)

    def _idle_slot(self) -> Slot | None:
        if self._idle:
            return self._idle.pop()
        if not self._unused:
            return None
        self._unused -= 1
        return self._connections.slot(self._answered)

    def _free(self, slot: Slot) -> None:
        if self._waiting:
            self._send(slot, self._waiting.popleft())
        else:
            self._idle.append(slot)


def make_generator(load: Load, connections: Connections, rows: Sequence[int], index: int, processes: int) -> Generator:
    """The part of the load that process `index` of so many brings about. Processes begin at different requests."""
    first = index * len(rows) // processes
    if isinstance(load, ClosedLoop):
        return ClosedLoopGenerator(connections, rows, first, load.share(index, processes))
    return OpenLoopGenerator(connections, rows, first, load, index, processes)
