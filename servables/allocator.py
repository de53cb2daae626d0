"""How this process keeps memory for its next large request."""

from __future__ import annotations

import ctypes

MAX_KEPT_BLOCK_BYTES = 32 << 20
"""Larger blocks go back to the system as soon as they are free; glibc knows no higher limit."""
MAX_KEPT_BYTES = 64 << 20
"""How much free memory stays at the end of the heap."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> bool:
    """Tells malloc to keep what large bodies and tensors leave behind, for the next ones. Returns whether it took that.

    By default glibc gives freed blocks of some 100 KB and more back to the system, which then has to find and clear every page
    of the next one: for a tensor of 6 MB that costs more than copying it. Called once, when a process that serves begins.
    Without effect where the allocator is not glibc's.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MAX_KEPT_BLOCK_BYTES) and mallopt(_M_TRIM_THRESHOLD, MAX_KEPT_BYTES))
