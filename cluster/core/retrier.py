"""When a failed load is tried again."""

from __future__ import annotations

from dataclasses import dataclass


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
