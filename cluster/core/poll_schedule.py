"""When a stream is polled next: spread over time, and less often while its storage is in trouble."""

from __future__ import annotations

from collections.abc import Callable

from cluster.core.errors import Code

JITTER = 0.1
"""By how much of itself an interval is longer or shorter each time."""
LONGEST_BACKOFF_S = 10.0
"""How long after a storage has recovered its streams may take to see it."""
LONGEST_THROTTLED_S = 30.0
"""The same for a storage that asks for fewer requests."""

_IN_TROUBLE = frozenset(
    {
        Code.UNAVAILABLE,
        Code.RESOURCE_EXHAUSTED,
        Code.DEADLINE_EXCEEDED,
        Code.UNAUTHENTICATED,
        Code.PERMISSION_DENIED,
    }
)


class PollSchedule:
    """The pauses of one stream.

        pause_s = schedule.after(code)        again after each poll

    The first pause is any part of the interval, so that streams that began together do not go on together. A poll that failed
    because of its storage doubles the interval, up to a bound or the interval if that is longer; any other poll ends this. A
    path that is not there is no trouble: it may come at any time. `random` gives numbers from 0 to 1.
    """

    def __init__(self, interval_s: float, random: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._random = random
        self._polls = 0
        self._failures = 0

    def after(self, code: Code) -> float:
        """How long to wait after a poll that ended so."""
        self._polls += 1
        if code not in _IN_TROUBLE:
            self._failures = 0
            if self._polls == 1:
                return self._interval_s * self._random()
            return self._interval_s * (1 - JITTER + 2 * JITTER * self._random())
        self._failures = min(self._failures + 1, 30)
        longest_s = LONGEST_THROTTLED_S if code is Code.RESOURCE_EXHAUSTED else LONGEST_BACKOFF_S
        pause_s = min(max(longest_s, self._interval_s), self._interval_s * 2.0**self._failures)
        # Half of it by chance: those that were refused together must not come again together.
        return pause_s * (1 + self._random()) / 2
