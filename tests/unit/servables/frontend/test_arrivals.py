from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np

from cluster.core.servable_id import ServableId
from cluster.core.serving_map import Endpoint, ServableEntry, ServingMap
from servables.frontend.arrivals import QUIET_TURNS, Arrivals
from servables.frontend.grpc_aio_listener import service_handler
from servables.frontend.grpc_method import GrpcService, unary_unary
from servables.frontend.servable_router import ServableRouter
from tests.unit.servables.frontend.gated_channel import GatedChannel, values_of

FOREVER_S = 3600.0
PATIENCE_S = 30.0
ENTRY = ServableEntry(ServableId("m", 1), (Endpoint("app", "deployment", "node", 1),))


class World:
    """Arrivals, and how many frames have left that were held."""

    def __init__(self, max_hold_s: float = FOREVER_S) -> None:
        self.arrivals = Arrivals(max_hold_s)
        self.left = 0

    def depart(self) -> None:
        self.left += 1


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def left(world: World, count: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while world.left < count:
            await asyncio.sleep(0)


async def test_who_comes_unannounced_and_alone_waits_for_nobody() -> None:
    world = World()
    assert not world.arrivals.hold(world.depart)
    world.arrivals.announce()
    world.arrivals.arrive()
    assert not world.arrivals.hold(world.depart)


async def test_of_several_in_flight_a_frame_waits_some_turns_for_more() -> None:
    world = World()
    world.arrivals.arrive()
    world.arrivals.arrive()
    assert world.arrivals.hold(world.depart)
    await turns(QUIET_TURNS - 1)
    assert world.left == 0
    await left(world)
    world.arrivals.leave()
    assert world.arrivals.in_flight == 1
    assert not world.arrivals.hold(world.depart)


async def test_a_frame_waits_until_what_was_announced_has_arrived() -> None:
    world = World()
    world.arrivals.announce()
    world.arrivals.announce()
    world.arrivals.arrive()
    assert world.arrivals.hold(world.depart)
    await turns(10 * QUIET_TURNS)
    assert world.left == 0
    world.arrivals.arrive()
    assert world.left == 0
    await left(world)


async def test_each_arrival_begins_the_turns_again() -> None:
    world = World()
    world.arrivals.arrive()
    world.arrivals.arrive()
    assert world.arrivals.hold(world.depart)
    for _ in range(5):
        await turns(QUIET_TURNS - 1)
        world.arrivals.arrive()
        assert world.left == 0
    await left(world)


async def test_all_frames_that_are_held_leave_once() -> None:
    world = World()
    world.arrivals.announce()
    assert all(world.arrivals.hold(world.depart) for _ in range(3))
    world.arrivals.arrive()
    await left(world, 3)
    world.arrivals.announce()
    assert world.arrivals.hold(world.depart)
    world.arrivals.arrive()
    await left(world, 4)
    assert world.left == 4


async def test_what_never_arrives_holds_frames_only_once() -> None:
    world = World(max_hold_s=0.001)
    world.arrivals.announce()
    assert world.arrivals.hold(world.depart)
    await left(world)
    assert not world.arrivals.hold(world.depart)


async def test_a_call_travels_with_those_that_were_announced_before_it_left() -> None:
    channel = GatedChannel(ENTRY)
    arrivals = Arrivals(FOREVER_S)
    router = ServableRouter(lambda _: channel, arrivals=arrivals)
    router.apply(ServingMap(entries={ENTRY.id: ENTRY}))

    def call(value: float) -> asyncio.Task[object]:
        arrivals.arrive()
        return asyncio.ensure_future(router.call(ENTRY, "serving_default", {"x": np.array([value])}, ("x",)))

    arrivals.announce()
    arrivals.announce()
    calls = [call(1)]
    await turns(10 * QUIET_TURNS)
    assert channel.frames == []
    calls.append(call(2))
    frame = await channel.frame(0)
    assert values_of(frame) == [1, 2]
    frame.reply()
    await asyncio.gather(*calls)


async def test_a_service_announces_what_it_will_read_and_nothing_else() -> None:
    announced = []

    async def method(request_bytes: bytes, timeout_s: float | None) -> bytes:
        return request_bytes

    service = GrpcService("a.Service", {"Method": unary_unary("a.Service/Method", method)}, lambda: announced.append(1))
    handler = service_handler(service)
    for path in ("/a.Service/Method", "/a.Service/Other", "/other.Service/Method"):
        details: Any = SimpleNamespace(method=path)
        assert (handler.service(details) is not None) == (path == "/a.Service/Method")
    assert announced == [1]
