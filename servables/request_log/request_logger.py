"""The request logs of one frontend."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.core import metric_catalog as catalog
from cluster.core.errors import Code
from cluster.core.metrics import MetricCells
from cluster.core.request_logging import RequestLogging
from cluster.core.servable_id import ServableId
from cluster.protos import LogMetadata, SamplingConfig
from servables.request_log.record_files import FileLimits, RecordFiles
from servables.request_log.record_queue import QueueLimits, RecordQueue
from servables.request_log.record_sink import RecordSink
from servables.request_log.request_log import MakeLog, is_sampled
from servables.request_log.s3_record_files import SCHEME, S3RecordFiles
from servables.tf_record import encode_record

CLOSE_TIMEOUT_S = 10.0
"""How long the last records may take: a file system that hangs must not keep a server from stopping."""
RETRY_INTERVAL_S = 5.0
"""How long a sink that has failed is left alone; what comes for it meanwhile is dropped."""

logger = logging.getLogger(__name__)

SinkFactory = Callable[[str], RecordSink]
"""Makes the sink of a filename_prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLogLimits:
    """What the logs of one frontend may take of memory, and those of a machine of disk."""

    queue: QueueLimits = field(default_factory=QueueLimits)
    files: FileLimits = field(default_factory=FileLimits)


class RequestLogger:
    """Logs the requests of every model that is configured so, in a thread of its own.

        logger.configure(serving_map.request_logging)     again whenever it changes
        log = logger.logs.get(model)                      None: the model logs nothing
        log.offer(...)
        await logger.close()                              writes what waits, and completes the files

    `configure`, `offer` and `close` belong to one event loop. `logs` stays the same object. Nothing here fails or delays a
    request: what cannot be written in time is dropped and counted in `cells`.
    """

    def __init__(
        self,
        frontend_id: str,
        limits: RequestLogLimits | None = None,
        cells: MetricCells | None = None,
        *,
        make_sink: SinkFactory | None = None,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        limits = limits or RequestLogLimits()
        self.logs: dict[str, ModelRequestLog] = {}
        self._cells = cells or MetricCells()
        self._frontend_id = frontend_id
        self._file_limits = limits.files
        self._chance = chance
        self._clock = clock
        self._queue: RecordQueue[_Entry] = RecordQueue(limits.queue)
        self._writer = _Writer(self._queue, make_sink or self._files, clock)
        self._thread: threading.Thread | None = None

    def configure(self, request_logging: Mapping[str, RequestLogging]) -> None:
        """Logs these models' requests from now on, and no others."""
        for model in self.logs.keys() - request_logging.keys():
            del self.logs[model]
        for model, config in request_logging.items():
            if model in self.logs:
                self.logs[model].config = config
            else:
                counts = LogCounts(self._cells, model)
                self.logs[model] = ModelRequestLog(config, counts, self._queue, self._chance, self._clock)
        self._writer.prefixes = frozenset(config.filename_prefix for config in request_logging.values())
        self._queue.nudge()
        if self._thread is None and self.logs:
            self._thread = threading.Thread(target=self._writer.run, name="request log", daemon=True)
            self._thread.start()

    async def close(self) -> None:
        """Logs nothing more; returns when everything is written, or after CLOSE_TIMEOUT_S. May be called again."""
        self._queue.close()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)

    def _files(self, prefix: str) -> RecordSink:
        sink = S3RecordFiles if prefix.startswith(SCHEME) else RecordFiles
        return sink(prefix, self._frontend_id, self._file_limits, self._clock)


class LogCounts:
    """What became of a model's sampled requests. Each count belongs to one thread."""

    def __init__(self, cells: MetricCells, model: str) -> None:
        self.written = cells.counter(catalog.REQUEST_LOG_COUNT, model, Code.OK.name)
        """By the writer."""
        self.failed = cells.counter(catalog.REQUEST_LOG_COUNT, model, Code.UNAVAILABLE.name)
        """By the writer: there was no disk to take them."""
        self.refused = cells.counter(catalog.REQUEST_LOG_COUNT, model, Code.RESOURCE_EXHAUSTED.name)
        """By the event loop: there was no room in the queue."""


class ModelRequestLog:
    """See `RequestLog`. `config` may change."""

    def __init__(
        self,
        config: RequestLogging,
        counts: LogCounts,
        queue: RecordQueue[_Entry],
        chance: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self.counts = counts
        self._queue = queue
        self._chance = chance
        self._clock = clock

    def offer(self, servable: ServableId, signature_name: str, make_log: MakeLog, size_bytes: int) -> None:
        if not is_sampled(self.config.sampling_rate, self._chance()):
            return
        entry = _Entry(self.counts, self.config, servable, signature_name, int(self._clock()), make_log)
        if not self._queue.put(entry, size_bytes):
            self.counts.refused.add()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A request that waits to be written."""

    counts: LogCounts
    config: RequestLogging
    servable: ServableId
    signature_name: str
    answered_at_s: int
    make_log: MakeLog

    def record(self) -> bytes:
        message = self.make_log()
        message.log_metadata.CopyFrom(self._metadata())
        return encode_record(message.SerializeToString())

    def _metadata(self) -> Any:
        metadata = LogMetadata(
            sampling_config=SamplingConfig(sampling_rate=self.config.sampling_rate), timestamp_secs=self.answered_at_s
        )
        metadata.model_spec.name = self.servable.name
        metadata.model_spec.version.value = self.servable.version
        metadata.model_spec.signature_name = self.signature_name
        return metadata


class _Writer:
    """The thread's side. `prefixes` are those that are logged to now; sinks of others are completed once nothing waits."""

    def __init__(self, queue: RecordQueue[_Entry], make_sink: SinkFactory, clock: Callable[[], float]) -> None:
        self.prefixes: frozenset[str] = frozenset()
        self._queue = queue
        self._make_sink = make_sink
        self._clock = clock
        self._sinks: dict[str, _GuardedSink] = {}

    def run(self) -> None:
        while not self._queue.ended:
            entry = self._queue.take(self._patience_s())
            if entry is not None:
                self._write(entry)
            else:
                self._retire()
            now = self._clock()
            for sink in self._sinks.values():
                sink.complete_if_due(now)
        for sink in self._sinks.values():
            sink.complete()

    def _write(self, entry: _Entry) -> None:
        prefix = entry.config.filename_prefix
        sink = self._sinks.get(prefix)
        if sink is None:
            sink = self._sinks[prefix] = _GuardedSink(prefix, self._make_sink(prefix))
        try:
            record = entry.record()
        except Exception:  # a bug in one kind of message must not end the log
            logger.exception("a request of %s cannot be logged", entry.servable)
            entry.counts.failed.add()
            return
        kept = sink.write(record, self._clock())
        (entry.counts.written if kept else entry.counts.failed).add()

    def _retire(self) -> None:
        for prefix in self._sinks.keys() - self.prefixes:
            self._sinks.pop(prefix).complete()

    def _patience_s(self) -> float | None:
        due = [due_at for sink in self._sinks.values() if (due_at := sink.due_at()) is not None]
        return max(0.0, min(due) - self._clock()) if due else None


class _GuardedSink:
    """A sink whose failures are logged once, until it works again, and that is left alone for a while after each."""

    def __init__(self, prefix: str, sink: RecordSink) -> None:
        self._prefix = prefix
        self._sink = sink
        self._failing = False
        self._retry_at = 0.0

    def write(self, record: bytes, now: float) -> bool:
        """Whether the record was kept."""
        if self._failing and now < self._retry_at:
            return False
        try:
            self._sink.write(record)
        except OSError as error:
            self._retry_at = now + RETRY_INTERVAL_S
            self._report(error)
            return False
        if self._failing:
            self._failing = False
            logger.warning("request log %s: written again", self._prefix)
        return True

    def complete(self) -> None:
        try:
            self._sink.complete()
        except OSError as error:
            self._report(error)

    def complete_if_due(self, now: float) -> None:
        due_at = self._sink.due_at()
        if due_at is not None and due_at <= now:
            self.complete()

    def due_at(self) -> float | None:
        return self._sink.due_at()

    def _report(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            logger.error("request log %s: %s; requests go on and are not logged", self._prefix, error.strerror or error)
