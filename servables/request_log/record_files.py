"""Records in local files: `<prefix>-<time>-<frontend>-<number>.tfrecord`, with `.partial` behind it until it is complete."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from servables.request_log.record_sink import RecordSink

PARTIAL = ".partial"

_REST_OF_NAME = r"-(?P<time>[0-9]{8}T[0-9]{6}Z)-(?P<frontend>[A-Za-z0-9_]+)-(?P<number>[0-9]+)\.tfrecord(?P<partial>\.partial)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """When a file is complete, and how much all files of a prefix on a machine may take before the oldest are deleted."""

    max_file_bytes: int = 64 << 20
    max_file_age_s: float = 600.0
    max_total_bytes: int = 10 << 30


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of some frontend's, as it was found. `quiet_s`: how long nothing has been written to it."""

    path: Path
    time: str
    size_bytes: int
    partial: bool
    quiet_s: float


def find_log_files(prefix: str, now: float) -> list[LogFile]:
    """All files of a prefix, complete or not, whoever wrote them; the oldest first. Raises OSError."""
    directory, name = os.path.split(prefix)
    pattern = re.compile(re.escape(name) + _REST_OF_NAME)
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match is None:
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:  # another frontend has renamed or deleted it meanwhile
                continue
            partial = match["partial"] is not None
            file = LogFile(Path(entry.path), match["time"], status.st_size, partial, now - status.st_mtime)
            found.append(((match["time"], match["frontend"], int(match["number"])), file))
    return [file for _, file in sorted(found, key=lambda pair: pair[0])]


def files_to_delete(files: Iterable[LogFile], limits: FileLimits) -> Sequence[LogFile]:
    """The oldest files beyond `max_total_bytes`; `files` are in the order of their age.

    Never one that a frontend may be writing: such a file is completed when it is `max_file_age_s` old.
    """
    files = tuple(files)
    surplus_bytes = sum(file.size_bytes for file in files) - limits.max_total_bytes
    surplus: list[LogFile] = []
    for file in files:
        if surplus_bytes <= 0:
            break
        if not file.partial or file.quiet_s > 2 * limits.max_file_age_s:
            surplus.append(file)
            surplus_bytes -= file.size_bytes
    return surplus


class RecordFiles(RecordSink):
    """The files of one prefix that one frontend writes, one at a time."""

    def __init__(self, prefix: str, frontend: str, limits: FileLimits, clock: Callable[[], float] = time.time) -> None:
        self._prefix = prefix
        self._frontend = frontend
        self._limits = limits
        self._clock = clock
        self._number = 0
        self._path = ""
        self._descriptor: int | None = None
        self._opened_at = 0.0
        self._size_bytes = 0

    def write(self, record: bytes) -> None:
        if self._descriptor is not None and self._size_bytes + len(record) > self._limits.max_file_bytes:
            self.complete()
        descriptor = self._open() if self._descriptor is None else self._descriptor
        try:
            _write_all(descriptor, record)
        except OSError:
            # What was written of it goes, so that the file stays one of whole records.
            os.ftruncate(descriptor, self._size_bytes)
            raise
        self._size_bytes += len(record)

    def complete(self) -> None:
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)
        # A file without a record comes of a disk that was full when the first was to be written.
        if self._size_bytes:
            os.rename(f"{self._path}{PARTIAL}", self._path)
        else:
            os.unlink(f"{self._path}{PARTIAL}")
        self._delete_surplus()

    def due_at(self) -> float | None:
        return None if self._descriptor is None else self._opened_at + self._limits.max_file_age_s

    def _open(self) -> int:
        os.makedirs(os.path.dirname(self._prefix), exist_ok=True)
        self._opened_at = self._clock()
        self._number += 1
        opened = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._opened_at))
        self._path = f"{self._prefix}-{opened}-{self._frontend}-{self._number}.tfrecord"
        # Appending: after a failure the file is shorter than what was written, and the next record goes to its end.
        self._descriptor = os.open(f"{self._path}{PARTIAL}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._size_bytes = 0
        return self._descriptor

    def _delete_surplus(self) -> None:
        for file in files_to_delete(find_log_files(self._prefix, self._clock()), self._limits):
            file.path.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
