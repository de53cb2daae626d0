"""How long something that went wrong once is left alone."""

from __future__ import annotations


class Suspension:
    """Lasts for so many runs, and twice as many each time: a machine that stood still once costs little, what is bad always is
    tried less and less. Pure; runs that several threads count at once may be lost, which does no harm.
    """

    __slots__ = ("_left", "_next")

    def __init__(self, first_runs: int) -> None:
        self._next = first_runs
        self._left = 0

    @property
    def active(self) -> bool:
        return self._left > 0

    def begin(self) -> None:
        self._left = self._next
        self._next *= 2

    def ran(self) -> None:
        """One run more has been done the other way."""
        self._left -= 1
