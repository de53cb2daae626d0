from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.actors.controller_actor import ControllerActor, ControllerOptions
from cluster.actors.model_config_store import ModelConfigStore
from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.config.model_settings import ModelSettings
from cluster.core.aspired_versions_state import Options
from cluster.core.errors import Code, Status
from cluster.core.events import CapacityChanged, ClusterObserved, Event, Loaded, LoadFailed, VersionsAspired
from cluster.core.instructions import Instruction, Load
from cluster.core.resources import ReplicaResources, ResourceRequest, Slot
from cluster.core.servable_state import PublicState
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


class ConfiguredSource:
    """Keeps the configs it is given."""

    def __init__(self) -> None:
        self.configs: list[ModelServerConfig] = []

    async def configure(self, config: ModelServerConfig) -> None:
        self.configs.append(config)


def models(*names: str, **labels: int) -> ModelServerConfig:
    return ModelServerConfig(tuple(ModelConfig(name, f"/models/{name}", version_labels=labels) for name in names))


async def controller_of(
    manager: ScriptedManager, *streams: str, source: ConfiguredSource | None = None, **options: bool
) -> ControllerActor:
    store = InMemoryCheckpointStore()
    actor: ControllerActor = await started(
        ControllerActor,
        ControllerOptions(state=Options(max_num_load_retries=0), **options),
        ModelConfigStore(store, "models", models(*streams)),
        LocalLink(source or ConfiguredSource()),
        LocalLink(manager),
        store,
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


async def test_where_versions_must_be_present_the_ports_wait_for_every_model() -> None:
    manager = ScriptedManager()
    manager.observe_now.set()
    controller = await controller_of(manager, "m", "empty", require_versions=True)
    await available(controller, manager, "m", 1)
    await controller.report_source("empty", "Unable to find a numerical version path for servable empty at: /models/empty")
    status = await controller.status()
    assert (status.first_versions_settled, status.waiting) == (False, ("empty",))
    await available(controller, manager, "empty", 1)
    assert (await controller.wait_settled(PATIENCE_S)).first_versions_settled


async def test_a_model_that_fails_does_not_keep_the_ports_closed() -> None:
    manager = ScriptedManager()
    manager.observe_now.set()
    controller = await controller_of(manager, "m", "broken")
    await controller.handle(VersionsAspired("broken", (version(1, stream="broken"),)))
    load = await asyncio.wait_for(manager.loads.get(), PATIENCE_S)
    await available(controller, manager, "m", 1)
    assert not (await controller.status()).first_versions_settled
    await controller.handle(LoadFailed(load.version.id, load.instruction_id, Status(Code.INTERNAL, "no graph")))
    assert (await controller.wait_settled(PATIENCE_S)).first_versions_settled


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


async def available(controller: ControllerActor, manager: ScriptedManager, stream: str, number: int) -> None:
    """Brings a version up."""
    await controller.handle(VersionsAspired(stream, (version(number, stream=stream),)))
    load = await asyncio.wait_for(manager.loads.get(), PATIENCE_S)
    await controller.handle(Loaded(load.version.id, load.instruction_id))


async def serving_one(source: ConfiguredSource) -> tuple[ScriptedManager, ControllerActor]:
    manager = ScriptedManager()
    manager.observe_now.set()
    controller = await controller_of(manager, "m", source=source)
    await available(controller, manager, "m", 1)
    return manager, controller


async def test_a_reload_waits_for_the_models_that_are_new() -> None:
    source = ConfiguredSource()
    manager, controller = await serving_one(source)
    reload = asyncio.create_task(controller.reload(models("m", "n")))
    while not source.configs:
        await asyncio.sleep(0)
    assert source.configs == [models("m", "n")]
    assert not reload.done()
    await available(controller, manager, "n", 1)
    assert (await asyncio.wait_for(reload, PATIENCE_S)).ok
    assert await controller.models() == models("m", "n")


async def test_a_reload_waits_for_no_model_that_was_there() -> None:
    source = ConfiguredSource()
    _, controller = await serving_one(source)
    moved = ModelServerConfig((ModelConfig("m", "/models/elsewhere"),))
    assert (await asyncio.wait_for(controller.reload(moved), PATIENCE_S)).ok
    assert source.configs == [moved]


async def test_a_reload_unloads_at_once_what_it_leaves_out() -> None:
    _, controller = await serving_one(ConfiguredSource())
    assert (await controller.reload(models())).ok
    assert [state.state for state in (await controller.status()).states] == [PublicState.UNLOADING]


async def test_a_models_own_settings_say_where_its_replicas_are_and_how_many() -> None:
    manager = ScriptedManager()
    manager.observe_now.set()
    source = ConfiguredSource()
    controller = await controller_of(manager, source=source)
    settings = ModelSettings(replicas=2, resources=ResourceRequest(memory_bytes=7, cpus=0.5))
    asked = ModelConfig("m", "/models/m", settings=settings)
    elsewhere = ModelConfig("n", "/models/n", settings=ModelSettings(node_labels=(("pool", "gold"),)))
    reload = asyncio.create_task(controller.reload(ModelServerConfig((asked, elsewhere))))
    while not source.configs:
        await asyncio.sleep(0)
    await controller.handle(VersionsAspired("m", (version(1),)))
    load = await asyncio.wait_for(manager.loads.get(), PATIENCE_S)
    assert load.slots == (Slot(NODE.node_id), Slot(NODE.node_id))
    assert load.resources == ReplicaResources(memory_bytes=7, cpus=0.5)
    await controller.handle(Loaded(load.version.id, load.instruction_id))
    await controller.handle(VersionsAspired("n", (version(1, stream="n"),)))
    assert "has the labels that it asks for" in (await asyncio.wait_for(reload, PATIENCE_S)).message


async def test_a_reload_tells_what_became_of_new_models_that_cannot_be_served() -> None:
    source = ConfiguredSource()
    manager, controller = await serving_one(source)
    reload = asyncio.create_task(controller.reload(models("m", "broken", "missing")))
    while not source.configs:
        await asyncio.sleep(0)
    await controller.report_source("missing", "Could not find base path /models/missing for servable missing")
    await controller.handle(VersionsAspired("broken", (version(3, stream="broken"),)))
    load = await asyncio.wait_for(manager.loads.get(), PATIENCE_S)
    await controller.handle(LoadFailed(load.version.id, load.instruction_id, Status(Code.INTERNAL, "no graph")))
    status = await asyncio.wait_for(reload, PATIENCE_S)
    assert status.code is Code.UNKNOWN
    assert status.message == (
        "2 model(s) did not become available: {{{name: broken version: 3} due to error: no graph}, "
        "{name: missing due to error: Could not find base path /models/missing for servable missing}, }"
    )


async def test_a_reload_that_may_not_be_changes_nothing() -> None:
    source = ConfiguredSource()
    _, controller = await serving_one(source)
    status = await controller.reload(models("m", stable=2))
    assert status.code is Code.FAILED_PRECONDITION
    assert status.message == ("Request to assign label to version 2 of model m, which is not currently available for inference")
    assert source.configs == []
    assert await controller.models() == models("m")
