"""What carries requests: each slot one at a time, so that as many are under way as there are slots at work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from cluster.core.errors import AspiredError


class Slot(ABC):
    """Belongs to one event loop. `begun` is for the generator, which keeps there when the request's latency begins."""

    __slots__ = ("begun", "number")

    def __init__(self) -> None:
        self.number = 0
        self.begun = 0.0

    @abstractmethod
    def send(self, number: int) -> None:
        """Sends request `number`. `Answered` is told its end, always later and exactly once; only then may another follow."""


Answered: TypeAlias = Callable[[Slot, AspiredError | None], None]
"""A slot's request has ended: well, or with an error. Called in the event loop."""


class Connections(ABC):
    """Makes slots that send the requests of a test to one server."""

    @abstractmethod
    def slot(self, answered: Answered) -> Slot:
        """A new slot. It connects when it first sends, and again whenever it has lost its connection."""

    @abstractmethod
    def expire(self, now: float) -> None:
        """Ends requests whose time is up with DeadlineExceeded. To be called now and then, `now` as of time.perf_counter()."""

    @abstractmethod
    async def close(self) -> None:
        """Drops all connections; requests under way end without a word."""
