from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cluster.core.errors import (
    Code,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    NotServing,
    ReplicaLost,
    Status,
    Unavailable,
)
from cluster.core.servable_id import ServableId
from cluster.core.serving_map import Endpoint, Epoch, ServableEntry, ServingMap
from servables.frontend import servable_router
from servables.frontend.queue_bound import QueueBound
from servables.frontend.servable_router import RouterLimits, ServableRouter
from tests.unit.servables.frontend.gated_channel import GatedChannel, values_of

LIVE = Endpoint("app", "deployment", "node", 1)
NEVER_OLD = 3600.0


def entry(version: int = 1, *, endpoint: Endpoint = LIVE, deterministic: bool = False, copy: int = 0) -> ServableEntry:
    return ServableEntry(ServableId("m", version), (endpoint,), deterministic=deterministic, copy=copy)


def serving(*entries: ServableEntry, **more: Any) -> ServingMap:
    return ServingMap(Epoch("test", len(entries)), {each.id: each for each in entries}, **more)


class World:
    """A router, and the channels it has opened, newest last."""

    def __init__(self, **limits: Any) -> None:
        self.channels: list[GatedChannel] = []
        self.router = ServableRouter(self._open, RouterLimits(**{"young_frame_s": NEVER_OLD, **limits}))

    def _open(self, opened: ServableEntry) -> GatedChannel:
        self.channels.append(GatedChannel(opened))
        return self.channels[-1]

    @property
    def channel(self) -> GatedChannel:
        return self.channels[-1]

    def call(
        self, value: float, *, to: ServableEntry | None = None, timeout_s: float | None = None, size: int = 1
    ) -> asyncio.Task[Mapping[str, Any]]:
        inputs = {"x": np.full(size, value, np.float32)}
        return asyncio.ensure_future(self.router.call(to or entry(), "serving_default", inputs, ("x",), timeout_s))


async def settle() -> None:
    """Lets all that is ready run; nothing here waits for a clock."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_lone_call_leaves_at_once_and_gets_its_outputs() -> None:
    world = World()
    world.router.apply(serving(entry()))
    call = world.call(7)
    frame = await world.channel.frame(0)
    assert values_of(frame) == [7]
    assert frame.calls[0].signature_name == "serving_default"
    assert frame.calls[0].outputs == ("x",)
    assert frame.calls[0].timeout_s is None
    frame.reply()
    assert (await call)["x"] == [7]
    assert world.router.outstanding_calls == 0


async def test_calls_of_one_loop_iteration_share_a_frame() -> None:
    world = World()
    world.router.apply(serving(entry()))
    calls = [world.call(value) for value in range(5)]
    assert values_of(await world.channel.frame(0)) == [0, 1, 2, 3, 4]
    world.channel.frames[0].reply()
    assert [(await call)["x"][0] for call in calls] == [0, 1, 2, 3, 4]


async def test_calls_collect_while_young_frames_are_under_way_and_leave_together() -> None:
    world = World(max_young_frames=2)
    world.router.apply(serving(entry()))
    first = world.call(1)
    await world.channel.frame(0)
    second = world.call(2)
    await world.channel.frame(1)
    waiting = [world.call(value) for value in (3, 4, 5)]
    await settle()
    assert len(world.channel.frames) == 2
    world.channel.frames[0].reply()
    assert values_of(await world.channel.frame(2)) == [3, 4, 5]
    for frame in world.channel.frames[1:]:
        frame.reply()
    await asyncio.gather(first, second, *waiting)


async def test_a_frame_that_has_grown_old_holds_nobody() -> None:
    world = World(max_young_frames=1, young_frame_s=0.0)
    world.router.apply(serving(entry()))
    slow = world.call(1)
    await world.channel.frame(0)
    quick = world.call(2)
    (await world.channel.frame(1)).reply()
    await quick
    assert not slow.done()
    world.channel.frames[0].reply()
    await slow


async def test_a_slow_row_holds_neither_its_neighbours_answers_nor_its_frames_end() -> None:
    world = World(max_young_frames=1)
    world.router.apply(serving(entry()))
    slow, quick = world.call(1), world.call(2)
    frame = await world.channel.frame(0)
    frame.reply(frame.calls[1])
    assert (await quick)["x"] == [2]
    assert not slow.done()
    frame.reply(frame.calls[0])
    await slow


async def test_the_next_frame_leaves_as_soon_as_the_last_reply_is_there_not_when_send_returns() -> None:
    world = World(max_young_frames=1)
    world.router.apply(serving(entry()))
    first = world.call(1)
    frame = await world.channel.frame(0)
    second = world.call(2)
    frame._unanswered.add(-1)  # send goes on after the last reply
    frame.reply()
    (await world.channel.frame(1)).reply()
    await asyncio.gather(first, second)
    frame.end()


async def test_a_frame_takes_no_more_calls_than_its_limit() -> None:
    world = World(max_young_frames=1, max_frame_calls=2)
    world.router.apply(serving(entry()))
    calls = [world.call(value) for value in range(5)]
    for number, values in enumerate(([0, 1], [2, 3], [4])):
        frame = await world.channel.frame(number)
        assert values_of(frame) == values
        frame.reply()
    await asyncio.gather(*calls)


async def test_a_frame_takes_no_more_bytes_than_its_limit_except_one_call_that_is_larger() -> None:
    world = World(max_young_frames=1, max_frame_bytes=40)
    world.router.apply(serving(entry()))
    calls = [world.call(0, size=5), world.call(1, size=5), world.call(2, size=100), world.call(3)]
    for number, values in enumerate(([0, 1], [2], [3])):
        frame = await world.channel.frame(number)
        assert values_of(frame) == values
        frame.reply()
    await asyncio.gather(*calls)


async def test_string_inputs_count_by_their_bytes() -> None:
    world = World(max_outstanding_bytes=100)
    world.router.apply(serving(entry()))
    text = np.array([b"x" * 60], np.object_)
    first = asyncio.ensure_future(world.router.call(entry(), "s", {"x": text}, ("x",)))
    await world.channel.frame(0)
    with pytest.raises(Unavailable, match="1 requests of 60 bytes"):
        await world.router.call(entry(), "s", {"x": text}, ("x",))
    world.channel.frames[0].reply()
    await first


async def test_an_error_in_a_reply_fails_that_call_alone() -> None:
    world = World()
    world.router.apply(serving(entry()))
    bad, good = world.call(1), world.call(2)
    frame = await world.channel.frame(0)
    frame.reply(frame.calls[0], status=InvalidArgument("bad row").to_status())
    frame.reply(frame.calls[1])
    with pytest.raises(InvalidArgument, match="bad row"):
        await bad
    await good


async def test_a_failed_call_is_freed_without_the_collector_of_cycles() -> None:
    world = World()
    world.router.apply(serving(entry()))
    inputs = _Inputs({"x": np.ones(1, np.float32)})
    held = weakref.ref(inputs)
    call = asyncio.ensure_future(world.router.call(entry(), "serving_default", inputs, ("x",)))
    del inputs
    frame = await world.channel.frame(0)
    gc.disable()
    try:
        frame.reply(status=Status(Code.INTERNAL, "broken"))
        with pytest.raises(Internal):
            await call
        del call, frame
        world.channel.frames.clear()
        await settle()
        assert held() is None
    finally:
        gc.enable()


class _Inputs(dict[str, Any]):
    """A dict that can be referred to weakly."""


async def test_the_caller_gets_deadline_exceeded_whatever_the_replica_does() -> None:
    world = World()
    world.router.apply(serving(entry()))
    call = world.call(1, timeout_s=0.01)
    frame = await world.channel.frame(0)
    assert 0 < (frame.calls[0].timeout_s or 0) < 0.011
    with pytest.raises(DeadlineExceeded):
        await call
    assert world.channel.cancelled == [frame.calls[0].call_id]
    # It counts as outstanding until the replica lets go of it.
    assert world.router.outstanding_calls == 1
    frame.reply()
    await settle()
    assert world.router.outstanding_calls == 0


async def test_a_call_that_expires_while_it_waits_is_never_sent() -> None:
    world = World(max_young_frames=1)
    world.router.apply(serving(entry()))
    first = world.call(1)
    await world.channel.frame(0)
    late, patient = world.call(2, timeout_s=0.01), world.call(3)
    with pytest.raises(DeadlineExceeded):
        await late
    world.channel.frames[0].reply()
    frame = await world.channel.frame(1)
    assert values_of(frame) == [3]
    assert world.channel.cancelled == []
    frame.reply()
    await asyncio.gather(first, patient)


async def test_a_call_without_time_left_fails_without_being_sent() -> None:
    world = World()
    world.router.apply(serving(entry()))
    with pytest.raises(DeadlineExceeded):
        await world.call(1, timeout_s=0)
    await settle()
    assert world.channel.frames == []
    assert world.router.outstanding_calls == 0


async def test_cancelling_a_call_that_was_sent_tells_the_channel_and_leaves_the_frame_alone() -> None:
    world = World()
    world.router.apply(serving(entry()))
    given_up, kept = world.call(1), world.call(2)
    frame = await world.channel.frame(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert world.channel.cancelled == [frame.calls[0].call_id]
    frame.reply()
    assert (await kept)["x"] == [2]


async def test_a_call_cancelled_while_it_waits_is_never_sent() -> None:
    world = World(max_young_frames=1)
    world.router.apply(serving(entry()))
    first = world.call(1)
    await world.channel.frame(0)
    given_up = world.call(2)
    await settle()
    given_up.cancel()
    await settle()
    assert world.router.outstanding_calls == 1
    world.channel.frames[0].reply()
    await first
    await settle()
    assert len(world.channel.frames) == 1
    assert world.channel.cancelled == []


async def test_calls_beyond_the_bound_are_refused_at_once_with_a_reason_and_advice() -> None:
    world = World(max_young_frames=1, max_outstanding_calls=2)
    world.router.apply(serving(entry()))
    calls = [world.call(1), world.call(2)]
    await world.channel.frame(0)
    with pytest.raises(Unavailable, match=r"\{name: m version: 1\}: 2 requests .* Retry later"):
        await world.call(3)
    world.channel.frames[0].reply()
    await asyncio.gather(*calls)
    fourth = world.call(4)
    (await world.channel.frame(1)).reply()
    await fourth


async def test_a_crowd_that_is_not_served_in_time_is_refused_with_advice_and_the_next_one_is_taken() -> None:
    world = World(crowd=2, max_queue_delay_s=0.0)
    world.router.apply(serving(entry()))
    calls = [world.call(1), world.call(2)]
    frame = await world.channel.frame(0)
    with pytest.raises(
        Unavailable, match=r"Too many requests wait for servable .*m.* more than 0 s\. Retry later .* add replicas"
    ):
        await world.call(3)
    assert world.router.crowded
    with pytest.raises(Unavailable, match="Too many requests wait"):
        world.router.check_room(entry(), None)
    frame.reply()
    await asyncio.gather(*calls)
    assert not world.router.crowded
    again = world.call(4)
    (await world.channel.frame(1)).reply()
    await again


async def test_what_a_replica_refuses_counts_as_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[int] = []

    class SpiedBound(QueueBound):
        def delay_s(self, calls: int, served_calls: int, now: float) -> float:
            served.append(served_calls)
            return 0.0

    monkeypatch.setattr(servable_router, "QueueBound", SpiedBound)
    world = World(crowd=1)
    world.router.apply(serving(entry()))
    calls = [world.call(value) for value in range(4)]
    frame = await world.channel.frame(0)
    for call, code in zip(frame.calls, (Code.OK, Code.UNAVAILABLE, Code.INTERNAL), strict=False):
        frame.reply(call, status=Status(code, "so it is"))
    await asyncio.wait(calls[:3])
    calls.append(world.call(5))
    await settle()
    assert served[-1] == 2
    frame.reply(frame.calls[3])
    (await world.channel.frame(1)).reply()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_call_larger_than_the_byte_bound_is_taken_when_nothing_else_is_outstanding() -> None:
    world = World(max_outstanding_bytes=8)
    world.router.apply(serving(entry()))
    large = world.call(1, size=100)
    (await world.channel.frame(0)).reply()
    await large


async def test_calls_wait_while_a_version_has_no_live_replica_and_leave_when_one_is_back() -> None:
    world = World()
    dead = entry(endpoint=Endpoint("app", "deployment", "node", 0))
    world.router.apply(serving(dead))
    call = world.call(1)
    await settle()
    assert world.channel.frames == []
    world.router.apply(serving(entry()))
    (await world.channel.frame(0)).reply()
    await call
    assert world.channel.entry == entry()


async def test_resolves_the_newest_the_pinned_and_the_labelled_version() -> None:
    world = World()
    world.router.apply(serving(entry(9), entry(10), labels={"m": {"stable": 9}}))
    assert world.router.resolve("m").id.version == 10
    assert world.router.resolve("m", version=9).id.version == 9
    assert world.router.resolve("m", label="stable").id.version == 9
    with pytest.raises(NotFound, match=r"Servable not found for request: Latest\(n\)"):
        world.router.resolve("n")


async def test_a_version_that_leaves_the_map_refuses_what_waits_and_finishes_what_was_sent() -> None:
    world = World(max_young_frames=1)
    world.router.apply(serving(entry()))
    sent = world.call(1)
    await world.channel.frame(0)
    waiting = world.call(2)
    await settle()
    drained = world.router.apply(serving())
    with pytest.raises(NotServing):
        await waiting
    await settle()
    assert not drained.done()
    assert not world.channel.closed
    world.channel.frames[0].reply()
    assert (await sent)["x"] == [1]
    await drained
    await settle()
    assert world.channel.closed
    assert len(world.channel.frames) == 1
    with pytest.raises(NotServing):
        await world.call(3)


async def test_a_map_without_removals_is_drained_at_once() -> None:
    world = World()
    await world.router.apply(serving(entry()))
    call = world.call(1)
    await world.channel.frame(0)
    await world.router.apply(serving(entry(), entry(2)))
    world.channels[0].frames[0].reply()
    await call


async def test_giving_up_on_a_drain_leaves_what_was_sent_alone() -> None:
    world = World()
    world.router.apply(serving(entry()))
    call = world.call(1)
    frame = await world.channel.frame(0)
    drained = world.router.apply(serving())
    drained.cancel()
    # A later map waits for it all the same.
    drained_again = world.router.apply(serving())
    await settle()
    assert not drained_again.done()
    frame.reply()
    await call
    await drained_again


async def test_a_version_that_comes_back_while_it_drains_gets_a_channel_of_its_own() -> None:
    world = World()
    world.router.apply(serving(entry()))
    old = world.call(1)
    await world.channel.frame(0)
    world.router.apply(serving())
    world.router.apply(serving(entry()))
    new = world.call(2)
    (await world.channels[1].frame(0)).reply()
    await new
    world.channels[0].frames[0].reply()
    await old
    await settle()
    assert [channel.closed for channel in world.channels] == [True, False]


async def test_a_newer_copy_takes_what_has_not_been_sent_once_it_has_been_decoded_anew() -> None:
    world = World(max_young_frames=1)
    older, newer = entry(), entry(copy=1)
    world.router.apply(serving(older))
    sent = world.call(1)
    await world.channel.frame(0)
    waiting = world.call(2)
    await settle()
    drained = world.router.apply(serving(newer))
    for call in (waiting, world.call(3, to=older)):  # its signatures may be others
        with pytest.raises(NotServing):
            await call
    again = world.call(2, to=newer)
    (await world.channels[1].frame(0)).reply()
    assert (await again)["x"] == [2]
    assert not drained.done(), "the older copy must not go yet"
    world.channels[0].frames[0].reply()
    assert (await sent)["x"] == [1]
    await drained
    await settle()
    assert [channel.closed for channel in world.channels] == [True, False]


async def test_changed_endpoints_reach_the_channel_and_other_changes_do_not() -> None:
    world = World()
    world.router.apply(serving(entry()))
    world.router.apply(serving(entry(deterministic=True)))
    assert world.channel.entry == entry()
    moved = entry(endpoint=Endpoint("app", "other", "node2", 3))
    world.router.apply(serving(moved))
    assert world.channel.entry == moved
    assert len(world.channels) == 1


async def test_a_refused_frame_raises_not_serving_for_each_of_its_calls() -> None:
    world = World()
    world.router.apply(serving(entry(deterministic=True)))
    calls = [world.call(1), world.call(2)]
    (await world.channel.frame(0)).end(NotServing("quiescing"))
    for call in calls:
        with pytest.raises(NotServing):
            await call
    assert world.router.outstanding_calls == 0


async def test_a_lost_replica_fails_what_it_has_not_answered() -> None:
    world = World()
    world.router.apply(serving(entry(deterministic=False)))
    answered, lost = world.call(1), world.call(2)
    frame = await world.channel.frame(0)
    frame.reply(frame.calls[0])
    frame.end(ReplicaLost("gone"))
    await answered
    with pytest.raises(ReplicaLost):
        await lost
    assert len(world.channel.frames) == 1


async def test_calls_of_a_deterministic_version_go_once_more_and_each_alone() -> None:
    world = World(max_young_frames=1)
    world.router.apply(serving(entry(deterministic=True)))
    calls = [world.call(1), world.call(2)]
    (await world.channel.frame(0)).end(ReplicaLost("gone"))
    again = await world.channel.frame(1)
    assert values_of(again) == [1]
    again.end(ReplicaLost("gone again"))
    with pytest.raises(ReplicaLost, match="gone again"):
        await calls[0]
    last = await world.channel.frame(2)
    assert values_of(last) == [2]
    last.reply()
    assert (await calls[1])["x"] == [2]


async def test_a_lost_call_whose_version_has_left_may_go_elsewhere_if_that_is_harmless() -> None:
    for deterministic, error in ((True, NotServing), (False, ReplicaLost)):
        world = World()
        world.router.apply(serving(entry(deterministic=deterministic)))
        call = world.call(1)
        frame = await world.channel.frame(0)
        drained = world.router.apply(serving())
        frame.end(ReplicaLost("gone"))
        with pytest.raises(error):
            await call
        await drained


async def test_a_frame_that_ends_without_a_reply_is_the_servers_error() -> None:
    world = World()
    world.router.apply(serving(entry()))
    call = world.call(1)
    (await world.channel.frame(0)).end()
    with pytest.raises(Internal, match="without an answer"):
        await call


async def test_wait_for_change_ends_with_the_next_map() -> None:
    world = World()
    change = asyncio.ensure_future(world.router.wait_for_change(30))
    await settle()
    assert not change.done()
    world.router.apply(serving())
    await change


async def test_close_fails_what_is_outstanding_and_closes_the_channels() -> None:
    world = World(max_young_frames=1)
    world.router.apply(serving(entry()))
    sent = world.call(1)
    await world.channel.frame(0)
    waiting = world.call(2)
    await settle()
    await world.router.close()
    for call in (sent, waiting):
        with pytest.raises(Unavailable) as raised:
            await call
        assert not isinstance(raised.value, NotServing)
    assert world.channel.closed
    with pytest.raises(Unavailable, match="shutting down"):
        await world.call(3)
