"""What Python's collector of cycles has to look at in a process that has started.

Modules, TensorFlow's above all, are hundreds of thousands of objects that live as long as the process. With Python's own
settings the collector walks through all of them again and again while requests come and go, and every request waits meanwhile.
"""

from __future__ import annotations

import gc

# Of a frontend: at 128 connections it collects some times a second, each time for a fraction of a millisecond.
_THRESHOLDS = (50_000, 20, 20)


def freeze_heap() -> None:
    """Takes all that is alive now for what stays, and lets the collector look at what comes later, and less often.

    Called once a process has loaded what it works with, before it serves. What is garbage by then is collected first.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
