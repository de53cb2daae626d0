"""Running calls one by one, as they are: what a server does without `--enable_batching`."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import OrderedDict

from cluster.core.errors import Status
from cluster.core.metrics import MetricCells
from servables.call import Call, Reply
from servables.deadline_timer import DeadlineTimer, time_left_s
from servables.deadlines import Deadlines
from servables.reply_queue import ReplyQueue
from servables.run_errors import CANCELLED, CLOSED, EXPIRED, status_of, unknown_signature
from servables.runner import OnReply, Runner, Submission
from servables.servable import Servable
from servables.short_runs import ShortRuns
from servables.stage_metrics import REPLICA_QUEUE, REPLICA_RUN, StageMetrics
from servables.worker_threads import WorkerThreads

SLICE_S = 0.001
"""How long short calls keep the event loop at a time."""


class DirectRunner(Runner):
    """Runs calls in the order they come, up to `num_threads` at once. One whose time is over is answered without being run.

    Calls that have turned out to be short run on the event loop itself, whatever waits for threads; in slices of `SLICE_S`, so
    that replies leave meanwhile, and whatever else the loop has to do is done.
    """

    def __init__(self, servable: Servable, num_threads: int, model_name: str = "", stages: StageMetrics | None = None) -> None:
        self._servable = servable
        self._model_name = model_name
        self._stages = stages or StageMetrics(MetricCells())
        self._signature_names = frozenset(servable.signatures)
        self._replies = ReplyQueue(asyncio.get_running_loop())
        self._queue = _CallQueue(self._replies)
        self._threads = WorkerThreads(
            self._queue.take, self._queue.ready_at, self._run, num_threads=num_threads, name="direct_runner"
        )
        self._lock = self._threads.lock
        self._short_runs = ShortRuns(_cores())
        self._loop = asyncio.get_running_loop()
        # Short calls that the slice of this turn of the loop had no time for. Used on the loop alone.
        self._inline = _CallQueue(self._replies)
        self._slice_ends: float | None = None
        self._timer = DeadlineTimer(self._expire)
        self._closed = False

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return len(self._queue) + len(self._inline)

    @property
    def running(self) -> int:
        """Calls that a thread has in hand."""
        return self._threads.busy

    def submit(self, call: Call, on_reply: OnReply) -> Submission:
        now = time.monotonic()
        waiter = _WaitingCall(self, call, on_reply, math.inf if call.timeout_s is None else now + call.timeout_s)
        if self._stages.sampled():
            waiter.timed_since = now
        status = self._refusal(call)
        if status is not None:
            self._replies.post([(on_reply, Reply(call.call_id, status=status))])
            return waiter
        if self._short_runs.short(call.signature_name, waiter.size_bytes):
            self._submit_inline(waiter, now)
            return waiter
        waiter.queue = self._queue
        with self._lock:
            self._queue.add(waiter)
            self._threads.wake(now)
        self._timer.watch(waiter.deadline)
        return waiter

    async def close(self) -> None:
        self._closed = True
        self._timer.cancel()
        with self._lock:
            self._queue.drain(CLOSED)
            self._inline.drain(CLOSED)
        await self._threads.close()
        self._replies.deliver()

    def _refusal(self, call: Call) -> Status | None:
        if self._closed:
            return CLOSED
        if call.timeout_s is not None and call.timeout_s <= 0:
            return EXPIRED
        if call.signature_name not in self._signature_names:
            return unknown_signature(call.signature_name)
        return None

    def _cancel(self, waiter: _WaitingCall) -> None:
        if waiter.queue is not None:
            with self._lock:
                waiter.queue.cancel(waiter)

    def _expire(self) -> float:
        with self._lock:
            now = time.monotonic()
            return min(self._queue.expire(now), self._inline.expire(now))

    def _submit_inline(self, waiter: _WaitingCall, now: float) -> None:
        if self._slice_ends is None:
            self._slice_ends = now + SLICE_S
            self._loop.call_soon(self._next_slice)
        if now < self._slice_ends:
            self._run(waiter, inline=True)
            return
        waiter.queue = self._inline
        self._inline.add(waiter)
        self._timer.watch(waiter.deadline)

    def _next_slice(self) -> None:
        self._slice_ends = None
        now = time.monotonic()
        until = now + SLICE_S
        while now < until and (waiter := self._inline.take(now)) is not None:
            self._run(waiter, inline=True)
            now = time.monotonic()
        if len(self._inline):
            self._slice_ends = now  # what comes meanwhile queues up
            self._loop.call_soon(self._next_slice)

    def _run(self, waiter: _WaitingCall, inline: bool = False) -> None:
        call = waiter.call
        began = time.monotonic()
        try:
            outputs = self._servable.run(call.signature_name, call.inputs, call.outputs, time_left_s(waiter.deadline))
            duration_s = time.monotonic() - began
            self._short_runs.ran(call.signature_name, waiter.size_bytes, duration_s, inline=inline)
            if waiter.timed_since is not None:
                self._stages.took(self._model_name, REPLICA_QUEUE, began - waiter.timed_since)
                self._stages.took(self._model_name, REPLICA_RUN, duration_s)
            reply = Reply(call.call_id, outputs)
        except BaseException as error:  # even one that asks the process to exit must not cost the thread its replies
            reply = Reply(call.call_id, status=status_of(error))
        self._replies.post([(waiter.on_reply, reply)])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _WaitingCall:
    """The submission of one call."""

    __slots__ = ("_runner", "call", "deadline", "on_reply", "queue", "size_bytes", "timed_since", "waiting")

    def __init__(self, runner: DirectRunner, call: Call, on_reply: OnReply, deadline: float) -> None:
        self._runner = runner
        self.call = call
        self.on_reply = on_reply
        self.size_bytes = sum([array.nbytes for array in call.inputs.values()])
        self.deadline = deadline
        self.timed_since: float | None = None
        self.queue: _CallQueue | None = None
        self.waiting = False

    def cancel(self) -> None:
        self._runner._cancel(self)


class _CallQueue:
    """The calls that wait for a thread, first come first served. Used with the threads' lock held."""

    def __init__(self, replies: ReplyQueue) -> None:
        self._replies = replies
        self._waiters: OrderedDict[_WaitingCall, None] = OrderedDict()
        self._deadlines: Deadlines[_WaitingCall] = Deadlines()

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, waiter: _WaitingCall) -> None:
        waiter.waiting = True
        self._waiters[waiter] = None
        self._deadlines.add(waiter)

    def take(self, now: float) -> _WaitingCall | None:
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            waiter.waiting = False
            if waiter.deadline > now:
                return waiter
            self._answer(waiter, EXPIRED)
        return None

    def ready_at(self) -> float:
        return -math.inf if self._waiters else math.inf

    def cancel(self, waiter: _WaitingCall) -> None:
        if waiter.waiting:
            self._remove(waiter, CANCELLED)

    def expire(self, now: float) -> float:
        """Answers the calls whose time is over; returns the next deadline."""
        for waiter in self._deadlines.pop_expired(now):
            self._remove(waiter, EXPIRED)
        return self._deadlines.earliest()

    def drain(self, status: Status) -> None:
        for waiter in list(self._waiters):
            self._remove(waiter, status)

    def _remove(self, waiter: _WaitingCall, status: Status) -> None:
        del self._waiters[waiter]
        waiter.waiting = False
        self._answer(waiter, status)

    def _answer(self, waiter: _WaitingCall, status: Status) -> None:
        self._replies.post([(waiter.on_reply, Reply(waiter.call.call_id, status=status))])
