"""A timer for an event loop that keeps times of some tens of microseconds; the loops' own keep milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_SPEC = struct.Struct("@llll")  # struct itimerspec: interval, value, each in seconds and nanoseconds
_EXPIRATIONS_BYTES = 8

_libc = ctypes.CDLL(None, use_errno=True)


class PreciseTimer:
    """Calls `fire` once for each `set`; a time that is past is due at once. Linux only: it is a timerfd."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._fire = fire
        self._loop = loop
        self._fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._expired)

    def set(self, when: float) -> None:
        """`when` is a time of time.perf_counter(), on Linux the same clock; it takes the place of an earlier one."""
        nanoseconds = max(1, int(when * 1e9))  # zero would disarm it
        seconds, rest = divmod(nanoseconds, 10**9)
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, _SPEC.pack(0, 0, seconds, rest), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _expired(self) -> None:
        try:
            os.read(self._fd, _EXPIRATIONS_BYTES)
        except BlockingIOError:
            return  # it was set again meanwhile
        self._fire()
