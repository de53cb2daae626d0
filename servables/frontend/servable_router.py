"""Which version answers a request, and the frames that carry its call there.

    resolve(name, version, label) -> entry        a look-up in the last map that was applied
    call(entry, ...)                              joins the version's open frame, returns the outputs

**Frames.** Calls that arrive in one pass of the event loop leave together at its end, or some passes later if more are on their
way (`Arrivals`). While `max_young_frames` frames younger than `young_frame_s` are under way, further calls collect; the next
frame takes them all, up to a count and a byte limit. A frame of which half is answered, or that has been under way for longer,
counts no more: the replica has its next frame before it is done with the last, and a slow row holds nobody. This turns load
into larger frames and leaves a lone request alone.

**Changes.** A version that leaves the map refuses what has not been sent (`NotServing`: the caller resolves again) and
lets finish what has. `apply` says when that is over. A newer copy of a version that takes an older one's place is another
version in that: its signatures may differ, so no call that was decoded for the one runs in the other.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from cluster.core.errors import AspiredError, Code, DeadlineExceeded, Internal, NotFound, NotServing, ReplicaLost, Unavailable
from cluster.core.metrics import MetricCells
from cluster.core.servable_id import ServableId
from cluster.core.serving_map import ServableEntry, ServingMap
from servables.call import Call, Reply
from servables.frontend.arrivals import Arrivals
from servables.frontend.frame_channel import FrameChannel, FrameChannelFactory
from servables.frontend.queue_bound import QueueBound
from servables.profile import ProfileOptions
from servables.servable import Array
from servables.stage_metrics import GATHER, REPLICA, StageMetrics

COLLECT_PROFILE_S = 30.0
"""How long a replica may take to put its trace together, once it is recorded."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterLimits:
    """How frames form, and how much one version may owe its callers.

    The outstanding limits count every call of a version without an answer, waiting or sent. A call is always taken
    when nothing else is outstanding, however large it is; the same goes for a frame's byte limit. From `crowd` outstanding
    calls on, one that would wait longer than `max_queue_delay_s`, or than its own deadline, is refused.
    """

    max_young_frames: int = 1
    young_frame_s: float = 0.005
    max_frame_calls: int = 1024
    max_frame_bytes: int = 1 << 20
    max_outstanding_calls: int = 16_384
    max_outstanding_bytes: int = 1 << 30
    max_queue_delay_s: float = 10.0
    crowd: int = 128


class ServableRouter:
    """Holds the current ServingMap and one FrameChannel for each version in it. Lives on one event loop."""

    def __init__(
        self,
        channel_factory: FrameChannelFactory,
        limits: RouterLimits | None = None,
        arrivals: Arrivals | None = None,
        stages: StageMetrics | None = None,
    ) -> None:
        """`arrivals`: whom frames wait for. `stages` counts the calls that are `timed`."""
        self._channel_factory = channel_factory
        self._limits = limits or RouterLimits()
        self._arrivals = arrivals or Arrivals()
        self._stages = stages or StageMetrics(MetricCells())
        self._map = ServingMap()
        self._latest: Mapping[str, ServableEntry] = {}
        self._routes: dict[ServableId, _VersionRoute] = {}
        self._draining: set[_VersionRoute] = set()
        self._crowded: set[_VersionRoute] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._call_ids = itertools.count(1)
        self._changed: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def serving_map(self) -> ServingMap:
        return self._map

    @property
    def outstanding_calls(self) -> int:
        """Calls without an answer, of versions in the map and of those that drain."""
        return sum(route.outstanding_calls for route in itertools.chain(self._routes.values(), self._draining))

    def apply(self, serving_map: ServingMap) -> asyncio.Future[None]:
        """Routes by `serving_map` from now on.

        The future is done when all that was sent to versions no longer in the map has been answered: then the map may
        be acknowledged. It never fails; a caller that waits for a bounded time only may cancel it.
        """
        self._map = serving_map
        self._latest = serving_map.latest()
        for servable, route in list(self._routes.items()):
            entry = serving_map.entries.get(servable)
            if entry is None or entry.copy != route.entry.copy:
                self._remove(self._routes.pop(servable))
        for servable, entry in serving_map.entries.items():
            known = self._routes.get(servable)
            if known is None:
                self._routes[servable] = _VersionRoute(
                    entry, self._channel_factory(entry), self._limits, self._arrivals, self._crowded
                )
            elif known.entry != entry:
                known.update(entry)
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None
        return _all_done([route.drained for route in self._draining])

    def resolve(self, name: str, version: int | None = None, label: str | None = None) -> ServableEntry:
        """The entry that answers for this model, version or label now. Raises as `ServingMap.resolve` does."""
        if version is None and label is None:
            latest = self._latest.get(name)
            if latest is not None:
                return latest
        return self._map.resolve(name, version, label)

    @property
    def crowded(self) -> bool:
        """Whether so many calls wait for some version that `check_room` may refuse any."""
        return bool(self._crowded)

    def check_room(self, entry: ServableEntry, timeout_s: float | None) -> None:
        """Raises Unavailable if `call` would for any call of `timeout_s`, before the work of reading it is done."""
        route = self._routes.get(entry.id)
        if route in self._crowded:
            route.check_room(timeout_s)

    async def call(
        self,
        entry: ServableEntry,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: tuple[str, ...],
        timeout_s: float | None = None,
        timed: bool = False,
    ) -> Mapping[str, Array]:
        """Runs one signature on a replica of `entry`, and returns the outputs by alias.

        Cancelling the caller's task drops the call, and never the frame it went with.
        Raises the replica's error; DeadlineExceeded after `timeout_s`, whatever the replica does; Unavailable when too
        much is outstanding or a replica was lost; NotServing when the call has not run and may go elsewhere: the caller
        resolves again.
        """
        route = self._routes.get(entry.id)
        if (route is None or route.entry.copy != entry.copy) and not self._closed:
            raise _left_the_map(entry.id)
        try:
            if route is not None:
                return await route.call(
                    next(self._call_ids), signature_name, inputs, outputs, timeout_s, self._stages if timed else None
                )
        except NotServing:
            if not self._closed:
                raise
        raise Unavailable("The server is shutting down. Send the request to another one.")

    async def profile(self, options: ProfileOptions) -> Mapping[ServableId, bytes]:
        """Lets one replica of every version in the map record itself, all at once; the traces of those that could.

        Raises NotFound when the map is empty, the first version's error when no version could.
        """
        if not self._routes:
            raise NotFound("No model is served that could be profiled.")
        servables = sorted(self._routes)
        recorded = await asyncio.gather(
            *(_profile(self._routes[servable], options) for servable in servables), return_exceptions=True
        )
        traces: dict[ServableId, bytes] = {}
        for servable, trace in zip(servables, recorded, strict=True):
            if isinstance(trace, bytes):
                traces[servable] = trace
            elif not isinstance(trace, AspiredError):
                raise trace
            else:
                logger.info("Servable %s has not been profiled: %s", servable, trace)
        if not traces:
            raise next(error for error in recorded if isinstance(error, AspiredError))
        return traces

    async def wait_for_change(self, timeout_s: float) -> None:
        """Returns when another map is applied, or after `timeout_s`."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._changed], timeout=timeout_s)

    async def close(self) -> None:
        """Routes nothing any more and closes the channels; what is still outstanding fails with Unavailable."""
        self._closed = True
        drained = self.apply(ServingMap())
        for route in self._draining:
            self._close_channel(route)
        while self._closing:
            await asyncio.wait(self._closing)
        await drained

    def _remove(self, route: _VersionRoute) -> None:
        self._draining.add(route)
        route.drained.add_done_callback(lambda _: self._close_channel(route))
        route.remove()

    def _close_channel(self, route: _VersionRoute) -> None:
        if not route.closing:
            route.closing = True
            task = asyncio.get_running_loop().create_task(self._finish(route))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _finish(self, route: _VersionRoute) -> None:
        try:
            await route.channel.close()
        except Exception:
            logger.exception("Closing the channel to servable %s failed", route.entry.id)
        await asyncio.wait([route.drained])
        self._draining.discard(route)


class _PendingCall:
    """One caller that waits."""

    __slots__ = (
        "answer",
        "call_id",
        "deadline",
        "inputs",
        "outputs",
        "resent",
        "sent",
        "sent_at",
        "signature_name",
        "size_bytes",
    )

    def __init__(
        self,
        call_id: int,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: tuple[str, ...],
        deadline: float | None,
        answer: asyncio.Future[Mapping[str, Array]],
    ) -> None:
        self.call_id = call_id
        self.signature_name = signature_name
        self.inputs = inputs
        self.outputs = outputs
        self.deadline = deadline
        self.answer = answer
        self.size_bytes = _size_bytes(inputs.values())
        self.sent = False
        self.sent_at = 0.0
        self.resent = False

    def fail(self, error: AspiredError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Frame:
    """Calls that travel together; `calls` shrinks as they are answered."""

    __slots__ = ("aging", "calls", "young")

    def __init__(self, calls: dict[int, _PendingCall]) -> None:
        self.calls = calls
        self.young = True
        self.aging: asyncio.TimerHandle | None = None


class _VersionRoute:
    """The calls of one version: those that wait for a frame, and the frames under way."""

    def __init__(
        self,
        entry: ServableEntry,
        channel: FrameChannel,
        limits: RouterLimits,
        arrivals: Arrivals,
        crowded: set[_VersionRoute],
    ) -> None:
        """Puts itself into `crowded` while many calls are outstanding."""
        self.entry = entry
        self.channel = channel
        self.outstanding_calls = 0
        self.closing = False
        self._limits = limits
        self._arrivals = arrivals
        self._loop = asyncio.get_running_loop()
        self.drained: asyncio.Future[None] = self._loop.create_future()
        self._outstanding_bytes = 0
        self._served_calls = 0
        self._crowded = crowded
        self._crowd = min(limits.crowd, limits.max_outstanding_calls)
        self._bound = QueueBound(limits.max_queue_delay_s)
        # By call id and in order of arrival: a caller that gives up leaves at once.
        self._waiting: dict[int, _PendingCall] = {}
        self._young_frames = 0
        self._departure_scheduled = False
        self._removed = False
        self._carriers: set[asyncio.Task[None]] = set()

    async def call(
        self,
        call_id: int,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: tuple[str, ...],
        timeout_s: float | None,
        stages: StageMetrics | None,
    ) -> Mapping[str, Array]:
        deadline = None if timeout_s is None else self._loop.time() + timeout_s
        pending = _PendingCall(call_id, signature_name, inputs, outputs, deadline, self._loop.create_future())
        if timeout_s is not None and timeout_s <= 0:
            raise self._expired()
        self._admit(pending, timeout_s)
        self._waiting[call_id] = pending
        self._schedule_departure()
        # A timer for each call costs about 1 us and keeps its promise to the millisecond.
        timer = None if deadline is None else self._loop.call_at(deadline, self._expire, pending)
        began = 0.0 if stages is None else time.perf_counter()
        try:
            answer = await pending.answer
            if stages is not None:
                stages.took(self.entry.id.name, GATHER, pending.sent_at - began)
                stages.took(self.entry.id.name, REPLICA, time.perf_counter() - pending.sent_at)
            return answer
        except asyncio.CancelledError:
            if pending.answer.cancelled():
                self._give_up(pending)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            # A failure holds this frame by its traceback, and the answer holds the failure: the inputs would wait for the
            # collector of cycles.
            del pending

    def update(self, entry: ServableEntry) -> None:
        moved = entry.endpoints != self.entry.endpoints
        self.entry = entry
        if moved:
            self.channel.update(entry)
            self._schedule_departure()

    def remove(self) -> None:
        """Nothing more is sent; `drained` is done when what has been sent is answered."""
        self._removed = True
        waiting, self._waiting = self._waiting, {}
        for pending in waiting.values():
            pending.fail(_left_the_map(self.entry.id))
            self._release(pending)
        self._check_drained()

    def check_room(self, timeout_s: float | None) -> None:
        """Raises Unavailable when a further call, however small, is one too many."""
        calls = self.outstanding_calls
        if calls < self._crowd:
            return
        if calls >= self._limits.max_outstanding_calls:
            raise self._full()
        longest_s = self._bound.longest_s(timeout_s)
        if self._bound.delay_s(calls, self._served_calls, self._loop.time()) > longest_s:
            raise Unavailable(
                f"Too many requests wait for servable {self.entry.id}: one more would wait for more than {longest_s:.3g} s. "
                "Retry later with backoff, or add replicas."
            )

    def _admit(self, pending: _PendingCall, timeout_s: float | None) -> None:
        calls = self.outstanding_calls
        if calls and self._outstanding_bytes + pending.size_bytes > self._limits.max_outstanding_bytes:
            raise self._full()
        if calls >= self._crowd:
            self.check_room(timeout_s)
        self.outstanding_calls += 1
        self._outstanding_bytes += pending.size_bytes
        if self.outstanding_calls == self._crowd:
            self._crowded.add(self)

    def _full(self) -> Unavailable:
        return Unavailable(
            f"Too many requests wait for servable {self.entry.id}: {self.outstanding_calls} requests of "
            f"{self._outstanding_bytes} bytes have no answer yet, the limits are {self._limits.max_outstanding_calls} requests "
            f"and {self._limits.max_outstanding_bytes} bytes. Retry later with backoff, or add replicas."
        )

    def _release(self, pending: _PendingCall) -> None:
        self.outstanding_calls -= 1
        self._outstanding_bytes -= pending.size_bytes
        if self.outstanding_calls == self._crowd // 2:
            self._crowded.discard(self)
            self._bound.forget()
        if self._removed:
            self._check_drained()

    def _check_drained(self) -> None:
        if not self.outstanding_calls and not self.drained.done():
            self.drained.set_result(None)

    def _schedule_departure(self) -> None:
        if not self._departure_scheduled and self._waiting and self._young_frames < self._limits.max_young_frames:
            self._departure_scheduled = True
            self._loop.call_soon(self._depart_together)

    def _depart_together(self) -> None:
        if not self._arrivals.hold(self._depart):
            self._depart()

    def _depart(self) -> None:
        self._departure_scheduled = False
        while self._waiting and self._young_frames < self._limits.max_young_frames and self._has_replica():
            self._send(self._take())

    def _has_replica(self) -> bool:
        return any(endpoint.replicas > 0 for endpoint in self.entry.endpoints)

    def _take(self) -> dict[int, _PendingCall]:
        """The next frame's calls. One that travels for the second time travels alone: it may be what kills replicas."""
        limits = self._limits
        taken: dict[int, _PendingCall] = {}
        size_bytes = 0
        for pending in self._waiting.values():
            size_bytes += pending.size_bytes
            full = len(taken) >= limits.max_frame_calls or size_bytes > limits.max_frame_bytes
            if taken and (full or pending.resent):
                break
            taken[pending.call_id] = pending
            if pending.resent:
                break
        if len(taken) == len(self._waiting):
            self._waiting = {}
        else:
            for call_id in taken:
                del self._waiting[call_id]
        return taken

    def _send(self, taken: dict[int, _PendingCall]) -> None:
        now = self._loop.time()
        sent_at = time.perf_counter()  # the loop's time stands still while it turns
        calls: list[Call] = []
        for pending in list(taken.values()):
            timeout_s = None if pending.deadline is None else pending.deadline - now
            if timeout_s is not None and timeout_s <= 0:
                del taken[pending.call_id]
                pending.fail(self._expired())
                self._release(pending)
                continue
            pending.sent = True
            pending.sent_at = sent_at
            calls.append(Call(pending.call_id, pending.signature_name, pending.inputs, pending.outputs, timeout_s))
        if not calls:
            return
        frame = _Frame(taken)
        self._young_frames += 1
        frame.aging = self._loop.call_later(self._limits.young_frame_s, self._grow_old, frame)
        carrier = self._loop.create_task(self._carry(frame, calls))
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)

    def _grow_old(self, frame: _Frame) -> None:
        if frame.young:
            frame.young = False
            self._young_frames -= 1
            if frame.aging is not None:
                frame.aging.cancel()
            self._schedule_departure()

    async def _carry(self, frame: _Frame, calls: Sequence[Call]) -> None:
        half = len(calls) // 2

        def on_replies(replies: Sequence[Reply]) -> None:
            for reply in replies:
                pending = frame.calls.pop(reply.call_id, None)
                if pending is not None:
                    self._answer(pending, reply)
            if len(frame.calls) <= half:
                self._grow_old(frame)

        error: AspiredError
        try:
            await self.channel.send(calls, on_replies)
            error = Internal(f"A replica of servable {self.entry.id} left the request without an answer.")
        except AspiredError as failure:
            error = failure
        except Exception as failure:
            logger.exception("The channel to servable %s failed", self.entry.id)
            error = Internal(f"The channel to servable {self.entry.id} failed: {failure!r}")
        unanswered, frame.calls = frame.calls, {}
        self._lose(list(unanswered.values()), error)
        self._grow_old(frame)

    def _answer(self, pending: _PendingCall, reply: Reply) -> None:
        self._release(pending)
        if pending.answer.done():
            return
        if reply.status.code is not Code.UNAVAILABLE:
            self._served_calls += 1
        if reply.status.ok:
            pending.answer.set_result(reply.outputs)
        else:
            pending.answer.set_exception(reply.status.to_error())

    def _lose(self, unanswered: Sequence[_PendingCall], error: AspiredError) -> None:
        """The frame is over for these: they fail, or go once more if running them twice is harmless."""
        again: dict[int, _PendingCall] = {}
        for pending in unanswered:
            harmless = isinstance(error, ReplicaLost) and self.entry.deterministic and not pending.resent
            if harmless and not self._removed and not pending.answer.done():
                pending.sent, pending.resent = False, True
                again[pending.call_id] = pending
                continue
            pending.fail(_left_the_map(self.entry.id) if harmless and self._removed else error)
            self._release(pending)
        if again:
            self._waiting = again | self._waiting
            self._schedule_departure()

    def _expire(self, pending: _PendingCall) -> None:
        if not pending.answer.done():
            pending.fail(self._expired())
            self._give_up(pending)

    def _give_up(self, pending: _PendingCall) -> None:
        """Nobody waits for the answer any more."""
        if pending.sent:
            # It stays outstanding until its frame is done with it: the replica still holds it.
            self.channel.cancel((pending.call_id,))
        elif self._waiting.pop(pending.call_id, None) is not None:
            self._release(pending)

    def _expired(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"Deadline exceeded while the request waited for servable {self.entry.id}.")


async def _profile(route: _VersionRoute, options: ProfileOptions) -> bytes:
    try:
        async with asyncio.timeout(options.delay_s + options.duration_s + COLLECT_PROFILE_S):
            return await route.channel.profile(options)
    except TimeoutError:
        raise DeadlineExceeded(f"Servable {route.entry.id} has not sent its profile.") from None


def _left_the_map(servable: ServableId) -> NotServing:
    return NotServing(f"Servable {servable} is no longer served.")


def _size_bytes(arrays: Iterable[Array]) -> int:
    return sum([sum(map(len, cast(Iterable[bytes], one.flat))) if one.dtype.hasobject else one.nbytes for one in arrays])


def _all_done(futures: Sequence[asyncio.Future[None]]) -> asyncio.Future[None]:
    """Done when all of `futures` are; cancelling it cancels none of them."""
    all_done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    remaining = len(futures)

    def one_done(_: asyncio.Future[None]) -> None:
        nonlocal remaining
        remaining -= 1
        if not remaining and not all_done.done():
            all_done.set_result(None)

    for future in futures:
        future.add_done_callback(one_done)
    if not futures:
        all_done.set_result(None)
    return all_done
