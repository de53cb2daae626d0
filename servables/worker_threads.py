"""Threads that pull work from a queue."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

W = TypeVar("W")


class WorkerThreads(Generic[W]):
    """Up to `num_threads` threads, each of which takes a piece of work, does it, and takes the next without asking anyone.

    `take(now)` hands out a piece of work that is due, or None; `ready_at()` says when it next has one, infinite when nothing
    waits. Both are called with `lock` held, times are `time.monotonic()`. `do` is called without it and must not raise.

    Work is added with `lock` held, followed by `wake`. One thread at a time is woken, and wakes the next one if it leaves work
    behind: a slow piece of work holds up no other while a thread is free, and threads do not crowd around work that one of
    them can do. Threads start when they are first needed. Used on one event loop.
    """

    def __init__(
        self,
        take: Callable[[float], W | None],
        ready_at: Callable[[], float],
        do: Callable[[W], None],
        *,
        num_threads: int,
        name: str,
    ) -> None:
        self.lock = threading.Lock()
        self._take = take
        self._ready_at = ready_at
        self._do = do
        self._num_threads = num_threads
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._work_added = threading.Condition(self.lock)
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._waking = False
        """A thread has been told of the work and has not come for it yet."""
        self._alarm_at = math.inf
        """When the idle thread that waits for work to become due will look again; one of them waits with a timeout."""
        self._closing = False
        self._running_threads = 0
        self._busy = 0
        self._ended = asyncio.Event()

    @property
    def busy(self) -> int:
        """Threads that have work in hand."""
        return self._busy

    def wake(self, now: float) -> None:
        """There may be work that no thread knows of. Called with the lock held."""
        if self._waking:
            return
        ready_at = self._ready_at()
        if ready_at > now and ready_at >= self._alarm_at:
            return
        if self._idle:
            self._waking = True
            self._work_added.notify()
        elif len(self._threads) < self._num_threads:
            # A daemon, so that the process can exit while a servable hangs.
            thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            thread.start()
            self._threads.append(thread)
            self._running_threads += 1
            self._waking = True

    async def close(self) -> None:
        """Waits until what is due has been done and all threads have ended. Nothing may be added any more."""
        with self.lock:
            self._closing = True
            self._work_added.notify_all()
            if not self._running_threads:
                self._ended.set()
        await self._ended.wait()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        done = 0
        while (work := self._next(done)) is not None:
            self._do(work)
            del work  # its arrays are not kept until the next piece comes
            done = 1

    def _next(self, done: int) -> W | None:
        with self._work_added:
            self._busy -= done
            self._waking = False
            while True:
                now = time.monotonic()
                work = self._take(now)
                if work is not None:
                    self._busy += 1
                    self.wake(now)
                    return work
                if self._closing:
                    self._running_threads -= 1
                    if not self._running_threads:
                        self._loop.call_soon_threadsafe(self._ended.set)
                    return None
                self._wait(now)

    def _wait(self, now: float) -> None:
        ready_at = self._ready_at()
        self._idle += 1
        if ready_at < self._alarm_at:
            self._alarm_at = ready_at
            self._work_added.wait(min(ready_at - now, threading.TIMEOUT_MAX))
            if self._alarm_at == ready_at:
                self._alarm_at = math.inf
        else:
            self._work_added.wait()
        self._idle -= 1
        self._waking = False
