from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.actors.controller_actor import ControllerActor
from cluster.core.aspired_versions_state import Options
from cluster.core.events import CapacityChanged, ClusterObserved, Event, Loaded, StreamOptions, VersionsAspired
from cluster.core.instructions import Instruction, Load
from tests.fakes.driven_state import NODE, version
from tests.fakes.fake_actors import InMemoryCheckpointStore, LocalLink, started

PATIENCE_S = 30.0


class ScriptedManager:
    """Answers `observe` when the test lets it, and keeps the loads it is asked for."""

    def __init__(self) -> None:
        self.observe_now = asyncio.Event()
        self.loads: asyncio.Queue[Load] = asyncio.Queue()

    async def observe(self) -> tuple[Event, ...]:
        await self.observe_now.wait()
        return (CapacityChanged((NODE,)), ClusterObserved(()))

    async def perform(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Load):
                self.loads.put_nowait(instruction)


async def controller_of(manager: ScriptedManager, *streams: str) -> ControllerActor:
    actor: ControllerActor = await started(
        ControllerActor,
        Options(),
        {stream: StreamOptions() for stream in streams},
        LocalLink(manager),
        InMemoryCheckpointStore(),
        "checkpoint",
    )
    return actor


async def test_a_list_that_comes_before_the_cluster_has_been_observed_is_handled_before_the_streams_count_as_settled() -> None:
    manager = ScriptedManager()
    controller = await controller_of(manager, "m")
    told = asyncio.create_task(controller.handle(VersionsAspired("m", (version(1),))))
    await asyncio.sleep(0)
    manager.observe_now.set()
    while manager.loads.empty():
        assert not (await controller.status()).first_versions_settled
        await asyncio.sleep(0)
    await told
    load = manager.loads.get_nowait()
    await controller.handle(Loaded(load.version.id, load.instruction_id))
    assert (await controller.wait_settled(PATIENCE_S)).first_versions_settled


async def test_a_stream_without_versions_holds_nobody_back() -> None:
    manager = ScriptedManager()
    manager.observe_now.set()
    controller = await controller_of(manager, "empty", "missing")
    await controller.handle(VersionsAspired("empty", ()))
    assert not (await controller.wait_settled(0.0)).first_versions_settled
    await controller.report_source("missing", "Could not find base path /models/missing")
    status = await controller.wait_settled(PATIENCE_S)
    assert status.first_versions_settled
    assert set(status.waiting) == {"empty", "missing"}
    assert status.source_errors == {"missing": "Could not find base path /models/missing"}


async def test_a_stream_whose_first_files_are_still_being_written_holds_the_ports_back() -> None:
    manager = ScriptedManager()
    manager.observe_now.set()
    controller = await controller_of(manager, "m")
    await controller.report_source("m", "")
    while not (status := await controller.status()).waiting:
        await asyncio.sleep(0)
    assert not status.first_versions_settled
    await controller.handle(VersionsAspired("m", (version(1),)))
    load = await asyncio.wait_for(manager.loads.get(), PATIENCE_S)
    await controller.handle(Loaded(load.version.id, load.instruction_id))
    assert (await controller.wait_settled(PATIENCE_S)).first_versions_settled
