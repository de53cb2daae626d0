"""Moving many files at once, each again when it fails for a moment."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cluster.core.errors import Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable

THREADS = 8
ATTEMPTS = 5
_FIRST_PAUSE_S = 0.2
_REPORT_EVERY_S = 0.1

Moved = Callable[[int], None]
"""Told how many bytes more have been moved; raises Cancelled, once, in the middle of a file that need not be moved any more."""


class Sized(Protocol):
    """A file that is to be moved."""

    @property
    def size_bytes(self) -> int: ...


F = TypeVar("F", bound=Sized)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far a transfer is. Bytes may go down again when a file is begun anew."""

    files_done: int
    files: int
    bytes_done: int
    size_bytes: int


def transfer(
    files: Sequence[F],
    move: Callable[[F, Moved], R],
    progress: Callable[[TransferProgress], None],
    pause: Callable[[float], None] = time.sleep,
) -> list[R]:
    """What `move` returns for each file, in their order. It runs in several threads; `progress` is called in this one.

    Raises the first error that lasts, when nothing moves any more; so it does when it is interrupted.
    """
    stopped = threading.Event()
    bytes_done = [0] * len(files)
    size_bytes = sum(file.size_bytes for file in files)

    def attempt(index: int) -> R:
        if stopped.is_set():
            raise Cancelled("The transfer was stopped")
        bytes_done[index] = 0
        cancelled = False

        def moved(count: int) -> None:
            nonlocal cancelled
            bytes_done[index] += count
            # An SDK tells the rest of a file's bytes when it closes the file, which it must be let do.
            if stopped.is_set() and not cancelled and bytes_done[index] < files[index].size_bytes:
                cancelled = True
                raise Cancelled("The transfer was stopped")

        return move(files[index], moved)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(persistently, lambda index=index: attempt(index), pause) for index in range(len(files))]
        try:
            pending: set[Future[R]] = set(futures)
            while pending:
                done, pending = wait(pending, _REPORT_EVERY_S, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                progress(TransferProgress(len(files) - len(pending), len(files), sum(bytes_done), size_bytes))
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def persistently(work: Callable[[], R], pause: Callable[[float], None] = time.sleep) -> R:
    """What `work` returns, tried again with growing pauses while the storage cannot be reached or asks for fewer requests."""
    for attempt in range(1, ATTEMPTS):
        try:
            return work()
        except (Unavailable, DeadlineExceeded, ResourceExhausted):
            pause(_FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0))
    return work()
