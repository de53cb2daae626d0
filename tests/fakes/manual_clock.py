"""Time that moves only when told to."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class ManualClock:
    """A clock at `now` with a calendar: `after` books a call, `run_until` and `run_next` make time pass and the calls happen.

    Calls for the same moment happen in the order in which they were booked, so a run is the same each time.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        """Books `call` for `delay_s` from now."""
        heapq.heappush(self._calls, (self.now + delay_s, next(self._order), call))

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass, with the calls that are booked for them."""
        self.run_until(self.now + seconds)

    def run_until(self, moment: float) -> None:
        """Lets time pass up to `moment`."""
        while self._calls and self._calls[0][0] <= moment:
            self.run_next()
        self.now = max(self.now, moment)

    def run_next(self) -> bool:
        """Jumps to the next booked call and makes it; False when none is booked."""
        if not self._calls:
            return False
        moment, _, call = heapq.heappop(self._calls)
        self.now = max(self.now, moment)
        call()
        return True
