"""Which failures are tried again, and when."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.client.exchange import Outcome
from cluster.core.errors import InvalidArgument, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """UNAVAILABLE is tried again, after a jittered pause, while the call's deadline allows; no other error is.

    In one attempt every target is asked, in turn, until one of them answers; `max_attempts` 1 means no pause, no repeat.
    The pause before attempt n+1 is between half and all of `initial_backoff_s * backoff_multiplier**(n-1)`, at most
    `max_backoff_s`.
    `resend` False is for models whose graph keeps state: only what certainly never reached a server is sent again.
    """

    max_attempts: int = 4
    initial_backoff_s: float = 0.1
    backoff_multiplier: float = 2.0
    max_backoff_s: float = 2.0
    resend: bool = True

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise InvalidArgument(f"max_attempts must be at least 1, not {self.max_attempts}")
        if self.initial_backoff_s < 0 or self.max_backoff_s < 0 or self.backoff_multiplier < 1:
            raise InvalidArgument("Backoffs must not be negative, and backoff_multiplier must be at least 1")

    def may_send_again(self, outcome: Outcome) -> bool:
        """Whether this failure allows another try, at another target or later."""
        return isinstance(outcome.error, Unavailable) and (self.resend or not outcome.sent)

    def backoff_s(self, attempt: int, jitter: float) -> float:
        """The pause after failed attempt number `attempt` (from 1); `jitter` is a random number in [0, 1)."""
        backoff_s = min(self.initial_backoff_s * self.backoff_multiplier ** (attempt - 1), self.max_backoff_s)
        return backoff_s * (0.5 + 0.5 * jitter)
