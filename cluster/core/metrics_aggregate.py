"""The metrics of a whole cluster: the sum of what its processes have counted, those that are gone included."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from operator import add, sub

from cluster.core.metrics import CellKey, Kind, Metric, Value

FOLD_AFTER_S = 600.0
"""When a silent process is certainly no more. Until then its counts are kept apart, so that it may come back with more."""


@dataclass(slots=True)
class _Process:
    heard_at: float
    counts: dict[CellKey, Value] = field(default_factory=dict)
    gauges: dict[CellKey, Value] = field(default_factory=dict)


class MetricsAggregate:
    """Adds up reports. No sum of counters or histograms ever falls, whatever dies.

    Processes report values as a whole, so a report that comes twice changes nothing and one that is lost is made good by the
    next. A process that has been silent for `lease_s` has no gauges any more.
    """

    def __init__(self, metrics: Collection[Metric], lease_s: float) -> None:
        self._gauges = frozenset(metric.name for metric in metrics if metric.kind is Kind.GAUGE)
        self._lease_s = lease_s
        self._processes: dict[str, _Process] = {}
        self._gone: dict[CellKey, Value] = {}
        self._restored: dict[CellKey, Value] = {}
        self._restored_until = 0.0

    def report(self, process: str, changes: Mapping[CellKey, Value], now: float) -> None:
        """Takes all gauges of a process, and of its counts those that have changed since its last report."""
        held = self._processes.setdefault(process, _Process(now))
        held.heard_at = now
        held.gauges = {key: value for key, value in changes.items() if key.metric in self._gauges}
        held.counts.update((key, value) for key, value in changes.items() if key.metric not in self._gauges)

    def live(self, now: float) -> tuple[str, ...]:
        """The processes whose lease runs."""
        return tuple(name for name, process in self._processes.items() if now - process.heard_at <= self._lease_s)

    def sums(self, now: float) -> dict[CellKey, Value]:
        """Every series of the cluster."""
        self._fold(now)
        sums = dict(self._gone)
        for process in self._processes.values():
            for key, value in process.counts.items():
                _add(sums, key, value)
            if now - process.heard_at <= self._lease_s:
                for key, value in process.gauges.items():
                    _add(sums, key, value)
        if self._restored:
            self._join_restored(sums, now)
        return sums

    def save(self, now: float) -> bytes:
        """What `restore` needs."""
        sums = [(*key, value) for key, value in self.sums(now).items() if key.metric not in self._gauges]
        return zlib.compress(json.dumps(sums).encode())

    def restore(self, saved: bytes, now: float) -> None:
        """Goes on from what an earlier aggregate has saved.

        Processes that live report again, and all they have counted. What is missing once each has had a lease's time for it
        was counted by processes that are gone.
        """
        for metric, labels, value in json.loads(zlib.decompress(saved)):
            self._restored[CellKey(metric, tuple(labels))] = tuple(value)
        self._restored_until = now + self._lease_s

    def _join_restored(self, sums: dict[CellKey, Value], now: float) -> None:
        for key, value in self._restored.items():
            missing = tuple(max(0, lack) for lack in map(sub, value, sums.get(key, (0,) * len(value))))
            _add(sums, key, missing)
            if now > self._restored_until:
                _add(self._gone, key, missing)
        if now > self._restored_until:
            self._restored.clear()

    def _fold(self, now: float) -> None:
        for name in [name for name, process in self._processes.items() if now - process.heard_at > FOLD_AFTER_S]:
            for key, value in self._processes.pop(name).counts.items():
                _add(self._gone, key, value)


def _add(sums: dict[CellKey, Value], key: CellKey, value: Value) -> None:
    held = sums.get(key)
    sums[key] = value if held is None else tuple(map(add, held, value))
