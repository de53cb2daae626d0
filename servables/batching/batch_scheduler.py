"""Which calls run together, and when: TF Serving's SharedBatchScheduler as a pure object.

Follows TF core's `kernels/batching_util/shared_batch_scheduler.h` and TF Serving's `batching/batching_session.cc`, with two
differences that clients can only notice as fewer errors: calls whose tensors do not fit together get queues of their own,
and a call that times out in the queue is dropped then, not when its batch is full of calls that did.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from typing import Generic, Self, TypeVar

from cluster.config.batching_parameters import BatchingParameters
from cluster.core.errors import InvalidArgument, Unavailable
from servables.batching import batch as batches
from servables.call import Call
from servables.deadlines import Deadlines
from servables.servable import Array

_QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full; "


class Task:
    """A call in the scheduler's hands.

    `rows` is the size of dimension 0, `deadline` is on the caller's clock and infinite for none. `waiting` is true while some
    of the call has not been handed out; with large-batch splitting, other slices of it may have been.
    """

    __slots__ = ("call", "deadline", "rows", "slices", "waiting")

    def __init__(self, call: Call, deadline: float = math.inf) -> None:
        self.call = call
        self.rows = 0
        self.deadline = deadline
        self.waiting = False
        self.slices: list[TaskSlice[Self]] = []


T = TypeVar("T", bound=Task)


class TaskSlice(Generic[T]):
    """The part of a task that goes into one batch: all of it, unless large batches are split."""

    __slots__ = ("batch", "index", "rows", "start", "task")

    def __init__(self, task: T, index: int, start: int, rows: int) -> None:
        self.task = task
        self.index = index
        self.start = start
        self.rows = rows
        self.batch: Batch[T] | None = None
        """Where it waits; None once it has been handed out."""

    @property
    def inputs(self) -> Mapping[str, Array]:
        """The rows of the call's inputs that this slice stands for."""
        inputs = self.task.call.inputs
        if self.rows == self.task.rows:
            return inputs
        return {name: array[self.start : self.start + self.rows] for name, array in inputs.items()}


class Batch(Generic[T]):
    """Slices of tasks that one run of the servable can take together, in the order they came."""

    __slots__ = ("_queue", "_ready_at", "_room", "slices")

    def __init__(self, queue: _Queue[T], room: int, ready_at: float) -> None:
        # Insertion order, and removal from the middle at no cost when a caller gives up.
        self.slices: dict[TaskSlice[T], None] = {}
        self._queue = queue
        self._room = room
        self._ready_at = ready_at


class _Queue(Generic[T]):
    """Batches of calls that fit together, oldest first, none of them empty. Only the last one takes more calls."""

    __slots__ = ("batches", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.batches: deque[Batch[T]] = deque()


class BatchScheduler(Generic[T]):
    """Collects calls into batches and hands the batches out, round robin over the queues. Not thread-safe.

    The owner adds tasks, calls `expire` and then `next_batch` whenever it can run one, and comes back at `ready_at` when there
    was none. Times are seconds on a clock of the owner's choice:

        scheduler.add(Task(call, deadline=now + 1.0), now)
        for task in scheduler.expire(now): ...   # their time was over before they were handed out
        batch = scheduler.next_batch(now)        # None: nothing is due before scheduler.ready_at()
    """

    def __init__(self, parameters: BatchingParameters) -> None:
        self._parameters = parameters
        self._batch_timeout_s = parameters.batch_timeout_micros / 1e6
        self._max_execution_rows = parameters.max_batch_size
        if parameters.enable_large_batch_splitting and parameters.max_execution_batch_size is not None:
            self._max_execution_rows = min(parameters.max_execution_batch_size, parameters.max_batch_size)
        self._queues: dict[Hashable, _Queue[T]] = {}
        # Every queue is in _ready, in the order of their turns, or else its only batch is in _open, oldest first.
        self._ready: OrderedDict[_Queue[T], None] = OrderedDict()
        self._open: OrderedDict[Batch[T], None] = OrderedDict()
        self._deadlines: Deadlines[T] = Deadlines()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Tasks of which some part has not been handed out."""
        return self._waiting

    def add(self, task: T, now: float) -> None:
        """Queues a task. Raises InvalidArgument when it can never be batched, Unavailable when its queue is full."""
        inputs = task.call.inputs
        task.rows = batches.row_count(inputs)
        if task.rows > self._parameters.max_batch_size:
            raise InvalidArgument(
                f"Task size {task.rows} is larger than maximum input batch size {self._parameters.max_batch_size}"
            )
        if self._parameters.pad_variable_length_inputs:
            batches.check_can_be_padded(inputs)
        key = self._key(task.call)
        queue = self._queues.get(key)
        if queue is None:
            queue = _Queue(key)
        self._check_room(queue, task)
        self._queues[key] = queue
        for piece in self._slices(queue, task):
            self._append(queue, piece, now)
        task.waiting = True
        self._waiting += 1
        self._deadlines.add(task)

    def cancel(self, task: T) -> bool:
        """Takes out what still waits of the task. False when nothing does: it has been handed out, or taken out before."""
        if not task.waiting:
            return False
        for piece in task.slices:
            if piece.batch is not None:
                self._remove(piece, piece.batch)
                piece.batch = None
        self._ends_waiting(task)
        return True

    def expire(self, now: float) -> list[T]:
        """Takes out the tasks whose deadline has passed before all of them was handed out, and returns them."""
        expired = self._deadlines.pop_expired(now)
        for task in expired:
            self.cancel(task)
        return expired

    def next_batch(self, now: float) -> Batch[T] | None:
        """Hands out the batch whose turn it is: a full one, or an open one whose timeout is over. None when none is due."""
        self._promote(now)
        if not self._ready:
            return None
        queue, _ = self._ready.popitem(last=False)
        batch = queue.batches.popleft()
        if not queue.batches:
            del self._queues[queue.key]
        elif queue.batches[0] not in self._open:
            self._ready[queue] = None
        for piece in batch.slices:
            piece.batch = None
            # Slices are handed out in order, so the last one ends the wait.
            if piece is piece.task.slices[-1]:
                self._ends_waiting(piece.task)
        return batch

    def ready_at(self) -> float:
        """When `next_batch` has something to hand out: -inf when it has now, inf when nothing waits."""
        if self._ready:
            return -math.inf
        if self._open:
            return next(iter(self._open))._ready_at
        return math.inf

    def next_deadline(self) -> float:
        """The earliest deadline among the tasks that wait, infinite when none has one."""
        return self._deadlines.earliest()

    def drain(self) -> list[T]:
        """Takes out everything that waits, and returns it."""
        tasks = {piece.task for queue in self._queues.values() for batch in queue.batches for piece in batch.slices}
        for task in tasks:
            self.cancel(task)
        return list(tasks)

    def _key(self, call: Call) -> Hashable:
        if self._parameters.pad_variable_length_inputs:
            # An empty tensor has no element to be padded with.
            shapes = frozenset(
                (name, array.dtype, array.ndim if array.size else array.shape[1:]) for name, array in call.inputs.items()
            )
            return call.signature_name, frozenset(call.outputs), shapes
        return (
            call.signature_name,
            frozenset(call.outputs),
            frozenset([(name, array.dtype, array.shape[1:]) for name, array in call.inputs.items()]),
        )

    def _check_room(self, queue: _Queue[T], task: T) -> None:
        count = len(queue.batches)
        limit = self._parameters.max_enqueued_batches
        open_rows = self._max_execution_rows - queue.batches[-1]._room if queue.batches else 0
        if self._parameters.enable_large_batch_splitting:
            # An open batch counts before it has a task.
            enqueued = max(count, 1)
            capacity = (limit - enqueued + 1) * self._max_execution_rows - open_rows
            if _room_for(task.rows) > capacity:
                raise Unavailable(
                    f"{_QUEUE_FULL}task size is {task.rows} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={enqueued}, max_enqueued_batches={limit}, open_batch_size={open_rows}, "
                    f"max_execution_batch_size={self._max_execution_rows})"
                )
        elif count >= limit and open_rows + _room_for(task.rows) > self._max_execution_rows:
            raise Unavailable(f"{_QUEUE_FULL}currently {count} batches enqueued and max_enqueued_batches is {limit}")

    def _slices(self, queue: _Queue[T], task: T) -> list[TaskSlice[T]]:
        room = queue.batches[-1]._room if queue.batches else self._max_execution_rows
        if task.rows <= room or not self._parameters.enable_large_batch_splitting:
            task.slices = [TaskSlice(task, 0, 0, task.rows)]
            return task.slices
        start = 0
        while start < task.rows:
            # The first slice fills the open batch, if that takes any.
            rows = min((0 if start else room) or self._max_execution_rows, task.rows - start)
            task.slices.append(TaskSlice(task, len(task.slices), start, rows))
            start += rows
        return task.slices

    def _append(self, queue: _Queue[T], piece: TaskSlice[T], now: float) -> None:
        size = _room_for(piece.rows)
        batch = queue.batches[-1] if queue.batches else None
        if batch is None or size > batch._room:
            if batch is not None:
                self._close(batch)
            batch = Batch(queue, self._max_execution_rows, now + self._batch_timeout_s)
            queue.batches.append(batch)
            self._open[batch] = None
        batch.slices[piece] = None
        batch._room -= size
        piece.batch = batch
        if batch._room == 0:
            self._close(batch)

    def _close(self, batch: Batch[T]) -> None:
        """The batch waits for nothing any more; its queue takes its place in the round if it has none yet."""
        self._open.pop(batch, None)
        self._ready.setdefault(batch._queue)

    def _promote(self, now: float) -> None:
        """An open batch that is due can be handed out, and still takes more calls until it is."""
        while self._open:
            batch = next(iter(self._open))
            if batch._ready_at > now:
                return
            self._close(batch)

    def _remove(self, piece: TaskSlice[T], batch: Batch[T]) -> None:
        del batch.slices[piece]
        batch._room += _room_for(piece.rows)
        if batch.slices:
            return
        queue = batch._queue
        queue.batches.remove(batch)
        self._open.pop(batch, None)
        if not queue.batches:
            del self._queues[queue.key]
            self._ready.pop(queue, None)
        elif queue.batches[0] in self._open:
            self._ready.pop(queue, None)

    def _ends_waiting(self, task: T) -> None:
        task.waiting = False
        self._waiting -= 1


def _room_for(rows: int) -> int:
    """A call without rows takes the room of one, or a batch could hold any number of them."""
    return max(rows, 1)
