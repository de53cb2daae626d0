from __future__ import annotations

import os
import subprocess
import sys

from servables.deployment.process_priority import may_raise_priority

# In a process of its own: without privileges a niceness cannot be given back.
_NICE_WORKER = """
import os, threading
from servables.deployment.process_priority import take_raylets_priority

def niceness(thread):
    return os.getpriority(os.PRIO_PROCESS, thread)

os.nice(5)
ready, done = threading.Event(), threading.Event()
older = threading.Thread(target=lambda: (ready.set(), done.wait()))
older.start()
ready.wait()
take_raylets_priority()
younger = threading.Thread(target=lambda: (done.wait(),))
younger.start()
print(niceness(0), niceness(older.native_id), niceness(younger.native_id))
done.set()
"""


def worker_under(pid: int) -> list[int]:
    """The niceness of a serving worker's threads. It was started with 5 more than this process; `pid` is its raylet."""
    environment = {**os.environ, "RAY_RAYLET_PID": str(pid)}
    told = subprocess.run(
        [sys.executable, "-c", _NICE_WORKER], capture_output=True, text=True, check=True, env=environment
    ).stdout
    return [int(word) for word in told.split()]


def test_all_threads_of_a_process_that_serves_give_up_its_niceness_where_that_is_allowed() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    expected = own if may_raise_priority() else min(own + 5, 19)
    assert worker_under(os.getpid()) == [expected] * 3


def test_a_process_that_is_gone_changes_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert worker_under(gone.pid) == [min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)] * 3


def test_trying_leaves_the_priority_as_it_was() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    may_raise_priority()
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
