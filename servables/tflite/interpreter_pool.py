"""Lends interpreters to runs."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cluster.core.errors import DeadlineExceeded
from servables.tflite.interpreter import Interpreter


class InterpreterPool:
    """A fixed set of interpreters of one model; thread-safe. The one that came back last goes out first: its memory is warm."""

    def __init__(self, interpreters: Sequence[Interpreter]) -> None:
        self._free: queue.LifoQueue[Interpreter] = queue.LifoQueue()
        for interpreter in interpreters:
            self._free.put(interpreter)

    @contextmanager
    def lend(self, timeout_s: float | None) -> Iterator[Interpreter]:
        """An interpreter that nobody else has meanwhile. Waits for one; raises DeadlineExceeded when none is free in time."""
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineExceeded("Timed out before the run began")
        try:
            interpreter = self._free.get(timeout=timeout_s)
        except queue.Empty:
            raise DeadlineExceeded("Timed out waiting for a free TFLite interpreter") from None
        try:
            yield interpreter
        finally:
            self._free.put(interpreter)

    def clear(self) -> None:
        """Lets go of the interpreters; none is lent any more."""
        while not self._free.empty():
            self._free.get()
