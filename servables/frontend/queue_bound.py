"""How long a call would wait that joined the others of its version now: what waits, over how fast it is served (Little's law).

A queue that grows makes everybody wait, and serves nobody sooner. What would wait for too long is better refused at once: its
client can ask another server, or come back.
"""

from __future__ import annotations

_MIN_MEASURE_S = 0.1
_MIN_MEASURED_CALLS = 32
# However few calls were served, a measurement ends after this part of the longest delay: a replica that dies is back sooner.
_LONGEST_MEASURE = 0.5


class QueueBound:
    """Estimates the delay, and says how long it may be. Used while a queue is crowded; `forget` when it no longer is.

    How fast a version is shows only while it always has work, and from what it has served, not from what it has refused.
    Until some calls have been served the delay is taken for 0: a burst is no overload. Times are in seconds, on any clock
    that does not go back.
    """

    def __init__(self, max_delay_s: float) -> None:
        """`max_delay_s` infinite sets no bound."""
        self._max_delay_s = max_delay_s
        self._calls_per_s: float | None = None
        self._began: float | None = None
        self._served_before = 0

    def longest_s(self, timeout_s: float | None) -> float:
        """How long a call may wait that has `timeout_s` left (None: for ever)."""
        return self._max_delay_s if timeout_s is None else min(self._max_delay_s, timeout_s)

    def delay_s(self, calls: int, served: int, now: float) -> float:
        """How long one more call waits. `calls` have no answer yet, `served` have been served, counted from any moment on."""
        self._measure(served, now)
        if self._calls_per_s is None:
            return 0.0
        return calls / self._calls_per_s if self._calls_per_s else float("inf")

    def forget(self) -> None:
        """The queue has become short."""
        self._calls_per_s = self._began = None

    def _measure(self, served: int, now: float) -> None:
        if self._began is None:
            self._began, self._served_before = now, served
            return
        elapsed_s, calls = now - self._began, served - self._served_before
        if elapsed_s < _MIN_MEASURE_S or (calls < _MIN_MEASURED_CALLS and elapsed_s < _LONGEST_MEASURE * self._max_delay_s):
            return
        measured = calls / elapsed_s
        self._calls_per_s = measured if self._calls_per_s is None else (self._calls_per_s + measured) / 2
        self._began, self._served_before = now, served
