"""What waits to be written."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How much may wait. A single item may be larger when nothing else waits."""

    max_items: int = 10_000
    max_bytes: int = 64 << 20


class RecordQueue(Generic[T]):
    """From any thread to the one that takes; who puts never waits."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._items: deque[tuple[T, int]] = deque()
        self._size_bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._nudged = False

    def put(self, item: T, size_bytes: int) -> bool:
        """False, and nothing is kept, when the queue is full or closed."""
        with self._changed:
            if self._closed or (self._items and not self._has_room(size_bytes)):
                return False
            self._items.append((item, size_bytes))
            self._size_bytes += size_bytes
            self._changed.notify()
        return True

    def take(self, timeout_s: float | None = None) -> T | None:
        """The oldest item; None after `timeout_s`, after a nudge, and when the queue is closed, once nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed or self._nudged, timeout_s)
            if not self._items:
                self._nudged = False
                return None
            item, size_bytes = self._items.popleft()
            self._size_bytes -= size_bytes
            return item

    def nudge(self) -> None:
        """Lets the taker look up: it gets None once nothing waits."""
        with self._changed:
            self._nudged = True
            self._changed.notify()

    def close(self) -> None:
        """Takes nothing more; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def ended(self) -> bool:
        """Closed, and everything is taken."""
        with self._changed:
            return self._closed and not self._items

    def _has_room(self, size_bytes: int) -> bool:
        return len(self._items) < self._limits.max_items and self._size_bytes + size_bytes <= self._limits.max_bytes
