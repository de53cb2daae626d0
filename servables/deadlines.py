"""The deadlines of what waits in a queue, earliest first."""

from __future__ import annotations

import heapq
import math
from typing import Generic, Protocol, TypeVar

_MIN_COMPACTED = 64


class Waiter(Protocol):
    """Something that waits, until its deadline at most. `deadline` is on the caller's clock, infinite for none."""

    deadline: float
    waiting: bool


W = TypeVar("W", bound=Waiter)


class Deadlines(Generic[W]):
    """Finds the waiters whose time is over, at a cost that does not grow with how many wait.

    A waiter that stops waiting is let go when it comes to the top, or in a sweep when such entries are the majority: what is
    kept alive stays proportional to what waits.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, W]] = []
        self._added = 0
        self._sweep_at = _MIN_COMPACTED

    def __len__(self) -> int:
        """What is kept, waiting or not."""
        return len(self._heap)

    def add(self, waiter: W) -> None:
        if waiter.deadline == math.inf:
            return
        self.earliest()  # lets go of what no longer waits at the top
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if entry[2].waiting]
            heapq.heapify(self._heap)
            self._sweep_at = max(_MIN_COMPACTED, 2 * len(self._heap))
        self._added += 1
        heapq.heappush(self._heap, (waiter.deadline, self._added, waiter))

    def earliest(self) -> float:
        """The deadline that is over first, infinite when nothing waits for one."""
        heap = self._heap
        while heap and not heap[0][2].waiting:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def pop_expired(self, now: float) -> list[W]:
        """Takes out the waiters whose deadline is not after `now`."""
        expired = []
        while self.earliest() <= now:
            expired.append(heapq.heappop(self._heap)[2])
        return expired
