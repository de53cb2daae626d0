"""Where the microseconds of a request go, stage by stage, of one request in so many.

    frontend    decode --> gather --> replica -----------------------> encode
    replica                           replica_queue --> replica_run

decode: from the request's bytes to arrays, checks included. gather: waiting in the frontend for the next frame to leave.
replica: from the frame's departure to the reply; what it takes beyond the two stages in it is the way there and back.
replica_queue: waiting in the replica for a thread or a batch. replica_run: the model's run, of the whole batch where there is
one. encode: from arrays to the answer's bytes.
"""

from __future__ import annotations

import threading

from cluster.core import metric_catalog as catalog
from cluster.core.metrics import Histogram, MetricCells

DECODE, GATHER, REPLICA, REPLICA_QUEUE, REPLICA_RUN, ENCODE = catalog.STAGES

SAMPLED_EVERY = 16
"""Timing each stage of each request would cost about a tenth of what it tells of."""

_MICROS = 1e6
_MAX_KEPT = 10_000


class StageMetrics:
    """Counts into `cells`; used by the threads of a replica, or on a frontend's event loop."""

    def __init__(self, cells: MetricCells) -> None:
        self._cells = cells
        self._lock = threading.Lock()
        self._requests = 0
        self._histograms: dict[tuple[str, str], Histogram] = {}

    def sampled(self) -> bool:
        """Whether the request that begins now is one of those that are timed; the first one is."""
        self._requests += 1
        return self._requests % SAMPLED_EVERY == 1

    def took(self, model_name: str, stage: str, duration_s: float) -> None:
        with self._lock:
            histogram = self._histograms.get((model_name, stage))
            if histogram is None:
                histogram = self._cells.histogram(catalog.STAGE_LATENCY, model_name, stage)
                if len(self._histograms) < _MAX_KEPT:
                    self._histograms[model_name, stage] = histogram
            histogram.observe(round(duration_s * _MICROS))
