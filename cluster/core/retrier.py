"""When a failed load is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.errors import Code

PASSING = frozenset(
    {
        Code.UNAVAILABLE,
        Code.ABORTED,
        Code.DEADLINE_EXCEEDED,
        Code.RESOURCE_EXHAUSTED,
        Code.PERMISSION_DENIED,
        Code.UNAUTHENTICATED,
        Code.FAILED_PRECONDITION,
    }
)
"""Failures that lie in what a load needs, not in the version: they may pass while its files stay as they are."""
HEAL_INTERVAL_S = 10.0
"""The least time between attempts once there is no further try."""


@dataclass(frozen=True, slots=True)
class Retrier:
    """One attempt and up to `max_num_retries` more, `interval_s` apart (TF Serving: `util/retrier.cc`).

    An interval of 0 or less is no wait.
    """

    max_num_retries: int
    interval_s: float

    def next_attempt(self, attempts: int, now: float) -> float | None:
        """When to try again after `attempts` have failed; None when there is no further try."""
        if attempts > self.max_num_retries:
            return None
        return now + max(0.0, self.interval_s)

    def healing_attempt(self, code: Code, now: float) -> float | None:
        """When to begin anew after the last try has failed with `code`; None when only other files can help."""
        return now + max(HEAL_INTERVAL_S, self.interval_s) if code in PASSING else None
