"""A version that serves calls first come first served, in virtual time, behind a QueueBound as the router uses it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from servables.frontend.queue_bound import QueueBound
from tests.fakes.manual_clock import ManualClock

_WAY_S = 0.001
"""From an answer to its client's next call."""


class SimulatedQueue:
    """`servers` calls run at once, each for `service_s()`.

    `waits_s` are those of the calls with an answer; at `refused_at` others were refused.
    """

    def __init__(
        self, service_s: Callable[[], float], *, servers: int = 1, max_delay_s: float = 10.0, crowd: int = 128
    ) -> None:
        self.clock = ManualClock()
        self.waits_s: list[float] = []
        self.served_at: list[float] = []
        self.refused_at: list[float] = []
        self.served_calls = 0
        self._service_s = service_s
        self._free = servers
        self._crowd = crowd
        self._bound = QueueBound(max_delay_s)
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._outstanding = 0

    @property
    def outstanding(self) -> int:
        return self._outstanding

    def arrive(self, timeout_s: float | None = None, done: Callable[[], None] = lambda: None) -> bool:
        """One more call; False: it was refused. `done` is called when it has its answer."""
        now = self.clock.now
        if self._outstanding >= self._crowd:
            delay_s = self._bound.delay_s(self._outstanding, self.served_calls, now)
            if delay_s > self._bound.longest_s(timeout_s):
                self.refused_at.append(now)
                return False
        self._outstanding += 1
        self._waiting.append((now, done))
        self._begin()
        return True

    def arrive_all(self, rate: float, seconds: float, seed: int = 0, timeout_s: float | None = None) -> None:
        """An open loop: calls come by chance, `rate` a second, whatever becomes of them."""
        chance = random.Random(seed)
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.advance(chance.expovariate(rate))
            self.arrive(timeout_s)

    def close_loop(self, clients: int) -> None:
        """So many clients that send their next call when the last one is answered, and come back a second after a refusal."""

        def ask() -> None:
            if not self.arrive(done=ask):
                self.clock.after(1.0, ask)

        for _ in range(clients):
            ask()

    def _begin(self) -> None:
        while self._free and self._waiting:
            arrived, done = self._waiting.popleft()
            self._free -= 1
            self.clock.after(self._service_s(), lambda arrived=arrived, done=done: self._end(arrived, done))

    def _end(self, arrived: float, done: Callable[[], None]) -> None:
        self._free += 1
        self.served_calls += 1
        self.waits_s.append(self.clock.now - arrived)
        self.served_at.append(self.clock.now)
        self._outstanding -= 1
        if self._outstanding == self._crowd // 2:
            self._bound.forget()
        self._begin()
        self.clock.after(_WAY_S, done)
