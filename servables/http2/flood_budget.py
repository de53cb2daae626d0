"""How much a peer may ask of a connection that brings it nothing: pings, settings, empty frames, requests it takes back."""

from __future__ import annotations

_PER_S = 5_000.0
# Clients take back all that is under way at once when its deadline passes.
_BURST = 20_000.0


class FloodBudget:
    """A bucket of such frames, which fills again with time. `now` is in seconds, on a clock that does not go back."""

    def __init__(self, per_s: float = _PER_S, burst: float = _BURST) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._filled_at: float | None = None

    def spend(self, now: float, weight: int = 1) -> bool:
        """Takes one more of the peer's frames, or one worth `weight` of them; False when there have been too many."""
        if self._filled_at is not None:
            self._left = min(self._burst, self._left + (now - self._filled_at) * self._per_s)
        self._filled_at = now
        self._left -= weight
        return self._left >= 0
