"""The priority of processes that serve over those that load.

Ray starts its workers with a niceness of 15, so that its own processes come first. A version that loads keeps every core busy
for seconds at that same niceness, and each request on its way through a frontend and a replica waits for its turn. A process
that serves therefore gives up that niceness, where the system lets it: root, CAP_SYS_NICE, or a limit of "nice".
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path

_RAYLET = "RAY_RAYLET_PID"
"""Where Ray tells its workers the process of their raylet."""
_LOWEST = 19
_THREADS = Path("/proc/self/task")

logger = logging.getLogger(__name__)


def take_raylets_priority() -> None:
    """Gives all threads of this worker the niceness of its raylet; threads that start later inherit it.

    Called when the worker begins to serve. Where that is not allowed, everything stays as it is.
    """
    raylet = os.environ.get(_RAYLET)
    if raylet is None:
        return
    try:
        niceness = os.getpriority(os.PRIO_PROCESS, int(raylet))
        for thread in _threads():
            # Some may have ended meanwhile.
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread, niceness)
    except OSError as error:
        logger.debug("this process serves at the niceness it was started with: %s", error)


def may_raise_priority() -> bool:
    """Whether a process of this user may give up niceness, found out by trying in a thread that ends."""
    allowed = False

    def try_it() -> None:
        nonlocal allowed
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, min(niceness + 1, _LOWEST))
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
            allowed = True

    trying = threading.Thread(target=try_it)
    trying.start()
    trying.join()
    return allowed


def _threads() -> list[int]:
    """The main one first; where the system does not list them, the process as a whole."""
    return sorted(int(entry.name) for entry in _THREADS.iterdir()) if _THREADS.exists() else [0]
