"""A cluster, its storage and its operators in virtual time, around one real state machine."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from cluster.core.aspired_version import AspiredVersion
from cluster.core.aspired_versions_state import AspiredVersionsState, Options
from cluster.core.errors import Code, ResourceExhausted, Status
from cluster.core.events import (
    CapacityChanged,
    ClusterObserved,
    Event,
    ObservedPhase,
    StopRequested,
    StreamOptions,
    StreamsConfigured,
    TimePassed,
    VersionsAspired,
)
from cluster.core.instructions import Instruction, Load, Place, PublishStates, Quiesce
from cluster.core.loader_harness import HarnessState, LoaderHarness
from cluster.core.resource_estimate import replica_resources
from cluster.core.resources import Gpu, GpuUse, Node, ResourceRequest
from cluster.core.servable_id import CopyId, ServableId
from tests.fakes.manual_clock import ManualClock
from tests.simulation.simulated_manager import SimulatedManager

GIBIBYTE = 1 << 30
STORY_LENGTH = 60
OPTIONS = Options(max_num_load_retries=2, load_retry_interval_s=4.0, max_concurrent_loads=16)
BAD_SOURCE = Status(Code.FAILED_PRECONDITION, "the directory is incomplete")


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a world is and what happens in it. `validate_every`: events between two looks at every version."""

    nodes: int
    streams: int
    actions: int
    gpus_per_node: int = 0
    mean_pause_s: float = 0.4
    validate_every: int = 1


@dataclass(slots=True)
class Stored:
    """One version as it lies in storage, and what it has overwritten. `broken`: it can never be loaded."""

    version: AspiredVersion
    broken: bool = False
    before: Stored | None = None


@dataclass(slots=True)
class StoredStream:
    """One stream's storage; the source aspires to the `latest` largest versions, or to the one that is pinned."""

    name: str
    options: StreamOptions
    latest: int = 1
    configured: bool = True
    pinned: int | None = None
    versions: dict[int, Stored] = field(default_factory=dict)
    last: int = 0

    def aspired(self) -> tuple[AspiredVersion, ...]:
        numbers = sorted(self.versions)[-self.latest :]
        if self.pinned in self.versions:
            numbers = [self.pinned]
        return tuple(self.versions[number].version for number in numbers)


class Violation(AssertionError):
    """What must always hold did not; tells the seed and the last events."""


class SimulatedWorld:
    """Random events from one seed; `run` lets them happen, `settle` stops them and checks where everything has come to."""

    def __init__(self, seed: int, scale: Scale) -> None:
        self.seed = seed
        self.scale = scale
        self.events = 0
        self.random = Random(seed)
        self.clock = ManualClock()
        self.nodes = {f"node-{number:04}": self._new_node(f"node-{number:04}") for number in range(scale.nodes)}
        self._nodes_made = scale.nodes
        self.streams = {f"model-{number:04}": self._new_stream(f"model-{number:04}") for number in range(scale.streams)}
        self.manager = SimulatedManager(self.clock, self.random, self._tell, self.nodes.__contains__, self._load_fails)
        self.story: deque[str] = deque(maxlen=STORY_LENGTH)
        self._life = 0
        self._wakeup: float | None = None
        self._told_until = 0.0
        self._checkpoint = "{}"
        self.state = self._new_controller()
        for stream in self.streams.values():
            self._write_version(stream)

    # -- running

    def run(self) -> None:
        """Lets everything happen that is to happen, then waits until the world has come to rest."""
        try:
            self._start_controller()
            actions = self._actions()
            for _ in range(self.scale.actions):
                self.clock.advance(self.random.expovariate(1 / self.scale.mean_pause_s))
                self.random.choice(actions)()
            self._settle()
            self._stop()
        except AssertionError as error:
            story = "\n".join(self.story)
            raise Violation(f"seed {self.seed}, {self.scale}: {error}\nthe last events:\n{story}") from error

    def _settle(self) -> None:
        self._drain()
        for stream in self.streams.values():
            self._emit(stream)
        self._drain()
        self.state.validate()
        self._check_converged()

    def _stop(self) -> None:
        self._handle(StopRequested())
        self._drain()
        assert self.state.stopped(), self.state.states()
        assert not self.manager.running, self.manager.running

    def _drain(self) -> None:
        while self.clock.run_next():
            assert self.clock.now < 1e6, "the world does not come to rest"

    def _actions(self) -> list[Callable[[], None]]:
        weighted: list[tuple[Callable[[], None], int]] = [
            (self._version_appears, 30),
            (self._version_is_removed, 5),
            (self._version_is_rewritten, 8),
            (self._served_version_is_rewritten, 8),
            (self._overwritten_files_come_back, 2),
            (self._version_is_pinned, 5),
            (self._source_doubts, 3),
            (self._source_repeats, 5),
            (self._node_comes, 3),
            (self._node_goes, 3),
            (self._node_shrinks, 1),
            (self._config_changes, 3),
            (self._replicas_change, 2),
            (self.manager.crash, 2),
            (self._controller_crashes, 2),
        ]
        return [action for action, weight in weighted for _ in range(weight)]

    # -- storage and sources

    def _new_stream(self, name: str) -> StoredStream:
        kind = self.random.random()
        options = StreamOptions(
            replicas=self.random.choice((None, 1, 1, 2)),
            resource_preserving=kind < 0.2,
            resources=ResourceRequest(gpu=_gpu_use(kind) if self.scale.gpus_per_node else GpuUse.SHARED),
        )
        return StoredStream(name, options, latest=2 if kind > 0.8 else 1)

    def _some_stream(self) -> StoredStream:
        return self.random.choice(list(self.streams.values()))

    def _version_appears(self) -> None:
        self._write_version(self._some_stream())

    def _write_version(self, stream: StoredStream) -> None:
        stream.last += 1
        self._write(stream, stream.last)

    def _write(self, stream: StoredStream, number: int) -> None:
        size_bytes = int(self.random.choice((0.1, 0.5, 1, 2, 10)) * GIBIBYTE)
        version = AspiredVersion(
            ServableId(stream.name, number), f"/models/{stream.name}/{number}", f"{self.random.random()}", size_bytes
        )
        stream.versions[number] = Stored(version, self.random.random() < 0.15, stream.versions.get(number))
        while len(stream.versions) > 4:
            del stream.versions[min(stream.versions)]
        self._emit(stream)

    def _version_is_removed(self) -> None:
        stream = self._some_stream()
        if stream.versions:
            del stream.versions[self.random.choice(list(stream.versions))]
            self._emit(stream)

    def _version_is_rewritten(self) -> None:
        stream = self._some_stream()
        if stream.versions:
            self._write(stream, self.random.choice(list(stream.versions)))

    def _served_version_is_rewritten(self) -> None:
        stream = self._some_stream()
        for version in stream.aspired():
            self._write(stream, version.id.version)

    def _overwritten_files_come_back(self) -> None:
        stream = self._some_stream()
        for version in stream.aspired():
            stream.versions[version.id.version] = (
                stream.versions[version.id.version].before or stream.versions[version.id.version]
            )
        self._emit(stream)

    def _version_is_pinned(self) -> None:
        stream = self._some_stream()
        stream.pinned = self.random.choice([None, *stream.versions])
        self._emit(stream)

    def _source_doubts(self) -> None:
        stream = self._some_stream()
        if stream.versions:
            stored = self.random.choice(list(stream.versions.values()))
            stored.version = replace(stored.version, status=self.random.choice((Status(), BAD_SOURCE)))
            self._emit(stream)

    def _source_repeats(self) -> None:
        self._emit(self._some_stream())

    def _emit(self, stream: StoredStream) -> None:
        """The source looks at the stream a moment later, and tells what it then finds."""
        self.clock.after(self.random.uniform(0.0, 0.5), lambda: self._handle(VersionsAspired(stream.name, stream.aspired())))

    def _load_fails(self, version: AspiredVersion) -> bool:
        stored = self.streams[version.id.name].versions.get(version.id.version)
        return stored is None or stored.broken or self.random.random() < 0.1

    # -- nodes and config

    def _new_node(self, node_id: str) -> Node:
        memory_bytes = self.random.choice((4, 8, 16)) * GIBIBYTE
        gpus = tuple(Gpu(index, self.random.choice((8, 16)) * GIBIBYTE) for index in range(self.scale.gpus_per_node))
        return Node(node_id, memory_bytes, 8.0, gpus)

    def _node_comes(self) -> None:
        node_id = f"node-{self._nodes_made:04}"
        self._nodes_made += 1
        self.nodes[node_id] = self._new_node(node_id)
        self._tell_nodes()

    def _node_goes(self) -> None:
        if len(self.nodes) > max(1, self.scale.nodes // 2):
            del self.nodes[self.random.choice(list(self.nodes))]
            self._tell_nodes()

    def _node_shrinks(self) -> None:
        node = self.random.choice(list(self.nodes.values()))
        self.nodes[node.node_id] = replace(node, memory_bytes=node.memory_bytes // 2, gpus=node.gpus[:-1])
        self._tell_nodes()

    def _tell_nodes(self) -> None:
        self.clock.after(self.random.uniform(0.1, 2.0), lambda: self._handle(CapacityChanged(tuple(self.nodes.values()))))

    def _config_changes(self) -> None:
        stream = self._some_stream()
        stream.configured = not stream.configured
        self._tell_config()
        self._emit(stream)

    def _replicas_change(self) -> None:
        stream = self._some_stream()
        stream.options = replace(stream.options, replicas=self.random.choice((None, 1, 2)))
        self._tell_config()

    def _tell_config(self) -> None:
        self._handle(self._config())

    def _config(self) -> StreamsConfigured:
        return StreamsConfigured({stream.name: stream.options for stream in self.streams.values() if stream.configured})

    # -- the controller

    def _new_controller(self) -> AspiredVersionsState:
        self._life += 1
        return AspiredVersionsState(OPTIONS, f"c{self._life}")

    def _controller_crashes(self) -> None:
        if not self.manager.up:
            return  # a new one would wait for it
        self.story.append(f"{self.clock.now:9.2f} the controller crashes")
        self.state = self._new_controller()
        self.state.restore(json.loads(self._checkpoint))
        self._start_controller()

    def _start_controller(self) -> None:
        self._wakeup = None
        self._save()
        self._handle(CapacityChanged(tuple(self.nodes.values())))
        self._handle(self.manager.observed())
        self._handle(self._config())
        for stream in self.streams.values():
            self._emit(stream)

    def _save(self) -> None:
        self._checkpoint = json.dumps(self.state.checkpoint())

    def _tell(self, event: Event) -> None:
        """A report on its way from the manager; it may be lost with the manager, or with the controller it is meant for."""
        lives = (self._life, self.manager.life)

        def arrive() -> None:
            if lives == (self._life, self.manager.life) or self.random.random() < 0.5:
                self._handle(event)

        # What the manager says after it has told what runs comes after that, in the order in which it called.
        moment = max(self.clock.now + self.random.uniform(0.001, 0.2), self._told_until)
        if isinstance(event, ClusterObserved):
            self._told_until = moment
        self.clock.after(moment - self.clock.now, arrive)

    def _handle(self, event: Event) -> None:
        self.events += 1
        self.story.append(f"{self.clock.now:9.2f} {_brief(event)}")
        instructions = self.state.handle(event, self.clock.now)
        self.story.extend(f"{'':9} -> {_brief(instruction)}" for instruction in instructions)
        self._check(event, instructions)
        if self.random.random() < 0.2 / self.scale.validate_every:
            self._save()
        self.manager.perform(instructions)
        if self.random.random() < 0.02:
            self.manager.perform([one for one in instructions if not isinstance(one, PublishStates)])  # a call repeated
        self._plan_wakeup()

    def _plan_wakeup(self) -> None:
        wakeup = self.state.next_wakeup(self.clock.now)
        if wakeup is not None and wakeup != self._wakeup:
            self._wakeup = wakeup
            life = self._life
            self.clock.after(wakeup - self.clock.now, lambda: self._handle(TimePassed()) if life == self._life else None)

    # -- what must hold

    def _check(self, event: Event, instructions: list[Instruction]) -> None:
        if self.events % self.scale.validate_every == 0:
            self.state.validate()
            self._check_routes()
        for instruction in instructions:
            match instruction:
                case Quiesce() if not isinstance(event, ClusterObserved):
                    self._check_still_available(self.streams[instruction.id.name])
                case Load():
                    self._check_single(self.streams[instruction.version.id.name])
                case _:
                    pass

    def _check_still_available(self, stream: StoredStream) -> None:
        """A stream that keeps its availability gives up a ready version for another one, or because it wants none."""
        harnesses = self._harnesses(stream)
        if not stream.options.resource_preserving and stream.options.resources.gpu is not GpuUse.EXCLUSIVE:
            aspired = any(harness.aspired for harness in harnesses)
            assert not aspired or any(harness.state is HarnessState.READY for harness in harnesses), harnesses

    def _check_single(self, stream: StoredStream) -> None:
        """A stream that keeps resources holds one version at a time (it is never given two to hold)."""
        if stream.options.resource_preserving and stream.latest == 1:
            holding = [harness for harness in (*self._harnesses(stream), *self._successors(stream)) if harness.slots]
            assert len(holding) <= 1, [list(harness.story) for harness in holding]

    def _check_routes(self) -> None:
        """An available version is routed to: the copy that the controller goes by or, a moment before it hears, a newer one."""
        if not self.manager.up or self.clock.now <= self._told_until:
            return  # what the controller believes may have died with the manager
        for stream in self.streams.values():
            for harness in self._harnesses(stream):
                if harness.state is HarnessState.READY:
                    routed = self.manager.routed(harness.id)
                    assert routed is not None, (harness.copy_id, *harness.story)
                    assert routed >= harness.copy, (harness.copy_id, routed, *harness.story)

    def _harnesses(self, stream: StoredStream) -> list[LoaderHarness]:
        found = (self.state.harness(ServableId(stream.name, number)) for number in range(stream.last + 1))
        return [harness for harness in found if harness is not None]

    def _successors(self, stream: StoredStream) -> list[LoaderHarness]:
        found = (self.state.successor(ServableId(stream.name, number)) for number in range(stream.last + 1))
        return [harness for harness in found if harness is not None]

    def _check_converged(self) -> None:
        """What runs is what is aspired, where it is reserved, and every absence has its reason."""
        assert self.manager.up
        assert self.manager.states == self.state.states()
        ready: set[ServableId] = set()
        runs: set[CopyId] = set()
        for stream in self.streams.values():
            aspired = {version.id for version in stream.aspired()} if stream.configured else set()
            harnesses = {harness.id: harness for harness in self._harnesses(stream)}
            assert aspired <= harnesses.keys(), (stream, harnesses.keys())
            for servable, harness in harnesses.items():
                told = (servable, harness.status, *harness.story)
                assert harness.state in (HarnessState.READY, HarnessState.ERROR), told
                if harness.state is HarnessState.ERROR:
                    assert servable in aspired, told
                    self._check_reason(stream, harness)
                else:
                    ready.add(servable)
                    runs.add(harness.copy_id)
                    if servable in aspired:
                        self._check_newest(stream, harness)
            ready_aspired = [servable for servable in aspired if harnesses[servable].state is HarnessState.READY]
            others = ready & harnesses.keys() - aspired
            assert len(others) <= (1 if aspired and not ready_aspired else 0), (stream, others)
        assert runs == self.manager.running.keys()
        for copy_id in runs:
            held, known = self.manager.running[copy_id], self.state.harness(copy_id.servable)
            assert known is not None
            assert held.phase is ObservedPhase.READY, held
            assert held.version.files == known.version.files, (held, known)
            assert not known.slots or Counter(known.slots) == Counter(held.slots), (known, held)
            assert all(slot.node_id in self.nodes for slot in known.slots), known

    def _check_newest(self, stream: StoredStream, ready: LoaderHarness) -> None:
        """What serves is what lies in storage, or it is told why that is not so."""
        stored = stream.versions[ready.id.version].version
        successor = self.state.successor(ready.id)
        if successor is not None:
            assert stored.files != ready.version.files, (ready, successor)
            assert successor.state is HarnessState.ERROR, (successor.copy_id, *successor.story)
            self._check_reason(stream, successor)
        else:
            assert stored.files == ready.version.files or not stored.status.ok, (ready, stored)

    def _check_reason(self, stream: StoredStream, harness: LoaderHarness) -> None:
        stored = stream.versions[harness.id.version]
        assert harness.version == stored.version, (harness, stored)
        if harness.refused:
            resources = replica_resources(stream.options.resources, stored.version.size_bytes, self.state.ledger.has_gpus)
            try:
                slots = self.state.ledger.plan(harness.id, resources, stream.options.replicas)
            except ResourceExhausted:
                return
            raise AssertionError(f"{harness.copy_id} was refused although {slots} are free")
        assert harness.status == stored.version.status or harness.attempts == OPTIONS.max_num_load_retries + 1, harness


def _brief(told: Event | Instruction) -> str:
    match told:
        case CapacityChanged():
            return f"CapacityChanged to {len(told.nodes)} nodes"
        case ClusterObserved():
            return f"ClusterObserved: {[(str(CopyId(one.version.id, one.copy)), one.phase.value) for one in told.servables]}"
        case StreamsConfigured():
            return f"StreamsConfigured: {list(told.streams)}"
        case VersionsAspired():
            return f"VersionsAspired: {told.stream} {[version.id.version for version in told.versions]}"
        case PublishStates():
            return "PublishStates"
        case Load():
            places = [f"{slot.node_id}/{slot.gpu}" for slot in told.slots]
            return f"Load {CopyId(told.version.id, told.copy)} {told.instruction_id} in {places}"
        case Place():
            return f"Place {CopyId(told.id, told.copy)} in {[f'{slot.node_id}/{slot.gpu}' for slot in told.slots]}"
        case _:
            return str(told)


def _gpu_use(kind: float) -> GpuUse:
    if 0.2 <= kind < 0.25:
        return GpuUse.EXCLUSIVE
    return GpuUse.NONE if 0.25 <= kind < 0.35 else GpuUse.SHARED
