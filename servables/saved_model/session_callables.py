"""Compiled ways through a session, kept for the next request of the same kind."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from servables.saved_model.run_threads import RunThreads

_TIMEOUT_BUCKETS_MS = tuple(50 * 4**power for power in range(8))


class CallableKey(NamedTuple):
    """What a session must know beforehand. `timeout_ms` 0 sets no timeout; the others come from `timeout_bucket_ms`.

    In the caller's threads no timeout counts.
    """

    signature_name: str
    inputs: frozenset[str]
    outputs: frozenset[str]
    timeout_ms: int
    threads: RunThreads = RunThreads.POOL


@dataclass(frozen=True, slots=True)
class SessionCallable:
    """One way through the graph: arrays in the order of `feeds` in, values out, one for each distinct tensor.

    `twins` are pairs of input aliases of one tensor, of which only the first is fed. `fetches` says where an output is.
    """

    function: Callable[..., list[Any]]
    feeds: tuple[str, ...]
    twins: tuple[tuple[str, str], ...]
    fetches: Mapping[str, int]


def timeout_bucket_ms(timeout_s: float | None) -> int:
    """The timeout to compile for: the next of a few steps, since each different one costs a callable.

    None, and what is longer than the last step, becomes 0: no timeout. The caller that wants its answer on time does not
    wait for the run; this only ends, soon enough, what nobody waits for.
    """
    if timeout_s is None:
        return 0
    return next((bucket for bucket in _TIMEOUT_BUCKETS_MS if bucket >= timeout_s * 1000), 0)


class SessionCallables:
    """The callables last used, up to `capacity`; thread-safe. Making one optimizes the graph, so it takes milliseconds or more.

    A callable that is dropped while it runs finishes first: its session releases it with its last reference.
    """

    def __init__(self, make: Callable[[CallableKey], SessionCallable], capacity: int) -> None:
        self._make = make
        self._capacity = capacity
        self._callables: OrderedDict[CallableKey, SessionCallable] = OrderedDict()
        self._lock = threading.Lock()
        self._make_lock = threading.Lock()

    def get(self, key: CallableKey) -> SessionCallable:
        """The callable for `key`; raises what making it raises."""
        found = self._find(key)
        if found is not None:
            return found
        # Apart from `_lock`, so that runs whose callables exist never wait for one that is being made.
        with self._make_lock:
            found = self._find(key)
            if found is not None:
                return found
            made = self._make(key)
            with self._lock:
                self._callables[key] = made
                if len(self._callables) > self._capacity:
                    self._callables.popitem(last=False)
            return made

    def clear(self) -> None:
        with self._lock:
            self._callables.clear()

    def __len__(self) -> int:
        return len(self._callables)

    def _find(self, key: CallableKey) -> SessionCallable | None:
        with self._lock:
            found = self._callables.get(key)
            if found is not None:
                self._callables.move_to_end(key)
            return found
