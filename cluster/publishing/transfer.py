"""Moving many files at once, each again when it fails for a moment."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from cluster.core.errors import Cancelled, DeadlineExceeded, Unavailable

THREADS = 8
ATTEMPTS = 5
_FIRST_PAUSE_S = 0.2
_REPORT_EVERY_S = 0.1

F = TypeVar("F")
R = TypeVar("R")

Moved = Callable[[int], None]
"""Told how many bytes more have been moved; raises Cancelled when the transfer is to end."""


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
    size_bytes: int,
    progress: Callable[[TransferProgress], None],
    pause: Callable[[float], None] = time.sleep,
) -> list[R]:
    """What `move` returns for each file, in their order. It runs in several threads; `progress` is called in this one.

    Raises the first error that lasts, when nothing moves any more; so it does when it is interrupted.
    """
    stopped = threading.Event()
    bytes_done = [0] * len(files)

    def attempt(index: int) -> R:
        bytes_done[index] = 0

        def moved(count: int) -> None:
            if stopped.is_set():
                raise Cancelled("The transfer was stopped")
            bytes_done[index] += count

        moved(0)
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
    """What `work` returns, tried again with growing pauses while the storage cannot be reached or is too slow."""
    for attempt in range(1, ATTEMPTS):
        try:
            return work()
        except (Unavailable, DeadlineExceeded):
            pause(_FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0))
    return work()
