"""What a replica counts while it runs its calls, under the names that TF Serving and TensorFlow count under."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from cluster.core import metric_catalog as catalog
from cluster.core.metrics import MetricCells
from servables.profile import ProfileOptions
from servables.servable import Array, Servable
from servables.signatures import Signature

_MICROS = 1e6


class MeasuredServable(Servable):
    """Another servable, whose runs are counted (TensorFlow: `core/common_runtime/metrics.cc`)."""

    def __init__(self, servable: Servable, cells: MetricCells) -> None:
        self._servable = servable
        self._counters = (cells.counter(catalog.GRAPH_RUNS), cells.counter(catalog.DIRECT_SESSION_RUNS))
        self._micros = cells.counter(catalog.GRAPH_RUN_TIME_USECS)
        self._lock = threading.Lock()

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._servable.signatures

    @property
    def deterministic(self) -> bool:
        return self._servable.deterministic

    def run(
        self, signature_name: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, Array]:
        began = time.perf_counter()
        try:
            return self._servable.run(signature_name, inputs, outputs, timeout_s)
        finally:
            micros = round((time.perf_counter() - began) * _MICROS)
            with self._lock:
                self._micros.add(micros)
                for counter in self._counters:
                    counter.add()

    @property
    def caller_thread_signatures(self) -> frozenset[str]:
        return self._servable.caller_thread_signatures

    def profile(self, options: ProfileOptions) -> bytes:
        return self._servable.profile(options)

    def close(self) -> None:
        self._servable.close()


class BatchMetrics:
    """What a batcher counts (TF Serving: `batching/batching_session.cc`). Rows are sizes of dimension 0."""

    def __init__(self, cells: MetricCells, thread_pool_name: str) -> None:
        self._cells = cells
        self._lock = threading.Lock()
        self._queuing = cells.histogram(catalog.QUEUING_LATENCY, thread_pool_name)
        self._runs = cells.counter(catalog.WRAPPED_RUN_COUNT)
        self._input_rows = cells.histogram(catalog.INPUT_BATCH_SIZE)
        self._batch_rows = cells.histogram(catalog.PROCESSED_BATCH_SIZE)

    def queued(self, rows: int) -> None:
        """A call was put into the queue; told on the event loop only."""
        self._input_rows.observe(rows)

    def taken(self, waited_s: Sequence[float]) -> None:
        """A batch leaves the queue; each of its calls has waited so long."""
        with self._lock:
            for seconds in waited_s:
                self._queuing.observe(round(seconds * _MICROS))

    def run(self, rows: int, batch_rows: int) -> None:
        """A batch of `rows` that clients sent is run with `batch_rows`."""
        with self._lock:
            self._runs.add()
            self._batch_rows.observe(batch_rows)
            self._cells.histogram(catalog.PADDING_SIZE, str(batch_rows)).observe(batch_rows - rows)


class FrameMetrics:
    """What a replica counts of the frames between frontends and itself; used on its event loop."""

    def __init__(self, cells: MetricCells) -> None:
        self._request_bytes = cells.histogram(catalog.FRAME_BYTES, "request")
        self._reply_bytes = cells.histogram(catalog.FRAME_BYTES, "reply")
        self._cells = cells

    def request(self, size_bytes: int, calls: int, channel: str) -> None:
        """A frame of so many calls has come; `channel` is the way that it took: lane or handle."""
        self._request_bytes.observe(size_bytes)
        self._cells.histogram(catalog.FRAME_CALLS, channel).observe(calls)

    def reply(self, size_bytes: int) -> None:
        """A frame of replies goes back."""
        self._reply_bytes.observe(size_bytes)
