"""Running calls in batches: the threads and the event loop around a `BatchScheduler`."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Sequence

from cluster.config.batching_parameters import BatchingParameters
from cluster.core.errors import AspiredError, ResourceExhausted, Status
from cluster.core.metrics import MetricCells
from servables.batching.batch import concatenate, join, rounded_up, split
from servables.batching.batch_scheduler import Batch, BatchScheduler, Task, TaskSlice
from servables.call import Call, Reply
from servables.deadline_timer import DeadlineTimer, time_left_s
from servables.reply_queue import ReplyQueue
from servables.run_errors import CANCELLED, CLOSED, EXPIRED, status_of, unknown_signature
from servables.run_metrics import BatchMetrics
from servables.runner import OnReply, Runner, Submission
from servables.servable import Array, Servable
from servables.stage_metrics import REPLICA_QUEUE, REPLICA_RUN, StageMetrics
from servables.worker_threads import WorkerThreads

_EXPIRED_IN_QUEUE = ResourceExhausted("Run() timeout exceeded while waiting in batching queue").to_status()

logger = logging.getLogger(__name__)


class Batcher(Runner):
    """Runs calls in batches, up to `num_batch_threads` batches at once.

    When a batch fails, its calls run again in ever smaller groups, so that a call fails for its own reasons only. A servable
    that is not deterministic runs nothing twice: there, the whole batch gets the error. The deadline of a batch is its
    latest call's. Batches and waits are counted in `cells`.
    """

    def __init__(
        self, servable: Servable, parameters: BatchingParameters, cells: MetricCells | None = None, model_name: str = ""
    ) -> None:
        self._servable = servable
        cells = cells or MetricCells()
        self._model_name = model_name
        self._stages = StageMetrics(cells)
        self._signature_names = frozenset(servable.signatures)
        self._parameters = parameters
        self._metrics = BatchMetrics(cells, parameters.thread_pool_name)
        self._scheduler: BatchScheduler[_BatchedCall] = BatchScheduler(parameters)
        self._replies = ReplyQueue(asyncio.get_running_loop())
        self._threads = WorkerThreads(
            self._take,
            self._scheduler.ready_at,
            self._run,
            num_threads=parameters.num_batch_threads,
            name=parameters.thread_pool_name,
        )
        self._lock = self._threads.lock
        self._timer = DeadlineTimer(self._expire)
        self._accepted = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Calls of which not all has been put into a batch that runs."""
        return self._scheduler.waiting

    @property
    def running(self) -> int:
        """Calls that are in batches that run, and wait in the queue no more."""
        return self._accepted - self._scheduler.waiting

    def submit(self, call: Call, on_reply: OnReply) -> Submission:
        now = time.monotonic()
        task = _BatchedCall(self, call, on_reply, now)
        status = self._refusal(task, now)
        if status is not None:
            self._replies.post([(on_reply, Reply(call.call_id, status=status))])
        else:
            self._timer.watch(task.deadline)
            self._metrics.queued(task.rows)
        return task

    async def close(self) -> None:
        self._closed = True
        self._timer.cancel()
        with self._lock:
            self._fail(self._scheduler.drain(), CLOSED)
        await self._threads.close()
        self._replies.deliver()

    def _refusal(self, task: _BatchedCall, now: float) -> Status | None:
        """Queues the task; the status to answer with if that is not possible."""
        call = task.call
        if self._closed:
            return CLOSED
        if task.deadline <= now:
            return _EXPIRED_IN_QUEUE
        if call.signature_name not in self._signature_names:
            return unknown_signature(call.signature_name)
        with self._lock:
            try:
                self._scheduler.add(task, now)
            except AspiredError as error:
                return error.to_status()
            self._accepted += 1
            self._threads.wake(now)
        return None

    def _cancel(self, task: _BatchedCall) -> None:
        with self._lock:
            if self._scheduler.cancel(task):
                self._fail([task], CANCELLED)

    def _expire(self) -> float:
        with self._lock:
            self._fail(self._scheduler.expire(time.monotonic()), _EXPIRED_IN_QUEUE)
            return self._scheduler.next_deadline()

    def _take(self, now: float) -> Batch[_BatchedCall] | None:
        self._fail(self._scheduler.expire(now), _EXPIRED_IN_QUEUE)
        return self._scheduler.next_batch(now)

    def _run(self, batch: Batch[_BatchedCall]) -> None:
        now = time.monotonic()
        self._metrics.taken([now - piece.task.queued_at for piece in batch.slices])
        timed = [piece for piece in batch.slices if piece.task.timed]
        self._run_together(tuple(batch.slices))
        for piece in timed:
            self._stages.took(self._model_name, REPLICA_QUEUE, now - piece.task.queued_at)
            self._stages.took(self._model_name, REPLICA_RUN, time.monotonic() - now)

    def _run_together(self, slices: Sequence[_Slice]) -> None:
        outcomes: Sequence[dict[str, Array] | Status] | None = None
        try:
            outcomes = self._outputs(slices)
        except BaseException as error:  # even one that asks the process to exit must not cost the thread its replies
            if len(slices) == 1 or not self._servable.deterministic:
                outcomes = [status_of(error)] * len(slices)
            else:
                logger.info("a batch of %d calls failed and is run apart: %r", len(slices), error)
        # Out of the handler, where the error would keep the arrays of the failed run alive.
        if outcomes is None:
            self._run_apart(slices)
        else:
            self._settle(zip(slices, outcomes, strict=True))

    def _run_apart(self, slices: Sequence[_Slice]) -> None:
        """Halves what failed, so that one bad call among n costs some log n runs."""
        now = time.monotonic()
        late = [piece for piece in slices if piece.task.deadline <= now]
        self._settle([(piece, EXPIRED) for piece in late])
        rest = [piece for piece in slices if not piece.task.answered]
        middle = len(rest) // 2
        for half in (rest[:middle], rest[middle:]):
            if half:
                self._run_together(half)

    def _outputs(self, slices: Sequence[_Slice]) -> list[dict[str, Array]]:
        call = slices[0].task.call
        task_rows = [piece.rows for piece in slices]
        batch_rows = rounded_up(sum(task_rows), self._parameters.allowed_batch_sizes)
        inputs = concatenate(
            [piece.inputs for piece in slices],
            batch_rows,
            pad_variable_length=self._parameters.pad_variable_length_inputs,
        )
        self._metrics.run(sum(task_rows), batch_rows)
        timeout_s = time_left_s(max(piece.task.deadline for piece in slices))
        outputs = self._servable.run(call.signature_name, inputs, call.outputs, timeout_s)
        return split(outputs, task_rows, batch_rows)

    def _settle(self, outcomes: Iterable[tuple[_Slice, dict[str, Array] | Status]]) -> None:
        """Keeps what slices have come to, and answers the calls that are complete or have failed."""
        complete: list[_BatchedCall] = []
        with self._lock:
            for piece, outcome in outcomes:
                task = piece.task
                if task.answered:
                    continue
                if isinstance(outcome, Status):
                    self._scheduler.cancel(task)
                    self._fail([task], outcome)
                    continue
                task.parts[piece.index] = outcome
                if len(task.parts) == len(task.slices):
                    self._answered(task)
                    complete.append(task)
        self._replies.post([(task.on_reply, task.reply()) for task in complete])

    def _fail(self, tasks: Iterable[_BatchedCall], status: Status) -> None:
        """Answers calls of which nothing waits any more. Called with the lock held."""
        failed = []
        for task in tasks:
            self._answered(task)
            failed.append((task.on_reply, Reply(task.call.call_id, status=status)))
        self._replies.post(failed)

    def _answered(self, task: _BatchedCall) -> None:
        task.answered = True
        self._accepted -= 1


class _BatchedCall(Task):
    """The submission of one call, and what its slices have come to so far."""

    __slots__ = ("_batcher", "answered", "on_reply", "parts", "queued_at", "timed")

    def __init__(self, batcher: Batcher, call: Call, on_reply: OnReply, now: float) -> None:
        super().__init__(call, math.inf if call.timeout_s is None else now + call.timeout_s)
        self._batcher = batcher
        self.queued_at = now
        self.timed = batcher._stages.sampled()
        self.on_reply = on_reply
        self.parts: dict[int, dict[str, Array]] = {}
        self.answered = False

    def cancel(self) -> None:
        self._batcher._cancel(self)

    def reply(self) -> Reply:
        try:
            return Reply(self.call.call_id, join([self.parts[index] for index in range(len(self.slices))]))
        except AspiredError as error:
            return Reply(self.call.call_id, status=error.to_status())


_Slice = TaskSlice[_BatchedCall]
