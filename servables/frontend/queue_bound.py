"""How long a call would wait that joined the others of its version now: what waits, over how fast it is served (Little's law).

A queue that grows makes everybody wait, and serves nobody sooner. What would wait for too long is better refused at once: its
client can ask another server, or come back.
"""

from __future__ import annotations

import math

_STEP_S = 0.1
_ENOUGH_CALLS = 16
_MANY_CALLS = 64
# Of the longest delay: a replica that dies is back sooner.
_ENOUGH_TIME = 0.5
# Of a call's own time, since the delay is an estimate: an answer that comes a little late is work for nothing.
_USABLE_TIME = 0.8


class QueueBound:
    """Estimates the delay, and says how long it may be. Used while a queue is crowded; `forget` when it no longer is.

    How fast a version is shows only while it always has work, and from what it has served, not from what it has refused.
    Until that is known the delay is taken for 0: a burst is no overload. Times are in seconds, on any clock that does not
    go back.
    """

    def __init__(self, max_delay_s: float) -> None:
        """`max_delay_s` infinite bounds calls by their own deadlines alone."""
        self._max_delay_s = max_delay_s
        self._measured_at: float | None = None
        self._served_before = 0
        # Calls served in how much time; both are halved when they are many, so that what is old fades.
        self._calls = 0.0
        self._seconds = 0.0

    def longest_s(self, timeout_s: float | None) -> float:
        """How long a call may wait that has `timeout_s` left (None: for ever)."""
        return self._max_delay_s if timeout_s is None else min(self._max_delay_s, _USABLE_TIME * timeout_s)

    def delay_s(self, calls: int, served: int, now: float) -> float:
        """How long one more call waits. `calls` have no answer yet, `served` have been served, counted from any moment on."""
        self._measure(served, now)
        if self._calls < _ENOUGH_CALLS and self._seconds < _ENOUGH_TIME * self._max_delay_s:
            return 0.0
        return calls * self._seconds / self._calls if self._calls else math.inf

    def forget(self) -> None:
        """The queue has become short."""
        self._measured_at = None
        self._calls = self._seconds = 0.0

    def _measure(self, served: int, now: float) -> None:
        if self._measured_at is None:
            self._measured_at, self._served_before = now, served
        elif now - self._measured_at >= _STEP_S:
            if self._calls > _MANY_CALLS:
                self._calls, self._seconds = self._calls / 2, self._seconds / 2
            self._calls += served - self._served_before
            self._seconds += now - self._measured_at
            self._measured_at, self._served_before = now, served
