"""How soon a client that was refused is heard again.

A client that comes back at once is refused again, and enough of them keep the event loop from the requests that were taken. A
few refusals cost nothing; beyond a rate, each further connection that was refused is read a little later than the one before.
"""

from __future__ import annotations

import math

_REFUSALS_PER_S = 2000.0
_LONGEST_PAUSE_S = 1.0
# Refusals of so long a time may come all at once.
_BURST_S = 0.25


class RefusalPace:
    """Spreads what comes after refusals over time. `now` is in seconds, on a clock that does not go back."""

    def __init__(self, refusals_per_s: float = _REFUSALS_PER_S, longest_pause_s: float = _LONGEST_PAUSE_S) -> None:
        """No pause is longer than `longest_pause_s`, even if there are more refusals than that spreads."""
        self._interval_s = 1 / refusals_per_s
        self._longest_pause_s = longest_pause_s
        self._next_at = -math.inf

    def pause_s(self, now: float) -> float:
        """Somebody is refused now: how long to wait before reading what they send next. 0 while refusals are rare."""
        earliest, latest = now - _BURST_S, now + self._longest_pause_s
        self._next_at = min(max(self._next_at + self._interval_s, earliest), latest)
        return max(0.0, self._next_at - now)
