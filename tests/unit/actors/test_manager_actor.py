from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from cluster.actors.manager_actor import ManagerActor
from cluster.actors.replica_board import ReplicaBoard
from cluster.core.acknowledgements import FrontendReport
from cluster.core.errors import Cancelled, Code, Internal
from cluster.core.events import ClusterObserved, Event, Loaded, LoadFailed, ObservedPhase, Quiesced, Unloaded
from cluster.core.instructions import CancelLoad, Instruction, Load, Place, PublishStates, Quiesce, Unload
from cluster.core.loader import LoadedServable, Loader
from cluster.core.replica_report import ReplicaDirective, ReplicaPhase, ReplicaReport
from cluster.core.resources import Node, ReplicaResources, Slot
from cluster.core.servable_id import CopyId, ServableId
from cluster.core.serving_map import Endpoint, Epoch
from tests.fakes.driven_state import NODE, version
from tests.fakes.fake_actors import InMemoryCheckpointStore, LocalLink, started

PATIENCE_S = 30.0
M1 = ServableId("m", 1)


@dataclass
class World:
    """What the manager's loaders have done, in order; `held` names the steps that wait until they are let go."""

    done: list[str] = field(default_factory=list)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    fails: set[str] = field(default_factory=set)

    def hold(self, step: str) -> asyncio.Event:
        self.held[step] = asyncio.Event()
        return self.held[step]

    async def step(self, name: str) -> None:
        if name in self.held:
            await self.held[name].wait()
        self.done.append(name)
        if name in self.fails:
            raise Internal("cannot read the graph")

    async def event(self) -> Event:
        return await asyncio.wait_for(self.events.get(), PATIENCE_S)


class Controller:
    def __init__(self, world: World) -> None:
        self._world = world

    async def handle(self, event: Event) -> None:
        await self._world.step(f"handle {type(event).__name__}")
        self._world.events.put_nowait(event)


class FakeLoader(Loader):
    """A load that is held ends as cancelled when it is unloaded."""

    def __init__(self, world: World, load: Load) -> None:
        self._world = world
        self._name = load.instruction_id
        self._unloaded = asyncio.Event()

    async def load(self, slots: Sequence[Slot]) -> LoadedServable:
        steps = [asyncio.ensure_future(self._world.step(f"load {self._name}")), asyncio.ensure_future(self._unloaded.wait())]
        await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
        steps[1].cancel()
        if not steps[0].done():
            steps[0].cancel()
            raise Cancelled("Loading of servable cancelled")
        steps[0].result()
        return self._loaded()

    async def place(self, slots: Sequence[Slot]) -> LoadedServable:
        await self._world.step(f"place {self._name}")
        return self._loaded()

    async def changed(self, known: LoadedServable) -> LoadedServable:
        return await asyncio.get_running_loop().create_future()

    async def quiesce(self, timeout_s: float) -> None:
        await self._world.step(f"quiesce {self._name}")

    async def unload(self) -> None:
        self._unloaded.set()
        await self._world.step(f"unload {self._name}")

    def _loaded(self) -> LoadedServable:
        return LoadedServable((Endpoint(self._name, "replica", "node-a", 1),), b"", True)


class Loaders:
    """`running`: the copies that have an application when the manager starts."""

    def __init__(self, world: World, running: Collection[CopyId] = ()) -> None:
        self._world = world
        self._running = running

    def loader(self, load: Load, board: ReplicaBoard) -> Loader:
        return FakeLoader(self._world, load)

    def application_name(self, copy_id: CopyId) -> str:
        return str(copy_id)

    async def running(self) -> Collection[CopyId]:
        return self._running

    async def remove(self, copy_id: CopyId) -> None:
        raise AssertionError(f"nothing is to be removed: {copy_id}")


class Nothing:
    """A fleet without frontends, on a cluster of one node that stays as it is."""

    async def follow(self, node_ids: Collection[str]) -> None:
        pass

    async def remove(self) -> None:
        pass

    async def nodes(self) -> Sequence[Node]:
        return (NODE,)

    async def release(self) -> None:
        pass


@asynccontextmanager
async def managing(
    world: World,
    states: Sequence[Instruction] = (PublishStates(()),),
    found: Sequence[tuple[ReplicaReport, ReplicaDirective]] = (),
) -> AsyncIterator[ManagerActor]:
    """A manager that the controller has told the states, unless there are none; `found`: replicas that poll when it starts."""
    manager = await started(
        ManagerActor,
        Loaders(world, {CopyId(report.version.id, report.copy): None for report, _ in found}),
        Nothing(),
        Nothing(),
        LocalLink(Controller(world)),
        InMemoryCheckpointStore(),
        "accepting",
        "metrics",
    )
    polls = [asyncio.create_task(manager.watch_replica(report, seen)) for report, seen in found]
    await manager.perform(states)
    yield manager
    for poll in polls:
        poll.cancel()


def load(instruction_id: str, copy: int = 0, fingerprint: str = "whole") -> Load:
    return Load(instruction_id, version(1, fingerprint), (Slot("node-a"),), ReplicaResources(), copy)


async def loaded(world: World, manager: ManagerActor, instruction_id: str, copy: int = 0) -> None:
    await manager.perform([load(instruction_id, copy)])
    assert await world.event() == Loaded(M1, instruction_id, copy)


async def routed(manager: ManagerActor) -> list[str]:
    """The applications that requests for the version go to."""
    serving_map = await manager.watch_map(FrontendReport("f", "node-a"), Epoch())
    await manager.leave("f")
    return [endpoint.application for endpoint in serving_map.entries[M1].endpoints]


def report(replica_id: str, phase: ReplicaPhase, copy: int = 0) -> ReplicaReport:
    """A replica's, of an application that the loaders know by its copy's name."""
    application = str(CopyId(M1, copy))
    slot = Slot("node-a", int(replica_id))
    return ReplicaReport(
        application, "replica", replica_id, "node-a", 1, f"c0-{copy}", version(1), slot, ReplicaResources(), phase, copy=copy
    )


async def test_what_was_found_is_reported_before_anything_that_has_happened_since() -> None:
    world = World()
    told = world.hold("handle ClusterObserved")
    async with managing(world) as manager:
        await manager.perform([load("1")])
        while "load 1" not in world.done:
            await asyncio.sleep(0)
        assert world.events.empty()
        told.set()
        assert isinstance(await world.event(), ClusterObserved)
        assert await world.event() == Loaded(M1, "1")


async def test_a_load_that_comes_while_the_version_is_going_begins_anew_when_it_is_gone() -> None:
    world = World()
    async with managing(world) as manager:
        await world.event()
        await loaded(world, manager, "1")
        unloading = world.hold("unload 1")
        await manager.perform([Quiesce("2", M1), Unload("3", M1)])
        assert await world.event() == Quiesced(M1, "2")
        await manager.perform([load("4")])
        unloading.set()
        assert await world.event() == Unloaded(M1, "3")
        assert await world.event() == Loaded(M1, "4")
        assert world.done[-4:] == ["unload 1", "handle Unloaded", "load 4", "handle Loaded"]
        assert await routed(manager) == ["4"]


async def test_a_repeated_load_of_what_runs_is_answered_without_loading_again() -> None:
    world = World()
    async with managing(world) as manager:
        await world.event()
        await loaded(world, manager, "1")
        await loaded(world, manager, "2")
        assert [step for step in world.done if step.startswith("load")] == ["load 1"]


async def test_a_failed_load_is_told_and_leaves_nothing() -> None:
    world = World(fails={"load 1"})
    async with managing(world) as manager:
        await world.event()
        await manager.perform([load("1")])
        event = await world.event()
        assert isinstance(event, LoadFailed)
        assert (event.status.code, event.status.message) == (Code.INTERNAL, "cannot read the graph")
        _, observed = await manager.observe()
        assert observed == ClusterObserved(())
        await manager.perform([Unload("2", M1)])
        assert await world.event() == Unloaded(M1, "2")


async def test_what_runs_is_observed_with_what_it_was_loaded_with() -> None:
    world = World()
    resources = ReplicaResources(memory_bytes=5000)
    async with managing(world) as manager:
        await world.event()
        await manager.perform([Load("1", version(1), (Slot("node-a"),), resources)])
        await world.event()
        _, observed = await manager.observe()
        assert isinstance(observed, ClusterObserved)
        assert [(servable.instruction_id, servable.resources) for servable in observed.servables] == [("1", resources)]


async def test_the_first_map_waits_for_the_labels() -> None:
    """Or requests by label would fail in every frontend whenever the manager restarts."""
    async with managing(World(), states=()) as manager:
        polling = asyncio.create_task(manager.watch_map(FrontendReport("f", "node-a"), Epoch()))
        await manager.accept()
        assert not polling.done()
        await manager.perform([PublishStates((), {"m": {"stable": 1}})])
        assert (await polling).labels == {"m": {"stable": 1}}


async def test_a_version_goes_only_when_no_frontend_routes_to_it() -> None:
    world = World()
    async with managing(world) as manager:
        await world.event()
        serving_map = await manager.watch_map(FrontendReport("late", "node-a"), Epoch())
        applying = asyncio.create_task(manager.perform([load("1")]))
        while M1 not in serving_map.entries:
            serving_map = await manager.watch_map(FrontendReport("late", "node-a"), serving_map.epoch)
        assert world.events.empty()  # it is up, but the frontend has not said that it knows
        polling = asyncio.create_task(manager.watch_map(FrontendReport("late", "node-a", serving_map.epoch), serving_map.epoch))
        assert await world.event() == Loaded(M1, "1")
        await applying
        await manager.perform([Quiesce("2", M1)])
        without = await polling
        assert without.entries == {}
        assert "quiesce 1" not in world.done
        await manager.leave("late")
        assert await world.event() == Quiesced(M1, "2")


async def test_a_newer_copy_is_routed_to_before_the_older_one_goes() -> None:
    world = World()
    async with managing(world) as manager:
        await world.event()
        await loaded(world, manager, "1")
        loading = world.hold("load 2")
        await manager.perform([load("2", copy=1)])
        assert await routed(manager) == ["1"]
        loading.set()
        assert await world.event() == Loaded(M1, "2", 1)
        assert await routed(manager) == ["2"]
        await manager.perform([Quiesce("3", M1), Unload("4", M1)])
        assert await world.event() == Quiesced(M1, "3")
        assert await world.event() == Unloaded(M1, "4")
        assert await routed(manager) == ["2"]
        _, observed = await manager.observe()
        assert isinstance(observed, ClusterObserved)
        assert [(one.phase, one.copy) for one in observed.servables] == [(ObservedPhase.READY, 1)]


async def test_the_older_copy_is_routed_to_again_when_the_newer_one_goes_first() -> None:
    world = World()
    async with managing(world) as manager:
        await world.event()
        await loaded(world, manager, "1")
        await loaded(world, manager, "2", copy=1)
        await manager.perform([Unload("3", M1, 1)])
        assert await world.event() == Unloaded(M1, "3", 1)
        assert await routed(manager) == ["1"]


async def test_an_older_copy_that_moves_takes_no_requests_back() -> None:
    world = World()
    async with managing(world) as manager:
        await world.event()
        await loaded(world, manager, "1")
        await loaded(world, manager, "2", copy=1)
        await manager.perform([Place(M1, (Slot("node-a"),), ReplicaResources())])
        while "place 1" not in world.done:
            await asyncio.sleep(0)
        assert await routed(manager) == ["2"]


async def test_the_load_of_newer_files_ends_the_one_under_way_and_follows_it() -> None:
    world = World()
    world.hold("load 1")
    async with managing(world) as manager:
        await world.event()
        await manager.perform([load("1"), load("2", fingerprint="newer")])
        failed = await world.event()
        assert isinstance(failed, LoadFailed)
        assert (failed.instruction_id, failed.status.code) == ("1", Code.CANCELLED)
        assert await world.event() == Loaded(M1, "2")
        assert world.done.index("unload 1") < world.done.index("load 2")
        assert await routed(manager) == ["2"]


async def test_a_load_that_follows_its_cancelling_begins_anew() -> None:
    world = World()
    world.hold("load 1")
    async with managing(world) as manager:
        await world.event()
        await manager.perform([load("1"), CancelLoad(M1), load("2")])
        failed = await world.event()
        assert isinstance(failed, LoadFailed)
        assert failed.instruction_id == "1"
        assert await world.event() == Loaded(M1, "2")


async def test_a_load_of_newer_files_under_the_name_of_what_serves_takes_that_down_first() -> None:
    """Only a controller that does not know what runs asks for it: else newer files are another copy."""
    world = World()
    async with managing(world) as manager:
        await world.event()
        await loaded(world, manager, "1")
        await manager.perform([load("2", fingerprint="newer")])
        assert await world.event() == Loaded(M1, "2")
        assert [step for step in world.done if not step.startswith("handle")] == ["load 1", "quiesce 1", "unload 1", "load 2"]
        assert await routed(manager) == ["2"]


async def test_a_removal_gives_up_a_load_that_may_never_end() -> None:
    world = World()
    world.hold("load 1")
    async with managing(world) as manager:
        await world.event()
        await manager.perform([load("1"), Quiesce("2", M1), Unload("3", M1)])
        assert isinstance(await world.event(), LoadFailed)
        assert await world.event() == Quiesced(M1, "2")
        assert await world.event() == Unloaded(M1, "3")


async def test_a_restarted_manager_routes_to_the_newest_copy_that_is_up() -> None:
    found = [(report("0", ReplicaPhase.READY), ReplicaDirective()), (report("1", ReplicaPhase.READY, 1), ReplicaDirective())]
    async with managing(World(), found=found) as manager:
        assert await routed(manager) == ["c0-1"]


@pytest.mark.parametrize(
    ("established", "phase", "serving"),
    [(False, ObservedPhase.LOADING, "c0-0"), (True, ObservedPhase.READY, "c0-1")],
    ids=["loads for the first time", "has been available"],
)
async def test_a_copy_of_which_a_part_is_up_takes_no_place_that_it_has_not_had(
    established: bool, phase: ObservedPhase, serving: str
) -> None:
    seen = ReplicaDirective(established=established)
    world = World()
    world.hold("load c0-1")
    found = [
        (report("0", ReplicaPhase.READY), ReplicaDirective(established=True)),
        (report("1", ReplicaPhase.READY, 1), seen),
        (report("2", ReplicaPhase.LOADING, 1), seen),
    ]
    async with managing(world, found=found) as manager:
        observed = await world.event()
        assert isinstance(observed, ClusterObserved)
        assert [(one.copy, one.phase) for one in observed.servables] == [(0, ObservedPhase.READY), (1, phase)]
        assert await routed(manager) == [serving]
