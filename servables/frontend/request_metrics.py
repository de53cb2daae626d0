"""What a frontend counts of its requests (TF Serving: `servables/tensorflow/util.cc`, `model_servers/http_server.cc`)."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from cluster.core import metric_catalog as catalog
from cluster.core.errors import AspiredError, Code
from cluster.core.metrics import MAX_LABEL_CHARS, Counter, Histogram, MetricCells

_MICROS = 1e6
_RUNTIME = "TF1"
_MAX_KEPT = 10_000


class RequestMetrics:
    """Counts into `cells`; used on the frontend's event loop. `seconds` are how long what is counted took."""

    def __init__(self, cells: MetricCells) -> None:
        self.cells = cells
        # Finding a cell costs more than counting, and the same ones are wanted again and again.
        self._counters: dict[tuple[str, Code], Counter] = {}
        self._histograms: dict[tuple[str, str, str], Histogram] = {}

    def request(self, entrypoint: str, model_name: str, api: str) -> CountedRequest:
        """Counts what happens in its `with` block as one request."""
        return CountedRequest(self, entrypoint, model_name, api)

    def answered(self, entrypoint: str, model_name: str, api: str, code: Code, seconds: float) -> None:
        """A request has its answer. `entrypoint` is REST or GRPC, `api` the verb or method; a REST GET has none."""
        model_name = model_name[:MAX_LABEL_CHARS]  # clients choose it, and it is kept here too
        counter = self._counters.get((model_name, code))
        if counter is None:
            counter = self.cells.counter(catalog.REQUEST_COUNT, model_name, code.name)
            if len(self._counters) < _MAX_KEPT:
                self._counters[model_name, code] = counter
        counter.add()
        if code is Code.OK:
            self._histogram(model_name, api, entrypoint).observe(round(seconds * _MICROS))

    def ran(self, model_name: str, api: str, seconds: float) -> None:
        """A replica has answered, and well. `api` is TF Serving's name of the operation, whatever protocol asked for it."""
        self._histogram(model_name, api, "").observe(round(seconds * _MICROS))

    def examples(self, model_name: str, count: int) -> None:
        """A MultiInference request had so many examples."""
        self.cells.histogram(catalog.REQUEST_EXAMPLE_COUNTS, model_name).observe(count)
        self.cells.counter(catalog.REQUEST_EXAMPLE_COUNT_TOTAL, model_name).add(count)

    def _histogram(self, model_name: str, api: str, entrypoint: str) -> Histogram:
        histogram = self._histograms.get((model_name, api, entrypoint))
        if histogram is None:
            if entrypoint:
                histogram = self.cells.histogram(catalog.REQUEST_LATENCY, model_name, api, entrypoint)
            else:
                histogram = self.cells.histogram(catalog.RUNTIME_LATENCY, model_name, api, _RUNTIME)
            if len(self._histograms) < _MAX_KEPT:
                self._histograms[model_name, api, entrypoint] = histogram
        return histogram


class CountedRequest:
    """A request that is being answered. `code` is what becomes of it if nothing is raised."""

    __slots__ = ("_api", "_began", "_entrypoint", "_metrics", "_model_name", "code")

    def __init__(self, metrics: RequestMetrics, entrypoint: str, model_name: str, api: str) -> None:
        self._metrics = metrics
        self._entrypoint = entrypoint
        self._model_name = model_name
        self._api = api
        self.code = Code.OK

    def __enter__(self) -> CountedRequest:
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, raised: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._began
        code = self.code if error is None else _code(error)
        self._metrics.answered(self._entrypoint, self._model_name, self._api, code, seconds)


def _code(error: BaseException) -> Code:
    if isinstance(error, AspiredError):
        return error.code
    return Code.CANCELLED if isinstance(error, asyncio.CancelledError) else Code.INTERNAL
