"""How the calls of a replica get run: one by one, or in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from servables.call import Call, Reply

OnReply = Callable[[Reply], None]


class Submission(Protocol):
    """One call in a runner's hands."""

    def cancel(self) -> None:
        """Nobody waits any more: the call is dropped if it has not begun. It still gets a reply (CANCELLED, or its result)."""


class Runner(ABC):
    """Runs calls on a servable; owns the threads. Used on one event loop, by a replica, never by two."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Calls that have not begun."""

    @property
    @abstractmethod
    def running(self) -> int:
        """Calls that run."""

    @abstractmethod
    def submit(self, call: Call, on_reply: OnReply) -> Submission:
        """Takes a call; never blocks, never raises for what the call holds.

        `on_reply` is called exactly once, on the event loop and never within `submit`, also with an error (a full queue, a bad
        signature name, a timeout). The call's `timeout_s` counts from now: an expired call is dropped before it runs.
        """

    @abstractmethod
    async def close(self) -> None:
        """Waits for what runs, fails what waits with UNAVAILABLE, and ends the threads."""
