"""Deadlines on the real clock, `time.monotonic()`: one timer of the event loop for the earliest of many."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

_SHORTEST_TIMEOUT_S = 0.001


class DeadlineTimer:
    """Calls `expire` when a deadline is over; `expire` returns the next one, infinite for none. Used on one event loop.

    It may call early, or for a deadline that nobody waits for any more: a timer that is set is not taken back, since most
    deadlines never come and setting a timer for each would cost more than the calls.
    """

    def __init__(self, expire: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expire = expire
        self._at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def watch(self, deadline: float) -> None:
        """Makes sure that `expire` is called when `deadline` is over."""
        if deadline >= self._at:
            return
        self.cancel()
        self._at = deadline
        self._handle = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._fire)

    def cancel(self) -> None:
        self._at = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._at = math.inf
        self._handle = None
        self.watch(self._expire())


def time_left_s(deadline: float) -> float | None:
    """The timeout that ends at `deadline`; None for no deadline, and never so short that it could mean none."""
    return None if deadline == math.inf else max(deadline - time.monotonic(), _SHORTEST_TIMEOUT_S)
