"""A record sink in memory, whose disk can be full."""

from __future__ import annotations

import errno
import threading

from servables.request_log.record_sink import RecordSink


class FakeRecordSink(RecordSink):
    """`completed` holds what was handed over, a list for each `complete`. A closed `gate` holds writes up."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.completed: list[list[bytes]] = []
        self.full = False
        self.refusals = 0
        self.due: float | None = None
        self.writing = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def write(self, record: bytes) -> None:
        self.writing.set()
        assert self.gate.wait(30)
        if self.full:
            self.refusals += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written.append(record)

    def complete(self) -> None:
        if self.written:
            self.completed.append(self.written)
            self.written = []
        self.due = None

    def due_at(self) -> float | None:
        return self.due if self.written else None
